/*
 * Bit patterns at which floating point is worth trying: zeros, denormals, infinities, quiet and
 * signaling NaNs, and what lies at the edges of ranges, halves, and conversions to integers.
 */
#ifndef DOPPEL_TEST_SPECIAL_H
#define DOPPEL_TEST_SPECIAL_H

#include <stdint.h>

static const uint32_t special_floats[] = {
    0,          1,          0x80000000, 0x80000001, 0x007fffff, 0x00800000, 0x00800001,
    0x3f800000, 0xbf800000, 0x3fc00000, 0x40200000, 0x7f7fffff, 0xff7fffff, 0x7f800000,
    0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffabcdef, 0x7fc12345, 0x4effffff,
    0x4f000000, 0xcf000000, 0xcf000001, 0x5f000000, 0x3effffff, 0x3f000000, 0x3f000001,
    0x4b000001, 0x33800000, 0x1f800000, 0x20000001, 0x00400000, 0x7fffffff, 0xffffffff};

static const uint64_t special_doubles[] = {
    0x0000000000000000, 0x0000000000000001, 0x8000000000000000, 0x8000000000000001,
    0x000fffffffffffff, 0x0010000000000000, 0x3ff0000000000000, 0xbff0000000000000,
    0x3ff8000000000000, 0x4004000000000000, 0x7fefffffffffffff, 0xffefffffffffffff,
    0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
    0x7ff0000000000001, 0xfff7ffffffffffff, 0x7ff8000012345678, 0x41dfffffffc00000,
    0x41dfffffffe00000, 0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000200000,
    0x43e0000000000000, 0xc3e0000000000000, 0x3fdfffffffffffff, 0x3fe0000000000000,
    0x380fffffffffffff, 0x36a0000000000000, 0x3690000000000001, 0x47efffffe0000000,
    0x47effffff0000000, 0x1ff0000000000000, 0x2000000000000001, 0x0008000000000000};

#endif

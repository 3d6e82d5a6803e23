/*
 * Integer square roots with remainder, by Zimmermann's recursion ("Karatsuba Square Root", INRIA
 * RR-3805, 1999): the root of the upper half, one division, one correction.
 */
#include "x86/softfloat_core.h"

/* Of 16 bits, n >= 2^14; digit by digit. */
static uint64_t sqrt16(uint64_t n, uint64_t *rest)
{
    uint64_t root = 0;
    for (uint64_t bit = 1u << 7; bit; bit >>= 1)
        if ((root + bit) * (root + bit) <= n)
            root += bit;
    *rest = n - root * root;
    return root;
}

/* One level: from the root and the remainder of n's upper half to those of n, whose lower half is
 * two digits of `bits` bits. */
static inline uint64_t level(uint64_t n, unsigned bits, uint64_t above, uint64_t above_rest,
                             uint64_t *rest)
{
    uint64_t numerator = above_rest << bits | (n >> bits & bits_mask(bits));
    uint64_t quotient = numerator / (above * 2), remainder = numerator % (above * 2);
    uint64_t root = (above << bits) + quotient;
    uint64_t plus = (remainder << bits) + (n & bits_mask(bits)), minus = quotient * quotient;
    if (plus < minus)
        plus += 2 * root-- - 1;
    *rest = plus - minus;
    return root;
}

static uint64_t sqrt64(uint64_t n, uint64_t *rest)
{
    uint64_t root = sqrt16(n >> 48, rest);
    root = level(n >> 32, 8, root, *rest, rest);
    return level(n, 16, root, *rest, rest);
}

uint64_t sf_sqrt128(sf_u128 n, sf_u128 *rest)
{
    uint64_t above_rest, above = sqrt64((uint64_t)(n >> 64), &above_rest);
    /* The root may be 2^64 before the correction, hence 128 bits. */
    sf_u128 numerator = (sf_u128)above_rest << 32 | (uint32_t)(n >> 32);
    sf_u128 quotient = numerator / (above * 2), remainder = numerator % (above * 2);
    sf_u128 root = ((sf_u128)above << 32) + quotient;
    sf_u128 plus = (remainder << 32) + (uint32_t)n, minus = quotient * quotient;
    if (plus < minus)
        plus += 2 * root-- - 1;
    *rest = plus - minus;
    return (uint64_t)root;
}

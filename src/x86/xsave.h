/*
 * The XSAVE area (SDM 1, 13.4): a legacy region and a header, then a place for each further
 * component. CPUID leaf 0Dh tells the guest of it, the XSAVE family (sem/xsave.c) fills it.
 */
#ifndef DOPPEL_X86_XSAVE_H
#define DOPPEL_X86_XSAVE_H

#include <stdint.h>

/* Numbers of the state components, which are bits of XCR0 and of the header's XSTATE_BV. */
enum {
    XSAVE_X87 = 0,
    XSAVE_SSE = 1,
    XSAVE_AVX = 2,
    XSAVE_OPMASK = 5,
    XSAVE_ZMM_HI256 = 6,
    XSAVE_HI16_ZMM = 7,
    XSAVE_PKRU = 9,
    XSAVE_COMPONENTS = 10
};

enum { XSAVE_LEGACY_SIZE = 512, XSAVE_HEADER_SIZE = 64 };
/* The smallest area, and where its first further component starts. */
enum { XSAVE_MIN_SIZE = XSAVE_LEGACY_SIZE + XSAVE_HEADER_SIZE };

/* A component behind the header. None asks to be aligned to 64 bytes in the compacted form. */
struct x86_xsave_component {
    uint16_t size;   /* bytes; 0: no such component, or in the legacy region */
    uint16_t offset; /* in the standard form */
};

/* number below XSAVE_COMPONENTS. */
extern const struct x86_xsave_component x86_xsave_component[XSAVE_COMPONENTS];

/* Where a component is in the compacted form of an area for `components` (a bit each). */
unsigned x86_xsave_compacted_offset(uint64_t components, unsigned number);

/* Bytes of the legacy region's MXCSR_MASK: the bits that MXCSR may have set. */
enum { X86_MXCSR_MASK = 0xffff, X86_MXCSR_INIT = 0x1f80 };

#endif

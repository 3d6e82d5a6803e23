/*
 * A case: one instruction, the state it begins in, and the states that the processor underneath and
 * the engine end it in.
 *
 * Both run it as 64-bit or 32-bit code at CPL 3 in the same linear addresses. Its own bytes stand
 * in a page full of INT3, so that it ends with #BP unless it raises something else.
 */
#ifndef DOPPEL_SILICON_CASE_H
#define DOPPEL_SILICON_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "x86/cpu.h"
#include "x86/forms.h"

/* Linear addresses, all below 2 GiB. Data: pages that can be written, one that can only be read,
 * then none. Code: two pages, then none. */
#define CASE_DATA UINT64_C(0x10000000)
#define CASE_CODE UINT64_C(0x20000000)
enum {
    CASE_PAGE = 4096,
    CASE_WRITABLE = 2 * CASE_PAGE,
    CASE_READABLE = 3 * CASE_PAGE,
    CASE_CODE_SIZE = 2 * CASE_PAGE,
};

/* Selectors as Linux has them, and two descriptors of our own in the LDT for 32-bit code. */
enum {
    CASE_CS64 = 0x33,
    CASE_CS32 = 0x23,
    CASE_DS = 0x2b,
    CASE_FS32 = 0x07, /* LDT entry 0: base CASE_FS32_BASE, ends with the writable pages */
    CASE_GS32 = 0x0f, /* LDT entry 1: base CASE_GS32_BASE, 4 GiB, read only */
};
#define CASE_FS64_BASE (CASE_DATA + 0x100)
#define CASE_GS64_BASE UINT64_C(0x700010000000)
#define CASE_FS32_BASE CASE_DATA
#define CASE_GS32_BASE (CASE_DATA + 0x800)

/* The part of an FXSAVE image that is state. */
enum { CASE_FX = 416 };

/* Offsets in it (SDM 1, table 10-2; REX.W form). */
enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTW = 4,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_ST = 32,
    FX_XMM = 160,
};

/* The upper halves of the YMM registers: XSAVE's component 2 (SDM 1, 13.4.2). */
enum { CASE_UPPER = 16 * 16 };

/* AVX-512's components, in the order of their numbers (SDM 1, 13.4.2): mask registers, the upper
 * halves of ZMM0 to ZMM15, ZMM16 to ZMM31. */
enum { CASE_MASKS = 8 * 8, CASE_ZMM_UPPER = 16 * 32, CASE_ZMM_MORE = 16 * 64 };

struct case_regs {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    _Alignas(16) uint8_t fx[CASE_FX];
    uint8_t upper[CASE_UPPER];
    uint8_t masks[CASE_MASKS], zmm_upper[CASE_ZMM_UPPER], zmm_more[CASE_ZMM_MORE];
};

/* Bytes that the case puts into the writable pages, over the common pattern. */
enum { CASE_PATCHES = 4, CASE_PATCH = 896 };
struct case_patch {
    uint16_t at, size;
    uint8_t bytes[CASE_PATCH];
};

struct silicon_case {
    uint64_t seed; /* makes this case, given form and code */
    unsigned form;
    unsigned code; /* enum x86_code */
    bool avx512;   /* its registers are random, and compared; else they are 0 */
    uint8_t bytes[16];
    unsigned len;
    struct x86_insn insn;
    struct case_regs before;
    unsigned patches;
    struct case_patch patch[CASE_PATCHES];
    uint64_t operand; /* linear address of the memory operand, and its size; for the report */
    unsigned operand_size;
};

/* How it ended: the exception, and what that left. */
struct case_end {
    uint32_t vector, error;
    uint64_t cr2;     /* with #PF */
    bool no_pointers; /* this engine does not know the x87 opcode and pointers */
    struct case_regs after;
    uint8_t data[CASE_WRITABLE];
};

/* What the data pages hold before a case's patches; the same in both worlds. */
struct case_pattern {
    uint8_t bytes[CASE_READABLE];
};

#endif

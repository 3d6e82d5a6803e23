/*
 * The x87's state, for those who share it: MMX (whose registers are the x87's significands) and the
 * save and restore instructions. The x87 instructions themselves are in sem/x87*.c.
 */
#ifndef DOPPEL_X86_FPU_H
#define DOPPEL_X86_FPU_H

#include "x86/cpu.h"

/* Every x87 form's op->imm is its FOP: the low three bits of the first opcode byte (D8 to DF) moved
 * up by 8, plus the ModRM byte. Whoever makes operations from decoded instructions fills it in. */

/* ---- MMX (sem/x87_state.c) ---- */

/* Raises what any MMX instruction raises first: #UD (CR0.EM), #NM (CR0.TS), #MF (a pending unmasked
 * x87 exception). Call it before memory operands are looked at. */
void x86_mmx_check(struct x86_cpu *c);

/* What any MMX instruction but EMMS does to the x87: TOP is 0, every register is valid. Call it
 * when the instruction can fault no more. */
static inline void x86_mmx_commit(struct x86_cpu *c)
{
    c->s.fsw &= (uint16_t)~0x3800;
    c->s.ftag = 0xff;
}

/* Both, for instructions without a memory operand. */
static inline void x86_mmx_enter(struct x86_cpu *c)
{
    x86_mmx_check(c);
    x86_mmx_commit(c);
}

static inline uint64_t x86_mmx_read(const struct x86_cpu *c, unsigned n)
{
    return c->s.st[n & 7].mantissa;
}
/* Writing an MMX register sets the sign and exponent of the x87 register to ones. */
static inline void x86_mmx_write(struct x86_cpu *c, unsigned n, uint64_t v)
{
    c->s.st[n & 7] = (struct x86_f80){.mantissa = v, .se = 0xffff};
}

/* ---- FXSAVE, XSAVE and their counterparts (sem/x87_state.c; SDM 1, 10.5.1) ---- */

/* The x87's part of the 512-byte legacy area: bytes 0 to 23 and 32 to 159; MXCSR (24 to 31) and
 * what is behind 160 are left alone. rexw64: the layout with 64-bit pointers. No check is made and
 * nothing is raised. FOP, FIP and FDP are saved as zeros unless an unmasked exception is pending,
 * as AMD's processors do that report XSaveErPtr (APM 3, CPUID 8000_0008 EBX[2]): what a guest's
 * processes see of each other is then what they should. */
void x86_fxsave_x87(struct x86_cpu *c, uint8_t *area, bool rexw64);
void x86_fxrstor_x87(struct x86_cpu *c, const uint8_t *area, bool rexw64);

/* FNINIT's state, which XRSTOR gives a component that the header says is in its initial state;
 * `registers` (XRSTOR): the data registers are zeroed as well. */
void x86_x87_init(struct x86_state *s, bool registers);
/* Whether the x87 is in another state than that (XINUSE of component 0). */
bool x86_x87_in_use(const struct x86_state *s);

/* ---- the neutral state as a host's registers are loaded from it and stored (sem/x87_state.c) ----
 */

/* The FXSAVE image with 64-bit pointers, every field as the state has it: bytes 0 to 27 and 32 to
 * 415 of `image`. `components` are those that it holds (XCR0_X87, XCR0_SSE); what it does not gets
 * its initial state, and the vector registers' upper halves become 0. */
void x86_fx_put(const struct x86_state *s, uint8_t *image);
void x86_fx_take(struct x86_state *s, const uint8_t *image, uint64_t components);
/* The 256 bytes of the AVX component: the upper halves of the YMM registers. */
void x86_ymm_put(const struct x86_state *s, uint8_t *upper);
void x86_ymm_take(struct x86_state *s, const uint8_t *upper);

#endif

/*
 * What the x87 instructions share: the register stack, the status word, stack faults, and what
 * happens to the exceptions that an operation raised. Private to sem/x87_*.c.
 *
 * Every instruction goes through the same steps, so that one that faults has changed nothing:
 *   x87_begin()   #NM, and #MF for an exception that an earlier instruction left pending
 *   memory        operands are read, or what is to be written is probed
 *   x87_note()    the instruction and data pointers
 *   compute       in a `struct sf_env` made by x87_env()
 *   x87_report()  flags into FSW; says which are unmasked, and with that what may be written
 *
 * FIP and FOP are updated by every instruction that is not a control instruction, FDP by those with
 * a memory operand, exceptions or not (CPUID.7.EBX[6] is 0). FCS and FDS read as 0 (CPUID.7.EBX[13]
 * is 1).
 */
#ifndef DOPPEL_X86_SEM_X87_H
#define DOPPEL_X86_SEM_X87_H

#include "x86/fpu.h"
#include "x86/sem/op.h"
#include "x86/softfloat.h"

/* FSW (SDM 1, 8.1.3); the exception flags are SF_IE to SF_PE. */
enum {
    FSW_SF = 1u << 6, /* stack fault */
    FSW_ES = 1u << 7, /* an unmasked exception is pending */
    FSW_C0 = 1u << 8,
    FSW_C1 = 1u << 9,
    FSW_C2 = 1u << 10,
    FSW_TOP_SHIFT = 11,
    FSW_TOP = 7u << FSW_TOP_SHIFT,
    FSW_C3 = 1u << 14,
    FSW_B = 1u << 15, /* as ES */
    FSW_CC = FSW_C0 | FSW_C1 | FSW_C2 | FSW_C3,
};

enum { FCW_INIT = 0x37f, FCW_FIXED = 0x40, FCW_WRITABLE = 0x1f3f };

static inline void fsw_set(struct x86_cpu *c, unsigned bits)
{
    c->s.fsw = (uint16_t)(c->s.fsw | bits);
}
static inline void fsw_clear(struct x86_cpu *c, unsigned bits)
{
    c->s.fsw = (uint16_t)(c->s.fsw & ~bits);
}
/* The bits of `which` become those of `value`. */
static inline void fsw_put(struct x86_cpu *c, unsigned which, unsigned value)
{
    c->s.fsw = (uint16_t)((c->s.fsw & ~which) | value);
}

/* ---- the stack ---- */

static inline unsigned x87_top(const struct x86_cpu *c)
{
    return c->s.fsw >> FSW_TOP_SHIFT & 7;
}
static inline unsigned x87_physical(const struct x86_cpu *c, unsigned i)
{
    return (x87_top(c) + i) & 7;
}
static inline sf80 x87_read(const struct x86_cpu *c, unsigned i)
{
    return c->s.st[x87_physical(c, i)];
}
static inline bool x87_empty(const struct x86_cpu *c, unsigned i)
{
    return !(c->s.ftag >> x87_physical(c, i) & 1);
}
/* Writes ST(i), which is not empty then. */
static inline void x87_write(struct x86_cpu *c, unsigned i, sf80 v)
{
    unsigned r = x87_physical(c, i);
    c->s.st[r] = v;
    c->s.ftag |= (uint8_t)(1u << r);
}
static inline void x87_rotate(struct x86_cpu *c, unsigned by)
{
    fsw_put(c, FSW_TOP, x87_physical(c, by) << FSW_TOP_SHIFT);
}
static inline void x87_push(struct x86_cpu *c, sf80 v)
{
    x87_rotate(c, 7);
    x87_write(c, 0, v);
}
static inline void x87_pop(struct x86_cpu *c)
{
    c->s.ftag &= (uint8_t) ~(1u << x87_top(c));
    x87_rotate(c, 1);
}

/* ---- the steps ---- */

COLD void x87_begin_slow(struct x86_cpu *c);
/* #MF, or IRQ 13, if an unmasked exception is pending. */
void x87_wait(struct x86_cpu *c);

static ALWAYS_INLINE void x87_begin(struct x86_cpu *c)
{
    if (unlikely(c->no_x87 || (c->s.fsw & FSW_ES)))
        x87_begin_slow(c);
}

/* For instructions that do not wait: #NM only. */
static inline void x87_begin_no_wait(struct x86_cpu *c)
{
    if (unlikely(c->no_x87))
        x86_raise(c, X86_NM);
}

static inline void x87_note(struct x86_cpu *c, const struct op *op)
{
    c->s.fop = op->imm & 0x7ff;
    c->s.fip = x86_rip(c);
    if (op->ea != EA_REG)
        c->s.fdp = op_offset(c, op);
}

/* The memory operand; n is a constant. What fits an integer register goes the quick way. */
static ALWAYS_INLINE void x87_load(struct x86_cpu *c, const struct op *op, void *to, unsigned n)
{
    switch (n) {
    case 2: store_u16(to, x86_read16(c, op_linear(c, op, n, X86_READ), op->seg)); break;
    case 4: store_u32(to, x86_read32(c, op_linear(c, op, n, X86_READ), op->seg)); break;
    case 8: store_u64(to, x86_read64(c, op_linear(c, op, n, X86_READ), op->seg)); break;
    default: op_load(c, op, to, n);
    }
}
static ALWAYS_INLINE void x87_store(struct x86_cpu *c, const struct op *op, const void *from,
                                    unsigned n)
{
    switch (n) {
    case 2: x86_write16(c, op_linear(c, op, n, X86_WRITE), load_u16(from), op->seg); break;
    case 4: x86_write32(c, op_linear(c, op, n, X86_WRITE), load_u32(from), op->seg); break;
    case 8: x86_write64(c, op_linear(c, op, n, X86_WRITE), load_u64(from), op->seg); break;
    default: op_store(c, op, from, n);
    }
}

static inline struct sf_env x87_env(const struct x86_cpu *c)
{
    static const uint8_t precision[4] = {24, 64, 53, 64};
    return (struct sf_env){.round = c->s.fcw >> 10 & 3,
                           .masks = c->s.fcw & SF_ALL,
                           .precision = precision[c->s.fcw >> 8 & 3]};
}

/* Puts ES and B in accord with the flags and masks, and FERR# with ES. */
void x87_update_summary(struct x86_cpu *c);

/* The flags raised in env go to FSW, with C1. Returns the unmasked ones: with one of SF_PRE among
 * them the instruction leaves registers, stack and memory alone. */
uint8_t x87_report(struct x86_cpu *c, const struct sf_env *env);

/* A stack fault (IE and SF; C1: overflow). Returns whether it is masked: the result is the default
 * NaN then, otherwise there is none. */
bool x87_stack_fault(struct x86_cpu *c, bool overflow);

static inline bool x87_is_nan(sf80 v)
{
    return (v.se & 0x7fff) == 0x7fff && v.mantissa << 1 != 0;
}

static inline sf80 x87_default_nan(void)
{
    return (sf80){.mantissa = UINT64_C(0xc000000000000000), .se = 0xffff};
}

/* ST(0) is replaced by fn(ST(0)). */
static inline void x87_unary(struct x86_cpu *c, const struct op *op,
                             sf80 (*fn)(struct sf_env *env, sf80 a))
{
    x87_begin(c);
    x87_note(c, op);
    if (x87_empty(c, 0)) {
        if (x87_stack_fault(c, false))
            x87_write(c, 0, x87_default_nan());
        return;
    }
    struct sf_env env = x87_env(c);
    sf80 r = fn(&env, x87_read(c, 0));
    if (!(x87_report(c, &env) & SF_PRE))
        x87_write(c, 0, r);
}

#endif

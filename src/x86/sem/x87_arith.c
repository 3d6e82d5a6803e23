/*
 * x87 basic arithmetic: two operands, each in its forms (SDM 1, 8.3.5).
 */
#include "x86/sem/x87.h"

typedef sf80 arith_fn(struct sf_env *env, sf80 a, sf80 b);

/* FSUBR and FDIVR: the operands change places. */
static sf80 subr(struct sf_env *env, sf80 a, sf80 b)
{
    return sf80_sub(env, b, a);
}
static sf80 divr(struct sf_env *env, sf80 a, sf80 b)
{
    return sf80_div(env, b, a);
}

/* ---- between registers ---- */

static ALWAYS_INLINE void arith_st(struct x86_cpu *c, const struct op *op, arith_fn *fn,
                                   unsigned to, unsigned from, bool pop)
{
    x87_begin(c);
    x87_note(c, op);
    if (unlikely(x87_empty(c, to) || x87_empty(c, from))) {
        if (!x87_stack_fault(c, false))
            return;
        x87_write(c, to, x87_default_nan());
    } else {
        struct sf_env env = x87_env(c);
        sf80 r = fn(&env, x87_read(c, to), x87_read(c, from));
        if (unlikely(x87_report(c, &env) & SF_PRE))
            return;
        x87_write(c, to, r);
    }
    if (pop)
        x87_pop(c);
}

/* ---- with memory ---- */

/* A real number from memory as the other operand. It is widened without a look at what it is,
 * because an SNaN there meets ST(0) as an SNaN; that it was denormal is lost by that, and reported
 * unless something goes before it. */
static ALWAYS_INLINE void arith_real(struct x86_cpu *c, const struct op *op, arith_fn *fn, sf80 b,
                                     bool denormal)
{
    x87_note(c, op);
    if (unlikely(x87_empty(c, 0))) {
        if (x87_stack_fault(c, false))
            x87_write(c, 0, x87_default_nan());
        return;
    }
    struct sf_env env = x87_env(c);
    sf80 a = x87_read(c, 0), r = fn(&env, a, b);
    if (unlikely(denormal) && !(env.flags & (SF_IE | SF_ZE)) && !x87_is_nan(a))
        env.flags |= SF_DE;
    if (likely(!(x87_report(c, &env) & SF_PRE)))
        x87_write(c, 0, r);
}

static ALWAYS_INLINE void arith_m32(struct x86_cpu *c, const struct op *op, arith_fn *fn)
{
    uint32_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    arith_real(c, op, fn, sf32_widen(v), sf32_is_denormal(v));
}

static ALWAYS_INLINE void arith_m64(struct x86_cpu *c, const struct op *op, arith_fn *fn)
{
    uint64_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    arith_real(c, op, fn, sf64_widen(v), sf64_is_denormal(v));
}

static ALWAYS_INLINE void arith_m16i(struct x86_cpu *c, const struct op *op, arith_fn *fn)
{
    int16_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    arith_real(c, op, fn, sf80_from_i64(v), false);
}

static ALWAYS_INLINE void arith_m32i(struct x86_cpu *c, const struct op *op, arith_fn *fn)
{
    int32_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    arith_real(c, op, fn, sf80_from_i64(v), false);
}

/* All forms of one operation: ST(0) with memory, ST(0) with ST(i), ST(i) with ST(0), the last with
 * a pop. */
#define ARITH(name, fn)                                                                            \
    OP(f##name##_m32)                                                                              \
    {                                                                                              \
        arith_m32(c, op, fn);                                                                      \
    }                                                                                              \
    OP(f##name##_m64)                                                                              \
    {                                                                                              \
        arith_m64(c, op, fn);                                                                      \
    }                                                                                              \
    OP(fi##name##_m16)                                                                             \
    {                                                                                              \
        arith_m16i(c, op, fn);                                                                     \
    }                                                                                              \
    OP(fi##name##_m32)                                                                             \
    {                                                                                              \
        arith_m32i(c, op, fn);                                                                     \
    }                                                                                              \
    OP(f##name##_st0_sti)                                                                          \
    {                                                                                              \
        arith_st(c, op, fn, 0, op->rm & 7, false);                                                 \
    }                                                                                              \
    OP(f##name##_sti_st0)                                                                          \
    {                                                                                              \
        arith_st(c, op, fn, op->rm & 7, 0, false);                                                 \
    }
#define ARITH_POP(name, fn)                                                                        \
    OP(name)                                                                                       \
    {                                                                                              \
        arith_st(c, op, fn, op->rm & 7, 0, true);                                                  \
    }

ARITH(add, sf80_add)
ARITH(mul, sf80_mul)
ARITH(sub, sf80_sub)
ARITH(subr, subr)
ARITH(div, sf80_div)
ARITH(divr, divr)
ARITH_POP(faddp, sf80_add)
ARITH_POP(fmulp, sf80_mul)
ARITH_POP(fsubp, sf80_sub)
ARITH_POP(fsubrp, subr)
ARITH_POP(fdivp, sf80_div)
ARITH_POP(fdivrp, divr)

/* ---- one operand, or ST(0) and ST(1) as they stand ---- */

static sf80 change_sign(struct sf_env *env, sf80 a)
{
    (void)env;
    a.se ^= 0x8000;
    return a;
}
static sf80 absolute(struct sf_env *env, sf80 a)
{
    (void)env;
    a.se &= 0x7fff;
    return a;
}

OP(fsqrt)
{
    x87_unary(c, op, sf80_sqrt);
}
OP(frndint)
{
    x87_unary(c, op, sf80_round_int);
}
OP(fchs)
{
    x87_unary(c, op, change_sign);
}
OP(fabs)
{
    x87_unary(c, op, absolute);
}

OP(fscale)
{
    arith_st(c, op, sf80_scale, 0, 1, false);
}

OP(fxtract)
{
    x87_begin(c);
    x87_note(c, op);
    bool overflow = !x87_empty(c, 0) && !x87_empty(c, 7);
    if (x87_empty(c, 0) || overflow) {
        if (x87_stack_fault(c, overflow)) {
            x87_write(c, 0, x87_default_nan());
            x87_push(c, x87_default_nan());
        }
        return;
    }
    struct sf_env env = x87_env(c);
    sf80 significand, exponent = sf80_extract(&env, x87_read(c, 0), &significand);
    if (x87_report(c, &env) & SF_PRE)
        return;
    x87_write(c, 0, exponent);
    x87_push(c, significand);
}

/* C0, C3 and C1 as bits 2, 1 and 0 of a quotient. */
static unsigned quotient_codes(unsigned q)
{
    return (q & 4 ? FSW_C0 : 0) | (q & 2 ? FSW_C3 : 0) | (q & 1 ? FSW_C1 : 0);
}

/* FPREM and FPREM1. C2: the reduction is not complete. Where there is no quotient, C0 and C3 stay
 * as they are. */
static void remainder_step(struct x86_cpu *c, const struct op *op, bool nearest)
{
    x87_begin(c);
    x87_note(c, op);
    fsw_clear(c, FSW_C2);
    if (x87_empty(c, 0) || x87_empty(c, 1)) {
        if (x87_stack_fault(c, false))
            x87_write(c, 0, x87_default_nan());
        return;
    }
    struct sf_env env = x87_env(c);
    unsigned q;
    bool partial;
    sf80 r = sf80_remainder(&env, x87_read(c, 0), x87_read(c, 1), nearest, &q, &partial);
    if (x87_report(c, &env) & SF_PRE)
        return;
    if (!x87_is_nan(r))
        fsw_put(c, FSW_CC, quotient_codes(q) | (partial ? FSW_C2 : 0));
    x87_write(c, 0, r);
}

OP(fprem)
{
    remainder_step(c, op, false);
}
OP(fprem1)
{
    remainder_step(c, op, true);
}

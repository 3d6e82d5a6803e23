/*
 * x87 transcendental instructions (SDM 1, 8.3.7): where operands and results go; softfloat_trig.c,
 * softfloat_atan.c and softfloat_log.c compute them.
 */
#include "x86/sem/x87.h"

/* ---- ST(1) with ST(0), then a pop ---- */

static void binary_pop(struct x86_cpu *c, const struct op *op,
                       sf80 (*fn)(struct sf_env *env, sf80 y, sf80 x))
{
    x87_begin(c);
    x87_note(c, op);
    if (x87_empty(c, 0) || x87_empty(c, 1)) {
        if (!x87_stack_fault(c, false))
            return;
        x87_write(c, 1, x87_default_nan());
    } else {
        struct sf_env env = x87_env(c);
        sf80 r = fn(&env, x87_read(c, 1), x87_read(c, 0));
        if (x87_report(c, &env) & SF_PRE)
            return;
        x87_write(c, 1, r);
    }
    x87_pop(c);
}

OP(fyl2x)
{
    binary_pop(c, op, sf80_ylog2x);
}
OP(fyl2xp1)
{
    binary_pop(c, op, sf80_ylog2xp1);
}
OP(fpatan)
{
    binary_pop(c, op, sf80_atan2);
}

/* ---- ST(0) alone ---- */

OP(f2xm1)
{
    x87_unary(c, op, sf80_exp2m1);
}

/* What the trigonometric ones begin with. False: there is nothing to compute, or it is done; `push`
 * says that a second result is pushed. */
static bool trig_begin(struct x86_cpu *c, const struct op *op, bool push)
{
    x87_begin(c);
    x87_note(c, op);
    bool empty = x87_empty(c, 0), overflow = push && !empty && !x87_empty(c, 7);
    if (!empty && !overflow)
        return true;
    fsw_clear(c, FSW_C2);
    if (x87_stack_fault(c, overflow)) {
        x87_write(c, 0, x87_default_nan());
        if (push)
            x87_push(c, x87_default_nan());
    }
    return false;
}

/* C2: the operand is out of range, and stays. */
static void out_of_range(struct x86_cpu *c)
{
    fsw_put(c, FSW_C1 | FSW_C2, FSW_C2);
}

static void sine(struct x86_cpu *c, const struct op *op,
                 bool (*fn)(struct sf_env *env, sf80 a, sf80 *r))
{
    if (!trig_begin(c, op, false))
        return;
    struct sf_env env = x87_env(c);
    sf80 r;
    if (!fn(&env, x87_read(c, 0), &r)) {
        out_of_range(c);
        return;
    }
    fsw_clear(c, FSW_C2);
    if (!(x87_report(c, &env) & SF_PRE))
        x87_write(c, 0, r);
}

OP(fsin)
{
    sine(c, op, sf80_sin);
}
OP(fcos)
{
    sine(c, op, sf80_cos);
}

/* The end of those with two results. */
static void push_second(struct x86_cpu *c, const struct sf_env *env, sf80 first, sf80 second)
{
    fsw_clear(c, FSW_C2);
    if (x87_report(c, env) & SF_PRE)
        return;
    x87_write(c, 0, first);
    x87_push(c, second);
}

OP(fsincos)
{
    if (!trig_begin(c, op, true))
        return;
    struct sf_env env = x87_env(c);
    sf80 sin, cos;
    if (sf80_sincos(&env, x87_read(c, 0), &sin, &cos))
        push_second(c, &env, sin, cos);
    else
        out_of_range(c);
}

/* FPTAN pushes 1 behind the tangent, or the same NaN again. */
OP(fptan)
{
    static const sf80 one = {.mantissa = BIT(63), .se = 0x3fff};
    if (!trig_begin(c, op, true))
        return;
    struct sf_env env = x87_env(c);
    sf80 tan;
    if (sf80_tan(&env, x87_read(c, 0), &tan))
        push_second(c, &env, tan, x87_is_nan(tan) ? tan : one);
    else
        out_of_range(c);
}

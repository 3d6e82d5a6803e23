/*
 * x87 comparison and classification (SDM 1, 8.3.6).
 */
#include "x86/sem/x87.h"

/* C3, C2, C0 by enum sf_order + 1: less, equal, greater, unordered. */
static const uint16_t order_codes[4] = {FSW_C0, FSW_C3, 0, FSW_C3 | FSW_C2 | FSW_C0};
/* The same as ZF, PF and CF. */
static const uint16_t order_flags[4] = {FLAG_CF, FLAG_ZF, 0, FLAG_ZF | FLAG_PF | FLAG_CF};

static void compare_codes(struct x86_cpu *c, int order)
{
    fsw_put(c, FSW_C3 | FSW_C2 | FSW_C0, order_codes[order + 1]);
}

static void pop_times(struct x86_cpu *c, unsigned times)
{
    while (times--)
        x87_pop(c);
}

/* A comparison with an empty register: unordered, if the exception is masked. */
static void compare_empty(struct x86_cpu *c, unsigned pops)
{
    bool masked = x87_stack_fault(c, false);
    compare_codes(c, SF_UNORDERED);
    if (masked)
        pop_times(c, pops);
}

static void compare(struct x86_cpu *c, sf80 b, bool denormal, bool signaling, unsigned pops)
{
    struct sf_env env = x87_env(c);
    int order = sf80_compare(&env, x87_read(c, 0), b, signaling);
    if (denormal && order != SF_UNORDERED)
        env.flags |= SF_DE;
    uint8_t unmasked = x87_report(c, &env);
    compare_codes(c, order);
    if (!unmasked)
        pop_times(c, pops);
}

static void compare_memory(struct x86_cpu *c, const struct op *op, sf80 b, bool denormal,
                           unsigned pops)
{
    x87_note(c, op);
    if (x87_empty(c, 0))
        compare_empty(c, pops);
    else
        compare(c, b, denormal, true, pops);
}

static void compare_m32(struct x86_cpu *c, const struct op *op, unsigned pops)
{
    uint32_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    compare_memory(c, op, sf32_widen(v), sf32_is_denormal(v), pops);
}

static void compare_m64(struct x86_cpu *c, const struct op *op, unsigned pops)
{
    uint64_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    compare_memory(c, op, sf64_widen(v), sf64_is_denormal(v), pops);
}

static void compare_m16i(struct x86_cpu *c, const struct op *op, unsigned pops)
{
    int16_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    compare_memory(c, op, sf80_from_i64(v), false, pops);
}

static void compare_m32i(struct x86_cpu *c, const struct op *op, unsigned pops)
{
    int32_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    compare_memory(c, op, sf80_from_i64(v), false, pops);
}

static void compare_st(struct x86_cpu *c, const struct op *op, unsigned i, bool signaling,
                       unsigned pops)
{
    x87_begin(c);
    x87_note(c, op);
    if (x87_empty(c, 0) || x87_empty(c, i))
        compare_empty(c, pops);
    else
        compare(c, x87_read(c, i), false, signaling, pops);
}

#define COMPARE(name, pops)                                                                        \
    OP(f##name##_m32)                                                                              \
    {                                                                                              \
        compare_m32(c, op, pops);                                                                  \
    }                                                                                              \
    OP(f##name##_m64)                                                                              \
    {                                                                                              \
        compare_m64(c, op, pops);                                                                  \
    }                                                                                              \
    OP(fi##name##_m16)                                                                             \
    {                                                                                              \
        compare_m16i(c, op, pops);                                                                 \
    }                                                                                              \
    OP(fi##name##_m32)                                                                             \
    {                                                                                              \
        compare_m32i(c, op, pops);                                                                 \
    }                                                                                              \
    OP(f##name##_st0_sti)                                                                          \
    {                                                                                              \
        compare_st(c, op, op->rm & 7, true, pops);                                                 \
    }

COMPARE(com, 0)
COMPARE(comp, 1)

OP(fcompp)
{
    compare_st(c, op, 1, true, 2);
}
OP(fucom)
{
    compare_st(c, op, op->rm & 7, false, 0);
}
OP(fucomp)
{
    compare_st(c, op, op->rm & 7, false, 1);
}
OP(fucompp)
{
    compare_st(c, op, 1, false, 2);
}

OP(ftst)
{
    x87_begin(c);
    x87_note(c, op);
    if (x87_empty(c, 0))
        compare_empty(c, 0);
    else
        compare(c, (sf80){0}, false, true, 0);
}

/* ---- into RFLAGS ---- */

static void compare_rflags(struct x86_cpu *c, const struct op *op, bool signaling, unsigned pops)
{
    unsigned i = op->rm & 7;
    int order = SF_UNORDERED;
    bool masked;
    x87_begin(c);
    x87_note(c, op);
    if (x87_empty(c, 0) || x87_empty(c, i)) {
        masked = x87_stack_fault(c, false);
    } else {
        struct sf_env env = x87_env(c);
        unsigned c1 = c->s.fsw & FSW_C1; /* only a stack fault changes it */
        order = sf80_compare(&env, x87_read(c, 0), x87_read(c, i), signaling);
        masked = !x87_report(c, &env);
        fsw_set(c, c1);
    }
    x86_set_status(c, order_flags[order + 1]);
    if (masked)
        pop_times(c, pops);
}

OP(fcomi)
{
    compare_rflags(c, op, true, 0);
}
OP(fcomip)
{
    compare_rflags(c, op, true, 1);
}
OP(fucomi)
{
    compare_rflags(c, op, false, 0);
}
OP(fucomip)
{
    compare_rflags(c, op, false, 1);
}

/* ---- FXAM ---- */

static unsigned classify(const struct x86_cpu *c, sf80 v)
{
    unsigned exp = v.se & 0x7fff;
    bool integer_bit = v.mantissa >> 63;
    if (x87_empty(c, 0))
        return FSW_C3 | FSW_C0;
    if (exp == 0)
        return v.mantissa ? FSW_C3 | FSW_C2 : FSW_C3;
    if (!integer_bit)
        return 0; /* unsupported */
    if (exp == 0x7fff)
        return v.mantissa << 1 ? FSW_C0 : FSW_C2 | FSW_C0;
    return FSW_C2;
}

OP(fxam)
{
    x87_begin(c);
    x87_note(c, op);
    sf80 v = x87_read(c, 0);
    fsw_put(c, FSW_CC, classify(c, v) | (v.se >> 15 ? FSW_C1 : 0));
}

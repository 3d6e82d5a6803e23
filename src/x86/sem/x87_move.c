/*
 * x87 data transfer: loads, stores, constants, exchanges (SDM 1, 8.3.3 and 8.3.4).
 */
#include "x86/sem/x87.h"

/* ---- loads ---- */

/* The end of every load: v, converted in env, becomes the new top of the stack; a denormal does
 * even when that is an unmasked exception. */
static void load(struct x86_cpu *c, const struct op *op, struct sf_env *env, sf80 v)
{
    x87_note(c, op);
    if (!x87_empty(c, 7)) {
        if (x87_stack_fault(c, true))
            x87_push(c, x87_default_nan());
        return;
    }
    if (!(x87_report(c, env) & SF_IE))
        x87_push(c, v);
}

OP(fld_m32)
{
    uint32_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    struct sf_env env = x87_env(c);
    load(c, op, &env, sf32_to_sf80(&env, v));
}

OP(fld_m64)
{
    uint64_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    struct sf_env env = x87_env(c);
    load(c, op, &env, sf64_to_sf80(&env, v));
}

OP(fld_m80)
{
    uint8_t bytes[10];
    x87_begin(c);
    op_load(c, op, bytes, sizeof bytes);
    struct sf_env env = x87_env(c);
    load(c, op, &env, (sf80){.mantissa = load_u64(bytes), .se = load_u16(bytes + 8)});
}

OP(fld_st)
{
    x87_begin(c);
    struct sf_env env = x87_env(c);
    sf80 v = x87_read(c, op->rm & 7);
    if (x87_empty(c, op->rm & 7)) {
        x87_note(c, op);
        if (x87_stack_fault(c, false))
            x87_push(c, x87_default_nan());
        return;
    }
    load(c, op, &env, v);
}

static void load_integer(struct x86_cpu *c, const struct op *op, int64_t v)
{
    struct sf_env env = x87_env(c);
    load(c, op, &env, sf80_from_i64(v));
}

OP(fild_m16)
{
    int16_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    load_integer(c, op, v);
}

OP(fild_m32)
{
    int32_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    load_integer(c, op, v);
}

OP(fild_m64)
{
    int64_t v;
    x87_begin(c);
    x87_load(c, op, &v, sizeof v);
    load_integer(c, op, v);
}

OP(fbld)
{
    uint8_t bcd[10];
    x87_begin(c);
    op_load(c, op, bcd, sizeof bcd);
    struct sf_env env = x87_env(c);
    load(c, op, &env, sf80_from_bcd(bcd));
}

/* ---- constants ---- */

/* Rounded as RC says from 66 bits: the value cut to 64 bits, and whether rounding up makes it more,
 * which depends on whether the next bit is set (nearest) or rounding is up (FLDL2T: SDM 2). */
static void load_constant(struct x86_cpu *c, const struct op *op, unsigned exp, uint64_t cut,
                          bool next_bit)
{
    x87_begin(c);
    struct sf_env env = x87_env(c);
    bool up = env.round == SF_UP || (env.round == SF_NEAREST && next_bit);
    load(c, op, &env, (sf80){.mantissa = cut + up, .se = (uint16_t)exp});
}

static void load_exact(struct x86_cpu *c, const struct op *op, sf80 v)
{
    x87_begin(c);
    struct sf_env env = x87_env(c);
    load(c, op, &env, v);
}

OP(fld1)
{
    load_exact(c, op, (sf80){.mantissa = BIT(63), .se = 0x3fff});
}
OP(fldz)
{
    load_exact(c, op, (sf80){0});
}
OP(fldl2t) /* log2(10) */
{
    load_constant(c, op, 0x4000, UINT64_C(0xd49a784bcd1b8afe), false);
}
OP(fldl2e) /* log2(e) */
{
    load_constant(c, op, 0x3fff, UINT64_C(0xb8aa3b295c17f0bb), true);
}
OP(fldpi)
{
    load_constant(c, op, 0x4000, UINT64_C(0xc90fdaa22168c234), true);
}
OP(fldlg2) /* log10(2) */
{
    load_constant(c, op, 0x3ffd, UINT64_C(0x9a209a84fbcff798), true);
}
OP(fldln2) /* ln(2) */
{
    load_constant(c, op, 0x3ffe, UINT64_C(0xb17217f7d1cf79ab), true);
}

/* ---- stores ---- */

/* What a store has to write, and whether it may: computed before memory is touched, committed
 * after, because the write may fault. */
struct store {
    struct sf_env env;
    sf80 value;
    bool empty;
};

static struct store store_begin(struct x86_cpu *c)
{
    x87_begin(c);
    return (struct store){.env = x87_env(c), .value = x87_read(c, 0), .empty = x87_empty(c, 0)};
}

/* Which unmasked exceptions keep the value from memory: all but inexactness, which is reported
 * with the rounded value stored. */
static bool store_is_made(const struct store *s)
{
    if (s->empty)
        return s->env.masks & SF_IE;
    return !(sf_unmasked(&s->env) & ~SF_PE);
}

static ALWAYS_INLINE void store_end(struct x86_cpu *c, const struct op *op, struct store *s,
                                    const void *bytes, unsigned n, bool pop)
{
    bool made = store_is_made(s);
    if (!made && !s->empty) {
        /* Nothing was rounded. */
        s->env.flags &= (uint8_t)~SF_PE;
    }
    if (made)
        x87_store(c, op, bytes, n);
    else
        x86_probe_write(c, op_linear(c, op, n, X86_WRITE), n, op->seg);
    x87_note(c, op);
    if (s->empty)
        x87_stack_fault(c, false);
    else
        x87_report(c, &s->env);
    if (made && pop)
        x87_pop(c);
}

static ALWAYS_INLINE void store_m32(struct x86_cpu *c, const struct op *op, bool pop)
{
    struct store s = store_begin(c);
    uint32_t v = s.empty ? 0xffc00000 : sf80_to_sf32(&s.env, s.value);
    store_end(c, op, &s, &v, sizeof v, pop);
}

static ALWAYS_INLINE void store_m64(struct x86_cpu *c, const struct op *op, bool pop)
{
    struct store s = store_begin(c);
    uint64_t v = s.empty ? UINT64_C(0xfff8000000000000) : sf80_to_sf64(&s.env, s.value);
    store_end(c, op, &s, &v, sizeof v, pop);
}

OP(fst_m32)
{
    store_m32(c, op, false);
}
OP(fstp_m32)
{
    store_m32(c, op, true);
}
OP(fst_m64)
{
    store_m64(c, op, false);
}
OP(fstp_m64)
{
    store_m64(c, op, true);
}

OP(fstp_m80)
{
    struct store s = store_begin(c);
    sf80 v = s.empty ? x87_default_nan() : s.value;
    uint8_t bytes[10];
    store_u64(bytes, v.mantissa);
    store_u16(bytes + 8, v.se);
    store_end(c, op, &s, bytes, sizeof bytes, true);
}

static void store_st(struct x86_cpu *c, const struct op *op, bool pop)
{
    x87_begin(c);
    x87_note(c, op);
    sf80 v = x87_read(c, 0);
    if (x87_empty(c, 0)) {
        if (!x87_stack_fault(c, false))
            return;
        v = x87_default_nan();
    } else {
        fsw_clear(c, FSW_C1);
    }
    x87_write(c, op->rm & 7, v);
    if (pop)
        x87_pop(c);
}

OP(fst_st)
{
    store_st(c, op, false);
}
OP(fstp_st)
{
    store_st(c, op, true);
}

/* D9 D8+i, FSTP's undocumented twin: an empty ST(0) is popped without a stack fault and nothing is
 * written. */
OP(fstpnce)
{
    x87_begin(c);
    if (!x87_empty(c, 0)) {
        store_st(c, op, true);
        return;
    }
    x87_note(c, op);
    fsw_clear(c, FSW_C1);
    x87_pop(c);
}

/* ---- integer stores ---- */

static ALWAYS_INLINE void store_m16i(struct x86_cpu *c, const struct op *op, bool cut, bool pop)
{
    struct store s = store_begin(c);
    int16_t v = s.empty ? INT16_MIN : sf80_to_i16(&s.env, s.value, cut);
    store_end(c, op, &s, &v, sizeof v, pop);
}

static ALWAYS_INLINE void store_m32i(struct x86_cpu *c, const struct op *op, bool cut, bool pop)
{
    struct store s = store_begin(c);
    int32_t v = s.empty ? INT32_MIN : sf80_to_i32(&s.env, s.value, cut);
    store_end(c, op, &s, &v, sizeof v, pop);
}

static ALWAYS_INLINE void store_m64i(struct x86_cpu *c, const struct op *op, bool cut, bool pop)
{
    struct store s = store_begin(c);
    int64_t v = s.empty ? INT64_MIN : sf80_to_i64(&s.env, s.value, cut);
    store_end(c, op, &s, &v, sizeof v, pop);
}

OP(fist_m16)
{
    store_m16i(c, op, false, false);
}
OP(fist_m32)
{
    store_m32i(c, op, false, false);
}
OP(fistp_m16)
{
    store_m16i(c, op, false, true);
}
OP(fistp_m32)
{
    store_m32i(c, op, false, true);
}
OP(fistp_m64)
{
    store_m64i(c, op, false, true);
}
OP(fisttp_m16)
{
    store_m16i(c, op, true, true);
}
OP(fisttp_m32)
{
    store_m32i(c, op, true, true);
}
OP(fisttp_m64)
{
    store_m64i(c, op, true, true);
}

OP(fbstp)
{
    static const uint8_t indefinite[10] = {[7] = 0xc0, [8] = 0xff, [9] = 0xff};
    struct store s = store_begin(c);
    uint8_t bcd[10];
    if (s.empty)
        memcpy(bcd, indefinite, sizeof bcd);
    else
        sf80_to_bcd(&s.env, s.value, bcd);
    store_end(c, op, &s, bcd, sizeof bcd, true);
}

/* ---- between registers ---- */

OP(fxch)
{
    unsigned i = op->rm & 7;
    x87_begin(c);
    x87_note(c, op);
    sf80 a = x87_read(c, 0), b = x87_read(c, i);
    bool a_empty = x87_empty(c, 0), b_empty = x87_empty(c, i);
    if (a_empty || b_empty) {
        if (!x87_stack_fault(c, false))
            return;
        a = a_empty ? x87_default_nan() : a;
        b = b_empty ? x87_default_nan() : b;
    } else {
        fsw_clear(c, FSW_C1);
    }
    x87_write(c, 0, b);
    x87_write(c, i, a);
}

/* op->cc: 0 B, 1 E, 2 BE, 3 U, and 4 to 7 their opposites. */
OP(fcmovcc)
{
    x87_begin(c);
    x87_note(c, op);
    if (x87_empty(c, 0) || x87_empty(c, op->rm & 7)) {
        if (x87_stack_fault(c, false))
            x87_write(c, 0, x87_default_nan());
        return;
    }
    static const uint8_t condition[4] = {2, 4, 6, 10}; /* as Jcc encodes B, E, BE and P */
    if (cc_test(c, condition[op->cc & 3]) != (op->cc >> 2 & 1))
        x87_write(c, 0, x87_read(c, op->rm & 7));
}

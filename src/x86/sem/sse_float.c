/*
 * SSE and AVX floating point: arithmetic, comparisons, rounding. Elements are computed by
 * softfloat; here is how vectors of them are put together and how their exceptions are reported.
 */
#include "x86/sem/simd.h"

void x86_sse_unavailable(struct x86_cpu *c)
{
    if ((c->s.cr0 & CR0_EM) || !(c->s.cr4 & CR4_OSFXSR))
        x86_raise(c, X86_UD);
    x86_raise(c, X86_NM);
}

void x86_avx_unavailable(struct x86_cpu *c)
{
    x86_raise(c, x86_avx_enabled(&c->s) ? X86_NM : X86_UD);
}

void x86_sse_report(struct x86_cpu *c, const struct sf_env *env)
{
    if (likely(!env->flags))
        return;
    c->s.mxcsr |= sf_reported(env);
    if (sf_unmasked(env))
        x86_raise(c, c->s.cr4 & CR4_OSXMMEXCPT ? X86_XM : X86_UD);
}

/* ---- one result from each element (pair) ---- */

/* expr gives an element from x of a and y of b: for all of them, or for the lowest alone. */
#define PACKED(name, elem, expr)                                                                   \
    FLOAT(name, 16)                                                                                \
    {                                                                                              \
        for (unsigned i = 0; i < 16 / sizeof r->elem[0]; i++) {                                    \
            __auto_type x = a->elem[i];                                                            \
            __auto_type y = b->elem[i];                                                            \
            (void)x;                                                                               \
            r->elem[i] = (expr);                                                                   \
        }                                                                                          \
    }
#define SCALAR(name, elem, expr)                                                                   \
    FLOAT(name, sizeof((union simd_lane *)0)->elem[0])                                             \
    {                                                                                              \
        __auto_type x = a->elem[0];                                                                \
        __auto_type y = b->elem[0];                                                                \
        (void)x;                                                                                   \
        *r = *a;                                                                                   \
        r->elem[0] = (expr);                                                                       \
    }

#define ARITHMETIC(name)                                                                           \
    PACKED(name##ps, u32, sf32_##name(env, x, y))                                                  \
    PACKED(name##pd, u64, sf64_##name(env, x, y))                                                  \
    SCALAR(name##ss, u32, sf32_##name(env, x, y))                                                  \
    SCALAR(name##sd, u64, sf64_##name(env, x, y))
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
ARITHMETIC(min)
ARITHMETIC(max)

PACKED(sqrtps, u32, sf32_sqrt(env, y))
PACKED(sqrtpd, u64, sf64_sqrt(env, y))
SCALAR(sqrtss, u32, sf32_sqrt(env, y))
SCALAR(sqrtsd, u64, sf64_sqrt(env, y))

/* imm[2]: as MXCSR says, otherwise imm[1:0]; imm[3]: no precision exception. */
#define ROUND(bits, y) sf##bits##_round_int(env, y, imm & 4 ? env->round : imm & 3, imm >> 3 & 1)
PACKED(roundps, u32, ROUND(32, y))
PACKED(roundpd, u64, ROUND(64, y))
SCALAR(roundss, u32, ROUND(32, y))
SCALAR(roundsd, u64, ROUND(64, y))

/* ---- CMPxx: all ones for true ---- */

/* The predicates of CMPPS (SDM 2, table 3-1), of which legacy forms have the first 8. For which
 * orders each is true: bit 0 less, 1 equal, 2 greater, 3 unordered. */
static const uint8_t predicate_orders[16] = {2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15};
/* Bit p set: predicate p raises IE for a QNaN too. Predicates 16 to 31 are 0 to 15 with this the
 * other way round. */
enum { PREDICATE_SIGNALS = 0x6666 };

static inline bool predicate_signals(unsigned predicate)
{
    return (PREDICATE_SIGNALS >> (predicate & 15) & 1) != (predicate >> 4 & 1);
}

static inline bool predicate_holds(unsigned predicate, int order)
{
    return predicate_orders[predicate & 15] >> (order + 1) & 1;
}

/* Legacy forms take three bits of the immediate, VEX forms five. */
#define COMPARE(name, vex_name, bits, count)                                                       \
    FLOAT_LANE(name)                                                                               \
    {                                                                                              \
        bool signals = predicate_signals(imm);                                                     \
        *r = *a;                                                                                   \
        for (unsigned i = 0; i < (count); i++) {                                                   \
            int order = sf##bits##_compare(env, a->u##bits[i], b->u##bits[i], signals);            \
            r->u##bits[i] = -(uint##bits##_t)predicate_holds(imm, order);                          \
        }                                                                                          \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        float_run(c, op, name##_lane, (count) * (bits) / 8, op->imm & 7);                          \
    }                                                                                              \
    OP(vex_name)                                                                                   \
    {                                                                                              \
        vex_float_run(c, op, name##_lane, (count) * (bits) / 8, op->imm & 31);                     \
    }
COMPARE(cmpps, vcmpps, 32, 4)
COMPARE(cmppd, vcmppd, 64, 2)
COMPARE(cmpss, vcmpss, 32, 1)
COMPARE(cmpsd_sse, vcmpsd, 64, 1)

/* ---- COMISx: the order in ZF, PF and CF ---- */

static uint32_t order_flags(int order)
{
    switch (order) {
    case SF_UNORDERED: return FLAG_ZF | FLAG_PF | FLAG_CF;
    case SF_LESS: return FLAG_CF;
    case SF_EQUAL: return FLAG_ZF;
    default: return 0;
    }
}

#define COMPARE_FLAGS(name, bits, signaling, check)                                                \
    OP(name)                                                                                       \
    {                                                                                              \
        check(c);                                                                                  \
        union simd_lane b = sse_source_n(c, op, bits / 8);                                         \
        struct sf_env env = sf_env_mxcsr(c->s.mxcsr);                                              \
        int order =                                                                                \
            sf##bits##_compare(&env, xmm(c, op->reg)->u##bits[0], b.u##bits[0], signaling);        \
        x86_sse_report(c, &env);                                                                   \
        x86_set_status(c, order_flags(order));                                                     \
    }
#define COMPARE_FLAGS_BOTH(name, bits, signaling)                                                  \
    COMPARE_FLAGS(name, bits, signaling, sse_check)                                                \
    COMPARE_FLAGS(v##name, bits, signaling, avx_check)
COMPARE_FLAGS_BOTH(comiss, 32, true)
COMPARE_FLAGS_BOTH(comisd, 64, true)
COMPARE_FLAGS_BOTH(ucomiss, 32, false)
COMPARE_FLAGS_BOTH(ucomisd, 64, false)

/* ---- sums and differences within vectors ---- */

#define PAIRWISE(name, elem, expr)                                                                 \
    FLOAT(name, 16)                                                                                \
    {                                                                                              \
        enum { HALF = 8 / sizeof r->elem[0] };                                                     \
        for (unsigned i = 0; i < 2 * HALF; i++) {                                                  \
            const union simd_lane *from = i < HALF ? a : b;                                        \
            __auto_type x = from->elem[2 * (i % HALF)];                                            \
            __auto_type y = from->elem[2 * (i % HALF) + 1];                                        \
            r->elem[i] = (expr);                                                                   \
        }                                                                                          \
    }
PAIRWISE(haddps, u32, sf32_add(env, x, y))
PAIRWISE(haddpd, u64, sf64_add(env, x, y))
PAIRWISE(hsubps, u32, sf32_sub(env, x, y))
PAIRWISE(hsubpd, u64, sf64_sub(env, x, y))

FLOAT(addsubps, 16)
{
    for (unsigned i = 0; i < 4; i++)
        r->u32[i] = (i & 1 ? sf32_add : sf32_sub)(env, a->u32[i], b->u32[i]);
}

FLOAT(addsubpd, 16)
{
    for (unsigned i = 0; i < 2; i++)
        r->u64[i] = (i & 1 ? sf64_add : sf64_sub)(env, a->u64[i], b->u64[i]);
}

/*
 * Dot products. imm[7:4]: which products take part; imm[3:0]: which elements get the sum.
 *
 * Each step is an operation of its own as far as exceptions go: what a step raised stays in MXCSR
 * when an unmasked exception of the next one ends the instruction.
 */
static void end_step(struct x86_cpu *c, struct sf_env *env)
{
    x86_sse_report(c, env);
    env->flags = 0;
}

static void dpps_vector(struct x86_cpu *c, union x86_vec *r, const union x86_vec *a,
                        const union x86_vec *b, unsigned imm, unsigned bytes)
{
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    uint32_t product[8] = {0}, pair[4] = {0}, sum[2] = {0};
    for (unsigned i = 0; i < bytes / 4; i++)
        if (imm >> (4 + i % 4) & 1)
            product[i] = sf32_mul(&env, a->u32[i], b->u32[i]);
    end_step(c, &env);
    for (unsigned i = 0; i < bytes / 8; i++)
        pair[i] = sf32_add(&env, product[2 * i], product[2 * i + 1]);
    end_step(c, &env);
    for (unsigned i = 0; i < bytes / 16; i++)
        sum[i] = sf32_add(&env, pair[2 * i], pair[2 * i + 1]);
    end_step(c, &env);
    for (unsigned i = 0; i < bytes / 4; i++)
        r->u32[i] = imm >> i % 4 & 1 ? sum[i / 4] : 0;
}

static void dppd_vector(struct x86_cpu *c, union x86_vec *r, const union x86_vec *a,
                        const union x86_vec *b, unsigned imm, unsigned bytes)
{
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    uint64_t product[2] = {0};
    for (unsigned i = 0; i < 2; i++)
        if (imm >> (4 + i) & 1)
            product[i] = sf64_mul(&env, a->u64[i], b->u64[i]);
    end_step(c, &env);
    uint64_t sum = sf64_add(&env, product[0], product[1]);
    end_step(c, &env);
    for (unsigned i = 0; i < 2; i++)
        r->u64[i] = imm >> i & 1 ? sum : 0;
}

#define DOT_PRODUCT(name)                                                                          \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union x86_vec r = {0}, b = {0};                                                            \
        *vec_lane(&b, 0) = sse_source(c, op);                                                      \
        name##_vector(c, &r, &c->s.vec[op->reg], &b, (unsigned)op->imm, 16);                       \
        *xmm(c, op->reg) = *vec_lane(&r, 0);                                                       \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        avx_check(c);                                                                              \
        union x86_vec r = {0}, b = vex_source(c, op);                                              \
        name##_vector(c, &r, &c->s.vec[op->cc], &b, (unsigned)op->imm, op->size);                  \
        c->s.vec[op->reg] = r;                                                                     \
    }
DOT_PRODUCT(dpps)
DOT_PRODUCT(dppd)

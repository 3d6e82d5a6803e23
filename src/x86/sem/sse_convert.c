/*
 * Conversions between floating-point formats and integers, in XMM, MMX and general registers.
 *
 * What does not fit an integer gives the integer indefinite and IE; softfloat does that.
 */
#include "x86/sem/simd.h"

/* ---- vectors to vectors ---- */

/* As many elements as the wider of the two kinds has in a vector of so many bytes; what they do not
 * fill is cleared. */
typedef union x86_vec convert_fn(struct sf_env *env, const union x86_vec *b, unsigned bytes);

static ALWAYS_INLINE void sse_convert(struct x86_cpu *c, const struct op *op, convert_fn *convert,
                                      unsigned mem_bytes)
{
    sse_check(c);
    union x86_vec b = {0};
    *vec_lane(&b, 0) = mem_bytes == 16 ? sse_source(c, op) : sse_source_n(c, op, mem_bytes);
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    union x86_vec r = convert(&env, &b, 16);
    x86_sse_report(c, &env);
    *xmm(c, op->reg) = *vec_lane(&r, 0);
}

static ALWAYS_INLINE void vex_convert(struct x86_cpu *c, const struct op *op, convert_fn *convert,
                                      unsigned mem_bytes)
{
    avx_check(c);
    union x86_vec b = vex_source_n(c, op, mem_bytes);
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    union x86_vec r = convert(&env, &b, op->size);
    x86_sse_report(c, &env);
    c->s.vec[op->reg] = r;
}

/* times: how much wider than the source elements the results are, or 1. */
#define CONVERT_VEX(name, lanes, to, from, times, expr)                                            \
    static ALWAYS_INLINE union x86_vec lanes(struct sf_env *env, const union x86_vec *b,           \
                                             unsigned bytes)                                       \
    {                                                                                              \
        union x86_vec r = {0};                                                                     \
        for (unsigned i = 0; i < bytes / (sizeof b->from[0] * (times)); i++) {                     \
            __auto_type y = b->from[i];                                                            \
            r.to[i] = (expr);                                                                      \
        }                                                                                          \
        return r;                                                                                  \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        vex_convert(c, op, lanes, op->size / (times));                                             \
    }
#define CONVERT(name, to, from, times, expr)                                                       \
    CONVERT_VEX(v##name, name##_lanes, to, from, times, expr)                                      \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_convert(c, op, name##_lanes, 16 / (times));                                            \
    }
CONVERT(cvtdq2ps, u32, i32, 1, sf32_from_i32(env, y))
CONVERT(cvtps2dq, i32, u32, 1, sf32_to_i32(env, y, false))
CONVERT(cvttps2dq, i32, u32, 1, sf32_to_i32(env, y, true))
CONVERT(cvtdq2pd, u64, i32, 2, sf64_from_i32(y))
CONVERT(cvtpd2dq, i32, u64, 1, sf64_to_i32(env, y, false))
CONVERT(cvttpd2dq, i32, u64, 1, sf64_to_i32(env, y, true))
CONVERT(cvtps2pd, u64, u32, 2, sf32_to_sf64(env, y))
CONVERT(cvtpd2ps, u32, u64, 1, sf64_to_sf32(env, y))
CONVERT_VEX(vcvtph2ps, cvtph2ps_lanes, u32, u16, 2, sf16_to_sf32(env, y))

/* To half precision, in a register or memory: imm[2] as MXCSR says, otherwise imm[1:0] how it is
 * rounded. */
OP(vcvtps2ph)
{
    avx_check(c);
    union x86_vec r = {0}, *a = &c->s.vec[op->reg];
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    env.round = op->imm & 4 ? env.round : op->imm & 3;
    for (unsigned i = 0; i < op->size / 4u; i++)
        r.u16[i] = sf32_to_sf16(&env, a->u32[i]);
    unsigned bytes = op->size / 2u;
    if (op->ea != EA_REG)
        x86_probe_write(c, op_linear(c, op, bytes, X86_WRITE), bytes, op->seg);
    x86_sse_report(c, &env);
    if (op->ea != EA_REG)
        simd_store(c, op, &r, bytes);
    else
        c->s.vec[op->rm] = r;
}

FLOAT(cvtss2sd, 4)
{
    *r = *a;
    r->u64[0] = sf32_to_sf64(env, b->u32[0]);
}

FLOAT(cvtsd2ss, 8)
{
    *r = *a;
    r->u32[0] = sf64_to_sf32(env, b->u64[0]);
}

/* ---- MMX to XMM: with a source in memory the x87 is left alone ---- */

OP(cvtpi2ps)
{
    sse_check(c);
    if (op->ea == EA_REG)
        x86_mmx_enter(c); /* even if the conversion ends in #XM */
    union simd_lane b = mmx_source_n(c, op, 8);
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    uint32_t low = sf32_from_i32(&env, b.i32[0]), high = sf32_from_i32(&env, b.i32[1]);
    x86_sse_report(c, &env);
    xmm(c, op->reg)->u32[0] = low;
    xmm(c, op->reg)->u32[1] = high;
}

OP(cvtpi2pd)
{
    sse_check(c);
    if (op->ea == EA_REG)
        x86_mmx_enter(c);
    union simd_lane b = mmx_source_n(c, op, 8);
    *xmm(c, op->reg) = (union simd_lane){.u64 = {sf64_from_i32(b.i32[0]), sf64_from_i32(b.i32[1])}};
}

/* ---- XMM to MMX: the x87 becomes MMX even if the conversion ends in #XM ---- */

#define CONVERT_TO_MMX(name, load_source, elem, convert, truncate)                                 \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        x86_mmx_check(c);                                                                          \
        union simd_lane r = {0}, b = load_source;                                                  \
        struct sf_env env = sf_env_mxcsr(c->s.mxcsr);                                              \
        for (unsigned i = 0; i < 2; i++)                                                           \
            r.i32[i] = convert(&env, b.elem[i], truncate);                                         \
        x86_mmx_commit(c);                                                                         \
        x86_sse_report(c, &env);                                                                   \
        x86_mmx_write(c, op->reg, r.u64[0]);                                                       \
    }
CONVERT_TO_MMX(cvtps2pi, sse_source_n(c, op, 8), u32, sf32_to_i32, false)
CONVERT_TO_MMX(cvttps2pi, sse_source_n(c, op, 8), u32, sf32_to_i32, true)
CONVERT_TO_MMX(cvtpd2pi, sse_source(c, op), u64, sf64_to_i32, false)
CONVERT_TO_MMX(cvttpd2pi, sse_source(c, op), u64, sf64_to_i32, true)

/* ---- general registers: op->size is the integer's ---- */

static ALWAYS_INLINE int64_t general_source(struct x86_cpu *c, const struct op *op)
{
    if (op->size == 8)
        return (int64_t)op_rm_read(c, op, 8);
    return (int32_t)op_rm_read(c, op, 4);
}

#define CONVERT_FROM_GENERAL(name, bits)                                                           \
    static ALWAYS_INLINE uint##bits##_t name##_low(struct x86_cpu *c, const struct op *op)         \
    {                                                                                              \
        int64_t v = general_source(c, op);                                                         \
        struct sf_env env = sf_env_mxcsr(c->s.mxcsr);                                              \
        uint##bits##_t r = sf##bits##_from_i64(&env, v);                                           \
        x86_sse_report(c, &env);                                                                   \
        return r;                                                                                  \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        xmm(c, op->reg)->u##bits[0] = name##_low(c, op);                                           \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        avx_check(c);                                                                              \
        union simd_lane r = *xmm(c, op->cc);                                                       \
        r.u##bits[0] = name##_low(c, op);                                                          \
        vex_write_xmm(c, op->reg, r);                                                              \
    }
CONVERT_FROM_GENERAL(cvtsi2ss, 32)
CONVERT_FROM_GENERAL(cvtsi2sd, 64)

#define CONVERT_TO_GENERAL_CHECKED(name, bits, truncate, check)                                    \
    OP(name)                                                                                       \
    {                                                                                              \
        check(c);                                                                                  \
        union simd_lane b = sse_source_n(c, op, bits / 8);                                         \
        struct sf_env env = sf_env_mxcsr(c->s.mxcsr);                                              \
        uint64_t v = op->size == 8 ? (uint64_t)sf##bits##_to_i64(&env, b.u##bits[0], truncate)     \
                                   : (uint32_t)sf##bits##_to_i32(&env, b.u##bits[0], truncate);    \
        x86_sse_report(c, &env);                                                                   \
        c->s.gpr[op->reg] = v;                                                                     \
    }
#define CONVERT_TO_GENERAL(name, bits, truncate)                                                   \
    CONVERT_TO_GENERAL_CHECKED(name, bits, truncate, sse_check)                                    \
    CONVERT_TO_GENERAL_CHECKED(v##name, bits, truncate, avx_check)
CONVERT_TO_GENERAL(cvtss2si, 32, false)
CONVERT_TO_GENERAL(cvttss2si, 32, true)
CONVERT_TO_GENERAL(cvtsd2si, 64, false)
CONVERT_TO_GENERAL(cvttsd2si, 64, true)

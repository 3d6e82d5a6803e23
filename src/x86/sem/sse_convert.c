/*
 * Conversions between floating-point formats and integers, in XMM, MMX and general registers.
 *
 * What does not fit an integer gives the integer indefinite and IE; softfloat does that.
 */
#include "x86/sem/simd.h"

/* ---- XMM to XMM ---- */

/* count elements; what the source does not fill is cleared. */
#define CONVERT(name, mem_bytes, to, from, count, expr)                                            \
    FLOAT(name, mem_bytes)                                                                         \
    {                                                                                              \
        *r = (union simd_lane){0};                                                                 \
        for (unsigned i = 0; i < (count); i++) {                                                   \
            __auto_type y = b->from[i];                                                            \
            r->to[i] = (expr);                                                                     \
        }                                                                                          \
    }
CONVERT(cvtdq2ps, 16, u32, i32, 4, sf32_from_i32(env, y))
CONVERT(cvtps2dq, 16, i32, u32, 4, sf32_to_i32(env, y, false))
CONVERT(cvttps2dq, 16, i32, u32, 4, sf32_to_i32(env, y, true))
CONVERT(cvtdq2pd, 8, u64, i32, 2, sf64_from_i32(y))
CONVERT(cvtpd2dq, 16, i32, u64, 2, sf64_to_i32(env, y, false))
CONVERT(cvttpd2dq, 16, i32, u64, 2, sf64_to_i32(env, y, true))
CONVERT(cvtps2pd, 8, u64, u32, 2, sf32_to_sf64(env, y))
CONVERT(cvtpd2ps, 16, u32, u64, 2, sf64_to_sf32(env, y))

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
    sse_check(c);
    if (op->size == 8)
        return (int64_t)op_rm_read(c, op, 8);
    return (int32_t)op_rm_read(c, op, 4);
}

OP(cvtsi2ss)
{
    int64_t v = general_source(c, op);
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    uint32_t r = sf32_from_i64(&env, v);
    x86_sse_report(c, &env);
    xmm(c, op->reg)->u32[0] = r;
}

OP(cvtsi2sd)
{
    int64_t v = general_source(c, op);
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    uint64_t r = sf64_from_i64(&env, v);
    x86_sse_report(c, &env);
    xmm(c, op->reg)->u64[0] = r;
}

#define CONVERT_TO_GENERAL(name, bits, truncate)                                                   \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union simd_lane b = sse_source_n(c, op, bits / 8);                                         \
        struct sf_env env = sf_env_mxcsr(c->s.mxcsr);                                              \
        uint64_t v = op->size == 8 ? (uint64_t)sf##bits##_to_i64(&env, b.u##bits[0], truncate)     \
                                   : (uint32_t)sf##bits##_to_i32(&env, b.u##bits[0], truncate);    \
        x86_sse_report(c, &env);                                                                   \
        c->s.gpr[op->reg] = v;                                                                     \
    }
CONVERT_TO_GENERAL(cvtss2si, 32, false)
CONVERT_TO_GENERAL(cvttss2si, 32, true)
CONVERT_TO_GENERAL(cvtsd2si, 64, false)
CONVERT_TO_GENERAL(cvttsd2si, 64, true)

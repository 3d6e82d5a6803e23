/*
 * Shifts of vectors: each element by one count, which comes from an immediate or from a register or
 * memory, or each by a count of its own; and of whole registers by bytes.
 */
#include "x86/sem/simd.h"

typedef void shift_fn(union simd_lane *r, const union simd_lane *a, uint64_t count, unsigned bytes);

/* The count is the low 64 bits of the source; SSE forms read (and align) all 16 bytes of it. */
static ALWAYS_INLINE void shift_by_source(struct x86_cpu *c, const struct op *op, shift_fn *shift)
{
    union simd_lane r;
    if (likely(op->size == 16)) {
        sse_check(c);
        union simd_lane b = sse_source(c, op);
        shift(&r, xmm(c, op->reg), b.u64[0], 16);
        *xmm(c, op->reg) = r;
    } else {
        x86_mmx_check(c);
        union simd_lane a = mmx_lane(c, op->reg), b = mmx_source_n(c, op, 8);
        shift(&r, &a, b.u64[0], 8);
        x86_mmx_commit(c);
        x86_mmx_write(c, op->reg, r.u64[0]);
    }
}

/* The operand is rm, always a register. */
static ALWAYS_INLINE void shift_by_immediate(struct x86_cpu *c, const struct op *op,
                                             shift_fn *shift)
{
    union simd_lane r;
    if (likely(op->size == 16)) {
        sse_check(c);
        shift(&r, xmm(c, op->rm), (uint8_t)op->imm, 16);
        *xmm(c, op->rm) = r;
    } else {
        x86_mmx_enter(c);
        union simd_lane a = mmx_lane(c, op->rm);
        shift(&r, &a, (uint8_t)op->imm, 8);
        x86_mmx_write(c, op->rm, r.u64[0]);
    }
}

/* VEX forms: destination = vvvv shifted by source, or vvvv = source shifted by the immediate. */
static ALWAYS_INLINE void vex_shift(struct x86_cpu *c, unsigned to, const union x86_vec *from,
                                    unsigned bytes, uint64_t count, shift_fn *shift)
{
    union x86_vec a = *from, r = {0};
    for (unsigned i = 0; i < bytes / 16; i++)
        shift(vec_lane(&r, i), vec_lane(&a, i), count, 16);
    vex_write(c, to, &r, bytes);
}

static ALWAYS_INLINE void vex_shift_by_source(struct x86_cpu *c, const struct op *op,
                                              shift_fn *shift)
{
    avx_check(c);
    uint64_t count = vex_source_n(c, op, 16).u64[0];
    vex_shift(c, op->reg, &c->s.vec[op->cc], op->size, count, shift);
}

static ALWAYS_INLINE void vex_shift_by_immediate(struct x86_cpu *c, const struct op *op,
                                                 shift_fn *shift)
{
    avx_check(c);
    vex_shift(c, op->cc, &c->s.vec[op->rm], op->size, (uint8_t)op->imm, shift);
}

#define SHIFT_LANE(name)                                                                           \
    static inline void name##_shift(union simd_lane *r, const union simd_lane *a, uint64_t count,  \
                                    unsigned bytes)

#define SHIFT_BY_IMMEDIATE(name, vex_name, shift)                                                  \
    OP(name)                                                                                       \
    {                                                                                              \
        shift_by_immediate(c, op, shift);                                                          \
    }                                                                                              \
    OP(vex_name)                                                                                   \
    {                                                                                              \
        vex_shift_by_immediate(c, op, shift);                                                      \
    }

/* expr: the element x shifted by count, which is below the element's width; beyond: what a count
 * as large as that gives. */
#define SHIFT(name, elem, expr, beyond)                                                            \
    SHIFT_LANE(name)                                                                               \
    {                                                                                              \
        bool inside = count < 8 * sizeof r->elem[0];                                               \
        for (unsigned i = 0; i < bytes / sizeof r->elem[0]; i++) {                                 \
            __auto_type x = a->elem[i];                                                            \
            r->elem[i] = (__typeof__(x))(inside ? (expr) : (beyond));                              \
        }                                                                                          \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        shift_by_source(c, op, name##_shift);                                                      \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        vex_shift_by_source(c, op, name##_shift);                                                  \
    }                                                                                              \
    SHIFT_BY_IMMEDIATE(name##_i, v##name##_i, name##_shift)
SHIFT(psllw, u16, x << count, 0)
SHIFT(pslld, u32, x << count, 0)
SHIFT(psllq, u64, x << count, 0)
SHIFT(psrlw, u16, x >> count, 0)
SHIFT(psrld, u32, x >> count, 0)
SHIFT(psrlq, u64, x >> count, 0)
SHIFT(psraw, i16, x >> count, x >> 15)
SHIFT(psrad, i32, x >> count, x >> 31)

SHIFT_LANE(pslldq)
{
    for (unsigned i = 0; i < bytes; i++)
        r->u8[i] = i >= count ? a->u8[i - count] : 0;
}
SHIFT_BY_IMMEDIATE(pslldq, vpslldq, pslldq_shift)

SHIFT_LANE(psrldq)
{
    for (unsigned i = 0; i < bytes; i++)
        r->u8[i] = i + count < bytes ? a->u8[i + count] : 0;
}
SHIFT_BY_IMMEDIATE(psrldq, vpsrldq, psrldq_shift)

/* ---- each element by a count of its own ---- */

EACH_VEX(vpsllvd, u32, y < 32 ? x << y : 0)
EACH_VEX(vpsllvq, u64, y < 64 ? x << y : 0)
EACH_VEX(vpsrlvd, u32, y < 32 ? x >> y : 0)
EACH_VEX(vpsrlvq, u64, y < 64 ? x >> y : 0)
EACH_VEX(vpsravd, i32, x >> ((uint32_t)y < 31 ? y : 31))

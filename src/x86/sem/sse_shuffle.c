/*
 * Instructions that only move elements about: packing, unpacking, shuffling, blending, widening,
 * and single elements in and out.
 */
#include "x86/sem/simd.h"

/* ---- packing: a's elements, then b's, saturated to half their size ---- */

#define PACK(name, from, to, low, high)                                                            \
    SIMD(name)                                                                                     \
    {                                                                                              \
        unsigned half = bytes / sizeof r->from[0];                                                 \
        for (unsigned i = 0; i < 2 * half; i++) {                                                  \
            int v = i < half ? a->from[i] : b->from[i - half];                                     \
            r->to[i] = (__typeof__(r->to[0]))(v < (low) ? (low) : v > (high) ? (high) : v);        \
        }                                                                                          \
    }
PACK(packsswb, i16, i8, INT8_MIN, INT8_MAX)
PACK(packuswb, i16, u8, 0, UINT8_MAX)
PACK(packssdw, i32, i16, INT16_MIN, INT16_MAX)
PACK(packusdw, i32, u16, 0, UINT16_MAX)

/* ---- unpacking: elements of a and b in turn, from the lower or the upper half of each ---- */

#define UNPACK_LANE(name, elem, upper)                                                             \
    LANE(name)                                                                                     \
    {                                                                                              \
        unsigned half = bytes / (2 * sizeof r->elem[0]), from = (upper) ? half : 0;                \
        for (unsigned i = 0; i < half; i++) {                                                      \
            r->elem[2 * i] = a->elem[from + i];                                                    \
            r->elem[2 * i + 1] = b->elem[from + i];                                                \
        }                                                                                          \
    }
/* The MMX forms that use the lower half read no more than that: mmx_bytes. */
#define UNPACK(name, elem, upper, mmx_bytes)                                                       \
    UNPACK_LANE(name, elem, upper)                                                                 \
    OP(name)                                                                                       \
    {                                                                                              \
        simd_run(c, op, name##_lane, mmx_bytes);                                                   \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        vex_run(c, op, name##_lane, 0);                                                            \
    }
UNPACK(punpcklbw, u8, false, 4)
UNPACK(punpcklwd, u16, false, 4)
UNPACK(punpckldq, u32, false, 4)
UNPACK(punpcklqdq, u64, false, 8)
UNPACK(punpckhbw, u8, true, 8)
UNPACK(punpckhwd, u16, true, 8)
UNPACK(punpckhdq, u32, true, 8)
UNPACK(punpckhqdq, u64, true, 8)
UNPACK(unpcklps, u32, false, 8)
UNPACK(unpcklpd, u64, false, 8)
UNPACK(unpckhps, u32, true, 8)
UNPACK(unpckhpd, u64, true, 8)

/* ---- shuffling ---- */

SIMD(pshufb)
{
    for (unsigned i = 0; i < bytes; i++)
        r->u8[i] = b->u8[i] & 0x80 ? 0 : a->u8[b->u8[i] & (bytes - 1)];
}

/* Two bits of the immediate for each of four elements. */
static inline unsigned selector(unsigned imm, unsigned i)
{
    return imm >> (2 * i) & 3;
}

LANE(pshufw)
{
    for (unsigned i = 0; i < 4; i++)
        r->u16[i] = b->u16[selector(imm, i)];
}
OP(pshufw)
{
    simd_run(c, op, pshufw_lane, 8);
}

SIMD(pshufd)
{
    for (unsigned i = 0; i < 4; i++)
        r->u32[i] = b->u32[selector(imm, i)];
}

SIMD(pshuflw)
{
    *r = *b;
    for (unsigned i = 0; i < 4; i++)
        r->u16[i] = b->u16[selector(imm, i)];
}

SIMD(pshufhw)
{
    *r = *b;
    for (unsigned i = 0; i < 4; i++)
        r->u16[4 + i] = b->u16[4 + selector(imm, i)];
}

SIMD(shufps)
{
    for (unsigned i = 0; i < 4; i++)
        r->u32[i] = (i < 2 ? a : b)->u32[selector(imm, i)];
}

SIMD_IMM(shufpd, 2)
{
    r->u64[0] = a->u64[imm & 1];
    r->u64[1] = b->u64[imm >> 1 & 1];
}

/* Bytes imm and up of a (above) and b (below) put together; zeros come in from above. */
SIMD(palignr)
{
    for (unsigned i = 0; i < bytes; i++) {
        unsigned at = i + (imm & 0xff);
        r->u8[i] = at < bytes ? b->u8[at] : at < 2 * bytes ? a->u8[at - bytes] : 0;
    }
}

SIMD(movshdup)
{
    for (unsigned i = 0; i < 4; i++)
        r->u32[i] = b->u32[i | 1];
}

SIMD(movsldup)
{
    for (unsigned i = 0; i < 4; i++)
        r->u32[i] = b->u32[i & 2];
}

LANE(movddup)
{
    r->u64[0] = r->u64[1] = b->u64[0];
}
OP(movddup)
{
    sse_check(c);
    union simd_lane r, b = sse_source_n(c, op, 8);
    movddup_lane(&r, NULL, &b, 16, 0);
    *xmm(c, op->reg) = r;
}
/* Of one lane only the half that is used is read. */
OP(vmovddup)
{
    avx_check(c);
    union x86_vec r = {0}, b = vex_source_n(c, op, op->size == 32 ? 32 : 8);
    for (unsigned i = 0; i < op->size / 16u; i++)
        movddup_lane(vec_lane(&r, i), NULL, vec_lane(&b, i), 16, 0);
    c->s.vec[op->reg] = r;
}

/* ---- blending: b's element where a bit says so, else a's ---- */

#define BLEND(name, elem, imm_shift)                                                               \
    SIMD_IMM(name, imm_shift)                                                                      \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof r->elem[0]; i++)                                   \
            r->elem[i] = (imm >> i & 1 ? b : a)->elem[i];                                          \
    }
BLEND(blendps, u32, 4)
BLEND(blendpd, u64, 2)
BLEND(pblendw, u16, 0)

typedef void blend_fn(union simd_lane *r, const union simd_lane *a, const union simd_lane *b,
                      const union simd_lane *mask);

/* Outside of 64-bit code the register number's fourth bit is ignored. */
static const union x86_vec *register_in_immediate(const struct x86_cpu *c, const struct op *op)
{
    return &c->s.vec[op->imm >> 4 & (c->code == X86_CODE64 ? 15 : 7)];
}

static ALWAYS_INLINE void vex_blend(struct x86_cpu *c, const struct op *op, blend_fn *blend)
{
    avx_check(c);
    union x86_vec r = {0}, b = vex_source(c, op), a = c->s.vec[op->cc];
    union x86_vec mask = *register_in_immediate(c, op);
    for (unsigned i = 0; i < op->size / 16u; i++)
        blend(vec_lane(&r, i), vec_lane(&a, i), vec_lane(&b, i), vec_lane(&mask, i));
    c->s.vec[op->reg] = r;
}

/* The bits are the signs of mask's elements; legacy forms have the mask in XMM0, VEX forms in the
 * register that the immediate's upper bits name. */
#define BLEND_VARIABLE(name, elem)                                                                 \
    static inline void name##_lane(union simd_lane *r, const union simd_lane *a,                   \
                                   const union simd_lane *b, const union simd_lane *mask)          \
    {                                                                                              \
        for (unsigned i = 0; i < 16 / sizeof r->elem[0]; i++)                                      \
            r->elem[i] = (mask->elem[i] < 0 ? b : a)->elem[i];                                     \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union simd_lane r, b = sse_source(c, op);                                                  \
        name##_lane(&r, xmm(c, op->reg), &b, xmm(c, 0));                                           \
        *xmm(c, op->reg) = r;                                                                      \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        vex_blend(c, op, name##_lane);                                                             \
    }
BLEND_VARIABLE(pblendvb, i8)
BLEND_VARIABLE(blendvps, i32)
BLEND_VARIABLE(blendvpd, i64)

/* ---- widening: the low elements of the source, with zeros or signs above them ---- */

#define WIDEN(name, to, from)                                                                      \
    static ALWAYS_INLINE union x86_vec name##_vector(const union x86_vec *b, unsigned bytes)       \
    {                                                                                              \
        union x86_vec r = {0};                                                                     \
        for (unsigned i = 0; i < bytes / sizeof r.to[0]; i++)                                      \
            r.to[i] = b->from[i];                                                                  \
        return r;                                                                                  \
    }                                                                                              \
    enum {                                                                                         \
        name##_times = sizeof((union x86_vec *)0)->to[0] / sizeof((union x86_vec *)0)->from[0]     \
    };                                                                                             \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union x86_vec r, b = {0};                                                                  \
        *vec_lane(&b, 0) = sse_source_n(c, op, 16 / name##_times);                                 \
        r = name##_vector(&b, 16);                                                                 \
        *xmm(c, op->reg) = *vec_lane(&r, 0);                                                       \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        avx_check(c);                                                                              \
        union x86_vec b = vex_source_n(c, op, op->size / name##_times);                            \
        c->s.vec[op->reg] = name##_vector(&b, op->size);                                           \
    }
WIDEN(pmovsxbw, i16, i8)
WIDEN(pmovsxbd, i32, i8)
WIDEN(pmovsxbq, i64, i8)
WIDEN(pmovsxwd, i32, i16)
WIDEN(pmovsxwq, i64, i16)
WIDEN(pmovsxdq, i64, i32)
WIDEN(pmovzxbw, u16, u8)
WIDEN(pmovzxbd, u32, u8)
WIDEN(pmovzxbq, u64, u8)
WIDEN(pmovzxwd, u32, u16)
WIDEN(pmovzxwq, u64, u16)
WIDEN(pmovzxdq, u64, u32)

/* ---- single elements ---- */

/* From the XMM register reg to rm: a general register, whose upper bits are cleared, or memory. */
#define EXTRACT_CHECKED(name, elem, check)                                                         \
    OP(name)                                                                                       \
    {                                                                                              \
        check(c);                                                                                  \
        const union simd_lane *a = xmm(c, op->reg);                                                \
        __auto_type v = a->elem[op->imm & (16 / sizeof a->elem[0] - 1)];                           \
        if (op->ea == EA_REG)                                                                      \
            c->s.gpr[op->rm] = v;                                                                  \
        else                                                                                       \
            simd_store(c, op, &v, sizeof v);                                                       \
    }
#define EXTRACT(name, elem)                                                                        \
    EXTRACT_CHECKED(name, elem, sse_check)                                                         \
    EXTRACT_CHECKED(v##name, elem, avx_check)
EXTRACT(pextrb, u8)
EXTRACT(pextrw, u16)
EXTRACT(pextrd, u32)
EXTRACT(pextrq, u64)
EXTRACT(extractps, u32)

/* The older form: to the general register reg, from the MMX or XMM register rm. */
OP(pextrw_reg)
{
    if (op->size == 16) {
        sse_check(c);
        c->s.gpr[op->reg] = xmm(c, op->rm)->u16[op->imm & 7];
    } else {
        x86_mmx_enter(c);
        c->s.gpr[op->reg] = mmx_lane(c, op->rm).u16[op->imm & 3];
    }
}

OP(vpextrw_reg)
{
    avx_check(c);
    c->s.gpr[op->reg] = xmm(c, op->rm)->u16[op->imm & 7];
}

/* Into the destination, or VEX: into vvvv on its way to the destination. */
typedef union simd_lane insert_fn(struct x86_cpu *c, const struct op *op, union simd_lane r);

static ALWAYS_INLINE void sse_insert(struct x86_cpu *c, const struct op *op, insert_fn *insert)
{
    sse_check(c);
    *xmm(c, op->reg) = insert(c, op, *xmm(c, op->reg));
}
static ALWAYS_INLINE void vex_insert(struct x86_cpu *c, const struct op *op, insert_fn *insert)
{
    avx_check(c);
    vex_write_xmm(c, op->reg, insert(c, op, *xmm(c, op->cc)));
}

/* rm's low bits, from a general register or memory. */
#define INSERT(name, elem)                                                                         \
    static inline union simd_lane name##_lane(struct x86_cpu *c, const struct op *op,              \
                                              union simd_lane r)                                   \
    {                                                                                              \
        __typeof__(r.elem[0]) v;                                                                   \
        if (op->ea == EA_REG)                                                                      \
            v = (__typeof__(v))c->s.gpr[op->rm];                                                   \
        else                                                                                       \
            simd_load(c, op, &v, sizeof v);                                                        \
        r.elem[op->imm & (16 / sizeof v - 1)] = v;                                                 \
        return r;                                                                                  \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        vex_insert(c, op, name##_lane);                                                            \
    }
INSERT(pinsrb, u8)
INSERT(pinsrw, u16)
INSERT(pinsrd, u32)
INSERT(pinsrq, u64)

#define INSERT_SSE(name)                                                                           \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_insert(c, op, name##_lane);                                                            \
    }
INSERT_SSE(pinsrb)
INSERT_SSE(pinsrd)
INSERT_SSE(pinsrq)

static void pinsrw_mmx(struct x86_cpu *c, const struct op *op)
{
    x86_mmx_check(c);
    uint16_t v = (uint16_t)c->s.gpr[op->rm];
    if (op->ea != EA_REG)
        simd_load(c, op, &v, sizeof v);
    union simd_lane r = mmx_lane(c, op->reg);
    r.u16[op->imm & 3] = v;
    x86_mmx_commit(c);
    x86_mmx_write(c, op->reg, r.u64[0]);
}

OP(pinsrw)
{
    if (op->size == 16)
        sse_insert(c, op, pinsrw_lane);
    else
        pinsrw_mmx(c, op);
}

/* imm[7:6]: which element of a register source; imm[5:4]: where it goes; imm[3:0]: what is
 * cleared. */
static inline union simd_lane insertps_lane(struct x86_cpu *c, const struct op *op,
                                            union simd_lane r)
{
    union simd_lane b = sse_source_n(c, op, 4);
    unsigned imm = (unsigned)op->imm;
    r.u32[imm >> 4 & 3] = b.u32[op->ea == EA_REG ? imm >> 6 & 3 : 0];
    for (unsigned i = 0; i < 4; i++)
        if (imm >> i & 1)
            r.u32[i] = 0;
    return r;
}
INSERT_SSE(insertps)
OP(vinsertps)
{
    vex_insert(c, op, insertps_lane);
}

/* ---- signs of all elements, as the bits of a general register ---- */

#define SIGNS(name, elem)                                                                          \
    static inline uint32_t name##_bits(const union x86_vec *b, unsigned bytes)                     \
    {                                                                                              \
        uint32_t signs = 0;                                                                        \
        for (unsigned i = 0; i < bytes / sizeof b->elem[0]; i++)                                   \
            signs |= (uint32_t)(b->elem[i] < 0) << i;                                              \
        return signs;                                                                              \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        avx_check(c);                                                                              \
        const union x86_vec *b = &c->s.vec[op->rm];                                                \
        c->s.gpr[op->reg] = op->size == 32 ? name##_bits(b, 32) : name##_bits(b, 16);              \
    }
SIGNS(pmovmskb, i8)
SIGNS(movmskps, i32)
SIGNS(movmskpd, i64)

OP(pmovmskb)
{
    if (op->size == 16) {
        sse_check(c);
        c->s.gpr[op->reg] = pmovmskb_bits(&c->s.vec[op->rm], 16);
    } else {
        x86_mmx_enter(c);
        union x86_vec b = {.u64 = {x86_mmx_read(c, op->rm)}};
        c->s.gpr[op->reg] = pmovmskb_bits(&b, 8);
    }
}

OP(movmskps)
{
    sse_check(c);
    c->s.gpr[op->reg] = movmskps_bits(&c->s.vec[op->rm], 16);
}

OP(movmskpd)
{
    sse_check(c);
    c->s.gpr[op->reg] = movmskpd_bits(&c->s.vec[op->rm], 16);
}

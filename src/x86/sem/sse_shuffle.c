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

SIMD(pshufw)
{
    for (unsigned i = 0; i < 4; i++)
        r->u16[i] = b->u16[selector(imm, i)];
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

SIMD(shufpd)
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

OP(movddup)
{
    sse_check(c);
    uint64_t low = sse_source_n(c, op, 8).u64[0];
    *xmm(c, op->reg) = (union simd_lane){.u64 = {low, low}};
}

/* ---- blending: b's element where a bit says so, else a's ---- */

#define BLEND(name, elem)                                                                          \
    SIMD(name)                                                                                     \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof r->elem[0]; i++)                                   \
            r->elem[i] = (imm >> i & 1 ? b : a)->elem[i];                                          \
    }
BLEND(blendps, u32)
BLEND(blendpd, u64)
BLEND(pblendw, u16)

/* The bits are the signs of mask's elements; legacy forms have the mask in XMM0. */
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
    }
BLEND_VARIABLE(pblendvb, i8)
BLEND_VARIABLE(blendvps, i32)
BLEND_VARIABLE(blendvpd, i64)

/* ---- widening: the low elements of the source, with zeros or signs above them ---- */

#define WIDEN(name, to, from)                                                                      \
    LANE(name)                                                                                     \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof r->to[0]; i++)                                     \
            r->to[i] = b->from[i];                                                                 \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        enum {                                                                                     \
            READ =                                                                                 \
                16 / sizeof((union simd_lane *)0)->to[0] * sizeof((union simd_lane *)0)->from[0]   \
        };                                                                                         \
        sse_check(c);                                                                              \
        union simd_lane r, b = sse_source_n(c, op, READ);                                          \
        name##_lane(&r, NULL, &b, 16, 0);                                                          \
        *xmm(c, op->reg) = r;                                                                      \
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
#define EXTRACT(name, elem)                                                                        \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        const union simd_lane *a = xmm(c, op->reg);                                                \
        __auto_type v = a->elem[op->imm & (16 / sizeof a->elem[0] - 1)];                           \
        if (op->ea == EA_REG)                                                                      \
            c->s.gpr[op->rm] = v;                                                                  \
        else                                                                                       \
            simd_store(c, op, &v, sizeof v);                                                       \
    }
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

/* rm's low bits, from a general register or memory. */
#define INSERT(name, elem)                                                                         \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union simd_lane *r = xmm(c, op->reg);                                                      \
        __typeof__(r->elem[0]) v;                                                                  \
        if (op->ea == EA_REG)                                                                      \
            v = (__typeof__(v))c->s.gpr[op->rm];                                                   \
        else                                                                                       \
            simd_load(c, op, &v, sizeof v);                                                        \
        r->elem[op->imm & (16 / sizeof v - 1)] = v;                                                \
    }
INSERT(pinsrb, u8)
INSERT(pinsrd, u32)
INSERT(pinsrq, u64)
INSERT(pinsrw_xmm, u16)

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
        sem_pinsrw_xmm(c, op);
    else
        pinsrw_mmx(c, op);
}

/* imm[7:6]: which element of a register source; imm[5:4]: where it goes; imm[3:0]: what is
 * cleared. */
OP(insertps)
{
    sse_check(c);
    union simd_lane b = sse_source_n(c, op, 4), *r = xmm(c, op->reg);
    unsigned imm = (unsigned)op->imm;
    r->u32[imm >> 4 & 3] = b.u32[op->ea == EA_REG ? imm >> 6 & 3 : 0];
    for (unsigned i = 0; i < 4; i++)
        if (imm >> i & 1)
            r->u32[i] = 0;
}

/* ---- signs of all elements, as the bits of a general register ---- */

#define SIGNS(name, elem)                                                                          \
    static inline unsigned name##_lane(const union simd_lane *b, unsigned bytes)                   \
    {                                                                                              \
        unsigned signs = 0;                                                                        \
        for (unsigned i = 0; i < bytes / sizeof b->elem[0]; i++)                                   \
            signs |= (unsigned)(b->elem[i] < 0) << i;                                              \
        return signs;                                                                              \
    }
SIGNS(pmovmskb, i8)
SIGNS(movmskps, i32)
SIGNS(movmskpd, i64)

OP(pmovmskb)
{
    if (op->size == 16) {
        sse_check(c);
        c->s.gpr[op->reg] = pmovmskb_lane(xmm(c, op->rm), 16);
    } else {
        x86_mmx_enter(c);
        union simd_lane b = mmx_lane(c, op->rm);
        c->s.gpr[op->reg] = pmovmskb_lane(&b, 8);
    }
}

OP(movmskps)
{
    sse_check(c);
    c->s.gpr[op->reg] = movmskps_lane(xmm(c, op->rm), 16);
}

OP(movmskpd)
{
    sse_check(c);
    c->s.gpr[op->reg] = movmskpd_lane(xmm(c, op->rm), 16);
}

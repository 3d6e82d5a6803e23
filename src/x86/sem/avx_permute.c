/*
 * What AVX and AVX2 add to shuffle with: elements and lanes that cross from lane to lane, elements
 * that are repeated all over a register.
 */
#include "x86/sem/simd.h"

/* ---- one element, or lane, everywhere ---- */

#define BROADCAST(name, elem)                                                                      \
    OP(name)                                                                                       \
    {                                                                                              \
        avx_check(c);                                                                              \
        union x86_vec r, b = vex_source_n(c, op, sizeof b.elem[0]);                                \
        for (unsigned i = 0; i < ARRAY_LEN(r.elem); i++)                                           \
            r.elem[i] = b.elem[0];                                                                 \
        vex_write(c, op->reg, &r, op->size);                                                       \
    }
BROADCAST(vpbroadcastb, u8)
BROADCAST(vpbroadcastw, u16)
BROADCAST(vpbroadcastd, u32)
BROADCAST(vpbroadcastq, u64)

OP(vbroadcastf128)
{
    avx_check(c);
    union x86_vec r = vex_source_n(c, op, 16);
    *vec_lane(&r, 1) = *vec_lane(&r, 0);
    c->s.vec[op->reg] = r;
}

/* ---- single lanes ---- */

OP(vinsertf128)
{
    avx_check(c);
    union x86_vec b = vex_source_n(c, op, 16), r = c->s.vec[op->cc];
    *vec_lane(&r, op->imm & 1) = *vec_lane(&b, 0);
    c->s.vec[op->reg] = r;
}

OP(vextractf128)
{
    avx_check(c);
    union simd_lane v = *vec_lane(&c->s.vec[op->reg], op->imm & 1);
    if (op->ea == EA_REG)
        vex_write_xmm(c, op->rm, v);
    else
        simd_store(c, op, &v, sizeof v);
}

/* Four bits of the immediate for each lane: one of the four lanes of vvvv and the source, or (bit
 * 3) zeros. */
OP(vperm2f128)
{
    avx_check(c);
    union x86_vec r = {0}, b = vex_source_n(c, op, 32), *a = &c->s.vec[op->cc];
    for (unsigned i = 0; i < 2; i++) {
        unsigned control = (unsigned)op->imm >> (4 * i) & 15;
        if (!(control & 8))
            *vec_lane(&r, i) = *vec_lane(control & 2 ? &b : a, control & 1);
    }
    c->s.vec[op->reg] = r;
}

/* ---- elements within a lane ---- */

SIMD_VEX(vpermilps, 0)
{
    for (unsigned i = 0; i < 4; i++)
        r->u32[i] = a->u32[b->u32[i] & 3];
}

SIMD_VEX(vpermilpd, 0)
{
    for (unsigned i = 0; i < 2; i++)
        r->u64[i] = a->u64[b->u64[i] >> 1 & 1];
}

SIMD_VEX(vpermilpd_i, 2)
{
    for (unsigned i = 0; i < 2; i++)
        r->u64[i] = b->u64[imm >> i & 1];
}

/* ---- elements of the whole register: two bits of the immediate each, or an index in vvvv ---- */

OP(vpermq)
{
    avx_check(c);
    union x86_vec r, b = vex_source_n(c, op, 32);
    for (unsigned i = 0; i < 4; i++)
        r.u64[i] = b.u64[op->imm >> (2 * i) & 3];
    c->s.vec[op->reg] = r;
}

OP(vpermd)
{
    avx_check(c);
    union x86_vec r, b = vex_source_n(c, op, 32), *index = &c->s.vec[op->cc];
    for (unsigned i = 0; i < 8; i++)
        r.u32[i] = b.u32[index->u32[i] & 7];
    c->s.vec[op->reg] = r;
}

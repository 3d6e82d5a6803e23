/*
 * VEX-encoded moves between vector registers, memory and general registers: they clear what is
 * above the lanes that they write, and take what legacy forms leave as it was from VEX.vvvv.
 *
 * OPF_STORE: rm is the destination, be it a register or memory.
 */
#include "x86/sem/simd.h"

/* ---- whole registers ---- */

static ALWAYS_INLINE void vex_transfer(struct x86_cpu *c, const struct op *op, unsigned bytes,
                                       bool aligned)
{
    avx_check(c);
    bool store = op->flags & OPF_STORE;
    if (op->ea == EA_REG) {
        vex_write(c, store ? op->rm : op->reg, &c->s.vec[store ? op->reg : op->rm], bytes);
        return;
    }
    uint64_t lin = op_linear(c, op, bytes, store ? X86_WRITE : X86_READ);
    if (aligned && unlikely(lin % bytes))
        x86_raise_gp0(c);
    union x86_vec v;
    if (store) {
        simd_write(c, lin, &c->s.vec[op->reg], bytes, op->seg);
    } else {
        simd_read(c, lin, &v, bytes, op->seg);
        vex_write(c, op->reg, &v, bytes);
    }
}

static ALWAYS_INLINE void vex_move_whole(struct x86_cpu *c, const struct op *op, bool aligned)
{
    if (op->size == 32)
        vex_transfer(c, op, 32, aligned);
    else
        vex_transfer(c, op, 16, aligned);
}

#define MOVE_WHOLE(name, aligned)                                                                  \
    OP(name)                                                                                       \
    {                                                                                              \
        vex_move_whole(c, op, aligned);                                                            \
    }
MOVE_WHOLE(vmovaps, true)
MOVE_WHOLE(vmovups, false)
/* The hint that data is not used soon again is not taken. */
MOVE_WHOLE(vmovntps, true)

/* ---- scalars ---- */

#define MOVE_SCALAR(name, elem)                                                                    \
    OP(name)                                                                                       \
    {                                                                                              \
        avx_check(c);                                                                              \
        bool store = op->flags & OPF_STORE;                                                        \
        unsigned from = store ? op->reg : op->rm, to = store ? op->rm : op->reg;                   \
        union simd_lane r = *xmm(c, op->cc);                                                       \
        if (op->ea == EA_REG) {                                                                    \
            r.elem[0] = xmm(c, from)->elem[0];                                                     \
            vex_write_xmm(c, to, r);                                                               \
        } else if (store) {                                                                        \
            simd_store(c, op, xmm(c, from), sizeof r.elem[0]);                                     \
        } else {                                                                                   \
            vex_write_xmm(c, to, sse_source_n(c, op, sizeof r.elem[0]));                           \
        }                                                                                          \
    }
MOVE_SCALAR(vmovss, u32)
MOVE_SCALAR(vmovsd, u64)

/* ---- halves: the lower or upper 8 bytes, from or to memory; the other half comes from vvvv ----
 */

#define MOVE_HALF(name, half)                                                                      \
    OP(name)                                                                                       \
    {                                                                                              \
        avx_check(c);                                                                              \
        if (op->flags & OPF_STORE) {                                                               \
            simd_store(c, op, &xmm(c, op->reg)->u64[half], 8);                                     \
        } else {                                                                                   \
            union simd_lane r = *xmm(c, op->cc);                                                   \
            simd_load(c, op, &r.u64[half], 8);                                                     \
            vex_write_xmm(c, op->reg, r);                                                          \
        }                                                                                          \
    }
MOVE_HALF(vmovlps, 0)
MOVE_HALF(vmovhps, 1)

OP(vmovhlps)
{
    avx_check(c);
    vex_write_xmm(c, op->reg,
                  (union simd_lane){.u64 = {xmm(c, op->rm)->u64[1], xmm(c, op->cc)->u64[1]}});
}

OP(vmovlhps)
{
    avx_check(c);
    vex_write_xmm(c, op->reg,
                  (union simd_lane){.u64 = {xmm(c, op->cc)->u64[0], xmm(c, op->rm)->u64[0]}});
}

/* ---- between a vector register and a general register or memory ---- */

static ALWAYS_INLINE void vex_move_general(struct x86_cpu *c, const struct op *op, unsigned bytes)
{
    avx_check(c);
    if (op->flags & OPF_STORE) {
        uint64_t v = xmm(c, op->reg)->u64[0];
        if (op->ea == EA_REG)
            gpr_write(c, op->rm, bytes, v);
        else
            simd_store(c, op, &v, bytes);
    } else {
        vex_write_xmm(c, op->reg, (union simd_lane){.u64 = {op_rm_read(c, op, bytes), 0}});
    }
}

OP(vmovd)
{
    vex_move_general(c, op, 4);
}
OP(vmovq_rm)
{
    vex_move_general(c, op, 8);
}

/* ---- 8 bytes between vector registers, or memory ---- */

OP(vmovq)
{
    avx_check(c);
    bool store = op->flags & OPF_STORE;
    if (store && op->ea != EA_REG) {
        simd_store(c, op, xmm(c, op->reg), 8);
    } else {
        uint64_t v = store ? xmm(c, op->reg)->u64[0] : sse_source_n(c, op, 8).u64[0];
        vex_write_xmm(c, store ? op->rm : op->reg, (union simd_lane){.u64 = {v, 0}});
    }
}

/* ---- the upper halves ---- */

/* Registers 8 to 15 are out of reach, and so left alone, outside of 64-bit code. */
static void clear_from(struct x86_cpu *c, unsigned first_word)
{
    avx_check(c);
    unsigned count = c->code == X86_CODE64 ? 16 : 8;
    for (unsigned i = 0; i < count; i++) {
        memset(&c->s.vec[i].u64[first_word], 0, (4 - first_word) * 8);
        vex_clear_zmm(c, i);
    }
}

OP(vzeroupper)
{
    clear_from(c, 2);
}

OP(vzeroall)
{
    clear_from(c, 0);
}

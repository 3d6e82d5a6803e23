/*
 * Moves between vector registers, memory, MMX and general registers.
 *
 * OPF_STORE: rm is the destination, be it a register or memory.
 */
#include "x86/sem/simd.h"

/* ---- whole registers ---- */

static ALWAYS_INLINE void move_whole(struct x86_cpu *c, const struct op *op, bool aligned)
{
    sse_check(c);
    union simd_lane *reg = xmm(c, op->reg);
    bool store = op->flags & OPF_STORE;
    if (op->ea == EA_REG) {
        union simd_lane *rm = xmm(c, op->rm);
        *(store ? rm : reg) = *(store ? reg : rm);
    } else if (store) {
        if (aligned)
            simd_store_aligned(c, op, reg);
        else
            simd_store(c, op, reg, 16);
    } else {
        union simd_lane v; /* an all-or-nothing load */
        if (aligned)
            simd_load_aligned(c, op, &v);
        else
            simd_load(c, op, &v, 16);
        *reg = v;
    }
}

#define MOVE_ALIGNED(name)                                                                         \
    OP(name)                                                                                       \
    {                                                                                              \
        move_whole(c, op, true);                                                                   \
    }
#define MOVE_UNALIGNED(name)                                                                       \
    OP(name)                                                                                       \
    {                                                                                              \
        move_whole(c, op, false);                                                                  \
    }
MOVE_ALIGNED(movaps)
MOVE_ALIGNED(movapd)
MOVE_ALIGNED(movdqa)
MOVE_UNALIGNED(movups)
MOVE_UNALIGNED(movupd)
MOVE_UNALIGNED(movdqu)
MOVE_UNALIGNED(lddqu)

/* The hint that data is not used soon again is not taken. */
MOVE_ALIGNED(movntdqa)

#define STORE_NT(name)                                                                             \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        simd_store_aligned(c, op, xmm(c, op->reg));                                                \
    }
STORE_NT(movntps)
STORE_NT(movntpd)
STORE_NT(movntdq)

OP(movntq)
{
    x86_mmx_check(c);
    uint64_t v = x86_mmx_read(c, op->reg);
    simd_store(c, op, &v, 8);
    x86_mmx_commit(c);
}

OP(movnti)
{
    if (op->size == 8)
        simd_store(c, op, &c->s.gpr[op->reg], 8);
    else
        simd_store(c, op, &c->s.gpr[op->reg], 4);
}

/* ---- scalars: a load from memory clears what is above, a move between registers keeps it ---- */

#define MOVE_SCALAR(name, elem)                                                                    \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union simd_lane *reg = xmm(c, op->reg);                                                    \
        bool store = op->flags & OPF_STORE;                                                        \
        if (op->ea != EA_REG && store)                                                             \
            simd_store(c, op, reg, sizeof reg->elem[0]);                                           \
        else if (op->ea != EA_REG)                                                                 \
            *reg = sse_source_n(c, op, sizeof reg->elem[0]);                                       \
        else if (store)                                                                            \
            xmm(c, op->rm)->elem[0] = reg->elem[0];                                                \
        else                                                                                       \
            reg->elem[0] = xmm(c, op->rm)->elem[0];                                                \
    }
MOVE_SCALAR(movss, u32)
MOVE_SCALAR(movsd_sse, u64)

/* ---- halves: memory and the lower or upper 8 bytes ---- */

#define MOVE_HALF(name, half)                                                                      \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        uint64_t *reg = &xmm(c, op->reg)->u64[half];                                               \
        if (op->flags & OPF_STORE)                                                                 \
            simd_store(c, op, reg, 8);                                                             \
        else                                                                                       \
            simd_load(c, op, reg, 8);                                                              \
    }
MOVE_HALF(movlps, 0)
MOVE_HALF(movlpd, 0)
MOVE_HALF(movhps, 1)
MOVE_HALF(movhpd, 1)

OP(movhlps)
{
    sse_check(c);
    xmm(c, op->reg)->u64[0] = xmm(c, op->rm)->u64[1];
}

OP(movlhps)
{
    sse_check(c);
    xmm(c, op->reg)->u64[1] = xmm(c, op->rm)->u64[0];
}

/* ---- between a vector register and a general register or memory: MOVD, MOVQ with REX.W ---- */

static ALWAYS_INLINE void vector_write_low(struct x86_cpu *c, const struct op *op, uint64_t v)
{
    if (op->size == 16)
        *xmm(c, op->reg) = (union simd_lane){.u64 = {v, 0}};
    else
        x86_mmx_write(c, op->reg, v);
}

static ALWAYS_INLINE void move_general(struct x86_cpu *c, const struct op *op, unsigned bytes)
{
    bool mmx = op->size != 16, store = op->flags & OPF_STORE;
    if (mmx)
        x86_mmx_check(c);
    else
        sse_check(c);
    uint64_t v = 0;
    if (!store && op->ea == EA_REG)
        v = gpr_read(c, op->rm, bytes);
    else if (!store)
        simd_load(c, op, &v, bytes);
    else
        v = mmx ? x86_mmx_read(c, op->reg) : xmm(c, op->reg)->u64[0];

    if (store && op->ea != EA_REG)
        simd_store(c, op, &v, bytes);
    if (mmx)
        x86_mmx_commit(c);
    if (!store)
        vector_write_low(c, op, v);
    else if (op->ea == EA_REG)
        gpr_write(c, op->rm, bytes, v);
}

OP(movd)
{
    move_general(c, op, 4);
}
OP(movq_rm)
{
    move_general(c, op, 8);
}

/* ---- 8 bytes between vector registers of one kind, or memory ---- */

static void movq_mmx(struct x86_cpu *c, const struct op *op)
{
    bool store = op->flags & OPF_STORE;
    x86_mmx_check(c);
    uint64_t v = store ? x86_mmx_read(c, op->reg) : mmx_source_n(c, op, 8).u64[0];
    if (store && op->ea != EA_REG)
        simd_store(c, op, &v, 8);
    x86_mmx_commit(c);
    if (!store)
        x86_mmx_write(c, op->reg, v);
    else if (op->ea == EA_REG)
        x86_mmx_write(c, op->rm, v);
}

static void movq_xmm(struct x86_cpu *c, const struct op *op)
{
    sse_check(c);
    if (!(op->flags & OPF_STORE))
        *xmm(c, op->reg) = (union simd_lane){.u64 = {sse_source_n(c, op, 8).u64[0], 0}};
    else if (op->ea == EA_REG)
        *xmm(c, op->rm) = (union simd_lane){.u64 = {xmm(c, op->reg)->u64[0], 0}};
    else
        simd_store(c, op, xmm(c, op->reg), 8);
}

OP(movq)
{
    if (op->size == 16)
        movq_xmm(c, op);
    else
        movq_mmx(c, op);
}

OP(movq2dq)
{
    sse_check(c);
    x86_mmx_enter(c);
    *xmm(c, op->reg) = mmx_lane(c, op->rm);
}

OP(movdq2q)
{
    sse_check(c);
    x86_mmx_enter(c);
    x86_mmx_write(c, op->reg, xmm(c, op->rm)->u64[0]);
}

/* ---- bytes chosen by a mask, to rDI ---- */

/* Only chosen bytes are written: another vCPU may write those between them meanwhile. Faults are
 * those of the whole operand, whatever is chosen: what the manual leaves open, as AMD's processors
 * do it. */
static void store_masked(struct x86_cpu *c, const struct op *op, const uint8_t *from,
                         const uint8_t *mask, unsigned n)
{
    uint64_t offset = c->s.gpr[X86_RDI];
    if (op->flags & OPF_ADDR32)
        offset = (uint32_t)offset;
    else if (op->flags & OPF_ADDR16)
        offset = (uint16_t)offset;
    uint64_t lin = x86_linear(c, op->seg, offset, n, X86_WRITE);
    for (unsigned i = 0; i < n; i += 8)
        x86_probe_write(c, lin + i, 8, op->seg);
    for (unsigned i = 0; i < n; i++)
        if (mask[i] & 0x80)
            x86_write8(c, lin + i, from[i], op->seg);
}

OP(maskmovdqu)
{
    sse_check(c);
    store_masked(c, op, xmm(c, op->reg)->u8, xmm(c, op->rm)->u8, 16);
}

OP(vmaskmovdqu)
{
    avx_check(c);
    store_masked(c, op, xmm(c, op->reg)->u8, xmm(c, op->rm)->u8, 16);
}

OP(maskmovq)
{
    /* The x87's tags and TOP change even if the store faults, as with AMD's processors. */
    x86_mmx_enter(c);
    union simd_lane from = mmx_lane(c, op->reg), mask = mmx_lane(c, op->rm);
    store_masked(c, op, from.u8, mask.u8, 8);
}

/*
 * What the MMX, SSE and AVX instructions are written with.
 *
 * A vector is a row of lanes; a lane is 16 bytes of an XMM or YMM register, or the 8 of an MMX
 * register. An instruction is a function on lanes (SIMD() and LANE() below), and knows nothing of
 * where its operands come from: the VEX-encoded forms, with three operands and of up to two lanes,
 * call the same function for each of their lanes. What is round it is here: may the guest use the
 * instruction at all, fetch the operands, store the result.
 *
 * The order is the same everywhere, since a fault must leave nothing changed: check, read memory,
 * compute, report floating-point exceptions, commit.
 */
#ifndef DOPPEL_X86_SEM_SIMD_H
#define DOPPEL_X86_SEM_SIMD_H

#include "x86/fpu.h"
#include "x86/sem/op.h"
#include "x86/softfloat.h"

union simd_lane {
    uint8_t u8[16];
    int8_t i8[16];
    uint16_t u16[8];
    int16_t i16[8];
    uint32_t u32[4];
    int32_t i32[4];
    uint64_t u64[2];
    int64_t i64[2];
};

/* The low lane of a vector register. Legacy SSE instructions leave what is above it alone. */
static ALWAYS_INLINE union simd_lane *xmm(struct x86_cpu *c, unsigned n)
{
    return (union simd_lane *)&c->s.vec[n & 15];
}

/* ---- may it run (SDM 2, table 2-21 and 3, table 13-1) ---- */

/* #UD without CR4.OSFXSR or with CR0.EM, else #NM for CR0.TS. */
_Noreturn COLD void x86_sse_unavailable(struct x86_cpu *c);

static ALWAYS_INLINE void sse_check(struct x86_cpu *c)
{
    if (unlikely(c->no_sse))
        x86_sse_unavailable(c);
}

/* #UD unless the system has enabled AVX, else #NM for CR0.TS. */
_Noreturn COLD void x86_avx_unavailable(struct x86_cpu *c);

static ALWAYS_INLINE void avx_check(struct x86_cpu *c)
{
    if (unlikely(c->no_avx))
        x86_avx_unavailable(c);
}

/* ---- memory operands: n is a constant, so that all but one line goes away ---- */

static ALWAYS_INLINE void simd_read(struct x86_cpu *c, uint64_t lin, void *to, unsigned n,
                                    unsigned seg)
{
    switch (n) {
    case 1: *(uint8_t *)to = x86_read8(c, lin, seg); return;
    case 2: store_u16(to, x86_read16(c, lin, seg)); return;
    case 4: store_u32(to, x86_read32(c, lin, seg)); return;
    case 8: store_u64(to, x86_read64(c, lin, seg)); return;
    }
    const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
    if (likely(((lin + n - 1) & X86_PAGE_MASK) == e->read))
        memcpy(to, (const void *)(e->addend + lin), n);
    else
        x86_read_bytes(c, lin, to, n, seg);
}

static ALWAYS_INLINE void simd_write(struct x86_cpu *c, uint64_t lin, const void *from, unsigned n,
                                     unsigned seg)
{
    switch (n) {
    case 1: x86_write8(c, lin, *(const uint8_t *)from, seg); return;
    case 2: x86_write16(c, lin, load_u16(from), seg); return;
    case 4: x86_write32(c, lin, load_u32(from), seg); return;
    case 8: x86_write64(c, lin, load_u64(from), seg); return;
    }
    const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
    if (likely(((lin + n - 1) & X86_PAGE_MASK) == e->write))
        memcpy((void *)(e->addend + lin), from, n);
    else
        x86_write_bytes(c, lin, from, n, seg);
}

/* The operand at op's address, at any alignment. */
static ALWAYS_INLINE void simd_load(struct x86_cpu *c, const struct op *op, void *to, unsigned n)
{
    simd_read(c, op_linear(c, op, n, X86_READ), to, n, op->seg);
}
static ALWAYS_INLINE void simd_store(struct x86_cpu *c, const struct op *op, const void *from,
                                     unsigned n)
{
    simd_write(c, op_linear(c, op, n, X86_WRITE), from, n, op->seg);
}

/* 16 bytes that must be aligned: #GP(0) otherwise, whatever the segment. */
static ALWAYS_INLINE void simd_load_aligned(struct x86_cpu *c, const struct op *op,
                                            union simd_lane *to)
{
    uint64_t lin = op_linear(c, op, sizeof *to, X86_READ);
    if (unlikely(lin % sizeof *to))
        x86_raise_gp0(c);
    simd_read(c, lin, to, sizeof *to, op->seg);
}
static ALWAYS_INLINE void simd_store_aligned(struct x86_cpu *c, const struct op *op,
                                             const union simd_lane *from)
{
    uint64_t lin = op_linear(c, op, sizeof *from, X86_WRITE);
    if (unlikely(lin % sizeof *from))
        x86_raise_gp0(c);
    simd_write(c, lin, from, sizeof *from, op->seg);
}

/* ---- source operands: the rm operand, register or memory ---- */

static ALWAYS_INLINE union simd_lane sse_source(struct x86_cpu *c, const struct op *op)
{
    union simd_lane v;
    if (op->ea == EA_REG)
        v = *xmm(c, op->rm);
    else
        simd_load_aligned(c, op, &v);
    return v;
}

/* An XMM register, or n bytes of memory (and zeros above them). */
static ALWAYS_INLINE union simd_lane sse_source_n(struct x86_cpu *c, const struct op *op,
                                                  unsigned n)
{
    union simd_lane v = {0};
    if (op->ea == EA_REG)
        v = *xmm(c, op->rm);
    else
        simd_load(c, op, &v, n);
    return v;
}

/* An MMX register or n bytes of memory, in the low half of a lane. */
static ALWAYS_INLINE union simd_lane mmx_source_n(struct x86_cpu *c, const struct op *op,
                                                  unsigned n)
{
    union simd_lane v = {0};
    if (op->ea == EA_REG)
        v.u64[0] = x86_mmx_read(c, op->rm);
    else
        simd_load(c, op, &v, n);
    return v;
}

static inline union simd_lane mmx_lane(const struct x86_cpu *c, unsigned n)
{
    return (union simd_lane){.u64 = {x86_mmx_read(c, n), 0}};
}

/* ---- VEX-encoded forms: op->size is 16 or 32, op->cc VEX.vvvv ---- */

/* Lane i of a vector. */
static ALWAYS_INLINE union simd_lane *vec_lane(union x86_vec *v, unsigned i)
{
    return (union simd_lane *)&v->u8[16 * i];
}

/* VEX-encoded forms clear what is above 256 bits, where the processor has AVX-512. Most of them run
 * natively then (x86/native.h); the others say so. */
static ALWAYS_INLINE void vex_clear_zmm(struct x86_cpu *c, unsigned n)
{
    for (unsigned i = 0; i < 4; i++)
        c->s.zmm_upper[n & 15][i] = 0;
}

/* The first `bytes` of v go to register n, and zeros above them. */
static ALWAYS_INLINE void vex_write(struct x86_cpu *c, unsigned n, const union x86_vec *v,
                                    unsigned bytes)
{
    union x86_vec r = *v;
    if (bytes == 16)
        r.u64[2] = r.u64[3] = 0;
    c->s.vec[n & 15] = r;
}
static ALWAYS_INLINE void vex_write_xmm(struct x86_cpu *c, unsigned n, union simd_lane v)
{
    c->s.vec[n & 15] = (union x86_vec){.u64 = {v.u64[0], v.u64[1]}};
    vex_clear_zmm(c, n);
}

/* The rm operand: a register, or n bytes of memory (and zeros above them), aligned or not. */
static ALWAYS_INLINE union x86_vec vex_source_n(struct x86_cpu *c, const struct op *op, unsigned n)
{
    union x86_vec v = {0};
    if (op->ea == EA_REG)
        v = c->s.vec[op->rm & 15];
    else
        simd_load(c, op, &v, n);
    return v;
}
static ALWAYS_INLINE union x86_vec vex_source(struct x86_cpu *c, const struct op *op)
{
    return op->size == 32 ? vex_source_n(c, op, 32) : vex_source_n(c, op, 16);
}

/* ---- instructions without floating-point exceptions ---- */

/* r = op(a, b), for the first `bytes` (8 or 16) of the lane. r is neither a nor b. */
typedef void simd_lane_fn(union simd_lane *r, const union simd_lane *a, const union simd_lane *b,
                          unsigned bytes, unsigned imm);

/* destination = lane(destination, source). MMX forms read mmx_bytes from memory. */
static ALWAYS_INLINE void simd_run(struct x86_cpu *c, const struct op *op, simd_lane_fn *lane,
                                   unsigned mmx_bytes)
{
    union simd_lane r;
    if (likely(op->size == 16)) {
        sse_check(c);
        union simd_lane b = sse_source(c, op);
        lane(&r, xmm(c, op->reg), &b, 16, (unsigned)op->imm);
        *xmm(c, op->reg) = r;
    } else {
        x86_mmx_check(c);
        union simd_lane a = mmx_lane(c, op->reg), b = mmx_source_n(c, op, mmx_bytes);
        /* MMX forms set all 8 bytes. NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
        lane(&r, &a, &b, 8, (unsigned)op->imm);
        x86_mmx_commit(c);
        x86_mmx_write(c, op->reg, r.u64[0]); /* NOLINT(clang-analyzer-core.CallAndMessage) */
    }
}

/* The same for a VEX form: destination = lane(vvvv, source), lane by lane. Lane i sees the
 * immediate moved down by i * imm_shift. Forms without vvvv have a lane function that does not look
 * at a. */
static ALWAYS_INLINE void vex_run(struct x86_cpu *c, const struct op *op, simd_lane_fn *lane,
                                  unsigned imm_shift)
{
    avx_check(c);
    union x86_vec r = {0}, b = vex_source(c, op), *a = &c->s.vec[op->cc & 15];
    for (unsigned i = 0; i < op->size / 16u; i++)
        lane(vec_lane(&r, i), vec_lane(a, i), vec_lane(&b, i), 16,
             (unsigned)op->imm >> (i * imm_shift));
    c->s.vec[op->reg & 15] = r;
}

#define LANE(name)                                                                                 \
    static inline void name##_lane(union simd_lane *r, const union simd_lane *a,                   \
                                   const union simd_lane *b, unsigned bytes, unsigned imm)

/* An instruction, MMX, SSE and AVX in one, whose braces compute *r from *a and *b. The VEX form is
 * called v##name; of its immediate each lane takes imm_shift bits (0: all lanes see all of it). */
#define SIMD_IMM(name, imm_shift)                                                                  \
    LANE(name);                                                                                    \
    OP(name)                                                                                       \
    {                                                                                              \
        simd_run(c, op, name##_lane, 8);                                                           \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        vex_run(c, op, name##_lane, imm_shift);                                                    \
    }                                                                                              \
    LANE(name)
#define SIMD(name) SIMD_IMM(name, 0)

/* One that has a VEX form only. */
#define SIMD_VEX(name, imm_shift)                                                                  \
    LANE(name);                                                                                    \
    OP(name)                                                                                       \
    {                                                                                              \
        vex_run(c, op, name##_lane, imm_shift);                                                    \
    }                                                                                              \
    LANE(name)

/* The same where each element of r is an expression of the elements x of a and y of b. */
#define EACH_ELEMENT(elem, expr)                                                                   \
    {                                                                                              \
        for (unsigned i = 0; i < bytes / sizeof r->elem[0]; i++) {                                 \
            __auto_type x = a->elem[i];                                                            \
            __auto_type y = b->elem[i];                                                            \
            (void)x, (void)y;                                                                      \
            r->elem[i] = (__typeof__(x))(expr);                                                    \
        }                                                                                          \
    }
#define EACH(name, elem, expr)     SIMD(name) EACH_ELEMENT(elem, expr)
#define EACH_VEX(name, elem, expr) SIMD_VEX(name, 0) EACH_ELEMENT(elem, expr)

/* ---- instructions with floating-point exceptions ---- */

/* Reports what env collected: sets MXCSR's flags, and raises #XM (#UD without CR4.OSXMMEXCPT) if
 * an unmasked one is among them. */
void x86_sse_report(struct x86_cpu *c, const struct sf_env *env);

/* r = op(a, b) for one whole lane, flags collected in env. Scalar forms take the upper elements of
 * r from a. */
typedef void simd_float_fn(struct sf_env *env, union simd_lane *r, const union simd_lane *a,
                           const union simd_lane *b, unsigned imm);

#define FLOAT_LANE(name)                                                                           \
    static inline void name##_lane(struct sf_env *env, union simd_lane *r,                         \
                                   const union simd_lane *a, const union simd_lane *b,             \
                                   unsigned imm)

/* destination = lane(destination, source); memory operands have mem_bytes, aligned if they are
 * whole. */
static ALWAYS_INLINE void float_run(struct x86_cpu *c, const struct op *op, simd_float_fn *lane,
                                    unsigned mem_bytes, unsigned imm)
{
    sse_check(c);
    union simd_lane b = mem_bytes == 16 ? sse_source(c, op) : sse_source_n(c, op, mem_bytes);
    union simd_lane r;
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    lane(&env, &r, xmm(c, op->reg), &b, imm);
    x86_sse_report(c, &env);
    *xmm(c, op->reg) = r;
}

/* The same for a VEX form: destination = lane(vvvv, source). Scalar ones (mem_bytes below 16) are
 * of one lane, whatever VEX.L says; the exceptions of all elements are reported as one. */
static ALWAYS_INLINE void vex_float_run(struct x86_cpu *c, const struct op *op, simd_float_fn *lane,
                                        unsigned mem_bytes, unsigned imm)
{
    avx_check(c);
    unsigned lanes = mem_bytes == 16 ? op->size / 16u : 1;
    union x86_vec r = {0}, *a = &c->s.vec[op->cc & 15];
    union x86_vec b = mem_bytes == 16 ? vex_source(c, op) : vex_source_n(c, op, mem_bytes);
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    for (unsigned i = 0; i < lanes; i++)
        lane(&env, vec_lane(&r, i), vec_lane(a, i), vec_lane(&b, i), imm);
    x86_sse_report(c, &env);
    c->s.vec[op->reg & 15] = r;
}

/* An instruction, SSE and AVX in one, whose braces compute the lane *r; memory operands have
 * mem_bytes, or are as wide as the vector if that is 16. */
#define FLOAT(name, mem_bytes)                                                                     \
    FLOAT_LANE(name);                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        float_run(c, op, name##_lane, mem_bytes, (unsigned)op->imm);                               \
    }                                                                                              \
    OP(v##name)                                                                                    \
    {                                                                                              \
        vex_float_run(c, op, name##_lane, mem_bytes, (unsigned)op->imm);                           \
    }                                                                                              \
    FLOAT_LANE(name)

#endif

/*
 * What the integer semantics share: operands whose size is a compile-time constant.
 *
 * Included by int_*.c only. `bits` is 8, 16, 32 or 64 and always a constant, so that every function
 * here folds to a handful of instructions.
 */
#ifndef DOPPEL_X86_SEM_HOT_H
#define DOPPEL_X86_SEM_HOT_H

#include "x86/sem/op.h"

static ALWAYS_INLINE uint64_t lin_read(struct x86_cpu *c, uint64_t lin, unsigned seg, unsigned bits)
{
    switch (bits) {
    case 8: return x86_read8(c, lin, seg);
    case 16: return x86_read16(c, lin, seg);
    case 32: return x86_read32(c, lin, seg);
    default: return x86_read64(c, lin, seg);
    }
}

static ALWAYS_INLINE void lin_write(struct x86_cpu *c, uint64_t lin, unsigned seg, uint64_t v,
                                    unsigned bits)
{
    switch (bits) {
    case 8: x86_write8(c, lin, (uint8_t)v, seg); break;
    case 16: x86_write16(c, lin, (uint16_t)v, seg); break;
    case 32: x86_write32(c, lin, (uint32_t)v, seg); break;
    default: x86_write64(c, lin, v, seg); break;
    }
}

static ALWAYS_INLINE uint64_t host_read(const void *p, unsigned bits)
{
    switch (bits) {
    case 8: return load_u8(p);
    case 16: return load_u16(p);
    case 32: return load_u32(p);
    default: return load_u64(p);
    }
}

static ALWAYS_INLINE void host_write(void *p, uint64_t v, unsigned bits)
{
    switch (bits) {
    case 8: store_u8(p, (uint8_t)v); break;
    case 16: store_u16(p, (uint16_t)v); break;
    case 32: store_u32(p, (uint32_t)v); break;
    default: store_u64(p, v); break;
    }
}

static ALWAYS_INLINE uint64_t reg_get(const struct x86_cpu *c, const struct op *op, unsigned bits)
{
    return gpr_read(c, op->reg, bits / 8);
}
static ALWAYS_INLINE void reg_set(struct x86_cpu *c, const struct op *op, uint64_t v, unsigned bits)
{
    gpr_write(c, op->reg, bits / 8, v);
}
static ALWAYS_INLINE uint64_t rm_get(const struct x86_cpu *c, const struct op *op, unsigned bits)
{
    return gpr_read(c, op->rm, bits / 8);
}
static ALWAYS_INLINE void rm_set(struct x86_cpu *c, const struct op *op, uint64_t v, unsigned bits)
{
    gpr_write(c, op->rm, bits / 8, v);
}
static ALWAYS_INLINE uint64_t mem_get(struct x86_cpu *c, const struct op *op, unsigned bits)
{
    return lin_read(c, op_linear(c, op, bits / 8, X86_READ), op->seg, bits);
}
static ALWAYS_INLINE void mem_set(struct x86_cpu *c, const struct op *op, uint64_t v, unsigned bits)
{
    lin_write(c, op_linear(c, op, bits / 8, X86_WRITE), op->seg, v, bits);
}

/* The rm operand, register or memory, where one function serves both. */
static ALWAYS_INLINE uint64_t rm_value(struct x86_cpu *c, const struct op *op, unsigned bits)
{
    return op->ea == EA_REG ? rm_get(c, op, bits) : mem_get(c, op, bits);
}

static ALWAYS_INLINE uint64_t cut(uint64_t v, unsigned bits)
{
    return bits == 64 ? v : v & (BIT(bits & 63) - 1);
}

/* ---- status flags from results (flags.h says what the words mean) ---- */

static ALWAYS_INLINE void cc_logic(struct x86_cpu *c, uint64_t r, unsigned bits)
{
    c->cc.result = bits_sign_extend(r, bits);
    c->cc.aux = 0;
}

static ALWAYS_INLINE uint64_t cc_carries(uint64_t k, unsigned bits)
{
    if (bits == 64)
        return k & (BIT(63) | BIT(62) | BIT(3));
    return k << (64 - bits) | (k & BIT(3));
}

/* The carry-out vectors of a + b (+ carry) = r and a - b (- borrow) = r. */
static ALWAYS_INLINE uint64_t carries_of_add(uint64_t a, uint64_t b, uint64_t r)
{
    return (a & b) | ((a | b) & ~r);
}
static ALWAYS_INLINE uint64_t carries_of_sub(uint64_t a, uint64_t b, uint64_t r)
{
    return (~a & b) | ((~a | b) & r);
}

/* Sets all six flags of an arithmetic result. */
static ALWAYS_INLINE void cc_arith(struct x86_cpu *c, uint64_t r, uint64_t carries, unsigned bits)
{
    c->cc.result = bits_sign_extend(r, bits);
    c->cc.aux = cc_carries(carries, bits);
}

/* Flags of a - b, as CMP sets them, for a size known at run time. */
static inline void cc_compare(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned size)
{
    a = cut(a, size * 8);
    b = cut(b, size * 8);
    cc_arith(c, a - b, carries_of_sub(a, b, a - b), size * 8);
}

/* Sets ZF, SF and PF from r, and CF and OF as given; AF is cleared. */
static ALWAYS_INLINE void cc_result_cf_of(struct x86_cpu *c, uint64_t r, bool cf, bool of,
                                          unsigned bits)
{
    c->cc.result = bits_sign_extend(r, bits);
    c->cc.aux = (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62;
}

/*
 * ---- operations on memory ----
 *
 * The hot entry does what needs no call: an address without segment checks that hits the TLB.
 * Anything else goes, as a whole, to a general twin of the same body (segments, TLB misses, MMIO,
 * faults), so that the hot one needs no stack frame. The body is written once, as a function of the
 * operand's value:
 *
 *   OP_LOAD(name, bits)   { uses m }
 *   OP_STORE(name, bits)  { returns what is stored; changes nothing }
 *   OP_RMW(name, bits)    { returns what replaces m; changes nothing but c->cc }
 */
static ALWAYS_INLINE void *op_host(const struct x86_cpu *c, const struct op *op, unsigned bytes,
                                   bool write)
{
    uint64_t lin = c->s.gpr[op->base] + (c->s.gpr[op->index] << op->scale) + (int64_t)op->disp;
    if (unlikely(op->ea != EA_FLAT)) {
        if (op->ea == EA_BASE)
            lin += c->s.seg[op->seg].base;
        else if (op->ea == EA_FLAT32 && c->flat[op->seg])
            lin = (uint32_t)lin;
        else
            return NULL;
    }
    const struct tlb_entry *e = &c->tlb->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
    if (unlikely(((lin + bytes - 1) & X86_PAGE_MASK) != (write ? e->write : e->read)))
        return NULL;
    return (void *)(e->addend + lin);
}

#define OP_LOAD(name, bits)                                                                        \
    static ALWAYS_INLINE void sem_##name(struct x86_cpu *c, const struct op *op, uint64_t m);      \
    static COLD const struct op *general_##name(struct x86_cpu *c, const struct op *op)            \
    {                                                                                              \
        sem_##name(c, op, mem_get(c, op, bits));                                                   \
        return op + 1;                                                                             \
    }                                                                                              \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        const void *p = op_host(c, op, (bits) / 8, false);                                         \
        if (unlikely(!p))                                                                          \
            return general_##name(c, op);                                                          \
        sem_##name(c, op, host_read(p, bits));                                                     \
        OP_NEXT(c, op + 1);                                                                        \
    }                                                                                              \
    static ALWAYS_INLINE void sem_##name(struct x86_cpu *c, const struct op *op, uint64_t m)

#define OP_STORE(name, bits)                                                                       \
    static ALWAYS_INLINE uint64_t sem_##name(struct x86_cpu *c, const struct op *op);              \
    static COLD const struct op *general_##name(struct x86_cpu *c, const struct op *op)            \
    {                                                                                              \
        mem_set(c, op, sem_##name(c, op), bits);                                                   \
        return op + 1;                                                                             \
    }                                                                                              \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        void *p = op_host(c, op, (bits) / 8, true);                                                \
        if (unlikely(!p))                                                                          \
            return general_##name(c, op);                                                          \
        host_write(p, sem_##name(c, op), bits);                                                    \
        OP_NEXT(c, op + 1);                                                                        \
    }                                                                                              \
    static ALWAYS_INLINE uint64_t sem_##name(struct x86_cpu *c, const struct op *op)

/* The general way of RMW keeps the flags as they were until the write is done, since the write can
 * begin the instruction again (a code page). */
#define OP_RMW(name, bits)                                                                         \
    static ALWAYS_INLINE uint64_t sem_##name(struct x86_cpu *c, const struct op *op, uint64_t m);  \
    static COLD const struct op *general_##name(struct x86_cpu *c, const struct op *op)            \
    {                                                                                              \
        uint64_t lin = op_linear(c, op, (bits) / 8, X86_RMW);                                      \
        x86_probe_write(c, lin, (bits) / 8, op->seg);                                              \
        uint64_t m = lin_read(c, lin, op->seg, bits);                                              \
        struct x86_cc before = c->cc;                                                              \
        uint64_t r = sem_##name(c, op, m);                                                         \
        struct x86_cc after = c->cc;                                                               \
        c->cc = before;                                                                            \
        lin_write(c, lin, op->seg, r, bits);                                                       \
        c->cc = after;                                                                             \
        return op + 1;                                                                             \
    }                                                                                              \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        void *p = op_host(c, op, (bits) / 8, true);                                                \
        if (unlikely(!p))                                                                          \
            return general_##name(c, op);                                                          \
        host_write(p, sem_##name(c, op, host_read(p, bits)), bits);                                \
        OP_NEXT(c, op + 1);                                                                        \
    }                                                                                              \
    static ALWAYS_INLINE uint64_t sem_##name(struct x86_cpu *c, const struct op *op, uint64_t m)

/*
 * Read-modify-write under LOCK, for a size known at run time: `compute` is an expression of the old
 * value `m` that may set c->cc; it may be evaluated several times, each with the flags as they
 * were.
 */
uint64_t x86_host_load(const void *p, unsigned size);
bool x86_host_cas(void *p, unsigned size, uint64_t *expected, uint64_t desired);

#define MEM_LOCKED(size, compute)                                                                  \
    do {                                                                                           \
        uint64_t lin_ = op_linear(c, op, (size), X86_RMW);                                         \
        void *p_ = x86_lock_begin(c, lin_, (size), op->seg);                                       \
        struct x86_cc before_ = c->cc;                                                             \
        uint64_t m = p_ ? x86_host_load(p_, (size)) : lin_read_size(c, lin_, op->seg, (size));     \
        for (;;) {                                                                                 \
            c->cc = before_;                                                                       \
            uint64_t r_ = (compute);                                                               \
            if (!p_) {                                                                             \
                lin_write_size(c, lin_, op->seg, r_, (size));                                      \
                x86_lock_end(c);                                                                   \
                break;                                                                             \
            }                                                                                      \
            if (x86_host_cas(p_, (size), &m, r_))                                                  \
                break;                                                                             \
        }                                                                                          \
    } while (0)

/* The host address of a quadword on the flat 64-bit stack at sp, or NULL: go the general way. */
static ALWAYS_INLINE void *stack_host(const struct x86_cpu *c, uint64_t sp, bool write)
{
    const struct tlb_entry *e = &c->tlb->entry[(sp >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
    if (unlikely(((sp + 7) & X86_PAGE_MASK) != (write ? e->write : e->read)))
        return NULL;
    return (void *)(e->addend + sp);
}

/* RET that is not the 64-bit one: pops and returns the target. int_stack.c. */
uint64_t x86_ret_slow(struct x86_cpu *c, const struct op *op);

uint64_t lin_read_size(struct x86_cpu *c, uint64_t lin, unsigned seg, unsigned size);
void lin_write_size(struct x86_cpu *c, uint64_t lin, unsigned seg, uint64_t v, unsigned size);

/* A SEM_BY_PATTERN table of one function per pattern and size, named op_<name>_<pattern><bits>. */
#define BY_SIZE(name) op_##name##8, op_##name##16, op_##name##32, op_##name##64
#define NO_SIZE       NULL, NULL, NULL, NULL

#endif

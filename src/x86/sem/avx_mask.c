/*
 * Memory operands of which only chosen elements are accessed: masked moves, and gathers, whose
 * elements each have an address of their own.
 *
 * An element is chosen by its sign bit in the mask. What is not chosen is not accessed, so it can't
 * fault, and another vCPU may write it meanwhile.
 */
#include "x86/sem/block.h"
#include "x86/sem/simd.h"

/* ---- masked moves: the mask is vvvv ---- */

static uint64_t element_linear(struct x86_cpu *c, const struct op *op, unsigned i, unsigned bytes,
                               unsigned access)
{
    return x86_linear(c, op->seg, op_offset(c, op) + i * bytes, bytes, access);
}

#define MASKED_MOVE(name, bits)                                                                    \
    static void name##_load(struct x86_cpu *c, const struct op *op, const union x86_vec *mask)     \
    {                                                                                              \
        union x86_vec r = {0};                                                                     \
        for (unsigned i = 0; i < op->size * 8u / bits; i++) {                                      \
            if (mask->i##bits[i] >= 0)                                                             \
                continue;                                                                          \
            uint64_t lin = element_linear(c, op, i, bits / 8, X86_READ);                           \
            r.u##bits[i] = (uint##bits##_t)x86_read_element(c, lin, bits / 8, op->seg);            \
        }                                                                                          \
        c->s.vec[op->reg] = r;                                                                     \
        vex_clear_zmm(c, op->reg);                                                                 \
    }                                                                                              \
    static void name##_store(struct x86_cpu *c, const struct op *op, const union x86_vec *mask)    \
    {                                                                                              \
        uint64_t lin[256 / bits];                                                                  \
        unsigned count = op->size * 8u / bits;                                                     \
        for (unsigned i = 0; i < count; i++) {                                                     \
            if (mask->i##bits[i] >= 0)                                                             \
                continue;                                                                          \
            lin[i] = element_linear(c, op, i, bits / 8, X86_WRITE);                                \
            x86_probe_element(c, lin[i], bits / 8, X86_WRITE, op->seg);                            \
        }                                                                                          \
        for (unsigned i = 0; i < count; i++)                                                       \
            if (mask->i##bits[i] < 0)                                                              \
                x86_write_element(c, lin[i], bits / 8, c->s.vec[op->reg].u##bits[i], op->seg);     \
    }                                                                                              \
    OP(name)                                                                                       \
    {                                                                                              \
        avx_check(c);                                                                              \
        union x86_vec mask = c->s.vec[op->cc];                                                     \
        if (op->flags & OPF_STORE)                                                                 \
            name##_store(c, op, &mask);                                                            \
        else                                                                                       \
            name##_load(c, op, &mask);                                                             \
    }
MASKED_MOVE(vmaskmovps, 32)
MASKED_MOVE(vmaskmovpd, 64)

/* ---- gathers: op->index is a vector register, the mask is vvvv ---- */

static uint64_t gather_linear(struct x86_cpu *c, const struct op *op, int64_t index, unsigned bytes)
{
    uint64_t offset =
        c->s.gpr[op->base] + ((uint64_t)index << op->scale) + (uint64_t)(int64_t)op->disp;
    if (op->flags & OPF_ADDR32)
        offset = (uint32_t)offset;
    return x86_linear(c, op->seg, offset, bytes, X86_READ);
}

/* Whether loading the element at an index would raise a fault. */
static bool element_faults(struct x86_cpu *c, const struct op *op, int64_t index, unsigned bytes)
{
    jmp_buf outer;
    memcpy(&outer, &c->fault_jump, sizeof outer);
    volatile bool faults = true;
    if (setjmp(c->fault_jump) == 0) {
        x86_probe_element(c, gather_linear(c, op, index, bytes), bytes, X86_READ, op->seg);
        faults = false;
    }
    memcpy(&c->fault_jump, &outer, sizeof outer);
    return faults;
}

/*
 * Elements are loaded from the lowest up, and those that are done with are no longer chosen: after
 * a fault the instruction goes on where it was when it is begun again (SDM 2, VPGATHERDD). A single
 * step's trap comes before the fault of an element behind others that were loaded. In the end the
 * whole mask is clear. bits: of an element; kind: of the index elements.
 */
#define GATHER(name, bits, kind)                                                                   \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        c->op = op;                                                                                \
        avx_check(c);                                                                              \
        union x86_vec *to = &c->s.vec[op->reg], *mask = &c->s.vec[op->cc];                         \
        const union x86_vec *at = &c->s.vec[op->index];                                            \
        unsigned wider = bits / 8 > sizeof at->kind[0] ? bits / 8 : sizeof at->kind[0];            \
        unsigned count = op->size / wider, bytes = count * bits / 8;                               \
        bool stepped = false;                                                                      \
        for (unsigned i = 0; i < count; i++) {                                                     \
            if (mask->i##bits[i] < 0) {                                                            \
                if (stepped && element_faults(c, op, at->kind[i], bits / 8))                       \
                    return block_restart(c, op);                                                   \
                uint64_t lin = gather_linear(c, op, at->kind[i], bits / 8);                        \
                to->u##bits[i] = (uint##bits##_t)x86_read_element(c, lin, bits / 8, op->seg);      \
                stepped = c->s.rflags & FLAG_TF;                                                   \
            }                                                                                      \
            mask->i##bits[i] = 0;                                                                  \
        }                                                                                          \
        memset(&to->u8[bytes], 0, sizeof *to - bytes);                                             \
        *mask = (union x86_vec){0};                                                                \
        vex_clear_zmm(c, op->reg);                                                                 \
        vex_clear_zmm(c, op->cc);                                                                  \
        return op + 1;                                                                             \
    }                                                                                              \
    const struct sem name##_sem = {.any = op_##name};
GATHER(vpgatherdd, 32, i32)
GATHER(vpgatherdq, 64, i32)
GATHER(vpgatherqd, 32, i64)
GATHER(vpgatherqq, 64, i64)

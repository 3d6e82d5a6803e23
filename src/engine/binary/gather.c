/*
 * AVX-512's gathers and scatters: an address of its own for each element, so there is no one
 * operand to make a copy of, and no more to do than to move each.
 *
 * Elements are moved from the lowest up, and those that are done with leave the mask: after a fault
 * the instruction goes on where it was when it is begun again (SDM 2, VPGATHERDD, VPSCATTERDD).
 */
#include "base/bytes.h"
#include "engine/binary/bounce.h"

enum { VECTOR_SIZE = 64, MASK = 7 };

/* Byte `at` of vector register n; elements do not cross from one part to another. */
static uint8_t *vector_at(struct x86_state *s, unsigned n, unsigned at)
{
    if (n >= 16)
        return (uint8_t *)s->zmm_more[n - 16] + at;
    return at < 32 ? &s->vec[n].u8[at] : (uint8_t *)s->zmm_upper[n] + (at - 32);
}

static uint64_t element(struct x86_state *s, unsigned n, unsigned i, unsigned size)
{
    uint64_t v = 0;
    bytes_copy(&v, vector_at(s, n, i * size), size);
    return v;
}

static void clear_from(struct x86_state *s, unsigned n, unsigned at)
{
    for (; at < VECTOR_SIZE; at += 4)
        bytes_fill(vector_at(s, n, at), 0, 4);
}

struct gather {
    const struct op *op;
    const struct x86_insn *insn;
    unsigned index_size, size, access;
};

static uint64_t element_linear(struct x86_cpu *c, const struct gather *g, unsigned i)
{
    const struct x86_insn *insn = g->insn;
    uint64_t index = element(&c->s, insn->index, i, g->index_size);
    if (g->index_size == 4)
        index = (uint64_t)(int64_t)(int32_t)index;
    uint64_t base = insn->base == X86_NO_REG ? 0 : c->s.gpr[insn->base];
    uint64_t offset = base + (index << insn->scale) + (uint64_t)insn->disp;
    if (insn->addrsize == 4)
        offset = (uint32_t)offset;
    return x86_linear(c, g->op->seg, offset, g->size, g->access);
}

/* Whether moving element i would raise a fault. */
static bool element_faults(struct x86_cpu *c, const struct gather *g, unsigned i)
{
    jmp_buf outer;
    bytes_copy(&outer, &c->fault_jump, sizeof outer);
    volatile bool faults = true;
    if (setjmp(c->fault_jump) == 0) {
        x86_probe_element(c, element_linear(c, g, i), g->size, g->access, g->op->seg);
        faults = false;
    }
    bytes_copy(&c->fault_jump, &outer, sizeof outer);
    return faults;
}

static void move(struct x86_cpu *c, const struct gather *g, unsigned i)
{
    uint64_t lin = element_linear(c, g, i);
    if (g->access == X86_WRITE) {
        x86_write_element(c, lin, g->size, element(&c->s, g->insn->reg, i, g->size), g->op->seg);
    } else {
        uint64_t v = x86_read_element(c, lin, g->size, g->op->seg);
        bytes_copy(vector_at(&c->s, g->insn->reg, i * g->size), &v, g->size);
    }
}

/* The opcode's lowest bit says how large an index is, W how large an element. What is above the
 * vector is cleared with the first element. A single step's trap comes before the fault of an
 * element behind others that were moved. */
bool gather_run(struct x86_cpu *c, const struct op *op, const struct x86_insn *insn)
{
    bool store = x86_form(insn)->flags & X86_FORM_STORE, moved = false;
    const struct gather g = {op, insn, insn->opcode & 1 ? 8 : 4, insn->rex & 8 ? 8 : 4,
                             store ? X86_WRITE : X86_READ};
    unsigned count = insn->vl / (g.size > g.index_size ? g.size : g.index_size);
    uint64_t *mask = &c->s.opmask[insn->evex & MASK];
    for (unsigned i = 0; i < count; i++) {
        if (!(*mask >> i & 1))
            continue;
        if (moved && (c->s.rflags & FLAG_TF) && element_faults(c, &g, i))
            return false;
        move(c, &g, i);
        *mask &= ~BIT(i);
        if (!store && !moved)
            clear_from(&c->s, insn->reg, insn->vl);
        moved = true;
    }
    *mask = 0;
    if (!store)
        clear_from(&c->s, insn->reg, count * g.size);
    return true;
}

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

static uint64_t element_linear(struct x86_cpu *c, const struct op *op, const struct x86_insn *insn,
                               unsigned i, unsigned index_size, unsigned size, unsigned access)
{
    uint64_t index = element(&c->s, insn->index, i, index_size);
    if (index_size == 4)
        index = (uint64_t)(int64_t)(int32_t)index;
    uint64_t base = insn->base == X86_NO_REG ? 0 : c->s.gpr[insn->base];
    uint64_t offset = base + (index << insn->scale) + (uint64_t)insn->disp;
    if (insn->addrsize == 4)
        offset = (uint32_t)offset;
    return x86_linear(c, op->seg, offset, size, access);
}

/* The opcode's lowest bit says how large an index is, W how large an element. */
void gather_run(struct x86_cpu *c, const struct op *op, const struct x86_insn *insn)
{
    bool store = x86_form(insn)->flags & X86_FORM_STORE;
    unsigned index_size = insn->opcode & 1 ? 8 : 4, size = insn->rex & 8 ? 8 : 4;
    unsigned count = insn->vl / (size > index_size ? size : index_size);
    uint64_t *mask = &c->s.opmask[insn->evex & MASK];
    for (unsigned i = 0; i < count; i++) {
        uint8_t *at = vector_at(&c->s, insn->reg, i * size);
        if (!(*mask >> i & 1))
            continue;
        uint64_t v,
            lin = element_linear(c, op, insn, i, index_size, size, store ? X86_WRITE : X86_READ);
        if (store) {
            x86_write_element(c, lin, size, element(&c->s, insn->reg, i, size), op->seg);
        } else {
            v = x86_read_element(c, lin, size, op->seg);
            bytes_copy(at, &v, size);
        }
        *mask &= ~BIT(i);
    }
    *mask = 0;
    if (!store)
        clear_from(&c->s, insn->reg, count * size);
}

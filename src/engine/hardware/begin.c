/*
 * The beginning of a program.
 *
 * A KVM that runs users on the processor can't show them another CPUID than the host's. Programs
 * ask when they begin (libc does before main()), so there they are left to `emulate`, whose CPUID
 * is the machine's.
 *
 * Linux begins a program with zeros in all registers but RSP, which nothing else makes of them.
 */
#include "engine/hardware/hardware.h"

enum { BEGINNING = 1 << 20 }; /* instructions */

static bool begins(const struct x86_state *s)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < 16; i++)
        bits |= i == X86_RSP ? 0 : s->gpr[i];
    return bits == 0;
}

/* Programs are known by their page tables. */
static uint64_t address_space(const struct x86_state *s)
{
    return s->cr3 >> MEMORY_PAGE_BITS;
}

bool hardware_is_beginning(struct beginnings *b, const struct x86_cpu *c)
{
    uint64_t space = address_space(&c->s);
    uint64_t ran = b->last == space ? c->insns - b->insns : 0;
    uint64_t *left = &b->of[space % ARRAY_LEN(b->of)].left;
    uint64_t *whose = &b->of[space % ARRAY_LEN(b->of)].space;
    b->last = space;
    b->insns = c->insns;
    if (begins(&c->s)) {
        *whose = space;
        *left = BEGINNING;
    }
    if (*whose != space || *left == 0)
        return false;
    *left -= ran < *left ? ran : *left;
    return *left != 0;
}

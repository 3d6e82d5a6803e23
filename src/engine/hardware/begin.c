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

enum { BEGINNING = 1 << 20 }; /* instructions, the system's for it among them */

/* An entry is a program, known by its page tables, and how many instructions are left. */
enum { LEFT_BITS = 24, PROBES = 8 };
#define LEFT (BIT(LEFT_BITS) - 1)
_Static_assert((uint64_t)BEGINNING <= LEFT, "fits");

static bool begins(const struct x86_state *s)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < 16; i++)
        bits |= i == X86_RSP ? 0 : s->gpr[i];
    return bits == 0;
}

/* Where the program is, or else where there is room for it. It may have moved from another vCPU. */
static _Atomic uint64_t *find(struct beginnings *b, uint64_t space)
{
    _Atomic uint64_t *room = &b->of[space % ARRAY_LEN(b->of)];
    for (unsigned i = PROBES; i-- > 0;) {
        _Atomic uint64_t *at = &b->of[(space + i) % ARRAY_LEN(b->of)];
        uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);
        if (entry >> LEFT_BITS == space)
            return at;
        if ((entry & LEFT) == 0)
            room = at;
    }
    return room;
}

bool hardware_is_beginning(struct engine_vcpu *v, const struct x86_cpu *c)
{
    uint64_t space = c->s.cr3 >> MEMORY_PAGE_BITS & (BIT(64 - LEFT_BITS) - 1);
    uint64_t ran = v->looked.space == space ? c->insns - v->looked.insns : 0;
    v->looked.space = space;
    v->looked.insns = c->insns;
    _Atomic uint64_t *at = find(&v->vm->beginnings, space);
    uint64_t entry = atomic_load_explicit(at, memory_order_relaxed);
    bool fresh = begins(&c->s);
    if (!fresh && entry >> LEFT_BITS != space)
        return false;
    uint64_t left = entry & LEFT;
    left = fresh ? BEGINNING : left - (ran < left ? ran : left);
    atomic_store_explicit(at, space << LEFT_BITS | left, memory_order_relaxed);
    return left != 0;
}

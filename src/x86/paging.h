/*
 * The page walk (paging.c), for access.c and the rest of x86/.
 */
#ifndef DOPPEL_X86_PAGING_H
#define DOPPEL_X86_PAGING_H

#include "x86/access.h"

/* On whose behalf an access is made; SDM 3, 4.6. */
enum x86_privilege {
    X86_AS_USER,          /* CPL 3 */
    X86_AS_SUPERVISOR,    /* implicit, or explicit with RFLAGS.AC clear: SMAP binds it */
    X86_AS_SUPERVISOR_AC, /* explicit, RFLAGS.AC set: SMAP lets it pass */
};

struct x86_walk {
    uint64_t gpa;  /* of the byte asked for */
    bool readable; /* the page allows reads at that privilege */
    bool writable; /* and writes, with the dirty bit set already */
    bool executable;
    bool global;    /* the page is in every address space (SDM 3, 4.10.2.4) */
    unsigned bits;  /* its size, as bits of an address (large_pages.h) */
    uint32_t error; /* when it failed: the page fault's error code */
};

/* What explicit accesses at the current CPL and AC are. */
static inline enum x86_privilege x86_privilege(const struct x86_cpu *c)
{
    if (c->cpl == 3)
        return X86_AS_USER;
    return c->s.rflags & FLAG_AC ? X86_AS_SUPERVISOR_AC : X86_AS_SUPERVISOR;
}

/* Translates lin (canonical under 4-level paging) for one kind of access (enum x86_access), and
 * sets accessed and dirty bits. False: out->error is the page fault's error code; nothing is
 * raised, CR2 is as it was, no accessed or dirty bit was set. X86_PEEK sets none, and fails where a
 * read would. A large page is noted in c->large, so what was found may be kept until the TLB says
 * otherwise. */
bool x86_walk(struct x86_cpu *c, uint64_t lin, unsigned access, enum x86_privilege who,
              struct x86_walk *out);

/* Sets CR2 and raises #PF. */
_Noreturn void x86_page_fault(struct x86_cpu *c, uint64_t lin, uint32_t error);

/* What MOV to CR3 and INVLPG do at CPL 0. False: CR3 can't have that value (the caller raises
 * #GP(0)), and nothing changed. */
bool x86_load_cr3(struct x86_cpu *c, uint64_t v);
void x86_invalidate_page(struct x86_cpu *c, uint64_t lin);
/* And INVPCID (SDM 2): false: the type or the descriptor can't be (#GP(0)), and nothing changed. */
bool x86_invalidate_pcid(struct x86_cpu *c, uint64_t type, const uint64_t descriptor[2]);

/* Reads the four PDPTEs that CR3 points to under PAE paging. False: a reserved bit is set in a
 * present one (the caller raises #GP(0)), and nothing changed. */
bool x86_load_pdptes(struct x86_cpu *c, uint64_t cr3, uint64_t cr0, uint64_t cr4);

#endif

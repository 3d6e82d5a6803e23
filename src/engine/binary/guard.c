#include "engine/binary/guard.h"

#include "engine/binary/loop.h"
#include "engine/binary/sensitive.h"
#include "engine/binary/show.h"

enum { INT3 = 0xcc };

/* ---- what has been executed ---- */

static _Atomic uint64_t *place_of(struct executed *e, uint64_t offset)
{
    return &e->place[offset * UINT64_C(0x9e3779b97f4a7c15) >> 56];
}
_Static_assert(EXECUTED_PLACES == 1 << (64 - 56), "as many as the hash finds");

void executed_note(struct executed *e, uint64_t offset)
{
    _Atomic uint64_t *place = place_of(e, offset);
    if (atomic_load_explicit(place, memory_order_relaxed) == offset + 1)
        return;
    atomic_store(place, offset + 1);
    atomic_fetch_add(&e->noted, 1);
}

static bool was_executed(struct executed *e, uint64_t offset)
{
    return atomic_load(place_of(e, offset)) == offset + 1;
}

void executed_forget_page(struct executed *e, uint64_t offset)
{
    if (!atomic_load(&e->noted))
        return;
    for (unsigned i = 0; i < EXECUTED_PLACES; i++) {
        uint64_t place = atomic_load(&e->place[i]);
        if (place && (place - 1) >> MEMORY_PAGE_BITS == offset >> MEMORY_PAGE_BITS)
            atomic_store(&e->place[i], 0);
    }
}

/* ---- what is to be done about a page ---- */

enum { PLACES_MOST = 32 }; /* in a page */

struct plan {
    uint16_t stop[CAGE_BREAKPOINTS], replace[PLACES_MOST];
    unsigned stops, replaced;
    bool tsc;
};

static bool add_stop(struct plan *p, uint16_t at)
{
    if (p->stops == CAGE_BREAKPOINTS)
        return false;
    p->stop[p->stops++] = at;
    return true;
}

static bool reads_tsc(const uint8_t *bytes)
{
    return bytes[0] == 0x0f && (bytes[1] == 0x31 || (bytes[1] == 0x01 && bytes[2] == 0xf9));
}

/* The page of code before that at va, or NULL. */
static const uint8_t *code_before(struct binary_vcpu *b, uint64_t va)
{
    struct x86_walk w;
    if (!x86_walk(&b->v->cpu, va - MEMORY_PAGE_SIZE, X86_PEEK, X86_AS_USER, &w) || !w.executable)
        return NULL;
    return memory_hva(b->v->vm->memory, w.gpa & X86_PAGE_MASK);
}

/* Where the places are, and how many: without those that are none where the page is. */
static unsigned find_places(struct binary_vcpu *b, uint64_t va, const uint8_t *code,
                            uint16_t at[PLACES_MOST])
{
    unsigned found = sensitive_find(code, at, PLACES_MOST), kept = 0;
    const uint8_t *before = code_before(b, va);
    if (found > PLACES_MOST)
        return found;
    for (unsigned i = 0; i < found; i++)
        if (!before || sensitive_behind(before, code, at[i]))
            at[kept++] = at[i];
    return kept;
}

/* False: there are too many places. */
static bool make_plan(struct binary_vcpu *b, const struct cage *c, uint64_t va, uint64_t offset,
                      struct plan *p)
{
    const uint8_t *code = binary_ram_at(b, offset);
    uint16_t at[PLACES_MOST];
    unsigned found = find_places(b, va, code, at);
    *p = (struct plan){0};
    if (found > PLACES_MOST)
        return false;
    for (unsigned i = 0; i < found; i++) {
        bool tsc = at[i] + 3 <= MEMORY_PAGE_SIZE && reads_tsc(code + at[i]);
        if (tsc && (found > CAGE_BREAKPOINTS || c->tsc_faults))
            p->tsc = true;
        else if (found > CAGE_BREAKPOINTS && was_executed(&b->vm->executed, offset + at[i]))
            p->replace[p->replaced++] = at[i];
        else if (!add_stop(p, at[i]))
            return false;
    }
    return true;
}

/* A page that has breakpoints gives them up for another, and is no more shown. */
static bool take_breakpoint(struct direct *d, unsigned n, uint64_t by)
{
    uint64_t page = d->cage->breakpoint[n] & X86_PAGE_MASK;
    if (!page)
        return true;
    for (unsigned i = 0; i < CAGE_BREAKPOINTS; i++)
        if ((d->cage->breakpoint[i] & X86_PAGE_MASK) == page && !cage_break(d->cage, i, 0))
            return false;
    d->guards.loser = page;
    d->guards.winner = by;
    d->guards.waits = 0;
    return show_hide(d, page);
}

static bool give_breakpoints(struct direct *d, uint64_t page, const struct plan *p)
{
    /* It may have some from when it was shown before. */
    for (unsigned i = 0; i < CAGE_BREAKPOINTS; i++)
        if ((d->cage->breakpoint[i] & X86_PAGE_MASK) == page && !cage_break(d->cage, i, 0))
            return false;
    for (unsigned i = 0; i < p->stops; i++) {
        unsigned n = d->guards.next_breakpoint++ % CAGE_BREAKPOINTS;
        if (!take_breakpoint(d, n, page) || !cage_break(d->cage, n, page + p->stop[i]))
            return false;
    }
    return true;
}

/* One of the cage's own pages that is `code`, with what is replaced. */
static int give_copy(struct direct *d, uint64_t page, const uint8_t *code, const struct plan *p)
{
    unsigned n = d->guards.next_page++ % CAGE_PAGES;
    uint8_t *copy = cage_page(d->cage, n);
    if (d->guards.page[n] && !show_hide(d, d->guards.page[n]))
        return GUARD_FAILED;
    for (unsigned i = 0; i < CAGE_PAGES; i++)
        if (d->guards.page[i] == page)
            d->guards.page[i] = 0;
    d->guards.page[n] = page;
    bytes_copy(copy, code, MEMORY_PAGE_SIZE);
    for (unsigned i = 0; i < p->replaced; i++)
        copy[p->replace[i]] = INT3;
    return (int)n;
}

/* Two pages that are used in turn are not to take each other's breakpoints each time: who has lost
 * them waits, and who is used more waits for a shorter time. */
static bool has_to_wait(struct direct *d, uint64_t page)
{
    enum { TIMES = 16 };
    struct guards *g = &d->guards;
    return page == g->loser && show_has_code(d, g->winner) && g->waits++ < TIMES;
}

int guard_code(struct binary_vcpu *b, struct direct *d, uint64_t va, uint64_t offset)
{
    struct guards *g = &d->guards;
    uint64_t page = va & X86_PAGE_MASK;
    unsigned noted = atomic_load(&b->vm->executed.noted);
    struct plan p;
    if ((g->refused == page && g->noted == noted) || has_to_wait(d, page))
        return GUARD_FAILED;
    if (!make_plan(b, d->cage, page, offset, &p)) {
        g->refused = page;
        g->noted = noted;
        return GUARD_FAILED;
    }
    if ((p.tsc && !cage_fault_tsc(d->cage, true)) || !give_breakpoints(d, page, &p))
        return GUARD_FAILED;
    return p.replaced ? give_copy(d, page, binary_ram_at(b, offset), &p) : GUARD_ITSELF;
}

bool guard_nothing(struct direct *d)
{
    d->guards = (struct guards){0};
    for (unsigned i = 0; i < CAGE_BREAKPOINTS; i++)
        if (d->cage->breakpoint[i] && !cage_break(d->cage, i, 0))
            return false;
    return cage_fault_tsc(d->cage, false);
}

bool guard_is_ours(const struct direct *d, uint64_t address)
{
    for (unsigned n = 0; n < CAGE_PAGES; n++)
        if (d->guards.page[n] == (address & X86_PAGE_MASK) && show_has_copy(d, address) &&
            cage_page(d->cage, n)[address % MEMORY_PAGE_SIZE] == INT3)
            return true;
    return false;
}

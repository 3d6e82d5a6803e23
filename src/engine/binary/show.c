#include "engine/binary/show.h"

#include "engine/binary/cage.h"
#include "engine/binary/loop.h"
#include "engine/binary/sensitive.h"

/* ---- what code may be executed unseen ---- */

/* A page of code has not been looked at; is being looked at; has nothing sensitive, a few places
 * that breakpoints can guard, or more. Above the verdict is how often it has been taken back: what
 * a cage holds of the page may be older than the verdict. */
enum { VERDICT_NONE, VERDICT_LOOKING, VERDICT_PLAIN, VERDICT_GUARDED, VERDICT_MANY };
enum { VERDICT_BITS = 3, VERDICT_MASK = (1 << VERDICT_BITS) - 1 };

static unsigned verdict_of(uint32_t state)
{
    return state & VERDICT_MASK;
}

static uint32_t written_of(uint32_t state)
{
    return state >> VERDICT_BITS & WRITTEN_MASK;
}

/* It is now `verdict` if it still is `state`. */
static bool decide(_Atomic uint32_t *page, uint32_t *state, unsigned verdict)
{
    uint32_t decided = (*state & ~(uint32_t)VERDICT_MASK) | verdict;
    if (!atomic_compare_exchange_strong(page, state, decided))
        return false;
    *state = decided;
    return true;
}

void show_written(struct binary_vm *vm, uint64_t gpa)
{
    const struct memory_region *r = memory_find(vm->vm->memory, gpa);
    uint64_t offset = memory_offset(r, gpa);
    _Atomic uint32_t *page = &vm->verdict[offset >> MEMORY_PAGE_BITS];
    uint32_t state = atomic_load(page);
    executed_forget_page(&vm->executed, offset);
    do
        if (verdict_of(state) == VERDICT_NONE)
            return;
    while (!atomic_compare_exchange_weak(page, &state,
                                         (state & ~(uint32_t)VERDICT_MASK) + (1 << VERDICT_BITS)));
    if (verdict_of(state) == VERDICT_LOOKING)
        return;
    for (unsigned i = 0; i < vm->vm->created; i++) {
        struct binary_vcpu *b = binary_of(vm->vm->vcpu[i]);
        for (unsigned n = 0; b && n < SPACES; n++)
            b->spaces.space[n].user.gone.any = true;
    }
}

static _Atomic uint32_t *verdict_at(const struct binary_vcpu *b, uint64_t offset)
{
    return &b->vm->verdict[offset >> MEMORY_PAGE_BITS];
}

const uint8_t *binary_ram_at(const struct binary_vcpu *b, uint64_t offset)
{
    const struct memory *m = b->v->vm->memory;
    const struct memory_region *r = m->region;
    while (offset - r->offset >= r->size)
        r++;
    return r->hva + (offset - r->offset);
}

/* On the page of code at gpa: the verdict, or one up to VERDICT_LOOKING if it was written
 * meanwhile. It is watched from before it is looked at: a write takes the verdict back. */
static uint32_t judge(struct binary_vcpu *b, uint64_t gpa, uint64_t offset)
{
    _Atomic uint32_t *page = verdict_at(b, offset);
    uint32_t state = atomic_load(page);
    if (verdict_of(state) > VERDICT_LOOKING)
        return state;
    emulate_watch_code(b->v, gpa);
    if (!decide(page, &state, VERDICT_LOOKING))
        return state;
    uint16_t at[CAGE_BREAKPOINTS];
    unsigned found = sensitive_find(binary_ram_at(b, offset), at, CAGE_BREAKPOINTS);
    decide(page, &state,
           !found                      ? VERDICT_PLAIN
           : found <= CAGE_BREAKPOINTS ? VERDICT_GUARDED
                                       : VERDICT_MANY);
    return state;
}

/* ---- what a cage holds ---- */

/* Places for pages in one, and mappings: Linux allows a process 65,530. */
enum { PAGES_MOST = 1 << 18, MAPS_MOST = 30000 };

/* Of a page's rights: it is one of the cage's own, for the guest's (guard.h). */
enum { SHOWN_COPY = 8 };

bool show_clear(struct direct *d)
{
    mirror_clear(&d->mirror);
    d->maps = 0;
    return cage_clear(d->cage) && guard_nothing(d);
}

/* For one page more, if need be of all that are there: before anything is known of what is shown.
 */
static bool make_room(struct direct *d)
{
    return (d->maps < MAPS_MOST && d->mirror.used < PAGES_MOST) || show_clear(d);
}

static bool hide(struct direct *d, struct mirror_page *p)
{
    p->rights = 0;
    d->maps++; /* a hole may split one */
    return cage_unmap(d->cage, p->va, MEMORY_PAGE_SIZE);
}

/* The page at p->va is to be p, or with SHOWN_COPY the cage's own page `copy`. There is room. */
static bool show(struct direct *d, const struct mirror_page *p, int copy)
{
    struct mirror_page *old = mirror_at(&d->mirror, table_index(p->va));
    if (old && old->va == p->va && old->page == p->page && old->rights == p->rights &&
        old->written == p->written && copy < 0)
        return true;
    if (!p->va || p->va >= CAGE_TOP || cage_overlaps(d->cage, p->va, MEMORY_PAGE_SIZE))
        return false;
    if (old && old->va != p->va && !hide(d, old))
        return false;
    unsigned before = d->cage->queued, access = p->rights & ~(unsigned)SHOWN_COPY;
    if (!mirror_put(&d->mirror, p) ||
        !(p->rights & SHOWN_COPY ? cage_map_page(d->cage, p->va, (unsigned)copy, access)
                                 : cage_map(d->cage, p->va, MEMORY_PAGE_SIZE,
                                            (uint64_t)p->page << MEMORY_PAGE_BITS, access)))
        return false;
    d->maps += d->cage->queued != before;
    return true;
}

static const struct mirror_page *shown(const struct direct *d, uint64_t va)
{
    const struct mirror_page *p = mirror_at(&d->mirror, table_index(va));
    return p && p->va == (va & X86_PAGE_MASK) ? p : NULL;
}

bool show_hide(struct direct *d, uint64_t va)
{
    struct mirror_page *p = mirror_at(&d->mirror, table_index(va));
    return !p || p->va != (va & X86_PAGE_MASK) || hide(d, p);
}

bool show_has_copy(const struct direct *d, uint64_t at)
{
    const struct mirror_page *p = shown(d, at);
    return p && (p->rights & SHOWN_COPY);
}

bool show_has(const struct direct *d, uint64_t at)
{
    return shown(d, at) != NULL;
}

bool show_has_code(const struct direct *d, uint64_t rip)
{
    const struct mirror_page *p = shown(d, rip);
    return p && (p->rights & CAGE_EXECUTE);
}

/* Shows the page of va as the users' table has it. False: the table does not have it. */
static bool show_data(struct binary_vcpu *b, struct direct *d, uint64_t va)
{
    uint64_t offset;
    bool writable;
    if (!table_page(&space_now(&b->spaces)->user, va, &offset, &writable))
        return false;
    uint32_t page = (uint32_t)(offset >> MEMORY_PAGE_BITS);
    const struct mirror_page *p = shown(d, va);
    if (p && p->page == page && !writable && !(p->rights & CAGE_WRITE))
        return true; /* perhaps as code */
    return make_room(d) &&
           show(d,
                &(struct mirror_page){.va = va & X86_PAGE_MASK,
                                      .page = page,
                                      .rights = CAGE_READ | (writable ? CAGE_WRITE : 0)},
                GUARD_ITSELF);
}

/* The code that is shown at va, or NULL. */
static const uint8_t *shown_code(const struct binary_vcpu *b, const struct direct *d, uint64_t va)
{
    return show_has_code(d, va) ? binary_ram_at(b, (uint64_t)shown(d, va)->page << MEMORY_PAGE_BITS)
                                : NULL;
}

/* Shows the page of code at va, where `w` leads. guarded: also if something in it is sensitive. */
static bool show_code(struct binary_vcpu *b, struct direct *d, uint64_t va,
                      const struct x86_walk *w, bool guarded)
{
    const struct memory_region *r = memory_find(b->v->vm->memory, w->gpa);
    if (!r || !w->executable || !w->readable)
        return false;
    uint64_t offset = memory_offset(r, w->gpa) & X86_PAGE_MASK;
    if ((!guarded && verdict_of(atomic_load(verdict_at(b, offset))) != VERDICT_PLAIN) ||
        !make_room(d))
        return false;
    uint32_t state = judge(b, w->gpa & X86_PAGE_MASK, offset);
    bool unguarded = verdict_of(state) == VERDICT_PLAIN;
    if (verdict_of(state) <= VERDICT_LOOKING || !(unguarded || guarded))
        return false;
    const uint8_t *before = shown_code(b, d, va - MEMORY_PAGE_SIZE),
                  *code = binary_ram_at(b, offset),
                  *behind = shown_code(b, d, va + MEMORY_PAGE_SIZE);
    if ((before && sensitive_across(before, code)) || (behind && sensitive_across(code, behind)))
        return false;
    int copy = unguarded ? GUARD_ITSELF : guard_code(b, d, va, offset);
    return copy != GUARD_FAILED &&
           show(d,
                &(struct mirror_page){.va = va & X86_PAGE_MASK,
                                      .page = (uint32_t)(offset >> MEMORY_PAGE_BITS),
                                      .rights =
                                          CAGE_READ | CAGE_EXECUTE | (copy >= 0 ? SHOWN_COPY : 0),
                                      .written = written_of(state)},
                copy);
}

enum { NEIGHBOURS = 16 };

/* Pages around one: those that have been used. */
static void show_neighbours(struct binary_vcpu *b, struct direct *d, uint64_t va, bool code)
{
    uint64_t first = va & ~(uint64_t)(NEIGHBOURS * MEMORY_PAGE_SIZE - 1);
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        uint64_t at = first + i * (uint64_t)MEMORY_PAGE_SIZE;
        struct x86_walk w;
        if (mirror_at(&d->mirror, table_index(at)))
            continue;
        if (!code)
            show_data(b, d, at);
        else if (x86_walk(&b->v->cpu, at, X86_PEEK, X86_AS_USER, &w))
            show_code(b, d, at, &w, false);
    }
}

/* An entry knows 44 bits of its page's address: user code's have up to 47. */
static void show_entry(struct binary_vcpu *b, struct direct *d, const struct filled *f)
{
    for (uint64_t top = 0; top < CAGE_TOP >> SLOT_BITS; top++) {
        uint64_t va = top << SLOT_BITS | (uint64_t)f->index << MEMORY_PAGE_BITS;
        struct x86_walk w;
        const struct memory_region *r;
        if (x86_walk(&b->v->cpu, va, X86_PEEK, X86_AS_USER, &w) &&
            (r = memory_find(b->v->vm->memory, w.gpa)) &&
            memory_offset(r, w.gpa) >> MEMORY_PAGE_BITS == f->page)
            show_data(b, d, va);
    }
}

/* Everything that translated code has used: what the program has done so far, it will go on to do.
 */
void show_table(struct binary_vcpu *b, struct direct *d)
{
    const struct table *t = &space_now(&b->spaces)->user;
    for (unsigned i = 0; i < JOURNALS; i++)
        for (uint32_t n = 0; n < t->journal[i].count && !t->gone.any; n++)
            show_entry(b, d, &t->journal[i].entry[n]);
}

bool show_code_at(struct binary_vcpu *b, struct direct *d, uint64_t rip)
{
    struct x86_walk w;
    if (show_has_code(d, rip))
        return true;
    if (!x86_canonical(rip) || !x86_walk(&b->v->cpu, rip, X86_FETCH, X86_AS_USER, &w) ||
        !show_code(b, d, rip, &w, true))
        return false;
    show_neighbours(b, d, rip, true);
    return show_has_code(d, rip);
}

static unsigned rights_at(const struct direct *d, uint64_t va)
{
    const struct mirror_page *p = shown(d, va);
    return p ? p->rights : 0;
}

bool show_data_at(struct binary_vcpu *b, struct direct *d, uint64_t at, bool write)
{
    unsigned before = rights_at(d, at);
    if (!binary_fill(b, at, write) || !show_data(b, d, at) || rights_at(d, at) == before)
        return false;
    show_neighbours(b, d, at, false);
    return true;
}

/* Whether what is shown may still be. */
static bool still_right(struct binary_vcpu *b, const struct mirror_page *p)
{
    struct table *t = &space_now(&b->spaces)->user;
    uint64_t offset;
    bool writable;
    struct x86_walk w;
    if (!x86_walk(&b->v->cpu, p->va, X86_PEEK, X86_AS_USER, &w))
        return false;
    const struct memory_region *r = memory_find(b->v->vm->memory, w.gpa);
    if (!r || memory_offset(r, w.gpa) >> MEMORY_PAGE_BITS != p->page)
        return false;
    if (p->rights & CAGE_EXECUTE) {
        uint32_t state = atomic_load(verdict_at(b, (uint64_t)p->page << MEMORY_PAGE_BITS));
        return w.executable && verdict_of(state) > VERDICT_LOOKING &&
               written_of(state) == p->written;
    }
    if (!(p->rights & CAGE_WRITE))
        return true;
    /* Who takes that right away looks for the page in the table. */
    return w.writable && binary_fill(b, p->va, true) && table_page(t, p->va, &offset, &writable) &&
           writable && offset >> MEMORY_PAGE_BITS == p->page;
}

static bool take_out(struct direct *d, struct mirror_page *p)
{
    return d->maps < MAPS_MOST ? hide(d, p) : show_clear(d);
}

static bool look_at(struct binary_vcpu *b, struct direct *d, uint32_t index)
{
    struct mirror_page *p = mirror_at(&d->mirror, index);
    return !p || still_right(b, p) || take_out(d, p);
}

/* So many that were noted, indices and runs. */
static bool look_at_noted(struct binary_vcpu *b, struct direct *d, const struct gone *g,
                          unsigned count, unsigned runs)
{
    for (unsigned i = 0; i < count; i++)
        if (!look_at(b, d, g->index[i]))
            return false;
    for (unsigned i = 0; i < runs * ENTRIES_PER_PAGE; i++)
        if (!look_at(b, d, g->run[i / ENTRIES_PER_PAGE] + i % ENTRIES_PER_PAGE))
            return false;
    return true;
}

static enum show_state look_at_all(struct binary_vcpu *b, struct direct *d)
{
    unsigned gone = 0;
    for (uint32_t i = 0; i < d->mirror.room; i++) {
        struct mirror_page *p = &d->mirror.slot[i];
        if (!p->rights || still_right(b, p))
            continue;
        if (!take_out(d, p))
            return SHOW_BROKEN;
        gone++;
    }
    /* (None is left where room had to be made.) */
    return d->mirror.used && gone * 2 > d->mirror.used ? SHOW_OTHER : SHOW_SAME;
}

bool show_is_behind(struct binary_vcpu *b)
{
    const struct gone *g = &space_now(&b->spaces)->user.gone;
    return g->any || g->count || g->runs;
}

enum show_state show_catch_up(struct binary_vcpu *b, struct direct *d)
{
    struct space *s = space_now(&b->spaces);
    struct gone *g = &s->user.gone;
    bool any = g->any || s->direct != d || d->space != s;
    unsigned count = g->count, runs = g->runs;
    enum show_state state = SHOW_SAME;
    s->direct = d;
    d->space = s;
    g->wanted = true;
    g->any = false;
    g->count = g->runs = 0;
    if (!any && !look_at_noted(b, d, g, count, runs))
        state = SHOW_BROKEN;
    if (any)
        state = look_at_all(b, d);
    if (show_is_behind(b)) { /* looking has made room in the table */
        g->any = false;
        g->count = g->runs = 0;
        if (!show_clear(d))
            state = SHOW_BROKEN;
    }
    return state;
}

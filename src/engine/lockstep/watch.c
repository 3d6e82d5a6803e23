/*
 * Pages of memory that either engine has just written, compared at every look.
 *
 * Each page that is written for the first time is told of (memory.h), and is compared from then on
 * at every look, whoever writes it, until newer ones push it out: to be told of a page costs a
 * fault or a walk, to compare it a twentieth of that.
 */
#include "engine/lockstep/internal.h"

#include <string.h>

static void note(void *side, uint64_t gpa)
{
    struct watch *w = &((struct side *)side)->owner->watch;
    uint64_t page = gpa & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    for (unsigned i = 0; i < w->count; i++)
        if (w->gpa[i] == page)
            return;
    if (w->count < WATCH_MOST)
        w->gpa[w->count++] = page;
    else
        w->lost = true;
}

/* ---- clean pages ---- */

static void mark_all(struct side *s)
{
    for (unsigned i = 0; i < s->memory->region_count; i++) {
        const struct memory_region *r = &s->memory->region[i];
        for (uint64_t page = 0; page < r->size >> MEMORY_PAGE_BITS; page++)
            atomic_fetch_or(&r->flags[page], MEMORY_CLEAN);
    }
    s->engine->watch_writes(s->vm);
}

static void mark(struct side *s, uint64_t gpa)
{
    _Atomic uint8_t *flags = memory_flags(s->memory, gpa);
    if (!s->engine->watch_page || (atomic_load(flags) & MEMORY_CLEAN))
        return;
    atomic_fetch_or(flags, MEMORY_CLEAN);
    s->engine->watch_page(s->vm, gpa);
}

static void start_again(struct engine_vcpu *v)
{
    v->watch.count = 0;
    v->watch.lost = false;
    for (unsigned i = 0; i < 2; i++)
        if (v->side[i].engine->watch_page)
            mark_all(&v->side[i]);
}

static void push_out(struct engine_vcpu *v, unsigned n)
{
    struct watch *w = &v->watch;
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < 2; k++)
            mark(&v->side[k], w->gpa[i]);
    w->count -= n;
    memmove(w->gpa, w->gpa + n, w->count * sizeof *w->gpa);
}

void watch_begin(struct engine_vcpu *v)
{
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &v->side[i];
        if (!s->engine->watch_page)
            continue;
        s->memory->written_ctx = s;
        s->memory->written = note;
    }
    start_again(v);
}

void watch_end(struct side *s)
{
    if (s->memory->written_ctx == s)
        s->memory->written = NULL;
}

/* ---- looking ---- */

bool watched_equal(struct engine_vcpu *v)
{
    const struct memory *a = v->side[0].memory, *b = v->side[1].memory;
    struct watch *w = &v->watch;
    if (w->lost) {
        bool alike = pages_equal(a, b);
        start_again(v);
        return alike;
    }
    v->lockstep->pages += w->count;
    for (unsigned i = 0; i < w->count; i++)
        if (memcmp(memory_hva(a, w->gpa[i]), memory_hva(b, w->gpa[i]), MEMORY_PAGE_SIZE) != 0)
            return false;
    if (w->count > WATCH_KEPT)
        push_out(v, w->count - WATCH_KEPT);
    return true;
}

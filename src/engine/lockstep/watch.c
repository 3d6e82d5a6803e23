/*
 * Pages of memory that were just written, compared at every look.
 *
 * An engine that keeps track (watch_writes) takes MEMORY_CLEAN from a page when it first writes to
 * it. Each of the two has its own track, and one that keeps it is enough for what it writes itself.
 */
#include "engine/lockstep/internal.h"

#include <string.h>

static void note(void *side, uint64_t gpa)
{
    struct watch *w = &((struct side *)side)->watch;
    if (w->count < WATCH_MOST)
        w->gpa[w->count++] = gpa & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    else
        w->lost = true;
}

static void forget(struct side *s)
{
    s->watch.count = 0;
    s->watch.lost = false;
    s->engine->watch_writes(s->vm);
}

static void mark_all(struct side *s)
{
    for (unsigned i = 0; i < s->memory->region_count; i++) {
        const struct memory_region *r = &s->memory->region[i];
        for (uint64_t page = 0; page < r->size >> MEMORY_PAGE_BITS; page++)
            atomic_fetch_or(&r->flags[page], MEMORY_CLEAN);
    }
    forget(s);
}

static void mark_noted(struct side *s)
{
    for (unsigned i = 0; i < s->watch.count; i++)
        atomic_fetch_or(memory_flags(s->memory, s->watch.gpa[i]), MEMORY_CLEAN);
    forget(s);
}

void watch_begin(struct side *s)
{
    if (!s->engine->watch_writes)
        return;
    s->memory->written_ctx = s;
    s->memory->written = note;
    mark_all(s);
}

void watch_end(struct side *s)
{
    if (s->memory->written_ctx == s)
        s->memory->written = NULL;
}

static bool noted_equal(struct engine_vcpu *v, const struct watch *w)
{
    const struct memory *a = v->side[0].memory, *b = v->side[1].memory;
    if (w->lost)
        return pages_equal(a, b);
    v->lockstep->pages += w->count;
    for (unsigned i = 0; i < w->count; i++)
        if (memcmp(memory_hva(a, w->gpa[i]), memory_hva(b, w->gpa[i]), MEMORY_PAGE_SIZE) != 0)
            return false;
    return true;
}

bool watched_equal(struct engine_vcpu *v)
{
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &v->side[i];
        if (!noted_equal(v, &s->watch))
            return false;
        if (s->watch.lost)
            mark_all(s);
        else if (s->watch.count > WATCH_KEPT)
            mark_noted(s);
    }
    return true;
}

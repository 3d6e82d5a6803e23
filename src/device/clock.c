#include "device/clock.h"

#define NS_PER_S UINT64_C(1000000000)

static uint64_t clock_running(const struct clock *c)
{
    return c->source(c->ctx) + (uint64_t)__atomic_load_n(&c->offset, __ATOMIC_RELAXED);
}

void clock_init(struct clock *c, uint64_t (*source)(void *ctx), void *ctx)
{
    *c = (struct clock){.source = source, .ctx = ctx, .stopped_at = CLOCK_NEVER};
    c->offset = -(int64_t)source(ctx);
}

uint64_t clock_now(const struct clock *c)
{
    uint64_t stopped = __atomic_load_n(&c->stopped_at, __ATOMIC_ACQUIRE);
    return stopped != CLOCK_NEVER ? stopped : clock_running(c);
}

void clock_stop(struct clock *c)
{
    if (c->stopped_at == CLOCK_NEVER)
        __atomic_store_n(&c->stopped_at, clock_running(c), __ATOMIC_RELEASE);
}

void clock_start(struct clock *c)
{
    if (c->stopped_at == CLOCK_NEVER)
        return;
    int64_t offset = (int64_t)(c->stopped_at - c->source(c->ctx));
    __atomic_store_n(&c->offset, offset, __ATOMIC_RELAXED);
    __atomic_store_n(&c->stopped_at, CLOCK_NEVER, __ATOMIC_RELEASE);
    if (c->changed)
        c->changed(c->changed_ctx);
}

/* ---- the heap: slot n + 1 is heap[n]; a timer in slot 0 is not set ---- */

static void heap_put(struct clock *c, unsigned i, struct timer *t)
{
    c->heap[i] = t;
    t->slot = i + 1;
}

static void heap_up(struct clock *c, unsigned i, struct timer *t)
{
    while (i > 0 && c->heap[(i - 1) / 2]->deadline > t->deadline) {
        heap_put(c, i, c->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    heap_put(c, i, t);
}

static void heap_down(struct clock *c, unsigned i, struct timer *t)
{
    for (;;) {
        unsigned child = 2 * i + 1;
        if (child >= c->count)
            break;
        if (child + 1 < c->count && c->heap[child + 1]->deadline < c->heap[child]->deadline)
            child++;
        if (c->heap[child]->deadline >= t->deadline)
            break;
        heap_put(c, i, c->heap[child]);
        i = child;
    }
    heap_put(c, i, t);
}

void timer_init(struct timer *t, struct clock *c, void (*fire)(void *ctx), void *ctx)
{
    *t = (struct timer){.clock = c, .fire = fire, .ctx = ctx, .deadline = CLOCK_NEVER};
}

void timer_cancel(struct timer *t)
{
    struct clock *c = t->clock;
    t->deadline = CLOCK_NEVER;
    if (t->slot == 0)
        return;
    unsigned i = t->slot - 1;
    t->slot = 0;
    struct timer *last = c->heap[--c->count];
    if (last == t)
        return;
    if (i > 0 && c->heap[(i - 1) / 2]->deadline > last->deadline)
        heap_up(c, i, last);
    else
        heap_down(c, i, last);
}

void timer_set(struct timer *t, uint64_t deadline)
{
    struct clock *c = t->clock;
    timer_cancel(t);
    /* A machine has a few dozen timers, made at its start: the heap is never full. */
    if (deadline == CLOCK_NEVER || c->count == CLOCK_TIMERS)
        return;
    t->deadline = deadline;
    heap_up(c, c->count++, t);
    if (c->heap[0] == t && c->changed)
        c->changed(c->changed_ctx);
}

uint64_t clock_next(const struct clock *c)
{
    return c->count ? c->heap[0]->deadline : CLOCK_NEVER;
}

bool clock_fire(struct clock *c)
{
    uint64_t now = clock_now(c);
    bool fired = clock_next(c) <= now;
    /* Bounded: a timer that is set again to a time already past waits for the next call, at the
     * latest after everyone had several turns. */
    for (unsigned turns = 4 * CLOCK_TIMERS; turns && clock_next(c) <= now; turns--) {
        struct timer *t = c->heap[0];
        timer_cancel(t);
        t->fire(t->ctx);
    }
    return fired;
}

uint64_t clock_ns_to_ticks(uint64_t ns, uint64_t hz)
{
    unsigned __int128 ticks = (unsigned __int128)ns * hz / NS_PER_S;
    return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}

uint64_t clock_ticks_to_ns(uint64_t ticks, uint64_t hz)
{
    unsigned __int128 ns = ((unsigned __int128)ticks * NS_PER_S + (hz - 1)) / hz;
    return ns > UINT64_MAX ? UINT64_MAX : (uint64_t)ns;
}

/* The local APIC's timer: one-shot, periodic, TSC-deadline (SDM 3, 10.5.4). */
#include "base/bits.h"
#include "device/lapic_internal.h"

/* A guest may ask for an interrupt each nanosecond. It gets as many as it can take in such steps,
 * and the monitor stays alive. */
#define PERIOD_MIN UINT64_C(10000)

unsigned lapic_timer_shift(const struct lapic *l)
{
    unsigned code = (l->timer_divide & 3) | (l->timer_divide >> 1 & 4);
    return (code + 1) & 7; /* 0: by 2, ... 6: by 128, 7: by 1 */
}

uint32_t lapic_timer_mode(const struct lapic *l)
{
    return l->lvt[LAPIC_LVT_TIMER] & LVT_TIMER_MODE;
}

/* Counts since the initial count was written. */
static uint64_t lapic_timer_elapsed(const struct lapic *l)
{
    uint64_t now = clock_now(l->clock);
    return now > l->timer_start ? (now - l->timer_start) >> lapic_timer_shift(l) : 0;
}

uint32_t lapic_timer_current(const struct lapic *l)
{
    if (!l->timer_initial || l->timer_start == CLOCK_NEVER || lapic_timer_mode(l) == LVT_DEADLINE)
        return 0;
    uint64_t elapsed = lapic_timer_elapsed(l);
    if (lapic_timer_mode(l) == LVT_PERIODIC)
        return l->timer_initial - (uint32_t)(elapsed % l->timer_initial);
    return elapsed < l->timer_initial ? l->timer_initial - (uint32_t)elapsed : 0;
}

uint64_t lapic_timer_expiry(const struct lapic *l, uint64_t after)
{
    if (!l->timer_initial || l->timer_start == CLOCK_NEVER)
        return CLOCK_NEVER;
    uint64_t period = (uint64_t)l->timer_initial << lapic_timer_shift(l);
    uint64_t first = l->timer_start + period;
    if (after < first)
        return first;
    if (lapic_timer_mode(l) != LVT_PERIODIC)
        return CLOCK_NEVER;
    /* Never 0: 32 bits shifted by at most 7. NOLINTNEXTLINE(clang-analyzer-core.DivideZero) */
    return first + ((after - first) / period + 1) * period;
}

void lapic_timer_arm(struct lapic *l, uint64_t after)
{
    uint64_t at = CLOCK_NEVER;
    if (lapic_timer_mode(l) == LVT_DEADLINE) {
        if (l->tsc_deadline)
            at = l->host.tsc_to_ns(l->host.ctx, l->tsc_deadline);
    } else if (!(l->lvt[LAPIC_LVT_TIMER] & LVT_MASKED)) {
        at = lapic_timer_expiry(l, after);
    }
    timer_set(&l->timer, at);
}

void lapic_timer_fire(void *ctx)
{
    struct lapic *l = ctx;
    if (lapic_timer_mode(l) == LVT_DEADLINE)
        l->tsc_deadline = 0;
    lapic_local(l, LAPIC_LVT_TIMER);
    uint64_t after = clock_now(l->clock);
    if (lapic_timer_mode(l) == LVT_PERIODIC)
        after += PERIOD_MIN;
    lapic_timer_arm(l, after);
}

void lapic_timer_write_initial(struct lapic *l, uint32_t count)
{
    if (lapic_timer_mode(l) == LVT_DEADLINE)
        return;
    l->timer_initial = count;
    l->timer_start = count ? clock_now(l->clock) : CLOCK_NEVER;
    lapic_timer_arm(l, clock_now(l->clock));
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_write_divide(struct lapic *l, uint32_t value)
{
    uint64_t elapsed = l->timer_start == CLOCK_NEVER ? 0 : lapic_timer_elapsed(l);
    if (l->timer_initial && lapic_timer_mode(l) == LVT_PERIODIC)
        elapsed %= l->timer_initial;
    else if (elapsed > l->timer_initial)
        elapsed = l->timer_initial;
    l->timer_divide = value & 0xb;
    /* Early in guest time the start may wrap below zero: then the count has begun anew. */
    uint64_t now = clock_now(l->clock), gone = elapsed << lapic_timer_shift(l);
    if (l->timer_start != CLOCK_NEVER)
        l->timer_start = gone < now ? now - gone : 0;
    lapic_timer_arm(l, now);
}

void lapic_timer_write_deadline(struct lapic *l, uint64_t tsc)
{
    if (lapic_timer_mode(l) != LVT_DEADLINE)
        return;
    l->tsc_deadline = tsc;
    lapic_timer_arm(l, 0);
    /* One that is past already fires before the guest looks, not when the timer thread gets to
     * it. */
    if (tsc && l->timer.deadline <= clock_now(l->clock)) {
        timer_cancel(&l->timer);
        lapic_timer_fire(l);
    }
}

void lapic_tsc_changed(struct lapic *l)
{
    if (lapic_timer_mode(l) == LVT_DEADLINE)
        lapic_timer_arm(l, 0);
}

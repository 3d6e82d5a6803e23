/*
 * What the time-stamp counters count: guest time in ticks; or, where an engine gives the guest the
 * host's own counter, that counter, which then stands still while guest time does (unless nothing
 * can be added to it). The two differ by what CLOCK_MONOTONIC is slewed by, so deadlines are told
 * from where both are now.
 */
#include "machine/internal.h"

#if defined(__x86_64__)
#include <x86intrin.h>
static uint64_t host_counter(void)
{
    return __rdtsc();
}
#else
static uint64_t host_counter(void)
{
    return 0; /* no engine asks for it */
}
#endif

uint64_t machine_ticks(const struct machine *m)
{
    uint64_t stopped = __atomic_load_n(&m->clock.stopped_at, __ATOMIC_ACQUIRE);
    if (m->model->tsc == X86_TSC_OWN)
        return clock_ns_to_ticks(clock_now(&m->clock), m->model->tsc_hz);
    if (m->model->tsc == X86_TSC_FIXED)
        return host_counter();
    return stopped != CLOCK_NEVER ? atomic_load(&m->ticks.stand)
                                  : host_counter() - atomic_load(&m->ticks.base);
}

uint64_t machine_ticks_at(const struct machine *m, uint64_t ticks)
{
    uint64_t hz = m->model->tsc_hz;
    if (m->model->tsc == X86_TSC_OWN)
        return clock_ticks_to_ns(ticks, hz);
    uint64_t now = machine_ticks(m);
    return clock_now(&m->clock) + (ticks > now ? clock_ticks_to_ns(ticks - now, hz) : 0);
}

void machine_start_clock(struct machine *m)
{
    if (m->clock.stopped_at != CLOCK_NEVER)
        atomic_store(&m->ticks.base, host_counter() - atomic_load(&m->ticks.stand));
    clock_start(&m->clock);
    apics_give(m);
}

void machine_stop_clock(struct machine *m)
{
    apics_take(m);
    if (m->clock.stopped_at == CLOCK_NEVER)
        atomic_store(&m->ticks.stand, host_counter() - atomic_load(&m->ticks.base));
    clock_stop(&m->clock);
}

void machine_set_clock(struct machine *m, uint64_t now)
{
    m->clock.stopped_at = now;
    atomic_store(&m->ticks.stand, clock_ns_to_ticks(now, m->model->tsc_hz));
}

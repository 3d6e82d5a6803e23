/*
 * The guest's one clock, in nanoseconds since the machine was made, and the timers that devices set
 * on it. The TSC, PIT, local APIC timers, PM timer and RTC all derive from it. It follows the
 * host's monotonic clock (and so stands still while the host is suspended), or the count of
 * executed instructions (--clock virtual).
 *
 * Everything here is called under the machine's lock, except clock_now().
 */
#ifndef DOPPEL_DEVICE_CLOCK_H
#define DOPPEL_DEVICE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#define CLOCK_NEVER UINT64_MAX

struct clock;

struct timer {
    struct clock *clock;
    void (*fire)(void *ctx); /* may set the timer again */
    void *ctx;
    uint64_t deadline; /* ns on the guest's clock; CLOCK_NEVER: not set */
    unsigned slot;     /* clock.c: its place in the heap */
};

enum { CLOCK_TIMERS = 256 };

struct clock {
    uint64_t (*source)(void *ctx); /* nanoseconds, never goes back */
    void *ctx;
    /* Told when the earliest deadline may have become earlier (the waiting thread must look again).
     */
    void (*changed)(void *ctx);
    void *changed_ctx;
    int64_t offset;
    uint64_t stopped_at;              /* while stopped: the time it shows; else CLOCK_NEVER */
    struct timer *heap[CLOCK_TIMERS]; /* by deadline */
    unsigned count;
    /* Wall-clock time (ns since 1970, UTC) at guest time 0; the RTC's base. Fixed under --clock
     * virtual. */
    int64_t epoch_ns;
};

void clock_init(struct clock *c, uint64_t (*source)(void *ctx), void *ctx);
uint64_t clock_now(const struct clock *c);
/* Stops and continues guest time (pause, save). */
void clock_stop(struct clock *c);
void clock_start(struct clock *c);

void timer_init(struct timer *t, struct clock *c, void (*fire)(void *ctx), void *ctx);
void timer_set(struct timer *t, uint64_t deadline);
void timer_cancel(struct timer *t);

/* The earliest deadline, or CLOCK_NEVER. */
uint64_t clock_next(const struct clock *c);
/* Fires what is due. Whether anything was. */
bool clock_fire(struct clock *c);

/* How many ticks a hz counter that began at 0 has done at ns, and the first ns at which it has done
 * that many; neither overflows within 500 years. */
uint64_t clock_ns_to_ticks(uint64_t ns, uint64_t hz);
uint64_t clock_ticks_to_ns(uint64_t ticks, uint64_t hz);

#endif

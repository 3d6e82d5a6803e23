/*
 * What lapic.c and lapic_timer.c share.
 */
#ifndef DOPPEL_DEVICE_LAPIC_INTERNAL_H
#define DOPPEL_DEVICE_LAPIC_INTERNAL_H

#include "device/lapic.h"

/* An entry of the local vector table (SDM 3, figure 10-8). */
enum {
    LVT_STATUS = 1u << 12,
    LVT_POLARITY = 1u << 13,
    LVT_REMOTE_IRR = 1u << 14,
    LVT_LEVEL = 1u << 15,
    LVT_MASKED = 1u << 16,
    LVT_TIMER_MODE = 3u << 17,
    LVT_ONE_SHOT = 0u << 17,
    LVT_PERIODIC = 1u << 17,
    LVT_DEADLINE = 2u << 17,
};

/* An interrupt of the APIC's own, through its LVT entry. */
void lapic_local(struct lapic *l, unsigned entry);

uint32_t lapic_timer_mode(const struct lapic *l);
uint32_t lapic_timer_current(const struct lapic *l);
/* Sets the timer for the next expiry after the guest time `after`. */
void lapic_timer_arm(struct lapic *l, uint64_t after);
/* The timer ran out; ctx is the struct lapic. */
void lapic_timer_fire(void *ctx);
void lapic_timer_write_initial(struct lapic *l, uint32_t count);
void lapic_timer_write_divide(struct lapic *l, uint32_t value);
void lapic_timer_write_deadline(struct lapic *l, uint64_t tsc);

#endif

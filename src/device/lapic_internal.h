/*
 * What the files of the local APIC share.
 */
#ifndef DOPPEL_DEVICE_LAPIC_INTERNAL_H
#define DOPPEL_DEVICE_LAPIC_INTERNAL_H

#include "device/lapic.h"

/* Registers: the page's offset divided by 16, which is also the x2APIC MSR's distance from 0x800
 * (SDM 3, table 10-6). */
enum {
    REG_ID = 0x02,
    REG_VERSION = 0x03,
    REG_TPR = 0x08,
    REG_APR = 0x09,
    REG_PPR = 0x0a,
    REG_EOI = 0x0b,
    REG_RRD = 0x0c,
    REG_LDR = 0x0d,
    REG_DFR = 0x0e,
    REG_SVR = 0x0f,
    REG_ISR = 0x10,
    REG_TMR = 0x18,
    REG_IRR = 0x20,
    REG_ESR = 0x28,
    REG_ICR = 0x30,
    REG_ICR_HIGH = 0x31,
    REG_LVT_TIMER = 0x32,
    REG_LVT_ERROR = 0x37,
    REG_INITIAL_COUNT = 0x38,
    REG_CURRENT_COUNT = 0x39,
    REG_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f,
};

enum {
    SVR_ENABLE = 1u << 8,
    SVR_NO_EOI_BROADCAST = 1u << 12,
    SVR_WRITABLE = SVR_NO_EOI_BROADCAST | 1u << 9 | SVR_ENABLE | 0xff,
};
enum {
    ESR_SEND_VECTOR = 1u << 5,
    ESR_RECEIVE_VECTOR = 1u << 6,
    ESR_REGISTER = 1u << 7,
};
enum {
    ICR_LOGICAL = 1u << 11,
    ICR_STATUS = 1u << 12,
    ICR_ASSERT = 1u << 14,
    ICR_LEVEL = 1u << 15,
    ICR_SHORTHAND = 3u << 18,
    ICR_SELF = 1u << 18,
    ICR_ALL = 2u << 18,
    ICR_OTHERS = 3u << 18,
    ICR_DEFINED = 0x000cdfff & ~ICR_STATUS,
};
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

/* Which bits of each LVT entry exist. */
extern const uint32_t lapic_lvt_writable[LAPIC_LVTS];

/* Tells the processor what its interrupt line is, changed or not. */
void lapic_tell(struct lapic *l);
/* An interrupt of the APIC's own, through its LVT entry. */
void lapic_local(struct lapic *l, unsigned entry);

uint32_t lapic_timer_mode(const struct lapic *l);
/* A count is 1 << so many nanoseconds. */
unsigned lapic_timer_shift(const struct lapic *l);
/* When the count next reaches zero after the guest time `after`; CLOCK_NEVER: it does not. */
uint64_t lapic_timer_expiry(const struct lapic *l, uint64_t after);
uint32_t lapic_timer_current(const struct lapic *l);
/* Sets the timer for the next expiry after the guest time `after`. */
void lapic_timer_arm(struct lapic *l, uint64_t after);
/* The timer ran out; ctx is the struct lapic. */
void lapic_timer_fire(void *ctx);
void lapic_timer_write_initial(struct lapic *l, uint32_t count);
void lapic_timer_write_divide(struct lapic *l, uint32_t value);
void lapic_timer_write_deadline(struct lapic *l, uint64_t tsc);

#endif

/*
 * The MC146818 real-time clock with 256 bytes of battery-backed memory (ports 0x70-0x73).
 *
 * It shows UTC, from clock->epoch_ns plus guest time, plus what the guest set it to.
 */
#ifndef DOPPEL_DEVICE_RTC_H
#define DOPPEL_DEVICE_RTC_H

#include "base/archive.h"
#include "device/bus.h"
#include "device/clock.h"

struct rtc {
    struct clock *clock;
    struct timer periodic, update;
    struct irq_line irq8;
    uint8_t index, index_extended; /* ports 0x70 (bit 7: NMI disabled) and 0x72 */
    uint8_t ram[256]; /* the time registers here hold the time while updates are stopped */
    int64_t offset_s; /* the guest's time minus ours */
    int64_t phase_ns; /* added before the second is cut off: where the guest's seconds begin */
    int64_t updated;  /* the second (since 1970) of the last update cycle accounted for */
    uint64_t periodic_seen; /* 32.768 kHz ticks up to which the periodic flag is accounted for */
};

extern const struct archive_type rtc_archive;

void rtc_init(struct rtc *r, struct clock *clock, struct irq_line irq8);
void rtc_reset(struct rtc *r);
bool rtc_attach(struct rtc *r, struct bus *ports, struct error *err);
/* Writes the memory sizes where a PC's firmware leaves them: bytes of RAM below 4 GiB (from 0 up)
 * and from 4 GiB up. */
void rtc_set_memory(struct rtc *r, uint64_t low, uint64_t high);

#endif

/*
 * The 8254 interval timer (1.193182 MHz, three channels) and port 0x61, which gates channel 2 and
 * shows its output.
 *
 * Counting is not simulated: a channel remembers when its count was loaded, and count and output
 * are computed from the guest's clock when someone looks. Only channel 0's output edges are events
 * (IRQ 0).
 */
#ifndef DOPPEL_DEVICE_PIT_H
#define DOPPEL_DEVICE_PIT_H

#include "base/archive.h"
#include "device/bus.h"
#include "device/clock.h"

#define PIT_HZ UINT64_C(1193182)

struct pit_channel {
    uint8_t mode; /* 0 to 5 */
    uint8_t bcd;
    uint8_t access; /* RW bits of the control word: 1 LSB, 2 MSB, 3 LSB then MSB */
    uint8_t gate;
    uint8_t loaded;         /* a count was written since the control word */
    uint8_t triggered;      /* modes 1 and 5: the gate's edge came since then */
    uint8_t write_high;     /* the next written byte is the MSB */
    uint8_t write_low;      /* the LSB that waits for it */
    uint8_t read_high;      /* the next read byte is the MSB */
    uint8_t latched;        /* bytes of latched_count still to be read: 0, 1 or 2 */
    uint8_t status_latched; /* latched_status is to be read first */
    uint8_t latched_status;
    uint16_t latched_count;
    uint32_t count;        /* the initial count in the counting element, 1 to 0x10000 */
    uint32_t next_count;   /* modes 2 and 3: takes over at next_at; 0: none */
    uint32_t next_trigger; /* modes 1 and 5: takes over with the next trigger; 0: none */
    uint64_t start;        /* PIT ticks at which count was loaded */
    uint64_t next_at;
    uint64_t paused; /* ticks counted when the gate stopped it; UINT64_MAX: it runs */
};

struct pit {
    struct clock *clock;
    struct timer timer;
    struct irq_line irq0;
    struct pit_channel channel[3];
    uint8_t port61;   /* what was written to bits 0 to 3 */
    uint8_t out0;     /* level of IRQ 0 */
    uint64_t edge_at; /* PIT ticks of channel 0's next rising edge; UINT64_MAX: none */
};

extern const struct archive_type pit_archive;

void pit_init(struct pit *p, struct clock *clock, struct irq_line irq0);
void pit_reset(struct pit *p);
/* Ports 0x40-0x43 and 0x61. */
bool pit_attach(struct pit *p, struct bus *ports, struct error *err);

#endif

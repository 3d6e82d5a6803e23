/*
 * The i8042 keyboard controller with its second (mouse) port, as the PS/2 has it (ports 0x60 and
 * 0x64).
 */
#ifndef DOPPEL_DEVICE_I8042_H
#define DOPPEL_DEVICE_I8042_H

#include "base/archive.h"
#include "device/bus.h"
#include "device/clock.h"
#include "device/ps2.h"

struct i8042_host {
    void *ctx;
    void (*reset)(void *ctx);             /* the processor's reset line was pulsed */
    void (*a20)(void *ctx, bool enabled); /* may be NULL */
};

struct i8042 {
    struct clock *clock;
    struct irq_line irq1, irq12;
    struct i8042_host host;
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    uint8_t status, config; /* config is the command byte, at 0x20 of its memory */
    uint8_t output_port;
    uint8_t data;    /* the output buffer */
    uint8_t from;    /* where it came from */
    uint8_t command; /* the controller command whose parameter is awaited; 0: none */
    uint8_t release; /* translation saw a break prefix: 0x80 */
    uint8_t ram[32];
};

extern const struct archive_type i8042_archive; /* save keyboard and mouse beside it */

void i8042_init(struct i8042 *k, struct clock *clock, struct irq_line irq1, struct irq_line irq12,
                const struct i8042_host *host);
void i8042_reset(struct i8042 *k);
bool i8042_attach(struct i8042 *k, struct bus *ports, struct error *err);

/* Input for the guest, from a display: see ps2.h. */
void i8042_key(struct i8042 *k, unsigned key, bool down);
void i8042_mouse_move(struct i8042 *k, int dx, int dy, int dz, unsigned buttons);

#endif

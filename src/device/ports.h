/*
 * Single ports that belong to no chip: system control port A (0x92: fast A20 and reset), the delay
 * port 0xed.
 */
#ifndef DOPPEL_DEVICE_PORTS_H
#define DOPPEL_DEVICE_PORTS_H

#include "base/archive.h"
#include "device/bus.h"

struct ports {
    void *ctx;
    void (*reset)(void *ctx);             /* 0x92 bit 0 */
    void (*a20)(void *ctx, bool enabled); /* 0x92 bit 1; may be NULL */
    uint8_t port92;
};

extern const struct archive_type ports_archive;

void ports_init(struct ports *p, void *ctx, void (*reset)(void *ctx),
                void (*a20)(void *ctx, bool enabled));
void ports_reset(struct ports *p);
bool ports_attach(struct ports *p, struct bus *io, struct error *err);

#endif

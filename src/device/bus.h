/*
 * A bus: who answers at which address. One for I/O ports, one for guest-physical memory.
 *
 * Devices are plain: a struct, register handlers, a save/load description (base/archive.h). They
 * are created and wired by machine/, raise lines through struct irq_line, and never know who
 * listens. All device code runs under the machine's lock: handlers, timers, line changes.
 */
#ifndef DOPPEL_DEVICE_BUS_H
#define DOPPEL_DEVICE_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* offset counts from the region's base. size: 1, 2, 4 (ports), also 8 (memory). A handler gets
 * whatever size the guest used and must cope with each, and with an access that runs over the end
 * of its last register. */
struct bus_doorbell {
    uint64_t offset, value; /* what is written there, by whoever keeps to the rules */
    unsigned size;
};

struct bus_ops {
    uint64_t (*read)(void *device, uint64_t offset, unsigned size);
    void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
    /* The widest access the handlers take: 1 for a chip on an 8-bit bus; wider ones are split, low
     * address first. 0: any. An access is also split where it runs over a region's end, so a
     * handler never sees offset + size beyond its region's size. */
    unsigned widest;
    /* The region's doorbells from 0 on; false: there are no more. At one, a write says no more than
     * that it happened: several may be made one, and that one later. NULL: there are none. */
    bool (*doorbell)(void *device, unsigned n, struct bus_doorbell *to);
};

struct bus_region {
    uint64_t base, size;
    const struct bus_ops *ops;
    void *device;
    const char *name; /* for --stats and traces */
};

enum { BUS_REGIONS = 128 };

struct bus {
    struct bus_region region[BUS_REGIONS]; /* sorted by base, none overlap */
    unsigned count;
};

/* Fails when the span overlaps another or the bus is full. */
bool bus_add(struct bus *b, const char *name, uint64_t base, uint64_t size,
             const struct bus_ops *ops, void *device, struct error *err);
void bus_remove(struct bus *b, uint64_t base);
const struct bus_region *bus_find(const struct bus *b, uint64_t address);

/* Unclaimed addresses read all ones and swallow writes. */
uint64_t bus_read(const struct bus *b, uint64_t address, unsigned size);
void bus_write(const struct bus *b, uint64_t address, unsigned size, uint64_t value);

/* A wire from a device to whoever routes it. set may be NULL: nobody listens. */
struct irq_line {
    void (*set)(void *ctx, unsigned pin, bool level);
    void *ctx;
    unsigned pin;
};
static inline void irq_set(const struct irq_line *line, bool level)
{
    if (line->set)
        line->set(line->ctx, line->pin, level);
}

/* A message-signalled interrupt: a memory write of data to address (PCI 3.0, 6.8; SDM 3, 10.11). */
struct msi_target {
    void (*send)(void *ctx, uint64_t address, uint32_t data);
    void *ctx;
};

#endif

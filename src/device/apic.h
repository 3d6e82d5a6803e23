/*
 * What travels between APICs, and the bus it travels on: interrupt messages from I/O APIC pins,
 * from other processors (IPIs) and from devices (MSI), to the local APICs they name (SDM 3, 10.6
 * and 10.11).
 */
#ifndef DOPPEL_DEVICE_APIC_H
#define DOPPEL_DEVICE_APIC_H

#include <stdbool.h>
#include <stdint.h>

struct ioapic;
struct lapic;

/* Delivery modes (SDM 3, 10.6.1). */
enum apic_mode {
    APIC_FIXED = 0,
    APIC_LOWEST = 1,
    APIC_SMI = 2,
    APIC_RESERVED = 3,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
};

struct apic_message {
    uint32_t destination; /* APIC ID or logical mask; wide: 32 bits of it count, else 8 */
    uint8_t vector;
    uint8_t mode; /* enum apic_mode */
    bool logical;
    bool level; /* level-triggered */
    bool wide;  /* sent in x2APIC format: broadcast is 0xffffffff, not 0xff */
};

enum { APIC_BUS_MAX = 16 };

/* Who keeps the local APICs while they are lent (lapic.h), all of them at once. */
struct apic_keeper {
    void *ctx;
    void (*deliver)(void *ctx, const struct apic_message *m);
    /* Which vectors of which processors are level-triggered by an I/O APIC's entry: their EOIs are
     * to be told. Called when an entry was written. */
    void (*routes)(void *ctx, const struct ioapic *a);
    /* A device's message, if it is the usual kind: edge-triggered, a vector. False: deliver() it.
     * May be NULL. */
    bool (*message)(void *ctx, const struct apic_message *m);
};

struct apic_bus {
    struct apic_keeper keeper; /* deliver is NULL unless they are lent */
    struct lapic *lapic[APIC_BUS_MAX];
    unsigned count;
    struct ioapic *ioapic;
    unsigned turn; /* whom lowest-priority delivery prefers among equals */
};

void apic_bus_init(struct apic_bus *b);
void apic_bus_add(struct apic_bus *b, struct lapic *l);

/* Delivers to every local APIC that the message names. ctx is the struct apic_bus: the form that
 * struct ioapic and struct lapic call back. */
void apic_bus_deliver(void *ctx, const struct apic_message *m);
/* The memory write that is an MSI (struct msi_target.send). Addresses outside
 * 0xfee00000-0xfeefffff are ignored. */
void apic_bus_msi(void *ctx, uint64_t address, uint32_t data);
/* An entry of the I/O APIC was written. */
void apic_bus_routed(void *ctx, const struct ioapic *a);
/* A local APIC's EOI of a level-triggered vector, to the I/O APIC. */
void apic_bus_eoi(void *ctx, uint8_t vector);

#endif

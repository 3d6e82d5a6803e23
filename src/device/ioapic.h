/*
 * The I/O APIC (82093AA, with the EOI register of version 0x20): 24 pins, each routed by an entry
 * of the redirection table to local APICs.
 */
#ifndef DOPPEL_DEVICE_IOAPIC_H
#define DOPPEL_DEVICE_IOAPIC_H

#include "base/archive.h"
#include "device/apic.h"
#include "device/bus.h"

#define IOAPIC_BASE UINT64_C(0xfec00000)
enum { IOAPIC_PINS = 24, IOAPIC_SIZE = 0x1000 };

struct ioapic {
    void (*deliver)(void *ctx, const struct apic_message *m);
    void (*routed)(void *ctx, const struct ioapic *a); /* an entry was written; may be NULL */
    void *ctx;
    uint32_t initial_id;
    uint32_t id; /* bits 24 to 27, as the register has it */
    uint32_t ioregsel;
    uint64_t redirection[IOAPIC_PINS];
    uint32_t lines; /* pins that are asserted */
};

extern const struct archive_type ioapic_archive;

void ioapic_init(struct ioapic *a, void (*deliver)(void *ctx, const struct apic_message *m),
                 void *ctx, unsigned id);
void ioapic_reset(struct ioapic *a);
bool ioapic_attach(struct ioapic *a, struct bus *memory, struct error *err);
/* A pin's line; a struct irq_line's set. level is whether the interrupt is asserted, whatever the
 * polarity the guest programs (a virtual wire has the polarity its firmware tables tell). */
void ioapic_set(void *ioapic, unsigned pin, bool level);
/* The message that a pin's interrupt is; level: it waits for an EOI. */
struct apic_message ioapic_message(const struct ioapic *a, unsigned pin);
/* A local APIC's EOI for a level-triggered vector. */
void ioapic_eoi(struct ioapic *a, uint8_t vector);

#endif

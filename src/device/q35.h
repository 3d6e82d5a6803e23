/*
 * The chip set's own PCI functions: the host bridge 00:00.0 and the ISA (LPC) bridge 00:1f.0.
 *
 * The host bridge says it is a 82G33/Q35 (8086:29c0) and the ISA bridge an ICH9 (8086:2918),
 * because that is the oldest pair with a memory-mapped configuration window (PCIEXBAR) that every
 * operating system knows: the MCFG table of a 440FX would be believed by none.
 */
#ifndef DOPPEL_DEVICE_Q35_H
#define DOPPEL_DEVICE_Q35_H

#include "device/pci.h"

enum {
    Q35_HOST_DEVFN = PCI_DEVFN(0, 0),
    Q35_LPC_DEVFN = PCI_DEVFN(0x1f, 0),
    Q35_PMBASE = 0x600,
};

struct q35 {
    struct pci_function host, lpc;
    struct irq_line pic;    /* set() gets the 8259 input */
    struct irq_line ioapic; /* set() gets the I/O APIC pin */
    uint8_t levels;         /* of PIRQA to PIRQH */
    uint16_t inputs;        /* of the 8259s, as PIRQs drive them */
};

/* The 8259 inputs to which PIRQA to PIRQH are routed after reset: 10 and 11. */
extern const uint8_t q35_pirq_irq[8];

/* pic and ioapic: their pin is ignored. */
void q35_init(struct q35 *q, struct irq_line pic, struct irq_line ioapic);
bool q35_add(struct q35 *q, struct pci_bus *b, struct error *err);
/* The PIRQ lines' set (struct pci_bus.pirq, ctx: the struct q35). */
void q35_pirq(void *q35, unsigned pirq, bool level);

#endif

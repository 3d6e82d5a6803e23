/*
 * The MP table (Intel MultiProcessor Specification 1.4, chapter 4): what ACPI's MADT and _PRT say,
 * for systems that do without ACPI.
 */
#include "base/bits.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/pci.h"
#include "machine/aml.h"
#include "machine/firmware.h"
#include "machine/map.h"

enum {
    FLOATING_SIZE = 16,
    HEADER_SIZE = 44,

    MP_PROCESSOR = 0,
    MP_BUS = 1,
    MP_IOAPIC = 2,
    MP_IO_INTERRUPT = 3,
    MP_LOCAL_INTERRUPT = 4,

    MP_INT = 0,
    MP_NMI = 1,
    MP_EXTINT = 3,

    /* Polarity in bits 0 and 1, trigger mode in bits 2 and 3. */
    MP_CONFORMS = 0,
    MP_HIGH_LEVEL = 0xd,

    BUS_PCI = 0,
    BUS_ISA = 1,
    ALL_APICS = 0xff,
};

static void processor(struct aml *a, unsigned index)
{
    aml_byte(a, MP_PROCESSOR);
    aml_byte(a, (uint8_t)index);
    aml_byte(a, 0x14);                 /* an integrated APIC */
    aml_byte(a, index == 0 ? 3 : 1);   /* enabled; the boot processor */
    aml_little(a, 0x600, 4);           /* signature: family 6 */
    aml_little(a, BIT(0) | BIT(9), 4); /* features: FPU, APIC */
    aml_little(a, 0, 8);
}

static void bus(struct aml *a, uint8_t id, const char *type)
{
    aml_byte(a, MP_BUS);
    aml_byte(a, id);
    aml_bytes(a, type, 6);
}

static void interrupt(struct aml *a, uint8_t entry, uint8_t type, uint16_t flags, uint8_t from_bus,
                      uint8_t from_irq, uint8_t to_apic, uint8_t to_pin)
{
    aml_byte(a, entry);
    aml_byte(a, type);
    aml_little(a, flags, 2);
    aml_byte(a, from_bus);
    aml_byte(a, from_irq);
    aml_byte(a, to_apic);
    aml_byte(a, to_pin);
}

static unsigned isa_interrupts(struct aml *a)
{
    unsigned n = 0;
    for (uint8_t irq = 0; irq < 16; irq++) {
        if (irq == IRQ_CASCADE)
            continue;
        interrupt(a, MP_IO_INTERRUPT, MP_INT, irq == 9 ? MP_HIGH_LEVEL : MP_CONFORMS, BUS_ISA, irq,
                  MAP_IOAPIC_ID, irq == IRQ_TIMER ? GSI_TIMER : irq);
        n++;
    }
    return n;
}

/* A PCI source is the device's number and its pin (0: INTA#). */
static unsigned pci_interrupts(struct aml *a)
{
    unsigned n = 0;
    for (uint8_t slot = 1; slot < 32; slot++) {
        for (uint8_t pin = 0; pin < 4; pin++, n++) {
            uint8_t to = (uint8_t)(GSI_PCI + pci_pirq(PCI_DEVFN(slot, 0), pin + 1u));
            interrupt(a, MP_IO_INTERRUPT, MP_INT, MP_CONFORMS, BUS_PCI, (uint8_t)(slot << 2 | pin),
                      MAP_IOAPIC_ID, to);
        }
    }
    return n;
}

static unsigned entries(struct aml *a, const struct firmware_info *info)
{
    unsigned n = info->cpus + 3 + 2;
    for (unsigned i = 0; i < info->cpus; i++)
        processor(a, i);
    bus(a, BUS_PCI, "PCI   ");
    bus(a, BUS_ISA, "ISA   ");
    aml_byte(a, MP_IOAPIC);
    aml_byte(a, MAP_IOAPIC_ID);
    aml_byte(a, 0x20); /* version */
    aml_byte(a, 1);    /* usable */
    aml_little(a, IOAPIC_BASE, 4);
    n += isa_interrupts(a);
    n += pci_interrupts(a);
    interrupt(a, MP_LOCAL_INTERRUPT, MP_EXTINT, MP_CONFORMS, BUS_ISA, 0, ALL_APICS, 0);
    interrupt(a, MP_LOCAL_INTERRUPT, MP_NMI, MP_CONFORMS, BUS_ISA, 0, ALL_APICS, 1);
    return n;
}

void mptable_build(struct aml *out, uint32_t gpa, const struct firmware_info *info)
{
    size_t floating = out->size;
    aml_bytes(out, "_MP_", 4);
    aml_little(out, gpa + FLOATING_SIZE, 4);
    aml_byte(out, FLOATING_SIZE / 16);
    aml_byte(out, 4); /* specification 1.4 */
    aml_little(out, 0, 6);

    size_t at = out->size;
    aml_bytes(out, "PCMP", 4);
    aml_little(out, 0, 2); /* length */
    aml_byte(out, 4);
    aml_byte(out, 0); /* checksum */
    aml_bytes(out, "DOPPEL  PC          ", 20);
    aml_little(out, 0, 6); /* no OEM table */
    aml_little(out, 0, 2); /* entries */
    aml_little(out, LAPIC_DEFAULT_BASE, 4);
    aml_little(out, 0, 4); /* no extended table */
    unsigned n = entries(out, info);
    if (out->overflow)
        return;
    uint8_t *table = out->data + at;
    size_t size = out->size - at;
    store_u16(table + 4, (uint16_t)size);
    store_u16(table + 34, (uint16_t)n);
    table[7] = firmware_checksum(table, size);
    out->data[floating + 10] = firmware_checksum(out->data + floating, FLOATING_SIZE);
}

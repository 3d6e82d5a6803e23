/*
 * The DSDT: what ACPI says of devices that can't be found by looking: the PCI host bridge with its
 * windows and interrupt wiring, the ISA devices behind the LPC bridge, the processors, and S5.
 */
#include <stdio.h>

#include "device/pci.h"
#include "device/pit.h"
#include "device/pm.h"
#include "device/q35.h"
#include "machine/aml.h"
#include "machine/firmware.h"
#include "machine/map.h"

/* \_S5: the SLP_TYP that switches off. */
static void sleep_states(struct aml *a)
{
    aml_name(a, "_S5");
    aml_package(a, 4);
    aml_integer(a, PM_SLP_TYP_S5);
    for (unsigned i = 0; i < 3; i++)
        aml_integer(a, 0);
    aml_end(a);
}

/* \PICF remembers the interrupt model that the guest chose (_PIC: 0 8259, 1 APIC). */
static void interrupt_model(struct aml *a)
{
    aml_name_integer(a, "PICF", 0);
    aml_method(a, "_PIC", 1);
    aml_store_argument(a, 0, "PICF");
    aml_end(a);
}

/* One routing table: every pin of every slot that can hold a device. */
static void routing(struct aml *a, const char *name, bool apic)
{
    enum { FIRST = 1, LAST = 31 };
    aml_name(a, name);
    aml_package(a, (LAST - FIRST + 1) * 4);
    for (unsigned slot = FIRST; slot <= LAST; slot++) {
        for (unsigned pin = 1; pin <= 4; pin++) {
            unsigned pirq = pci_pirq(PCI_DEVFN(slot, 0), pin);
            aml_package(a, 4);
            aml_integer(a, slot << 16 | 0xffff); /* all functions */
            aml_integer(a, pin - 1);
            aml_integer(a, 0); /* hard-wired: what follows is an interrupt number */
            aml_integer(a, apic ? GSI_PCI + pirq : q35_pirq_irq[pirq]);
            aml_end(a);
        }
    }
    aml_end(a);
}

static void host_bridge_resources(struct aml *a)
{
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_word_window(a, AML_BUS, 0, 0xff);
    aml_io(a, 0xcf8, 0xcf8, 1, 8); /* consumed by the bridge itself */
    aml_word_window(a, AML_IO, 0, 0xcf7);
    aml_word_window(a, AML_IO, 0xd00, 0xffff);
    aml_dword_memory(a, MAP_PCI_LOW, MAP_PCI_LOW_LAST);
    aml_dword_memory(a, (uint32_t)PCI_MEMORY_BASE, (uint32_t)PCI_MEMORY_END - 1);
    aml_resources_end(a);
}

/* What is taken and must not be given away: the configuration window and the chip set's ports. */
static void motherboard(struct aml *a)
{
    aml_device(a, "MBRD");
    aml_name_eisa_id(a, "_HID", "PNP0C02");
    aml_name(a, "_CRS");
    aml_resources(a);
    aml_memory_fixed(a, (uint32_t)PCI_ECAM_BASE, (uint32_t)PCI_ECAM_SIZE);
    aml_io(a, PM_BASE, PM_BASE, 1, PM_SIZE);
    aml_io(a, PM_SMI_CMD, PM_SMI_CMD, 1, 2);
    aml_resources_end(a);
    aml_end(a);
}

/* ---- ISA devices ---- */

struct isa_device {
    const char *name, *hid;
    uint8_t uid;
    struct {
        uint16_t base;
        uint8_t count;
    } io[2];
    int irq;
};

static const struct isa_device isa_devices[] = {
    {"RTC", "PNP0B00", 0, {{0x70, 8}}, IRQ_RTC},
    {"COM1", "PNP0501", 1, {{PORT_COM1, 8}}, IRQ_COM1},
    {"KBD", "PNP0303", 0, {{0x60, 1}, {0x64, 1}}, IRQ_KEYBOARD},
    {"MOU", "PNP0F13", 0, {{0}}, IRQ_MOUSE},
};

static void isa_device(struct aml *a, const struct isa_device *d)
{
    aml_device(a, d->name);
    aml_name_eisa_id(a, "_HID", d->hid);
    if (d->uid)
        aml_name_integer(a, "_UID", d->uid);
    aml_name_integer(a, "_STA", 0xf);
    aml_name(a, "_CRS");
    aml_resources(a);
    for (unsigned i = 0; i < 2 && d->io[i].count; i++)
        aml_io(a, d->io[i].base, d->io[i].base, 1, d->io[i].count);
    aml_irq(a, (unsigned)d->irq);
    aml_resources_end(a);
    aml_end(a);
}

static void pci(struct aml *a)
{
    aml_device(a, "PCI0");
    aml_name_eisa_id(a, "_HID", "PNP0A08");
    aml_name_eisa_id(a, "_CID", "PNP0A03");
    aml_name_integer(a, "_UID", 0);
    aml_name_integer(a, "_BBN", 0);
    host_bridge_resources(a);
    routing(a, "PRTA", true);
    routing(a, "PRTP", false);
    aml_method(a, "_PRT", 0);
    aml_if(a);
    aml_path(a, "PICF");
    aml_return(a, "PRTA");
    aml_end(a);
    aml_return(a, "PRTP");
    aml_end(a);
    aml_device(a, "ISA");
    aml_name_integer(a, "_ADR", 0x1f0000); /* device 31, function 0 */
    for (unsigned i = 0; i < sizeof isa_devices / sizeof isa_devices[0]; i++)
        isa_device(a, &isa_devices[i]);
    aml_end(a);
    aml_end(a);
}

void acpi_dsdt(struct aml *out, const struct firmware_info *info)
{
    sleep_states(out);
    interrupt_model(out);
    aml_scope(out, "\\_SB");
    for (unsigned i = 0; i < info->cpus; i++) {
        char name[8];
        snprintf(name, sizeof name, "CP%02X", i & 0xff);
        aml_processor(out, name, (uint8_t)i);
        aml_end(out);
    }
    motherboard(out);
    pci(out);
    aml_end(out);
}

#include "device/q35.h"

#include "base/bits.h"

/* The host bridge's registers (3 Series chip set, 5.1). */
enum { PCIEXBAR = 0x60, PAM0 = 0x90, PAM_COUNT = 7 };
/* The ISA bridge's (ICH9, 13.1). */
enum {
    PMBASE = 0x40,
    ACPI_CNTL = 0x44,
    PIRQ_A = 0x60,
    SIRQ_CNTL = 0x64,
    PIRQ_E = 0x68,
    ACPI_EN = 1u << 7,
    PIRQ_DISABLED = 1u << 7,
    PIRQ_WRITABLE = 0x8f,
};

const uint8_t q35_pirq_irq[8] = {10, 11, 10, 11, 10, 11, 10, 11};

static unsigned pirq_register(unsigned pirq)
{
    return pirq < 4 ? PIRQ_A + pirq : PIRQ_E + pirq - 4;
}

/* The 8259 input that a PIRQ goes to, or -1; those of the timer, keyboard, cascade, clock and FPU
 * are no choice (ICH9, 13.1.18). */
static int q35_route(const struct q35 *q, unsigned pirq)
{
    const unsigned reserved = 1u << 0 | 1u << 1 | 1u << 2 | 1u << 8 | 1u << 13;
    uint8_t value = q->lpc.config[pirq_register(pirq)];
    if ((value & PIRQ_DISABLED) || (reserved >> (value & 15) & 1))
        return -1;
    return value & 15;
}

/* An 8259 input is high while any PIRQ that is routed to it is. */
static void q35_update_pic(struct q35 *q)
{
    uint16_t inputs = 0;
    for (unsigned pirq = 0; pirq < 8; pirq++) {
        int irq = q35_route(q, pirq);
        if (irq >= 0 && (q->levels >> pirq & 1))
            inputs |= (uint16_t)(1u << irq);
    }
    uint16_t changed = inputs ^ q->inputs;
    q->inputs = inputs;
    for (unsigned irq = 0; irq < 16; irq++)
        if ((changed >> irq & 1) && q->pic.set)
            q->pic.set(q->pic.ctx, irq, inputs >> irq & 1);
}

void q35_pirq(void *q35, unsigned pirq, bool level)
{
    struct q35 *q = q35;
    pirq &= 7;
    q->levels = (uint8_t)((q->levels & ~(1u << pirq)) | (unsigned)level << pirq);
    if (q->ioapic.set)
        q->ioapic.set(q->ioapic.ctx, 16 + pirq, level);
    q35_update_pic(q);
}

static void q35_lpc_written(void *device, unsigned offset, unsigned size)
{
    q35_update_pic(device);
}

static void q35_init_host(struct pci_function *f)
{
    pci_function_init(f, "host bridge", 0x8086, 0x29c0, 0x060000, 0x02);
    /* Enabled, 256 buses. A guest can't move the window: the firmware's tables tell where it is. */
    pci_put(f->config, PCIEXBAR, 8, PCI_ECAM_BASE | 1);
    /* Below 1 MiB there is RAM everywhere: the attributes are kept and do nothing. */
    for (unsigned i = 0; i < PAM_COUNT; i++)
        f->writable[PAM0 + i] = 0x33;
}

static void q35_init_lpc(struct q35 *q)
{
    struct pci_function *f = &q->lpc;
    pci_function_init(f, "isa bridge", 0x8086, 0x2918, 0x060100, 0x02);
    /* Fixed where the FADT says; the SCI is IRQ 9 (ACPI_CNTL's low bits are 0). */
    pci_put(f->config, PMBASE, 4, Q35_PMBASE | 1);
    f->config[ACPI_CNTL] = ACPI_EN;
    f->config[SIRQ_CNTL] = 0x10;
    for (unsigned i = 0; i < 8; i++) {
        f->config[pirq_register(i)] = q35_pirq_irq[i];
        f->writable[pirq_register(i)] = PIRQ_WRITABLE;
    }
    f->config[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    pci_put(f->writable, PCI_COMMAND, 2, PCI_COMMAND_PARITY | PCI_COMMAND_SERR);
    f->written = q35_lpc_written;
    f->device = q;
}

void q35_init(struct q35 *q, struct irq_line pic, struct irq_line ioapic)
{
    *q = (struct q35){.pic = pic, .ioapic = ioapic};
    q35_init_host(&q->host);
    q35_init_lpc(q);
}

bool q35_add(struct q35 *q, struct pci_bus *b, struct error *err)
{
    return pci_add(b, &q->host, Q35_HOST_DEVFN, err) && pci_add(b, &q->lpc, Q35_LPC_DEVFN, err);
}

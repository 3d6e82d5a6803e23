#include "machine/pc.h"

#include "base/bits.h"
#include "machine/map.h"

/* ---- wires ---- */

/* An ISA interrupt goes to the 8259s and, the timer's by another pin, to the I/O APIC. */
static void isa_set(void *ctx, unsigned irq, bool level)
{
    struct pc *pc = ctx;
    pic_set(&pc->pic, irq, level);
    ioapic_set(&pc->ioapic, irq == IRQ_TIMER ? GSI_TIMER : irq, level);
}

static struct irq_line isa_line(struct pc *pc, unsigned irq)
{
    return (struct irq_line){isa_set, pc, irq};
}

void pc_fpu_error(struct pc *pc, bool level)
{
    isa_set(pc, IRQ_FPU, level);
}

/* The 8259s' INTR goes to LINT0 of the boot processor. */
static void pic_output(void *ctx, unsigned pin, bool level)
{
    struct pc *pc = ctx;
    (void)pin;
    if (pc->cpus)
        lapic_lint(&pc->lapic[0], 0, level);
}

/* 0xcf9: a hard reset and a power cycle are the same here. */
static void reset_control(void *ctx, bool full)
{
    struct pc *pc = ctx;
    (void)full;
    pc->host.reset(pc->host.ctx);
}

/* ---- making ---- */

static void make_chips(struct pc *pc)
{
    struct clock *clock = pc->clock;
    const struct pc_host *h = &pc->host;
    apic_bus_init(&pc->apics);
    pc->apics.ioapic = &pc->ioapic;
    pic_init(&pc->pic, (struct irq_line){pic_output, pc, 0});
    ioapic_init(&pc->ioapic, apic_bus_deliver, &pc->apics, MAP_IOAPIC_ID);
    pc->ioapic.routed = apic_bus_routed;
    pit_init(&pc->pit, clock, isa_line(pc, IRQ_TIMER));
    rtc_init(&pc->rtc, clock, isa_line(pc, IRQ_RTC));
    dma_init(&pc->dma);
    ports_init(&pc->system_ports, h->ctx, h->reset, NULL);
    i8042_init(&pc->i8042, clock, isa_line(pc, IRQ_KEYBOARD), isa_line(pc, IRQ_MOUSE),
               &(struct i8042_host){.ctx = h->ctx, .reset = h->reset});
    uart_init(&pc->com1, clock, isa_line(pc, IRQ_COM1),
              &(struct uart_backend){h->ctx, h->transmit, h->receive_ready});
    pm_init(&pc->pm, clock, isa_line(pc, PM_SCI_IRQ), &(struct pm_host){h->ctx, h->power_off});
    pci_bus_init(&pc->pci, &pc->ports, &pc->memory, (struct irq_line){q35_pirq, &pc->q35, 0},
                 (struct msi_target){apic_bus_msi, &pc->apics}, reset_control, pc);
    q35_init(&pc->q35, (struct irq_line){pic_set, &pc->pic, 0},
             (struct irq_line){ioapic_set, &pc->ioapic, 0});
    debug_exit_init(&pc->debug_exit, h->ctx, h->debug_exit);
}

bool pc_init(struct pc *pc, struct clock *clock, const struct pc_host *host, bool debug_exit,
             struct error *err)
{
    *pc = (struct pc){.clock = clock, .host = *host};
    make_chips(pc);
    struct bus *ports = &pc->ports;
    return ioapic_attach(&pc->ioapic, &pc->memory, err) && pic_attach(&pc->pic, ports, err) &&
           pit_attach(&pc->pit, ports, err) && rtc_attach(&pc->rtc, ports, err) &&
           dma_attach(&pc->dma, ports, err) && ports_attach(&pc->system_ports, ports, err) &&
           i8042_attach(&pc->i8042, ports, err) &&
           uart_attach(&pc->com1, ports, "com1", PORT_COM1, err) &&
           pm_attach(&pc->pm, ports, err) && pci_bus_attach(&pc->pci, err) &&
           q35_add(&pc->q35, &pc->pci, err) &&
           (!debug_exit || debug_exit_attach(&pc->debug_exit, ports, err));
}

bool pc_add_rng(struct pc *pc, struct memory *memory, const struct virtio_rng_source *source,
                struct error *err)
{
    return pc->has_rng =
               virtio_rng_init(&pc->rng, source, memory, pc->clock, &pc->pci, PC_RNG_DEVFN, err);
}

void pc_add_cpu(struct pc *pc, const struct lapic_host *host, unsigned physical_bits)
{
    unsigned i = pc->cpus++;
    struct lapic_host h = *host;
    h.bus = &pc->apics;
    lapic_init(&pc->lapic[i], pc->clock, &h, i, i == 0, physical_bits);
    apic_bus_add(&pc->apics, &pc->lapic[i]);
}

/* ---- reset ---- */

/* Register offsets of the local APIC's page (SDM 3, table 10-1). */
enum { LAPIC_SVR = 0xf0, LAPIC_LINT0 = 0x350, LAPIC_LINT1 = 0x360 };
enum { SVR_ENABLE = 1u << 8, LVT_NMI = APIC_NMI << 8, LVT_EXTINT = APIC_EXTINT << 8 };

/* The virtual wire mode (MP specification 1.4, 3.6.2.2) in which firmware hands over: the 8259s
 * reach the boot processor through its local APIC. */
static void virtual_wire(struct lapic *bsp)
{
    lapic_write(bsp, LAPIC_SVR, 4, SVR_ENABLE | 0x0f);
    lapic_write(bsp, LAPIC_LINT0, 4, LVT_EXTINT);
    lapic_write(bsp, LAPIC_LINT1, 4, LVT_NMI);
}

bool pc_reset(struct pc *pc, uint64_t memory_low, uint64_t memory_high, struct error *err)
{
    pit_reset(&pc->pit);
    rtc_reset(&pc->rtc);
    dma_reset(&pc->dma);
    ports_reset(&pc->system_ports);
    i8042_reset(&pc->i8042);
    uart_reset(&pc->com1);
    pm_reset(&pc->pm);
    pci_bus_reset(&pc->pci);
    if (pc->has_rng)
        virtio_reset(&pc->rng.device);
    pic_reset(&pc->pic);
    /* The SCI (9) and what PIRQs are routed to (10 and 11) are level-triggered, as PCI's interrupts
     * are: the slave's edge/level control register. */
    bus_write(&pc->ports, 0x4d1, 1, 1u << (9 - 8) | 1u << (10 - 8) | 1u << (11 - 8));
    ioapic_reset(&pc->ioapic);
    for (unsigned i = 0; i < pc->cpus; i++)
        lapic_reset(&pc->lapic[i]);
    rtc_set_memory(&pc->rtc, memory_low, memory_high);
    if (pc->cpus)
        virtual_wire(&pc->lapic[0]);
    return pci_assign(&pc->pci, q35_pirq_irq, err);
}

/* ---- save and load ---- */

struct part {
    const struct archive_type *type;
    size_t offset; /* in struct pc */
};

static const struct part parts[] = {
    {&pic_archive, offsetof(struct pc, pic)},
    {&ioapic_archive, offsetof(struct pc, ioapic)},
    {&pit_archive, offsetof(struct pc, pit)},
    {&rtc_archive, offsetof(struct pc, rtc)},
    {&dma_archive, offsetof(struct pc, dma)},
    {&ports_archive, offsetof(struct pc, system_ports)},
    {&i8042_archive, offsetof(struct pc, i8042)},
    {&ps2_keyboard_archive, offsetof(struct pc, i8042.keyboard)},
    {&ps2_mouse_archive, offsetof(struct pc, i8042.mouse)},
    {&uart_archive, offsetof(struct pc, com1)},
    {&pm_archive, offsetof(struct pc, pm)},
    {&pci_bus_archive, offsetof(struct pc, pci)},
};

/* Saves or loads one record. */
typedef bool (*record)(struct archive *a, const struct archive_type *type, unsigned instance,
                       void *object, struct error *err);

/* The device's own record last: only then it may go on. */
static bool virtio_records(struct virtio_device *d, struct archive *a, record one,
                           struct error *err)
{
    for (unsigned i = 0; i < d->kind->queues; i++)
        if (!one(a, &virtq_archive, d->pci.devfn * VIRTIO_QUEUES + i, &d->queue[i], err))
            return false;
    return one(a, &virtio_archive, d->pci.devfn, d, err);
}

static bool each_record(struct pc *pc, struct archive *a, record one, struct error *err)
{
    for (unsigned i = 0; i < ARRAY_LEN(parts); i++)
        if (!one(a, parts[i].type, 0, (char *)pc + parts[i].offset, err))
            return false;
    for (unsigned i = 0; i < PCI_DEVFNS; i++)
        if (pc->pci.function[i] && !one(a, &pci_function_archive, i, pc->pci.function[i], err))
            return false;
    for (unsigned i = 0; i < pc->cpus; i++)
        if (!one(a, &lapic_archive, i, &pc->lapic[i], err))
            return false;
    return !pc->has_rng || virtio_records(&pc->rng.device, a, one, err);
}

bool pc_save(struct pc *pc, struct archive *to, struct error *err)
{
    return each_record(pc, to, archive_save, err);
}

bool pc_load(struct pc *pc, struct archive *from, struct error *err)
{
    return each_record(pc, from, archive_load, err);
}

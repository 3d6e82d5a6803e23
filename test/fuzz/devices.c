/*
 * Pokes every register of every device at random, in every size, while time passes, lines change,
 * input arrives and states are saved, damaged and loaded. It looks for crashes (under the
 * sanitizers), hangs, and devices that contradict what they told the outside.
 *
 *   fuzz-devices [SEED [COUNT]]    COUNT steps; the same seed takes the same steps
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/archive.h"
#include "base/bits.h"
#include "device/debug_exit.h"
#include "device/dma.h"
#include "device/i8042.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/pci.h"
#include "device/pic.h"
#include "device/pit.h"
#include "device/pm.h"
#include "device/ports.h"
#include "device/q35.h"
#include "device/rtc.h"
#include "device/uart.h"

enum { CPUS = 3 };

struct pc {
    /* Where the choices come from: bytes given, or a generator behind them. */
    const uint8_t *data;
    size_t size;
    uint64_t seed;

    uint64_t time;
    struct clock clock;
    struct bus ports, memory;
    struct apic_bus apics;
    struct lapic lapic[CPUS];
    bool intr[CPUS];
    struct ioapic ioapic;
    struct pic pic;
    struct pit pit;
    struct rtc rtc;
    struct uart uart;
    struct i8042 i8042;
    struct pm pm;
    struct dma dma;
    struct ports system;
    struct debug_exit debug_exit;
    struct pci_bus pci;
    struct q35 q35;
    struct pci_function nic;
    unsigned depth; /* of nested messages: none may answer itself for ever */
    uint64_t events;
};

/* ---- choices ---- */

static uint8_t byte(struct pc *m)
{
    if (m->size) {
        m->size--;
        return *m->data++;
    }
    m->seed = m->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint8_t)(m->seed >> 56);
}

static uint64_t number(struct pc *m)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | byte(m);
    return v;
}

static uint64_t below(struct pc *m, uint64_t n)
{
    return (n <= 256 ? byte(m) : number(m)) % n;
}

/* A value that means something to some register more often than a random number does. */
static uint64_t value(struct pc *m)
{
    switch (byte(m) & 7) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return BIT(byte(m) & 63);
    case 3: return byte(m) & 15;
    case 4: return number(m);
    default: return byte(m);
    }
}

/* ---- surroundings ---- */

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "fuzz-devices: %s\n", what);
    abort();
}

static uint64_t source(void *ctx)
{
    return ((struct pc *)ctx)->time;
}

static void event(void *ctx)
{
    ((struct pc *)ctx)->events++;
}

static void event_bool(void *ctx, bool on)
{
    event(ctx);
}

static void event_u32(void *ctx, uint32_t v)
{
    event(ctx);
}

static void event_u8(void *ctx, uint8_t v)
{
    event(ctx);
}

struct cpu_ctx {
    struct pc *m;
    unsigned index;
};
static struct cpu_ctx cpu_ctx[CPUS];

static void cpu_interrupt(void *ctx, bool level)
{
    struct cpu_ctx *c = ctx;
    c->m->intr[c->index] = level;
}

static void cpu_event(void *ctx)
{
    event(((struct cpu_ctx *)ctx)->m);
}

static void cpu_startup(void *ctx, uint8_t vector)
{
    cpu_event(ctx);
}

static int cpu_extint(void *ctx)
{
    return pic_acknowledge(&((struct cpu_ctx *)ctx)->m->pic);
}

static uint64_t cpu_tsc_to_ns(void *ctx, uint64_t tsc)
{
    return tsc / 2;
}

static void isa(void *ctx, unsigned irq, bool level)
{
    struct pc *m = ctx;
    pic_set(&m->pic, irq, level);
    ioapic_set(&m->ioapic, irq == 0 ? 2 : irq, level);
}

static struct irq_line isa_line(struct pc *m, unsigned irq)
{
    return (struct irq_line){isa, m, irq};
}

static void lint0(void *ctx, unsigned pin, bool level)
{
    lapic_lint(&((struct pc *)ctx)->lapic[0], 0, level);
}

static void deliver(void *ctx, const struct apic_message *message)
{
    struct pc *m = ctx;
    if (++m->depth > 64)
        fail("a message begets itself");
    apic_bus_deliver(&m->apics, message);
    m->depth--;
}

static void pci_reset_control(void *ctx, bool full)
{
    event(ctx);
}

static uint64_t nic_read(void *device, uint64_t offset, unsigned size)
{
    struct pc *m = device;
    return offset < 0x800 ? pci_msix_read(&m->nic, offset, size)
                          : pci_msix_read_pending(&m->nic, offset - 0x800, size);
}

static void nic_write(void *device, uint64_t offset, unsigned size, uint64_t v)
{
    struct pc *m = device;
    pci_msix_write(&m->nic, offset, size, v);
}

static const struct bus_ops nic_ops = {nic_read, nic_write, 0};

static void make_pci(struct pc *m)
{
    pci_bus_init(&m->pci, &m->ports, &m->memory, (struct irq_line){q35_pirq, &m->q35, 0},
                 (struct msi_target){apic_bus_msi, &m->apics}, pci_reset_control, m);
    q35_init(&m->q35, (struct irq_line){pic_set, &m->pic, 0},
             (struct irq_line){ioapic_set, &m->ioapic, 0});
    pci_function_init(&m->nic, "nic", 0x1af4, 0x1041, 0x020000, 1);
    pci_set_bar(&m->nic, 0, PCI_BAR_IO, 0x20, &nic_ops, m);
    pci_set_bar(&m->nic, 1, PCI_BAR_MEMORY, 0x1000, &nic_ops, m);
    pci_set_bar(&m->nic, 4, PCI_BAR_MEMORY64, 0x4000, &nic_ops, m);
    pci_set_pin(&m->nic, 1);
    pci_add_msi(&m->nic, 8);
    pci_add_msix(&m->nic, 9, 1, 0, 0x800);
}

static void make(struct pc *m)
{
    clock_init(&m->clock, source, m);
    m->clock.epoch_ns = INT64_C(1700000000000000000);
    apic_bus_init(&m->apics);
    m->apics.ioapic = &m->ioapic;
    for (unsigned i = 0; i < CPUS; i++) {
        cpu_ctx[i] = (struct cpu_ctx){m, i};
        struct lapic_host host = {.ctx = &cpu_ctx[i],
                                  .interrupt = cpu_interrupt,
                                  .nmi = cpu_event,
                                  .init = cpu_event,
                                  .startup = cpu_startup,
                                  .smi = cpu_event,
                                  .extint = cpu_extint,
                                  .tsc_to_ns = cpu_tsc_to_ns,
                                  .bus = &m->apics};
        lapic_init(&m->lapic[i], &m->clock, &host, i, i == 0, 40);
        apic_bus_add(&m->apics, &m->lapic[i]);
    }
    pic_init(&m->pic, (struct irq_line){lint0, m, 0});
    ioapic_init(&m->ioapic, deliver, m, 1);
    pit_init(&m->pit, &m->clock, isa_line(m, 0));
    rtc_init(&m->rtc, &m->clock, isa_line(m, 8));
    uart_init(&m->uart, &m->clock, isa_line(m, 4), &(struct uart_backend){m, event_u8, event});
    i8042_init(&m->i8042, &m->clock, isa_line(m, 1), isa_line(m, 12),
               &(struct i8042_host){m, event, event_bool});
    pm_init(&m->pm, &m->clock, isa_line(m, 9), &(struct pm_host){m, event});
    dma_init(&m->dma);
    ports_init(&m->system, m, event, event_bool);
    debug_exit_init(&m->debug_exit, m, event_u32);
    make_pci(m);
    struct error err;
    if (!pic_attach(&m->pic, &m->ports, &err) || !ioapic_attach(&m->ioapic, &m->memory, &err) ||
        !pit_attach(&m->pit, &m->ports, &err) || !rtc_attach(&m->rtc, &m->ports, &err) ||
        !uart_attach(&m->uart, &m->ports, "com1", 0x3f8, &err) ||
        !i8042_attach(&m->i8042, &m->ports, &err) || !pm_attach(&m->pm, &m->ports, &err) ||
        !dma_attach(&m->dma, &m->ports, &err) || !ports_attach(&m->system, &m->ports, &err) ||
        !debug_exit_attach(&m->debug_exit, &m->ports, &err) || !pci_bus_attach(&m->pci, &err) ||
        !q35_add(&m->q35, &m->pci, &err) || !pci_add(&m->pci, &m->nic, PCI_DEVFN(3, 0), &err) ||
        !pci_assign(&m->pci, q35_pirq_irq, &err))
        fail(err.text);
}

static void reset(struct pc *m)
{
    pit_reset(&m->pit);
    rtc_reset(&m->rtc);
    uart_reset(&m->uart);
    i8042_reset(&m->i8042);
    pm_reset(&m->pm);
    dma_reset(&m->dma);
    ports_reset(&m->system);
    pci_bus_reset(&m->pci);
    pic_reset(&m->pic);
    ioapic_reset(&m->ioapic);
    for (unsigned i = 0; i < CPUS; i++)
        lapic_reset(&m->lapic[i]);
    struct error err;
    if (!pci_assign(&m->pci, q35_pirq_irq, &err))
        fail(err.text);
}

/* ---- steps ---- */

static void poke_bus(struct pc *m, struct bus *b, unsigned sizes)
{
    const struct bus_region *r = &b->region[below(m, b->count)];
    uint64_t span = r->size < 0x1000 ? r->size + 4 : 0x1000;
    uint64_t address = r->base + below(m, span) - (byte(m) & 1);
    unsigned size = 1u << below(m, sizes);
    if (byte(m) & 1) {
        uint64_t v = bus_read(b, address, size);
        if (v & ~(UINT64_MAX >> (64 - 8 * size)))
            fail("a read is wider than it was");
    } else {
        bus_write(b, address, size, value(m));
    }
}

/* PCI configuration, aimed: the odds of meeting a register through its ports are small. */
static void poke_pci(struct pc *m)
{
    static const unsigned devfns[] = {Q35_HOST_DEVFN, Q35_LPC_DEVFN, PCI_DEVFN(3, 0)};
    bus_write(&m->ports, 0xcf8, 4,
              0x80000000 | devfns[below(m, 3)] << 8 | (unsigned)(byte(m) & 0xfc));
    unsigned offset = byte(m) & 3, size = 1u << below(m, 3);
    if (byte(m) & 3)
        bus_write(&m->ports, 0xcfc + offset, size, value(m));
    else
        bus_read(&m->ports, 0xcfc + offset, size);
}

/* The commands of keyboard and mouse, which take a few bytes in a row. */
static void poke_ps2(struct pc *m)
{
    if (byte(m) & 1)
        bus_write(&m->ports, 0x64, 1, 0xd4);
    bus_write(&m->ports, 0x60, 1, byte(m) & 1 ? 0xe6 + below(m, 26) : byte(m));
    for (unsigned n = byte(m) & 7; n; n--)
        bus_read(&m->ports, 0x60, 1);
}

/* A redirection entry, mostly not masked. */
static void poke_ioapic(struct pc *m)
{
    uint64_t pin = below(m, IOAPIC_PINS);
    bus_write(&m->memory, IOAPIC_BASE, 4, 0x11 + 2 * pin);
    bus_write(&m->memory, IOAPIC_BASE + 0x10, 4, value(m));
    bus_write(&m->memory, IOAPIC_BASE, 4, 0x10 + 2 * pin);
    bus_write(&m->memory, IOAPIC_BASE + 0x10, 4, (value(m) & 0xff0f) | (byte(m) == 0) << 16);
}

/* What an operating system begins with; without it an APIC refuses most of what comes. */
static void enable_lapics(struct pc *m)
{
    for (unsigned i = 0; i < CPUS; i++) {
        lapic_write(&m->lapic[i], 0xf0, 4, 0x1ff);
        lapic_write(&m->lapic[i], 0xd0, 4, UINT32_C(1) << (24 + i));
    }
}

static void poke_lapic(struct pc *m)
{
    struct lapic *l = &m->lapic[below(m, CPUS)];
    uint64_t v;
    switch (byte(m) & 7) {
    case 0: lapic_read(l, number(m), 1u << below(m, 4)); break;
    case 1:
    case 2: lapic_write(l, (uint64_t)byte(m) << 4, 4, value(m)); break;
    case 3: lapic_write(l, number(m), 1u << below(m, 4), value(m)); break;
    case 4: lapic_msr_read(l, 0x800 + byte(m), &v); break;
    case 5: lapic_msr_write(l, 0x800 + (byte(m) & 0x3f), value(m)); break;
    case 6:
        if (byte(m) & 7)
            lapic_msr_write(l, LAPIC_MSR_TSC_DEADLINE, 2 * m->time + value(m));
        else
            lapic_msr_write(l, LAPIC_MSR_BASE,
                            LAPIC_DEFAULT_BASE | (byte(m) & 3u) << 10 | (byte(m) == 0));
        break;
    default: lapic_set_cr8(l, value(m));
    }
}

static void run_cpu(struct pc *m)
{
    unsigned i = (unsigned)below(m, CPUS);
    struct lapic *l = &m->lapic[i];
    if (lapic_pending(l) != m->intr[i])
        fail("a processor was told another interrupt level than its APIC has");
    int vector = lapic_acknowledge(l);
    if (vector < -1 || vector > 255)
        fail("no vector");
    if (byte(m) & 3)
        lapic_write(l, 0xb0, 4, 0);
    if (byte(m) & 1) {
        bus_write(&m->ports, 0xa0, 1, 0x20);
        bus_write(&m->ports, 0x20, 1, 0x20);
    }
}

static void lines(struct pc *m)
{
    bool level = byte(m) & 1;
    switch (byte(m) & 7) {
    case 0: isa(m, byte(m) & 31, level); break;
    case 1: ioapic_set(&m->ioapic, byte(m) & 31, level); break;
    case 2: lapic_lint(&m->lapic[below(m, CPUS)], byte(m), level); break;
    case 3: pci_set_intx(&m->nic, level); break;
    case 4: pci_msi_send(&m->nic, byte(m)); break;
    case 5: pci_msix_send(&m->nic, byte(m) & 15); break;
    case 6: pm_gpe(&m->pm, byte(m)); break;
    default: pm_power_button(&m->pm);
    }
}

static void input(struct pc *m)
{
    switch (byte(m) & 3) {
    case 0:
        if (uart_receive(&m->uart, byte(m)) != true && uart_can_receive(&m->uart))
            fail("the UART refuses what it has room for");
        break;
    case 1: uart_break(&m->uart); break;
    case 2: i8042_key(&m->i8042, (unsigned)below(m, 0x110), byte(m) & 1); break;
    default:
        i8042_mouse_move(&m->i8042, (int)(int8_t)byte(m) * (1 << (byte(m) & 15)), (int8_t)byte(m),
                         (int8_t)byte(m), byte(m));
    }
}

static void pass_time(struct pc *m)
{
    uint64_t next = clock_next(&m->clock);
    switch (byte(m) & 7) {
    case 0: m->time += value(m) & UINT32_MAX; break;
    case 1: m->time += byte(m) == 0 ? UINT64_C(86400000000000) : 1000000; break;
    case 2:
    case 3: m->time += byte(m); break;
    default:
        if (next != CLOCK_NEVER && next > m->time && next - m->time < UINT64_C(10000000000))
            m->time = next;
    }
    if (m->time > UINT64_C(1) << 58) /* nine years */
        m->time = UINT64_C(1) << 58;
    clock_fire(&m->clock);
}

/* ---- save, damage, load ---- */

struct part {
    const struct archive_type *type;
    size_t offset;
};

static const struct part parts[] = {
    {&lapic_archive, offsetof(struct pc, lapic[0])},
    {&lapic_archive, offsetof(struct pc, lapic[1])},
    {&ioapic_archive, offsetof(struct pc, ioapic)},
    {&pic_archive, offsetof(struct pc, pic)},
    {&pit_archive, offsetof(struct pc, pit)},
    {&rtc_archive, offsetof(struct pc, rtc)},
    {&uart_archive, offsetof(struct pc, uart)},
    {&i8042_archive, offsetof(struct pc, i8042)},
    {&ps2_keyboard_archive, offsetof(struct pc, i8042.keyboard)},
    {&ps2_mouse_archive, offsetof(struct pc, i8042.mouse)},
    {&pm_archive, offsetof(struct pc, pm)},
    {&dma_archive, offsetof(struct pc, dma)},
    {&ports_archive, offsetof(struct pc, system)},
    {&pci_bus_archive, offsetof(struct pc, pci)},
    {&pci_function_archive, offsetof(struct pc, nic)},
    {&pci_function_archive, offsetof(struct pc, q35.lpc)},
};

static void save_and_load(struct pc *m)
{
    const struct part *p = &parts[below(m, ARRAY_LEN(parts))];
    void *object = (uint8_t *)m + p->offset;
    struct archive good, bad;
    struct error err;
    archive_init(&good);
    archive_init(&bad);
    if (!archive_save(&good, p->type, 0, object, &err) ||
        !archive_save(&bad, p->type, 0, object, &err))
        fail(err.text);
    for (unsigned n = byte(m) & 7; n; n--)
        bad.data[below(m, bad.size)] = byte(m);
    /* What was damaged and taken all the same must do no harm; what was refused is not used until
     * it is loaded again. */
    if (archive_load(&bad, p->type, 0, object, &err)) {
        clock_fire(&m->clock);
        for (unsigned n = byte(m) & 15; n; n--)
            poke_bus(m, &m->ports, 3);
    }
    if (!archive_load(&good, p->type, 0, object, &err))
        fail(err.text);
    archive_free(&good);
    archive_free(&bad);
}

static void check_bus(const struct bus *b)
{
    for (unsigned i = 1; i < b->count; i++)
        if (b->region[i].base - b->region[i - 1].base < b->region[i - 1].size)
            fail("two regions overlap");
}

static void step(struct pc *m)
{
    uint8_t what = byte(m);
    if (what < 100)
        poke_bus(m, &m->ports, 3);
    else if (what < 108)
        poke_bus(m, &m->memory, 4);
    else if (what < 112)
        poke_ioapic(m);
    else if (what < 115)
        poke_ps2(m);
    else if (what < 135)
        poke_pci(m);
    else if (what < 175)
        poke_lapic(m);
    else if (what < 200)
        pass_time(m);
    else if (what < 220)
        run_cpu(m);
    else if (what < 235)
        lines(m);
    else if (what < 250)
        input(m);
    else if (what < 254)
        save_and_load(m);
    else if (byte(m) == 0)
        reset(m);
    else if (byte(m) & 1)
        enable_lapics(m);
    else
        check_bus(byte(m) & 1 ? &m->ports : &m->memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pc m;
    memset(&m, 0, sizeof m);
    m.data = data;
    m.size = size;
    make(&m);
    while (m.size)
        step(&m);
    return 0;
}

#ifndef DOPPEL_LIBFUZZER
int main(int argc, char **argv)
{
    static struct pc m;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 200000;
    m.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    make(&m);
    for (uint64_t i = 0; i < count; i++)
        step(&m);
    printf("fuzz-devices: %llu steps, %llu events\n", (unsigned long long)count,
           (unsigned long long)m.events);
    return 0;
}
#endif

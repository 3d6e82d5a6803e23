#include "device/pci.h"

#include "base/bits.h"

#define CONFIG_ENABLE UINT32_C(0x80000000)
enum { CONFIG_ADDRESS = 0, RESET_CONTROL = 1, CONFIG_DATA = 4, CONFIG_PORTS = 8 };
enum { RESET_CPU = 1u << 2, RESET_FULL = 1u << 3, RESET_WRITABLE = 0x0e };

/* ---- BARs on the buses ---- */

static struct bus *bar_bus(const struct pci_bus *b, const struct pci_bar *bar)
{
    return bar->kind == PCI_BAR_IO ? b->io : b->memory;
}

/* Where the guest placed it, and whether it is to be decoded there. */
static bool bar_place(const struct pci_function *f, unsigned index, uint64_t *base)
{
    const struct pci_bar *bar = &f->bar[index];
    uint16_t command = (uint16_t)pci_get(f->config, PCI_COMMAND, 2);
    unsigned bytes = bar->kind == PCI_BAR_MEMORY64 ? 8 : 4;
    *base = pci_get(f->config, PCI_BAR0 + 4 * index, bytes) & ~(bar->size - 1);
    if (!(command & (bar->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)) || *base == 0)
        return false;
    if (bar->kind == PCI_BAR_IO)
        return *base + bar->size <= 0x10000;
    return *base + (bar->size - 1) > *base;
}

static void bar_unmap(struct pci_function *f, struct pci_bar *bar)
{
    if (bar->mapped)
        bus_remove(bar_bus(f->bus, bar), bar->mapped_at);
    bar->mapped = false;
}

/* Brings the buses in line with every BAR. One that does not fit beside what is there already is
 * not decoded until it does: real hardware would leave it to the electrons. */
static void pci_remap(struct pci_bus *b)
{
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned n = 0; n < PCI_DEVFNS; n++) {
            struct pci_function *f = b->function[n];
            for (unsigned i = 0; f && i < PCI_BARS; i++) {
                struct pci_bar *bar = &f->bar[i];
                uint64_t base;
                if (bar->kind == PCI_BAR_NONE)
                    continue;
                bool wanted = bar_place(f, i, &base);
                if (pass == 0 && (!wanted || base != bar->mapped_at))
                    bar_unmap(f, bar);
                if (pass == 1 && wanted && !bar->mapped) {
                    bar->mapped_at = base;
                    bar->mapped = bus_add(bar_bus(b, bar), f->name, base, bar->size, bar->ops,
                                          bar->device, NULL);
                }
            }
        }
    }
    if (b->moved)
        b->moved(b->moved_ctx);
}

/* ---- INTx ---- */

static void pci_update_intx(struct pci_function *f)
{
    uint16_t command = (uint16_t)pci_get(f->config, PCI_COMMAND, 2);
    uint8_t pin = f->config[PCI_INTERRUPT_PIN];
    bool level = f->intx && !(command & PCI_COMMAND_INTX_DISABLE) && !pci_msi_enabled(f) &&
                 !pci_msix_enabled(f);
    f->config[PCI_STATUS] = (uint8_t)((f->config[PCI_STATUS] & ~PCI_STATUS_INTERRUPT) |
                                      (f->intx ? PCI_STATUS_INTERRUPT : 0));
    if (level == f->intx_driven || !pin || !f->bus)
        return;
    f->intx_driven = level;
    struct pci_bus *b = f->bus;
    unsigned pirq = pci_pirq(f->devfn, pin);
    uint32_t before = b->pirq_count[pirq];
    b->pirq_count[pirq] += level ? 1 : UINT32_MAX;
    if (!before != !b->pirq_count[pirq] && b->pirq.set)
        b->pirq.set(b->pirq.ctx, pirq, level);
}

void pci_set_intx(struct pci_function *f, bool level)
{
    if (f->intx == level)
        return;
    f->intx = level;
    pci_update_intx(f);
}

/* ---- configuration space ---- */

static struct pci_function *pci_find(const struct pci_bus *b, unsigned bus, unsigned devfn)
{
    return bus == 0 && devfn < PCI_DEVFNS ? b->function[devfn] : NULL;
}

uint32_t pci_config_read(struct pci_bus *b, unsigned bus, unsigned devfn, unsigned offset,
                         unsigned size)
{
    struct pci_function *f = pci_find(b, bus, devfn);
    uint32_t none = (uint32_t)bits_mask(8 * size);
    if (!f || size > 4 || offset > PCI_CONFIG_SIZE - size)
        return none;
    if (f->reading)
        f->reading(f->device, offset, size);
    return (uint32_t)pci_get(f->config, offset, size);
}

static bool touches(unsigned offset, unsigned size, unsigned at, unsigned length)
{
    return offset < at + length && at < offset + size;
}

/* Acts on what changed in a function's configuration space. */
static void pci_config_changed(struct pci_function *f, unsigned offset, unsigned size)
{
    if (touches(offset, size, PCI_COMMAND, 2) || touches(offset, size, PCI_BAR0, 4 * PCI_BARS))
        pci_remap(f->bus);
    pci_update_intx(f);
    pci_msi_changed(f);
    if (f->written)
        f->written(f->device, offset, size);
}

void pci_config_write(struct pci_bus *b, unsigned bus, unsigned devfn, unsigned offset,
                      unsigned size, uint32_t value)
{
    struct pci_function *f = pci_find(b, bus, devfn);
    if (!f || size > 4 || offset > PCI_CONFIG_SIZE - size)
        return;
    for (unsigned i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(value >> 8 * i), mask = f->writable[offset + i];
        uint8_t *at = &f->config[offset + i];
        *at = (uint8_t)((*at & ~mask) | (byte & mask));
        *at &= (uint8_t) ~(byte & f->clears[offset + i]);
    }
    pci_config_changed(f, offset, size);
}

static void pci_write_reset_control(struct pci_bus *b, uint8_t value)
{
    bool pulse = (value & RESET_CPU) && !(b->reset_control & RESET_CPU);
    b->reset_control = value & RESET_WRITABLE;
    if (pulse && b->reset)
        b->reset(b->reset_ctx, value & RESET_FULL);
}

/* CONFIG_ADDRESS is only there for double words; among its bytes lies the reset control register
 * (PCI 3.0, 3.2.2.3.2; ICH9, 13.7.5). */
static uint64_t pci_read_ports(void *device, uint64_t offset, unsigned size)
{
    struct pci_bus *b = device;
    if (offset >= CONFIG_DATA) {
        if (!(b->address & CONFIG_ENABLE))
            return UINT32_MAX;
        return pci_config_read(b, b->address >> 16 & 0xff, b->address >> 8 & 0xff,
                               (b->address & 0xfc) + (unsigned)(offset - CONFIG_DATA), size);
    }
    if (offset == CONFIG_ADDRESS && size == 4)
        return b->address;
    if (offset == RESET_CONTROL && size == 1)
        return b->reset_control;
    return UINT32_MAX;
}

static void pci_write_ports(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pci_bus *b = device;
    if (offset >= CONFIG_DATA) {
        if (b->address & CONFIG_ENABLE)
            pci_config_write(b, b->address >> 16 & 0xff, b->address >> 8 & 0xff,
                             (b->address & 0xfc) + (unsigned)(offset - CONFIG_DATA), size,
                             (uint32_t)value);
    } else if (offset == CONFIG_ADDRESS && size == 4) {
        b->address = (uint32_t)value & (CONFIG_ENABLE | 0x00fffffc);
    } else if (offset == RESET_CONTROL && size == 1) {
        pci_write_reset_control(b, (uint8_t)value);
    }
}

static const struct bus_ops pci_port_ops = {pci_read_ports, pci_write_ports, 4};

/* The window: bus in bits 20 to 27, device and function in 12 to 19. Functions here have no
 * extended configuration space, so what lies beyond 256 bytes is not there. */
static uint64_t pci_read_ecam(void *device, uint64_t offset, unsigned size)
{
    return pci_config_read(device, offset >> 20 & 0xff, offset >> 12 & 0xff, offset & 0xfff, size);
}

static void pci_write_ecam(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    pci_config_write(device, offset >> 20 & 0xff, offset >> 12 & 0xff, offset & 0xfff, size,
                     (uint32_t)value);
}

static const struct bus_ops pci_ecam_ops = {pci_read_ecam, pci_write_ecam, 4};

/* ---- the bus ---- */

void pci_bus_init(struct pci_bus *b, struct bus *io, struct bus *memory, struct irq_line pirq,
                  struct msi_target msi, void (*reset)(void *ctx, bool full), void *reset_ctx)
{
    *b = (struct pci_bus){.io = io,
                          .memory = memory,
                          .pirq = pirq,
                          .msi = msi,
                          .reset = reset,
                          .reset_ctx = reset_ctx};
}

bool pci_bus_attach(struct pci_bus *b, struct error *err)
{
    return bus_add(b->io, "pci", 0xcf8, CONFIG_PORTS, &pci_port_ops, b, err) &&
           bus_add(b->memory, "pci ecam", PCI_ECAM_BASE, PCI_ECAM_SIZE, &pci_ecam_ops, b, err);
}

void pci_bus_reset(struct pci_bus *b)
{
    b->address = 0;
    b->reset_control = 0;
    for (unsigned n = 0; n < PCI_DEVFNS; n++) {
        struct pci_function *f = b->function[n];
        if (!f)
            continue;
        memcpy(f->config, f->initial, sizeof f->config);
        f->intx = 0;
        pci_msi_reset(f);
        pci_config_changed(f, 0, PCI_CONFIG_SIZE);
    }
}

bool pci_add(struct pci_bus *b, struct pci_function *f, unsigned devfn, struct error *err)
{
    if (devfn >= PCI_DEVFNS || b->function[devfn])
        return error_set(err, "%s: PCI device %u function %u is taken", f->name, devfn >> 3,
                         devfn & 7);
    f->bus = b;
    f->devfn = devfn;
    memcpy(f->initial, f->config, sizeof f->initial);
    b->function[devfn] = f;
    return true;
}

void pci_remove(struct pci_function *f)
{
    if (!f->bus)
        return;
    pci_set_intx(f, false);
    for (unsigned i = 0; i < PCI_BARS; i++)
        bar_unmap(f, &f->bar[i]);
    f->bus->function[f->devfn] = NULL;
    f->bus = NULL;
}

/* Takes the next size-aligned span from *next; false when it would run over end. */
static bool pci_allocate(uint64_t *next, uint64_t end, uint64_t size, uint64_t *base)
{
    *base = (*next + size - 1) & ~(size - 1);
    if (*base >= end || size > end - *base)
        return false;
    *next = *base + size;
    return true;
}

bool pci_assign(struct pci_bus *b, const uint8_t irq[8], struct error *err)
{
    uint64_t io = PCI_IO_BASE, memory = PCI_MEMORY_BASE;
    for (unsigned n = 0; n < PCI_DEVFNS; n++) {
        struct pci_function *f = b->function[n];
        if (!f)
            continue;
        for (unsigned i = 0; i < PCI_BARS; i++) {
            const struct pci_bar *bar = &f->bar[i];
            uint64_t base;
            if (bar->kind == PCI_BAR_NONE)
                continue;
            bool is_io = bar->kind == PCI_BAR_IO;
            if (!pci_allocate(is_io ? &io : &memory, is_io ? PCI_IO_END : PCI_MEMORY_END, bar->size,
                              &base))
                return error_set(err, "%s: no room for 0x%llx bytes of PCI address space", f->name,
                                 (unsigned long long)bar->size);
            uint8_t flags = f->config[PCI_BAR0 + 4 * i] & 0xf;
            pci_put(f->config, PCI_BAR0 + 4 * i, bar->kind == PCI_BAR_MEMORY64 ? 8 : 4,
                    base | flags);
        }
        if (f->config[PCI_INTERRUPT_PIN])
            f->config[PCI_INTERRUPT_LINE] = irq[pci_pirq(n, f->config[PCI_INTERRUPT_PIN])];
        f->config[PCI_COMMAND] |= PCI_COMMAND_IO | PCI_COMMAND_MEMORY;
        f->config[PCI_COMMAND] &= f->writable[PCI_COMMAND] | f->initial[PCI_COMMAND];
    }
    pci_remap(b);
    return true;
}

/* ---- describing a function ---- */

void pci_function_init(struct pci_function *f, const char *name, uint16_t vendor, uint16_t device,
                       uint32_t class_code, uint8_t revision)
{
    *f = (struct pci_function){.name = name, .next_cap = 0x40};
    pci_put(f->config, PCI_VENDOR_ID, 2, vendor);
    pci_put(f->config, PCI_DEVICE_ID, 2, device);
    pci_put(f->config, PCI_CLASS_PROG, 3, class_code);
    f->config[PCI_REVISION_ID] = revision;
    pci_put(f->writable, PCI_COMMAND, 2,
            PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
                PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
    f->clears[PCI_STATUS + 1] = 0xf9; /* error bits that nothing sets */
    f->writable[PCI_CACHE_LINE_SIZE] = 0xff;
    f->writable[PCI_LATENCY_TIMER] = 0xff;
    f->writable[PCI_INTERRUPT_LINE] = 0xff;
}

void pci_set_subsystem(struct pci_function *f, uint16_t vendor, uint16_t device)
{
    pci_put(f->config, PCI_SUBSYSTEM_VENDOR_ID, 2, vendor);
    pci_put(f->config, PCI_SUBSYSTEM_ID, 2, device);
}

void pci_set_bar(struct pci_function *f, unsigned index, enum pci_bar_kind kind, uint64_t size,
                 const struct bus_ops *ops, void *device)
{
    static const uint8_t flags[] = {[PCI_BAR_IO] = 1, [PCI_BAR_MEMORY] = 0, [PCI_BAR_MEMORY64] = 4};
    unsigned bytes = kind == PCI_BAR_MEMORY64 ? 8 : 4, at = PCI_BAR0 + 4 * index;
    uint64_t rounded = kind == PCI_BAR_IO ? 4 : 16;
    if (kind == PCI_BAR_NONE || index + bytes / 4 > PCI_BARS)
        return;
    while (rounded < size && rounded < UINT64_C(1) << 30)
        rounded *= 2;
    f->bar[index] = (struct pci_bar){kind, rounded, ops, device, false, 0};
    pci_put(f->config, at, bytes, flags[kind]);
    pci_put(f->writable, at, bytes, ~(rounded - 1));
}

void pci_set_pin(struct pci_function *f, unsigned pin)
{
    f->config[PCI_INTERRUPT_PIN] = (uint8_t)(pin <= 4 ? pin : 0);
}

unsigned pci_add_capability(struct pci_function *f, uint8_t id, unsigned size)
{
    unsigned at = f->next_cap;
    if (size < 2 || at + size > PCI_CONFIG_SIZE)
        return 0;
    f->config[at] = id;
    f->config[at + 1] = f->config[PCI_CAPABILITIES];
    f->config[PCI_CAPABILITIES] = (uint8_t)at;
    f->config[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;
    f->next_cap = (at + size + 3) & ~3u;
    return at;
}

/* ---- save and load ---- */

static bool pci_function_after_load(void *object, struct error *err)
{
    struct pci_function *f = object;
    /* What the guest could not have changed is the function's own. */
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t mutable = f->writable[i] | f->clears[i];
        f->config[i] = (uint8_t)((f->initial[i] & ~mutable) | (f->config[i] & mutable));
    }
    f->intx = f->intx != 0;
    if (f->bus)
        pci_config_changed(f, 0, PCI_CONFIG_SIZE);
    return true;
}

static const struct archive_field pci_function_fields[] = {
    ARCHIVE_ARRAY(struct pci_function, config),
    ARCHIVE_FIELD(struct pci_function, intx),
    ARCHIVE_FIELD(struct pci_function, msi_pending),
    ARCHIVE_ARRAY(struct pci_function, msix.table),
    ARCHIVE_FIELD(struct pci_function, msix.pending),
};

const struct archive_type pci_function_archive = {
    .name = "pci function",
    .version = 1,
    .fields = pci_function_fields,
    .field_count = ARRAY_LEN(pci_function_fields),
    .after_load = pci_function_after_load,
};

static const struct archive_field pci_bus_fields[] = {
    ARCHIVE_FIELD(struct pci_bus, address),
    ARCHIVE_FIELD(struct pci_bus, reset_control),
};

const struct archive_type pci_bus_archive = {
    .name = "pci bus",
    .version = 1,
    .fields = pci_bus_fields,
    .field_count = ARRAY_LEN(pci_bus_fields),
};

/*
 * PCI: one bus of functions with configuration space, reached by configuration mechanism 1 (ports
 * 0xcf8 and 0xcfc) and by the memory-mapped window (ECAM) alike; BARs that the guest sizes and
 * places; INTx, MSI and MSI-X (PCI 3.0; PCI Express 2.1, 7.2).
 *
 * A function is described by data: bytes of its configuration space, a mask of what is writable, a
 * mask of what a one clears. The rest are a few callbacks.
 */
#ifndef DOPPEL_DEVICE_PCI_H
#define DOPPEL_DEVICE_PCI_H

#include <stddef.h>

#include "base/archive.h"
#include "device/bus.h"

#define PCI_ECAM_BASE UINT64_C(0xe0000000)
#define PCI_ECAM_SIZE UINT64_C(0x10000000) /* 256 buses; functions are on bus 0 */

/* Where pci_assign() places BARs, as firmware would. */
#define PCI_IO_BASE     0x6000u
#define PCI_IO_END      0x10000u
#define PCI_MEMORY_BASE UINT64_C(0xf0000000)
#define PCI_MEMORY_END  UINT64_C(0xfec00000)

enum {
    PCI_CONFIG_SIZE = 256,
    PCI_BARS = 6,
    PCI_DEVFNS = 256,
    PCI_MSIX_VECTORS = 64,
};
#define PCI_DEVFN(device, function) ((device) << 3 | (function))

/* Configuration space header, type 0 (PCI 3.0, 6.1). */
enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION_ID = 0x08,
    PCI_CLASS_PROG = 0x09,
    PCI_CLASS_SUB = 0x0a,
    PCI_CLASS_BASE = 0x0b,
    PCI_CACHE_LINE_SIZE = 0x0c,
    PCI_LATENCY_TIMER = 0x0d,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR_ID = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_EXPANSION_ROM = 0x30,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d,
};

enum {
    PCI_COMMAND_IO = 1u << 0,
    PCI_COMMAND_MEMORY = 1u << 1,
    PCI_COMMAND_MASTER = 1u << 2,
    PCI_COMMAND_PARITY = 1u << 6,
    PCI_COMMAND_SERR = 1u << 8,
    PCI_COMMAND_INTX_DISABLE = 1u << 10,
    PCI_STATUS_INTERRUPT = 1u << 3,
    PCI_STATUS_CAPABILITIES = 1u << 4,
};

enum { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEMORY, PCI_BAR_MEMORY64 };

struct pci_bar {
    enum pci_bar_kind kind;
    uint64_t size; /* a power of two */
    const struct bus_ops *ops;
    void *device;
    bool mapped;
    uint64_t mapped_at;
};

/* MSI-X: the table and the pending bits, which live in a BAR. */
struct pci_msix {
    unsigned vectors;
    unsigned cap;
    uint32_t table[PCI_MSIX_VECTORS * 4];
    uint64_t pending;
};

struct pci_bus;

struct pci_function {
    struct pci_bus *bus;
    const char *name;
    unsigned devfn;
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t initial[PCI_CONFIG_SIZE]; /* what reset puts back */
    uint8_t writable[PCI_CONFIG_SIZE];
    uint8_t clears[PCI_CONFIG_SIZE]; /* writing a one clears the bit */
    struct pci_bar bar[PCI_BARS];
    unsigned next_cap; /* where the next capability goes */
    unsigned msi_cap;  /* 0: none */
    struct pci_msix msix;
    uint8_t intx;        /* level of its interrupt pin, as the device wants it */
    uint8_t intx_driven; /* what reaches the bus: INTx may be disabled */
    uint64_t msi_pending;
    /* Told after the guest wrote [offset, offset + size) of configuration space; may be NULL. */
    void (*written)(void *device, unsigned offset, unsigned size);
    /* Asked before the guest reads it, so that a register can be refreshed in config; may be NULL.
     */
    void (*reading)(void *device, unsigned offset, unsigned size);
    void *device;
};

struct pci_bus {
    struct pci_function *function[PCI_DEVFNS];
    struct bus *io, *memory;
    struct msi_target msi;
    /* Pins of all functions, wired together by pci_pirq(): PIRQA (0) to PIRQH (7). */
    struct irq_line pirq; /* its pin is ignored; set() gets 0 to 7 */
    uint32_t pirq_count[8];
    uint32_t address; /* CONFIG_ADDRESS */
    uint8_t reset_control;
    /* 0xcf9 lies inside CONFIG_ADDRESS and is no part of it: byte accesses go there. */
    void (*reset)(void *ctx, bool full);
    void *reset_ctx;
    /* Told when BARs have moved, appeared or gone; may be NULL. */
    void (*moved)(void *ctx);
    void *moved_ctx;
};

/* Per function: pci_function_archive; per bus: pci_bus_archive. */
extern const struct archive_type pci_function_archive, pci_bus_archive;

/* pirq.set(ctx, n, level) is called for PIRQA + n. reset is called by the reset control register at
 * 0xcf9 (full: a power cycle was asked for). */
void pci_bus_init(struct pci_bus *b, struct bus *io, struct bus *memory, struct irq_line pirq,
                  struct msi_target msi, void (*reset)(void *ctx, bool full), void *reset_ctx);
/* Ports 0xcf8-0xcff and the ECAM window. */
bool pci_bus_attach(struct pci_bus *b, struct error *err);
/* Resets every function and takes BARs off the buses; pci_assign() afterwards, as firmware does. */
void pci_bus_reset(struct pci_bus *b);
/* Places every BAR, sets the interrupt lines and switches decoding on, as firmware does before it
 * starts an operating system. irq[n] is the 8259 input to which PIRQA + n is routed. */
bool pci_assign(struct pci_bus *b, const uint8_t irq[8], struct error *err);

/* Which PIRQ a pin of a device on bus 0 is wired to (pin: 1 INTA to 4 INTD): the swizzle that the
 * firmware's tables must tell as well. PIRQA + n is I/O APIC pin 16 + n. */
static inline unsigned pci_pirq(unsigned devfn, unsigned pin)
{
    return ((devfn >> 3) + pin - 1) & 7;
}

/* Fills in a function (type 0 header) that pci_add() can then put on the bus. class_code: base,
 * sub-class and interface as in 0x060000. */
void pci_function_init(struct pci_function *f, const char *name, uint16_t vendor, uint16_t device,
                       uint32_t class_code, uint8_t revision);
void pci_set_subsystem(struct pci_function *f, uint16_t vendor, uint16_t device);
/* Fails when the place is taken. The functions below come before it: what they set is what reset
 * restores. */
bool pci_add(struct pci_bus *b, struct pci_function *f, unsigned devfn, struct error *err);
void pci_remove(struct pci_function *f);

/* BAR index (a 64-bit one takes two). size is rounded up to a power of two, at least 16 bytes of
 * memory or 4 ports. */
void pci_set_bar(struct pci_function *f, unsigned index, enum pci_bar_kind kind, uint64_t size,
                 const struct bus_ops *ops, void *device);
/* Uses interrupt pin 1 (INTA) to 4. */
void pci_set_pin(struct pci_function *f, unsigned pin);
/* Appends a capability of size bytes (its ID and next pointer included, the other bytes zero);
 * returns its offset, or 0 when there is no room. */
unsigned pci_add_capability(struct pci_function *f, uint8_t id, unsigned size);
/* vectors: a power of two from 1 to 32. */
bool pci_add_msi(struct pci_function *f, unsigned vectors);
/* Table at table_offset and pending bits at pba_offset of BAR bar, whose handlers must hand those
 * spans to pci_msix_read() and pci_msix_write(). vectors: 1 to PCI_MSIX_VECTORS. */
bool pci_add_msix(struct pci_function *f, unsigned vectors, unsigned bar, uint32_t table_offset,
                  uint32_t pba_offset);
/* The MSI-X table (offset from its start), and the pending bits. */
uint64_t pci_msix_read(struct pci_function *f, uint64_t offset, unsigned size);
void pci_msix_write(struct pci_function *f, uint64_t offset, unsigned size, uint64_t value);
uint64_t pci_msix_read_pending(struct pci_function *f, uint64_t offset, unsigned size);

/* What the device does at run time. */
void pci_set_intx(struct pci_function *f, bool level);
bool pci_msi_enabled(const struct pci_function *f);
bool pci_msix_enabled(const struct pci_function *f);
/* Sends the message of that vector, or marks it pending while it is masked. Nothing when MSI
 * (MSI-X) is off. */
void pci_msi_send(struct pci_function *f, unsigned vector);
void pci_msix_send(struct pci_function *f, unsigned vector);

/* For pci.c: the capabilities or masks changed, send what waited; back to the state after reset. */
void pci_msi_changed(struct pci_function *f);
void pci_msi_reset(struct pci_function *f);

/* Configuration space as the guest reaches it; devfn's bus is 0. size is 1, 2 or 4 and the access
 * does not cross a double word. */
uint32_t pci_config_read(struct pci_bus *b, unsigned bus, unsigned devfn, unsigned offset,
                         unsigned size);
void pci_config_write(struct pci_bus *b, unsigned bus, unsigned devfn, unsigned offset,
                      unsigned size, uint32_t value);

/* Little-endian accesses to a function's bytes, for whoever describes it. */
static inline void pci_put(uint8_t *bytes, unsigned offset, unsigned size, uint64_t value)
{
    for (unsigned i = 0; i < size; i++)
        bytes[offset + i] = (uint8_t)(value >> (8 * i));
}
static inline uint64_t pci_get(const uint8_t *bytes, unsigned offset, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)bytes[offset + i] << (8 * i);
    return value;
}

#endif

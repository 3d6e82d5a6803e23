/*
 * The chips of a PC and the wires between them.
 */
#ifndef DOPPEL_MACHINE_PC_H
#define DOPPEL_MACHINE_PC_H

#include "device/apic.h"
#include "device/bus.h"
#include "device/clock.h"
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
#include "virtio/rng.h"

/* What the chips ask of whoever runs the machine. */
struct pc_host {
    void *ctx;
    void (*reset)(void *ctx);
    void (*power_off)(void *ctx);
    void (*debug_exit)(void *ctx, uint32_t value);
    void (*transmit)(void *ctx, uint8_t byte); /* the first serial line */
    void (*receive_ready)(void *ctx);
};

struct pc {
    struct bus ports, memory;
    struct clock *clock;
    struct pc_host host;

    struct apic_bus apics;
    struct lapic lapic[APIC_BUS_MAX];
    unsigned cpus;
    struct ioapic ioapic;
    struct pic pic;
    struct pit pit;
    struct rtc rtc;
    struct dma dma;
    struct ports system_ports;
    struct i8042 i8042;
    struct uart com1;
    struct pm pm;
    struct pci_bus pci;
    struct q35 q35;
    struct debug_exit debug_exit;
    struct virtio_rng rng;
    bool has_rng;
};

enum { PC_RNG_DEVFN = PCI_DEVFN(1, 0) };

/* Makes the chips and puts them on the buses. The local APICs are made by the caller, with
 * pc_add_cpu(), in the order of their processors, after this. */
bool pc_init(struct pc *pc, struct clock *clock, const struct pc_host *host, bool debug_exit,
             struct error *err);
/* An entropy device on the PCI bus. */
bool pc_add_rng(struct pc *pc, struct memory *memory, const struct virtio_rng_source *source,
                struct error *err);
/* host: as for lapic_init(); its bus is filled in here. */
void pc_add_cpu(struct pc *pc, const struct lapic_host *host, unsigned physical_bits);

/* RESET#, and then what firmware does before it looks for an operating system: RAM sizes in the
 * RTC's memory, BARs placed, the interrupt controllers in virtual wire mode. */
bool pc_reset(struct pc *pc, uint64_t memory_low, uint64_t memory_high, struct error *err);

/* FERR#, which a PC leads to IRQ 13. */
void pc_fpu_error(struct pc *pc, bool level);

bool pc_save(struct pc *pc, struct archive *to, struct error *err);
bool pc_load(struct pc *pc, struct archive *from, struct error *err);

#endif

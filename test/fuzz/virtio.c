/*
 * A hostile driver: registers, rings and descriptors of a virtio device at random, mostly near to
 * what would be right, while states are saved, damaged and loaded. It looks for crashes (under the
 * sanitizers), hangs, and a device that does more than it was asked for.
 *
 *   fuzz-virtio [SEED [COUNT]]    COUNT steps; the same seed takes the same steps
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/rng.h"

enum { RAM = 1 << 20, DEVFN = PCI_DEVFN(1, 0), QUEUE = 16 };
/* Where the areas are when they are where they should be: at the end of RAM, for those who run over
 * it. */
enum { DESCRIPTORS = RAM - 0x1000, DRIVER = RAM - 0x800, DEVICE = RAM - 0x400, INNER = 0x2000 };

struct world {
    uint64_t seed, time;
    struct clock clock;
    struct bus ports, memory;
    struct pci_bus pci;
    struct memory ram;
    struct virtio_rng rng;
    uint64_t filled, messages, levels, resets; /* what came of it */
    uint64_t asked;                            /* bytes since the device was last looked at */
    bool dry;                                  /* the source has nothing */
};

/* ---- choices ---- */

static uint8_t byte(struct world *w)
{
    w->seed = w->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint8_t)(w->seed >> 56);
}

static uint64_t number(struct world *w)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < 8; i++)
        v = v << 8 | byte(w);
    return v;
}

static bool one_in(struct world *w, unsigned n)
{
    return number(w) % n == 0;
}

static uint64_t address(struct world *w)
{
    static const uint64_t edges[] = {
        0, RAM, RAM - 16, RAM - 1, UINT64_MAX, UINT64_MAX - 15, UINT64_C(1) << 63, UINT32_MAX};
    if (one_in(w, 4))
        return edges[number(w) % ARRAY_LEN(edges)] - (byte(w) & 3);
    return one_in(w, 8) ? number(w) : number(w) % RAM;
}

/* ---- surroundings ---- */

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "fuzz-virtio: %s\n", what);
    abort();
}

static uint64_t now(void *ctx)
{
    return ((struct world *)ctx)->time;
}

static bool fill(void *ctx, void *to, size_t n)
{
    struct world *w = ctx;
    if (w->rng.device.status & VIRTIO_NEEDS_RESET)
        fail("it works on before it was reset");
    memset(to, 0xa5, n);
    w->filled++;
    w->asked += n;
    return !w->dry;
}

static void message(void *ctx, uint64_t to, uint32_t data)
{
    ((struct world *)ctx)->messages++;
}

static void level(void *ctx, unsigned pin, bool on)
{
    ((struct world *)ctx)->levels++;
}

static void make(struct world *w)
{
    struct error err;
    static const uint8_t irq[8] = {0};
    const struct virtio_rng_source source = {fill, w};
    clock_init(&w->clock, now, w);
    pci_bus_init(&w->pci, &w->ports, &w->memory, (struct irq_line){level, w, 0},
                 (struct msi_target){message, w}, NULL, NULL);
    if (!memory_create(&w->ram, RAM, &err) || !pci_bus_attach(&w->pci, &err) ||
        !virtio_rng_init(&w->rng, &source, &w->ram, &w->clock, &w->pci, DEVFN, &err) ||
        !pci_assign(&w->pci, irq, &err))
        fail(err.text);
}

/* ---- the driver ---- */

static uint64_t base(struct world *w, unsigned bar)
{
    return pci_get(w->rng.device.pci.config, PCI_BAR0 + 4 * bar, 4) & ~UINT64_C(15);
}

static void set(struct world *w, unsigned at, unsigned size, uint64_t value)
{
    bus_write(&w->memory, base(w, 0) + at, size, value);
}

/* A queue that works, but for what chance has changed. */
static void set_up(struct world *w)
{
    const uint64_t areas[] = {DESCRIPTORS, DRIVER, DEVICE};
    pci_config_write(&w->pci, 0, DEVFN, PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | (one_in(w, 30) ? 0 : PCI_COMMAND_MASTER));
    set(w, 0x14, 1, 0);
    set(w, 0x14, 1, 3);
    for (unsigned half = 0; half < 2; half++) {
        set(w, 0x08, 4, half);
        set(w, 0x0c, 4, half ? 1 : (unsigned)(byte(w) & 3) << 28);
    }
    set(w, 0x14, 1, 11);
    set(w, 0x16, 2, one_in(w, 30));
    set(w, 0x18, 2, 1u << (byte(w) & 7));
    set(w, 0x1a, 2, byte(w) & 3);
    for (unsigned i = 0; i < 3; i++) {
        uint64_t to = one_in(w, 30) ? address(w) : areas[i];
        set(w, 0x20 + 8 * i, 4, to);
        set(w, 0x24 + 8 * i, 4, to >> 32);
    }
    set(w, 0x1c, 2, 1);
    set(w, 0x14, 1, 15);
    pci_config_write(&w->pci, 0, DEVFN, w->rng.device.pci.msix.cap + 2, 2, one_in(w, 2) << 15);
    for (unsigned entry = 0; entry < 2; entry++)
        bus_write(&w->memory, base(w, 1) + 16 * entry + 12, 4, one_in(w, 4));
    const uint8_t zeros[0x800] = {0};
    memory_write(&w->ram, DRIVER, zeros, sizeof zeros);
}

static void write_descriptor(struct world *w, uint64_t table, unsigned i)
{
    uint64_t to = one_in(w, 30) ? address(w) : INNER;
    uint32_t length = one_in(w, 30) ? (uint32_t)number(w) : 16u * (byte(w) & 15);
    uint16_t flags = one_in(w, 30)  ? (uint16_t)number(w)
                     : one_in(w, 6) ? 4 /* a table */
                                    : 2 | one_in(w, 4);
    uint16_t next = (uint16_t)(one_in(w, 30) ? number(w) : i + 1);
    memory_write(&w->ram, table + 16 * i, &to, 8);
    memory_write(&w->ram, table + 16 * i + 8, &length, 4);
    memory_write(&w->ram, table + 16 * i + 12, &flags, 2);
    memory_write(&w->ram, table + 16 * i + 14, &next, 2);
}

static void offer(struct world *w)
{
    uint16_t index = 0;
    memory_read(&w->ram, DRIVER + 2, &index, 2);
    for (unsigned n = 1 + byte(w) % 4; n; n--, index++) {
        uint16_t head = one_in(w, 60) ? (uint16_t)number(w) : byte(w) % QUEUE;
        memory_write(&w->ram, DRIVER + 4 + 2 * (index % QUEUE), &head, 2);
    }
    if (one_in(w, 30))
        index = (uint16_t)number(w);
    memory_write(&w->ram, DRIVER + 2, &index, 2);
    set(w, 0x3000 + 4 * one_in(w, 9), 1u << (byte(w) & 3), number(w));
}

static void poke(struct world *w)
{
    unsigned bar = one_in(w, 4), size = 1u << (byte(w) & 3);
    uint64_t at = base(w, bar) + number(w) % (bar ? 0x1000 : one_in(w, 2) ? 0x40 : 0x4000);
    if (one_in(w, 2))
        bus_write(&w->memory, at, size, one_in(w, 2) ? byte(w) : number(w));
    else
        bus_read(&w->memory, at, size);
}

/* Also through the window into the registers. */
static void poke_config(struct world *w)
{
    unsigned size = 1u << byte(w) % 3, at = byte(w) & (0u - size);
    if (one_in(w, 2))
        at = (w->rng.device.window + 4 * (byte(w) % 5)) & (0u - size);
    if (one_in(w, 3))
        pci_config_read(&w->pci, 0, DEVFN, at, size);
    else
        pci_config_write(&w->pci, 0, DEVFN, at, size, one_in(w, 2) ? byte(w) : (uint32_t)number(w));
}

/* However much waits, the device does a bounded part of it at a time. */
static void pass_time(struct world *w)
{
    w->time += 2;
    w->asked = 0;
    w->dry = one_in(w, 50);
    clock_fire(&w->clock);
    if (w->asked > (uint64_t)VIRTIO_RNG_MOST * QUEUE)
        fail("one look is too much work");
    w->resets += w->rng.device.status >> 6 & 1;
}

static void damage(struct world *w)
{
    struct virtio_device *d = &w->rng.device;
    const struct archive_type *type = one_in(w, 2) ? &virtio_archive : &virtq_archive;
    void *object = type == &virtio_archive ? (void *)d : &d->queue[0];
    struct archive a;
    struct error err;
    archive_init(&a);
    if (!archive_save(&a, type, 0, object, &err))
        fail(err.text);
    for (unsigned n = byte(w) & 7; n; n--)
        a.data[number(w) % a.size] = byte(w);
    if (!archive_load(&a, type, 0, object, &err))
        virtio_reset(d); /* what was refused is not used */
    archive_free(&a);
}

static void step(struct world *w)
{
    uint8_t what = byte(w);
    bool stopped = w->rng.device.status & VIRTIO_NEEDS_RESET;
    if (what < (stopped ? 80 : 5))
        set_up(w);
    else if (what < 100)
        write_descriptor(w, one_in(w, 2) ? DESCRIPTORS : INNER, byte(w) % QUEUE);
    else if (what < 160)
        offer(w);
    else if (what < 175)
        poke(w);
    else if (what < 180)
        poke_config(w);
    else if (what < 253)
        pass_time(w);
    else if (what < 255)
        damage(w);
    else
        virtio_reset(&w->rng.device);
}

int main(int argc, char **argv)
{
    static struct world w;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 200000;
    w.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    make(&w);
    for (uint64_t i = 0; i < count; i++)
        step(&w);
    memory_destroy(&w.ram);
    printf("fuzz-virtio: %llu steps, %llu requests, %llu messages, %llu levels, %llu stops\n",
           (unsigned long long)count, (unsigned long long)w.filled, (unsigned long long)w.messages,
           (unsigned long long)w.levels, (unsigned long long)w.resets);
    return w.filled && w.messages && w.levels && w.resets ? 0 : 1;
}

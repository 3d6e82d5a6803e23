#include "device/apic.h"

#include "device/ioapic.h"
#include "device/lapic.h"

/* An MSI's address and data (SDM 3, 10.11). */
enum { MSI_LOGICAL = 1u << 2, MSI_LEVEL = 1u << 15, MSI_ASSERT = 1u << 14 };
#define MSI_BASE UINT64_C(0xfee00000)
#define MSI_SIZE UINT64_C(0x00100000)

void apic_bus_init(struct apic_bus *b)
{
    *b = (struct apic_bus){0};
}

void apic_bus_add(struct apic_bus *b, struct lapic *l)
{
    if (b->count < APIC_BUS_MAX)
        b->lapic[b->count++] = l;
}

/* Lowest-priority delivery: of those that match, the one whose processor is least busy; equals take
 * turns. */
static struct lapic *apic_bus_arbitrate(struct apic_bus *b, const struct apic_message *m)
{
    struct lapic *best = NULL;
    unsigned best_index = 0;
    for (unsigned i = 0; i < b->count; i++) {
        unsigned index = (b->turn + 1 + i) % b->count;
        struct lapic *l = b->lapic[index];
        if (!lapic_enabled(l) || !lapic_matches(l, m))
            continue;
        if (!best || lapic_priority(l) < lapic_priority(best)) {
            best = l;
            best_index = index;
        }
    }
    if (best)
        b->turn = best_index;
    return best;
}

void apic_bus_deliver(void *ctx, const struct apic_message *m)
{
    struct apic_bus *b = ctx;
    if (b->keeper.deliver && m->mode != APIC_EXTINT) {
        b->keeper.deliver(b->keeper.ctx, m);
        return;
    }
    if (m->mode == APIC_LOWEST) {
        struct lapic *l = apic_bus_arbitrate(b, m);
        if (l)
            lapic_deliver(l, m);
        return;
    }
    for (unsigned i = 0; i < b->count; i++)
        if (lapic_matches(b->lapic[i], m))
            lapic_deliver(b->lapic[i], m);
}

void apic_bus_msi(void *ctx, uint64_t address, uint32_t data)
{
    if (address - MSI_BASE >= MSI_SIZE)
        return;
    /* A level-triggered message that takes its line back says nothing to anyone. */
    if ((data & (MSI_LEVEL | MSI_ASSERT)) == MSI_LEVEL)
        return;
    struct apic_message m = {
        .destination = address >> 12 & 0xff,
        .vector = (uint8_t)data,
        .mode = data >> 8 & 7,
        .logical = address & MSI_LOGICAL,
        .level = data & MSI_LEVEL,
    };
    const struct apic_bus *b = ctx;
    bool usual = !m.level && m.mode <= APIC_LOWEST;
    if (!usual || !b->keeper.message || !b->keeper.message(b->keeper.ctx, &m))
        apic_bus_deliver(ctx, &m);
}

void apic_bus_routed(void *ctx, const struct ioapic *a)
{
    struct apic_bus *b = ctx;
    if (b->keeper.routes)
        b->keeper.routes(b->keeper.ctx, a);
}

void apic_bus_eoi(void *ctx, uint8_t vector)
{
    struct apic_bus *b = ctx;
    if (b->ioapic)
        ioapic_eoi(b->ioapic, vector);
}

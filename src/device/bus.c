#include "device/bus.h"

#include <string.h>

/* The index of the first region whose base is above address. */
static unsigned bus_after(const struct bus *b, uint64_t address)
{
    unsigned low = 0, high = b->count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (b->region[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct bus_region *bus_find(const struct bus *b, uint64_t address)
{
    unsigned i = bus_after(b, address);
    if (i == 0)
        return NULL;
    const struct bus_region *r = &b->region[i - 1];
    return address - r->base < r->size ? r : NULL;
}

bool bus_add(struct bus *b, const char *name, uint64_t base, uint64_t size,
             const struct bus_ops *ops, void *device, struct error *err)
{
    if (size == 0 || base + (size - 1) < base)
        return error_set(err, "%s: an empty or wrapped span of addresses", name);
    if (b->count == BUS_REGIONS)
        return error_set(err, "%s: the bus has no room for another device", name);
    unsigned i = bus_after(b, base);
    const struct bus_region *clash = NULL;
    if (i > 0 && base - b->region[i - 1].base < b->region[i - 1].size)
        clash = &b->region[i - 1];
    else if (i < b->count && b->region[i].base - base < size)
        clash = &b->region[i];
    if (clash)
        return error_set(err, "%s: addresses 0x%llx to 0x%llx are in part those of %s", name,
                         (unsigned long long)base, (unsigned long long)(base + size - 1),
                         clash->name);
    memmove(&b->region[i + 1], &b->region[i], (b->count - i) * sizeof b->region[0]);
    b->region[i] = (struct bus_region){base, size, ops, device, name};
    b->count++;
    return true;
}

void bus_remove(struct bus *b, uint64_t base)
{
    unsigned i = bus_after(b, base);
    if (i == 0 || b->region[i - 1].base != base)
        return;
    b->count--;
    memmove(&b->region[i - 1], &b->region[i], (b->count - (i - 1)) * sizeof b->region[0]);
}

/* Whether the access has to be done in halves: it is wider than its device takes, or not all of its
 * bytes are the same device's. r: the region of its first byte. */
static bool bus_splits(const struct bus *b, const struct bus_region *r, uint64_t address,
                       unsigned size)
{
    if (size == 1)
        return false;
    if (!r) {
        unsigned next = bus_after(b, address);
        return next < b->count && b->region[next].base - address < size;
    }
    return (r->ops->widest && size > r->ops->widest) || r->size - (address - r->base) < size;
}

/* An access is at most 8 bytes wide: three halvings. NOLINTBEGIN(misc-no-recursion) */
uint64_t bus_read(const struct bus *b, uint64_t address, unsigned size)
{
    const struct bus_region *r = bus_find(b, address);
    if (bus_splits(b, r, address, size)) {
        unsigned half = size / 2;
        uint64_t low = bus_read(b, address, half);
        return low | bus_read(b, address + half, half) << (8 * half);
    }
    uint64_t mask = UINT64_MAX >> (64 - 8 * size);
    return r ? r->ops->read(r->device, address - r->base, size) & mask : mask;
}

void bus_write(const struct bus *b, uint64_t address, unsigned size, uint64_t value)
{
    const struct bus_region *r = bus_find(b, address);
    if (bus_splits(b, r, address, size)) {
        unsigned half = size / 2;
        bus_write(b, address, half, value & (UINT64_MAX >> (64 - 8 * half)));
        bus_write(b, address + half, half, value >> (8 * half));
        return;
    }
    if (r)
        r->ops->write(r->device, address - r->base, size, value & (UINT64_MAX >> (64 - 8 * size)));
}
/* NOLINTEND(misc-no-recursion) */

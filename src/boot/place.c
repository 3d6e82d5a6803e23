#include "boot/place.h"

#include <inttypes.h>

#include "base/bits.h"

bool place_is_ram(const struct place *p, uint64_t gpa, uint64_t size)
{
    if (size == 0 || size > UINT64_MAX - gpa)
        return false;
    /* Neighbouring ranges may both be RAM: go from one to the next. */
    for (unsigned i = 0; i < p->map_count && size; i++) {
        const struct boot_range *r = &p->map[i];
        if (r->type != BOOT_RANGE_RAM || gpa - r->gpa >= r->size)
            continue;
        uint64_t here = r->size - (gpa - r->gpa);
        here = here < size ? here : size;
        gpa += here;
        size -= here;
    }
    return size == 0;
}

uint64_t place_ram_end(const struct place *p, uint64_t limit)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < p->map_count; i++) {
        const struct boot_range *r = &p->map[i];
        if (r->type != BOOT_RANGE_RAM || r->gpa >= limit)
            continue;
        uint64_t e = r->size < limit - r->gpa ? r->gpa + r->size : limit;
        end = e > end ? e : end;
    }
    return end;
}

bool place_refuse(const struct place *p, uint64_t gpa, uint64_t size, struct error *err)
{
    uint64_t end = gpa + size, have = place_ram_end(p, MEMORY_HIGH);
    if (end > gpa && end > have && end <= MEMORY_LOW_TOP)
        return error_set(err,
                         "kernel %s: needs memory up to %" PRIu64 " MiB and the guest has %" PRIu64
                         " MiB; raise --memory",
                         p->kernel, (end + 0xfffff) >> 20, have >> 20);
    return error_set(err,
                     "kernel %s: wants to be at 0x%" PRIx64
                     ", where the guest has no memory; give another file",
                     p->kernel, gpa);
}

bool place_put(struct place *p, uint64_t gpa, const void *data, uint64_t filesz, uint64_t memsz,
               struct error *err)
{
    if (!place_is_ram(p, gpa, memsz) || (p->scratch && scratch_overlaps(p->scratch, gpa, memsz)))
        return place_refuse(p, gpa, memsz, err);
    if ((filesz && !memory_write(p->memory, gpa, data, filesz)) ||
        (memsz > filesz && !memory_fill(p->memory, gpa + filesz, 0, memsz - filesz)))
        return place_refuse(p, gpa, memsz, err);
    return true;
}

/* The part of a range that lies in [floor, limit), in whole pages; false: nothing of it does. */
static bool clip(const struct boot_range *r, uint64_t floor, uint64_t limit, uint64_t *from,
                 uint64_t *to)
{
    const uint64_t page = MEMORY_PAGE_SIZE - 1;
    if (r->type != BOOT_RANGE_RAM)
        return false;
    *from = r->gpa > floor ? r->gpa : floor;
    *to = r->gpa + r->size < limit ? r->gpa + r->size : limit;
    *from = (*from + page) & ~page;
    *to &= ~page;
    return *from < *to;
}

uint64_t place_find_top(const struct place *p, uint64_t size, uint64_t floor, uint64_t limit)
{
    uint64_t best = UINT64_MAX, from, to;
    for (unsigned i = 0; i < p->map_count; i++) {
        if (!clip(&p->map[i], floor, limit, &from, &to) || to - from < size)
            continue;
        uint64_t at = (to - size) & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
        if (best == UINT64_MAX || at > best)
            best = at;
    }
    return best;
}

uint64_t place_find_low(const struct place *p, uint64_t size, uint64_t floor, uint64_t limit)
{
    uint64_t best = UINT64_MAX, from, to;
    for (unsigned i = 0; i < p->map_count; i++)
        if (clip(&p->map[i], floor, limit, &from, &to) && to - from >= size && from < best)
            best = from;
    return best;
}

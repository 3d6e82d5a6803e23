#include "boot/scratch.h"

#include <stdlib.h>

#include "boot/boot.h"
#include "memory/memory.h"

/* Less is not worth it: the guest would be too small to hold a kernel and its file anyway. */
#define SCRATCH_MIN (UINT64_C(8) << 20)

static uint64_t whole_pages(uint64_t n)
{
    return (n + MEMORY_PAGE_SIZE - 1) & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
}

void scratch_init(struct scratch *s, struct memory *memory, const struct boot_range *map,
                  unsigned count)
{
    *s = (struct scratch){0};
    const struct boot_range *last = NULL;
    for (unsigned i = 0; i < count; i++)
        if (map[i].type == BOOT_RANGE_RAM)
            last = &map[i];
    const struct memory_region *region = last ? memory_find(memory, last->gpa) : NULL;
    if (!region || last->size > region->size - (last->gpa - region->gpa))
        return;
    uint64_t from = whole_pages(last->gpa + last->size / 2);
    uint64_t to = (last->gpa + last->size) & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    if (to < from + SCRATCH_MIN)
        return;
    s->memory = memory;
    s->gpa = from;
    s->base = memory_hva(memory, from);
    s->high = s->size = to - from;
}

/* What was there is lost, and whoever holds code from there, or watches it, is told. */
static void clear(struct scratch *s, uint64_t offset, uint64_t n)
{
    memory_discard(s->memory, s->gpa + offset, n);
}

uint8_t *scratch_take(struct scratch *s, size_t n)
{
    if (!s->memory)
        return scratch_grow(s, NULL, n);
    if (n > s->high - s->low || whole_pages(n) > s->high - s->low) {
        s->insufficient = true;
        return NULL;
    }
    s->high -= whole_pages(n);
    clear(s, s->high, whole_pages(n));
    return s->base + s->high;
}

static uint8_t *grow_on_host(struct scratch *s, uint8_t *piece, size_t n)
{
    if (!piece && s->count == SCRATCH_PIECES)
        return NULL;
    uint8_t *p = realloc(piece, n);
    if (p)
        s->piece[piece ? s->count - 1 : s->count++] = p;
    return p;
}

size_t scratch_room(const struct scratch *s, const uint8_t *piece)
{
    if (!s->memory)
        return SIZE_MAX;
    return s->high - (piece ? (uint64_t)(piece - s->base) : s->low);
}

uint8_t *scratch_grow(struct scratch *s, uint8_t *piece, size_t n)
{
    if (!s->memory)
        return grow_on_host(s, piece, n);
    if (n > scratch_room(s, piece)) {
        s->insufficient = true;
        return NULL;
    }
    uint64_t at = piece ? (uint64_t)(piece - s->base) : s->low;
    uint64_t end = at + whole_pages(n);
    if (end > s->low)
        clear(s, s->low, end - s->low);
    s->low = end > s->low ? end : s->low;
    return s->base + at;
}

bool scratch_overlaps(struct scratch *s, uint64_t gpa, uint64_t n)
{
    if (!s->memory || !n || gpa >= s->gpa + s->size || s->gpa >= gpa + n)
        return false;
    s->insufficient = true;
    return true;
}

void scratch_close(struct scratch *s)
{
    if (s->memory) {
        clear(s, 0, s->low);
        clear(s, s->high, s->size - s->high);
        s->low = 0;
        s->high = s->size;
    }
    while (s->count)
        free(s->piece[--s->count]);
}

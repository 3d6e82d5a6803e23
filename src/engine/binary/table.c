#include "engine/binary/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "memory/memory.h"

/* Address bits above the index repeat every slot; user space of the host has eight of them. */
enum { SLOT_BITS = 44, SLOTS = 8 };
/* Without access round each window: more than any one access runs over its page. */
#define GUARD (UINT64_C(64) << 10)

enum { ENTRIES_PER_PAGE = MEMORY_PAGE_SIZE / 8 };
/* Entries a table holds at most: with more it is flushed. */
enum { JOURNAL_FIRST = 1024, JOURNAL_MOST = 1 << 17 };

/* ---- windows ---- */

/* Holds [at, at + size) in every slot but its own without access. */
static bool reserve_other_slots(uintptr_t at, uint64_t size)
{
    uintptr_t in_slot = at & bits_mask(SLOT_BITS);
    for (uintptr_t slot = 0; slot < SLOTS; slot++) {
        uintptr_t there = slot << SLOT_BITS | in_slot;
        if (there == at || (slot == SLOTS - 1 && there + size >= UINT64_C(0x7ffffffff000)))
            continue;
        void *p = mmap((void *)there, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (p != (void *)there) {
            if (p != MAP_FAILED)
                munmap(p, size);
            return false;
        }
    }
    return true;
}

static void release_other_slots(uintptr_t at, uint64_t size)
{
    uintptr_t in_slot = at & bits_mask(SLOT_BITS);
    for (uintptr_t slot = 0; slot < SLOTS; slot++)
        if ((slot << SLOT_BITS | in_slot) != at)
            munmap((void *)(slot << SLOT_BITS | in_slot), size);
}

/* The read-only mapping, with guards; the page that is nowhere is in the guard below it. */
static bool map_read_only(struct windows *w, int fd)
{
    uint64_t whole = w->size + 2 * GUARD;
    uint8_t *p = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return false;
    w->read_only = (uintptr_t)p + GUARD;
    w->nowhere = (uintptr_t)p + GUARD / 2;
    if (mmap(p + GUARD, w->size, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
        MAP_FAILED)
        return false;
    madvise(p + GUARD, w->size, MADV_DONTDUMP);
    return true;
}

bool windows_create(struct windows *w, const struct memory *memory, struct error *err)
{
    *w = (struct windows){.writable = (uintptr_t)memory->region[0].hva, .size = memory->size};
    if (!map_read_only(w, memory->fd) ||
        !reserve_other_slots(w->read_only - GUARD, w->size + 2 * GUARD) ||
        !reserve_other_slots(w->writable - GUARD, w->size + 2 * GUARD)) {
        windows_destroy(w);
        return error_errno(err, "engine binary: the host has no address space for a second view of "
                                "guest memory; lift the limit (ulimit -v) or use --engine emulate");
    }
    return true;
}

void windows_destroy(struct windows *w)
{
    uint64_t whole = w->size + 2 * GUARD;
    if (w->read_only) {
        munmap((void *)(w->read_only - GUARD), whole);
        release_other_slots(w->read_only - GUARD, whole);
        release_other_slots(w->writable - GUARD, whole);
    }
    *w = (struct windows){0};
}

/* ---- a table's mapping ---- */

enum { BELOW = AREA_SIZE + JUMP_AREA };

static bool map_below(struct table *t, int fd, uint64_t area_offset, uint64_t jump_offset)
{
    uint8_t *base = (uint8_t *)t->entry;
    int flags = MAP_SHARED | MAP_FIXED;
    return mmap(base - AREA_SIZE, AREA_SIZE, PROT_READ | PROT_WRITE, flags, fd,
                (off_t)area_offset) != MAP_FAILED &&
           mmap(base - BELOW, JUMP_AREA, PROT_READ | PROT_WRITE, flags, fd, (off_t)jump_offset) !=
               MAP_FAILED;
}

static void *reserve(size_t size, int prot)
{
    void *p = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, size, MADV_DONTDUMP);
    madvise(p, size, MADV_NOHUGEPAGE); /* tables are sparse */
    return p;
}

#define OPEN_BYTES (TABLE_ENTRIES / ENTRIES_PER_PAGE / 8)

bool table_create(struct table *t, const struct windows *w, int area_fd, uint64_t area_offset,
                  uint64_t jump_offset, struct error *err)
{
    *t = (struct table){.windows = w};
    t->mapping = reserve(BELOW + TABLE_BYTES, PROT_NONE);
    t->open = reserve(OPEN_BYTES, PROT_READ | PROT_WRITE);
    t->journal = malloc(JOURNAL_FIRST * sizeof *t->journal);
    t->room = JOURNAL_FIRST;
    if (t->mapping)
        t->entry = (uint64_t *)((uint8_t *)t->mapping + BELOW);
    if (!t->mapping || !t->open || !t->journal ||
        !map_below(t, area_fd, area_offset, jump_offset)) {
        error_errno(err, "engine binary: the host has no address space for a table of 32 GiB; lift "
                         "the limit (ulimit -v) or use --engine emulate");
        table_destroy(t);
        return false;
    }
    return true;
}

void table_destroy(struct table *t)
{
    if (t->mapping)
        munmap(t->mapping, BELOW + TABLE_BYTES);
    if (t->open)
        munmap(t->open, OPEN_BYTES);
    free(t->journal);
    *t = (struct table){0};
}

/* ---- entries ---- */

static uint32_t index_of(uint64_t va)
{
    return (uint32_t)(va >> MEMORY_PAGE_BITS);
}

/* The addend of a page that is nowhere; any address with this index will do for p. */
static uint64_t missing(const struct table *t, uint32_t index)
{
    return t->windows->nowhere - ((uint64_t)index << MEMORY_PAGE_BITS);
}

static bool is_open(const struct table *t, uint32_t index)
{
    uint32_t page = index / ENTRIES_PER_PAGE;
    return t->open[page / 64] >> (page % 64) & 1;
}

static bool open_page(struct table *t, uint32_t index)
{
    uint32_t first = index - index % ENTRIES_PER_PAGE;
    if (mprotect(&t->entry[first], MEMORY_PAGE_SIZE, PROT_READ | PROT_WRITE) != 0)
        return false;
    for (uint32_t i = 0; i < ENTRIES_PER_PAGE; i++)
        t->entry[first + i] = missing(t, first + i);
    uint32_t page = index / ENTRIES_PER_PAGE;
    t->open[page / 64] |= BIT(page % 64);
    return true;
}

static bool note(struct table *t, uint32_t index, uint64_t offset)
{
    if (t->filled == t->room) {
        uint32_t more = t->room * 2;
        struct filled *grown =
            more <= JOURNAL_MOST ? realloc(t->journal, more * sizeof *grown) : NULL;
        if (!grown) {
            table_flush(t);
        } else {
            t->journal = grown;
            t->room = more;
        }
    }
    t->journal[t->filled++] = (struct filled){index, (uint32_t)(offset >> MEMORY_PAGE_BITS)};
    return true;
}

bool table_fill(struct table *t, uint64_t va, uint64_t offset, bool writable)
{
    uint64_t page = va & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    uint32_t index = index_of(va);
    offset &= ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    if (!is_open(t, index) && !open_page(t, index))
        return false;
    if (!note(t, index, offset))
        return false;
    t->entry[index] = (writable ? t->windows->writable : t->windows->read_only) + offset - page;
    return true;
}

void table_drop(struct table *t, uint64_t va)
{
    uint32_t index = index_of(va);
    if (is_open(t, index))
        t->entry[index] = missing(t, index);
}

void table_flush(struct table *t)
{
    for (uint32_t i = 0; i < t->filled; i++)
        t->entry[t->journal[i].index] = missing(t, t->journal[i].index);
    t->filled = 0;
}

/* Where an entry leads for a guest address: an offset in a window, or no RAM. */
static bool leads_into(uint64_t host, uintptr_t window, uint64_t size)
{
    return host - window < size;
}

void table_protect(struct table *t, uint64_t offset)
{
    uint32_t page = (uint32_t)(offset >> MEMORY_PAGE_BITS);
    uint64_t to_read_only = t->windows->read_only - t->windows->writable;
    for (uint32_t i = 0; i < t->filled; i++) {
        if (t->journal[i].page != page)
            continue;
        uint64_t *entry = &t->entry[t->journal[i].index];
        /* Whatever bits 63:44 of the page's address are, they do not say which window it is. */
        uint64_t host = *entry + ((uint64_t)t->journal[i].index << MEMORY_PAGE_BITS);
        uint64_t first = t->windows->writable + ((uint64_t)page << MEMORY_PAGE_BITS);
        if (((host ^ first) & bits_mask(SLOT_BITS)) == 0)
            *entry += to_read_only;
    }
}

bool table_has(const struct table *t, uint64_t va, bool write)
{
    uint32_t index = index_of(va);
    if (!is_open(t, index))
        return false;
    uint64_t host = t->entry[index] + va;
    return leads_into(host, t->windows->writable, t->windows->size) ||
           (!write && leads_into(host, t->windows->read_only, t->windows->size));
}

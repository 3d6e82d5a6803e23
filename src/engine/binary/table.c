#include "engine/binary/table.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "memory/memory.h"

/* Entries a table holds at most: with more it is flushed. */
enum { JOURNAL_FIRST = 1024, JOURNAL_MOST = 1 << 17 };

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

/* Anew, in place of what is at `at`, or anywhere without it. */
static void *reserve(void *at, size_t size, int prot)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0);
    void *p = mmap(at, size, prot, flags, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, size, MADV_DONTDUMP);
    madvise(p, size, MADV_NOHUGEPAGE); /* tables are sparse */
    return p;
}

#define OPEN_BYTES (TABLE_ENTRIES / ENTRIES_PER_PAGE / 8)

/* With this, a canonical address of the half leads to `nowhere` or the same place in another slot
 * of 2^44 bytes: also nothing, but canonical (windows.h). What is not costs the host's kernel more,
 * which decodes the instruction first (#GP may have been for it). */
static uint64_t missing_at_0(const struct windows *w, enum table_half half)
{
    return (w->nowhere & bits_mask(SLOT_BITS)) + (half == UPPER_HALF ? BIT(47) : 0);
}

bool table_create(struct table *t, struct windows *w, enum table_half half, int area_fd,
                  uint64_t area_offset, uint64_t jump_offset, struct error *err)
{
    *t = (struct table){.windows = w, .missing = missing_at_0(w, half)};
    t->mapping = reserve(NULL, BELOW + TABLE_BYTES, PROT_NONE);
    t->open = reserve(NULL, OPEN_BYTES, PROT_READ | PROT_WRITE);
    if (t->mapping)
        t->entry = (uint64_t *)((uint8_t *)t->mapping + BELOW);
    if (!t->mapping || !t->open || !map_below(t, area_fd, area_offset, jump_offset)) {
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
    for (unsigned i = 0; i < JOURNALS; i++)
        free(t->journal[i].entry);
    *t = (struct table){0};
}

/* ---- entries ---- */

/* The addend of a page that is nowhere. */
static uint64_t missing(const struct table *t, uint32_t index)
{
    return t->missing - ((uint64_t)index << MEMORY_PAGE_BITS);
}

static void note_gone(struct table *t, uint32_t index)
{
    struct gone *g = &t->gone;
    if (!g->wanted)
        return;
    if (g->count < GONE_MOST)
        g->index[g->count++] = index;
    else
        g->any = true;
}

static void note_run_gone(struct table *t, uint32_t first)
{
    struct gone *g = &t->gone;
    if (!g->wanted)
        return;
    if (g->runs < GONE_RUNS)
        g->run[g->runs++] = first;
    else
        g->any = true;
}

static bool is_open(const struct table *t, uint32_t index)
{
    uint32_t page = index / ENTRIES_PER_PAGE;
    return t->open[page / 64] >> (page % 64) & 1;
}

/* Runs of open pages that all tables of a process may have. Each takes at least a page of memory,
 * and makes two more mappings of the process, of which Linux allows 65,530. */
enum { ISLANDS = 3200 };

/* Empties the table, and closes all of its pages. */
static bool close_pages(struct table *t)
{
    for (unsigned i = 0; i < JOURNALS; i++)
        t->journal[i].count = 0;
    t->islands = 0;
    t->gone.any = true;
    /* With the second, all bits are clear. */
    return reserve(t->entry, TABLE_BYTES, PROT_NONE) &&
           madvise(t->open, OPEN_BYTES, MADV_DONTNEED) == 0;
}

/* Empties a page of the table that is open. */
static void clear_page(struct table *t, uint32_t first)
{
    for (uint32_t i = 0; i < ENTRIES_PER_PAGE; i++)
        t->entry[first + i] = missing(t, first + i);
}

static bool open_page(struct table *t, uint32_t index)
{
    uint32_t first = index - index % ENTRIES_PER_PAGE;
    if (t->islands >= ISLANDS / t->windows->tables && !close_pages(t))
        return false;
    if (mprotect(&t->entry[first], MEMORY_PAGE_SIZE, PROT_READ | PROT_WRITE) != 0)
        return false;
    clear_page(t, first);
    uint32_t page = index / ENTRIES_PER_PAGE;
    t->open[page / 64] |= BIT(page % 64);
    t->islands += 1u - is_open(t, first - 1) - is_open(t, first + ENTRIES_PER_PAGE);
    return true;
}

static bool grow(struct journal *j)
{
    uint32_t room = j->room ? j->room * 2 : JOURNAL_FIRST;
    struct filled *grown = room <= JOURNAL_MOST ? realloc(j->entry, room * sizeof *grown) : NULL;
    if (!grown)
        return false;
    j->entry = grown;
    j->room = room;
    return true;
}

static void flush(struct table *t, struct journal *j)
{
    for (uint32_t i = 0; i < j->count; i++)
        t->entry[j->entry[i].index] = missing(t, j->entry[i].index);
    j->count = 0;
    t->gone.any = true;
}

/* False: there is no memory for even one entry. */
static bool note(struct table *t, struct journal *j, uint32_t index, uint64_t offset)
{
    if (j->count == j->room && !grow(j))
        flush(t, j);
    if (j->count == j->room)
        return false;
    j->entry[j->count++] = (struct filled){index, (uint32_t)(offset >> MEMORY_PAGE_BITS)};
    return true;
}

bool table_is_ready(const struct table *t, uint64_t va)
{
    for (unsigned i = 0; i < JOURNALS; i++)
        if (t->journal[i].count == t->journal[i].room)
            return false;
    return is_open(t, table_index(va));
}

bool table_fill(struct table *t, uint64_t va, uint64_t offset, bool writable, bool global)
{
    uint64_t page = va & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    uint32_t index = table_index(va);
    offset &= ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    if (!is_open(t, index) && !open_page(t, index))
        return false;
    uintptr_t host = windows_page(t->windows, offset, writable);
    if (!host || !note(t, &t->journal[global ? JOURNAL_GLOBAL : JOURNAL_LOCAL], index, offset))
        return false;
    if (t->entry[index] != missing(t, index) && t->entry[index] != host - page)
        note_gone(t, index);
    t->entry[index] = host - page;
    return true;
}

void table_drop(struct table *t, uint64_t va)
{
    uint32_t index = table_index(va);
    if (is_open(t, index))
        t->entry[index] = missing(t, index);
    note_gone(t, index); /* who looks may know more than the entries */
}

void table_drop_large(struct table *t, uint64_t va, unsigned bits)
{
    uint32_t first = table_index(va);
    for (uint32_t i = 0; i < BIT(bits - MEMORY_PAGE_BITS); i += ENTRIES_PER_PAGE) {
        if (is_open(t, first + i))
            clear_page(t, first + i);
        note_run_gone(t, first + i);
    }
}

void table_flush(struct table *t)
{
    for (unsigned i = 0; i < JOURNALS; i++)
        flush(t, &t->journal[i]);
}

void table_flush_local(struct table *t)
{
    flush(t, &t->journal[JOURNAL_LOCAL]);
}

/* The host address that an entry gives its page; bits above SLOT_BITS mean nothing. */
static uint64_t leads_to(const struct table *t, uint32_t index)
{
    uint64_t host = t->entry[index] + ((uint64_t)index << MEMORY_PAGE_BITS);
    return host & bits_mask(SLOT_BITS);
}

static bool is_at(uint64_t host, uintptr_t page)
{
    return host == (page & bits_mask(SLOT_BITS));
}

static void protect(struct table *t, const struct journal *j, uint32_t page, uintptr_t writable)
{
    for (uint32_t i = 0; i < j->count; i++) {
        uint32_t index = j->entry[i].index;
        /* What was noted may have been replaced since. */
        if (j->entry[i].page == page && is_at(leads_to(t, index), writable)) {
            t->entry[index] = missing(t, index);
            note_gone(t, index);
        }
    }
}

void table_protect(struct table *t, uint64_t offset)
{
    uint32_t page = (uint32_t)(offset >> MEMORY_PAGE_BITS);
    uintptr_t writable =
        t->windows->at[WINDOW_WRITABLE][page & 1] + ((uint64_t)page << MEMORY_PAGE_BITS);
    for (unsigned i = 0; i < JOURNALS; i++)
        protect(t, &t->journal[i], page, writable);
}

static bool in_window(uint64_t host, uintptr_t window, uint64_t size)
{
    return host - (window & bits_mask(SLOT_BITS)) < size;
}

bool table_page(const struct table *t, uint64_t va, uint64_t *offset, bool *writable)
{
    const struct windows *w = t->windows;
    uint32_t index = table_index(va);
    if (!is_open(t, index))
        return false;
    uint64_t host = leads_to(t, index);
    for (unsigned kind = 0; kind < WINDOW_KINDS; kind++) {
        for (unsigned parity = 0; parity < 2; parity++) {
            if (!in_window(host, w->at[kind][parity], w->size))
                continue;
            *offset = host - (w->at[kind][parity] & bits_mask(SLOT_BITS));
            *writable = kind == WINDOW_WRITABLE;
            return true;
        }
    }
    return false;
}

bool table_has(const struct table *t, uint64_t va, bool write)
{
    uint64_t offset;
    bool writable;
    return table_page(t, va, &offset, &writable) && (writable || !write);
}

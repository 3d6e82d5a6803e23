/*
 * Flat tables: from guest-virtual to host addresses without a compare or a branch.
 *
 * A table has one entry of 8 bytes for each guest page, indexed by bits 43:12 of the address: 32
 * GiB of address space, of which only the pages that are used are ever touched. An entry is an
 * addend: the access to guest address a is made at host address a + entry. Three things make
 * that safe for each of the 2^64 addresses:
 *
 * - An entry for the page at address p of the guest is H - p, H being a host page. The address bits
 *   that do not index, 63:44, move the sum by multiples of 2^44 from H: at all seven other places
 *   in the host's half of the address space nothing is mapped (they are reserved), the rest is not
 *   canonical.
 * - A missing entry has H in a page that nothing is mapped at, so the access itself faults.
 * - Table pages that were never filled can't be read: the load of the entry faults.
 *
 * A page that may be read but not written now (no dirty bit yet, code, write protection) has H in a
 * read-only mapping of guest memory (windows.h). docs/binary-translation.md has the argument whole.
 */
#ifndef DOPPEL_ENGINE_BINARY_TABLE_H
#define DOPPEL_ENGINE_BINARY_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/binary/layout.h"
#include "engine/binary/windows.h"
#include "memory/memory.h"

#define TABLE_ENTRIES (UINT64_C(1) << 32)
#define TABLE_BYTES   (TABLE_ENTRIES * 8)
enum { ENTRIES_PER_PAGE = MEMORY_PAGE_SIZE / 8 };

/* Of the entry for va's page. */
static inline uint32_t table_index(uint64_t va)
{
    return (uint32_t)(va >> MEMORY_PAGE_BITS);
}

/* One filled entry: its index and the number of its page in RAM (from offset 0). */
struct filled {
    uint32_t index;
    uint32_t page;
};

/* What is filled, so that it can be taken out again at the cost of what there is. */
enum { JOURNAL_LOCAL, JOURNAL_GLOBAL, JOURNALS };
struct journal {
    struct filled *entry;
    uint32_t count, room;
};

/* What has been taken out of a table, or replaced, since someone looked: who has made something of
 * its entries has to look at them again. */
enum { GONE_MOST = 256, GONE_RUNS = 64 };
struct gone {
    bool wanted; /* someone looks */
    bool any;    /* more than are noted */
    unsigned count, runs;
    uint32_t index[GONE_MOST];
    uint32_t run[GONE_RUNS]; /* the first of ENTRIES_PER_PAGE: 2 MiB */
};

struct table {
    uint64_t *entry;  /* the table's base: what GS points to while it is in use */
    void *mapping;    /* with the context and the jump cache below it */
    uint64_t *open;   /* a bit for each page of the table: it can be read */
    unsigned islands; /* runs of such pages */
    uint64_t missing; /* the entry at index 0 while nothing is there */
    struct journal journal[JOURNALS];
    struct windows *windows;
    struct gone gone;
};

/* Which addresses a table is for most of all: those of a user or those of a supervisor. */
enum table_half { LOWER_HALF, UPPER_HALF };

/* area_fd is mapped below the table: the context at area_offset, the jump cache at jump_offset. */
bool table_create(struct table *t, struct windows *w, enum table_half half, int area_fd,
                  uint64_t area_offset, uint64_t jump_offset, struct error *err);
void table_destroy(struct table *t);

/* Whether the next table_fill() for va needs nothing of the host (memory, a system call). */
bool table_is_ready(const struct table *t, uint64_t va);

/* Enters the page of guest address va as RAM offset `offset`. False: no memory for it. */
bool table_fill(struct table *t, uint64_t va, uint64_t offset, bool writable, bool global);
/* Takes out the page of va; those of the 2^bits bytes, 2 MiB or more, at va; every page; every page
 * that is not global. */
void table_drop(struct table *t, uint64_t va);
void table_drop_large(struct table *t, uint64_t va, unsigned bits);
void table_flush(struct table *t);
void table_flush_local(struct table *t);
/* Makes every entry of the RAM page at `offset` read-only. */
void table_protect(struct table *t, uint64_t offset);
/* Where the page of va is in RAM, and whether it may be written. False: it has no entry. */
bool table_page(const struct table *t, uint64_t va, uint64_t *offset, bool *writable);
/* Whether the page of va has an entry, and may be written by it. */
bool table_has(const struct table *t, uint64_t va, bool write);

#endif

/*
 * What a cage holds: which page of RAM is at which page of the address space, and what it may be
 * used for there.
 *
 * It is found by the same 32 bits of the address that index a flat table (table.h), whose entries
 * it follows: of two addresses that share them one is held at a time.
 */
#ifndef DOPPEL_ENGINE_BINARY_MIRROR_H
#define DOPPEL_ENGINE_BINARY_MIRROR_H

#include <stdbool.h>
#include <stdint.h>

enum { WRITTEN_MASK = (1 << 28) - 1 };

struct mirror_page {
    uint64_t va;           /* a whole page; 0: this place was never used (page 0 is not held) */
    uint32_t page;         /* by number, in RAM */
    uint32_t rights : 4;   /* CAGE_* and SHOWN_COPY; 0: it is not there now */
    uint32_t written : 28; /* of a page of code: how often it had been, when it was judged */
};

struct mirror {
    struct mirror_page *slot;
    uint32_t room, used; /* places; those that were ever used */
};

/* The page with that table_index() that is there now, or NULL. */
struct mirror_page *mirror_at(const struct mirror *m, uint32_t index);
/* page: copied; its rights are not 0. False: there is no memory. */
bool mirror_put(struct mirror *m, const struct mirror_page *page);
/* Forgets all, and gives the memory back. */
void mirror_clear(struct mirror *m);

#endif

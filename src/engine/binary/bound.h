/*
 * Code that is bound to where it is in an address space.
 *
 * A block knows where its code is in physical memory, and learns at run time at which address: that
 * is right in every address space, and costs something at each branch to another page. Code that
 * runs long has blocks made for its address instead, which lead straight to each other. They carry
 * a tag in their keys that stands for the mapping of all pages that were executed under it. What
 * flushes that mapping has them looked up again, and makes an end of the tag when one of them is
 * somewhere else.
 *
 * The kernel's code is bound from the beginning, with one tag for all vCPUs: it is in the same
 * place in every address space. A process is once it has run for a while.
 */
#ifndef DOPPEL_ENGINE_BINARY_BOUND_H
#define DOPPEL_ENGINE_BINARY_BOUND_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/binary/page_set.h"
#include "x86/large_pages.h"

enum { BOUND_SLOTS = 8192, BOUND_MOST = BOUND_SLOTS / 4 * 3, BOUND_LOCALS = 64 };

/* A page of code: both addresses are whole pages. */
struct bound_page {
    uint64_t va, gpa;
    bool used, global;
};

struct bound {
    uint32_t tag; /* 0: none is given out */
    unsigned count;
    struct page_set pages; /* that are in `page`: most that are looked for are not */
    struct bound_page page[BOUND_SLOTS];
    /* Which of them are not global: of a kernel's, those that a new CR3 may put elsewhere. */
    uint16_t local[BOUND_LOCALS];
    unsigned locals;          /* more than there is room for: any may be */
    struct large_pages large; /* that some of them were parts of */
};

/* What of a mapping was flushed since its pages were looked at. */
enum bound_stale { BOUND_FRESH, BOUND_LOCALS_STALE, BOUND_ALL_STALE };

/* Ends the tag. */
void bound_end(struct bound *m);
/* Whether a page of it may go with the one at va, as one large page or the same (INVLPG). */
bool bound_may_go_with(const struct bound *m, uint64_t va);
/* The page at va is part of one of 2^bits bytes. */
void bound_part_of(struct bound *m, uint64_t va, unsigned bits);
/* The page at va, or NULL. */
const struct bound_page *bound_find(const struct bound *m, uint64_t va);
/* Adds one that is not there. False: there are too many. */
bool bound_add(struct bound *m, uint64_t va, uint64_t gpa, bool global);

#endif

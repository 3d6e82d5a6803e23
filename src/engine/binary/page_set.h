/*
 * A set of pages that is asked often for pages it does not hold: what it denies is not in it, what
 * it affirms may be (a Bloom filter of two bits a page). It forgets nothing but all.
 */
#ifndef DOPPEL_ENGINE_BINARY_PAGE_SET_H
#define DOPPEL_ENGINE_BINARY_PAGE_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/bytes.h"
#include "memory/memory.h"

/* A stock kernel has code in 1,500 pages. */
enum { PAGE_SET_BITS = 1 << 15 };

struct page_set {
    uint64_t word[PAGE_SET_BITS / 64];
};

/* The two bits of the page that an address is in: each is said by 15 of a hash of its number. */
static inline unsigned page_set_bit(uint64_t lin, unsigned which)
{
    uint64_t hash = (lin >> MEMORY_PAGE_BITS) * UINT64_C(0x9e3779b97f4a7c15);
    return hash >> (which ? 49 : 34) & (PAGE_SET_BITS - 1);
}

static inline void page_set_clear(struct page_set *s)
{
    bytes_fill(s, 0, sizeof *s);
}

static inline void page_set_add(struct page_set *s, uint64_t lin)
{
    for (unsigned which = 0; which < 2; which++)
        s->word[page_set_bit(lin, which) / 64] |= BIT(page_set_bit(lin, which) % 64);
}

static inline bool page_set_may_have(const struct page_set *s, uint64_t lin)
{
    unsigned a = page_set_bit(lin, 0), b = page_set_bit(lin, 1);
    return (s->word[a / 64] >> (a % 64) & 1) && (s->word[b / 64] >> (b % 64) & 1);
}

#endif

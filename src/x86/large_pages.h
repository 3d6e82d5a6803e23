/*
 * Which large pages translations have been kept from.
 *
 * Whoever keeps translations keeps them by pages of 4 KiB, but INVLPG takes all of a large page by
 * any address of it (SDM 3, 4.10.4.1). By then the page tables may say something else, so what they
 * said is noted here: each large page that a walk came to since all was forgotten, or since that
 * page was. All zeros is an empty one.
 */
#ifndef DOPPEL_X86_LARGE_PAGES_H
#define DOPPEL_X86_LARGE_PAGES_H

#include <stdint.h>

/* The sizes of pages, as bits of an address: 4 KiB; 2 MiB; 4 MiB under 32-bit paging; 1 GiB. */
enum { PAGE_4K_BITS = 12, PAGE_2M_BITS = 21, PAGE_4M_BITS = 22, PAGE_1G_BITS = 30 };

enum { LARGE_PAGES_SLOTS = 4096, LARGE_PAGES_MOST = LARGE_PAGES_SLOTS / 4 * 3 };

struct large_pages {
    uint32_t slot[LARGE_PAGES_SLOTS]; /* a hash table of pages, 0 where there is none */
    uint32_t count;
    uint32_t kinds; /* a bit for each size that there are pages of */
};

/* Pages are of one of the large sizes, `bits`. */
void large_pages_add(struct large_pages *l, uint64_t lin, unsigned bits);
void large_pages_remove(struct large_pages *l, uint64_t lin, unsigned bits);
void large_pages_clear(struct large_pages *l);

/* The size of the largest of them that lin is in, PAGE_4K_BITS when it is in none. When there are
 * more of them than can be told apart, everything is in one of 1 GiB. */
unsigned large_pages_find(const struct large_pages *l, uint64_t lin);

#endif

/*
 * A window for 64-bit guests: the second GiB of what start64.S has mapped, in which they put pages
 * of 2 MiB, and leave some out.
 */
#ifndef GUEST_WINDOW_H
#define GUEST_WINDOW_H

#include "guest.h"
#include "page.h"

#define WINDOW 0x40000000ul
enum { LARGE_SIZE = 2 << 20 };

/* What may be a page of it. */
#define LARGE_PAGE __attribute__((aligned(LARGE_SIZE)))

extern uint64_t boot_pd[4][512];

/* Users may read it; rights: W or 0. NULL takes the page away. */
static inline void map_page(unsigned page, const void *to, unsigned rights)
{
    boot_pd[1][page] = to ? (uint64_t)to | P | U | LARGE | rights : 0;
    write_cr3(read_cr3());
}

#endif

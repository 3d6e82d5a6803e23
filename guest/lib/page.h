/* Bits of entries of page tables, in every paging mode, and of the error code of #PF. */
#ifndef GUEST_PAGE_H
#define GUEST_PAGE_H

enum {
    P = 1 << 0,
    W = 1 << 1,
    U = 1 << 2,
    A = 1 << 5,
    D = 1 << 6,
    LARGE = 1 << 7,
    G = 1 << 8,
    E_P = 1,
    E_W = 2,
    E_U = 4,
    E_RSVD = 8,
    E_I = 16,
    E_PK = 32,
};
#define NX (1ull << 63)

#endif

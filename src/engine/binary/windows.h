/*
 * Guest memory as flat tables refer to it: each page through one of four mappings of all of it.
 *
 * Pages of even and odd number have mappings of their own, in which the others are guard pages: an
 * access that runs over its page's end faults, so that it need not be looked for. (Where the
 * host's kernel has no guard pages, Linux before 6.15, each access that could is checked.) And each
 * of the two there is read-only and read-write. In the other seven slots of 2^44 bytes of the
 * host's user address space, the same places are reserved (table.h says why).
 */
#ifndef DOPPEL_ENGINE_BINARY_WINDOWS_H
#define DOPPEL_ENGINE_BINARY_WINDOWS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct memory;

enum { WINDOW_READ_ONLY, WINDOW_WRITABLE, WINDOW_KINDS };

/* A guest address' bits above these repeat every slot. */
enum { SLOT_BITS = 44 };

struct windows {
    unsigned tables; /* that lead here */
    /* The host address of RAM offset 0, by kind and the parity of the page's number. */
    uintptr_t at[WINDOW_KINDS][2];
    uintptr_t nowhere; /* a page that is never mapped, in any slot */
    uint64_t size;     /* bytes of RAM */
    bool guarded;      /* the host has guard pages */
    pthread_mutex_t lock;
    _Atomic uint64_t *ready; /* a bit for each chunk of each window: its guard pages are there */
};

bool windows_create(struct windows *w, const struct memory *memory, struct error *err);
void windows_destroy(struct windows *w);

/* The host address of the page at RAM offset `offset`, ready for accesses; 0: the host has no
 * memory. */
uintptr_t windows_page(struct windows *w, uint64_t offset, bool writable);

#endif

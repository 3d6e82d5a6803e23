/*
 * Guest memory: one memfd, mapped once, described by a short list of regions (with the hole below
 * 4 GiB that PCI needs). Everyone who is not a running vCPU reaches it through the checked
 * accessors here; they take any guest-physical address and never touch what is not the guest's.
 */
#ifndef DOPPEL_MEMORY_MEMORY_H
#define DOPPEL_MEMORY_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { MEMORY_PAGE_BITS = 12, MEMORY_PAGE_SIZE = 1 << MEMORY_PAGE_BITS };

/* Where RAM below 4 GiB ends at the latest: above are PCI's windows, the APICs and firmware. */
#define MEMORY_LOW_TOP UINT64_C(0xc0000000)
#define MEMORY_HIGH    UINT64_C(0x100000000)
/* Smallest and largest guest. */
#define MEMORY_MIN (UINT64_C(1) << 20)
#define MEMORY_MAX (UINT64_C(1) << 40)

/* What is known of a RAM page; one atomic byte a page. */
enum {
    MEMORY_CODE = 1u << 0,  /* an engine holds code decoded or translated from it */
    MEMORY_CLEAN = 1u << 1, /* dirty tracking is on and it was not written since the last look */
};

struct memory_region {
    uint64_t gpa;
    uint64_t size; /* bytes, whole pages */
    uint8_t *hva;
    uint64_t offset;        /* in the memfd */
    _Atomic uint8_t *flags; /* MEMORY_*, by page */
};

enum { MEMORY_REGIONS = 4 };

struct memory {
    int fd;
    uint64_t size; /* RAM in all */
    struct memory_region region[MEMORY_REGIONS];
    unsigned region_count;
    /* Told before a write by someone other than a vCPU (a device, a loader) hits a page with
     * MEMORY_CODE. */
    void (*code_write)(void *ctx, uint64_t gpa, uint64_t len);
    void *code_ctx;
    /* Told of a page that was MEMORY_CLEAN and is no longer; by any thread that writes. May be
     * NULL: the flags tell as much, later. */
    void (*written)(void *ctx, uint64_t gpa);
    void *written_ctx;
};

/* size: bytes, rounded up to whole pages; between MEMORY_MIN and MEMORY_MAX. Fails with a sentence
 * when the host can't give it. */
bool memory_create(struct memory *m, uint64_t size, struct error *err);
void memory_destroy(struct memory *m);

/* The region that holds gpa, or NULL: not RAM. */
static inline const struct memory_region *memory_find(const struct memory *m, uint64_t gpa)
{
    for (unsigned i = 0; i < m->region_count; i++)
        if (gpa - m->region[i].gpa < m->region[i].size)
            return &m->region[i];
    return NULL;
}

/* Where gpa, which the region holds, is in the memfd: what numbers RAM without its holes. */
static inline uint64_t memory_offset(const struct memory_region *r, uint64_t gpa)
{
    return r->offset + (gpa - r->gpa);
}

/* The host address of RAM at gpa, or NULL. Valid to the end of that page at least. */
static inline uint8_t *memory_hva(const struct memory *m, uint64_t gpa)
{
    const struct memory_region *r = memory_find(m, gpa);
    return r ? r->hva + (gpa - r->gpa) : NULL;
}

/* The page's flags; gpa must be RAM. */
static inline _Atomic uint8_t *memory_flags(const struct memory *m, uint64_t gpa)
{
    const struct memory_region *r = memory_find(m, gpa);
    return r ? &r->flags[(gpa - r->gpa) >> MEMORY_PAGE_BITS] : NULL;
}

/* The page at gpa, whose flags these are, is written to: it is no longer clean. */
static inline void memory_written(const struct memory *m, uint64_t gpa, _Atomic uint8_t *flags)
{
    if (!(atomic_load_explicit(flags, memory_order_relaxed) & MEMORY_CLEAN))
        return;
    atomic_fetch_and(flags, (uint8_t)~MEMORY_CLEAN);
    if (m->written)
        m->written(m->written_ctx, gpa);
}

/* Copies between host memory and guest-physical memory. False, and nothing done, unless all of
 * [gpa, gpa + n) is RAM. Writes go through code and dirty tracking. */
bool memory_read(const struct memory *m, uint64_t gpa, void *to, uint64_t n);
bool memory_write(struct memory *m, uint64_t gpa, const void *from, uint64_t n);
bool memory_fill(struct memory *m, uint64_t gpa, uint8_t byte, uint64_t n);

/* Fills whole pages with zeros by giving them back to the host. */
bool memory_discard(struct memory *m, uint64_t gpa, uint64_t n);

#endif

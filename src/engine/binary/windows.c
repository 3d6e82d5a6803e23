#include "engine/binary/windows.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bits.h"
#include "memory/memory.h"

/* Slots in the host's user address space, and its end. */
enum { SLOTS = 8 };
#define HOST_END UINT64_C(0x7ffffffff000)

/* Without access round each window: more than any one access runs over its page. */
#define GUARD (UINT64_C(64) << 10)

/* Guard pages are made for so much of a window at a time, when it is first used. */
enum { CHUNK_BITS = 21, CHUNK_PAGES = 1 << (CHUNK_BITS - MEMORY_PAGE_BITS) };

/* Linux 6.13; for mappings of files 6.15. */
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

/* ---- the mappings ---- */

/* Holds [at, at + size) in every slot but its own without access. */
static bool reserve_other_slots(uintptr_t at, uint64_t size)
{
    uintptr_t in_slot = at & bits_mask(SLOT_BITS);
    for (uintptr_t slot = 0; slot < SLOTS; slot++) {
        uintptr_t there = slot << SLOT_BITS | in_slot;
        if (there == at || there + size >= HOST_END)
            continue;
        void *p = mmap((void *)there, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (p != (void *)there) {
            if (p != MAP_FAILED)
                munmap(p, size);
            return false;
        }
    }
    return true;
}

static uint64_t with_guards(const struct windows *w)
{
    return w->size + 2 * GUARD;
}

static bool map_window(struct windows *w, int fd, unsigned kind, unsigned parity)
{
    uint8_t *p =
        mmap(NULL, with_guards(w), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return false;
    w->at[kind][parity] = (uintptr_t)p + GUARD;
    int prot = kind == WINDOW_WRITABLE ? PROT_READ | PROT_WRITE : PROT_READ;
    if (mmap(p + GUARD, w->size, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED)
        return false;
    madvise(p + GUARD, w->size, MADV_DONTDUMP);
    return reserve_other_slots((uintptr_t)p, with_guards(w));
}

static void unmap_window(const struct windows *w, uintptr_t at)
{
    uintptr_t in_slot = (at - GUARD) & bits_mask(SLOT_BITS);
    for (uintptr_t slot = 0; slot < SLOTS; slot++)
        if ((slot << SLOT_BITS | in_slot) + with_guards(w) < HOST_END || at >> SLOT_BITS == slot)
            munmap((void *)(slot << SLOT_BITS | in_slot), with_guards(w));
}

static uint64_t chunks(const struct windows *w)
{
    return (w->size + (UINT64_C(1) << CHUNK_BITS) - 1) >> CHUNK_BITS;
}

static bool map_windows(struct windows *w, int fd)
{
    for (unsigned kind = 0; kind < WINDOW_KINDS; kind++)
        for (unsigned parity = 0; parity < 2; parity++)
            if (!map_window(w, fd, kind, parity))
                return false;
    w->nowhere = w->at[0][0] - GUARD / 2;
    w->ready = calloc(chunks(w) * WINDOW_KINDS * 2 / 64 + 1, sizeof *w->ready);
    return w->ready != NULL;
}

/* ---- guard pages ---- */

/* The pages of a window whose number is not of its parity become guard pages, from page `first` up
 * to `end`. */
static bool guard_pages(const struct windows *w, uintptr_t window, unsigned parity, uint64_t first,
                        uint64_t end)
{
    for (uint64_t i = first + ((first ^ parity ^ 1) & 1); i < end; i += 2)
        if (madvise((void *)(window + (i << MEMORY_PAGE_BITS)), MEMORY_PAGE_SIZE,
                    MADV_GUARD_INSTALL) != 0)
            return false;
    return w->guarded;
}

static bool has_guard_pages(const struct windows *w)
{
    return madvise((void *)(w->at[0][0] + MEMORY_PAGE_SIZE), MEMORY_PAGE_SIZE,
                   MADV_GUARD_INSTALL) == 0;
}

static bool make_ready(struct windows *w, uint64_t chunk, unsigned kind, unsigned parity)
{
    uint64_t bit = (chunk * WINDOW_KINDS + kind) * 2 + parity;
    if (atomic_load_explicit(&w->ready[bit / 64], memory_order_acquire) >> (bit % 64) & 1)
        return true;
    /* With the pages next to it, which may be in chunks that are not ready. */
    uint64_t all = w->size >> MEMORY_PAGE_BITS, first = chunk * CHUNK_PAGES;
    uint64_t end = first + CHUNK_PAGES + 1;
    pthread_mutex_lock(&w->lock);
    bool ok =
        guard_pages(w, w->at[kind][parity], parity, first ? first - 1 : 0, end < all ? end : all);
    if (ok)
        atomic_fetch_or(&w->ready[bit / 64], BIT(bit % 64));
    pthread_mutex_unlock(&w->lock);
    return ok;
}

uintptr_t windows_page(struct windows *w, uint64_t offset, bool writable)
{
    unsigned kind = writable ? WINDOW_WRITABLE : WINDOW_READ_ONLY;
    unsigned parity = offset >> MEMORY_PAGE_BITS & 1;
    if (w->guarded && !make_ready(w, offset >> CHUNK_BITS, kind, parity))
        return 0;
    return w->at[kind][parity] + offset;
}

/* ---- the whole ---- */

bool windows_create(struct windows *w, const struct memory *memory, struct error *err)
{
    *w = (struct windows){.tables = 1, .size = memory->size};
    pthread_mutex_init(&w->lock, NULL);
    if (map_windows(w, memory->fd)) {
        w->guarded = has_guard_pages(w);
        return true;
    }
    windows_destroy(w);
    return error_errno(err, "engine binary: the host has no address space for four views of guest "
                            "memory; lift the limit (ulimit -v) or use --engine emulate");
}

void windows_destroy(struct windows *w)
{
    for (unsigned kind = 0; kind < WINDOW_KINDS; kind++)
        for (unsigned parity = 0; parity < 2; parity++)
            if (w->at[kind][parity])
                unmap_window(w, w->at[kind][parity]);
    free((void *)w->ready);
    pthread_mutex_destroy(&w->lock);
    *w = (struct windows){0};
}

#include "memory/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/bits.h"

/* Pages without access on both sides of guest RAM: an engine's bounded overrun faults there instead
 * of reaching the monitor. */
#define GUARD (UINT64_C(1) << 20)

static uint64_t page_round_up(uint64_t size)
{
    return (size + MEMORY_PAGE_SIZE - 1) & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
}

/* ---- making it ---- */

static bool check_size(uint64_t size, struct error *err)
{
    if (size < MEMORY_MIN)
        return error_usage(err, "guest memory of %llu bytes: too small; give at least 1M",
                           (unsigned long long)size);
    if (size > MEMORY_MAX)
        return error_usage(err, "guest memory of %llu MiB: too large; give at most 1T",
                           (unsigned long long)(size >> 20));

    /* Pages are taken only when the guest touches them, but a guest takes all it is told of sooner
     * or later: better no at the start than a killed process in the middle. */
    struct sysinfo host;
    if (sysinfo(&host) == 0) {
        uint64_t have = ((uint64_t)host.totalram + host.totalswap) * host.mem_unit;
        if (size > have)
            return error_set(err,
                             "guest memory of %llu MiB: the host has %llu MiB with swap; "
                             "give less with --memory",
                             (unsigned long long)(size >> 20), (unsigned long long)(have >> 20));
    }
    return true;
}

static bool open_file(struct memory *m, struct error *err)
{
    m->fd = memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (m->fd < 0)
        return error_errno(err, "guest memory: the host gives no memory file");
    if (ftruncate(m->fd, (off_t)m->size) != 0)
        return error_errno(err, "guest memory of %llu MiB: the host refuses that size",
                           (unsigned long long)(m->size >> 20));
    /* Sealed, the file can't be cut short under the mapping by whoever it is handed to. */
    fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return true;
}

/* Maps `bytes` of the file (fd -1: zeroed private memory) with guards round it; NULL: no. */
static uint8_t *map_guarded(int fd, uint64_t bytes)
{
    uint8_t *reserved = mmap(NULL, bytes + 2 * GUARD, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return NULL;
    int flags = MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);
    void *at = mmap(reserved + GUARD, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (at == MAP_FAILED) {
        int saved = errno;
        munmap(reserved, bytes + 2 * GUARD);
        errno = saved;
        return NULL;
    }
    madvise(at, bytes, MADV_DONTDUMP);
    return at;
}

static void unmap_guarded(void *at, uint64_t bytes)
{
    if (at)
        munmap((uint8_t *)at - GUARD, bytes + 2 * GUARD);
}

static uint64_t page_count(const struct memory *m)
{
    return page_round_up(m->size >> MEMORY_PAGE_BITS);
}

static void add_region(struct memory *m, uint64_t gpa, uint64_t size, uint64_t offset,
                       uint8_t *base, _Atomic uint8_t *flags)
{
    m->region[m->region_count++] = (struct memory_region){
        .gpa = gpa,
        .size = size,
        .hva = base + offset,
        .offset = offset,
        .flags = flags + (offset >> MEMORY_PAGE_BITS),
    };
}

bool memory_create(struct memory *m, uint64_t size, struct error *err)
{
    *m = (struct memory){.fd = -1};
    if (!check_size(size, err))
        return false;
    m->size = page_round_up(size);
    if (!open_file(m, err)) {
        memory_destroy(m);
        return false;
    }

    uint8_t *base = map_guarded(m->fd, m->size);
    uint8_t *flags = base ? map_guarded(-1, page_count(m)) : NULL;
    if (!flags) {
        error_errno(err,
                    "guest memory of %llu MiB: the host has no address space for it; give less "
                    "with --memory or lift the limit (ulimit -v)",
                    (unsigned long long)(m->size >> 20));
        unmap_guarded(base, m->size);
        memory_destroy(m);
        return false;
    }

    uint64_t low = m->size < MEMORY_LOW_TOP ? m->size : MEMORY_LOW_TOP;
    add_region(m, 0, low, 0, base, (_Atomic uint8_t *)flags);
    if (m->size > low)
        add_region(m, MEMORY_HIGH, m->size - low, low, base, (_Atomic uint8_t *)flags);
    return true;
}

void memory_destroy(struct memory *m)
{
    /* The first region begins both mappings. */
    if (m->region_count) {
        unmap_guarded(m->region[0].hva, m->size);
        unmap_guarded((void *)m->region[0].flags, page_count(m));
    }
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct memory){.fd = -1};
}

/* ---- checked access ---- */

/* Whether all of [gpa, gpa + n) is RAM; it may run over regions that touch. */
static bool all_ram(const struct memory *m, uint64_t gpa, uint64_t n)
{
    while (n) {
        const struct memory_region *r = memory_find(m, gpa);
        if (!r)
            return false;
        uint64_t rest = r->size - (gpa - r->gpa);
        if (n <= rest)
            return true;
        gpa += rest;
        n -= rest;
    }
    return true;
}

/* The piece of [gpa, gpa + n) that lies in gpa's region: its length and host address. */
static uint64_t piece(const struct memory *m, uint64_t gpa, uint64_t n, uint8_t **hva)
{
    const struct memory_region *r = memory_find(m, gpa);
    uint64_t rest = r->size - (gpa - r->gpa);
    *hva = r->hva + (gpa - r->gpa);
    return n < rest ? n : rest;
}

/* Copies; 2, 4 and 8 aligned bytes in one access each, as rings shared with a running guest need.
 */
static void copy(void *to, const void *from, uint64_t n, const uint8_t *guest)
{
    if ((n == 2 || n == 4 || n == 8) && ((uintptr_t)guest & (n - 1)) == 0) {
        switch (n) {
        case 2: store_u16(to, load_u16(from)); return;
        case 4: store_u32(to, load_u32(from)); return;
        case 8: store_u64(to, load_u64(from)); return;
        }
    }
    memcpy(to, from, n);
}

bool memory_read(const struct memory *m, uint64_t gpa, void *to, uint64_t n)
{
    if (!all_ram(m, gpa, n))
        return false;
    uint8_t *out = to;
    while (n) {
        uint8_t *hva;
        uint64_t part = piece(m, gpa, n, &hva);
        copy(out, hva, part, hva);
        out += part;
        gpa += part;
        n -= part;
    }
    return true;
}

/* Tells of each code page that a write of [gpa, gpa + n) is about to hit. */
static void before_write(struct memory *m, uint64_t gpa, uint64_t n)
{
    while (n) {
        uint64_t part = MEMORY_PAGE_SIZE - (gpa & (MEMORY_PAGE_SIZE - 1));
        part = n < part ? n : part;
        if (m->code_write && (atomic_load(memory_flags(m, gpa)) & MEMORY_CODE))
            m->code_write(m->code_ctx, gpa, part);
        gpa += part;
        n -= part;
    }
}

/* Only after the bytes are there may a page stop being clean: whoever looks in between would
 * otherwise miss them. */
static void after_write(struct memory *m, uint64_t gpa, uint64_t n)
{
    uint64_t first = gpa & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    for (uint64_t page = first; n && page < gpa + n; page += MEMORY_PAGE_SIZE)
        memory_written(m, page, memory_flags(m, page));
}

bool memory_write(struct memory *m, uint64_t gpa, const void *from, uint64_t n)
{
    if (!all_ram(m, gpa, n))
        return false;
    before_write(m, gpa, n);
    const uint8_t *in = from;
    for (uint64_t at = gpa, left = n; left;) {
        uint8_t *hva;
        uint64_t part = piece(m, at, left, &hva);
        copy(hva, in, part, hva);
        in += part;
        at += part;
        left -= part;
    }
    after_write(m, gpa, n);
    return true;
}

bool memory_fill(struct memory *m, uint64_t gpa, uint8_t byte, uint64_t n)
{
    if (!all_ram(m, gpa, n))
        return false;
    before_write(m, gpa, n);
    for (uint64_t at = gpa, left = n; left;) {
        uint8_t *hva;
        uint64_t part = piece(m, at, left, &hva);
        memset(hva, byte, part);
        at += part;
        left -= part;
    }
    after_write(m, gpa, n);
    return true;
}

bool memory_discard(struct memory *m, uint64_t gpa, uint64_t n)
{
    if (!all_ram(m, gpa, n) || ((gpa | n) & (MEMORY_PAGE_SIZE - 1)))
        return false;
    before_write(m, gpa, n);
    for (uint64_t at = gpa, left = n; left;) {
        const struct memory_region *r = memory_find(m, at);
        uint8_t *hva;
        uint64_t part = piece(m, at, left, &hva);
        if (fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      (off_t)memory_offset(r, at), (off_t)part) != 0)
            memset(hva, 0, part);
        at += part;
        left -= part;
    }
    after_write(m, gpa, n);
    return true;
}

/*
 * Two guest memories of one size: compared, and made the same. What neither was ever written to is
 * a hole in both files and is passed over.
 */
#include "engine/lockstep/internal.h"

#include <string.h>
#include <unistd.h>

/* Looked at together. */
enum { CHUNK = 64 << 10 };

struct chunk {
    uint64_t gpa, size;
    const uint8_t *a, *b;
};

/* The first offset from `at` on that may hold data in either file; size if there is none. */
static uint64_t next_data(const struct memory *a, const struct memory *b, uint64_t at)
{
    off_t in_a = lseek(a->fd, (off_t)at, SEEK_DATA), in_b = lseek(b->fd, (off_t)at, SEEK_DATA);
    if (in_a < 0 || (in_b >= 0 && in_b < in_a))
        in_a = in_b;
    return in_a < 0 ? a->size : (uint64_t)in_a;
}

/* The next chunk from offset *at on, which moves behind it; false: there is none. */
static bool next_chunk(const struct memory *a, const struct memory *b, uint64_t *at,
                       struct chunk *c)
{
    *at = next_data(a, b, *at) & ~(uint64_t)(CHUNK - 1);
    for (unsigned i = 0; i < a->region_count; i++) {
        const struct memory_region *r = &a->region[i];
        uint64_t inside = *at - r->offset;
        if (inside >= r->size)
            continue;
        c->gpa = r->gpa + inside;
        c->size = r->size - inside < CHUNK ? r->size - inside : CHUNK;
        c->a = r->hva + inside;
        c->b = b->region[i].hva + inside;
        *at += c->size;
        return true;
    }
    return false;
}

bool pages_equal(const struct memory *a, const struct memory *b)
{
    struct chunk c;
    for (uint64_t at = 0; next_chunk(a, b, &at, &c);)
        if (memcmp(c.a, c.b, c.size) != 0)
            return false;
    return true;
}

bool pages_compare(const struct memory *a, const struct memory *b, uint64_t *gpa, uint64_t *bytes)
{
    struct chunk c;
    *bytes = 0;
    for (uint64_t at = 0; next_chunk(a, b, &at, &c);) {
        if (memcmp(c.a, c.b, c.size) == 0)
            continue;
        for (uint64_t i = 0; i < c.size; i++)
            if (c.a[i] != c.b[i] && (*bytes)++ == 0)
                *gpa = c.gpa + i;
    }
    return *bytes != 0;
}

/* By pages: what is decoded from a page that stays the same stays too. */
void pages_copy(struct memory *to, const struct memory *from)
{
    struct chunk c;
    for (uint64_t at = 0; next_chunk(to, from, &at, &c);) {
        if (memcmp(c.a, c.b, c.size) == 0)
            continue;
        for (uint64_t i = 0; i < c.size; i += MEMORY_PAGE_SIZE)
            if (memcmp(c.a + i, c.b + i, MEMORY_PAGE_SIZE) != 0)
                memory_write(to, c.gpa + i, c.b + i, MEMORY_PAGE_SIZE);
    }
}

#include "engine/binary/space.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/bytes.h"
#include "memory/memory.h"

/* ---- jump caches ---- */

static void clear_tag(struct jumps *j, unsigned i)
{
    j->area->entry[i].tag = i ? 0 : 1; /* 0 is what address 0 asks for */
}

static void clear_next(struct jumps *j, unsigned n)
{
    j->area->next[n] = j->lookup;
}

/* Most spaces are never used: what theirs would hold is written when the first target is
 * remembered, without which no bound code runs there. */
static bool has_area(const struct jumps *j)
{
    return j->area->next[0] != NULL;
}

static void clear_area(struct jumps *j)
{
    bytes_fill(j->area->entry, 0, sizeof j->area->entry);
    clear_tag(j, 0);
    for (unsigned n = 0; n < JUMPS_NEXT; n++)
        clear_next(j, n);
}

static void forget_all_jumps(struct jumps *j)
{
    if (has_area(j))
        clear_area(j);
    page_set_clear(&j->pages);
    j->count = 0;
    j->global = false;
}

static void forget_local_jumps(struct jumps *j)
{
    if (j->count > ARRAY_LEN(j->filled)) {
        forget_all_jumps(j);
        return;
    }
    for (unsigned i = 0; i < j->count; i++) {
        clear_tag(j, j->filled[i].entry);
        clear_next(j, j->filled[i].next);
    }
    j->count = 0;
    if (!j->global)
        page_set_clear(&j->pages);
}

/* Every one. For users' code, always: what is in a global page may be bound, and lead to pages that
 * are not (bound.h). */
static void forget_jumps(struct jumps *j)
{
    if (j->global)
        forget_all_jumps(j);
    else
        forget_local_jumps(j);
}

void jumps_remember(struct jumps *j, uint64_t rip, void *to, void *next, bool global)
{
    unsigned i = jump_slot(rip), n = jump_next_slot(rip);
    if (!has_area(j))
        clear_area(j);
    if (!global && j->count < ARRAY_LEN(j->filled)) {
        j->filled[j->count].entry = (uint16_t)i;
        j->filled[j->count].next = (uint16_t)n;
    }
    if (!global && j->count <= ARRAY_LEN(j->filled))
        j->count++;
    j->global |= global;
    page_set_add(&j->pages, rip);
    j->area->entry[i].to = to;
    j->area->entry[i].tag = 0 - rip;
    j->area->next[n] = next ? next : j->lookup;
}

void jumps_forget(struct jumps *j, uint64_t rip)
{
    if (!has_area(j))
        return;
    clear_tag(j, jump_slot(rip));
    clear_next(j, jump_next_slot(rip));
}

/* Code of the page, and an instruction that runs into it. False: there is none. */
static bool forget_jumps_to(struct jumps *j, uint64_t lin)
{
    if (!page_set_may_have(&j->pages, lin) && !page_set_may_have(&j->pages, lin - MEMORY_PAGE_SIZE))
        return false;
    uint64_t first = (lin & ~(uint64_t)(MEMORY_PAGE_SIZE - 1)) - 15;
    for (unsigned i = 0; i < MEMORY_PAGE_SIZE + 15; i++) {
        clear_next(j, jump_next_slot(first + i));
        if (jumps_find(j, first + i))
            clear_tag(j, jump_slot(first + i));
    }
    return true;
}

/* Pages of code that are looked for one by one; with more, it is less work to forget all. */
enum { PAGES_OF_CODE = 8 };

static void forget_jumps_within(struct jumps *j, uint64_t lin, unsigned bits)
{
    unsigned pages = 0;
    for (uint64_t at = 0; at < BIT(bits) && pages < PAGES_OF_CODE; at += MEMORY_PAGE_SIZE)
        pages += forget_jumps_to(j, lin + at);
    if (pages == PAGES_OF_CODE)
        forget_all_jumps(j);
}

/* ---- making them ---- */

enum { FILE_SIZE = AREA_SIZE + (SPACES + 1) * JUMP_AREA };

static struct jump_area *jumps_below(const struct table *t)
{
    return (struct jump_area *)(void *)((uint8_t *)t->entry - AREA_SIZE - JUMP_AREA);
}

static uint64_t jumps_at(unsigned n)
{
    return AREA_SIZE + (uint64_t)n * JUMP_AREA;
}

static void make_jumps(struct jumps *j, const struct table *t, void *lookup)
{
    j->area = jumps_below(t);
    j->lookup = lookup;
    clear_tag(j, 0);
}

static bool make_space(struct spaces *s, struct windows *w, void *lookup, unsigned n,
                       struct error *err)
{
    struct space *space = &s->space[n];
    if (!table_create(&space->ac, w, LOWER_HALF, s->fd, 0, jumps_at(0), err) ||
        !table_create(&space->user, w, LOWER_HALF, s->fd, 0, jumps_at(n + 1), err))
        return false;
    make_jumps(&space->jumps, &space->user, lookup);
    return true;
}

bool spaces_create(struct spaces *s, struct windows *w, void *lookup, struct error *err)
{
    memset(s, 0, sizeof *s); /* too large for a stack */
    s->fd = memfd_create("vcpu", MFD_CLOEXEC);
    if (s->fd < 0 || ftruncate(s->fd, FILE_SIZE) != 0)
        return error_errno(err, "engine binary: no memory for a vCPU");
    if (!table_create(&s->supervisor, w, UPPER_HALF, s->fd, 0, jumps_at(0), err))
        return false;
    make_jumps(&s->kernel, &s->supervisor, lookup);
    for (unsigned n = 0; n < SPACES; n++)
        if (!make_space(s, w, lookup, n, err))
            return false;
    return true;
}

void spaces_destroy(struct spaces *s)
{
    table_destroy(&s->supervisor);
    for (unsigned n = 0; n < SPACES; n++) {
        table_destroy(&s->space[n].ac);
        table_destroy(&s->space[n].user);
    }
    if (s->fd >= 0)
        close(s->fd);
}

/* ---- forgetting ---- */

static void forget_space(struct space *space)
{
    table_flush(&space->ac);
    table_flush(&space->user);
    forget_jumps(&space->jumps);
}

void spaces_forget(struct spaces *s)
{
    table_flush(&s->supervisor);
    forget_all_jumps(&s->kernel);
    for (unsigned n = 0; n < SPACES; n++)
        forget_space(&s->space[n]);
}

void spaces_forget_jumps(struct spaces *s)
{
    forget_all_jumps(&s->kernel);
    for (unsigned n = 0; n < SPACES; n++)
        forget_jumps(&s->space[n].jumps);
}

void spaces_forget_kernel_jumps(struct spaces *s)
{
    forget_all_jumps(&s->kernel);
}

void spaces_forget_user_jumps(struct space *space)
{
    forget_jumps(&space->jumps);
}

void spaces_forget_page(struct spaces *s, uint64_t lin)
{
    table_drop(&s->supervisor, lin);
    forget_jumps_to(&s->kernel, lin);
    for (unsigned n = 0; n < SPACES; n++) {
        if (!s->space[n].used)
            continue;
        table_drop(&s->space[n].ac, lin);
        table_drop(&s->space[n].user, lin);
        /* INVLPG is about the current PCID, and global pages of all (SDM 3, 4.10.4.1). */
        if (n == s->current || s->space[n].jumps.global)
            forget_jumps_to(&s->space[n].jumps, lin);
    }
}

void spaces_forget_large_page(struct spaces *s, uint64_t lin, unsigned bits)
{
    table_drop_large(&s->supervisor, lin, bits);
    forget_jumps_within(&s->kernel, lin, bits);
    for (unsigned n = 0; n < SPACES; n++) {
        if (!s->space[n].used)
            continue;
        table_drop_large(&s->space[n].ac, lin, bits);
        table_drop_large(&s->space[n].user, lin, bits);
        /* In every one: from now on nobody knows that the page was so large. */
        forget_jumps_within(&s->space[n].jumps, lin, bits);
    }
}

void spaces_protect(struct spaces *s, uint64_t offset)
{
    table_protect(&s->supervisor, offset);
    for (unsigned n = 0; n < SPACES; n++) {
        table_protect(&s->space[n].ac, offset);
        table_protect(&s->space[n].user, offset);
    }
}

/* ---- switching ---- */

uint64_t spaces_time(const struct spaces *s)
{
    return s->space[s->current].ran + (__builtin_ia32_rdtsc() - s->since);
}

void spaces_cool(struct spaces *s, struct space *space)
{
    bound_end(&space->bound);
    space->hot = false;
    space->ran = 0;
    if (space == &s->space[s->current])
        s->since = __builtin_ia32_rdtsc();
}

/* The space of pcid; else the one that was not used for the longest time, emptied. */
static unsigned find_space(struct spaces *s, unsigned pcid)
{
    unsigned oldest = 0;
    for (unsigned n = 0; n < SPACES; n++) {
        if (s->space[n].used && s->space[n].pcid == pcid)
            return n;
        if (s->space[n].last < s->space[oldest].last)
            oldest = n;
    }
    forget_space(&s->space[oldest]);
    spaces_cool(s, &s->space[oldest]);
    return oldest;
}

void spaces_switch(struct spaces *s, unsigned pcid, bool keep)
{
    uint64_t now = __builtin_ia32_rdtsc();
    s->space[s->current].ran += now - s->since;
    s->since = now;
    unsigned n = find_space(s, pcid);
    struct space *space = &s->space[n];
    table_flush_local(&s->supervisor);
    forget_local_jumps(&s->kernel);
    if (!keep) {
        table_flush_local(&space->ac);
        table_flush_local(&space->user);
        forget_jumps(&space->jumps);
    }
    space->pcid = pcid;
    space->used = true;
    space->last = ++s->switches;
    s->current = n;
}

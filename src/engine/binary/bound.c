#include "engine/binary/bound.h"

#include "memory/memory.h"

void bound_end(struct bound *m)
{
    for (unsigned i = 0; m->count && i < BOUND_SLOTS; i++)
        m->page[i].used = false;
    page_set_clear(&m->pages);
    large_pages_clear(&m->large);
    m->tag = 0;
    m->count = m->locals = 0;
}

static unsigned slot_of(uint64_t va)
{
    return (unsigned)((va >> MEMORY_PAGE_BITS) * UINT64_C(0x9e3779b97f4a7c15) >> 40) % BOUND_SLOTS;
}

const struct bound_page *bound_find(const struct bound *m, uint64_t va)
{
    if (!page_set_may_have(&m->pages, va))
        return NULL;
    for (unsigned i = slot_of(va); m->page[i].used; i = (i + 1) % BOUND_SLOTS)
        if (m->page[i].va == va)
            return &m->page[i];
    return NULL;
}

bool bound_add(struct bound *m, uint64_t va, uint64_t gpa, bool global)
{
    unsigned i = slot_of(va);
    if (m->count == BOUND_MOST)
        return false;
    while (m->page[i].used)
        i = (i + 1) % BOUND_SLOTS;
    m->page[i] = (struct bound_page){va, gpa, true, global};
    page_set_add(&m->pages, va);
    m->count++;
    if (!global && m->locals < BOUND_LOCALS)
        m->local[m->locals] = (uint16_t)i;
    m->locals += !global;
    return true;
}

void bound_part_of(struct bound *m, uint64_t va, unsigned bits)
{
    if (bits > PAGE_4K_BITS)
        large_pages_add(&m->large, va, bits);
}

bool bound_may_go_with(const struct bound *m, uint64_t va)
{
    return bound_find(m, va) || large_pages_find(&m->large, va) > PAGE_4K_BITS;
}

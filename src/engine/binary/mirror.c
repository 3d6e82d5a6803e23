#include "engine/binary/mirror.h"

#include <stdlib.h>

#include "engine/binary/table.h"

enum { FIRST_ROOM = 1024 };

/* Where the page with the index is, or the place for it. There is one. */
static struct mirror_page *place(const struct mirror *m, uint32_t index)
{
    uint32_t i = index * UINT32_C(0x9e3779b1) >> 7;
    while (m->slot[i & (m->room - 1)].va && table_index(m->slot[i & (m->room - 1)].va) != index)
        i++;
    return &m->slot[i & (m->room - 1)];
}

struct mirror_page *mirror_at(const struct mirror *m, uint32_t index)
{
    struct mirror_page *p = m->room ? place(m, index) : NULL;
    return p && p->va && p->rights ? p : NULL;
}

/* Twice the room, without those that are no more. */
static bool grow(struct mirror *m)
{
    struct mirror larger = {.room = m->room ? m->room * 2 : FIRST_ROOM};
    larger.slot = calloc(larger.room, sizeof *larger.slot);
    if (!larger.slot)
        return false;
    for (uint32_t i = 0; i < m->room; i++) {
        if (!m->slot[i].rights)
            continue;
        *place(&larger, table_index(m->slot[i].va)) = m->slot[i];
        larger.used++;
    }
    free(m->slot);
    *m = larger;
    return true;
}

bool mirror_put(struct mirror *m, const struct mirror_page *page)
{
    if (m->used * 2 >= m->room && !grow(m))
        return false;
    struct mirror_page *p = place(m, table_index(page->va));
    m->used += !p->va;
    *p = *page;
    return true;
}

void mirror_clear(struct mirror *m)
{
    free(m->slot);
    *m = (struct mirror){0};
}

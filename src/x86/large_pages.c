#include "x86/large_pages.h"

#include "base/bits.h"
#include "base/bytes.h"

/* A slot: bits 26:0 are bits 47:21 of a page's address, 29:27 its kind. A page that was removed
 * stays, without PRESENT: what was put behind it is still found, and it may well come again. */
enum { KIND_SHIFT = 27, PRESENT = 1 << 30 };

static const unsigned kind_bits[] = {0, PAGE_2M_BITS, PAGE_4M_BITS, PAGE_1G_BITS};

static unsigned kind_of(unsigned bits)
{
    unsigned kind = ARRAY_LEN(kind_bits) - 1;
    while (kind > 1 && kind_bits[kind] != bits)
        kind--;
    return kind;
}

static uint32_t name_of(uint64_t lin, unsigned kind)
{
    uint64_t page = lin & ~bits_mask(kind_bits[kind]) & bits_mask(48);
    return (uint32_t)(page >> PAGE_2M_BITS) | kind << KIND_SHIFT;
}

/* The slot that has the name, or the empty one where it would be: some always are. */
static unsigned slot_of(const struct large_pages *l, uint32_t name)
{
    unsigned i = (name * UINT32_C(0x9e3779b1) >> 20) % LARGE_PAGES_SLOTS;
    while (l->slot[i] && (l->slot[i] & ~(uint32_t)PRESENT) != name)
        i = (i + 1) % LARGE_PAGES_SLOTS;
    return i;
}

void large_pages_add(struct large_pages *l, uint64_t lin, unsigned bits)
{
    unsigned kind = kind_of(bits);
    uint32_t name = name_of(lin, kind);
    unsigned i = slot_of(l, name);
    if (l->slot[i] & PRESENT)
        return;
    if (!l->slot[i]) {
        if (l->count == LARGE_PAGES_MOST) {
            l->kinds |= 1; /* there are more */
            return;
        }
        l->count++;
    }
    l->slot[i] = name | PRESENT;
    l->kinds |= 1u << kind;
}

void large_pages_remove(struct large_pages *l, uint64_t lin, unsigned bits)
{
    l->slot[slot_of(l, name_of(lin, kind_of(bits)))] &= ~(uint32_t)PRESENT;
}

void large_pages_clear(struct large_pages *l)
{
    if (l->count)
        bytes_fill(l, 0, sizeof *l);
}

unsigned large_pages_find(const struct large_pages *l, uint64_t lin)
{
    if (l->kinds & 1)
        return PAGE_1G_BITS;
    for (unsigned kind = ARRAY_LEN(kind_bits) - 1; kind; kind--)
        if ((l->kinds >> kind & 1) && (l->slot[slot_of(l, name_of(lin, kind))] & PRESENT))
            return kind_bits[kind];
    return PAGE_4K_BITS;
}

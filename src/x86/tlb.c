#include "x86/tlb.h"

#include "memory/memory.h"

static const struct tlb_entry empty = {.read = TLB_NONE, .write = TLB_NONE, .gpa = TLB_NONE};

static struct tlb_entry *slot(struct tlb *t, uint64_t lin)
{
    return &t->entry[(lin >> X86_PAGE_BITS) & (TLB_SIZE - 1)];
}

static void clear_all(struct tlb *t)
{
    for (unsigned i = 0; i < TLB_SIZE; i++)
        t->entry[i] = empty;
    t->filled = 0;
}

static void clear_fetch(struct fetch_tlb *f)
{
    for (unsigned i = 0; i < FETCH_TLB_SIZE; i++)
        f->entry[i].tag = FETCH_NONE;
    f->filled = false;
}

void x86_tlb_init(struct x86_cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        clear_all(&c->view[v]);
    clear_fetch(&c->fetch);
    large_pages_clear(&c->large);
    c->tlb = &c->view[TLB_SUPERVISOR];
}

/* What may be filled. */
static unsigned used_count(const struct tlb *t)
{
    return t->filled > TLB_SIZE ? TLB_SIZE : t->filled;
}
static struct tlb_entry *used_entry(struct tlb *t, unsigned i)
{
    return &t->entry[t->filled > TLB_SIZE ? i : t->journal[i]];
}

/* Costs what was filled: a guest that switches address spaces often fills little between. */
static void flush_view(struct tlb *t)
{
    if (t->filled > TLB_SIZE) {
        clear_all(t);
        return;
    }
    for (unsigned i = 0; i < t->filled; i++)
        t->entry[t->journal[i]] = empty;
    t->filled = 0;
}

static void flush_views(struct x86_cpu *c)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++)
        flush_view(&c->view[v]);
    if (c->fetch.filled)
        clear_fetch(&c->fetch);
    c->tlb_flushes++;
}

void x86_tlb_flush(struct x86_cpu *c)
{
    flush_views(c);
    large_pages_clear(&c->large);
    if (c->tlb_flushed)
        c->tlb_flushed(c);
}

void x86_tlb_switch(struct x86_cpu *c, bool keep)
{
    flush_views(c);
    if (c->tlb_switched)
        c->tlb_switched(c, keep);
    else if (c->tlb_flushed)
        c->tlb_flushed(c);
}

static void flush_small(struct x86_cpu *c, uint64_t lin)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb_entry *e = slot(&c->view[v], lin);
        if (e->read == lin || e->write == lin)
            *e = empty;
    }
    unsigned i = (lin >> X86_PAGE_BITS) % FETCH_TLB_SIZE;
    if ((c->fetch.entry[i].tag & X86_PAGE_MASK) == lin)
        c->fetch.entry[i].tag = FETCH_NONE;
}

static bool is_within(uint64_t at, uint64_t lin, unsigned bits)
{
    return at >> bits == lin >> bits;
}

static void flush_large(struct x86_cpu *c, uint64_t lin, unsigned bits)
{
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = &c->view[v];
        for (unsigned i = 0; i < used_count(t); i++) {
            struct tlb_entry *e = used_entry(t, i);
            if (is_within(e->read, lin, bits) || is_within(e->write, lin, bits))
                *e = empty;
        }
    }
    for (unsigned i = 0; i < FETCH_TLB_SIZE; i++)
        if (is_within(c->fetch.entry[i].tag, lin, bits))
            c->fetch.entry[i].tag = FETCH_NONE;
    large_pages_remove(&c->large, lin, bits);
}

void x86_tlb_flush_page(struct x86_cpu *c, uint64_t lin)
{
    unsigned bits = large_pages_find(&c->large, lin);
    lin &= ~bits_mask(bits);
    if (bits == PAGE_1G_BITS) {
        x86_tlb_flush(c);
        return;
    }
    if (bits == PAGE_4K_BITS)
        flush_small(c, lin);
    else
        flush_large(c, lin, bits);
    if (c->tlb_flushed_page)
        c->tlb_flushed_page(c, lin, bits);
}

void x86_tlb_write_protect(struct x86_cpu *c, uint64_t gpa)
{
    gpa &= X86_PAGE_MASK;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = &c->view[v];
        for (unsigned i = 0; i < used_count(t); i++) {
            struct tlb_entry *e = used_entry(t, i);
            if (e->gpa == gpa)
                e->write = TLB_NONE;
        }
    }
}

void x86_tlb_fill(struct tlb *t, uint64_t lin, uint64_t gpa, uint8_t *hva, bool readable,
                  bool writable)
{
    lin &= X86_PAGE_MASK;
    gpa &= X86_PAGE_MASK;
    struct tlb_entry *e = slot(t, lin);
    if (e->gpa == TLB_NONE) {
        if (t->filled < TLB_SIZE)
            t->journal[t->filled++] = (uint16_t)(e - t->entry);
        else
            t->filled =
                TLB_SIZE + 1; /* single pages were flushed: the journal is no longer whole */
    }
    e->read = readable ? lin : TLB_NONE;
    e->write = writable ? lin : TLB_NONE;
    e->addend = (uintptr_t)((uint64_t)(uintptr_t)hva - lin);
    e->gpa = gpa;
}

const struct tlb_entry *x86_tlb_find(struct tlb *t, uint64_t lin, bool write)
{
    const struct tlb_entry *e = slot(t, lin);
    return (write ? e->write : e->read) == (lin & X86_PAGE_MASK) ? e : NULL;
}

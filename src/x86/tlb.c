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
    c->tlb = &c->view[TLB_SUPERVISOR];
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

void x86_tlb_flush_page(struct x86_cpu *c, uint64_t lin)
{
    lin &= X86_PAGE_MASK;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb_entry *e = slot(&c->view[v], lin);
        if (e->read == lin || e->write == lin)
            *e = empty;
    }
    unsigned i = (lin >> X86_PAGE_BITS) % FETCH_TLB_SIZE;
    if ((c->fetch.entry[i].tag & X86_PAGE_MASK) == lin)
        c->fetch.entry[i].tag = FETCH_NONE;
    if (c->tlb_flushed_page)
        c->tlb_flushed_page(c, lin);
}

void x86_tlb_write_protect(struct x86_cpu *c, uint64_t gpa)
{
    gpa &= X86_PAGE_MASK;
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        struct tlb *t = &c->view[v];
        bool all = t->filled > TLB_SIZE;
        for (unsigned i = 0; i < (all ? TLB_SIZE : t->filled); i++) {
            struct tlb_entry *e = &t->entry[all ? i : t->journal[i]];
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

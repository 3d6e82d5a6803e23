#include "x86/access.h"

#include "base/bytes.h"
#include "base/gate.h"
#include "memory/memory.h"
#include "x86/paging.h"
#include "x86/tlb.h"

/*
 * Every access that the inline fast paths can't do goes through three stages:
 *   reach()        translates each page it touches and raises what must be raised;
 *   begin_store()  for writes: has code dropped that is decoded from the bytes about to change;
 *   then the bytes move. Nothing in guest memory changes before the last stage.
 */

/* What is asked for. */
struct request {
    uint64_t lin;
    unsigned n;      /* 1 to 4096 bytes */
    unsigned access; /* enum x86_access */
    enum x86_privilege who;
    struct tlb *tlb; /* the view that serves such accesses */
    unsigned seg;
    bool wide; /* linear addresses have 64 bits */
};

/* The bytes of a request that lie in one page. */
struct part {
    uint64_t gpa;
    uint8_t *hva; /* NULL: not RAM */
    unsigned n;
};

struct span {
    struct part part[2];
    unsigned parts;
};

static struct request explicit(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned access,
                               unsigned seg)
{
    bool wide = c->code == X86_CODE64;
    return (struct request){.lin = wide ? lin : (uint32_t)lin,
                            .n = n,
                            .access = access,
                            .who = x86_privilege(c),
                            .tlb = c->tlb,
                            .seg = seg,
                            .wide = wide};
}

/* SMAP binds implicit accesses whatever AC says (SDM 3, 4.6.1). */
static struct request implicit(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned access)
{
    bool wide = c->long_mode;
    return (struct request){.lin = wide ? lin : (uint32_t)lin,
                            .n = n,
                            .access = access,
                            .who = X86_AS_SUPERVISOR,
                            .tlb = &c->view[TLB_SUPERVISOR],
                            .seg = X86_DS,
                            .wide = wide};
}

/* ---- data breakpoints (SDM 3, 17.2.4) ---- */

/* The breakpoints, as bits 0 to 3, that cover any of [lin, lin + n) and watch such accesses. */
static uint32_t breakpoints(const struct x86_cpu *c, uint64_t lin, uint64_t n, unsigned access)
{
    static const uint8_t length[4] = {1, 2, 8, 4};
    uint32_t hits = 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned enabled = (c->s.dr[7] >> (2 * i)) & 3;
        unsigned kind = (c->s.dr[7] >> (16 + 4 * i)) & 3;
        bool matches = kind == 3 || (kind == 1 && (access & X86_WRITE));
        if (!enabled || !matches)
            continue;
        uint64_t len = length[(c->s.dr[7] >> (18 + 4 * i)) & 3];
        uint64_t at = c->s.dr[i] & ~(len - 1);
        if (at - lin < n || lin - at < len)
            hits |= 1u << i;
    }
    return hits;
}

static void report_breakpoints(struct x86_cpu *c, const struct request *r)
{
    uint32_t hits = breakpoints(c, r->lin, r->n, r->access);
    if (hits) {
        c->debug_hits |= hits;
        atomic_fetch_or(&c->request, X86_REQUEST_STEP);
    }
}

/* ---- translation ---- */

static void enter_tlb(struct x86_cpu *c, const struct request *r, uint64_t lin,
                      const struct x86_walk *w, uint8_t *hva)
{
    if (r->tlb == &c->view[TLB_NEVER])
        return;
    if (c->debug_data && breakpoints(c, lin & X86_PAGE_MASK, X86_PAGE_SIZE, X86_RMW))
        return;
    uint8_t flags = atomic_load_explicit(memory_flags(c->memory, w->gpa), memory_order_relaxed);
    bool writable = w->writable && !(flags & (MEMORY_CODE | MEMORY_CLEAN));
    x86_tlb_fill(r->tlb, lin, w->gpa, hva - (lin & ~X86_PAGE_MASK), w->readable, writable);
}

/* Translates one page's part of a request. False: *error is the page fault's error code. */
static bool reach_page(struct x86_cpu *c, const struct request *r, uint64_t lin, struct part *p,
                       uint32_t *error)
{
    const struct tlb_entry *e = x86_tlb_find(r->tlb, lin, r->access & X86_WRITE);
    if (e) {
        p->gpa = e->gpa | (lin & ~X86_PAGE_MASK);
        p->hva = (uint8_t *)(e->addend + lin);
        return true;
    }
    struct x86_walk w;
    c->tlb_misses++;
    if (!x86_walk(c, lin, r->access, r->who, &w)) {
        *error = w.error;
        return false;
    }
    p->gpa = w.gpa;
    p->hva = memory_hva(c->memory, w.gpa);
    if (!p->hva)
        return true;
    if (r->access & X86_WRITE)
        memory_written(c->memory, w.gpa, memory_flags(c->memory, w.gpa));
    enter_tlb(c, r, lin, &w, p->hva);
    return true;
}

enum reached { REACHED, NOT_CANONICAL, PAGE_FAULT };

/* Looked at before any page is; but extended numbers are an access of 8 bytes and one of 2. */
static bool is_canonical(const struct request *r)
{
    uint64_t last = r->lin + (r->n == 10 ? 8 : r->n) - 1;
    return !r->wide || (x86_canonical(r->lin) && x86_canonical(last));
}

/* Translates all of a request without raising anything; *fault and *error describe a page fault. */
static enum reached try_reach(struct x86_cpu *c, const struct request *r, struct span *s,
                              uint64_t *fault, uint32_t *error)
{
    uint64_t lin = r->lin;
    s->parts = 0;
    if (!is_canonical(r))
        return NOT_CANONICAL;
    for (unsigned left = r->n; left;) {
        struct part *p = &s->part[s->parts++];
        unsigned room = X86_PAGE_SIZE - (unsigned)(lin & ~X86_PAGE_MASK);
        p->n = left < room ? left : room;
        if (r->wide && !x86_canonical(lin))
            return NOT_CANONICAL;
        if (!reach_page(c, r, lin, p, error)) {
            *fault = lin;
            return PAGE_FAULT;
        }
        left -= p->n;
        lin += p->n;
        lin = r->wide ? lin : (uint32_t)lin;
    }
    return REACHED;
}

/* What an access of n bytes is to be aligned to under an alignment check (SDM 3, table 6-7): where
 * the manual leaves it to the processor, as AMD's do. */
static unsigned alignment_of(unsigned n)
{
    switch (n) {
    case 10: return 8; /* extended precision */
    case 14:           /* x87 environment and state with 16-bit operands */
    case 94: return 2;
    case 28:
    case 108:
    case 512: return 4; /* and FXSAVE's image */
    case 32: return 16; /* a YMM register */
    default: return n <= 16 && (n & (n - 1)) == 0 ? n : 1;
    }
}

static void check_alignment(struct x86_cpu *c, const struct request *r)
{
    unsigned alignment = alignment_of(r->n);
    if (r->tlb == &c->view[TLB_NEVER] && (r->lin & (alignment - 1)))
        x86_raise_error(c, X86_AC, 0);
}

static void reach(struct x86_cpu *c, const struct request *r, struct span *s)
{
    uint64_t fault = 0;
    uint32_t error = 0;
    if (is_canonical(r))
        check_alignment(c, r);
    switch (try_reach(c, r, s, &fault, &error)) {
    case REACHED: return;
    case NOT_CANONICAL: x86_raise_error(c, r->seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
    case PAGE_FAULT: x86_page_fault(c, fault, error);
    }
}

/* ---- writes to pages that hold code ---- */

static bool part_holds_code(const struct x86_cpu *c, const struct part *p)
{
    return p->hva && (atomic_load(memory_flags(c->memory, p->gpa)) & MEMORY_CODE);
}

static bool holds_code(const struct x86_cpu *c, const struct span *s)
{
    return part_holds_code(c, &s->part[0]) || (s->parts == 2 && part_holds_code(c, &s->part[1]));
}

static bool is_ram(const struct span *s)
{
    return s->part[0].hva && (s->parts == 1 || s->part[1].hva);
}

/* May not return: see code_write in cpu.h. */
static void drop_code(struct x86_cpu *c, const struct span *s)
{
    for (unsigned i = 0; i < s->parts; i++)
        if (part_holds_code(c, &s->part[i]))
            c->code_write(c, s->part[i].gpa, s->part[i].n);
}

/* Closes the gate with the request translated. Nothing can raise any more until the gate is opened:
 * no page table changes while the others stand still. The walk may meet page tables in a device,
 * whose lock is waited for in another way by who has closed the gate: so that is told first. */
static void close_gate(struct x86_cpu *c, const struct request *r, struct span *s)
{
    for (;;) {
        uint64_t fault;
        uint32_t error;
        if (c->outside)
            c->outside(c);
        gate_close(c->gate, true);
        c->lock_closed_gate = true;
        if (try_reach(c, r, s, &fault, &error) == REACHED)
            return;
        x86_lock_end(c);
        reach(c, r, s);
    }
}

/* Between dropping the code and changing its bytes no other vCPU may decode them again, so both
 * happen in one exclusive section (unless a device is part of it: see lock()). True: the caller
 * ends it. */
static bool begin_store(struct x86_cpu *c, const struct request *r, struct span *s)
{
    if (likely(!holds_code(c, s)))
        return false;
    bool closes = c->gate && !c->lock_closed_gate && is_ram(s);
    if (closes)
        close_gate(c, r, s);
    drop_code(c, s);
    return closes;
}

/* ---- bytes ---- */

/* The largest access of a size that a bus knows that fits in n and is aligned at gpa. */
static unsigned mmio_piece(uint64_t gpa, unsigned n)
{
    unsigned size = 8;
    while (size > n || (gpa & (size - 1)))
        size >>= 1;
    return size;
}

static void part_read(struct x86_cpu *c, const struct part *p, uint8_t *to)
{
    if (p->hva) {
        bytes_copy(to, p->hva, p->n);
        return;
    }
    for (unsigned done = 0, size; done < p->n; done += size) {
        size = mmio_piece(p->gpa + done, p->n - done);
        uint64_t v = c->host.mmio_read(c->host.ctx, p->gpa + done, size);
        bytes_copy(to + done, &v, size);
    }
}

static void part_write(struct x86_cpu *c, const struct part *p, const uint8_t *from)
{
    if (p->hva) {
        bytes_copy(p->hva, from, p->n);
        return;
    }
    for (unsigned done = 0, size; done < p->n; done += size) {
        uint64_t v = 0;
        size = mmio_piece(p->gpa + done, p->n - done);
        bytes_copy(&v, from + done, size);
        c->host.mmio_write(c->host.ctx, p->gpa + done, size, v);
    }
}

static void span_read(struct x86_cpu *c, const struct span *s, void *to)
{
    part_read(c, &s->part[0], to);
    if (s->parts == 2)
        part_read(c, &s->part[1], (uint8_t *)to + s->part[0].n);
}

static void span_write(struct x86_cpu *c, const struct span *s, const void *from)
{
    part_write(c, &s->part[0], from);
    if (s->parts == 2)
        part_write(c, &s->part[1], (const uint8_t *)from + s->part[0].n);
}

/* A value of 1, 2, 4 or 8 bytes: in one page it is one access, as the processor promises for
 * aligned ones and devices expect. */
static uint64_t value_read(struct x86_cpu *c, const struct span *s, unsigned size)
{
    const struct part *p = &s->part[0];
    if (s->parts == 2) {
        uint64_t v = 0;
        span_read(c, s, &v);
        return v;
    }
    if (!p->hva)
        return c->host.mmio_read(c->host.ctx, p->gpa, size) & bits_mask(8 * size);
    switch (size) {
    case 1: return load_u8(p->hva);
    case 2: return load_u16(p->hva);
    case 4: return load_u32(p->hva);
    default: return load_u64(p->hva);
    }
}

static void value_write(struct x86_cpu *c, const struct span *s, unsigned size, uint64_t v)
{
    const struct part *p = &s->part[0];
    v &= bits_mask(8 * size);
    if (s->parts == 2) {
        span_write(c, s, &v);
        return;
    }
    if (!p->hva) {
        c->host.mmio_write(c->host.ctx, p->gpa, size, v);
        return;
    }
    switch (size) {
    case 1: store_u8(p->hva, (uint8_t)v); break;
    case 2: store_u16(p->hva, (uint16_t)v); break;
    case 4: store_u32(p->hva, (uint32_t)v); break;
    default: store_u64(p->hva, v); break;
    }
}

/* ---- explicit accesses ---- */

static void reach_watched(struct x86_cpu *c, const struct request *r, struct span *s)
{
    reach(c, r, s);
    if (unlikely(c->debug_data))
        report_breakpoints(c, r);
}

static uint64_t read_value(struct x86_cpu *c, const struct request *r)
{
    struct span s;
    reach_watched(c, r, &s);
    return value_read(c, &s, r->n);
}

static void write_value(struct x86_cpu *c, const struct request *r, uint64_t value)
{
    struct span s;
    reach_watched(c, r, &s);
    bool closed = begin_store(c, r, &s);
    value_write(c, &s, r->n, value);
    if (closed)
        x86_lock_end(c);
}

uint64_t x86_read_slow(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned seg)
{
    struct request r = explicit(c, lin, size, X86_READ, seg);
    return read_value(c, &r);
}

void x86_write_slow(struct x86_cpu *c, uint64_t lin, unsigned size, uint64_t value, unsigned seg)
{
    struct request r = explicit(c, lin, size, X86_WRITE, seg);
    write_value(c, &r, value);
}

/* Alignment checks are only on at CPL 3. */
static struct request element(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned access,
                              unsigned seg)
{
    struct request r = explicit(c, lin, size, access, seg);
    if (r.tlb == &c->view[TLB_NEVER])
        r.tlb = &c->view[TLB_USER];
    return r;
}

uint64_t x86_read_element(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned seg)
{
    struct request r = element(c, lin, size, X86_READ, seg);
    return read_value(c, &r);
}

void x86_write_element(struct x86_cpu *c, uint64_t lin, unsigned size, uint64_t value, unsigned seg)
{
    struct request r = element(c, lin, size, X86_WRITE, seg);
    write_value(c, &r, value);
}

void x86_read_bytes(struct x86_cpu *c, uint64_t lin, void *to, unsigned n, unsigned seg)
{
    struct request r = explicit(c, lin, n, X86_READ, seg);
    struct span s;
    reach_watched(c, &r, &s);
    span_read(c, &s, to);
}

void x86_write_bytes(struct x86_cpu *c, uint64_t lin, const void *from, unsigned n, unsigned seg)
{
    struct request r = explicit(c, lin, n, X86_WRITE, seg);
    struct span s;
    reach_watched(c, &r, &s);
    bool closed = begin_store(c, &r, &s);
    span_write(c, &s, from);
    if (closed)
        x86_lock_end(c);
}

/* The code is dropped here already: if it is the running block, the instruction begins again now
 * and not once it has done half its work. */
static void probe_write(struct x86_cpu *c, const struct request *r)
{
    struct span s;
    reach(c, r, &s);
    drop_code(c, &s);
}

void x86_probe_write(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned seg)
{
    struct request r = explicit(c, lin, n, X86_WRITE, seg);
    probe_write(c, &r);
}

void x86_probe_element(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned access,
                       unsigned seg)
{
    struct request r = element(c, lin, size, access, seg);
    struct span s;
    if (access & X86_WRITE)
        probe_write(c, &r);
    else
        reach(c, &r, &s);
}

void x86_probe_read(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned seg)
{
    struct request r = explicit(c, lin, n, X86_READ, seg);
    struct span s;
    reach(c, &r, &s);
}

void x86_probe_image(struct x86_cpu *c, uint64_t lin, unsigned n, unsigned access, unsigned seg,
                     enum x86_image_order order)
{
    struct request all = explicit(c, lin, n, access, seg);
    struct request first = explicit(c, lin, n % 4 ? 2 : 4, access, seg);
    struct request last = explicit(c, lin + n - 1, 1, access, seg);
    struct span s;
    if (is_canonical(&first))
        check_alignment(c, &all);
    if (order == X86_FIRST_WORD_FIRST || !is_canonical(&first))
        reach(c, &first, &s);
    reach(c, &last, &s);
    reach(c, &all, &s);
}

/* ---- LOCKed accesses ---- */

/* The host address for a host atomic operation, or NULL with the gate closed. Not closed for a
 * device: devices know no locked accesses, and their lock must not be waited for in there. */
static void *lock(struct x86_cpu *c, const struct request *r, struct span *s)
{
    bool aligned = (r->n & (r->n - 1)) == 0 && (r->lin & (r->n - 1)) == 0;
    if (is_ram(s) && (!aligned || holds_code(c, s))) {
        if (c->gate && !c->lock_closed_gate)
            close_gate(c, r, s);
        drop_code(c, s);
    }
    return is_ram(s) && aligned && !c->lock_closed_gate ? s->part[0].hva : NULL;
}

void *x86_lock_begin(struct x86_cpu *c, uint64_t lin, unsigned size, unsigned seg)
{
    struct request r = explicit(c, lin, size, X86_RMW, seg);
    struct span s;
    reach_watched(c, &r, &s);
    return lock(c, &r, &s);
}

void x86_lock_end(struct x86_cpu *c)
{
    if (c->lock_closed_gate) {
        c->lock_closed_gate = false;
        if (c->outside)
            c->outside(c);
        gate_open(c->gate, true);
    }
}

/* ---- implicit supervisor accesses ---- */

uint64_t x86_sys_read(struct x86_cpu *c, uint64_t lin, unsigned size)
{
    struct request r = implicit(c, lin, size, X86_READ);
    struct span s;
    reach(c, &r, &s);
    return value_read(c, &s, size);
}

void x86_sys_write(struct x86_cpu *c, uint64_t lin, unsigned size, uint64_t value)
{
    struct request r = implicit(c, lin, size, X86_WRITE);
    struct span s;
    reach(c, &r, &s);
    bool closed = begin_store(c, &r, &s);
    value_write(c, &s, size, value);
    if (closed)
        x86_lock_end(c);
}

uint64_t x86_sys_cmpxchg(struct x86_cpu *c, uint64_t lin, uint64_t expected, uint64_t desired)
{
    struct request r = implicit(c, lin, 8, X86_RMW);
    struct span s;
    reach(c, &r, &s);
    void *hva = lock(c, &r, &s);
    if (hva) {
        __atomic_compare_exchange_n((uint64_t *)hva, &expected, desired, false, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST);
        return expected;
    }
    uint64_t was = value_read(c, &s, 8);
    if (was == expected)
        value_write(c, &s, 8, desired);
    x86_lock_end(c);
    return was;
}

/* ---- instruction fetches ---- */

uint64_t x86_fetch_translate(struct x86_cpu *c, uint64_t lin)
{
    bool wide = c->code == X86_CODE64;
    bool user = c->cpl == 3;
    lin = wide ? lin : (uint32_t)lin;
    uint64_t tag = (lin & X86_PAGE_MASK) | user;
    unsigned i = (lin >> X86_PAGE_BITS) % FETCH_TLB_SIZE;
    if (likely(c->fetch.entry[i].tag == tag))
        return c->fetch.entry[i].gpa | (lin & ~X86_PAGE_MASK);

    if (wide && !x86_canonical(lin))
        x86_raise_gp0(c);
    struct x86_walk w;
    if (!x86_walk(c, lin, X86_FETCH, user ? X86_AS_USER : X86_AS_SUPERVISOR, &w))
        x86_page_fault(c, lin, w.error);
    c->fetch.entry[i].tag = tag;
    c->fetch.entry[i].gpa = w.gpa & X86_PAGE_MASK;
    c->fetch.filled = true;
    return w.gpa;
}

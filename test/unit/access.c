/* Accesses through the TLB and round it: straddles, views, MMIO, code pages, locks, breakpoints. */
#include "x86/access.h"

#include <pthread.h>

#include "base/gate.h"
#include "x86_fixture.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40 };

/* Linear pages from LIN on, each mapped by one entry of the table at L1. */
enum { L1 = 0x103000, MMIO = 0xe0000000 };
#define LIN UINT64_C(0x400000)

struct device {
    struct {
        uint64_t gpa, value;
        unsigned size;
        bool write;
    } seen[16];
    unsigned count;
    uint64_t answer;
    const struct x86_cpu *c;
    unsigned strays; /* reads with the gate closed by nobody who says so */
};

struct rig {
    struct fixture *f;
    struct x86_cpu *c;
    struct device device;
    struct {
        unsigned calls;
        uint64_t gpa;
        unsigned len;
        uint8_t before;
        bool gate_closed;
    } code;
};

static uint64_t mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    struct device *d = ctx;
    d->seen[d->count].gpa = gpa;
    d->seen[d->count].size = size;
    d->seen[d->count++].write = false;
    if (d->c->gate && d->c->gate->closed && !d->c->lock_closed_gate)
        d->strays++;
    return d->answer;
}

static void mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    struct device *d = ctx;
    d->seen[d->count].gpa = gpa;
    d->seen[d->count].size = size;
    d->seen[d->count].value = value;
    d->seen[d->count++].write = true;
}

static struct rig *the_rig(struct x86_cpu *c)
{
    return c->engine;
}

static void code_write(struct x86_cpu *c, uint64_t gpa, unsigned len)
{
    struct rig *r = the_rig(c);
    r->code.calls++;
    r->code.gpa = gpa;
    r->code.len = len;
    r->code.before = *memory_hva(c->memory, gpa);
    r->code.gate_closed = c->lock_closed_gate;
}

static void nothing(struct x86_cpu *c) {}

static void map(struct rig *r, unsigned page, uint64_t e)
{
    store_u64(at(r->f, L1 + 8 * page), e);
}

/* 64-bit mode. Pages 0 and 1 lie far apart in memory and the other way round. */
static struct rig *rig_new(unsigned cpl)
{
    struct rig *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    r->f = fixture_new();
    r->c = fixture_long(r->f, cpl);
    r->c->engine = r;
    r->device.c = r->c;
    r->c->host.ctx = &r->device;
    r->c->host.mmio_read = mmio_read;
    r->c->host.mmio_write = mmio_write;
    r->c->code_write = code_write;
    r->c->mappings_changed = nothing;
    store_u64(at(r->f, AT_PML4 + 0x2000 + 8 * (LIN >> 21)), L1 | P | W | U);
    map(r, 0, 0x190000 | P | W | U);
    map(r, 1, 0x180000 | P | W | U);
    return r;
}

static void rig_free(struct rig *r)
{
    fixture_free(r->f);
    free(r);
}

/* ---- bytes ---- */

TEST(straddles_reach_both_pages)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    for (unsigned n = 1; n < 8; n++) {
        uint64_t lin = LIN + 0x1000 - n, v = 0x8877665544332211 + n;
        x86_write64(c, lin, v, X86_DS);
        CHECK_EQ(x86_read64(c, lin, X86_DS), v);
        CHECK_EQ(*at(r->f, 0x190fff), (v >> (8 * (n - 1))) & 0xff);
        CHECK_EQ(*at(r->f, 0x180000), (v >> (8 * n)) & 0xff);
    }
    uint8_t out[4096], in[4096] = {0};
    for (unsigned i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 7);
    x86_write_bytes(c, LIN + 0x800, out, sizeof out, X86_DS);
    x86_read_bytes(c, LIN + 0x800, in, sizeof in, X86_DS);
    CHECK(memcmp(in, out, sizeof in) == 0);
    CHECK(memcmp(at(r->f, 0x180000), out + 0x800, 0x800) == 0);
    rig_free(r);
}

TEST(a_faulting_straddle_writes_nothing)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    map(r, 1, 0x180000 | P | U);
    store_u64(at(r->f, 0x190ff8), 0x1111111111111111);
    CHECK_RAISES(c, x86_write64(c, LIN + 0xffc, UINT64_MAX, X86_DS), X86_PF, 7);
    CHECK_EQ(c->s.cr2, LIN + 0x1000);
    CHECK_EQ(load_u64(at(r->f, 0x190ff8)), 0x1111111111111111);
    /* The first page is looked at first. */
    map(r, 0, 0);
    x86_tlb_flush(c);
    CHECK_RAISES(c, x86_write64(c, LIN + 0xffc, UINT64_MAX, X86_DS), X86_PF, 6);
    CHECK_EQ(c->s.cr2, LIN + 0xffc);
    rig_free(r);
}

TEST(non_canonical_addresses)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    CHECK_RAISES(c, x86_read8(c, BIT(47), X86_DS), X86_GP, 0);
    CHECK_RAISES(c, x86_write8(c, ~BIT(47), 1, X86_FS), X86_GP, 0);
    CHECK_RAISES(c, x86_read64(c, BIT(63), X86_SS), X86_SS_FAULT, 0);
    /* Half of it inside, on a page that is absent: pages are looked at later. */
    CHECK_RAISES(c, x86_read64(c, 0x00007ffffffffffc, X86_DS), X86_GP, 0);
    CHECK_RAISES(c, x86_fetch_translate(c, BIT(48)), X86_GP, 0);
    CHECK_RAISES(c, x86_sys_read(c, BIT(48), 8), X86_GP, 0);
    rig_free(r);
}

TEST(linear_addresses_wrap_at_32_bits)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = fixture_protected(r->f, 0);
    c->s.cr0 &= ~(uint64_t)CR0_PG;
    c->s.efer = 0;
    x86_update_mode(c);
    x86_tlb_flush(c);
    store_u16(at(r->f, 0), 0x1234);
    r->device.answer = UINT64_MAX;
    CHECK_EQ(x86_read32(c, 0xfffffffe, X86_DS), 0x1234ffff);
    CHECK_EQ(x86_read16(c, UINT64_C(0x100000000), X86_DS), 0x1234);
    x86_write32(c, 0xfffffffe, 0xaabbccdd, X86_DS);
    CHECK_EQ(load_u16(at(r->f, 0)), 0xaabb);
    rig_free(r);
}

TEST(devices_see_natural_sizes)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    struct device *d = &r->device;
    map(r, 0, MMIO | P | W);
    d->answer = 0x1122334455667788;
    CHECK_EQ(x86_read8(c, LIN + 1, X86_DS), 0x88);
    CHECK_EQ(x86_read16(c, LIN + 2, X86_DS), 0x7788);
    CHECK_EQ(x86_read32(c, LIN + 4, X86_DS), 0x55667788);
    CHECK_EQ(x86_read64(c, LIN + 8, X86_DS), 0x1122334455667788);
    x86_write32(c, LIN + 0x10, 0xdeadbeef, X86_DS);
    static const unsigned size[] = {1, 2, 4, 8, 4};
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(d->seen[i].size, size[i]);
    CHECK_EQ(d->seen[3].gpa, MMIO + 8);
    CHECK(d->seen[4].write);
    CHECK_EQ(d->seen[4].value, 0xdeadbeef);

    /* Across the page's end: aligned pieces, the rest goes to RAM. */
    d->count = 0;
    x86_write64(c, LIN + 0xff9, 0x8877665544332211, X86_DS);
    CHECK_EQ(d->count, 3);
    CHECK_EQ(d->seen[0].size, 1);
    CHECK_EQ(d->seen[0].value, 0x11);
    CHECK_EQ(d->seen[1].size, 2);
    CHECK_EQ(d->seen[1].value, 0x3322);
    CHECK_EQ(d->seen[2].size, 4);
    CHECK_EQ(d->seen[2].value, 0x77665544);
    CHECK_EQ(*at(r->f, 0x180000), 0x88);

    uint8_t bytes[16];
    d->count = 0;
    x86_read_bytes(c, LIN, bytes, 16, X86_DS);
    CHECK_EQ(d->count, 2);
    CHECK_EQ(d->seen[1].size, 8);
    rig_free(r);
}

TEST(alignment_is_checked_at_cpl_3_only)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    c->s.cr0 |= CR0_AM;
    c->s.rflags |= FLAG_AC;
    x86_update_mode(c);
    CHECK_EQ(RAISED(c, x86_read32(c, LIN + 4, X86_DS)), -1);
    CHECK_EQ(RAISED(c, x86_read8(c, LIN + 1, X86_DS)), -1);
    CHECK_RAISES(c, x86_read32(c, LIN + 2, X86_DS), X86_AC, 0);
    CHECK_RAISES(c, x86_read16(c, LIN + 1, X86_SS), X86_AC, 0);
    CHECK_RAISES(c, x86_write64(c, LIN + 4, 0, X86_DS), X86_AC, 0);
    CHECK_RAISES(c, x86_write16(c, LIN + 0xfff, 0, X86_DS), X86_AC, 0);
    CHECK_EQ(RAISED(c, x86_sys_read(c, LIN + 1, 4)), -1);
    c->s.rflags &= ~(uint64_t)FLAG_AC;
    x86_update_mode(c);
    CHECK_EQ(RAISED(c, x86_read32(c, LIN + 2, X86_DS)), -1);
    rig_free(r);

    r = rig_new(0);
    r->c->s.cr0 |= CR0_AM;
    r->c->s.rflags |= FLAG_AC;
    x86_update_mode(r->c);
    CHECK_EQ(RAISED(r->c, x86_read32(r->c, LIN + 2, X86_DS)), -1);
    rig_free(r);
}

/* ---- the TLB ---- */

TEST(entries_last_until_flushed)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    store_u32(at(r->f, 0x190000), 1);
    store_u32(at(r->f, 0x1a0000), 2);
    CHECK_EQ(x86_read32(c, LIN, X86_DS), 1);
    map(r, 0, 0x1a0000 | P | W | U);
    CHECK_EQ(x86_read32(c, LIN, X86_DS), 1);
    x86_tlb_flush_page(c, LIN + 0x1000);
    CHECK_EQ(x86_read32(c, LIN, X86_DS), 1);
    x86_tlb_flush_page(c, LIN + 0x123);
    CHECK_EQ(x86_read32(c, LIN, X86_DS), 2);
    map(r, 0, 0);
    x86_tlb_flush(c);
    CHECK_RAISES(c, x86_read32(c, LIN, X86_DS), X86_PF, 4);
    rig_free(r);
}

/* More pages than the TLB has entries, with single flushes between: a full flush must find all. */
TEST(a_flush_leaves_nothing)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    for (unsigned i = 0; i < 512; i++)
        map(r, i, 0x190000 | P | W | U);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 512; i++) {
            x86_read8(c, LIN + 0x1000 * i, X86_DS);
            if (round & 1)
                x86_tlb_flush_page(c, LIN + 0x1000 * (i / 2));
        }
    }
    c->s.rflags |= FLAG_AC;
    c->s.cr4 |= CR4_SMAP;
    x86_update_mode(c);
    x86_write8(c, LIN, 1, X86_DS);
    x86_tlb_flush(c);
    for (unsigned v = 0; v < TLB_VIEWS; v++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            const struct tlb_entry *e = &c->view[v].entry[i];
            if (e->read != TLB_NONE || e->write != TLB_NONE)
                CHECK(!"an entry was left");
        }
    }
    rig_free(r);
}

TEST(stores_wait_for_the_dirty_bit)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    x86_read32(c, LIN, X86_DS);
    CHECK(x86_rmw_host(c, LIN, 4) == NULL);
    x86_write32(c, LIN, 5, X86_DS);
    CHECK_EQ(load_u64(at(r->f, L1)) & D, D);
    CHECK(x86_rmw_host(c, LIN, 4) == at(r->f, 0x190000));
    CHECK(x86_rmw_host(c, LIN + 0xffd, 4) == NULL);
    rig_free(r);
}

TEST(views_keep_smap_apart)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    c->s.cr4 |= CR4_SMAP;
    c->s.rflags |= FLAG_AC;
    x86_update_mode(c);
    CHECK_EQ(RAISED(c, x86_read32(c, LIN, X86_DS)), -1);
    CHECK_EQ(RAISED(c, x86_write32(c, LIN, 1, X86_DS)), -1);
    /* Implicit accesses don't care for AC. */
    CHECK_RAISES(c, x86_sys_read(c, LIN, 4), X86_PF, 1);
    c->s.rflags &= ~(uint64_t)FLAG_AC;
    x86_update_mode(c);
    CHECK_RAISES(c, x86_read32(c, LIN, X86_DS), X86_PF, 1);
    CHECK_RAISES(c, x86_write32(c, LIN, 1, X86_DS), X86_PF, 3);
    rig_free(r);
}

TEST(user_and_supervisor_have_their_own_views)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    map(r, 0, 0x190000 | P | W);
    x86_write32(c, LIN, 7, X86_DS);
    CHECK_EQ(x86_sys_read(c, LIN, 4), 7);
    c = fixture_long(r->f, 3);
    store_u64(at(r->f, AT_PML4 + 0x2000 + 8 * (LIN >> 21)), L1 | P | W | U);
    CHECK_RAISES(c, x86_read32(c, LIN, X86_DS), X86_PF, 5);
    CHECK_EQ(x86_sys_read(c, LIN, 4), 7); /* as a supervisor, from CPL 3 */
    x86_sys_write(c, LIN + 0xffe, 4, 0xaabbccdd);
    CHECK_EQ(load_u16(at(r->f, 0x190ffe)), 0xccdd);
    CHECK_EQ(load_u16(at(r->f, 0x180000)), 0xaabb);
    rig_free(r);
}

TEST(fetches_are_translated_by_privilege)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    CHECK_EQ(x86_fetch_translate(c, LIN + 0x123), 0x190123);
    CHECK_EQ(x86_fetch_translate(c, LIN + 0x456), 0x190456);
    map(r, 0, 0x1a0000 | P | W);
    CHECK_EQ(x86_fetch_translate(c, LIN), 0x190000); /* not flushed yet */
    x86_tlb_flush_page(c, LIN);
    CHECK_RAISES(c, x86_fetch_translate(c, LIN), X86_PF, 0x15);
    CHECK_EQ(c->s.cr2, LIN);
    c->cpl = 0;
    CHECK_EQ(x86_fetch_translate(c, LIN), 0x1a0000);
    c->cpl = 3;
    CHECK_RAISES(c, x86_fetch_translate(c, LIN), X86_PF, 0x15);
    map(r, 0, 0x1a0000 | P | W | BIT(63));
    c->cpl = 0;
    x86_tlb_flush(c);
    CHECK_RAISES(c, x86_fetch_translate(c, LIN), X86_PF, 0x11);
    rig_free(r);
}

/* ---- code pages and dirty tracking ---- */

TEST(stores_to_code_tell_first)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    x86_write32(c, LIN, 0x11111111, X86_DS);
    atomic_store(memory_flags(c->memory, 0x190000), MEMORY_CODE);
    x86_tlb_write_protect(c, 0x190000);
    CHECK_EQ(x86_read32(c, LIN, X86_DS), 0x11111111);
    CHECK_EQ(r->code.calls, 0);
    for (unsigned i = 1; i <= 3; i++) {
        x86_write16(c, LIN + 2, 0x2222, X86_DS);
        CHECK_EQ(r->code.calls, i); /* each time, as long as the page holds code */
    }
    CHECK_EQ(r->code.gpa, 0x190002);
    CHECK_EQ(r->code.len, 2);
    CHECK_EQ(load_u32(at(r->f, 0x190000)), 0x22221111);

    x86_write64(c, LIN + 0xffe, 0, X86_DS);
    CHECK_EQ(r->code.calls, 4);
    CHECK_EQ(r->code.gpa, 0x190ffe);
    CHECK_EQ(r->code.len, 2);
    uint8_t bytes[64] = {0};
    x86_write_bytes(c, LIN, bytes, 64, X86_DS);
    x86_sys_write(c, LIN, 8, 1);
    x86_sys_cmpxchg(c, LIN, 1, 2);
    CHECK_EQ(r->code.calls, 7);
    CHECK_EQ(load_u64(at(r->f, 0x190000)), 2);
    CHECK(x86_lock_begin(c, LIN, 8, X86_DS) == at(r->f, 0x190000));
    x86_lock_end(c);
    CHECK_EQ(r->code.calls, 8);

    atomic_store(memory_flags(c->memory, 0x190000), 0);
    x86_write16(c, LIN, 1, X86_DS);
    x86_write16(c, LIN, 2, X86_DS);
    CHECK_EQ(r->code.calls, 8);
    rig_free(r);
}

TEST(a_store_is_seen_by_dirty_tracking)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    x86_write32(c, LIN, 1, X86_DS);
    atomic_store(memory_flags(c->memory, 0x190000), MEMORY_CLEAN);
    x86_tlb_write_protect(c, 0x190000);
    x86_read32(c, LIN, X86_DS);
    CHECK_EQ(atomic_load(memory_flags(c->memory, 0x190000)), MEMORY_CLEAN);
    x86_write32(c, LIN, 2, X86_DS);
    CHECK_EQ(atomic_load(memory_flags(c->memory, 0x190000)), 0);
    CHECK(x86_rmw_host(c, LIN, 4) != NULL);
    rig_free(r);
}

/* ---- probes ---- */

TEST(probes_change_nothing)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    store_u64(at(r->f, 0x190ff8), 0x1234);
    x86_probe_write(c, LIN + 0xff8, 16, X86_DS);
    CHECK_EQ(load_u64(at(r->f, 0x190ff8)), 0x1234);
    map(r, 1, 0x180000 | P | U);
    x86_tlb_flush(c);
    x86_probe_read(c, LIN + 0xff8, 16, X86_DS);
    CHECK_RAISES(c, x86_probe_write(c, LIN + 0xff8, 16, X86_DS), X86_PF, 7);
    map(r, 1, 0);
    x86_tlb_flush(c);
    CHECK_RAISES(c, x86_probe_read(c, LIN + 0xff8, 16, X86_DS), X86_PF, 4);
    rig_free(r);
}

/* ---- data breakpoints ---- */

enum { DR7_W = 1, DR7_RW = 3, LEN1 = 0, LEN2 = 1, LEN8 = 2, LEN4 = 3 };

static void watch(struct x86_cpu *c, unsigned i, uint64_t lin, unsigned kind, unsigned len)
{
    c->s.dr[i] = lin;
    c->s.dr[7] |= 1ull << (2 * i) | (uint64_t)kind << (16 + 4 * i) | (uint64_t)len << (18 + 4 * i);
    x86_tlb_flush(c);
    x86_update_mode(c);
}

static uint32_t hits(struct x86_cpu *c)
{
    uint32_t h = c->debug_hits;
    c->debug_hits = 0;
    return h;
}

TEST(data_breakpoints_hit)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    x86_write32(c, LIN, 1, X86_DS);
    watch(c, 0, LIN + 8, DR7_W, LEN4);
    watch(c, 1, LIN + 0x1000, DR7_RW, LEN1);
    watch(c, 2, LIN + 0x20, DR7_RW, LEN8);
    CHECK(c->debug_data);
    for (unsigned again = 0; again < 2; again++) {
        x86_read32(c, LIN + 8, X86_DS);
        CHECK_EQ(hits(c), 0);
        x86_write32(c, LIN + 8, 1, X86_DS);
        CHECK_EQ(hits(c), 1);
        x86_write8(c, LIN + 11, 1, X86_DS);
        CHECK_EQ(hits(c), 1);
        x86_write32(c, LIN + 12, 1, X86_DS);
        CHECK_EQ(hits(c), 0);
        x86_write64(c, LIN + 4, 1, X86_DS);
        CHECK_EQ(hits(c), 1);
        x86_read64(c, LIN + 0xffc, X86_DS);
        CHECK_EQ(hits(c), 2);
        x86_read8(c, LIN + 0x27, X86_DS);
        CHECK_EQ(hits(c), 4);
        x86_read8(c, LIN + 0x28, X86_DS);
        CHECK_EQ(hits(c), 0);
    }
    CHECK(atomic_load(&c->request) & X86_REQUEST_STEP);
    /* A fault is no access, and a probe is none. */
    map(r, 2, 0);
    watch(c, 3, LIN + 0x2000, DR7_RW, LEN1);
    CHECK_EQ(RAISED(c, x86_read8(c, LIN + 0x2000, X86_DS)), X86_PF);
    x86_probe_write(c, LIN + 8, 4, X86_DS);
    CHECK_EQ(hits(c), 0);
    c->s.dr[7] = 0x400;
    x86_update_mode(c);
    CHECK(!c->debug_data);
    x86_write32(c, LIN + 8, 1, X86_DS);
    CHECK_EQ(hits(c), 0);
    rig_free(r);
}

/* ---- locked accesses ---- */

TEST(locks_find_host_memory)
{
    struct rig *r = rig_new(3);
    struct x86_cpu *c = r->c;
    CHECK(x86_lock_begin(c, LIN + 8, 8, X86_DS) == at(r->f, 0x190008));
    CHECK(x86_lock_begin(c, LIN + 0x10, 16, X86_DS) == at(r->f, 0x190010));
    CHECK(x86_lock_begin(c, LIN + 1, 1, X86_DS) == at(r->f, 0x190001));
    CHECK(x86_lock_begin(c, LIN + 1, 2, X86_DS) == NULL);
    x86_lock_end(c);
    CHECK(x86_lock_begin(c, LIN + 0xffe, 4, X86_DS) == NULL);
    x86_lock_end(c);
    map(r, 0, MMIO | P | W | U);
    x86_tlb_flush(c);
    CHECK(x86_lock_begin(c, LIN, 4, X86_DS) == NULL);
    x86_lock_end(c);
    CHECK_EQ(r->device.count, 0);
    /* What is only read must be writable all the same. */
    map(r, 0, 0x190000 | P | U);
    x86_tlb_flush(c);
    CHECK_RAISES(c, x86_lock_begin(c, LIN, 4, X86_DS), X86_PF, 7);
    CHECK_RAISES(c, x86_lock_begin(c, LIN + 0xffe, 4, X86_DS), X86_PF, 7);
    rig_free(r);
}

TEST(split_locks_close_the_gate)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    struct gate gate;
    gate_init(&gate, NULL, NULL);
    c->gate = &gate;
    gate_enter(&gate);
    CHECK(x86_lock_begin(c, LIN + 0xffe, 4, X86_DS) == NULL);
    CHECK(c->lock_closed_gate && gate.closed);
    x86_write32(c, LIN + 0xffe, 0x01020304, X86_DS);
    CHECK_EQ(x86_read32(c, LIN + 0xffe, X86_DS), 0x01020304);
    CHECK(gate.closed);
    x86_lock_end(c);
    CHECK(!c->lock_closed_gate && !gate.closed);

    /* A store to code is one section with the dropping of it, and may be part of a locked one. */
    atomic_store(memory_flags(c->memory, 0x190000), MEMORY_CODE);
    x86_tlb_write_protect(c, 0x190000);
    x86_write32(c, LIN, 1, X86_DS);
    CHECK(r->code.calls == 1 && r->code.gate_closed && !gate.closed);
    CHECK(x86_lock_begin(c, LIN, 4, X86_DS) == NULL);
    CHECK(gate.closed);
    x86_write32(c, LIN, 2, X86_DS);
    CHECK(gate.closed);
    x86_lock_end(c);
    CHECK(!gate.closed);
    CHECK_EQ(gate.inside, 1);

    /* A device's lock may be held by who waits for the gate. */
    map(r, 0, MMIO | P | W | U);
    x86_tlb_flush(c);
    CHECK(x86_lock_begin(c, LIN + 2, 4, X86_DS) == NULL);
    CHECK(!gate.closed);
    x86_lock_end(c);
    gate_leave(&gate);
    gate_destroy(&gate);
    rig_free(r);
}

/* The device's lock is waited for in another way by who has closed the gate. */
TEST(page_tables_in_a_device_are_walked_with_the_gate_closed)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    struct gate gate;
    gate_init(&gate, NULL, NULL);
    c->gate = &gate;
    gate_enter(&gate);
    store_u64(at(r->f, AT_PML4 + 0x2000 + 8 * (LIN >> 21)), MMIO | P | W | U);
    r->device.answer = 0x190000 | P | W | U | A | D;
    /* Watched pages are walked each time. */
    watch(c, 0, LIN + 8, DR7_W, LEN4);
    watch(c, 1, LIN + 0x1008, DR7_W, LEN4);
    CHECK(x86_lock_begin(c, LIN + 0xffe, 4, X86_DS) == NULL);
    CHECK(c->lock_closed_gate && gate.closed);
    CHECK_EQ(r->device.count, 4);
    CHECK_EQ(r->device.strays, 0);
    x86_lock_end(c);
    CHECK(!gate.closed);
    gate_leave(&gate);
    gate_destroy(&gate);
    rig_free(r);
}

enum { THREADS = 3, ADDITIONS = 3000 };

struct adder {
    struct gate *gate;
    struct x86_cpu *c;
};

static void ask(void *ctx)
{
    struct adder *adders = ctx;
    for (unsigned i = 0; i < THREADS; i++)
        atomic_fetch_or(&adders[i].c->request, X86_REQUEST_GATE);
}

/* Adds to one aligned counter with host atomics and to one across pages, as an engine would. */
static void *add(void *arg)
{
    struct adder *a = arg;
    struct x86_cpu *c = a->c;
    gate_enter(a->gate);
    for (unsigned i = 0; i < ADDITIONS; i++) {
        if (atomic_fetch_and(&c->request, ~(uint32_t)X86_REQUEST_GATE) & X86_REQUEST_GATE)
            gate_pass(a->gate);
        uint32_t *p = x86_lock_begin(c, LIN + 0x100, 4, X86_DS);
        if (p)
            __atomic_fetch_add(p, 1, __ATOMIC_SEQ_CST);
        x86_lock_begin(c, LIN + 0xffd, 4, X86_DS);
        x86_write32(c, LIN + 0xffd, x86_read32(c, LIN + 0xffd, X86_DS) + 1, X86_DS);
        x86_lock_end(c);
    }
    gate_leave(a->gate);
    return NULL;
}

TEST(locked_additions_are_atomic)
{
    struct rig *r = rig_new(0);
    struct gate gate;
    struct adder adders[THREADS];
    pthread_t thread[THREADS];
    gate_init(&gate, ask, adders);
    for (unsigned i = 0; i < THREADS; i++) {
        struct x86_cpu *c = calloc(1, sizeof *c);
        if (!c)
            abort();
        *c = *r->c;
        c->gate = &gate;
        x86_tlb_init(c);
        x86_update_mode(c);
        adders[i] = (struct adder){&gate, c};
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, add, &adders[i]), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    CHECK_EQ(x86_read32(r->c, LIN + 0x100, X86_DS), THREADS * ADDITIONS);
    CHECK_EQ(x86_read32(r->c, LIN + 0xffd, X86_DS), THREADS * ADDITIONS);
    for (unsigned i = 0; i < THREADS; i++)
        free(adders[i].c);
    gate_destroy(&gate);
    rig_free(r);
}

TEST(descriptor_bits_are_exchanged)
{
    struct rig *r = rig_new(0);
    struct x86_cpu *c = r->c;
    for (unsigned i = 0; i < 3; i++) {
        uint64_t lin = LIN + (i == 0 ? 8 : i == 1 ? 0x13 : 0xffc);
        x86_write64(c, lin, 5, X86_DS);
        CHECK_EQ(x86_sys_cmpxchg(c, lin, 4, 9), 5);
        CHECK_EQ(x86_read64(c, lin, X86_DS), 5);
        CHECK_EQ(x86_sys_cmpxchg(c, lin, 5, 9), 5);
        CHECK_EQ(x86_read64(c, lin, X86_DS), 9);
    }
    rig_free(r);
}

TESTS(T(straddles_reach_both_pages), T(a_faulting_straddle_writes_nothing),
      T(non_canonical_addresses), T(linear_addresses_wrap_at_32_bits), T(devices_see_natural_sizes),
      T(alignment_is_checked_at_cpl_3_only), T(entries_last_until_flushed),
      T(a_flush_leaves_nothing), T(stores_wait_for_the_dirty_bit), T(views_keep_smap_apart),
      T(user_and_supervisor_have_their_own_views), T(fetches_are_translated_by_privilege),
      T(stores_to_code_tell_first), T(a_store_is_seen_by_dirty_tracking), T(probes_change_nothing),
      T(data_breakpoints_hit), T(locks_find_host_memory), T(split_locks_close_the_gate),
      T(page_tables_in_a_device_are_walked_with_the_gate_closed), T(locked_additions_are_atomic),
      T(descriptor_bits_are_exchanged))

/*
 * Flat tables and the windows behind them: an address leads to its own page or faults, whatever its
 * 64 bits are. Accesses are made here as translated code makes them.
 */
#include "test.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "engine/binary/table.h"
#include "memory/memory.h"

enum { PAGE = MEMORY_PAGE_SIZE, RAM = 4 << 20, LAST = RAM - PAGE };

/* ---- accesses that may fault ---- */

static sigjmp_buf back;

static void on_fault(int number)
{
    (void)number;
    siglongjmp(back, 1);
}

static void catch_faults(void)
{
    struct sigaction sa = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
}

enum kind { LOAD, STORE, LOAD_16, LOAD_32, STORE_16, STORE_32, STORE_BYTE };

/* In assembly, where no sanitizer looks. */
static void access_host(uint64_t at, enum kind kind, uint64_t *value)
{
    switch (kind) {
    case LOAD: __asm__ volatile("mov (%1), %0" : "=r"(*value) : "r"(at) : "memory"); break;
    case STORE: __asm__ volatile("mov %0, (%1)" : : "r"(*value), "r"(at) : "memory"); break;
    case STORE_BYTE: __asm__ volatile("movb $0, (%0)" : : "r"(at) : "memory"); break;
    case LOAD_16: __asm__ volatile("movups (%0), %%xmm0" : : "r"(at) : "memory", "xmm0"); break;
    case STORE_16: __asm__ volatile("movups %%xmm0, (%0)" : : "r"(at) : "memory"); break;
    case LOAD_32: __asm__ volatile("vmovups (%0), %%ymm0" : : "r"(at) : "memory", "xmm0"); break;
    case STORE_32: __asm__ volatile("vmovups %%ymm0, (%0)" : : "r"(at) : "memory"); break;
    }
}

static unsigned size_of(enum kind kind)
{
    static const uint8_t sizes[] = {8, 8, 16, 32, 16, 32, 1};
    return sizes[kind];
}

/* False: it faulted, at the table or at the sum. */
static bool try_access(const struct table *t, uint64_t a, enum kind kind, uint64_t *value)
{
    if (sigsetjmp(back, 0))
        return false;
    uint64_t addend;
    access_host((uint64_t)(uintptr_t)t->entry + (uint64_t)(uint32_t)(a >> 12) * 8, LOAD, &addend);
    access_host(a + addend, kind, value);
    return true;
}

static bool host_faults(uint64_t at)
{
    uint64_t v;
    if (sigsetjmp(back, 0))
        return true;
    access_host(at, LOAD, &v);
    return false;
}

static bool faults(const struct table *t, uint64_t a, enum kind kind)
{
    uint64_t v = 0;
    return !try_access(t, a, kind, &v);
}

/* ---- a guest's memory with a table ---- */

struct rig {
    struct memory memory;
    struct windows windows;
    struct table table;
    int area;
};

static bool open_rig(struct rig *r, enum table_half half)
{
    struct error err;
    *r = (struct rig){.area = memfd_create("area", MFD_CLOEXEC)};
    catch_faults();
    return r->area >= 0 && ftruncate(r->area, AREA_SIZE + JUMP_AREA) == 0 &&
           memory_create(&r->memory, RAM, &err) && windows_create(&r->windows, &r->memory, &err) &&
           table_create(&r->table, &r->windows, half, r->area, 0, AREA_SIZE, &err);
}

static void close_rig(struct rig *r)
{
    table_destroy(&r->table);
    windows_destroy(&r->windows);
    memory_destroy(&r->memory);
    close(r->area);
}

#define WITH_RIG(r)                                                                                \
    struct rig r;                                                                                  \
    if (!open_rig(&r, LOWER_HALF))                                                                 \
    SKIP("the host gives no address space for tables")

static bool fill(struct rig *r, uint64_t va, uint64_t offset, bool writable)
{
    return table_fill(&r->table, va, offset, writable, false);
}

static uint8_t *ram(const struct rig *r, uint64_t offset)
{
    return r->memory.region[0].hva + offset;
}

static uint64_t with_upper(uint64_t va, uint64_t upper)
{
    return (va & bits_mask(SLOT_BITS)) | upper << SLOT_BITS;
}

/* Pages at every edge: of RAM, of the table, of both halves of the address space. */
static const struct {
    uint64_t va, offset;
} pages[] = {{0, 0},
             {0x1000, LAST},
             {0x7ffffffff000, 0x3000},
             {0xffff800000000000, 0x4000},
             {0xfffffffffffff000, LAST},
             {0x123456789000, 0x201000},
             {0xffffa00000200000, 0x1ff000}};

/* ---- what is there ---- */

TEST(an_entry_leads_to_its_page)
{
    WITH_RIG(r);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        uint64_t v = 0x1111 * (i + 1), got = 0;
        CHECK(fill(&r, pages[i].va, pages[i].offset, true));
        CHECK(try_access(&r.table, pages[i].va + 8, STORE, &v));
        CHECK(memcmp(ram(&r, pages[i].offset + 8), &v, 8) == 0);
        CHECK(try_access(&r.table, pages[i].va + PAGE - 8, LOAD, &got));
        memcpy(ram(&r, pages[i].offset + PAGE - 8), &v, 8);
        CHECK(try_access(&r.table, pages[i].va + PAGE - 8, LOAD, &got));
        CHECK_EQ(got, v);
        CHECK(table_has(&r.table, pages[i].va, true));
    }
    close_rig(&r);
}

TEST(a_page_that_may_not_be_written_faults_on_stores)
{
    WITH_RIG(r);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        uint64_t got = 0;
        *ram(&r, pages[i].offset) = 0x5a;
        CHECK(fill(&r, pages[i].va, pages[i].offset, false));
        CHECK(try_access(&r.table, pages[i].va, LOAD, &got));
        CHECK_EQ((uint8_t)got, 0x5a);
        CHECK(faults(&r.table, pages[i].va, STORE));
        CHECK(faults(&r.table, pages[i].va, STORE_BYTE));
        CHECK_EQ(*ram(&r, pages[i].offset), 0x5a);
        CHECK(table_has(&r.table, pages[i].va, false));
        CHECK(!table_has(&r.table, pages[i].va, true));
    }
    close_rig(&r);
}

/* ---- what is not ---- */

TEST(a_table_page_that_was_never_filled_faults)
{
    WITH_RIG(r);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        CHECK(faults(&r.table, pages[i].va, LOAD));
        CHECK(faults(&r.table, pages[i].va, STORE));
        CHECK(!table_has(&r.table, pages[i].va, false));
    }
    close_rig(&r);
}

/* Of an address whose table page is open: whatever its bits 63:44 are. */
static unsigned not_faulting(const struct table *t, uint64_t va, uint64_t but)
{
    unsigned n = 0;
    for (uint64_t upper = 0; upper < 1 << 20; upper += upper % 16 == 15 ? 16 * 60 + 1 : 1)
        if (with_upper(va, upper) != but)
            n += !faults(t, with_upper(va, upper), upper & 1 ? STORE : LOAD);
    return n;
}

TEST(a_missing_entry_faults_whatever_the_upper_bits_are)
{
    WITH_RIG(r);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        uint64_t next = pages[i].va ^ 0x2000; /* in the same page of the table */
        CHECK(fill(&r, next, 0x5000, true));
        CHECK_EQ(not_faulting(&r.table, pages[i].va, next), 0);
    }
    close_rig(&r);
}

TEST(an_entry_serves_no_other_upper_bits)
{
    WITH_RIG(r);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        CHECK(fill(&r, pages[i].va, pages[i].offset, true));
        CHECK_EQ(not_faulting(&r.table, pages[i].va, pages[i].va), 0);
    }
    close_rig(&r);
}

TEST(all_million_upper_bits_of_one_page)
{
    WITH_RIG(r);
    unsigned hits = 0;
    CHECK(fill(&r, 0x123456789000, 0x7000, true));
    for (uint64_t upper = 0; upper < 1 << 20; upper++)
        hits += !faults(&r.table, with_upper(0x123456789ff8, upper), LOAD);
    CHECK_EQ(hits, 1);
    close_rig(&r);
}

/* Linux decodes an instruction that caused #GP before it sends the signal. */
TEST(what_is_missing_in_a_tables_half_is_at_canonical_addresses)
{
    for (unsigned half = LOWER_HALF; half <= UPPER_HALF; half++) {
        struct rig r;
        if (!open_rig(&r, half))
            SKIP("the host gives no address space for tables");
        uint64_t first = half == UPPER_HALF ? UINT64_C(0xffff800000000000) : 0;
        for (uint64_t slot = 0; slot < 8; slot++) {
            uint64_t va = first + with_upper(0x123456789010, slot);
            CHECK(fill(&r, va, 0x7000, true)); /* opens the table's page */
            table_flush(&r.table);
            CHECK(faults(&r.table, va, LOAD));
            uint64_t sum = va + r.table.entry[(uint32_t)(va >> 12)];
            CHECK(sum >> 47 == 0 && host_faults(sum));
        }
        close_rig(&r);
    }
}

TEST(the_same_places_in_other_slots_are_held)
{
    WITH_RIG(r);
    for (unsigned window = 0; window < 4; window++) {
        uintptr_t at = r.windows.at[window & 1][window >> 1];
        for (uintptr_t slot = 0; slot < 8; slot++) {
            uintptr_t there = (at & bits_mask(SLOT_BITS)) | slot << SLOT_BITS;
            for (unsigned page = 0; there != at && page < RAM / PAGE; page += 61)
                CHECK(host_faults(there + (uint64_t)page * PAGE));
        }
    }
    close_rig(&r);
}

/* ---- page ends ---- */

TEST(what_runs_over_a_pages_end_faults)
{
    static const enum kind kinds[] = {LOAD, STORE, LOAD_16, STORE_16, LOAD_32, STORE_32};
    WITH_RIG(r);
    if (!r.windows.guarded)
        SKIP("the host's kernel has no guard pages: accesses are checked instead");
    /* Its neighbours are there, in the guest and in RAM. */
    for (uint64_t i = 0; i < 8; i++)
        CHECK(fill(&r, 0x400000 + i * PAGE, 0x8000 + i * PAGE, true));
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        for (uint64_t page = 0; page < 8; page++) {
            uint64_t end = 0x400000 + (page + 1) * PAGE;
            CHECK(!faults(&r.table, end - size_of(kinds[i]), kinds[i]));
            for (unsigned k = 1; k < size_of(kinds[i]); k++)
                CHECK(faults(&r.table, end - k, kinds[i]));
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        CHECK(fill(&r, pages[i].va, pages[i].offset, true));
        for (unsigned k = 1; k < 32; k++)
            CHECK(faults(&r.table, pages[i].va + PAGE - k, LOAD_32));
    }
    close_rig(&r);
}

/* An addend is used for what lies round the page it is for (operand.c), and guard pages are made
 * for so much of a window at a time: the last page before such a boundary, and the first behind it.
 */
TEST(pages_on_both_sides_are_guarded_wherever_the_page_is)
{
    enum { BOUNDARY = 2 << 20 };
    _Static_assert(RAM > BOUNDARY + PAGE, "there is a boundary");
    for (unsigned behind = 0; behind < 2; behind++) {
        WITH_RIG(r);
        if (!r.windows.guarded)
            SKIP("the host's kernel has no guard pages: accesses are checked instead");
        for (unsigned writable = 0; writable < 2; writable++) {
            uintptr_t page = windows_page(&r.windows, BOUNDARY - PAGE + behind * PAGE, writable);
            CHECK(!host_faults(page) && !host_faults(page + PAGE - 8));
            CHECK(host_faults(page - 1) && host_faults(page - PAGE));
            CHECK(host_faults(page + PAGE) && host_faults(page + 2 * PAGE - 1));
        }
        close_rig(&r);
    }
}

/* ---- taking out ---- */

TEST(what_is_dropped_faults)
{
    WITH_RIG(r);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++)
        CHECK(fill(&r, pages[i].va, pages[i].offset, true));
    table_drop(&r.table, pages[2].va + 77);
    CHECK(faults(&r.table, pages[2].va, LOAD));
    CHECK(!faults(&r.table, pages[3].va, LOAD));
    table_drop(&r.table, 0x0000666600000000); /* was never there */
    table_flush(&r.table);
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++)
        CHECK(faults(&r.table, pages[i].va, LOAD));
    close_rig(&r);
}

static unsigned mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned n = 0;
    for (int c; f && (c = getc(f)) != EOF;)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

/* A guest whose processes come and go, each with its libraries elsewhere, touches ever more of a
 * table: there is an end to what that takes of the host's. */
TEST(a_large_page_is_dropped_with_all_that_is_in_it)
{
    WITH_RIG(r);
    static const uint64_t at = 0x00007f0000200000, in[] = {0, 0x1000, 0x1ff000};
    for (unsigned i = 0; i < ARRAY_LEN(in); i++)
        CHECK(fill(&r, at + in[i], i * 4096, true));
    CHECK(fill(&r, at - 4096, 0x5000, true));
    CHECK(fill(&r, at + 0x200000, 0x6000, true));
    table_drop_large(&r.table, at, 21);
    for (unsigned i = 0; i < ARRAY_LEN(in); i++)
        CHECK(faults(&r.table, at + in[i], LOAD));
    CHECK(!faults(&r.table, at - 4096, LOAD));
    CHECK(!faults(&r.table, at + 0x200000, LOAD));
    CHECK(fill(&r, at + 0x1000, 0x7000, true));
    CHECK(!faults(&r.table, at + 0x1000, LOAD));
    table_drop_large(&r.table, at - 0x200000, 22);
    CHECK(faults(&r.table, at - 4096, LOAD));
    CHECK(faults(&r.table, at + 0x1000, LOAD));
    CHECK(!faults(&r.table, at + 0x200000, LOAD));
    close_rig(&r);
}

TEST(however_much_is_touched_few_mappings_are_used)
{
    WITH_RIG(r);
    r.windows.tables = 17;
    for (uint64_t i = 0; i < 5000; i++) {
        uint64_t va = i << 23;
        CHECK(fill(&r, va, (i % 500) * PAGE, true));
        CHECK(!faults(&r.table, va, LOAD));
    }
    CHECK(faults(&r.table, 0, LOAD)); /* the first is forgotten */
    CHECK(mappings() < 4000);
    close_rig(&r);
}

TEST(a_local_flush_keeps_what_is_global)
{
    WITH_RIG(r);
    CHECK(table_fill(&r.table, 0xffffffff81000000, 0x1000, true, true));
    CHECK(fill(&r, 0x400000, 0x2000, true));
    table_flush_local(&r.table);
    CHECK(!faults(&r.table, 0xffffffff81000000, STORE));
    CHECK(faults(&r.table, 0x400000, LOAD));
    table_protect(&r.table, 0x1000);
    CHECK(faults(&r.table, 0xffffffff81000000, STORE));
    table_flush(&r.table);
    CHECK(faults(&r.table, 0xffffffff81000000, LOAD));
    close_rig(&r);
}

TEST(a_flush_forgets_however_much_there_is)
{
    enum { MANY = 5000 };
    WITH_RIG(r);
    for (uint64_t i = 0; i < MANY; i++)
        CHECK(fill(&r, 0x10000000 + i * PAGE, i % 1024 * PAGE, true));
    CHECK(!faults(&r.table, 0x10000000 + (MANY - 1) * (uint64_t)PAGE, LOAD));
    table_flush(&r.table);
    for (uint64_t i = 0; i < MANY; i++)
        CHECK(!table_has(&r.table, 0x10000000 + i * PAGE, false));
    close_rig(&r);
}

TEST(what_is_protected_can_be_read_only_at_best)
{
    WITH_RIG(r);
    const uint64_t offset = 0x9000;
    CHECK(fill(&r, 0x500000, offset, true));
    CHECK(fill(&r, 0xffff888000009000, offset, true));
    CHECK(fill(&r, 0x501000, offset + PAGE, true));
    CHECK(fill(&r, 0x502000, offset, false));
    table_protect(&r.table, offset + 0x123); /* anywhere in the page */
    CHECK(faults(&r.table, 0x500000, STORE));
    CHECK(faults(&r.table, 0xffff888000009000, STORE));
    CHECK(faults(&r.table, 0x502000, STORE));
    CHECK(!faults(&r.table, 0x501000, STORE));
    CHECK(!faults(&r.table, 0x502000, LOAD));
    close_rig(&r);
}

TEST(an_address_with_the_same_index_takes_the_entry_over)
{
    WITH_RIG(r);
    CHECK(fill(&r, 0x0000123456789000, 0x1000, true));
    CHECK(fill(&r, 0xffffa23456789000, 0x2000, false));
    CHECK(faults(&r.table, 0x0000123456789000, LOAD));
    CHECK(!faults(&r.table, 0xffffa23456789000, LOAD));
    table_protect(&r.table, 0x1000); /* noted, and replaced since */
    CHECK(!faults(&r.table, 0xffffa23456789000, LOAD));
    close_rig(&r);
}

TESTS(T(an_entry_leads_to_its_page), T(a_page_that_may_not_be_written_faults_on_stores),
      T(a_table_page_that_was_never_filled_faults),
      T(a_missing_entry_faults_whatever_the_upper_bits_are), T(an_entry_serves_no_other_upper_bits),
      T(all_million_upper_bits_of_one_page),
      T(what_is_missing_in_a_tables_half_is_at_canonical_addresses),
      T(all_million_upper_bits_of_one_page), T(the_same_places_in_other_slots_are_held),
      T(what_runs_over_a_pages_end_faults), T(pages_on_both_sides_are_guarded_wherever_the_page_is),
      T(what_is_dropped_faults), T(a_large_page_is_dropped_with_all_that_is_in_it),
      T(however_much_is_touched_few_mappings_are_used), T(a_local_flush_keeps_what_is_global),
      T(a_flush_forgets_however_much_there_is), T(what_is_protected_can_be_read_only_at_best),
      T(an_address_with_the_same_index_takes_the_entry_over))

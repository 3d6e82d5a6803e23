/*
 * The shared checks of page translation.
 */
#include "paging.h"

static const unsigned long test = TEST_LINEAR, next = TEST_LINEAR + 4096;

void set_entry(unsigned level, unsigned long at, uint64_t v)
{
    put_entry(level, at, v);
    write_cr3(read_cr3());
}

static void map(uint64_t bits)
{
    set_entry(0, test, frame_of(0) | bits);
    set_entry(0, next, frame_of(1) | P | W | U);
}

static uint32_t features(unsigned leaf, unsigned reg)
{
    uint32_t r[4];
    cpuid(leaf, &r[0], &r[1], &r[2], &r[3]);
    return r[reg];
}

void accessed_and_dirty(void)
{
    map(P | W | U);
    for (unsigned l = 1; l <= paging_levels; l++)
        set_entry(l, test, get_entry(l, test) & ~(uint64_t)A);
    CHECK_TOUCHED(0, READ, test);
    CHECK_EQ(get_entry(0, test) & (A | D), A);
    for (unsigned l = 1; l <= paging_levels; l++)
        CHECK_EQ(get_entry(l, test) & (A | D), A);
    CHECK_TOUCHED(0, WRITE, test);
    CHECK_EQ(get_entry(0, test) & (A | D), A | D);
    CHECK_EQ(get_entry(1, test) & D, 0);
    map(P | W | U);
    CHECK_TOUCHED(3, WRITE, test);
    CHECK_EQ(get_entry(0, test) & (A | D), A | D);
    map(P | W | U);
    CHECK_TOUCHED(3, UPDATE, test);
    CHECK_EQ(get_entry(0, test) & (A | D), A | D);
    map(P | W | U);
    CHECK_TOUCHED(3, EXECUTE, test);
    CHECK_EQ(get_entry(0, test) & (A | D), A);
    /* An access that faults leaves D alone. */
    map(P | U);
    touch(3, WRITE, test);
    CHECK_EQ(get_entry(0, test) & D, 0);
}

void not_present(void)
{
    map(0);
    CHECK_FAULTS(0, READ, test + 4, 0);
    CHECK_FAULTS(0, WRITE, test + 8, E_W);
    CHECK_FAULTS(0, UPDATE, test + 8, E_W);
    CHECK_FAULTS(3, READ, test + 12, E_U);
    CHECK_FAULTS(3, WRITE, test, E_U | E_W);
    CHECK_EQ(get_entry(0, test) & (A | D), 0);
    map(P | W | U);
    for (unsigned l = 1; l <= paging_levels; l++) {
        if (paging_wide && !(get_entry(l, test) & W))
            continue; /* PDPTEs of PAE paging are loaded with CR3 */
        uint64_t was = get_entry(l, test);
        set_entry(l, test, was & ~(uint64_t)P);
        CHECK_FAULTS(3, READ, test, E_U);
        set_entry(l, test, was);
    }
    CHECK_TOUCHED(3, READ, test);
}

void user_and_supervisor(void)
{
    map(P | W);
    CHECK_TOUCHED(0, WRITE, test);
    CHECK_FAULTS(3, READ, test, E_P | E_U);
    CHECK_FAULTS(3, WRITE, test, E_P | E_U | E_W);
    CHECK_EQ(touch(3, EXECUTE, test).error & (E_P | E_U | E_W), E_P | E_U);
}

void read_only(void)
{
    map(P | U);
    write_cr0(read_cr0() | CR0_WP);
    CHECK_TOUCHED(3, READ, test);
    CHECK_FAULTS(3, WRITE, test, E_P | E_U | E_W);
    CHECK_FAULTS(0, WRITE, test, E_P | E_W);
    write_cr0(read_cr0() & ~(unsigned long)CR0_WP);
    CHECK_TOUCHED(0, WRITE, test);
    CHECK_EQ(get_entry(0, test) & D, D);
    CHECK_FAULTS(3, WRITE, test, E_P | E_U | E_W);
    write_cr0(read_cr0() | CR0_WP);
    CHECK_FAULTS(0, WRITE, test, E_P | E_W);
}

void rights_combine_over_levels(void)
{
    write_cr0(read_cr0() | CR0_WP);
    for (unsigned l = 1; l <= paging_levels; l++) {
        map(P | W | U);
        uint64_t was = get_entry(l, test);
        if (!(was & W))
            continue;
        set_entry(l, test, was & ~(uint64_t)U);
        CHECK_FAULTS(3, READ, test, E_P | E_U);
        set_entry(l, test, was & ~(uint64_t)W);
        CHECK_FAULTS(3, WRITE, test, E_P | E_U | E_W);
        CHECK_FAULTS(0, WRITE, test, E_P | E_W);
        set_entry(l, test, was);
    }
}

void straddles(void)
{
    map(P | W | U);
    set_entry(0, next, 0);
    test_frame[0][4095] = 0x5a;
    struct outcome o = touch(3, WRITE, next - 1);
    CHECK(outcome_is(o, PF, E_U | E_W, next)); /* the address is the missing page's */
    CHECK_EQ(test_frame[0][4095], 0x5a);
    map(0);
    o = touch(3, WRITE, next - 1);
    CHECK(outcome_is(o, PF, E_U | E_W, next - 1));
    map(P | W | U);
    CHECK_TOUCHED(3, WRITE, next - 1);
    CHECK_TOUCHED(3, UPDATE, next - 3);
}

void stale_entries_go_with_invlpg(void)
{
    uint32_t *volatile cell = (uint32_t *)test;
    map(P | W | U);
    *(uint32_t *)test_frame[0] = 1;
    *(uint32_t *)test_frame[1] = 2;
    invlpg(test);
    CHECK_EQ(*(volatile uint32_t *)cell, 1);
    put_entry(0, test, frame_of(1) | P | W | U);
    invlpg(test);
    CHECK_EQ(*(volatile uint32_t *)cell, 2);
    set_entry(0, test, frame_of(0) | P | W | U);
    CHECK_EQ(*(volatile uint32_t *)cell, 1);
    put_entry(0, test, frame_of(1) | P | W | U | G);
    write_cr4(read_cr4() ^ CR4_PGE);
    CHECK_EQ(*(volatile uint32_t *)cell, 2);
    put_entry(0, test, frame_of(0) | P | W | U);
    write_cr4(read_cr4() ^ CR4_PGE);
    CHECK_EQ(*(volatile uint32_t *)cell, 1);
}

void large_pages(void)
{
    uint64_t was = get_entry(1, test);
    uint64_t size = paging_wide ? 2 << 20 : 4 << 20;
    uint64_t base = frame_of(0) & ~(size - 1);
    unsigned long at = test + (unsigned long)(frame_of(0) - base);
    write_cr4(read_cr4() | CR4_PSE);
    set_entry(1, test, base | P | W | U | LARGE);
    *(uint32_t *)test_frame[0] = 0x12345678;
    CHECK_TOUCHED(3, READ, at);
    CHECK_EQ(get_entry(1, test) & (A | D), A);
    CHECK_EQ(*(volatile uint32_t *)at, 0x12345678);
    CHECK_TOUCHED(3, WRITE, at);
    CHECK_EQ(get_entry(1, test) & (A | D), A | D);
    set_entry(1, test, base | P | W | LARGE);
    CHECK_FAULTS(3, READ, at, E_P | E_U);
    set_entry(1, test, base | P | U | LARGE);
    CHECK_FAULTS(3, WRITE, at, E_P | E_U | E_W);
    if (paging_wide) {
        set_entry(1, test, base | P | W | U | LARGE | 1 << 13); /* below the frame: reserved */
        CHECK_FAULTS(3, READ, at, E_P | E_U | E_RSVD);
        CHECK_FAULTS(0, WRITE, at, E_P | E_W | E_RSVD);
    }
    set_entry(1, test, was);
}

/* Pages of 4 KiB within a large one. */
enum { PARTS = 4 };
static unsigned long part(unsigned i)
{
    static const unsigned long at[PARTS] = {0, 0x1000, 0x123000, 0x1ff000};
    return at[i] + (i == 3 && !paging_wide ? 2 << 20 : 0);
}

static uint32_t mark(unsigned place, unsigned i)
{
    return 0x1000 * (place + 1) + i;
}

/* Each part has code that says which it is: MOV EAX, mark; INT DONE. */
static void write_places(void)
{
    for (unsigned place = 0; place < 2; place++)
        for (unsigned i = 0; i < PARTS; i++) {
            uint8_t *p = (uint8_t *)(PLACES + place * PLACE_SIZE + part(i));
            uint32_t m = mark(place, i);
            p[0] = 0xb8;
            memcpy(p + 1, &m, sizeof m);
            p[5] = 0xcd;
            p[6] = DONE;
        }
}

static void check_place(unsigned long at, unsigned place)
{
    for (unsigned level = 0; level <= 3; level += 3)
        for (unsigned i = 0; i < PARTS; i++) {
            CHECK_EQ(read_at(level, at + part(i) + 1), mark(place, i));
            CHECK_EQ(run_at(level, at + part(i)), mark(place, i));
        }
}

/* SDM 3, 4.10.4.1: by whatever address of a page, all that is known of it is forgotten. */
void invlpg_takes_all(unsigned level, unsigned long at, uint64_t first, uint64_t second)
{
    static const unsigned long where[] = {0x5, 0x1ff800, 0x180000};
    write_places();
    for (unsigned i = 0; i < sizeof where / sizeof where[0]; i++) {
        set_entry(level, at, first);
        check_place(at, 0);
        put_entry(level, at, second);
        invlpg(at + where[i]);
        check_place(at, 1);
        put_entry(level, at, first);
        invlpg(at + where[i]);
        check_place(at, 0);
    }
}

void large_pages_go_with_invlpg(void)
{
    uint64_t was = get_entry(1, test), bits = P | W | U | LARGE;
    write_cr4(read_cr4() | CR4_PSE);
    invlpg_takes_all(1, test, PLACES | bits, (PLACES + PLACE_SIZE) | bits);
    set_entry(1, test, was);
}

void execute_disable(void)
{
    if (!paging_wide)
        return;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    map(P | W | U | NX);
    CHECK_TOUCHED(3, READ, test);
    CHECK_TOUCHED(3, WRITE, test);
    CHECK_FAULTS(3, EXECUTE, test, E_P | E_U | E_I);
    CHECK_FAULTS(0, EXECUTE, test, E_P | E_I);
    map(0);
    CHECK_FAULTS(3, EXECUTE, test, E_U | E_I);
    map(P | W | U);
    uint64_t was = get_entry(1, test);
    set_entry(1, test, was | NX);
    CHECK_FAULTS(3, EXECUTE, test, E_P | E_U | E_I);
    set_entry(1, test, was);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_NXE);
    map(P | W | U | NX); /* now it is reserved */
    CHECK_FAULTS(3, READ, test, E_P | E_U | E_RSVD);
    map(0);
    CHECK_FAULTS(3, EXECUTE, test, E_U); /* and fetches don't show */
}

void reserved_bits(void)
{
    if (!paging_wide)
        return;
    unsigned bits = features(0x80000008, 0) & 0xff;
    if (bits > 51)
        return;
    map(P | W | U);
    set_entry(0, test, get_entry(0, test) | 1ull << bits);
    CHECK_FAULTS(3, READ, test, E_P | E_U | E_RSVD);
    CHECK_FAULTS(0, WRITE, test, E_P | E_W | E_RSVD);
    set_entry(0, test, (frame_of(0) | 1ull << bits) & ~(uint64_t)P);
    CHECK_FAULTS(3, READ, test, E_U);
    map(P | W | U);
    uint64_t was = get_entry(1, test);
    set_entry(1, test, was | 1ull << bits);
    CHECK_FAULTS(3, READ, test, E_P | E_U | E_RSVD);
    set_entry(1, test, was);
}

/* A long instruction whose end is on a page that is not there. */
void fetches_across_pages(void)
{
    static const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0xcd, DONE};
    map(P | W | U);
    memcpy(&test_frame[0][4093], code, 3);
    memcpy(&test_frame[1][0], code + 3, sizeof code - 3);
    struct outcome o = touch(3, EXECUTE, test + 4093);
    CHECK_EQ(o.vector, DONE);
    set_entry(0, next, 0);
    o = touch(3, EXECUTE, test + 4093);
    CHECK(outcome_is(o, PF, E_U, next));
}

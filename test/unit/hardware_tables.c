/*
 * Copies of page tables: which changes KVM has to be told of.
 */
#include "engine/hardware/tables.h"

#include "base/bits.h"
#include "test.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80 };
enum { PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, PT = 0x4000, PAGE = 0x8000, OTHER = 0x9000 };
enum { RAM = 4 << 20 };

struct fixture {
    struct memory memory;
    struct tables *tables;
};

static void set(struct fixture *f, uint64_t table, unsigned i, uint64_t entry)
{
    memory_write(&f->memory, table + 8 * i, &entry, sizeof entry);
}

static bool right(struct fixture *f)
{
    return tables_still_right(f->tables, PML4);
}

/* One page at address 0. */
static bool open_fixture(struct fixture *f)
{
    struct error err;
    if (!memory_create(&f->memory, RAM, &err))
        return false;
    f->tables = tables_new(&f->memory);
    set(f, PML4, 0, PDPT | P | W | U);
    set(f, PDPT, 0, PD | P | W | U);
    set(f, PD, 0, PT | P | W | U);
    set(f, PT, 0, PAGE | P | W | U);
    return f->tables && right(f) && right(f);
}

static void close_fixture(struct fixture *f)
{
    tables_free(f->tables);
    memory_destroy(&f->memory);
}

/* Whether KVM's translations survive the change of one entry. */
static bool survives(uint64_t table, unsigned i, uint64_t was, uint64_t is)
{
    struct fixture f;
    CHECK(open_fixture(&f));
    set(&f, table, i, was);
    right(&f);
    CHECK(right(&f));
    set(&f, table, i, is);
    bool did = right(&f);
    CHECK(right(&f)); /* once is enough */
    close_fixture(&f);
    return did;
}

TEST(what_was_not_there_can_come)
{
    CHECK(survives(PT, 5, 0, OTHER | P | U));
    CHECK(survives(PT, 5, 0x123000, OTHER | P | U)); /* a page that was swapped out */
    CHECK(survives(PD, 7, 0, OTHER | P | U));
    CHECK(survives(PML4, 3, 0, OTHER | P | U));
}

TEST(what_was_there_can_not_change)
{
    CHECK(!survives(PT, 0, PAGE | P | W | U, 0));
    CHECK(!survives(PT, 0, PAGE | P | W | U, OTHER | P | W | U));
    CHECK(!survives(PT, 0, PAGE | P | W | U, PAGE | P | U)); /* fork */
    CHECK(!survives(PT, 511, PAGE | P | U, 0));
    CHECK(!survives(PD, 0, PT | P | W | U, OTHER | P | W | U));
    CHECK(!survives(PML4, 255, PDPT | P | U, 0));
    CHECK(!survives(PD, 9, P | U | PS, P | U | W | PS));
}

TEST(accessed_and_dirty_are_set_but_not_cleared)
{
    CHECK(survives(PT, 0, PAGE | P | W | U, PAGE | P | W | U | A | D));
    CHECK(!survives(PT, 0, PAGE | P | W | U | A | D, PAGE | P | W | U | A));
    CHECK(!survives(PT, 0, PAGE | P | W | U | A | D, PAGE | P | W | U | D));
}

TEST(the_systems_half_does_not_matter)
{
    CHECK(survives(PML4, 256, PDPT | P | W, 0));
    CHECK(survives(PML4, 511, PDPT | P | W | U, 0));
}

/* A table that only the system can reach is not looked into. */
TEST(tables_without_users_are_left_out)
{
    struct fixture f;
    CHECK(open_fixture(&f));
    set(&f, PML4, 1, 0x5000 | P | W);
    set(&f, 0x5000, 0, PD | P | W | U);
    CHECK(right(&f));
    set(&f, 0x5000, 0, 0);
    CHECK(right(&f));
    close_fixture(&f);
}

/* A page that was a table of one process and is one of another's. */
TEST(tables_are_known_whoever_has_them)
{
    enum { SECOND = 0x6000 };
    struct fixture f;
    CHECK(open_fixture(&f));
    set(&f, SECOND, 0, 0x7000 | P | W | U);
    set(&f, 0x7000, 0, PD | P | W | U);
    CHECK(tables_still_right(f.tables, SECOND));
    set(&f, PT, 0, OTHER | P | U);
    CHECK(!tables_still_right(f.tables, SECOND));
    CHECK(right(&f)); /* KVM has forgotten all */
    close_fixture(&f);
}

/* Every entry of every table leads to a table, itself among them: more than there are copies. */
TEST(hostile_tables_come_to_an_end)
{
    struct fixture f;
    CHECK(open_fixture(&f));
    for (unsigned i = 0; i < 512; i++)
        set(&f, PML4, i, PML4 | P | W | U);
    right(&f);
    CHECK(right(&f));
    for (uint64_t at = PML4; at < RAM; at += 8)
        memory_write(&f.memory, at, &(uint64_t){((at << 9) & (RAM - 0x1000)) | P | W | U}, 8);
    for (unsigned i = 0; i < 3; i++)
        CHECK(!right(&f)); /* KVM forgets every time */
    CHECK(tables_still_right(f.tables, RAM));
    CHECK(tables_still_right(f.tables, ~UINT64_C(0)));
    close_fixture(&f);
}

TESTS(T(what_was_not_there_can_come), T(what_was_there_can_not_change),
      T(accessed_and_dirty_are_set_but_not_cleared), T(the_systems_half_does_not_matter),
      T(tables_without_users_are_left_out), T(tables_are_known_whoever_has_them),
      T(hostile_tables_come_to_an_end))

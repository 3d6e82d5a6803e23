/*
 * What a cage is known to hold.
 */
#include "test.h"

#include "engine/binary/cage.h"
#include "engine/binary/mirror.h"
#include "engine/binary/table.h"

enum { MANY = 100000 };
static const uint64_t first = 0x7f0000001000, page_size = 4096;

static uint64_t nth(unsigned n)
{
    return first + n * 3 * page_size;
}

static bool put(struct mirror *m, uint64_t va, uint32_t page, unsigned rights)
{
    return mirror_put(m, &(struct mirror_page){.va = va, .page = page, .rights = rights & 15});
}

TEST(nothing_is_there_at_first)
{
    struct mirror m = {0};
    CHECK(!mirror_at(&m, table_index(first)));
    mirror_clear(&m);
}

TEST(pages_are_found_however_many)
{
    struct mirror m = {0};
    for (unsigned n = 0; n < MANY; n++)
        CHECK(put(&m, nth(n), n, CAGE_READ));
    CHECK_EQ(m.used, MANY);
    CHECK(m.room >= 2 * MANY);
    for (unsigned n = 0; n < MANY; n++) {
        const struct mirror_page *p = mirror_at(&m, table_index(nth(n)));
        CHECK(p && p->va == nth(n) && p->page == n && p->rights == CAGE_READ);
    }
    CHECK(!mirror_at(&m, table_index(nth(0) + page_size)));
    mirror_clear(&m);
    CHECK(!mirror_at(&m, table_index(nth(5))));
    CHECK_EQ(m.used, 0);
}

TEST(a_page_takes_the_place_of_the_one_before)
{
    struct mirror m = {0};
    uint64_t other = first ^ UINT64_C(1) << 45; /* the same 32 bits */
    CHECK(put(&m, first, 1, CAGE_READ));
    CHECK(put(&m, first, 2, CAGE_READ | CAGE_WRITE));
    CHECK_EQ(mirror_at(&m, table_index(first))->page, 2);
    CHECK(put(&m, other, 3, CAGE_EXECUTE));
    CHECK_EQ(m.used, 1);
    CHECK_EQ(mirror_at(&m, table_index(first))->va, other);
    mirror_clear(&m);
}

/* They keep their places until there is no more room. */
TEST(pages_that_are_gone_are_dropped)
{
    struct mirror m = {0};
    for (unsigned n = 0; n < MANY; n++) {
        CHECK(put(&m, nth(n), n, CAGE_READ));
        if (n % 100)
            mirror_at(&m, table_index(nth(n)))->rights = 0;
    }
    for (unsigned n = 0; n < MANY; n++)
        CHECK_EQ(mirror_at(&m, table_index(nth(n))) != NULL, n % 100 == 0);
    CHECK(m.used < MANY);
    mirror_clear(&m);
}

TESTS(T(nothing_is_there_at_first), T(pages_are_found_however_many),
      T(a_page_takes_the_place_of_the_one_before), T(pages_that_are_gone_are_dropped))

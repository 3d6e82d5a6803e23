/* Which large pages translations were kept from: each is found by all addresses in it and no other,
 * until it is removed; too many are everywhere. */
#include "x86/large_pages.h"

#include "base/bits.h"
#include "test.h"

#define LIN UINT64_C(0xffff888012345678)

static struct large_pages pages;

static void begin(void)
{
    large_pages_clear(&pages);
}

TEST(a_page_is_found_by_every_address_in_it)
{
    static const unsigned sizes[] = {PAGE_2M_BITS, PAGE_4M_BITS, PAGE_1G_BITS};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        uint64_t first = LIN & ~bits_mask(sizes[i]), last = first + bits_mask(sizes[i]);
        begin();
        CHECK_EQ(large_pages_find(&pages, LIN), PAGE_4K_BITS);
        large_pages_add(&pages, LIN, sizes[i]);
        CHECK_EQ(large_pages_find(&pages, first), sizes[i]);
        CHECK_EQ(large_pages_find(&pages, last), sizes[i]);
        CHECK_EQ(large_pages_find(&pages, first - 1), PAGE_4K_BITS);
        CHECK_EQ(large_pages_find(&pages, last + 1), PAGE_4K_BITS);
        CHECK_EQ(large_pages_find(&pages, LIN & bits_mask(47)), PAGE_4K_BITS);
    }
}

TEST(the_largest_is_found)
{
    begin();
    large_pages_add(&pages, LIN, PAGE_2M_BITS);
    large_pages_add(&pages, LIN, PAGE_1G_BITS);
    CHECK_EQ(large_pages_find(&pages, LIN), PAGE_1G_BITS);
    large_pages_remove(&pages, LIN, PAGE_1G_BITS);
    CHECK_EQ(large_pages_find(&pages, LIN), PAGE_2M_BITS);
}

TEST(a_page_that_was_removed_may_come_again)
{
    begin();
    large_pages_remove(&pages, LIN, PAGE_2M_BITS);
    for (unsigned i = 0; i < 2; i++) {
        large_pages_add(&pages, LIN, PAGE_2M_BITS);
        CHECK_EQ(large_pages_find(&pages, LIN), PAGE_2M_BITS);
        large_pages_remove(&pages, LIN, PAGE_2M_BITS);
        CHECK_EQ(large_pages_find(&pages, LIN), PAGE_4K_BITS);
    }
    CHECK_EQ(pages.count, 1);
}

static uint64_t nth(unsigned i)
{
    return LIN + ((uint64_t)i << PAGE_2M_BITS);
}

/* Some are in each other's places. */
TEST(what_is_removed_hides_no_other)
{
    begin();
    for (unsigned i = 0; i < LARGE_PAGES_MOST; i++)
        large_pages_add(&pages, nth(i), PAGE_2M_BITS);
    for (unsigned i = 0; i < LARGE_PAGES_MOST; i += 2)
        large_pages_remove(&pages, nth(i), PAGE_2M_BITS);
    unsigned wrong = 0;
    for (unsigned i = 0; i < LARGE_PAGES_MOST; i++)
        wrong += large_pages_find(&pages, nth(i)) != (i % 2 ? PAGE_2M_BITS : PAGE_4K_BITS);
    CHECK_EQ(wrong, 0);
}

TEST(too_many_are_everywhere)
{
    begin();
    for (unsigned i = 0; i < LARGE_PAGES_MOST; i++)
        large_pages_add(&pages, nth(i), PAGE_2M_BITS);
    large_pages_add(&pages, nth(0), PAGE_2M_BITS);
    CHECK_EQ(large_pages_find(&pages, nth(LARGE_PAGES_MOST)), PAGE_4K_BITS);
    large_pages_add(&pages, nth(LARGE_PAGES_MOST), PAGE_2M_BITS);
    CHECK_EQ(large_pages_find(&pages, nth(LARGE_PAGES_MOST)), PAGE_1G_BITS);
    CHECK_EQ(large_pages_find(&pages, 0), PAGE_1G_BITS);
    begin();
    CHECK_EQ(large_pages_find(&pages, nth(0)), PAGE_4K_BITS);
}

TESTS(T(a_page_is_found_by_every_address_in_it), T(the_largest_is_found),
      T(a_page_that_was_removed_may_come_again), T(what_is_removed_hides_no_other),
      T(too_many_are_everywhere))

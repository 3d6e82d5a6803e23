/*
 * Address spaces as translated code keeps them: what is known of branch targets is forgotten when
 * it has to be, in every space, and kept when it may be.
 */
#include "test.h"

#include "engine/binary/space.h"
#include "memory/memory.h"

enum { RAM = 4 << 20, RIP = 0x401000 };

/* What stands for host code: a block, its entry for those who have not compared, and a lookup. */
static void *target, *own, *lookup;

struct house {
    struct memory memory;
    struct windows windows;
    struct spaces spaces;
};

static bool open_house(struct house *h)
{
    struct error err;
    return memory_create(&h->memory, RAM, &err) && windows_create(&h->windows, &h->memory, &err) &&
           spaces_create(&h->spaces, &h->windows, &lookup, &err);
}

static void close_house(struct house *h)
{
    spaces_destroy(&h->spaces);
    windows_destroy(&h->windows);
    memory_destroy(&h->memory);
}

#define WITH_HOUSE(h)                                                                              \
    static struct house h;                                                                         \
    if (!open_house(&h))                                                                           \
    SKIP("the host has no room for flat tables")

/* A user's branch in a page that is global or not, and in another space. */
static void remember(struct house *h, bool global)
{
    spaces_switch(&h->spaces, 1, true);
    jumps_remember(spaces_jumps(&h->spaces, true), RIP, &target, &own, global);
    CHECK(jumps_find(spaces_jumps(&h->spaces, true), RIP) == &target);
    spaces_switch(&h->spaces, 2, true);
    jumps_remember(spaces_jumps(&h->spaces, true), RIP, &target, &own, global);
}

static bool knows(struct house *h, unsigned pcid)
{
    spaces_switch(&h->spaces, pcid, true);
    const struct jumps *j = spaces_jumps(&h->spaces, true);
    bool known = jumps_find(j, RIP);
    CHECK(j->area->next[jump_next_slot(RIP)] == (known ? (void *)&own : (void *)&lookup));
    return known;
}

/* The code that they lead to is gone: nobody may keep one. */
TEST(recycled_code_is_forgotten_in_every_space)
{
    WITH_HOUSE(h);
    for (unsigned global = 0; global < 2; global++) {
        remember(&h, global);
        spaces_forget_jumps(&h.spaces);
        CHECK(!knows(&h, 1));
        CHECK(!knows(&h, 2));
    }
    close_house(&h);
}

TEST(a_flush_of_everything_takes_global_pages_along)
{
    WITH_HOUSE(h);
    for (unsigned global = 0; global < 2; global++) {
        remember(&h, global);
        spaces_forget(&h.spaces);
        CHECK(!knows(&h, 1));
        CHECK(!knows(&h, 2));
    }
    close_house(&h);
}

TEST(a_space_that_is_kept_knows_its_targets)
{
    WITH_HOUSE(h);
    remember(&h, false);
    CHECK(knows(&h, 1));
    CHECK(knows(&h, 2));
    spaces_switch(&h.spaces, 2, false);
    CHECK(!jumps_find(spaces_jumps(&h.spaces, true), RIP));
    CHECK(knows(&h, 1));
    close_house(&h);
}

/* Bound code leads from global pages straight to others, which may be somewhere else now. */
TEST(a_space_that_is_not_kept_knows_no_target_of_a_global_page)
{
    WITH_HOUSE(h);
    remember(&h, true);
    spaces_switch(&h.spaces, 2, false);
    CHECK(!jumps_find(spaces_jumps(&h.spaces, true), RIP));
    remember(&h, true);
    spaces_forget_user_jumps(space_now(&h.spaces));
    CHECK(!jumps_find(spaces_jumps(&h.spaces, true), RIP));
    close_house(&h);
}

/* Another address in a page of its own, with the same entry. */
static uint64_t with_same_entry(void)
{
    uint64_t rip = RIP + MEMORY_PAGE_SIZE;
    while (jump_slot(rip) != jump_slot(RIP) || jump_next_slot(rip) == jump_next_slot(RIP))
        rip++;
    return rip;
}

/* What lost its entry to another may still be where bound code leads to. */
TEST(a_flush_of_a_page_finds_what_has_no_entry_any_more)
{
    WITH_HOUSE(h);
    spaces_switch(&h.spaces, 1, true);
    struct jumps *j = spaces_jumps(&h.spaces, true);
    for (unsigned how = 0; how < 3; how++) {
        jumps_remember(j, RIP, &target, &own, false);
        jumps_remember(j, with_same_entry(), &target, &own, false);
        CHECK(!jumps_find(j, RIP));
        CHECK(j->area->next[jump_next_slot(RIP)] == (void *)&own);
        if (how == 0)
            spaces_forget_page(&h.spaces, RIP);
        else if (how == 1)
            spaces_switch(&h.spaces, 1, false);
        else
            jumps_forget(j, RIP);
        CHECK(j->area->next[jump_next_slot(RIP)] == (void *)&lookup);
    }
    close_house(&h);
}

/* In every space, whether code is in few pages of it or in many. */
TEST(a_flush_of_a_large_page_takes_all_code_in_it)
{
    enum { SIZE = 1 << PAGE_2M_BITS, FIRST = RIP & ~(SIZE - 1) };
    WITH_HOUSE(h);
    for (unsigned pages = 1; pages <= 64; pages *= 8) {
        for (unsigned i = 0; i <= pages; i++)
            for (unsigned pcid = 1; pcid < 3; pcid++) {
                spaces_switch(&h.spaces, pcid, true);
                jumps_remember(spaces_jumps(&h.spaces, true), FIRST + SIZE / pages * i, &target,
                               &own, false);
            }
        jumps_remember(&h.spaces.kernel, RIP, &target, &own, true);
        jumps_remember(&h.spaces.kernel, FIRST - 8, &target, &own, true); /* runs into it */
        spaces_forget_large_page(&h.spaces, FIRST, PAGE_2M_BITS);
        CHECK(!jumps_find(&h.spaces.kernel, RIP));
        CHECK(!jumps_find(&h.spaces.kernel, FIRST - 8));
        for (unsigned pcid = 1; pcid < 3; pcid++) {
            spaces_switch(&h.spaces, pcid, true);
            const struct jumps *j = spaces_jumps(&h.spaces, true);
            for (unsigned i = 0; i < pages; i++)
                CHECK(!jumps_find(j, FIRST + SIZE / pages * i));
            CHECK(!jumps_find(j, FIRST + SIZE) == (pages > 1));
        }
    }
    close_house(&h);
}

/* Other vCPUs' flushes ask that, who have not walked to the pages themselves. */
TEST(a_mapping_knows_its_large_pages)
{
    static struct bound m;
    m.tag = 1;
    CHECK(bound_add(&m, RIP, 0x1000, true));
    bound_part_of(&m, RIP, PAGE_4K_BITS);
    CHECK(bound_may_go_with(&m, RIP));
    CHECK(!bound_may_go_with(&m, RIP + MEMORY_PAGE_SIZE));
    bound_part_of(&m, RIP, PAGE_2M_BITS);
    CHECK(bound_may_go_with(&m, RIP + MEMORY_PAGE_SIZE));
    CHECK(!bound_may_go_with(&m, RIP + (1 << PAGE_2M_BITS)));
    bound_end(&m);
    CHECK(!bound_may_go_with(&m, RIP));
    CHECK(!bound_may_go_with(&m, RIP + MEMORY_PAGE_SIZE));
}

/* What a table would hold takes 768 KiB in each of nine spaces of each vCPU. */
TEST(a_space_without_targets_has_no_table)
{
    WITH_HOUSE(h);
    for (unsigned pcid = 1; pcid < 3; pcid++) {
        spaces_switch(&h.spaces, pcid, false);
        spaces_forget_user_jumps(space_now(&h.spaces));
        jumps_forget(spaces_jumps(&h.spaces, true), RIP);
        CHECK(!spaces_jumps(&h.spaces, true)->area->next[0]);
        CHECK(!jumps_find(spaces_jumps(&h.spaces, true), 0));
    }
    remember(&h, false);
    CHECK(spaces_jumps(&h.spaces, true)->area->next[0] == (void *)&lookup);
    close_house(&h);
}

TESTS(T(a_space_without_targets_has_no_table), T(a_flush_of_a_large_page_takes_all_code_in_it),
      T(a_mapping_knows_its_large_pages), T(a_flush_of_a_page_finds_what_has_no_entry_any_more),
      T(recycled_code_is_forgotten_in_every_space),
      T(a_flush_of_everything_takes_global_pages_along), T(a_space_that_is_kept_knows_its_targets),
      T(a_space_that_is_not_kept_knows_no_target_of_a_global_page))

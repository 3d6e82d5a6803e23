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

TESTS(T(recycled_code_is_forgotten_in_every_space),
      T(a_flush_of_everything_takes_global_pages_along), T(a_space_that_is_kept_knows_its_targets),
      T(a_space_that_is_not_kept_knows_no_target_of_a_global_page))

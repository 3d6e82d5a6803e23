#include "device_fixture.h"

struct echo {
    uint64_t offset, value;
    unsigned size, calls;
};

static uint64_t echo_read(void *device, uint64_t offset, unsigned size)
{
    struct echo *e = device;
    e->offset = offset;
    e->size = size;
    e->calls++;
    return 0x1122334455667788 + offset;
}

static void echo_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct echo *e = device;
    *e = (struct echo){offset, value, size, e->calls + 1};
}

static const struct bus_ops wide = {echo_read, echo_write, 0};
static const struct bus_ops narrow = {echo_read, echo_write, 1};

TEST(finds_regions_and_refuses_overlaps)
{
    struct bus b = {0};
    struct echo e = {0};
    CHECK(bus_add(&b, "c", 0x300, 0x10, &wide, &e, NULL));
    CHECK(bus_add(&b, "a", 0x100, 0x10, &wide, &e, NULL));
    CHECK(bus_add(&b, "b", 0x200, 0x10, &wide, &e, NULL));
    CHECK(!bus_add(&b, "x", 0x1f8, 0x10, &wide, &e, NULL));
    CHECK(!bus_add(&b, "x", 0x20f, 1, &wide, &e, NULL));
    CHECK(!bus_add(&b, "x", 0, 0x1000, &wide, &e, NULL));
    CHECK(!bus_add(&b, "x", 0x400, 0, &wide, &e, NULL));
    CHECK(!bus_add(&b, "x", UINT64_MAX, 2, &wide, &e, NULL));
    CHECK(bus_add(&b, "end", UINT64_MAX, 1, &wide, &e, NULL));
    CHECK(bus_find(&b, 0x20f) && bus_find(&b, 0x20f)->base == 0x200);
    CHECK(!bus_find(&b, 0x210));
    CHECK(!bus_find(&b, 0xff));
    bus_remove(&b, 0x200);
    CHECK(!bus_find(&b, 0x200));
    CHECK(bus_find(&b, 0x300));
    bus_remove(&b, 0x201); /* no region begins there */
    CHECK_EQ(b.count, 3);
}

TEST(fills_up_with_a_sentence)
{
    struct bus b = {0};
    struct error err = {0};
    for (unsigned i = 0; i < BUS_REGIONS; i++)
        CHECK(bus_add(&b, "r", i * 16, 16, &wide, NULL, &err));
    CHECK(!bus_add(&b, "one too many", 0x10000, 1, &wide, NULL, &err));
    CHECK(strstr(err.text, "one too many") != NULL);
}

TEST(splits_what_a_device_cannot_take)
{
    struct bus b = {0};
    struct echo e = {0}, f = {0};
    bus_add(&b, "narrow", 0x10, 4, &narrow, &e, NULL);
    bus_add(&b, "wide", 0x14, 4, &wide, &f, NULL);
    CHECK_EQ(bus_read(&b, 0x10, 4), 0x8b8a8988);
    CHECK_EQ(e.calls, 4);
    CHECK_EQ(bus_read(&b, 0x12, 4), 0x77888b8a); /* half of it the other's, in one access */
    CHECK_EQ(f.calls, 1);
    CHECK_EQ(f.size, 2);
    bus_write(&b, 0x13, 2, 0xabcd);
    CHECK_EQ(e.value, 0xcd);
    CHECK_EQ(f.value, 0xab);
    CHECK_EQ(f.offset, 0);
}

TEST(unclaimed_addresses_read_ones)
{
    struct bus b = {0};
    struct echo e = {0};
    bus_add(&b, "r", 0x12, 1, &narrow, &e, NULL);
    CHECK_EQ(bus_read(&b, 0x80, 2), 0xffff);
    CHECK_EQ(bus_read(&b, 0x80, 8), UINT64_MAX);
    CHECK_EQ(bus_read(&b, 0x11, 2), 0x88ff);
    CHECK_EQ(bus_read(&b, 0x11, 1), 0xff);
    bus_write(&b, 0x10, 4, 0x44332211);
    CHECK_EQ(e.calls, 2);
}

/* ---- the clock ---- */

static unsigned fired[8], fired_count;

static void note(void *ctx)
{
    fired[fired_count++ % 8] = (unsigned)(uintptr_t)ctx;
}

TEST(timers_fire_in_order)
{
    struct clock c;
    struct timer t[4];
    fixture_clock(&c);
    fired_count = 0;
    for (unsigned i = 0; i < 4; i++)
        timer_init(&t[i], &c, note, (void *)(uintptr_t)i);
    timer_set(&t[0], 400);
    timer_set(&t[1], 100);
    timer_set(&t[2], 300);
    timer_set(&t[3], 200);
    timer_set(&t[0], 50); /* moved */
    timer_cancel(&t[3]);
    CHECK_EQ(clock_next(&c), 50);
    fixture_time = 99;
    clock_fire(&c);
    CHECK_EQ(fired_count, 1);
    CHECK_EQ(fired[0], 0);
    fixture_time = 1000;
    clock_fire(&c);
    CHECK_EQ(fired_count, 3);
    CHECK_EQ(fired[1], 1);
    CHECK_EQ(fired[2], 2);
    CHECK_EQ(clock_next(&c), CLOCK_NEVER);
}

TEST(heap_keeps_order_under_random_changes)
{
    static struct clock c;
    static struct timer t[CLOCK_TIMERS + 4];
    uint32_t seed = 1;
    fixture_clock(&c);
    for (unsigned i = 0; i < CLOCK_TIMERS + 4; i++)
        timer_init(&t[i], &c, note, NULL);
    for (unsigned n = 0; n < 20000; n++) {
        seed = seed * 1664525 + 1013904223;
        struct timer *x = &t[(seed >> 8) % (CLOCK_TIMERS + 4)];
        if (seed & 0x80)
            timer_cancel(x);
        else
            timer_set(x, seed >> 12);
        uint64_t earliest = CLOCK_NEVER;
        unsigned set = 0;
        for (unsigned i = 0; i < CLOCK_TIMERS + 4; i++) {
            set += t[i].slot != 0;
            if (t[i].slot && t[i].deadline < earliest)
                earliest = t[i].deadline;
        }
        if (set != c.count || earliest != clock_next(&c)) {
            CHECK_EQ(set, c.count);
            CHECK_EQ(clock_next(&c), earliest);
            return;
        }
    }
}

static void again(void *ctx)
{
    struct timer *t = ctx;
    fired_count++;
    timer_set(t, 0); /* always due */
}

TEST(a_timer_that_is_always_due_ends)
{
    struct clock c;
    struct timer t;
    fixture_clock(&c);
    timer_init(&t, &c, again, &t);
    fired_count = 0;
    timer_set(&t, 0);
    clock_fire(&c);
    CHECK(fired_count > 0);
    CHECK_EQ(clock_next(&c), 0); /* and waits for the next call */
}

TEST(stopping_holds_guest_time)
{
    struct clock c;
    fixture_clock(&c);
    fixture_time = 1000;
    clock_stop(&c);
    fixture_time = 5000;
    CHECK_EQ(clock_now(&c), 1000);
    clock_start(&c);
    CHECK_EQ(clock_now(&c), 1000);
    fixture_time = 5500;
    CHECK_EQ(clock_now(&c), 1500);
}

TEST(ticks_and_nanoseconds_agree)
{
    const uint64_t hz[] = {32768, 1193182, 3579545, 1000000000, 2500000000};
    for (unsigned i = 0; i < 5; i++) {
        for (uint64_t n = 1; n < UINT64_C(1) << 60 && n / hz[i] < UINT64_C(500) * 365 * 86400;
             n = n * 3 + 1) {
            uint64_t ns = clock_ticks_to_ns(n, hz[i]);
            CHECK(clock_ns_to_ticks(ns, hz[i]) >= n);
            CHECK(clock_ns_to_ticks(ns - 1, hz[i]) < n);
        }
    }
    uint64_t years = UINT64_C(500) * 365 * 86400 * 1000000000;
    CHECK_EQ(clock_ns_to_ticks(years, 1000000000), years);
}

TESTS(T(finds_regions_and_refuses_overlaps), T(fills_up_with_a_sentence),
      T(splits_what_a_device_cannot_take), T(unclaimed_addresses_read_ones),
      T(timers_fire_in_order), T(heap_keeps_order_under_random_changes),
      T(a_timer_that_is_always_due_ends), T(stopping_holds_guest_time),
      T(ticks_and_nanoseconds_agree))

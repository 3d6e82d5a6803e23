#include "device/rtc.h"

#include <time.h>

#include "device_fixture.h"

static struct clock clk;
static struct bus bus;
static struct rtc rtc;
static struct fixture_line irq8;

#define S UINT64_C(1000000000)

enum { A = 10, B = 11, C = 12, D = 13, CENTURY = 0x32 };
enum { SET = 0x80, PIE = 0x40, AIE = 0x20, UIE = 0x10, DM = 4, H24 = 2 };

static void setup(int64_t epoch_s)
{
    fixture_clock(&clk);
    clk.epoch_ns = epoch_s * (int64_t)S;
    bus = (struct bus){0};
    irq8 = (struct fixture_line){0};
    rtc_init(&rtc, &clk, fixture_line(&irq8));
    rtc_attach(&rtc, &bus, NULL);
}

static uint8_t get(uint8_t reg)
{
    out8(&bus, 0x70, reg);
    return in8(&bus, 0x71);
}

static void put(uint8_t reg, uint8_t value)
{
    out8(&bus, 0x70, reg);
    out8(&bus, 0x71, value);
}

TEST(shows_the_right_time_over_400_years)
{
    /* Against the host's calendar, day by day with a stride that meets every date. */
    for (int64_t day = 0; day < 292 * 365; day += 7) {
        time_t t = (time_t)(day * 86400 + 45296);
        struct tm tm;
        setup(t);
        put(B, DM | H24);
        gmtime_r(&t, &tm);
        bool right = get(0) == tm.tm_sec && get(2) == tm.tm_min && get(4) == tm.tm_hour &&
                     get(6) == tm.tm_wday + 1 && get(7) == tm.tm_mday && get(8) == tm.tm_mon + 1 &&
                     get(9) == tm.tm_year % 100 && get(CENTURY) == 19 + tm.tm_year / 100;
        if (!right)
            printf("# wrong on day %lld\n", (long long)day);
        CHECK(right);
    }
}

TEST(leap_days)
{
    setup(951782400 - 1); /* a second before 2000-02-29 */
    CHECK_EQ(get(7), 0x28);
    fixture_go(&clk, S);
    CHECK_EQ(get(7), 0x29);
    CHECK_EQ(get(8), 0x02);
    fixture_go(&clk, S + 86400 * S);
    CHECK_EQ(get(7), 0x01);
    CHECK_EQ(get(8), 0x03);
    /* 2100 is no leap year: set it and step over the end of February. */
    put(CENTURY, 0x21);
    put(9, 0x00);
    put(8, 0x02);
    put(7, 0x28);
    fixture_go(&clk, S + 2 * 86400 * S);
    CHECK_EQ(get(8), 0x03);
    CHECK_EQ(get(7), 0x01);
}

TEST(bcd_and_12_hours)
{
    setup(1700000000); /* 2023-11-14 22:13:20 */
    CHECK_EQ(get(B), H24);
    CHECK_EQ(get(4), 0x22);
    CHECK_EQ(get(9), 0x23);
    CHECK_EQ(get(CENTURY), 0x20);
    put(B, 0);
    CHECK_EQ(get(4), 0x90); /* 10 PM */
    put(B, DM);
    CHECK_EQ(get(4), 0x8a);
    put(4, 12); /* 12 AM */
    put(B, H24 | DM);
    CHECK_EQ(get(4), 0);
    put(B, 0);
    put(4, 0x92); /* 12 PM */
    put(B, H24);
    CHECK_EQ(get(4), 0x12);
}

TEST(setting_the_time_as_linux_does)
{
    setup(1700000000);
    fixture_go(&clk, 300000000);
    put(B, SET | H24);
    put(A, 0x76); /* divider reset */
    put(9, 0x31);
    put(8, 0x12);
    put(7, 0x31);
    put(4, 0x23);
    put(2, 0x59);
    put(0, 0x58);
    put(CENTURY, 0x20);
    fixture_go(&clk, 5 * S);
    CHECK_EQ(get(0), 0x58); /* stands still */
    put(B, H24);
    CHECK_EQ(get(0), 0x58); /* the divider is still held */
    put(A, 0x26);
    fixture_go(&clk, 5 * S + S / 2 - 1);
    CHECK_EQ(get(0), 0x58);
    fixture_go(&clk, 5 * S + S / 2); /* the first update comes half a second later */
    CHECK_EQ(get(0), 0x59);
    fixture_go(&clk, 6 * S + S / 2);
    CHECK_EQ(get(0), 0x00);
    CHECK_EQ(get(7), 0x01);
    CHECK_EQ(get(8), 0x01);
    CHECK_EQ(get(9), 0x32);
}

TEST(nonsense_is_taken_as_some_time)
{
    setup(0);
    put(B, SET | DM | H24);
    for (uint8_t reg = 0; reg < 10; reg++)
        put(reg, 0xff);
    put(CENTURY, 0xff);
    put(B, DM | H24);
    CHECK(get(8) >= 1 && get(8) <= 12);
    CHECK(get(0) < 60);
    fixture_go(&clk, 1000000 * S);
    CHECK(get(4) < 24);
}

TEST(update_in_progress_comes_before_each_second)
{
    setup(1700000000);
    fixture_go(&clk, S - 244001);
    CHECK_EQ(get(A) & 0x80, 0);
    fixture_go(&clk, S - 100000);
    CHECK_EQ(get(A) & 0x80, 0x80);
    CHECK_EQ(get(0), 0x20);
    fixture_go(&clk, S);
    CHECK_EQ(get(A) & 0x80, 0);
    CHECK_EQ(get(0), 0x21);
    put(B, SET | H24);
    fixture_go(&clk, 2 * S - 100000);
    CHECK_EQ(get(A) & 0x80, 0); /* SET stops updates */
}

TEST(periodic_interrupts)
{
    setup(1700000000);
    put(A, 0x26); /* 1024 Hz */
    get(C);
    put(B, H24 | PIE);
    unsigned seen = 0;
    for (uint64_t t = 0; t <= S; t += 100000) {
        fixture_go(&clk, t);
        if (irq8.level) {
            CHECK_EQ(get(C) & 0xc0, 0xc0);
            seen++;
        }
    }
    CHECK_EQ(seen, 1024);
    put(B, H24);
    get(C);
    fixture_go(&clk, 2 * S - S / 4);
    CHECK(!irq8.level);
    CHECK_EQ(get(C) & 0xc0, 0x40); /* the flag comes without its interrupt, too */
}

TEST(update_interrupt_each_second)
{
    setup(1700000000);
    fixture_go(&clk, S / 4);
    get(C);
    put(B, H24 | UIE);
    fixture_go(&clk, S - 1);
    CHECK(!irq8.level);
    fixture_go(&clk, S);
    CHECK(irq8.level);
    CHECK_EQ(get(C) & 0xb0, 0x90);
    CHECK(!irq8.level);
    CHECK_EQ(get(C) & 0xb0, 0);
    fixture_go(&clk, 2 * S);
    CHECK_EQ(irq8.edges, 2);
    put(B, SET | H24 | UIE);
    CHECK_EQ(get(B) & UIE, 0); /* SET clears UIE */
}

TEST(alarms)
{
    setup(1700000000); /* 22:13:20 */
    put(1, 0x30);
    put(3, 0x13);
    put(5, 0x22);
    put(B, H24 | AIE);
    get(C);
    fixture_go(&clk, 9 * S);
    CHECK(!irq8.level);
    fixture_go(&clk, 10 * S);
    CHECK(irq8.level);
    CHECK_EQ(get(C) & 0xa0, 0xa0);
    fixture_go(&clk, 86409 * S);
    CHECK(!irq8.level);
    fixture_go(&clk, 86410 * S); /* again a day later */
    CHECK(irq8.level);
    get(C);
    put(5, 0xff); /* any hour */
    fixture_go(&clk, (86410 + 3600) * S);
    CHECK(irq8.level);
    get(C);
    put(3, 0xc0); /* any minute */
    put(1, 0xff); /* any second */
    fixture_go(&clk, (86410 + 3601) * S);
    CHECK(irq8.level);
    get(C);
    put(5, 0x77); /* no such hour */
    fixture_go(&clk, (86410 * 4) * S);
    CHECK(!irq8.level);
}

TEST(alarm_flag_without_interrupt)
{
    setup(1700000000);
    put(1, 0x25);
    put(3, 0x13);
    put(5, 0x22);
    get(C);
    fixture_time = 1000 * S; /* nobody woke in between */
    CHECK_EQ(get(C) & 0x30, 0x30);
    fixture_time = 2000 * S;
    CHECK_EQ(get(C) & 0x30, 0x10);
}

TEST(memory_and_its_sizes)
{
    setup(0);
    rtc_set_memory(&rtc, UINT64_C(3) << 30, UINT64_C(5) << 30);
    CHECK_EQ(get(0x15) | get(0x16) << 8, 640);
    CHECK_EQ(get(0x17) | get(0x18) << 8, 0xffff);
    CHECK_EQ(get(0x30) | get(0x31) << 8, 0xffff);
    CHECK_EQ(get(0x34) | get(0x35) << 8, 3072 * 16 - 256);
    CHECK_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 5 * 16384);
    rtc_set_memory(&rtc, 4 << 20, 0);
    CHECK_EQ(get(0x17) | get(0x18) << 8, 3072);
    CHECK_EQ(get(0x34) | get(0x35) << 8, 0);
    put(0x40, 0x5a);
    CHECK_EQ(get(0x40), 0x5a);
    CHECK_EQ(get(0xc0), 0x5a); /* bit 7 of the index masks NMI */
    CHECK_EQ(get(D), 0x80);
    put(D, 0);
    CHECK_EQ(get(D), 0x80);
    out8(&bus, 0x72, 0x11); /* the upper 128 bytes */
    out8(&bus, 0x73, 0x77);
    CHECK_EQ(in8(&bus, 0x73), 0x77);
    rtc_reset(&rtc);
    CHECK_EQ(get(0x40), 0x5a); /* the battery keeps it */
}

TEST(survives_save_and_load)
{
    setup(1700000000);
    static struct rtc other;
    struct fixture_line line = {0};
    put(4, 0x05);
    put(B, H24 | UIE);
    fixture_go(&clk, S / 2);
    rtc_init(&other, &clk, fixture_line(&line));
    CHECK(fixture_round_trip(&rtc_archive, &rtc, &other));
    fixture_go(&clk, S);
    CHECK(line.level);
    rtc.index_extended = 0xff;
    CHECK(!fixture_round_trip(&rtc_archive, &rtc, &other));
}

TESTS(T(shows_the_right_time_over_400_years), T(leap_days), T(bcd_and_12_hours),
      T(setting_the_time_as_linux_does), T(nonsense_is_taken_as_some_time),
      T(update_in_progress_comes_before_each_second), T(periodic_interrupts),
      T(update_interrupt_each_second), T(alarms), T(alarm_flag_without_interrupt),
      T(memory_and_its_sizes), T(survives_save_and_load))

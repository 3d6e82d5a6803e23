#include "device/pit.h"

#include "device_fixture.h"

static struct clock clk;
static struct bus bus;
static struct pit pit;
static struct fixture_line irq0;

enum { C0 = 0x40, C2 = 0x42, CONTROL = 0x43, PORT61 = 0x61 };

static void setup(void)
{
    fixture_clock(&clk);
    bus = (struct bus){0};
    irq0 = (struct fixture_line){0};
    pit_init(&pit, &clk, fixture_line(&irq0));
    pit_attach(&pit, &bus, NULL);
    irq0.edges = 0;
}

/* To the middle of PIT tick n, so that rounding can't matter. */
static void to_tick(uint64_t n)
{
    fixture_go(&clk, clock_ticks_to_ns(n, PIT_HZ) + 400);
}

static void program(unsigned channel, unsigned mode, unsigned count)
{
    out8(&bus, CONTROL, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    out8(&bus, C0 + channel, (uint8_t)count);
    out8(&bus, C0 + channel, (uint8_t)(count >> 8));
}

static unsigned count_of(unsigned channel)
{
    out8(&bus, CONTROL, (uint8_t)(channel << 6)); /* latch */
    unsigned low = in8(&bus, C0 + channel);
    return low | (unsigned)in8(&bus, C0 + channel) << 8;
}

static uint8_t status_of(unsigned channel)
{
    out8(&bus, CONTROL, (uint8_t)(0xe0 | 2u << channel));
    return in8(&bus, C0 + channel);
}

TEST(mode_2_counts_down_and_interrupts_each_period)
{
    setup();
    to_tick(1000);
    program(0, 2, 100);
    to_tick(1001);
    CHECK_EQ(count_of(0), 100); /* loaded one pulse after the write */
    to_tick(1011);
    CHECK_EQ(count_of(0), 90);
    to_tick(1100);
    CHECK_EQ(count_of(0), 1);
    CHECK_EQ(status_of(0) & 0x80, 0); /* OUT is low while the count is one */
    to_tick(1101);
    CHECK_EQ(count_of(0), 100);
    CHECK_EQ(status_of(0) & 0x80, 0x80);
    CHECK_EQ(irq0.edges, 1);
    to_tick(2001);
    CHECK_EQ(irq0.edges, 10);
}

TEST(mode_2_takes_a_new_count_at_the_periods_end)
{
    setup();
    program(0, 2, 100);
    to_tick(51);
    out8(&bus, C0, 10);
    out8(&bus, C0, 0);
    CHECK_EQ(status_of(0) & 0x40, 0x40); /* null count */
    to_tick(61);
    CHECK_EQ(count_of(0), 40);
    to_tick(101);
    CHECK_EQ(count_of(0), 10);
    CHECK_EQ(status_of(0) & 0x40, 0);
    CHECK_EQ(irq0.edges, 1);
    to_tick(131);
    CHECK_EQ(irq0.edges, 4);
}

TEST(mode_3_counts_by_two_and_is_square)
{
    setup();
    program(0, 3, 100);
    to_tick(1);
    CHECK_EQ(count_of(0), 100);
    to_tick(11);
    CHECK_EQ(count_of(0), 80);
    CHECK_EQ(status_of(0) & 0x80, 0x80);
    to_tick(51);
    CHECK_EQ(status_of(0) & 0x80, 0);
    CHECK_EQ(count_of(0), 100);
    to_tick(100);
    CHECK_EQ(status_of(0) & 0x80, 0);
    CHECK_EQ(count_of(0), 2);
    to_tick(101);
    CHECK_EQ(status_of(0) & 0x80, 0x80);
    CHECK_EQ(irq0.edges, 1);
}

TEST(mode_3_odd_count_is_high_one_pulse_longer)
{
    setup();
    program(0, 3, 5);
    unsigned high = 0;
    for (unsigned t = 1; t <= 50; t++) {
        to_tick(t);
        high += status_of(0) >> 7;
    }
    CHECK_EQ(high, 30);
    CHECK_EQ(irq0.edges, 9); /* at ticks 6, 11, ... 46 */
}

TEST(mode_3_takes_a_new_count_at_the_half_period)
{
    setup();
    program(2, 3, 100);
    out8(&bus, PORT61, 1);
    to_tick(11);
    out8(&bus, C2, 20);
    out8(&bus, C2, 0);
    to_tick(50);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
    to_tick(51);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0);
    to_tick(60);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0);
    to_tick(61);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
}

TEST(mode_0_goes_high_once)
{
    setup();
    to_tick(10);
    program(0, 0, 1000);
    CHECK(!irq0.level);
    to_tick(1010);
    CHECK(!irq0.level);
    to_tick(1011);
    CHECK(irq0.level);
    CHECK_EQ(irq0.edges, 1);
    to_tick(5000);
    CHECK_EQ(irq0.edges, 1);
    CHECK_EQ(count_of(0), (0x10000 + 1011 - 5000) & 0xffff); /* it counts on */
    out8(&bus, C0, 5);                                       /* the first byte takes OUT low */
    CHECK(!irq0.level);
    out8(&bus, C0, 0);
    to_tick(5006);
    CHECK(irq0.level);
}

TEST(mode_1_is_triggered_by_the_gate)
{
    setup();
    program(2, 1, 100);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
    to_tick(500);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
    out8(&bus, PORT61, 1);
    to_tick(501);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0);
    to_tick(560);
    out8(&bus, PORT61, 0);
    out8(&bus, PORT61, 1); /* triggered again */
    to_tick(660);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0);
    to_tick(661);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
}

TEST(mode_4_strobes_for_one_pulse)
{
    setup();
    program(0, 4, 50);
    to_tick(50);
    CHECK_EQ(status_of(0) & 0x80, 0x80);
    to_tick(51);
    CHECK_EQ(status_of(0) & 0x80, 0);
    to_tick(52);
    CHECK_EQ(status_of(0) & 0x80, 0x80);
    CHECK_EQ(irq0.edges, 1);
    to_tick(1000000);
    CHECK_EQ(irq0.edges, 1);
}

TEST(mode_5_strobes_after_the_gate)
{
    setup();
    program(2, 5, 50);
    to_tick(200);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
    out8(&bus, PORT61, 1);
    to_tick(251);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0);
    to_tick(252);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
}

/* How every PC calibrates its processor: channel 2 in mode 0, gated by port 0x61. */
TEST(gate_holds_mode_0)
{
    setup();
    out8(&bus, PORT61, 0);
    program(2, 0, 100);
    to_tick(1000);
    CHECK_EQ(count_of(2), 100);
    out8(&bus, PORT61, 1);
    to_tick(1040);
    CHECK_EQ(count_of(2), 60);
    out8(&bus, PORT61, 0);
    to_tick(2000);
    CHECK_EQ(count_of(2), 60);
    out8(&bus, PORT61, 1);
    to_tick(2059);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0);
    to_tick(2060);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
}

TEST(gate_restarts_mode_2)
{
    setup();
    out8(&bus, PORT61, 1);
    program(2, 2, 100);
    to_tick(61);
    CHECK_EQ(count_of(2), 40);
    out8(&bus, PORT61, 0);
    CHECK_EQ(in8(&bus, PORT61) & 0x20, 0x20);
    to_tick(200);
    out8(&bus, PORT61, 1);
    to_tick(211);
    CHECK_EQ(count_of(2), 90);
}

TEST(latches_hold_until_read)
{
    setup();
    program(0, 2, 1000);
    to_tick(101);
    out8(&bus, CONTROL, 0x00);
    to_tick(501);
    out8(&bus, CONTROL, 0x00); /* ignored: the first is not read yet */
    CHECK_EQ(in8(&bus, C0), 900 & 0xff);
    CHECK_EQ(in8(&bus, C0), 900 >> 8);
    CHECK_EQ(in8(&bus, C0), 500 & 0xff); /* unlatched now */
    CHECK_EQ(in8(&bus, C0), 500 >> 8);
}

TEST(read_back_gives_status_then_count)
{
    setup();
    program(0, 2, 1000);
    to_tick(101);
    out8(&bus, CONTROL, 0xc2); /* count and status of channel 0 */
    CHECK_EQ(in8(&bus, C0), 0x80 | 0x34);
    CHECK_EQ(in8(&bus, C0), 900 & 0xff);
    CHECK_EQ(in8(&bus, C0), 900 >> 8);
    out8(&bus, CONTROL, 0xb0); /* channel 2, mode 0, nothing loaded */
    CHECK_EQ(status_of(2), 0x40 | 0x30);
}

TEST(counts_in_bcd)
{
    setup();
    out8(&bus, CONTROL, 0x35); /* mode 2, BCD */
    out8(&bus, C0, 0x00);
    out8(&bus, C0, 0x10); /* 1000 */
    to_tick(2);
    CHECK_EQ(count_of(0), 0x0999);
    to_tick(1001);
    CHECK_EQ(irq0.edges, 1);
    out8(&bus, CONTROL, 0x31); /* mode 0 */
    out8(&bus, C0, 0);
    out8(&bus, C0, 0); /* 10000 */
    to_tick(1003);
    CHECK_EQ(count_of(0), 0x9999);
}

TEST(byte_access_modes)
{
    setup();
    out8(&bus, CONTROL, 0x14); /* channel 0, LSB only, mode 2 */
    out8(&bus, C0, 200);
    to_tick(11);
    CHECK_EQ(in8(&bus, C0), 190);
    CHECK_EQ(in8(&bus, C0), 190);
    out8(&bus, CONTROL, 0x24); /* MSB only */
    out8(&bus, C0, 2);
    to_tick(13);
    CHECK_EQ(in8(&bus, C0), 1); /* 511 */
}

TEST(refresh_bit_toggles)
{
    setup();
    unsigned changes = 0;
    uint8_t last = in8(&bus, PORT61) & 0x10;
    for (uint64_t t = 0; t < 1000000; t += 1000) {
        fixture_go(&clk, t);
        uint8_t now = in8(&bus, PORT61) & 0x10;
        changes += now != last;
        last = now;
    }
    CHECK(changes >= 64 && changes <= 68); /* each 15 us */
}

TEST(a_late_timer_is_one_edge)
{
    setup();
    program(0, 2, 100);
    fixture_time = clock_ticks_to_ns(100001, PIT_HZ);
    clock_fire(&clk);
    CHECK_EQ(irq0.edges, 1);
    CHECK(clock_next(&clk) > fixture_time);
}

TEST(survives_save_and_load)
{
    setup();
    static struct pit other;
    struct fixture_line line = {0};
    program(0, 2, 1000);
    program(2, 3, 333);
    to_tick(50);
    out8(&bus, C0, 7); /* half a count */
    out8(&bus, CONTROL, 0xc4);
    pit_init(&other, &clk, fixture_line(&line));
    CHECK(fixture_round_trip(&pit_archive, &pit, &other));
    line.edges = 0;
    to_tick(1001);
    CHECK_EQ(irq0.edges, 1);
    CHECK_EQ(line.edges, 1); /* the timer came along */
}

TEST(refuses_damaged_state)
{
    setup();
    static struct pit other;
    pit_init(&other, &clk, (struct irq_line){0});
    pit.channel[1].count = 0;
    CHECK(!fixture_round_trip(&pit_archive, &pit, &other));
}

TESTS(T(mode_2_counts_down_and_interrupts_each_period),
      T(mode_2_takes_a_new_count_at_the_periods_end), T(mode_3_counts_by_two_and_is_square),
      T(mode_3_odd_count_is_high_one_pulse_longer), T(mode_3_takes_a_new_count_at_the_half_period),
      T(mode_0_goes_high_once), T(mode_1_is_triggered_by_the_gate), T(mode_4_strobes_for_one_pulse),
      T(mode_5_strobes_after_the_gate), T(gate_holds_mode_0), T(gate_restarts_mode_2),
      T(latches_hold_until_read), T(read_back_gives_status_then_count), T(counts_in_bcd),
      T(byte_access_modes), T(refresh_bit_toggles), T(a_late_timer_is_one_edge),
      T(survives_save_and_load), T(refuses_damaged_state))

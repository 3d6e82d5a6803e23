#include "device/pic.h"

#include "device_fixture.h"

static struct bus bus;
static struct pic pic;
static struct fixture_line intr;

enum { MASTER = 0x20, SLAVE = 0xa0, ELCR = 0x4d0 };

/* As Linux and every BIOS do: vectors 0x30 and 0x38, cascade on IR2. */
static void initialize(uint8_t icw4)
{
    out8(&bus, MASTER, 0x11);
    out8(&bus, MASTER + 1, 0x30);
    out8(&bus, MASTER + 1, 0x04);
    out8(&bus, MASTER + 1, icw4);
    out8(&bus, SLAVE, 0x11);
    out8(&bus, SLAVE + 1, 0x38);
    out8(&bus, SLAVE + 1, 0x02);
    out8(&bus, SLAVE + 1, icw4);
}

static void setup(void)
{
    bus = (struct bus){0};
    intr = (struct fixture_line){0};
    pic_init(&pic, fixture_line(&intr));
    pic_attach(&pic, &bus, NULL);
    initialize(0x01);
}

static void pulse(unsigned irq)
{
    pic_set(&pic, irq, true);
    pic_set(&pic, irq, false);
}

TEST(fixed_priority_and_nesting)
{
    setup();
    pulse(5);
    pulse(3);
    CHECK(intr.level);
    CHECK_EQ(pic_acknowledge(&pic), 0x33);
    CHECK(!intr.level); /* 5 waits for 3's EOI */
    pulse(1);
    CHECK(intr.level); /* a higher one does not */
    CHECK_EQ(pic_acknowledge(&pic), 0x31);
    out8(&bus, MASTER, 0x20);
    CHECK(!intr.level);
    out8(&bus, MASTER, 0x20);
    CHECK(intr.level);
    CHECK_EQ(pic_acknowledge(&pic), 0x35);
}

TEST(slave_through_the_cascade)
{
    setup();
    pulse(12);
    pulse(8);
    pulse(4);
    CHECK_EQ(pic_acknowledge(&pic), 0x38);
    CHECK(!intr.level); /* 12 is behind 8 in the slave, 4 behind 2 in the master */
    out8(&bus, SLAVE, 0x20);
    CHECK(!intr.level); /* the master still serves IR2 */
    out8(&bus, MASTER, 0x20);
    CHECK_EQ(pic_acknowledge(&pic), 0x3c);
    out8(&bus, SLAVE, 0x20);
    out8(&bus, MASTER, 0x20);
    CHECK_EQ(pic_acknowledge(&pic), 0x34);
}

TEST(special_fully_nested_mode_lets_the_slave_nest)
{
    setup();
    initialize(0x11);
    pulse(12);
    CHECK_EQ(pic_acknowledge(&pic), 0x3c);
    pulse(8);
    CHECK(intr.level);
    CHECK_EQ(pic_acknowledge(&pic), 0x38);
}

TEST(spurious_vectors)
{
    setup();
    CHECK_EQ(pic_acknowledge(&pic), 0x37);
    out8(&bus, MASTER, 0x0b);       /* read ISR */
    CHECK_EQ(in8(&bus, MASTER), 0); /* nothing is in service */
    /* Masked between request and acknowledge. */
    pulse(3);
    out8(&bus, MASTER + 1, 0x08);
    CHECK(!intr.level);
    CHECK_EQ(pic_acknowledge(&pic), 0x37);
    out8(&bus, MASTER + 1, 0);
    CHECK_EQ(pic_acknowledge(&pic), 0x33);
}

TEST(level_triggered_requests_again)
{
    setup();
    out8(&bus, ELCR + 1, 0x08); /* IRQ 11 */
    CHECK_EQ(in8(&bus, ELCR + 1), 0x08);
    pic_set(&pic, 11, true);
    CHECK_EQ(pic_acknowledge(&pic), 0x3b);
    out8(&bus, SLAVE, 0x20);
    out8(&bus, MASTER, 0x20);
    CHECK(intr.level);
    CHECK_EQ(pic_acknowledge(&pic), 0x3b);
    pic_set(&pic, 11, false);
    out8(&bus, SLAVE, 0x20);
    out8(&bus, MASTER, 0x20);
    CHECK(!intr.level);
    out8(&bus, ELCR, 0xff); /* timer, keyboard and cascade are edge-triggered always */
    CHECK_EQ(in8(&bus, ELCR), 0xf8);
    out8(&bus, ELCR + 1, 0xff);
    CHECK_EQ(in8(&bus, ELCR + 1), 0xde);
}

TEST(edges_count_once)
{
    setup();
    pic_set(&pic, 3, true);
    CHECK_EQ(pic_acknowledge(&pic), 0x33);
    out8(&bus, MASTER, 0x63); /* specific EOI */
    CHECK(!intr.level);       /* the line is still high */
    pic_set(&pic, 3, false);
    pic_set(&pic, 3, true);
    CHECK(intr.level);
}

TEST(masks)
{
    setup();
    out8(&bus, MASTER + 1, 0xfb);
    out8(&bus, SLAVE + 1, 0xff);
    pulse(3);
    pulse(14);
    CHECK(!intr.level);
    CHECK_EQ(in8(&bus, MASTER + 1), 0xfb);
    out8(&bus, SLAVE + 1, 0xbf);
    CHECK_EQ(pic_acknowledge(&pic), 0x3e);
    out8(&bus, MASTER, 0x0a);
    CHECK_EQ(in8(&bus, MASTER), 0x08); /* IRR still holds 3 */
}

TEST(special_mask_mode)
{
    setup();
    pulse(3);
    CHECK_EQ(pic_acknowledge(&pic), 0x33);
    pulse(5);
    CHECK(!intr.level);
    out8(&bus, MASTER + 1, 0x08); /* mask the one in service */
    out8(&bus, MASTER, 0x68);     /* special mask mode */
    CHECK(intr.level);
    CHECK_EQ(pic_acknowledge(&pic), 0x35);
    out8(&bus, MASTER, 0x20); /* not 3: it is masked */
    out8(&bus, MASTER, 0x0b);
    CHECK_EQ(in8(&bus, MASTER), 0x08);
    out8(&bus, MASTER, 0x48); /* mode off */
    pulse(6);
    CHECK(!intr.level);
}

TEST(automatic_eoi_and_rotation)
{
    setup();
    initialize(0x03);
    pulse(3);
    CHECK_EQ(pic_acknowledge(&pic), 0x33);
    pulse(3);
    CHECK(intr.level);        /* never in service */
    out8(&bus, MASTER, 0x80); /* rotate in automatic EOI mode */
    CHECK_EQ(pic_acknowledge(&pic), 0x33);
    pulse(3);
    pulse(4);
    CHECK_EQ(pic_acknowledge(&pic), 0x34); /* 3 is the lowest now */
}

TEST(rotating_and_setting_priority)
{
    setup();
    out8(&bus, MASTER, 0xc4); /* 4 is the lowest, 5 the highest */
    pulse(0);
    pulse(6);
    CHECK_EQ(pic_acknowledge(&pic), 0x36);
    out8(&bus, MASTER, 0xa0); /* rotate on non-specific EOI: 6 is the lowest */
    pulse(7);
    CHECK_EQ(pic_acknowledge(&pic), 0x37);
    out8(&bus, MASTER, 0xe7); /* rotate on specific EOI */
    CHECK_EQ(pic_acknowledge(&pic), 0x30);
}

TEST(polling)
{
    setup();
    out8(&bus, MASTER, 0x0c);
    CHECK_EQ(in8(&bus, MASTER), 0);
    pulse(6);
    out8(&bus, MASTER, 0x0c);
    CHECK_EQ(in8(&bus, MASTER), 0x86);
    CHECK(!intr.level); /* the poll was the acknowledge */
    out8(&bus, MASTER, 0x0b);
    CHECK_EQ(in8(&bus, MASTER), 0x40);
}

TEST(is_silent_until_initialized)
{
    bus = (struct bus){0};
    intr = (struct fixture_line){0};
    pic_init(&pic, fixture_line(&intr));
    pic_attach(&pic, &bus, NULL);
    pulse(0);
    CHECK(!intr.level);
    out8(&bus, MASTER, 0x11);
    out8(&bus, MASTER + 1, 0x30);
    pulse(1);
    CHECK(!intr.level); /* half-way through */
}

TEST(survives_save_and_load)
{
    setup();
    static struct pic other;
    struct fixture_line line = {0};
    pulse(4);
    pulse(9);
    pic_acknowledge(&pic);
    out8(&bus, MASTER, 0x20);
    out8(&bus, SLAVE, 0x11); /* and half an initialization */
    pic_init(&other, fixture_line(&line));
    CHECK(fixture_round_trip(&pic_archive, &pic, &other));
    CHECK(line.level);
    CHECK_EQ(pic_acknowledge(&other), 0x34);
    pic.chip[0].lowest = 9;
    CHECK(!fixture_round_trip(&pic_archive, &pic, &other));
}

TESTS(T(fixed_priority_and_nesting), T(slave_through_the_cascade),
      T(special_fully_nested_mode_lets_the_slave_nest), T(spurious_vectors),
      T(level_triggered_requests_again), T(edges_count_once), T(masks), T(special_mask_mode),
      T(automatic_eoi_and_rotation), T(rotating_and_setting_priority), T(polling),
      T(is_silent_until_initialized), T(survives_save_and_load))

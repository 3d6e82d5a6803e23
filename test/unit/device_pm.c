/* Power management, and the single ports: DMA, A20 and reset, debug exit. */
#include "device/debug_exit.h"
#include "device/dma.h"
#include "device/pm.h"
#include "device/ports.h"

#include "device_fixture.h"

static struct clock clk;
static struct bus bus;
static struct pm pm;
static struct fixture_line sci;
static unsigned offs, resets;
static bool a20;
static uint32_t exited;

enum { STS = PM_PM1A_EVT, EN = PM_PM1A_EVT + 2, CNT = PM_PM1A_CNT };

static void on_off(void *ctx)
{
    offs++;
}
static void on_reset(void *ctx)
{
    resets++;
}
static void on_a20(void *ctx, bool enabled)
{
    a20 = enabled;
}
static void on_exit_port(void *ctx, uint32_t value)
{
    exited = value;
}

static void make(struct pm *p, struct fixture_line *line)
{
    struct pm_host host = {NULL, on_off};
    pm_init(p, &clk, fixture_line(line), &host);
}

static void setup(void)
{
    fixture_clock(&clk);
    bus = (struct bus){0};
    sci = (struct fixture_line){0};
    offs = resets = 0;
    make(&pm, &sci);
    pm_attach(&pm, &bus, NULL);
}

static uint64_t get(unsigned port, unsigned size)
{
    return bus_read(&bus, port, size);
}

TEST(the_timer_runs_at_its_frequency)
{
    setup();
    fixture_go(&clk, 1000000000);
    CHECK_EQ(get(PM_TMR, 4), 3579545);
    CHECK_EQ(get(PM_TMR, 2), 3579545 & 0xffff);
    CHECK_EQ(get(PM_TMR + 2, 1), 3579545 >> 16);
    fixture_go(&clk, UINT64_C(1300) * 1000000000);
    CHECK_EQ(get(PM_TMR, 4), (uint32_t)(UINT64_C(1300) * 3579545));
}

TEST(the_timer_overflows_into_its_status)
{
    setup();
    out8(&bus, PM_SMI_CMD, PM_ACPI_ENABLE);
    CHECK_EQ(get(CNT, 2), 1);
    uint64_t half = clock_ticks_to_ns(UINT64_C(1) << 31, PM_TIMER_HZ);
    bus_write(&bus, EN, 2, 1);
    fixture_go(&clk, half - 1);
    CHECK(!sci.level);
    fixture_go(&clk, half);
    CHECK(sci.level);
    CHECK_EQ(get(STS, 2), 1);
    bus_write(&bus, STS, 2, 1);
    CHECK(!sci.level);
    bus_write(&bus, EN, 2, 0);
    fixture_go(&clk, 2 * half + 10); /* the status comes without the interrupt, too */
    CHECK_EQ(get(STS, 2), 1);
    CHECK(!sci.level);
}

TEST(power_button_and_events)
{
    setup();
    pm_power_button(&pm);
    CHECK(!sci.level);
    bus_write(&bus, EN, 2, 0x100);
    CHECK(!sci.level); /* not in ACPI mode */
    out8(&bus, PM_SMI_CMD, PM_ACPI_ENABLE);
    CHECK(sci.level);
    CHECK_EQ(get(STS, 4), 0x01000100);
    out8(&bus, STS + 1, 0x01);
    CHECK(!sci.level);
    out8(&bus, PM_SMI_CMD, PM_ACPI_DISABLE);
    CHECK_EQ(get(CNT, 2), 0);
    bus_write(&bus, EN, 2, 0xffff);
    CHECK_EQ(get(EN, 2), 0x0721);
}

TEST(gpe0)
{
    setup();
    out8(&bus, PM_SMI_CMD, PM_ACPI_ENABLE);
    pm_gpe(&pm, 9);
    CHECK_EQ(get(PM_GPE0 + 1, 1), 0x02);
    CHECK(!sci.level);
    out8(&bus, PM_GPE0 + 8 + 1, 0x02);
    CHECK(sci.level);
    CHECK_EQ(get(PM_GPE0 + 8, 4), 0x200);
    out8(&bus, PM_GPE0 + 1, 0x02);
    CHECK(!sci.level);
    pm_gpe(&pm, 1000); /* no such event: some other */
}

TEST(sleeping_is_powering_off)
{
    setup();
    bus_write(&bus, CNT, 2, PM_SLP_TYP_S5 << 10);
    CHECK_EQ(offs, 0);
    bus_write(&bus, CNT, 2, PM_SLP_TYP_S5 << 10 | 1 << 13);
    CHECK_EQ(offs, 1);
    CHECK_EQ(get(CNT, 2), PM_SLP_TYP_S5 << 10); /* SLP_EN is write-only */
    bus_write(&bus, CNT, 2, 1 << 10 | 1 << 13);
    CHECK_EQ(offs, 1);
    CHECK_EQ(get(STS, 2) & 0x8000, 0x8000); /* awake again */
    bus_write(&bus, CNT, 1, 0);
    out8(&bus, CNT + 1, PM_SLP_TYP_S5 << 2 | 1 << 5); /* by bytes */
    CHECK_EQ(offs, 2);
}

TEST(takes_every_size_and_offset)
{
    setup();
    for (unsigned port = PM_BASE; port < PM_BASE + PM_SIZE; port++)
        for (unsigned size = 1; size <= 4; size *= 2) {
            bus_read(&bus, port, size);
            if (port / 2 != CNT / 2 && port + size <= PM_BASE + PM_SIZE)
                bus_write(&bus, port, size, 0x5a5a5a5a & ~(1u << 13));
        }
    CHECK_EQ(get(PM_BASE + 0x30, 4), 0x5a5a5a5a);
    CHECK_EQ(get(PM_BASE + 0x7c, 4), 0);
}

TEST(pm_survives_save_and_load)
{
    setup();
    static struct pm other;
    struct fixture_line line = {0};
    out8(&bus, PM_SMI_CMD, PM_ACPI_ENABLE);
    bus_write(&bus, EN, 2, 0x100);
    pm_power_button(&pm);
    make(&other, &line);
    CHECK(fixture_round_trip(&pm_archive, &pm, &other));
    CHECK(line.level);
}

TEST(dma_registers)
{
    static struct dma dma, other;
    bus = (struct bus){0};
    dma_init(&dma);
    dma_attach(&dma, &bus, NULL);
    out8(&bus, 0x0c, 0);
    out8(&bus, 0x04, 0x34);
    out8(&bus, 0x04, 0x12);
    CHECK_EQ(in8(&bus, 0x04), 0x34);
    CHECK_EQ(in8(&bus, 0x04), 0x12);
    out8(&bus, 0x05, 0xff);
    out8(&bus, 0x0c, 0); /* back to the low byte */
    out8(&bus, 0x05, 0xee);
    out8(&bus, 0x0c, 0);
    CHECK_EQ(in8(&bus, 0x05), 0xee);
    CHECK_EQ(in8(&bus, 0x0f), 0xff); /* all masked */
    out8(&bus, 0x0a, 0x02);
    CHECK_EQ(in8(&bus, 0x0f), 0xfb);
    out8(&bus, 0x0d, 0);
    CHECK_EQ(in8(&bus, 0x0f), 0xff);
    out8(&bus, 0xc4, 0x78); /* the second chip, two ports a register */
    out8(&bus, 0xc4, 0x56);
    CHECK_EQ(in8(&bus, 0xc4), 0x78);
    CHECK_EQ(in8(&bus, 0xc4), 0x56);
    out8(&bus, 0x80, 0x42); /* POST codes */
    out8(&bus, 0x83, 0x99);
    CHECK_EQ(in8(&bus, 0x80), 0x42);
    CHECK_EQ(in8(&bus, 0x83), 0x99);
    dma_init(&other);
    CHECK(fixture_round_trip(&dma_archive, &dma, &other));
    CHECK_EQ(other.page[3], 0x99);
}

TEST(port_92)
{
    static struct ports ports, other;
    bus = (struct bus){0};
    resets = 0;
    a20 = true;
    ports_init(&ports, NULL, on_reset, on_a20);
    ports_attach(&ports, &bus, NULL);
    CHECK_EQ(in8(&bus, 0x92), 0x02);
    out8(&bus, 0x92, 0x00);
    CHECK(!a20);
    out8(&bus, 0x92, 0x02);
    CHECK(a20);
    CHECK_EQ(resets, 0);
    out8(&bus, 0x92, 0x03);
    out8(&bus, 0x92, 0x03);
    CHECK_EQ(resets, 1); /* on the rising edge */
    out8(&bus, 0xed, 0x55);
    ports_init(&other, NULL, on_reset, on_a20);
    CHECK(fixture_round_trip(&ports_archive, &ports, &other));
}

TEST(debug_exit_port)
{
    static struct debug_exit d;
    bus = (struct bus){0};
    debug_exit_init(&d, NULL, on_exit_port);
    debug_exit_attach(&d, &bus, NULL);
    bus_write(&bus, 0xf4, 4, 0x12345678);
    CHECK_EQ(exited, 0x12345678);
    bus_write(&bus, 0xf4, 1, 0x10);
    CHECK_EQ(exited, 0x10);
}

TESTS(T(the_timer_runs_at_its_frequency), T(the_timer_overflows_into_its_status),
      T(power_button_and_events), T(gpe0), T(sleeping_is_powering_off),
      T(takes_every_size_and_offset), T(pm_survives_save_and_load), T(dma_registers), T(port_92),
      T(debug_exit_port))

/* Local APICs that somebody else keeps for a while: what goes there, what comes back, what is here
 * meanwhile. */
#include "base/bits.h"
#include "device/apic.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "guest/lib/apic_registers.h"

#include "device_fixture.h"

enum { MSEC = 1000000 };

static struct clock clk;
static struct apic_bus apics;
static struct ioapic ioapic;
static struct lapic lapic, other;
static bool intr;
static unsigned extints;

static void on_interrupt(void *ctx, bool level)
{
    intr = level;
}
static void on_nothing(void *ctx) {}
static void on_startup(void *ctx, uint8_t vector) {}
static int on_extint(void *ctx)
{
    extints++;
    return 0x3b;
}
/* A TSC of 1 GHz that began at guest time 0. */
static uint64_t on_tsc(void *ctx, uint64_t tsc)
{
    return tsc;
}

static void make(struct lapic *l)
{
    const struct lapic_host host = {.interrupt = on_interrupt,
                                    .nmi = on_nothing,
                                    .init = on_nothing,
                                    .startup = on_startup,
                                    .extint = on_extint,
                                    .tsc_to_ns = on_tsc,
                                    .bus = &apics};
    lapic_init(l, &clk, &host, 3, true, 40);
    lapic_write(l, SVR, 4, 0x1ff);
    lapic_write(l, DIVIDE, 4, BY_ONE);
}

static void setup(void)
{
    fixture_clock(&clk);
    intr = false;
    extints = 0;
    apic_bus_init(&apics);
    make(&lapic);
    make(&other);
    apic_bus_add(&apics, &lapic);
    apics.ioapic = &ioapic;
    ioapic_init(&ioapic, apic_bus_deliver, &apics, 0);
    ioapic.routed = apic_bus_routed;
}

/* ---- the keeper ---- */

static struct {
    unsigned accesses, messages, routes;
    struct apic_message message;
    enum lapic_access kind;
    uint32_t where;
    bool write;
    uint64_t value;
} kept;

static bool on_access(void *ctx, enum lapic_access kind, uint32_t where, bool write,
                      uint64_t *value)
{
    kept.accesses++;
    kept.kind = kind;
    kept.where = where;
    kept.write = write;
    if (write)
        kept.value = *value;
    *value = 0x12345678;
    return true;
}

static void on_message(void *ctx, const struct apic_message *m)
{
    kept.messages++;
    kept.message = *m;
}

static void on_routes(void *ctx, const struct ioapic *a)
{
    kept.routes++;
}

static struct lapic_image lend(struct lapic *l)
{
    const struct lapic_keeper keeper = {NULL, on_access};
    struct lapic_image image;
    memset(&kept, 0, sizeof kept);
    lapic_lend(l, &keeper, &image);
    apics.keeper = (struct apic_keeper){NULL, on_message, on_routes};
    return image;
}

static void take_back(struct lapic *l, const struct lapic_image *image)
{
    apics.keeper = (struct apic_keeper){0};
    lapic_take_back(l, image);
}

static uint32_t in_image(const struct lapic_image *image, unsigned reg)
{
    uint32_t value;
    memcpy(&value, image->page + reg, sizeof value);
    return value;
}

static void put_in_image(struct lapic_image *image, unsigned reg, uint32_t value)
{
    memcpy(image->page + reg, &value, sizeof value);
}

static uint32_t get(const struct lapic *l, unsigned reg)
{
    return (uint32_t)lapic_read((struct lapic *)l, reg, 4);
}

static void put(unsigned reg, uint32_t value)
{
    lapic_write(&lapic, reg, 4, value);
}

static bool in_irr(unsigned vector)
{
    return get(&lapic, IRR + vector / 32 * 16) >> vector % 32 & 1;
}

/* ---- there and back ---- */

TEST(every_register_goes_there_and_to_another_one)
{
    static const unsigned registers[] = {ID,       TPR,       LDR,       DFR,       SVR,
                                         ESR,      ICR,       ICR_HIGH,  LVT_TIMER, LVT_THERMAL,
                                         LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, INITIAL,
                                         CURRENT,  DIVIDE};
    setup();
    put(ID, 0x05000000);
    put(TPR, 0x27);
    put(LDR, 0x40000000);
    put(DFR, 0x0fffffff);
    put(SVR, 0x11f7);
    put(ICR_HIGH, 0x06000000);
    put(ICR, 0x0004c455); /* an NMI to itself, level */
    put(LVT_TIMER, MASKED | PERIODIC | 0x41);
    put(LVT_THERMAL, MASKED | 0x442);
    put(LVT_PERF, 0x443);
    put(LVT_LINT0, 0xa744);
    put(LVT_LINT1, 0x445);
    put(LVT_ERROR, 0x46);
    put(DIVIDE, 3);
    put(INITIAL, 1000000);
    for (unsigned v = 16; v < 256; v += 13) {
        struct apic_message m = {.vector = (uint8_t)v, .level = v % 2};
        lapic_deliver(&lapic, &m);
    }
    fixture_go(&clk, 3 * MSEC);
    for (unsigned i = 0; i < 2; i++) /* two in service */
        lapic_acknowledge(&lapic);
    uint32_t want[ARRAY_LEN(registers)], vectors[24];
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
        want[i] = get(&lapic, registers[i]);
    for (unsigned i = 0; i < 24; i++)
        vectors[i] = get(&lapic, ISR + 16 * i);
    struct lapic_image image = lend(&lapic);
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
        CHECK_EQ(in_image(&image, registers[i]), want[i]);
    take_back(&other, &image);
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
        CHECK_EQ(get(&other, registers[i]), want[i]);
    for (unsigned i = 0; i < 24; i++)
        CHECK_EQ(get(&other, ISR + 16 * i), vectors[i]);
    CHECK_EQ(intr, lapic_pending(&other));
}

TEST(x2apic_keeps_its_ids_and_its_long_icr)
{
    setup();
    CHECK(lapic_msr_write(&lapic, LAPIC_MSR_BASE,
                          LAPIC_DEFAULT_BASE | LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC));
    CHECK(lapic_msr_write(&lapic, 0x830, UINT64_C(0x1122334400000050)));
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(image.base,
             LAPIC_DEFAULT_BASE | LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC | LAPIC_BASE_BSP);
    CHECK_EQ(in_image(&image, ID), 3u << 24);
    CHECK_EQ(in_image(&image, ICR_HIGH), 0x11223344);
    take_back(&lapic, &image);
    uint64_t value = 0;
    CHECK(lapic_msr_read(&lapic, 0x830, &value));
    CHECK_EQ(value, UINT64_C(0x1122334400000050));
    CHECK(lapic_msr_read(&lapic, 0x802, &value));
    CHECK_EQ(value, 3);
    CHECK(lapic_msr_read(&lapic, 0x80d, &value));
    CHECK_EQ(value, 1u << 3);
}

/* ---- timers ---- */

TEST(a_deadline_goes_with_it_and_does_not_fire_here)
{
    setup();
    put(LVT_TIMER, DEADLINE | 0x41);
    CHECK(lapic_msr_write(&lapic, LAPIC_MSR_TSC_DEADLINE, 5 * MSEC));
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(image.tsc_deadline, 5 * MSEC);
    CHECK_EQ(in_image(&image, INITIAL), 0);
    fixture_go(&clk, 6 * MSEC);
    CHECK(!intr);
    image.tsc_deadline = 8 * MSEC; /* the guest has set another */
    take_back(&lapic, &image);
    fixture_go(&clk, 8 * MSEC - 1);
    CHECK(!intr);
    fixture_go(&clk, 8 * MSEC);
    CHECK(in_irr(0x41));
}

/* The keeper has not given the interrupt: it is still to come. */
TEST(a_deadline_that_has_passed_unnoticed_fires_when_it_is_back)
{
    setup();
    put(LVT_TIMER, DEADLINE | 0x41);
    CHECK(lapic_msr_write(&lapic, LAPIC_MSR_TSC_DEADLINE, 5 * MSEC));
    struct lapic_image image = lend(&lapic);
    fixture_time = 9 * MSEC;
    take_back(&lapic, &image);
    fixture_go(&clk, 9 * MSEC);
    CHECK(in_irr(0x41));
    uint64_t value = 1;
    CHECK(lapic_msr_read(&lapic, LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0);
}

TEST(a_one_shot_goes_on_where_it_is)
{
    setup();
    put(LVT_TIMER, 0x41);
    put(DIVIDE, 0); /* by two */
    put(INITIAL, 5 * MSEC);
    fixture_go(&clk, 4 * MSEC);
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(in_image(&image, INITIAL), 5 * MSEC);
    CHECK_EQ(in_image(&image, CURRENT), 3 * MSEC);
    fixture_go(&clk, 6 * MSEC);
    put_in_image(&image, CURRENT, 2 * MSEC);
    take_back(&lapic, &image);
    CHECK_EQ(get(&lapic, CURRENT), 2 * MSEC);
    fixture_go(&clk, 10 * MSEC - 1);
    CHECK(!in_irr(0x41));
    fixture_go(&clk, 10 * MSEC);
    CHECK(in_irr(0x41));
}

TEST(a_one_shot_that_is_over_does_not_come_again)
{
    setup();
    put(LVT_TIMER, 0x41);
    put(INITIAL, 1 * MSEC);
    fixture_go(&clk, 2 * MSEC);
    CHECK_EQ(lapic_acknowledge(&lapic), 0x41);
    put(EOI, 0);
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(in_image(&image, INITIAL), 0);
    CHECK_EQ(in_image(&image, CURRENT), 0);
    take_back(&lapic, &image);
    CHECK_EQ(get(&lapic, INITIAL), 1 * MSEC); /* still what was written */
    CHECK_EQ(get(&lapic, CURRENT), 0);
    /* One that the keeper has seen the end of. */
    put(INITIAL, 1 * MSEC);
    image = lend(&lapic);
    put_in_image(&image, CURRENT, 0);
    take_back(&lapic, &image);
    CHECK_EQ(get(&lapic, INITIAL), 1 * MSEC);
    fixture_go(&clk, 20 * MSEC);
    CHECK(!in_irr(0x41));
}

/* The time has come but the machine's timers have not been served: the keeper is to fire at once.
 */
TEST(a_one_shot_that_is_due_is_lent_as_nearly_over)
{
    setup();
    put(LVT_TIMER, 0x41);
    put(INITIAL, 1 * MSEC);
    fixture_time = 2 * MSEC;
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(in_image(&image, INITIAL), 1 * MSEC);
    CHECK_EQ(in_image(&image, CURRENT), 1);
}

TEST(a_periodic_timer_keeps_its_phase)
{
    setup();
    put(LVT_TIMER, PERIODIC | 0x41);
    put(INITIAL, 10 * MSEC);
    fixture_go(&clk, 23 * MSEC);
    CHECK_EQ(lapic_acknowledge(&lapic), 0x41);
    put(EOI, 0);
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(in_image(&image, CURRENT), 7 * MSEC);
    fixture_go(&clk, 34 * MSEC);
    CHECK(!intr);
    put_in_image(&image, CURRENT, 6 * MSEC);
    take_back(&lapic, &image);
    CHECK(!in_irr(0x41));
    fixture_go(&clk, 40 * MSEC - 1);
    CHECK(!in_irr(0x41));
    fixture_go(&clk, 40 * MSEC);
    CHECK(in_irr(0x41));
    CHECK_EQ(get(&lapic, CURRENT), 10 * MSEC);
}

TEST(a_masked_timer_counts_on)
{
    setup();
    put(LVT_TIMER, MASKED | 0x41);
    put(INITIAL, 5 * MSEC);
    fixture_go(&clk, 2 * MSEC);
    struct lapic_image image = lend(&lapic);
    CHECK_EQ(in_image(&image, CURRENT), 3 * MSEC);
    take_back(&lapic, &image);
    CHECK_EQ(get(&lapic, CURRENT), 3 * MSEC);
    fixture_go(&clk, 6 * MSEC);
    image = lend(&lapic);
    CHECK_EQ(in_image(&image, INITIAL), 0);
}

/* ---- while it is lent ---- */

TEST(messages_go_to_the_keeper)
{
    setup();
    lend(&lapic);
    apic_bus_msi(&apics, 0xfee03000, 0x4055);
    CHECK_EQ(kept.messages, 1);
    CHECK_EQ(kept.message.vector, 0x55);
    CHECK_EQ(kept.message.destination, 3);
    CHECK_EQ(lapic.irr[2], 0);
    ioapic_set(&ioapic, 5, true);
    CHECK_EQ(kept.messages, 1); /* its pin is masked */
    CHECK_EQ(ioapic_message(&ioapic, 5).level, false);
}

TEST(the_keeper_hears_of_entries_that_are_written)
{
    struct bus memory = {0};
    struct error err;
    setup();
    CHECK(ioapic_attach(&ioapic, &memory, &err));
    lend(&lapic);
    bus_write(&memory, IOAPIC_BASE, 4, 0x10 + 2 * 5);
    bus_write(&memory, IOAPIC_BASE + 0x10, 4, 0x8061);
    CHECK_EQ(kept.routes, 1);
    struct apic_message m = ioapic_message(&ioapic, 5);
    CHECK(m.level);
    CHECK_EQ(m.vector, 0x61);
    bus_write(&memory, IOAPIC_BASE + 0x10, 4, 0x8461); /* an NMI has no EOI */
    CHECK(!ioapic_message(&ioapic, 5).level);
}

TEST(the_8259s_interrupt_stays)
{
    setup();
    put(LVT_LINT0, MASKED | EXTINT);
    lapic_lint(&lapic, 0, true);
    CHECK(!intr);
    struct apic_message m = {.vector = 0x41};
    lapic_deliver(&lapic, &m);
    CHECK(intr);
    lapic_lint(&lapic, 0, false);
    struct lapic_image image = lend(&lapic);
    CHECK(!intr); /* what is in the IRR is for the keeper */
    lapic_lint(&lapic, 0, true);
    CHECK(intr); /* and whether LINT0 is open */
    CHECK_EQ(lapic_acknowledge(&lapic), 0x3b);
    CHECK_EQ(extints, 1);
    lapic_lint(&lapic, 0, false);
    CHECK(!intr);
    CHECK_EQ(lapic_acknowledge(&lapic), -1);
    lapic_lint(&lapic, 0, true);
    put_in_image(&image, 0x220, 0); /* the keeper has given 0x41 */
    take_back(&lapic, &image);
    CHECK(!intr); /* LINT0 is closed */
    put(LVT_LINT0, EXTINT);
    CHECK(intr);
}

/* Of which keepers know nothing. */
TEST(a_pin_that_is_level_triggered_is_heard_when_it_is_back)
{
    setup();
    put(LVT_LINT0, 0x8044);
    struct lapic_image image = lend(&lapic);
    lapic_lint(&lapic, 0, true);
    take_back(&lapic, &image);
    CHECK(in_irr(0x44));
}

TEST(accesses_go_to_the_keeper)
{
    uint64_t value = 0;
    setup();
    lend(&lapic);
    CHECK_EQ(lapic_read(&lapic, 0x381, 2), 0x3456);
    CHECK_EQ(kept.kind, LAPIC_ACCESS_PAGE);
    CHECK_EQ(kept.where, INITIAL);
    put(TPR, 0x20);
    CHECK(kept.write && kept.value == 0x20 && kept.where == TPR);
    CHECK(lapic_msr_read(&lapic, LAPIC_MSR_TSC_DEADLINE, &value));
    CHECK_EQ(value, 0x12345678);
    CHECK_EQ(kept.kind, LAPIC_ACCESS_MSR);
    CHECK(lapic_msr_write(&lapic, 0x83f, 0x51));
    CHECK(kept.write && kept.value == 0x51 && kept.where == 0x83f);
    unsigned before = kept.accesses;
    CHECK(!lapic_msr_read(&lapic, 0x277, &value)); /* no APIC's */
    CHECK_EQ(kept.accesses, before);
    CHECK_EQ(lapic_cr8(&lapic), 0x12345678);
    CHECK_EQ(kept.kind, LAPIC_ACCESS_CR8);
}

TEST(nonsense_comes_back_as_something_that_can_be)
{
    setup();
    struct lapic_image image = lend(&lapic);
    memset(&image, 0xff, sizeof image);
    take_back(&lapic, &image);
    CHECK_EQ(lapic.base & ~UINT64_C(0xfffffff000),
             LAPIC_BASE_BSP | LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC);
    CHECK_EQ(lapic.svr, 0x13ff);
    CHECK_EQ(lapic.lvt[LAPIC_LVT_ERROR], MASKED | 0xff);
    CHECK_EQ(lapic.tpr, 0xff);
    fixture_go(&clk, 1000 * MSEC);
    image.page[CURRENT + 3] = 0;
    put_in_image(&image, LVT_TIMER, PERIODIC | 0x41);
    put_in_image(&image, INITIAL, 1); /* shorter than the keeper makes them */
    take_back(&lapic, &image);
    CHECK(lapic.timer.deadline != CLOCK_NEVER);
}

TESTS(T(every_register_goes_there_and_to_another_one), T(x2apic_keeps_its_ids_and_its_long_icr),
      T(a_deadline_goes_with_it_and_does_not_fire_here),
      T(a_deadline_that_has_passed_unnoticed_fires_when_it_is_back),
      T(a_one_shot_goes_on_where_it_is), T(a_one_shot_that_is_over_does_not_come_again),
      T(a_one_shot_that_is_due_is_lent_as_nearly_over), T(a_periodic_timer_keeps_its_phase),
      T(a_masked_timer_counts_on), T(messages_go_to_the_keeper),
      T(the_keeper_hears_of_entries_that_are_written), T(the_8259s_interrupt_stays),
      T(a_pin_that_is_level_triggered_is_heard_when_it_is_back), T(accesses_go_to_the_keeper),
      T(nonsense_comes_back_as_something_that_can_be))

/* The local APICs, the I/O APIC, and the bus between them. */
#include "device/apic.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "guest/lib/apic_registers.h"

#include "device_fixture.h"

enum { CPUS = 4 };

static struct clock clk;
static struct bus memory;
static struct apic_bus apics;
static struct lapic lapic[CPUS];
static struct ioapic ioapic;
static struct {
    bool intr;
    unsigned nmis, inits, smis;
    int startup, extints;
} cpu[CPUS];

#define CTX(n) ((void *)(uintptr_t)(n))

static void on_interrupt(void *ctx, bool level)
{
    cpu[(uintptr_t)ctx].intr = level;
}
static void on_nmi(void *ctx)
{
    cpu[(uintptr_t)ctx].nmis++;
}
static void on_init(void *ctx)
{
    cpu[(uintptr_t)ctx].inits++;
}
static void on_startup(void *ctx, uint8_t vector)
{
    cpu[(uintptr_t)ctx].startup = vector;
}
static void on_smi(void *ctx)
{
    cpu[(uintptr_t)ctx].smis++;
}
static int on_extint(void *ctx)
{
    cpu[(uintptr_t)ctx].extints++;
    return 0x3b;
}

/* A TSC of 2 GHz that began at guest time 0. */
static uint64_t on_tsc(void *ctx, uint64_t tsc)
{
    return tsc / 2;
}

static void make(struct lapic *l, unsigned index)
{
    struct lapic_host host = {CTX(index), on_interrupt, on_nmi, on_init, on_startup,
                              on_smi,     on_extint,    on_tsc, &apics};
    lapic_init(l, &clk, &host, index, index == 0, 40);
}

static uint32_t get(unsigned n, unsigned reg)
{
    return (uint32_t)lapic_read(&lapic[n], reg, 4);
}

static void put(unsigned n, unsigned reg, uint32_t value)
{
    lapic_write(&lapic[n], reg, 4, value);
}

static bool in_irr(unsigned n, unsigned vector)
{
    return get(n, IRR + vector / 32 * 16) >> vector % 32 & 1;
}

static void setup(void)
{
    fixture_clock(&clk);
    memset(cpu, 0, sizeof cpu);
    memory = (struct bus){0};
    apic_bus_init(&apics);
    for (unsigned i = 0; i < CPUS; i++) {
        make(&lapic[i], i);
        apic_bus_add(&apics, &lapic[i]);
        put(i, SVR, 0x1ff);
        put(i, LDR, 1u << (24 + i));
    }
    put(0, LVT_LINT0, MASKED);
    ioapic_init(&ioapic, apic_bus_deliver, &apics, 4);
    ioapic_attach(&ioapic, &memory, NULL);
    apics.ioapic = &ioapic;
}

static void ipi(unsigned from, uint32_t to, uint32_t low)
{
    put(from, ICR_HIGH, to << 24);
    put(from, ICR, low);
}

/* ---- priorities ---- */

TEST(reset_state)
{
    setup();
    struct lapic *l = &lapic[1];
    lapic_reset(l);
    CHECK_EQ(get(1, ID), 1 << 24);
    CHECK_EQ(get(1, VERSION), 0x01050014);
    CHECK_EQ(get(1, SVR), 0xff);
    CHECK_EQ(get(1, DFR), 0xffffffff);
    CHECK_EQ(get(1, LVT_TIMER), MASKED);
    CHECK_EQ(get(1, LVT_LINT0), MASKED);
    lapic_reset(&lapic[0]);
    CHECK_EQ(get(0, LVT_LINT0), 0x700); /* the BSP is open for the 8259s */
    put(1, LVT_TIMER, 0x30);
    CHECK_EQ(get(1, LVT_TIMER), MASKED | 0x30); /* software-disabled: masked stays */
    ipi(0, 1, 0x50);
    CHECK(!in_irr(1, 0x50));
}

TEST(highest_vector_first_and_nesting_by_class)
{
    setup();
    ipi(0, 1, 0x41);
    ipi(0, 1, 0x52);
    CHECK(cpu[1].intr);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x52);
    CHECK_EQ(get(1, PPR), 0x50);
    CHECK(!cpu[1].intr);
    ipi(0, 1, 0x5f); /* same class: waits */
    CHECK(!cpu[1].intr);
    ipi(0, 1, 0x60);
    CHECK(cpu[1].intr);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x60);
    put(1, EOI, 0);
    CHECK_EQ(get(1, PPR), 0x50);
    put(1, EOI, 0);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x5f);
    put(1, EOI, 0);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x41);
    put(1, EOI, 0);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), -1);
    put(1, EOI, 0); /* nothing in service: nothing happens */
    CHECK_EQ(get(1, ISR + 0x20), 0);
}

TEST(tpr_and_cr8_hold_back)
{
    setup();
    put(1, TPR, 0x53);
    ipi(0, 1, 0x5f);
    CHECK(!cpu[1].intr);
    CHECK_EQ(get(1, PPR), 0x53);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), -1);
    CHECK_EQ(lapic_cr8(&lapic[1]), 5);
    lapic_set_cr8(&lapic[1], 4);
    CHECK(cpu[1].intr);
    CHECK_EQ(get(1, TPR), 0x40);
    lapic_set_cr8(&lapic[1], 15);
    CHECK(!cpu[1].intr);
}

/* ---- destinations ---- */

TEST(physical_logical_and_shorthands)
{
    setup();
    ipi(0, 2, 0x40);
    CHECK(in_irr(2, 0x40) && !in_irr(1, 0x40));
    ipi(0, 0xff, 0x41);
    for (unsigned i = 0; i < CPUS; i++)
        CHECK(in_irr(i, 0x41));
    ipi(0, 0x0a, 0x842); /* flat logical: 1 and 3 */
    CHECK(!in_irr(0, 0x42) && in_irr(1, 0x42) && !in_irr(2, 0x42) && in_irr(3, 0x42));
    put(1, ICR, 0x40043); /* self */
    CHECK(in_irr(1, 0x43) && !in_irr(0, 0x43));
    put(1, ICR, 0x80044); /* all */
    CHECK(in_irr(0, 0x44) && in_irr(1, 0x44) && in_irr(3, 0x44));
    put(1, ICR, 0xc0045); /* all but self */
    CHECK(in_irr(0, 0x45) && !in_irr(1, 0x45) && in_irr(3, 0x45));
    for (unsigned i = 0; i < CPUS; i++) {
        put(i, DFR, 0x0fffffff);
        put(i, LDR, (uint32_t)(i / 2) << 28 | 1u << (24 + i % 2));
    }
    ipi(0, 0x12, 0x846); /* cluster 1, member 1 */
    CHECK(!in_irr(0, 0x46) && !in_irr(1, 0x46) && !in_irr(2, 0x46) && in_irr(3, 0x46));
}

TEST(lowest_priority_goes_to_the_least_busy)
{
    setup();
    put(0, TPR, 0x20);
    put(1, TPR, 0x20);
    put(3, TPR, 0x20);
    ipi(0, 0x0f, 0x960); /* logical, lowest priority */
    CHECK(in_irr(2, 0x60));
    CHECK(!in_irr(0, 0x60) && !in_irr(1, 0x60) && !in_irr(3, 0x60));
    put(2, TPR, 0x20);
    for (unsigned i = 0; i < CPUS; i++)
        ipi(0, 0x0f, 0x970); /* equals take turns */
    for (unsigned i = 0; i < CPUS; i++)
        CHECK(in_irr(i, 0x70));
}

TEST(nmi_init_and_startup)
{
    setup();
    ipi(0, 1, 0x400);
    CHECK_EQ(cpu[1].nmis, 1);
    put(1, TPR, 0x30);
    ipi(0, 1, 0xc500); /* INIT, level, assert */
    CHECK_EQ(cpu[1].inits, 1);
    CHECK_EQ(get(1, TPR), 0);
    CHECK_EQ(get(1, SVR), 0xff);
    CHECK_EQ(get(1, ID), 1 << 24);
    ipi(0, 1, 0x8500); /* INIT level de-assert: nothing */
    CHECK_EQ(cpu[1].inits, 1);
    ipi(0, 1, 0x69a);
    CHECK_EQ(cpu[1].startup, 0x9a);
    put(0, ICR, 0xc4500); /* INIT all but self */
    CHECK_EQ(cpu[0].inits, 0);
    CHECK_EQ(cpu[3].inits, 1);
    ipi(0, 2, 0x200);
    CHECK_EQ(cpu[2].smis, 1);
}

/* ---- errors ---- */

TEST(errors_are_latched_and_interrupt)
{
    setup();
    put(0, LVT_ERROR, 0x7e);
    ipi(0, 1, 0x05); /* illegal vector */
    CHECK_EQ(get(0, ESR), 0);
    CHECK(in_irr(0, 0x7e));
    put(0, ESR, 0);
    CHECK_EQ(get(0, ESR), 0x20);
    get(0, 0x3f0); /* no such register */
    put(0, ESR, 0);
    CHECK_EQ(get(0, ESR), 0x80);
    put(0, ESR, 0);
    CHECK_EQ(get(0, ESR), 0);
    put(0, LVT_ERROR, 0x03); /* the error vector itself is illegal */
    get(0, 0x3f0);
    put(0, ESR, 0);
    CHECK_EQ(get(0, ESR), 0xc0);
}

/* ---- the timer ---- */

TEST(one_shot)
{
    setup();
    put(0, DIVIDE, 0x3); /* by 16 */
    put(0, LVT_TIMER, 0x40);
    put(0, INITIAL, 1000);
    CHECK_EQ(get(0, CURRENT), 1000);
    fixture_go(&clk, 160 * 16);
    CHECK_EQ(get(0, CURRENT), 840);
    fixture_go(&clk, 15999);
    CHECK(!in_irr(0, 0x40));
    fixture_go(&clk, 16000);
    CHECK(in_irr(0, 0x40));
    CHECK_EQ(get(0, CURRENT), 0);
    CHECK_EQ(lapic_acknowledge(&lapic[0]), 0x40);
    fixture_go(&clk, 100000);
    CHECK(!in_irr(0, 0x40));
    put(0, INITIAL, 10);
    put(0, INITIAL, 0); /* stops */
    fixture_go(&clk, 200000);
    CHECK(!in_irr(0, 0x40));
}

TEST(periodic_counts_and_mask)
{
    setup();
    put(0, DIVIDE, BY_ONE);
    put(0, LVT_TIMER, PERIODIC | 0x40);
    put(0, INITIAL, 1000000);
    unsigned seen = 0;
    for (uint64_t t = 0; t <= 10000000; t += 100000) {
        fixture_go(&clk, t);
        if (lapic_acknowledge(&lapic[0]) == 0x40) {
            put(0, EOI, 0);
            seen++;
        }
    }
    CHECK_EQ(seen, 10);
    fixture_go(&clk, 10250000);
    CHECK_EQ(get(0, CURRENT), 750000);
    put(0, LVT_TIMER, PERIODIC | MASKED | 0x40);
    fixture_go(&clk, 15000000);
    CHECK(!in_irr(0, 0x40));
    CHECK_EQ(clock_next(&clk), CLOCK_NEVER);
    put(0, LVT_TIMER, PERIODIC | 0x40);
    fixture_go(&clk, 16000000);
    CHECK(in_irr(0, 0x40));
    /* One that a guest sets absurdly short does not stop the world. */
    put(0, INITIAL, 1);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t next = clock_next(&clk);
        CHECK(next > fixture_time);
        fixture_go(&clk, next);
    }
    CHECK(fixture_time - 16000000 >= 99 * 10000);
}

TEST(divide_change_keeps_the_count)
{
    setup();
    put(0, DIVIDE, BY_ONE);
    put(0, LVT_TIMER, 0x40);
    fixture_go(&clk, 5000);
    put(0, INITIAL, 1000);
    fixture_go(&clk, 5400);
    put(0, DIVIDE, 0x0); /* by 2 */
    CHECK_EQ(get(0, CURRENT), 600);
    fixture_go(&clk, 5400 + 1199);
    CHECK(!in_irr(0, 0x40));
    fixture_go(&clk, 5400 + 1200);
    CHECK(in_irr(0, 0x40));
}

TEST(tsc_deadline)
{
    setup();
    uint64_t v;
    CHECK(lapic_msr_write(&lapic[0], LAPIC_MSR_TSC_DEADLINE, 5000));
    CHECK(lapic_msr_read(&lapic[0], LAPIC_MSR_TSC_DEADLINE, &v) && v == 0); /* not in that mode */
    put(0, LVT_TIMER, DEADLINE | 0x40);
    put(0, INITIAL, 1000); /* ignored */
    CHECK_EQ(get(0, INITIAL), 0);
    lapic_msr_write(&lapic[0], LAPIC_MSR_TSC_DEADLINE, 5000);
    fixture_go(&clk, 2499);
    CHECK(!in_irr(0, 0x40));
    CHECK(lapic_msr_read(&lapic[0], LAPIC_MSR_TSC_DEADLINE, &v) && v == 5000);
    fixture_go(&clk, 2500);
    CHECK(in_irr(0, 0x40));
    CHECK(lapic_msr_read(&lapic[0], LAPIC_MSR_TSC_DEADLINE, &v) && v == 0);
    CHECK_EQ(lapic_acknowledge(&lapic[0]), 0x40);
    put(0, EOI, 0);
    lapic_msr_write(&lapic[0], LAPIC_MSR_TSC_DEADLINE, 4000); /* past */
    CHECK(in_irr(0, 0x40));
    CHECK_EQ(lapic_acknowledge(&lapic[0]), 0x40);
    put(0, EOI, 0);
    lapic_msr_write(&lapic[0], LAPIC_MSR_TSC_DEADLINE, 8000);
    put(0, LVT_TIMER, 0x40); /* leaving the mode disarms */
    fixture_go(&clk, 10000);
    CHECK(!in_irr(0, 0x40));
}

/* ---- LINT pins ---- */

TEST(extint_passes_the_8259s)
{
    setup();
    put(0, LVT_LINT0, 0x700);
    lapic_lint(&lapic[0], 0, true);
    CHECK(cpu[0].intr);
    put(0, TPR, 0xff); /* ExtINT knows no priority */
    CHECK(cpu[0].intr);
    CHECK_EQ(lapic_acknowledge(&lapic[0]), 0x3b);
    CHECK_EQ(cpu[0].extints, 1);
    lapic_lint(&lapic[0], 0, false);
    CHECK(!cpu[0].intr);
    lapic_lint(&lapic[0], 0, true);
    put(0, LVT_LINT0, MASKED | 0x700);
    CHECK(!cpu[0].intr);
    put(0, LVT_LINT0, 0x700);
    CHECK(cpu[0].intr);
}

TEST(lint1_is_nmi_and_pins_can_be_fixed)
{
    setup();
    put(1, LVT_LINT1, 0x400);
    lapic_lint(&lapic[1], 1, true);
    lapic_lint(&lapic[1], 1, true);
    CHECK_EQ(cpu[1].nmis, 1);
    put(1, LVT_LINT0, 0x8040); /* fixed, level */
    lapic_lint(&lapic[1], 0, true);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x40);
    CHECK_EQ(get(1, LVT_LINT0), 0xc040); /* remote IRR */
    CHECK(!in_irr(1, 0x40));
    put(1, EOI, 0);
    CHECK(in_irr(1, 0x40)); /* the line is still high */
    lapic_lint(&lapic[1], 0, false);
    lapic_acknowledge(&lapic[1]);
    put(1, EOI, 0);
    CHECK(!in_irr(1, 0x40));
}

TEST(without_an_apic_the_pins_are_the_processors)
{
    setup();
    CHECK(lapic_msr_write(&lapic[0], LAPIC_MSR_BASE, LAPIC_DEFAULT_BASE));
    CHECK(!lapic_claims(&lapic[0], LAPIC_DEFAULT_BASE));
    lapic_lint(&lapic[0], 0, true);
    CHECK(cpu[0].intr);
    CHECK_EQ(lapic_acknowledge(&lapic[0]), 0x3b);
    lapic_lint(&lapic[0], 1, true);
    CHECK_EQ(cpu[0].nmis, 1);
    ipi(1, 0, 0x40);
    CHECK_EQ(lapic[0].irr[2], 0);
    ipi(1, 0, 0x4500); /* INIT reaches it still */
    CHECK_EQ(cpu[0].inits, 1);
}

/* ---- modes ---- */

TEST(apic_base_transitions)
{
    setup();
    struct lapic *l = &lapic[1];
    const uint64_t base = LAPIC_DEFAULT_BASE, en = 0x800, x2 = 0xc00;
    uint64_t v;
    CHECK(!lapic_msr_write(l, LAPIC_MSR_BASE, base | 0x400)); /* EXTD without EN */
    CHECK(!lapic_msr_write(l, LAPIC_MSR_BASE, base | en | 1));
    CHECK(!lapic_msr_write(l, LAPIC_MSR_BASE, base | en | UINT64_C(1) << 40));
    CHECK(lapic_msr_write(l, LAPIC_MSR_BASE, base | x2));
    CHECK(!lapic_msr_write(l, LAPIC_MSR_BASE, base | en)); /* not straight back */
    CHECK(lapic_msr_write(l, LAPIC_MSR_BASE, base | x2));  /* no change is fine */
    CHECK(lapic_msr_write(l, LAPIC_MSR_BASE, base));
    CHECK(!lapic_msr_write(l, LAPIC_MSR_BASE, base | x2)); /* not straight there */
    CHECK(!lapic_msr_read(l, 0x802, &v));
    CHECK(lapic_msr_write(l, LAPIC_MSR_BASE, 0xd0000000 | en));
    CHECK(lapic_claims(l, 0xd0000ff0) && !lapic_claims(l, base));
    CHECK(lapic_msr_read(l, LAPIC_MSR_BASE, &v));
    CHECK_EQ(v, 0xd0000000 | en);
    CHECK(lapic_msr_read(&lapic[0], LAPIC_MSR_BASE, &v));
    CHECK_EQ(v, base | en | 0x100); /* BSP */
}

static void to_x2apic(void)
{
    for (unsigned i = 0; i < CPUS; i++)
        CHECK(lapic_msr_write(&lapic[i], LAPIC_MSR_BASE, LAPIC_DEFAULT_BASE | 0xc00));
}

TEST(x2apic_registers)
{
    setup();
    to_x2apic();
    struct lapic *l = &lapic[3];
    uint64_t v;
    CHECK(!lapic_claims(l, LAPIC_DEFAULT_BASE));
    CHECK(lapic_msr_read(l, 0x802, &v) && v == 3);
    CHECK(lapic_msr_read(l, 0x80d, &v) && v == 8);
    CHECK(!lapic_msr_read(l, 0x80b, &v)); /* EOI is write-only */
    CHECK(!lapic_msr_read(l, 0x83f, &v)); /* so is SELF IPI */
    CHECK(!lapic_msr_read(l, 0x80e, &v)); /* no DFR */
    CHECK(!lapic_msr_read(l, 0x831, &v)); /* ICR is one register */
    CHECK(!lapic_msr_write(l, 0x802, 0)); /* read-only */
    CHECK(!lapic_msr_write(l, 0x80d, 0));
    CHECK(!lapic_msr_write(l, 0x839, 0));
    CHECK(!lapic_msr_write(l, 0x80b, 1)); /* reserved bits */
    CHECK(lapic_msr_write(l, 0x80b, 0));
    CHECK(!lapic_msr_write(l, 0x828, 1));
    CHECK(!lapic_msr_write(l, 0x808, 0x100));
    CHECK(!lapic_msr_write(l, 0x832, 0x80000));
    CHECK(!lapic_msr_write(l, 0x838, UINT64_C(1) << 32));
    CHECK(!lapic_msr_write(l, 0x8ff, 0));
    CHECK(lapic_msr_write(l, 0x83f, 0x55));
    CHECK_EQ(lapic_acknowledge(l), 0x55);
}

TEST(x2apic_destinations)
{
    setup();
    to_x2apic();
    lapic_msr_write(&lapic[0], 0x830, UINT64_C(2) << 32 | 0x40);
    CHECK(cpu[2].intr && !cpu[1].intr);
    lapic_msr_write(&lapic[0], 0x830, UINT64_C(0xff) << 32 | 0x41); /* a number now, no broadcast */
    CHECK(!cpu[1].intr);
    lapic_msr_write(&lapic[0], 0x830, UINT64_C(0xa) << 32 | 0x842); /* logical, cluster 0 */
    CHECK(cpu[1].intr && cpu[3].intr && !cpu[0].intr);
    lapic_msr_write(&lapic[0], 0x830, UINT64_C(0x1000a) << 32 | 0x843); /* no such cluster */
    CHECK_EQ(lapic[1].irr[2], 1u << 2);
    lapic_msr_write(&lapic[1], 0x830, UINT64_C(0xffffffff) << 32 | 0x44);
    CHECK(cpu[0].intr);
    apic_bus_msi(&apics, 0xfee03000, 0x4045); /* an MSI's 8 bits reach them too */
    CHECK_EQ(lapic_acknowledge(&lapic[3]), 0x45);
}

TEST(msi)
{
    setup();
    apic_bus_msi(&apics, 0xfee02000, 0x0041);
    CHECK(in_irr(2, 0x41));
    apic_bus_msi(&apics, 0xfee06004, 0x0042); /* logical: 1 and 2 */
    CHECK(in_irr(1, 0x42) && in_irr(2, 0x42) && !in_irr(0, 0x42));
    apic_bus_msi(&apics, 0xfec02000, 0x0043);
    CHECK(!in_irr(2, 0x43));
    apic_bus_msi(&apics, 0xfee02000, 0x0400);
    CHECK_EQ(cpu[2].nmis, 1);
    apic_bus_msi(&apics, 0xfee02000, 0x8044); /* level, de-asserted */
    CHECK(!in_irr(2, 0x44));
}

/* ---- the I/O APIC ---- */

static void route(unsigned pin, uint32_t low, uint32_t high)
{
    bus_write(&memory, IOAPIC_BASE, 4, 0x11 + 2 * pin);
    bus_write(&memory, IOAPIC_BASE + 0x10, 4, high);
    bus_write(&memory, IOAPIC_BASE, 4, 0x10 + 2 * pin);
    bus_write(&memory, IOAPIC_BASE + 0x10, 4, low);
}

static uint32_t routed(unsigned pin)
{
    bus_write(&memory, IOAPIC_BASE, 4, 0x10 + 2 * pin);
    return (uint32_t)bus_read(&memory, IOAPIC_BASE + 0x10, 4);
}

TEST(ioapic_identifies_itself)
{
    setup();
    bus_write(&memory, IOAPIC_BASE, 4, 1);
    CHECK_EQ(bus_read(&memory, IOAPIC_BASE + 0x10, 4), 0x00170020);
    bus_write(&memory, IOAPIC_BASE, 4, 0);
    CHECK_EQ(bus_read(&memory, IOAPIC_BASE + 0x10, 4), 4 << 24);
    CHECK_EQ(routed(5), MASKED);
    bus_write(&memory, IOAPIC_BASE, 4, 0x40); /* beyond the table */
    CHECK_EQ(bus_read(&memory, IOAPIC_BASE + 0x10, 4), 0);
    bus_write(&memory, IOAPIC_BASE + 0x10, 4, 0x1234);
}

TEST(ioapic_edges)
{
    setup();
    route(4, 0x61, 1 << 24);
    ioapic_set(&ioapic, 4, true);
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x61);
    put(1, EOI, 0);
    ioapic_set(&ioapic, 4, true); /* no edge */
    CHECK(!cpu[1].intr);
    ioapic_set(&ioapic, 4, false);
    route(4, MASKED | 0x61, 1 << 24);
    ioapic_set(&ioapic, 4, true);
    route(4, 0x61, 1 << 24);
    CHECK(!cpu[1].intr); /* an edge while masked is lost */
}

TEST(ioapic_levels_are_delivered_again_after_eoi)
{
    setup();
    route(10, 0x8071, 1 << 24);
    ioapic_set(&ioapic, 10, true);
    CHECK_EQ(routed(10), 0xc071); /* remote IRR */
    CHECK_EQ(lapic_acknowledge(&lapic[1]), 0x71);
    CHECK_EQ(get(1, TMR + 0x30), 1u << 17);
    CHECK(!cpu[1].intr);
    put(1, EOI, 0);
    CHECK(cpu[1].intr); /* still high */
    lapic_acknowledge(&lapic[1]);
    ioapic_set(&ioapic, 10, false);
    put(1, EOI, 0);
    CHECK(!cpu[1].intr);
    CHECK_EQ(routed(10), 0x8071);
    /* High while masked: comes when it is unmasked. */
    route(10, MASKED | 0x8071, 1 << 24);
    ioapic_set(&ioapic, 10, true);
    CHECK(!cpu[1].intr);
    route(10, 0x8071, 1 << 24);
    CHECK(cpu[1].intr);
    /* The guest can't write remote IRR; switching to edge clears it. */
    route(10, MASKED | 0x71, 1 << 24);
    CHECK_EQ(routed(10), MASKED | 0x71);
}

TEST(eoi_broadcast_can_be_suppressed)
{
    setup();
    put(1, SVR, 0x11ff);
    route(10, 0x8071, 1 << 24);
    ioapic_set(&ioapic, 10, true);
    lapic_acknowledge(&lapic[1]);
    put(1, EOI, 0);
    CHECK_EQ(routed(10), 0xc071);
    bus_write(&memory, IOAPIC_BASE + 0x40, 4, 0x71); /* directed EOI */
    CHECK(cpu[1].intr);
}

TEST(ioapic_nmi_has_no_eoi)
{
    setup();
    route(9, 0x8400, 1 << 24);
    ioapic_set(&ioapic, 9, true);
    CHECK_EQ(cpu[1].nmis, 1);
    CHECK_EQ(routed(9) & 0x4000, 0);
}

TEST(odd_accesses_do_no_harm)
{
    setup();
    for (unsigned offset = 0; offset < 0x1000; offset++)
        for (unsigned size = 1; size <= 8; size *= 2) {
            lapic_read(&lapic[0], offset, size);
            bus_read(&memory, IOAPIC_BASE + offset, size);
        }
    put(0, TPR, 0x20);
    lapic_write(&lapic[0], TPR, 1, 0x80); /* not a double word */
    lapic_write(&lapic[0], TPR + 4, 4, 0x80);
    CHECK_EQ(get(0, TPR), 0x20);
    CHECK_EQ(lapic_read(&lapic[0], VERSION + 2, 1), 0x05);
}

TEST(survives_save_and_load)
{
    setup();
    static struct lapic other;
    static struct ioapic other_io;
    put(3, DIVIDE, BY_ONE);
    put(3, LVT_TIMER, PERIODIC | 0x40);
    put(3, INITIAL, 100000);
    ipi(0, 3, 0x66);
    lapic_acknowledge(&lapic[3]);
    ipi(0, 3, 0x77);
    make(&other, 3);
    cpu[3].intr = false;
    CHECK(fixture_round_trip(&lapic_archive, &lapic[3], &other));
    CHECK(cpu[3].intr);
    timer_cancel(&lapic[3].timer);
    fixture_go(&clk, 100000);
    CHECK_EQ(lapic_acknowledge(&other), 0x77);
    lapic_write(&other, EOI, 4, 0);
    lapic_write(&other, EOI, 4, 0);
    CHECK_EQ(lapic_acknowledge(&other), 0x40);
    route(10, 0x8071, 1 << 24);
    ioapic_set(&ioapic, 10, true);
    ioapic_init(&other_io, apic_bus_deliver, &apics, 4);
    CHECK(fixture_round_trip(&ioapic_archive, &ioapic, &other_io));
    lapic[3].base = 0x400;
    CHECK(!fixture_round_trip(&lapic_archive, &lapic[3], &other));
}

TESTS(T(reset_state), T(highest_vector_first_and_nesting_by_class), T(tpr_and_cr8_hold_back),
      T(physical_logical_and_shorthands), T(lowest_priority_goes_to_the_least_busy),
      T(nmi_init_and_startup), T(errors_are_latched_and_interrupt), T(one_shot),
      T(periodic_counts_and_mask), T(divide_change_keeps_the_count), T(tsc_deadline),
      T(extint_passes_the_8259s), T(lint1_is_nmi_and_pins_can_be_fixed),
      T(without_an_apic_the_pins_are_the_processors), T(apic_base_transitions), T(x2apic_registers),
      T(x2apic_destinations), T(msi), T(ioapic_identifies_itself), T(ioapic_edges),
      T(ioapic_levels_are_delivered_again_after_eoi), T(eoi_broadcast_can_be_suppressed),
      T(ioapic_nmi_has_no_eoi), T(odd_accesses_do_no_harm), T(survives_save_and_load))

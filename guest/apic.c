/*
 * The local APIC as systems use it: its timer in each mode, what is pending and in service, the
 * registers, I/O APIC and 8259 behind it, x2APIC, and a second processor where there is one.
 *
 * Interrupts may come late (an interpreter looks for them now and then), but none is lost and none
 * comes twice; and that must hold whatever becomes of the APIC meanwhile (doppel run
 * --switch-every).
 */
#include "lib/apic.h"
#include "lib/run32.h"

const char guest_name[] = "apic";

enum {
    INIT = 5 << 8 | 1 << 14,
    STARTUP = 6 << 8 | 1 << 14,
    FIXED = 1 << 14,
};
enum { MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0, MSR_X2APIC = 0x800 };
enum { X2APIC = 1 << 10, ENABLED = 1 << 11 };
enum { MILLISECOND = 1000000 }; /* of the timer's clock, by one */

static bool has_bit(unsigned set_of, unsigned vector)
{
    return apic_get(set_of + vector / 32 * 16) >> vector % 32 & 1;
}

static uint32_t wait_and_end(void);

static void begin(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    apic_set(SVR, 0x1ff);
    apic_set(LVT_LINT0, MASKED);
    apic_set(LVT_TIMER, MASKED);
    apic_set(TPR, 0);
    apic_set(DIVIDE, BY_ONE);
    for (unsigned i = 0; i < 8; i++) /* what a test that failed has left */
        while (apic_get(IRR + 16 * i))
            wait_and_end();
}

CODE(spin, "sti\n 1: pause\n jmp 1b");
CODE(halt, "sti\n 1: hlt\n jmp 1b");

/* Waits, with interrupts on, until one comes; its vector. */
static uint32_t wait(void)
{
    struct context c = at_level(0);
    run_code(&c, spin);
    return c.vector;
}

/* The same, asleep. */
static uint32_t sleep(void)
{
    struct context c = at_level(0);
    run_code(&c, halt);
    return c.vector;
}

static uint32_t wait_and_end(void)
{
    uint32_t vector = wait();
    apic_set(EOI, 0);
    return vector;
}

/* ---- timers ---- */

static void one_shot_comes_once(void)
{
    begin();
    for (unsigned i = 0; i < 30; i++) {
        apic_set(LVT_TIMER, 0x40 + i);
        apic_set(INITIAL, MILLISECOND);
        CHECK_EQ(wait_and_end(), 0x40 + i); /* not the one before once more */
        CHECK_EQ(apic_get(CURRENT), 0);
    }
    CHECK(!has_bit(IRR, 0x40 + 29));
}

static void periodic_goes_on(void)
{
    begin();
    apic_set(LVT_TIMER, PERIODIC | 0x41);
    apic_set(INITIAL, MILLISECOND);
    for (unsigned i = 0; i < 60; i++) {
        CHECK_EQ(i % 2 ? wait() : sleep(), 0x41);
        apic_set(EOI, 0);
        CHECK(apic_get(CURRENT) <= MILLISECOND);
        CHECK_EQ(apic_get(INITIAL), MILLISECOND);
    }
    apic_set(INITIAL, 0);
    CHECK_EQ(apic_get(CURRENT), 0);
    apic_set(LVT_TIMER, MASKED);
    apic_set(ICR, SELF | 0x31); /* lower than a tick that may be left */
    while (wait_and_end() != 0x31)
        ;
}

static uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

static void deadlines_are_met(void)
{
    begin();
    apic_set(LVT_TIMER, DEADLINE | 0x42);
    __asm__ volatile("mfence");
    for (unsigned i = 0; i < 40; i++) {
        uint64_t at = rdtsc() + 2000000;
        wrmsr(MSR_TSC_DEADLINE, at);
        CHECK_EQ(i % 2 ? wait() : sleep(), 0x42);
        CHECK(rdtsc() >= at);
        CHECK_EQ(rdmsr(MSR_TSC_DEADLINE), 0);
        apic_set(EOI, 0);
        CHECK(!has_bit(IRR, 0x42));
    }
    /* One that is far off does not come, and can be taken back. */
    uint64_t far = rdtsc() + ((uint64_t)1 << 50);
    wrmsr(MSR_TSC_DEADLINE, far);
    CHECK_EQ(rdmsr(MSR_TSC_DEADLINE), far);
    wrmsr(MSR_TSC_DEADLINE, 0);
    CHECK_EQ(rdmsr(MSR_TSC_DEADLINE), 0);
    apic_set(LVT_TIMER, MASKED);
}

static void masked_timer_is_silent(void)
{
    begin();
    apic_set(LVT_TIMER, MASKED | 0x43);
    apic_set(INITIAL, 1000);
    while (apic_get(CURRENT))
        ;
    for (unsigned i = 0; i < 1000; i++) /* it may be late */
        outb(0x80, 0);
    apic_set(LVT_TIMER, 0x43);
    apic_set(ICR, SELF | 0x31);
    CHECK_EQ(wait_and_end(), 0x31);
    CHECK(!has_bit(IRR, 0x43));
    apic_set(LVT_TIMER, MASKED);
    apic_set(INITIAL, 0);
}

/* ---- what stays while time goes by ---- */

/* Ticks above all else that the test does. */
static void let_time_pass(unsigned milliseconds)
{
    apic_set(LVT_TIMER, PERIODIC | 0xf0);
    apic_set(INITIAL, MILLISECOND);
    for (unsigned i = 0; i < milliseconds; i++)
        CHECK_EQ(wait_and_end(), 0xf0);
    apic_set(LVT_TIMER, MASKED);
    apic_set(INITIAL, 0);
    /* The last tick may have come meanwhile. */
    while (has_bit(IRR, 0xf0))
        wait_and_end();
}

static void registers_stay(void)
{
    static const struct {
        uint32_t reg, value;
    } values[] = {
        {TPR, 0x2f},
        {LDR, 0x04000000},
        {DFR, 0xffffffff},
        {SVR, 0x1e7},
        {LVT_THERMAL, MASKED | 0x51},
        {LVT_PERF, MASKED | 0x452},
        {LVT_LINT0, MASKED | 0x8753},
        {LVT_LINT1, MASKED | 0x2454},
        {LVT_ERROR, MASKED | 0x55},
        {ICR_HIGH, 0x0c000000},
    };
    begin();
    uint32_t id = apic_get(ID), low = apic_get(ICR);
    for (unsigned i = 0; i < ARRAY_LEN(values); i++)
        apic_set(values[i].reg, values[i].value);
    for (unsigned round = 0; round < 10; round++) {
        let_time_pass(5);
        for (unsigned i = 0; i < ARRAY_LEN(values); i++)
            CHECK_EQ(apic_get(values[i].reg), values[i].value);
        CHECK_EQ(apic_get(ID), id);
        CHECK_EQ(apic_get(ICR), low);
        CHECK_EQ(apic_get(DIVIDE), BY_ONE);
        CHECK_EQ(apic_get(PPR), 0x2f);
    }
    apic_set(ICR_HIGH, 0);
    apic_set(LVT_LINT0, MASKED);
    apic_set(LVT_LINT1, MASKED);
    apic_set(LDR, 0);
}

/* What is below the TPR waits. */
static void pending_stays(void)
{
    begin();
    apic_set(TPR, 0x60);
    apic_set(ICR, SELF | 0x52);
    apic_set(ICR, SELF | 0x41);
    for (unsigned round = 0; round < 10; round++) {
        let_time_pass(5);
        CHECK(has_bit(IRR, 0x52));
        CHECK(has_bit(IRR, 0x41));
        CHECK_EQ(apic_get(IRR + 0x20), 1 << 18 | 2);
    }
    apic_set(TPR, 0);
    CHECK_EQ(wait_and_end(), 0x52);
    CHECK_EQ(wait_and_end(), 0x41);
}

static void served_stays(void)
{
    begin();
    apic_set(ICR, SELF | 0x60);
    CHECK_EQ(wait(), 0x60);
    apic_set(ICR, SELF | 0x52);
    apic_set(ICR, SELF | 0x41);
    for (unsigned round = 0; round < 10; round++) {
        CHECK(has_bit(ISR, 0x60));
        if (!has_bit(ISR, 0x60)) /* nor can the rest hold */
            return;
        let_time_pass(5);
        CHECK(!has_bit(IRR, 0x60));
        CHECK(has_bit(IRR, 0x52));
        CHECK(has_bit(IRR, 0x41));
        CHECK_EQ(apic_get(PPR), 0x60);
    }
    apic_set(EOI, 0);
    CHECK_EQ(wait_and_end(), 0x52);
    CHECK_EQ(wait_and_end(), 0x41);
    for (unsigned i = 0; i < 8; i++) {
        CHECK_EQ(apic_get(ISR + 16 * i), 0);
        CHECK_EQ(apic_get(IRR + 16 * i), 0);
    }
}

/* ---- what is behind the local APIC ---- */

static void ioapic_set(unsigned pin, uint32_t low)
{
    volatile uint32_t *const io = (volatile uint32_t *)0xfec00000;
    io[0] = 0x10 + 2 * pin + 1;
    io[4] = 0;
    io[0] = 0x10 + 2 * pin;
    io[4] = low;
}

/* COM1's line is up while its transmitter is empty and nobody has asked why. */
static void level_triggered_comes_until_it_ends(void)
{
    enum { COM1 = 0x3f8, COM1_PIN = 4, LEVEL = 1 << 15 };
    begin();
    outb(COM1 + 1, 0);
    outb(COM1 + 4, 0x0b);
    ioapic_set(COM1_PIN, LEVEL | 0x62);
    outb(COM1 + 1, 2);
    for (unsigned i = 0; i < 40; i++) {
        CHECK_EQ(wait(), 0x62);
        CHECK(has_bit(TMR, 0x62));
        if (i == 39)
            inb(COM1 + 2); /* asks: the line goes down */
        apic_set(EOI, 0);
    }
    apic_set(ICR, SELF | 0x31);
    CHECK_EQ(wait_and_end(), 0x31);
    CHECK(!has_bit(IRR, 0x62));
    outb(COM1 + 1, 0);
    ioapic_set(COM1_PIN, MASKED);
}

static void old_controllers_come_through(void)
{
    begin();
    outb(0x20, 0x11);
    outb(0x21, 0x50);
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    outb(0x43, 0x34);
    outb(0x40, 0x00);
    outb(0x40, 0x10);
    apic_set(LVT_LINT0, EXTINT);
    outb(0x21, 0xfe);
    for (unsigned i = 0; i < 20; i++) {
        CHECK_EQ(i % 2 ? wait() : sleep(), 0x50);
        outb(0x20, 0x20);
    }
    /* Behind a masked LINT0 it waits. */
    apic_set(LVT_LINT0, MASKED | EXTINT);
    let_time_pass(10);
    apic_set(LVT_LINT0, EXTINT);
    CHECK_EQ(wait(), 0x50);
    outb(0x21, 0xff);
    outb(0x20, 0x20);
    apic_set(LVT_LINT0, MASKED);
}

/* ---- a second processor ---- */

/* In the order of the MP table (MP specification 1.4, 4.3.1): how many there are. */
static unsigned processors(void)
{
    const uint8_t *at = (const uint8_t *)0xf0000, *table;
    while (memcmp(at, "_MP_", 4) != 0 && at < (const uint8_t *)0xfffff)
        at += 16;
    table = *(const uint8_t *const *)(at + 4);
    unsigned n = 0;
    for (const uint8_t *e = table + 44; *e == 0; e += 20)
        n += e[3] & 1;
    return n;
}

__attribute__((used)) static uint8_t ap_stack[4096] __attribute__((aligned(16)));
static uint64_t ap_idt[256];
static volatile uint32_t ap_online, ap_calls, ap_ticks;
extern uint8_t ap_call_entry[], ap_tick_entry[];
void ap_main(void), ap_call(void), ap_tick(void);

/* The start-up IPI's page, where .low begins. */
__asm__(".pushsection .low, \"awx\", @progbits\n"
        ".code16\n"
        "cli\n"
        "xor %ax, %ax\n"
        "mov %ax, %ds\n"
        "lgdtl ap_gdtr\n"
        "mov %cr0, %eax\n"
        "or $1, %al\n"
        "mov %eax, %cr0\n"
        "ljmpl $8, $1f\n"
        ".code32\n"
        "1: mov $16, %eax\n"
        "mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
        "mov $ap_stack + 4096, %esp\n"
        "call ap_main\n"
        "1: sti\n hlt\n jmp 1b\n"
        "ap_gdtr: .word 511\n .long gdt\n"
        ".popsection\n"
        "ap_call_entry: pusha\n call ap_call\n popa\n iret\n"
        "ap_tick_entry: pusha\n call ap_tick\n popa\n iret\n");

enum { CALL = 0x70, ANSWER = 0x71, TICK = 0x82 };

void ap_main(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) idtr = {sizeof ap_idt - 1, (uint32_t)ap_idt};
    __asm__ volatile("lidt %0" : : "m"(idtr));
    apic_set(SVR, 0x1ff);
    apic_set(DIVIDE, BY_ONE);
    apic_set(LVT_TIMER, PERIODIC | TICK);
    apic_set(INITIAL, 2 * MILLISECOND);
    ap_online++;
}

void ap_call(void)
{
    ap_calls++;
    apic_set(EOI, 0);
    apic_set(ICR_HIGH, 0);
    apic_set(ICR, FIXED | ANSWER);
}

void ap_tick(void)
{
    ap_ticks++;
    apic_set(EOI, 0);
}

static void send(uint32_t icr)
{
    apic_set(ICR_HIGH, 1 << 24);
    apic_set(ICR, icr);
}

static void start_ap(void)
{
    uint32_t before = ap_online;
    send(INIT);
    let_time_pass(2);
    send(STARTUP | 8);
    for (unsigned i = 0; i < 2000 && ap_online == before; i++)
        let_time_pass(1);
    CHECK_EQ(ap_online, before + 1);
}

static void processors_call_each_other(void)
{
    begin();
    if (processors() < 2)
        return;
    ap_idt[CALL] = gate(CODE0, (uint32_t)ap_call_entry, G_INTERRUPT, 0);
    ap_idt[TICK] = gate(CODE0, (uint32_t)ap_tick_entry, G_INTERRUPT, 0);
    for (unsigned round = 0; round < 3; round++) {
        start_ap();
        if (ap_online != round + 1)
            return;
        uint32_t ticks = ap_ticks;
        for (unsigned i = 0; i < 100; i++) {
            send(FIXED | CALL);
            CHECK_EQ(i % 2 ? wait() : sleep(), ANSWER);
            CHECK_EQ(ap_calls, round * 100 + i + 1);
            apic_set(EOI, 0);
        }
        while (ap_ticks < ticks + 10)
            let_time_pass(1);
    }
    send(INIT);
    let_time_pass(2);
    uint32_t ticks = ap_ticks;
    let_time_pass(10);
    CHECK_EQ(ap_ticks, ticks); /* INIT has stopped its timer */
}

/* ---- x2APIC ---- */

static void x2apic_does_the_same(void)
{
    begin();
    apic_set(ICR, SELF | 0x44);
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | X2APIC);
    CHECK_EQ(rdmsr(MSR_X2APIC + 2), 0);
    CHECK_EQ(rdmsr(MSR_X2APIC + 0xd), 1);
    CHECK_EQ(wait(), 0x44); /* sent before */
    wrmsr(MSR_X2APIC + 0xb, 0);
    for (unsigned i = 0; i < 30; i++) {
        wrmsr(MSR_X2APIC + 0x3f, 0x45);
        CHECK_EQ(wait(), 0x45);
        wrmsr(MSR_X2APIC + 0xb, 0);
        wrmsr(MSR_X2APIC + 0x32, 0x46);
        wrmsr(MSR_X2APIC + 0x38, MILLISECOND);
        CHECK_EQ(wait(), 0x46);
        wrmsr(MSR_X2APIC + 0xb, 0);
    }
    wrmsr(MSR_X2APIC + 8, 0x37);
    CHECK_EQ(rdmsr(MSR_X2APIC + 8), 0x37);
    /* Back, by way of off. */
    uint64_t base = rdmsr(MSR_APIC_BASE);
    wrmsr(MSR_APIC_BASE, base & ~(uint64_t)(X2APIC | ENABLED));
    wrmsr(MSR_APIC_BASE, base & ~(uint64_t)X2APIC);
    begin();
    apic_set(ICR, SELF | 0x47);
    CHECK_EQ(wait_and_end(), 0x47);
}

const struct guest_test guest_tests[] = {
    {"a one-shot timer comes once", one_shot_comes_once},
    {"a periodic timer goes on", periodic_goes_on},
    {"deadlines are met", deadlines_are_met, .not_tcg = true},
    {"a masked timer is silent", masked_timer_is_silent},
    {"registers stay", registers_stay},
    {"what is pending stays", pending_stays},
    {"what is in service stays", served_stays},
    {"a level-triggered interrupt comes until it ends", level_triggered_comes_until_it_ends},
    {"the 8259s come through", old_controllers_come_through},
    {"processors call each other", processors_call_each_other},
    {"x2APIC does the same", x2apic_does_the_same, .not_tcg = true},
    {0},
};

/*
 * The entropy device of `--rng` as a driver finds it (virtio 1.2): capabilities, negotiation, a
 * queue, what comes back from it, the interrupt that says so, and what becomes of nonsense. Every
 * request comes back and every interrupt comes, whatever becomes of the engine meanwhile (doppel
 * run --switch-every), of the vector, and of the place of the device's registers.
 */
#include "lib/apic.h"
#include "lib/run32.h"

const char guest_name[] = "virtio";

#define ECAM   0xe0000000u
#define DEVFN  (1u << 3)
#define REG(n) (*(volatile uint32_t *)(ECAM + DEVFN * 4096 + (n)))

enum { COMMAND = 0x04, MEMORY = 2, MASTER = 4, BAR0 = 0x10, CAPABILITIES = 0x34 };
enum { COMMON = 1, NOTIFY, INTERRUPT, CONFIG, WINDOW };
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8, NEEDS_RESET = 64 };
enum { VERSION_1 = 1 << 0, INDIRECT = 1 << 28, EVENT_IDX = 1 << 29 };
enum { NEXT = 1, WRITE = 2, TABLE = 4 };
enum { SIZE = 8, BYTES = 64 };

static uint8_t capability[6]; /* by type: where in configuration space */
static uint8_t msix;
static uint32_t common, notify;

/* ---- memory that both see ---- */

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
static volatile struct descriptor table[SIZE] __attribute__((aligned(16)));
static volatile struct descriptor inner[SIZE] __attribute__((aligned(16)));
static volatile struct {
    uint16_t flags, index, ring[SIZE], used_event;
} available __attribute__((aligned(2)));
static volatile struct {
    uint16_t flags, index;
    struct {
        uint32_t id, length;
    } ring[SIZE];
    uint16_t available_event;
} used __attribute__((aligned(4)));
static volatile uint8_t bytes[SIZE][BYTES];

/* ---- registers ---- */

#define AT8(a)  (*(volatile uint8_t *)(a))
#define AT16(a) (*(volatile uint16_t *)(a))
#define AT32(a) (*(volatile uint32_t *)(a))

static uint8_t config8(unsigned at)
{
    return (uint8_t)(REG(at & ~3u) >> 8 * (at & 3));
}

static uint32_t bar(unsigned n)
{
    return REG(BAR0 + 4 * n) & ~15u;
}

static void find(void)
{
    if (REG(0) != 0x10441af4)
        guest_panic("no entropy device: run it with --rng;", REG(0), ECAM + DEVFN * 4096);
    for (unsigned cap = config8(CAPABILITIES); cap; cap = config8(cap + 1)) {
        if (config8(cap) == 0x11)
            msix = (uint8_t)cap;
        else if (config8(cap) == 9 && config8(cap + 3) <= WINDOW)
            capability[config8(cap + 3)] = (uint8_t)cap;
    }
    common = bar(config8(capability[COMMON] + 4)) + REG(capability[COMMON] + 8);
    notify = bar(config8(capability[NOTIFY] + 4)) + REG(capability[NOTIFY] + 8);
}

static uint8_t status(void)
{
    return AT8(common + 0x14);
}

static void set_status(uint8_t value)
{
    AT8(common + 0x14) = value;
}

static void offer_features(uint32_t low, uint32_t high)
{
    AT32(common + 0x08) = 0;
    AT32(common + 0x0c) = low;
    AT32(common + 0x08) = 1;
    AT32(common + 0x0c) = high;
    set_status(status() | FEATURES_OK);
}

static void set_area(unsigned at, const volatile void *area)
{
    AT32(common + at) = (uint32_t)(uintptr_t)area;
    AT32(common + at + 4) = 0;
}

static void set_vector(unsigned vector)
{
    uint32_t entry = bar(1);
    AT32(entry + 0) = 0xfee00000;
    AT32(entry + 4) = 0;
    AT32(entry + 8) = vector;
    AT32(entry + 12) = 0;
}

static void mask_vector(bool masked)
{
    AT32(bar(1) + 12) = masked;
}

/* From a reset to a queue that works; entry 0 of MSI-X is its. */
static void start(uint32_t low)
{
    find();
    REG(COMMAND) = MEMORY | MASTER;
    REG(msix) = REG(msix) | 1u << 31;
    set_status(0);
    set_status(ACKNOWLEDGE | DRIVER);
    offer_features(low, VERSION_1);
    memset((void *)&available, 0, sizeof available);
    memset((void *)&used, 0, sizeof used);
    AT16(common + 0x16) = 0;
    AT16(common + 0x18) = SIZE;
    AT16(common + 0x1a) = 0;
    set_area(0x20, table);
    set_area(0x28, &available);
    set_area(0x30, &used);
    AT16(common + 0x1c) = 1;
    set_status(status() | DRIVER_OK);
}

/* ---- requests ---- */

static void offer(unsigned head)
{
    available.ring[available.index % SIZE] = (uint16_t)head;
    available.index++;
    __asm__ volatile("lock orl $0, (%%esp)" ::: "memory");
    AT16(notify) = 0;
}

static void offer_buffer(unsigned i)
{
    for (unsigned n = 0; n < BYTES; n++)
        bytes[i][n] = 0;
    table[i].address = (uint32_t)(uintptr_t)bytes[i];
    table[i].length = BYTES;
    table[i].flags = WRITE;
    offer(i);
}

/* They are back by now, and nothing broke. */
static void check_used(uint16_t index)
{
    while (used.index != index && !(status() & NEEDS_RESET))
        __asm__ volatile("pause");
    CHECK_EQ(used.index, index);
}

/* A buffer of zeros is one that nobody wrote to. */
static void check_bytes(unsigned i)
{
    unsigned zeros = 0;
    for (unsigned n = 0; n < BYTES; n++)
        zeros += bytes[i][n] == 0;
    CHECK(zeros < BYTES / 2);
}

/* ---- interrupts ---- */

static void begin(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    apic_set(SVR, 0x1ff);
    apic_set(LVT_LINT0, MASKED);
    apic_set(LVT_TIMER, MASKED);
    apic_set(TPR, 0);
}

CODE(spin, "sti\n 1: pause\n jmp 1b");

static uint32_t wait(void)
{
    struct context c = at_level(0);
    run_code(&c, spin);
    apic_set(EOI, 0);
    return c.vector;
}

/* ---- the tests ---- */

static void has_what_drivers_look_for(void)
{
    find();
    REG(COMMAND) = MEMORY | MASTER;
    CHECK(capability[COMMON] && capability[NOTIFY] && capability[INTERRUPT] && capability[WINDOW]);
    CHECK(msix);
    CHECK_EQ(AT16(common + 0x12), 1);
    AT16(common + 0x16) = 1; /* a queue that is not there */
    CHECK_EQ(AT16(common + 0x18), 0);
    AT16(common + 0x16) = 0;
    CHECK_EQ(AT16(common + 0x18) & (AT16(common + 0x18) - 1), 0);
}

static void features_are_agreed_on(void)
{
    find();
    set_status(0);
    CHECK_EQ(status(), 0);
    set_status(ACKNOWLEDGE | DRIVER);
    offer_features(0, 0); /* a legacy driver's */
    CHECK_EQ(status(), ACKNOWLEDGE | DRIVER);
    offer_features(1, VERSION_1); /* not offered */
    CHECK_EQ(status(), ACKNOWLEDGE | DRIVER);
    offer_features(INDIRECT, VERSION_1);
    CHECK_EQ(status(), ACKNOWLEDGE | DRIVER | FEATURES_OK);
    set_status(0);
}

static void buffers_come_back_filled(void)
{
    start(0);
    available.flags = 1; /* no interrupts */
    for (unsigned i = 0; i < 40; i++) {
        offer_buffer(i % SIZE);
        check_used((uint16_t)(i + 1));
        CHECK_EQ(used.ring[i % SIZE].id, i % SIZE);
        CHECK_EQ(used.ring[i % SIZE].length, BYTES);
        check_bytes(i % SIZE);
    }
    for (unsigned i = 0; i < SIZE; i++)
        offer_buffer(i);
    check_used(40 + SIZE);
    for (unsigned i = 0; i < SIZE; i++)
        check_bytes(i);
}

static void chains_and_tables_are_filled(void)
{
    start(INDIRECT);
    available.flags = 1;
    for (unsigned i = 0; i < 3; i++) {
        bytes[i][0] = 0;
        inner[i].address = (uint32_t)(uintptr_t)bytes[i];
        inner[i].length = BYTES;
        inner[i].flags = i < 2 ? WRITE | NEXT : WRITE;
        inner[i].next = (uint16_t)(i + 1);
    }
    table[3].address = (uint32_t)(uintptr_t)inner;
    table[3].length = 3 * sizeof inner[0];
    table[3].flags = TABLE;
    offer(3);
    check_used(1);
    CHECK_EQ(used.ring[0].id, 3);
    CHECK_EQ(used.ring[0].length, 3 * BYTES);
    check_bytes(2);
}

/* mov $imm, %al; ret */
static volatile uint8_t code[] __attribute__((aligned(4096))) = {0xb0, 0, 0xc3};

static void code_that_it_writes_is_run(void)
{
    uint8_t (*run_it)(void) = (uint8_t(*)(void))(uintptr_t)code;
    unsigned changes = 0;
    start(0);
    available.flags = 1;
    for (unsigned i = 0; i < 100; i++) {
        uint8_t before = code[1];
        for (unsigned n = 0; n < 20; n++)
            CHECK_EQ(run_it(), before);
        table[0].address = (uint32_t)(uintptr_t)&code[1];
        table[0].length = 1;
        table[0].flags = WRITE;
        offer(0);
        check_used((uint16_t)(i + 1));
        CHECK_EQ(run_it(), code[1]);
        changes += code[1] != before;
    }
    CHECK(changes > 50);
}

static void interrupts_say_so(void)
{
    begin();
    start(0);
    set_vector(0x50);
    for (unsigned i = 0; i < 200; i++) {
        offer_buffer(i % SIZE);
        CHECK_EQ(wait(), 0x50);
        CHECK_EQ(used.index, (uint16_t)(i + 1));
        check_bytes(i % SIZE);
    }
}

static void vectors_are_masked_and_moved(void)
{
    begin();
    start(0);
    set_vector(0x51);
    for (unsigned i = 0; i < 30; i++) {
        mask_vector(true);
        offer_buffer(0);
        check_used((uint16_t)(3 * i + 1));
        while (!(AT32(bar(1) + 0x800) & 1)) /* the interrupt waits there */
            ;
        set_vector(0x60 + i);
        CHECK_EQ(wait(), 0x60 + i);
        CHECK_EQ(AT32(bar(1) + 0x800), 0);
        offer_buffer(1);
        CHECK_EQ(wait(), 0x60 + i);
        set_vector(0x51);
        offer_buffer(2);
        CHECK_EQ(wait(), 0x51);
    }
}

static void registers_move(void)
{
    const uint32_t was = bar(0);
    begin();
    start(0);
    set_vector(0x52);
    for (unsigned i = 0; i < 20; i++) {
        REG(BAR0) = i % 2 ? was : 0xf8000000;
        find();
        CHECK_EQ(status(), ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        offer_buffer(0);
        CHECK_EQ(wait(), 0x52);
        CHECK_EQ(used.index, i + 1);
    }
    REG(BAR0) = was;
    find();
}

static void events_are_told_when_wanted(void)
{
    begin();
    start(EVENT_IDX);
    set_vector(0x53);
    available.used_event = 2;
    for (unsigned i = 0; i < 3; i++) {
        offer_buffer(i);
        check_used((uint16_t)(i + 1));
    }
    CHECK_EQ(wait(), 0x53); /* one, for the third */
    apic_set(ICR, SELF | 0x40);
    CHECK_EQ(wait(), 0x40);
    while (used.available_event != 3) /* it waits for the fourth */
        ;
}

/* A chain that leads into itself, a table in a table, an address where nothing is, and a head that
 * is none: each stops the device, and a reset has it go on. */
static void nonsense_stops_it_until_reset(void)
{
    static const struct descriptor bad[] = {
        {0x1000, 4, WRITE | NEXT, 0},       {0xfffffffffffffff0, 64, WRITE, 0},
        {0xfffffffffffffff0, 64, TABLE, 0}, {0x1000, 24, TABLE, 0},
        {0xc0000000, 64, WRITE, 0},         {0x1000, 64, WRITE | NEXT, 77},
    };
    for (unsigned i = 0; i <= ARRAY_LEN(bad); i++) {
        start(INDIRECT);
        available.flags = 1;
        if (i < ARRAY_LEN(bad))
            table[0] = bad[i];
        offer(i < ARRAY_LEN(bad) ? 0 : SIZE);
        while (!(status() & NEEDS_RESET))
            ;
        CHECK_EQ(used.index, 0);
        start(0);
        available.flags = 1;
        offer_buffer(0);
        check_used(1);
        check_bytes(0);
    }
}

static void registers_are_reached_through_the_window(void)
{
    start(0);
    unsigned window = capability[WINDOW];
    REG(window + 4) = config8(capability[COMMON] + 4);
    REG(window + 8) = REG(capability[COMMON] + 8) + 0x14;
    REG(window + 12) = 1;
    volatile uint8_t *data = (volatile uint8_t *)(uintptr_t)&REG(window + 16);
    CHECK_EQ(*data, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    *data = 0;
    CHECK_EQ(status(), 0);
}

const struct guest_test guest_tests[] = {
    {"a driver finds what it looks for", has_what_drivers_look_for, false},
    {"features are agreed on", features_are_agreed_on, false},
    {"buffers come back filled", buffers_come_back_filled, false},
    {"chains and tables are filled", chains_and_tables_are_filled, false},
    {"code that it writes is run", code_that_it_writes_is_run, false},
    {"interrupts say so", interrupts_say_so, false},
    {"vectors are masked and moved", vectors_are_masked_and_moved, false},
    {"registers move", registers_move, false},
    {"events are told when wanted", events_are_told_when_wanted, false},
    {"nonsense stops it until a reset", nonsense_stops_it_until_reset, false},
    {"registers are reached through the window", registers_are_reached_through_the_window, false},
    {NULL, NULL, false},
};

/* Virtio's queues and transport, on a bus without a machine. What drivers see of them together is
 * guest/virtio.c's; what hostile ones do is test/fuzz/virtio.c's. */
#include "virtio/rng.h"

#include "device_fixture.h"

enum { RAM = 1 << 20, DEVFN = PCI_DEVFN(1, 0) };
enum { DESCRIPTORS = 0x1000, DRIVER = 0x2000, DEVICE = 0x3000, INNER = 0x4000, BUFFER = 0x5000 };
enum { NEXT = 1, WRITE = 2, TABLE = 4 };

static struct memory ram;

static void put16(uint64_t gpa, uint16_t v)
{
    CHECK(memory_write(&ram, gpa, &v, sizeof v));
}

static uint16_t get16(uint64_t gpa)
{
    uint16_t v = 0;
    CHECK(memory_read(&ram, gpa, &v, sizeof v));
    return v;
}

static uint32_t get32(uint64_t gpa)
{
    uint32_t v = 0;
    CHECK(memory_read(&ram, gpa, &v, sizeof v));
    return v;
}

static void describe(uint64_t table, unsigned i, uint64_t to, uint32_t length, uint16_t flags,
                     uint16_t next)
{
    const struct {
        uint64_t to;
        uint32_t length;
        uint16_t flags, next;
    } d = {to, length, flags, next};
    CHECK(memory_write(&ram, table + 16 * i, &d, sizeof d));
}

static void offer(unsigned size, uint16_t head)
{
    uint16_t index = get16(DRIVER + 2);
    put16(DRIVER + 4 + 2 * (index % size), head);
    put16(DRIVER + 2, (uint16_t)(index + 1));
}

/* ---- queues ---- */

static struct virtq q;
static struct virtq_chain chain;

static void open_queue(uint16_t size)
{
    struct error err;
    CHECK(memory_create(&ram, RAM, &err));
    q = (struct virtq){.size_max = 64};
    virtq_reset(&q);
    q.size = size;
    q.descriptors = DESCRIPTORS;
    q.driver = DRIVER;
    q.device = DEVICE;
    q.indirect = true;
    CHECK(virtq_valid(&q, &ram));
}

/* What the first chain of a new queue is taken for. */
static enum virtq_result take_one(void)
{
    q.next = 0;
    put16(DRIVER + 2, 0);
    offer(q.size, 0);
    return virtq_take(&q, &ram, &chain);
}

TEST(chains_are_what_the_descriptors_say)
{
    open_queue(8);
    describe(DESCRIPTORS, 0, BUFFER, 16, NEXT, 5);
    describe(DESCRIPTORS, 5, BUFFER + 16, 8, WRITE | NEXT, 2);
    describe(DESCRIPTORS, 2, BUFFER + 64, 4, WRITE, 7);
    CHECK_EQ(virtq_take(&q, &ram, &chain), VIRTQ_EMPTY);
    CHECK_EQ(take_one(), VIRTQ_TAKEN);
    CHECK_EQ(chain.count, 3);
    CHECK_EQ(chain.readable, 1);
    CHECK_EQ(virtq_room(&chain), 12);
    CHECK(virtq_fill(&chain, &ram, 6, "abcdef", 6));
    CHECK_EQ(get16(BUFFER + 22), 'a' | 'b' << 8);
    CHECK_EQ(get32(BUFFER + 64), 'c' | 'd' << 8 | 'e' << 16 | (uint32_t)'f' << 24);
    CHECK(!virtq_fill(&chain, &ram, 7, "abcdef", 6)); /* one too many */
    CHECK_EQ(virtq_take(&q, &ram, &chain), VIRTQ_EMPTY);
    CHECK(virtq_give(&q, &ram, 0, 12));
    CHECK_EQ(get16(DEVICE + 2), 1);
    CHECK_EQ(get32(DEVICE + 4), 0);
    CHECK_EQ(get32(DEVICE + 8), 12);
    memory_destroy(&ram);
}

TEST(tables_go_on_from_a_chain)
{
    open_queue(8);
    describe(DESCRIPTORS, 0, BUFFER, 16, NEXT, 1);
    describe(DESCRIPTORS, 1, INNER, 48, TABLE, 0);
    describe(INNER, 0, BUFFER + 16, 16, WRITE | NEXT, 2);
    describe(INNER, 2, BUFFER + 32, 16, WRITE, 0);
    CHECK_EQ(take_one(), VIRTQ_TAKEN);
    CHECK_EQ(chain.count, 3);
    q.indirect = false; /* not negotiated */
    CHECK_EQ(take_one(), VIRTQ_BROKEN);
    memory_destroy(&ram);
}

TEST(a_chain_is_as_long_as_its_queue_at_most)
{
    open_queue(8);
    describe(DESCRIPTORS, 0, INNER, 16 * 9, TABLE, 0);
    for (uint16_t i = 0; i < 9; i++)
        describe(INNER, i, BUFFER, 1, i < 7 ? WRITE | NEXT : WRITE, i + 1);
    CHECK_EQ(take_one(), VIRTQ_TAKEN);
    CHECK_EQ(chain.count, 8);
    describe(INNER, 7, BUFFER, 1, WRITE | NEXT, 8);
    CHECK_EQ(take_one(), VIRTQ_BROKEN);
    memory_destroy(&ram);
}

TEST(what_is_no_chain_is_broken)
{
    static const struct {
        uint64_t to;
        uint32_t length;
        uint16_t flags, next;
    } first[] = {
        {BUFFER, 1, NEXT, 0},               /* leads into itself */
        {BUFFER, 1, WRITE | NEXT, 1},       /* the next is to be read */
        {BUFFER, 1, NEXT, 8},               /* no descriptor of that number */
        {INNER, 16, TABLE | NEXT, 1},       /* a table that goes on elsewhere */
        {INNER, 0, TABLE, 0},               /* without entries */
        {INNER, 17, TABLE, 0},              /* with a part of one */
        {INNER, 64, TABLE, 0},              /* one with a table in it */
        {RAM, 16, TABLE, 0},                /* not in RAM */
        {RAM - 8, 16, TABLE, 0},            /* only in part */
        {UINT64_MAX - 15, 32, TABLE, 0},    /* round the end of all addresses */
        {INNER + 16, 0xfffffff0, TABLE, 0}, /* a long one, that never ends */
    };
    open_queue(8);
    describe(DESCRIPTORS, 1, BUFFER, 1, 0, 0);
    describe(INNER, 0, BUFFER, 1, NEXT, 3);
    describe(INNER, 3, INNER, 16, TABLE, 0);
    for (uint16_t i = 1; i < 64; i++)
        describe(INNER + 16, i - 1u, BUFFER, 1, NEXT, i);
    describe(INNER, 3, INNER, 16, TABLE, 0);
    for (unsigned i = 0; i < ARRAY_LEN(first); i++) {
        describe(DESCRIPTORS, 0, first[i].to, first[i].length, first[i].flags, first[i].next);
        if (take_one() != VIRTQ_BROKEN) {
            printf("# case %u\n", i);
            CHECK(!"it is taken");
        }
    }
    describe(DESCRIPTORS, 0, BUFFER, 1, 0, 0);
    CHECK_EQ(take_one(), VIRTQ_TAKEN);
    put16(DRIVER + 2, 10); /* more than fit: nine are new */
    CHECK_EQ(virtq_take(&q, &ram, &chain), VIRTQ_BROKEN);
    memory_destroy(&ram);
}

TEST(areas_lie_in_ram_and_aligned)
{
    open_queue(8);
    const struct virtq good = q;
    q.descriptors = DESCRIPTORS + 8;
    CHECK(!virtq_valid(&q, &ram));
    q.descriptors = RAM - 16 * 7;
    CHECK(!virtq_valid(&q, &ram));
    q.descriptors = RAM - 16 * 8;
    CHECK(virtq_valid(&q, &ram));
    q = good;
    q.driver = RAM - 4 - 16; /* used_event is out */
    CHECK(!virtq_valid(&q, &ram));
    q = good;
    q.device = UINT64_MAX - 3;
    CHECK(!virtq_valid(&q, &ram));
    q = good;
    q.size = 6;
    CHECK(!virtq_valid(&q, &ram));
    memory_destroy(&ram);
}

/* The driver's wish, by flag and by event; the index goes round. */
TEST(interrupts_are_told_when_they_are_wanted)
{
    open_queue(8);
    CHECK(!virtq_wants_interrupt(&q, &ram)); /* nothing happened */
    CHECK(virtq_give(&q, &ram, 0, 0));
    CHECK(virtq_wants_interrupt(&q, &ram));
    CHECK(!virtq_wants_interrupt(&q, &ram));
    put16(DRIVER, 1);
    CHECK(virtq_give(&q, &ram, 0, 0));
    CHECK(!virtq_wants_interrupt(&q, &ram));
    q.event_idx = true;
    q.used = q.told = 65534;
    put16(DRIVER + 4 + 2 * 8, 0);
    CHECK(virtq_give(&q, &ram, 0, 0));
    CHECK(virtq_give(&q, &ram, 0, 0));
    CHECK(!virtq_wants_interrupt(&q, &ram)); /* 0 is the index, and to be gone past */
    CHECK(virtq_give(&q, &ram, 0, 0));
    CHECK(virtq_wants_interrupt(&q, &ram));
    q.next = 3; /* an empty queue asks for the next one */
    put16(DRIVER + 2, 3);
    CHECK_EQ(virtq_take(&q, &ram, &chain), VIRTQ_EMPTY);
    CHECK_EQ(get16(DEVICE + 4 + 8 * 8), 3);
    memory_destroy(&ram);
}

/* ---- the transport ---- */

static struct bus ports, memory;
static struct pci_bus pci;
static struct clock clk;
static struct virtio_device dev;
static unsigned served, messages;
static uint32_t last_data;
static struct fixture_line intx;
static bool out_of_order, tireless;

static bool serve(struct virtio_device *d, unsigned queue, const struct virtq_chain *c,
                  uint32_t *written)
{
    served++;
    *written = 5;
    if (tireless)
        offer(8, 0);
    return !out_of_order;
}

static const uint8_t *config(struct virtio_device *d)
{
    static const uint8_t bytes[6] = {1, 2, 3, 4, 5, 6};
    return bytes;
}

static const struct virtio_kind kind = {
    .name = "test",
    .id = 42,
    .features = 1,
    .queues = 2,
    .queue_size = {8, 64},
    .config_size = 6,
    .config = config,
    .serve = serve,
};

static void on_message(void *ctx, uint64_t address, uint32_t data)
{
    messages++;
    last_data = data;
}

static void reg_write(unsigned at, unsigned size, uint64_t value)
{
    bus_write(&memory, PCI_MEMORY_BASE + at, size, value);
}

static uint64_t reg_read(unsigned at, unsigned size)
{
    return bus_read(&memory, PCI_MEMORY_BASE + at, size);
}

static void open_device(void)
{
    static const uint8_t irq[8] = {0};
    struct error err = {0};
    fixture_clock(&clk);
    CHECK(memory_create(&ram, RAM, &err));
    ports = memory = (struct bus){0};
    intx = (struct fixture_line){0};
    served = messages = 0;
    out_of_order = tireless = false;
    pci_bus_init(&pci, &ports, &memory, fixture_line(&intx), (struct msi_target){on_message, NULL},
                 NULL, NULL);
    CHECK(virtio_init(&dev, &kind, &ram, &clk, &pci, DEVFN, &err));
    CHECK(pci_assign(&pci, irq, &err));
}

static void agree(uint64_t features)
{
    pci_config_write(&pci, 0, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    reg_write(0x14, 1, 0);
    reg_write(0x14, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    for (unsigned half = 0; half < 2; half++) {
        reg_write(0x08, 4, half);
        reg_write(0x0c, 4, features >> 32 * half & UINT32_MAX);
    }
    reg_write(0x14, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
}

static void start(void)
{
    agree(VIRTIO_F_VERSION_1);
    reg_write(0x16, 2, 0);
    reg_write(0x20, 8, DESCRIPTORS);
    reg_write(0x28, 8, DRIVER);
    reg_write(0x30, 4, DEVICE);
    reg_write(0x34, 4, 0);
    reg_write(0x1c, 2, 1);
    reg_write(0x14, 1, dev.status | VIRTIO_DRIVER_OK);
    put16(DRIVER, 0);
    put16(DRIVER + 2, 0);
    describe(DESCRIPTORS, 0, BUFFER, 16, WRITE, 0);
}

static void ring_it(void)
{
    reg_write(0x3000, 2, 0);
}

static void look(void)
{
    fixture_go(&clk, clock_now(&clk) + 1);
}

TEST(registers_are_as_wide_as_they_are)
{
    open_device();
    CHECK_EQ(reg_read(0x12, 2), 2);
    CHECK_EQ(reg_read(0x00, 4), 0);
    CHECK_EQ(reg_read(0x04, 4), 1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX);
    reg_write(0x00, 4, 1);
    CHECK_EQ(reg_read(0x04, 4), 1);
    reg_write(0x00, 4, 2); /* none there */
    CHECK_EQ(reg_read(0x04, 4), 0);
    reg_write(0x16, 2, 1);
    CHECK_EQ(reg_read(0x18, 2), 64);
    reg_write(0x18, 2, 48); /* no power of two */
    reg_write(0x18, 2, 128);
    CHECK_EQ(reg_read(0x18, 2), 64);
    reg_write(0x18, 2, 4);
    CHECK_EQ(reg_read(0x18, 2), 4);
    reg_write(0x24, 4, 0x11223344);
    CHECK_EQ(reg_read(0x20, 8), UINT64_C(0x1122334400000000));
    reg_write(0x1a, 2, 2);
    CHECK_EQ(reg_read(0x1a, 2), 2);
    reg_write(0x1a, 2, 3); /* no such vector */
    CHECK_EQ(reg_read(0x1a, 2), VIRTIO_NO_VECTOR);
    CHECK_EQ(reg_read(0x1e, 2), 1);
    CHECK_EQ(reg_read(0x2001, 4), 0x05040302);
    CHECK_EQ(reg_read(0x2003, 4), 0); /* runs over its end */
    memory_destroy(&ram);
}

TEST(features_that_were_not_offered_are_not_taken)
{
    open_device();
    agree(1);
    CHECK(!(reg_read(0x14, 1) & VIRTIO_FEATURES_OK));
    agree(VIRTIO_F_VERSION_1 | BIT(40));
    CHECK(!(reg_read(0x14, 1) & VIRTIO_FEATURES_OK));
    agree(VIRTIO_F_VERSION_1 | 1);
    CHECK(reg_read(0x14, 1) & VIRTIO_FEATURES_OK);
    reg_write(0x0c, 4, 0); /* they stand */
    CHECK_EQ(dev.driver_features, VIRTIO_F_VERSION_1 | 1);
    memory_destroy(&ram);
}

TEST(a_queue_is_served_once_after_it_was_rung)
{
    open_device();
    start();
    offer(8, 0);
    look();
    CHECK_EQ(served, 0);
    ring_it();
    ring_it();
    CHECK_EQ(served, 0); /* not in the middle of a vCPU's write */
    look();
    CHECK_EQ(served, 1);
    CHECK_EQ(get32(DEVICE + 8), 5);
    CHECK(intx.level);
    CHECK_EQ(reg_read(0x1000, 1), 1);
    CHECK(!intx.level);
    CHECK_EQ(reg_read(0x1000, 1), 0);
    reg_write(0x3004, 2, 1); /* one that is not set up */
    reg_write(0x3008, 2, 2); /* and one that is not there */
    look();
    CHECK_EQ(served, 1);
    memory_destroy(&ram);
}

TEST(who_never_stops_asking_is_served_in_turns)
{
    open_device();
    start();
    tireless = true;
    offer(8, 0);
    ring_it();
    for (unsigned i = 1; i < 100; i++) {
        look();
        CHECK_EQ(served, 8 * i);
    }
    tireless = false;
    look();
    CHECK_EQ(served, 8 * 99 + 1);
    CHECK_EQ(clock_next(&clk), CLOCK_NEVER);
    memory_destroy(&ram);
}

TEST(messages_go_where_the_queue_says)
{
    open_device();
    start();
    pci_config_write(&pci, 0, DEVFN, dev.pci.msix.cap + 2, 2, 0x8000);
    bus_write(&memory, PCI_MEMORY_BASE + 0x4000 + 16 + 8, 4, 0x77);
    bus_write(&memory, PCI_MEMORY_BASE + 0x4000 + 16 + 12, 4, 0);
    reg_write(0x1a, 2, 1);
    offer(8, 0);
    ring_it();
    look();
    CHECK_EQ(messages, 1);
    CHECK_EQ(last_data, 0x77);
    CHECK(!intx.level);
    CHECK_EQ(reg_read(0x1000, 1), 0);
    memory_destroy(&ram);
}

TEST(without_the_bus_nothing_is_done_until_it_is_there)
{
    open_device();
    start();
    pci_config_write(&pci, 0, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
    offer(8, 0);
    ring_it();
    look();
    CHECK_EQ(served, 0);
    pci_config_write(&pci, 0, DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    look();
    CHECK_EQ(served, 1);
    memory_destroy(&ram);
}

TEST(what_breaks_the_rules_stops_the_device)
{
    open_device();
    start();
    reg_write(0x10, 2, 0);
    out_of_order = true;
    offer(8, 0);
    ring_it();
    look();
    CHECK_EQ(served, 1);
    CHECK(reg_read(0x14, 1) & VIRTIO_NEEDS_RESET);
    CHECK_EQ(reg_read(0x1000, 1) & 2, 2);
    reg_write(0x14, 1, dev.status & (uint8_t)~VIRTIO_NEEDS_RESET); /* that does not help */
    out_of_order = false;
    offer(8, 0);
    ring_it();
    look();
    CHECK_EQ(served, 1);
    start();
    offer(8, 0);
    ring_it();
    look();
    CHECK_EQ(served, 2);
    memory_destroy(&ram);
}

TEST(a_queue_that_is_nowhere_is_not_enabled)
{
    open_device();
    agree(VIRTIO_F_VERSION_1);
    reg_write(0x28, 8, RAM - 2);
    reg_write(0x1c, 2, 1);
    CHECK_EQ(reg_read(0x1c, 2), 0);
    CHECK(reg_read(0x14, 1) & VIRTIO_NEEDS_RESET);
    memory_destroy(&ram);
}

/* What was rung is served where it was loaded, and goes on from where it was. */
TEST(a_ringing_device_is_saved_and_loaded)
{
    struct archive a;
    struct error err = {0};
    open_device();
    start();
    offer(8, 0);
    ring_it();
    look();
    offer(8, 0);
    ring_it();
    archive_init(&a);
    CHECK(archive_save(&a, &virtq_archive, 0, &dev.queue[0], &err));
    CHECK(archive_save(&a, &virtio_archive, 0, &dev, &err));
    reg_write(0x14, 1, 0);
    look();
    CHECK_EQ(served, 1);
    CHECK(archive_load(&a, &virtq_archive, 0, &dev.queue[0], &err));
    CHECK(archive_load(&a, &virtio_archive, 0, &dev, &err));
    look();
    CHECK_EQ(served, 2);
    CHECK_EQ(get16(DEVICE + 2), 2);
    dev.queue[0].size = 128; /* longer than the device's */
    archive_free(&a);
    archive_init(&a);
    CHECK(archive_save(&a, &virtq_archive, 0, &dev.queue[0], &err));
    CHECK(!archive_load(&a, &virtq_archive, 0, &dev.queue[0], &err));
    archive_free(&a);
    memory_destroy(&ram);
}

/* ---- the entropy device ---- */

static bool dry;

static bool fill(void *ctx, void *to, size_t n)
{
    memset(to, 0x5a, n);
    return !dry;
}

TEST(one_request_gets_so_much_and_no_more)
{
    static const uint8_t irq[8] = {0};
    static struct virtio_rng rng;
    struct error err = {0};
    open_device();
    pci_remove(&dev.pci);
    CHECK(virtio_rng_init(&rng, &(struct virtio_rng_source){fill, NULL}, &ram, &clk, &pci, DEVFN,
                          &err));
    CHECK(pci_assign(&pci, irq, &err));
    start();
    reg_write(0x14, 1, rng.device.status | VIRTIO_DRIVER_OK);
    describe(DESCRIPTORS, 0, BUFFER, 0x8000, WRITE, 0);
    offer(16, 0);
    ring_it();
    look();
    CHECK_EQ(get32(DEVICE + 8), VIRTIO_RNG_MOST);
    CHECK_EQ(get16(BUFFER + VIRTIO_RNG_MOST - 2), 0x5a5a);
    CHECK_EQ(get16(BUFFER + VIRTIO_RNG_MOST), 0);
    dry = true;
    offer(16, 0);
    ring_it();
    look();
    CHECK_EQ(get16(DEVICE + 2), 1);
    CHECK(rng.device.status & VIRTIO_NEEDS_RESET);
    memory_destroy(&ram);
}

TEST(the_hosts_bytes_differ)
{
    uint8_t a[300] = {0}, b[300] = {0};
    CHECK(virtio_rng_host(NULL, a, sizeof a) && virtio_rng_host(NULL, b, sizeof b));
    CHECK(memcmp(a, b, sizeof a) != 0);
    CHECK(memcmp(a, a + 150, 150) != 0);
}

TESTS(T(chains_are_what_the_descriptors_say), T(tables_go_on_from_a_chain),
      T(a_chain_is_as_long_as_its_queue_at_most), T(what_is_no_chain_is_broken),
      T(areas_lie_in_ram_and_aligned), T(interrupts_are_told_when_they_are_wanted),
      T(registers_are_as_wide_as_they_are), T(features_that_were_not_offered_are_not_taken),
      T(a_queue_is_served_once_after_it_was_rung), T(who_never_stops_asking_is_served_in_turns),
      T(messages_go_where_the_queue_says), T(without_the_bus_nothing_is_done_until_it_is_there),
      T(what_breaks_the_rules_stops_the_device), T(a_queue_that_is_nowhere_is_not_enabled),
      T(a_ringing_device_is_saved_and_loaded), T(one_request_gets_so_much_and_no_more),
      T(the_hosts_bytes_differ))

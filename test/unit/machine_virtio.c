/*
 * A whole machine with a virtio device, whose doorbell a guest rings while the machine is stopped,
 * saved, and moved to another engine: what was rung is served, once, wherever that is. The test is
 * the driver but for the ringing.
 */
#include <stdlib.h>

#include "base/thread.h"
#include "machine/internal.h"
#include "test.h"

enum { ORIGIN = 0x7c00, DESCRIPTORS = 0x5000, DRIVER = 0x5800, DEVICE = 0x6000, BUFFER = 0x8000 };
enum { GO = 0x6100, RANG = 0x6104 };
#define NOTIFY UINT64_C(0xf0003000)

/* Waits for GO, rings, says so, and ends with the used ring's index when there is something. */
__asm__(".pushsection .rodata\n.code32\nrings:\n"
        "1: pause\n cmpl $0, 0x6100\n je 1b\n"
        "mov $0xf0003000, %ebx\n movw $0, (%ebx)\n movl $1, 0x6104\n"
        "2: pause\n cmpw $0, 0x6002\n je 2b\n"
        "movzwl 0x6002, %eax\n mov $0xf4, %dx\n out %eax, %dx\n 3: hlt\n jmp 3b\n"
        "rings_end:\n.code64\n.popsection");
extern const uint8_t rings[], rings_end[];

static bool load(struct machine *m, void *ctx, struct x86_state *bsp, struct error *err)
{
    if (!memory_write(machine_memory(m), ORIGIN, rings, (uint64_t)(rings_end - rings)))
        return error_set(err, "test guest does not fit");
    bsp->rip = ORIGIN;
    bsp->cr0 |= CR0_PE;
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        bsp->seg[i] = (struct x86_segment){
            .limit = 0xffffffff, .attr = 0x93 | SEG_DB | SEG_G, .selector = 16};
    bsp->seg[X86_CS].attr = 0x9b | SEG_DB | SEG_G;
    bsp->seg[X86_CS].selector = 8;
    return true;
}

static struct machine *make(const struct engine *engine)
{
    const struct machine_config c = {
        .memory = 2 << 20,
        .cpus = 1,
        .engine = engine,
        .tuning.apics = engine == &engine_hardware ? ENGINE_APICS_KEPT : ENGINE_APICS_BEST,
        .debug_exit = true,
        .rng = true,
        .load = load,
    };
    struct machine *m;
    struct error err = {0};
    if (machine_create(&m, &c, &err))
        return m;
    printf("# %s\n", err.text);
    return NULL;
}

static void *run(void *ctx)
{
    static struct machine_result r[2];
    static unsigned runs;
    struct machine_result *mine = &r[runs++ % 2];
    machine_run(ctx, mine);
    return mine;
}

static pthread_t begin(struct machine *m)
{
    pthread_t thread;
    CHECK(thread_start(&thread, "machine", run, m, NULL));
    return thread;
}

static void check_end(pthread_t thread, enum machine_reason reason, uint32_t value)
{
    void *result = NULL;
    pthread_join(thread, &result);
    const struct machine_result *r = result;
    CHECK_EQ(r->reason, reason);
    CHECK_EQ(r->value, value);
}

static void put(struct machine *m, uint64_t gpa, const void *from, size_t n)
{
    CHECK(memory_write(machine_memory(m), gpa, from, n));
}

static uint32_t get(struct machine *m, uint64_t gpa)
{
    uint32_t v = 0;
    CHECK(memory_read(machine_memory(m), gpa, &v, sizeof v));
    return v;
}

/* A queue with one request in it. The machine stands still. */
static void set_up(struct machine *m)
{
    static const struct {
        unsigned at, size;
        uint64_t value;
    } registers[] = {
        {0x14, 1, 3},      {0x08, 4, 1},      {0x0c, 4, 1}, {0x14, 1, 11}, {0x20, 8, DESCRIPTORS},
        {0x28, 8, DRIVER}, {0x30, 8, DEVICE}, {0x1c, 2, 1}, {0x14, 1, 15},
    };
    const struct {
        uint64_t to;
        uint32_t length;
        uint16_t flags, next;
    } descriptor = {BUFFER, 64, 2, 0};
    const uint16_t available[] = {1, 1, 0};
    machine_lock(m);
    CHECK_EQ(m->pc.rng.device.pci.bar[0].mapped_at, NOTIFY - 0x3000);
    pci_config_write(&m->pc.pci, 0, PC_RNG_DEVFN, PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
        bus_write(&m->pc.memory, NOTIFY - 0x3000 + registers[i].at, registers[i].size,
                  registers[i].value);
    machine_unlock(m);
    put(m, DESCRIPTORS, &descriptor, sizeof descriptor);
    put(m, DRIVER, available, sizeof available);
}

static struct machine *begin_and_stop(const struct engine *engine, pthread_t *thread)
{
    struct machine *m = make(engine);
    if (!m)
        return NULL;
    *thread = begin(m);
    while (!machine_pause(m)) /* until it runs */
        ;
    set_up(m);
    return m;
}

static void go(struct machine *m)
{
    const uint32_t one = 1;
    put(m, GO, &one, sizeof one);
}

/* The saved machine goes on with another engine, to the end of its request. */
static void go_on_elsewhere(struct archive *a, const struct engine *engine)
{
    struct error err = {0};
    struct machine *m = make(engine);
    if (!machine_load(m, a, &err))
        printf("# %s\n", err.text);
    check_end(begin(m), MACHINE_DEBUG_EXIT, 1);
    CHECK(get(m, BUFFER) != 0 || get(m, BUFFER + 4) != 0);
    CHECK_EQ(get(m, DEVICE + 8), 64);
    machine_destroy(m);
}

TEST(what_was_rung_is_saved)
{
    struct archive a;
    struct error err = {0};
    pthread_t thread;
    struct machine *m = begin_and_stop(&engine_emulate, &thread);
    go(m);
    machine_lock(m);
    bus_write(&m->pc.memory, NOTIFY, 2, 0); /* its time does not come: the clock stands */
    machine_unlock(m);
    archive_init(&a);
    CHECK(machine_save(m, &a, &err));
    CHECK_EQ(get(m, DEVICE), 0);
    machine_end(m);
    machine_continue(m);
    pthread_join(thread, NULL);
    machine_destroy(m);
    go_on_elsewhere(&a, &engine_emulate);
    archive_free(&a);
}

#ifdef __x86_64__

/* Whoever came out of the guest for the doorbell would wait for the machine's lock. */
static void ring_under_the_lock(struct machine *m)
{
    machine_lock(m);
    go(m);
    while (!get(m, RANG))
        ;
    machine_unlock(m);
}

static struct machine *on_kvm(pthread_t *thread)
{
    static char why[512];
    if (!engine_hardware.usable(why, sizeof why)) {
        test_skipped = why;
        return NULL;
    }
    struct machine *m = begin_and_stop(&engine_hardware, thread);
    if (!m)
        test_skipped = "this host's KVM can't keep the local APICs";
    return m;
}

TEST(a_guest_rings_without_leaving_kvm)
{
    struct machine_stats stats;
    pthread_t thread;
    struct machine *m = on_kvm(&thread);
    if (!m)
        return;
    machine_continue(m);
    ring_under_the_lock(m);
    check_end(thread, MACHINE_DEBUG_EXIT, 1);
    machine_stats(m, &stats);
    CHECK_EQ(stats.doorbells, 1);
    CHECK_EQ(stats.engine.mmio, 0);
    CHECK_EQ(get(m, DEVICE + 8), 64);
    machine_destroy(m);
}

/* As machine_pause() does it, but with the lock held from the ring on: nobody has looked at the
 * eventfd when the machine stands. */
static void stop_before_anyone_looks(struct machine *m)
{
    machine_lock(m);
    go(m);
    while (!get(m, RANG))
        ;
    control_hold(m);
    control_wait(m); /* the guest spins: its thread wants no lock */
    machine_stop_clock(m);
    machine_unlock(m);
}

TEST(what_kvm_was_told_is_saved)
{
    for (unsigned i = 0; i < 2; i++) {
        struct archive a;
        struct error err = {0};
        pthread_t thread;
        struct machine *m = on_kvm(&thread);
        if (!m)
            return;
        machine_continue(m);
        stop_before_anyone_looks(m);
        CHECK_EQ(get(m, DEVICE), 0);
        archive_init(&a);
        CHECK(machine_save(m, &a, &err));
        machine_continue(m);
        check_end(thread, MACHINE_DEBUG_EXIT, 1);
        machine_destroy(m);
        go_on_elsewhere(&a, i ? &engine_emulate : &engine_hardware);
        archive_free(&a);
    }
}

#define WITH_KVM , T(a_guest_rings_without_leaving_kvm), T(what_kvm_was_told_is_saved)
#else
#define WITH_KVM
#endif

TESTS(T(what_was_rung_is_saved) WITH_KVM)

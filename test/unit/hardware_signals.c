/*
 * Eventfds in place of exits and calls: a guest's write to a doorbell signals one and comes to
 * nobody else, and one that is signalled sends its message, once. Where there is no KVM, or it
 * can't keep the local APICs, all of it is skipped.
 */
#include "hardware_apic_rig.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define DOORBELL UINT64_C(0x20000000) /* mapped by the guest, and no RAM */

static const struct engine_signals *const signals = &hardware_signals;

/* How often it was signalled since it was last asked. */
static uint64_t signalled(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

static void signal_it(int fd)
{
    uint64_t one = 1;
    CHECK(write(fd, &one, sizeof one) == sizeof one);
}

static int make_fd(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

/* ---- doorbells ---- */

static unsigned writes;
static uint64_t last_gpa;

static void count_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    writes++;
    last_gpa = gpa;
}

/* A word, the same of another width, and one beside it; then the guest waits to be stopped. */
CODE(rings, "mov $0x20000000, %ebx; mov $3, %eax\n"
            "movw %ax, (%rbx); movl %eax, (%rbx); movw %ax, 4(%rbx)\n"
            "1: out %al, $0x80; jmp 1b");

#define OPEN_COUNTING(r)                                                                           \
    do {                                                                                           \
        (r)->host.pio_read = no_pio_read;                                                          \
        (r)->host.pio_write = stop_at_port;                                                        \
        (r)->host.mmio_read = no_mmio_read;                                                        \
        (r)->host.mmio_write = count_write;                                                        \
        if (!open_rig(r, rings, rings_end))                                                        \
            SKIP(why);                                                                             \
        stopped = (r)->vcpu;                                                                       \
        writes = 0;                                                                                \
    } while (0)

static void run_to_its_end(struct rig *r)
{
    struct engine_apic a = fresh(XAPIC), got;
    CHECK(apics->give(r->vcpu, &a));
    CHECK_EQ(engine_hardware.run(r->vcpu, UINT64_MAX), ENGINE_STOPPED);
    CHECK(apics->take(r->vcpu, &got));
}

TEST(a_write_to_a_doorbell_signals_and_comes_to_nobody)
{
    struct rig r = {0};
    OPEN_COUNTING(&r);
    int fd = make_fd();
    if (!signals->add_doorbell(r.vm, DOORBELL, 2, fd))
        SKIP("this KVM has no ioeventfd");
    run_to_its_end(&r);
    CHECK_EQ(signalled(fd), 1);
    CHECK_EQ(writes, 2); /* of another size, and elsewhere */
    CHECK_EQ(last_gpa, DOORBELL + 4);
    rig_close(&r);
    close(fd);
}

TEST(a_doorbell_that_was_removed_is_a_write_again)
{
    struct rig r = {0};
    OPEN_COUNTING(&r);
    int fd = make_fd(), other = make_fd();
    if (!signals->add_doorbell(r.vm, DOORBELL, 2, fd))
        SKIP("this KVM has no ioeventfd");
    CHECK(!signals->add_doorbell(r.vm, DOORBELL, 2, other)); /* it is taken */
    signals->remove_doorbell(r.vm, DOORBELL, 2, fd);
    CHECK(signals->add_doorbell(r.vm, DOORBELL + 4, 2, other));
    run_to_its_end(&r);
    CHECK_EQ(signalled(fd), 0);
    CHECK_EQ(signalled(other), 1);
    CHECK_EQ(writes, 2);
    rig_close(&r);
    close(fd);
    close(other);
}

/* ---- messages ---- */

TEST(a_signal_arrives_as_its_vector)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC), got;
    int first = make_fd(), second = make_fd();
    CHECK(apics->give(r.vcpu, &a));
    if (!signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x51}, first))
        SKIP("this KVM has no irqfd");
    CHECK(signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x52}, second));
    signal_it(second);
    signals->remove_message(r.vm, first);
    signals->remove_message(r.vm, second); /* what was signalled has come */
    CHECK(apics->take(r.vcpu, &got));
    CHECK(!has_bit(&got, IRR, 0x51));
    CHECK(has_bit(&got, IRR, 0x52));
    CHECK(!has_bit(&got, TMR, 0x52));
    rig_close(&r);
    close(first);
    close(second);
}

TEST(no_signal_is_lost_before_the_apic_is_taken_back)
{
    struct rig r = {0};
    OPEN(&r, endless);
    int fd = make_fd();
    for (unsigned vector = 0x20; vector < 0x100; vector++) {
        struct engine_apic a = fresh(XAPIC), got;
        CHECK(apics->give(r.vcpu, &a));
        if (!signals->add_message(r.vm, &(struct engine_msi){0xfee00000, vector}, fd))
            SKIP("this KVM has no irqfd");
        signal_it(fd);
        signals->remove_message(r.vm, fd);
        CHECK(apics->take(r.vcpu, &got));
        CHECK(has_bit(&got, IRR, vector));
        signal_it(fd); /* nobody's now */
        signalled(fd);
    }
    rig_close(&r);
    close(fd);
}

/* Both are in one table. */
TEST(messages_and_the_ioapics_pins_leave_each_other_alone)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC), got;
    struct engine_msi pins[ENGINE_PINS] = {0};
    int fd = make_fd();
    CHECK(apics->give(r.vcpu, &a));
    if (!signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x51}, fd))
        SKIP("this KVM has no irqfd");
    for (unsigned pin = 0; pin < ENGINE_PINS; pin++)
        pins[pin] = (struct engine_msi){0xfee00000, 0xc060 + pin};
    apics->routes(r.vm, pins);
    signal_it(fd);
    signals->remove_message(r.vm, fd);
    CHECK(apics->take(r.vcpu, &got));
    CHECK(has_bit(&got, IRR, 0x51));
    for (unsigned pin = 0; pin < ENGINE_PINS; pin++)
        CHECK(!has_bit(&got, IRR, 0x60 + pin));
    rig_close(&r);
    close(fd);
}

TEST(there_are_so_many_messages_and_no_more)
{
    struct rig r = {0};
    OPEN(&r, endless);
    int fd[ENGINE_MESSAGES + 1];
    for (unsigned i = 0; i <= ENGINE_MESSAGES; i++)
        fd[i] = make_fd();
    if (!signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x51}, fd[0]))
        SKIP("this KVM has no irqfd");
    for (unsigned i = 1; i <= ENGINE_MESSAGES; i++)
        CHECK_EQ(signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x51 + i}, fd[i]),
                 i < ENGINE_MESSAGES);
    signals->remove_message(r.vm, fd[3]);
    CHECK(signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x71}, fd[ENGINE_MESSAGES]));
    rig_close(&r);
    for (unsigned i = 0; i <= ENGINE_MESSAGES; i++)
        close(fd[i]);
}

TEST(there_are_none_where_the_machine_keeps_its_apics)
{
    struct rig r;
    static char text[512];
    CODE(halts, "hlt");
    if (!engine_hardware.usable(text, sizeof text))
        SKIP(text);
    CHECK(rig_open(&r, halts, halts_end));
    int fd = make_fd();
    CHECK(!signals->add_doorbell(r.vm, DOORBELL, 2, fd));
    CHECK(!signals->add_message(r.vm, &(struct engine_msi){0xfee00000, 0x51}, fd));
    rig_close(&r);
    close(fd);
}

TESTS(T(a_write_to_a_doorbell_signals_and_comes_to_nobody),
      T(a_doorbell_that_was_removed_is_a_write_again), T(a_signal_arrives_as_its_vector),
      T(no_signal_is_lost_before_the_apic_is_taken_back),
      T(messages_and_the_ioapics_pins_leave_each_other_alone),
      T(there_are_so_many_messages_and_no_more),
      T(there_are_none_where_the_machine_keeps_its_apics))

/*
 * Local APICs that KVM keeps: what is given comes back, nothing is lost on the way, and the vCPU
 * waits where they are. Where there is no KVM, or it can't keep them, all of it is skipped.
 */
#include "hardware_apic_rig.h"

static struct engine_apic there_and_back(struct rig *r, const struct engine_apic *a)
{
    struct engine_apic got = {0};
    CHECK(apics->give(r->vcpu, a));
    CHECK(apics->take(r->vcpu, &got));
    return got;
}

/* ---- states ---- */

static void fill(struct engine_apic *a)
{
    static const struct {
        uint32_t reg, value;
    } values[] = {
        {TPR, 0x6b},
        {SVR, 0x11f5},
        {ESR, 0x40},
        {ICR, 0x000c4455},
        {ICR_HIGH, 0x07000000},
        {LVT_TIMER, MASKED | PERIODIC | 0x41},
        {LVT_THERMAL, MASKED | 0x242},
        {LVT_PERF, 0x443},
        {LVT_LINT0, MASKED | 0xa744},
        {LVT_LINT1, 0x445},
        {LVT_ERROR, 0x46},
        {DIVIDE, 3},
    };
    for (unsigned i = 0; i < ARRAY_LEN(values); i++)
        put(a, values[i].reg, values[i].value);
    for (unsigned v = 17; v < 0xb0; v += 13) {
        set_bit(a, IRR, v);
        if (v % 2)
            set_bit(a, TMR, v);
    }
    set_bit(a, ISR, 0x33);
    set_bit(a, ISR, 0x66);
}

static void check_same(const struct engine_apic *got, const struct engine_apic *want)
{
    CHECK_EQ(got->base, want->base);
    CHECK_EQ(got->tsc_deadline, want->tsc_deadline);
    for (unsigned reg = 0; reg < sizeof want->page; reg += 16)
        if (reg != VERSION && reg != PPR && reg != CURRENT && get(got, reg) != get(want, reg)) {
            printf("# register %x\n", reg);
            CHECK_EQ(get(got, reg), get(want, reg));
        }
    CHECK_EQ(get(got, VERSION), 0x01050014); /* what every engine's guest is told */
}

TEST(every_register_comes_back_as_it_was)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC);
    fill(&a);
    put(&a, ID, 0x05000000);
    put(&a, LDR, 0x40000000);
    put(&a, DFR, 0x0fffffff);
    struct engine_apic got = there_and_back(&r, &a);
    check_same(&got, &a);
    a = fresh(XAPIC); /* nothing is left of the first */
    got = there_and_back(&r, &a);
    check_same(&got, &a);
    a = fresh(X2APIC);
    fill(&a);
    put(&a, ICR_HIGH, 0x11223344);
    got = there_and_back(&r, &a);
    check_same(&got, &a);
    rig_close(&r);
}

TEST(the_tpr_comes_back_when_the_processor_goes_there_anew)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC);
    put(&a, TPR, 0x4d);
    CHECK(apics->give(r.vcpu, &a));
    struct x86_state s = rig_state(&r);
    engine_hardware.set_state(r.vcpu, &s);
    struct engine_apic got = there_and_back(&r, &a);
    CHECK_EQ(get(&got, TPR), 0x4d);
    rig_close(&r);
}

/* ---- timers ---- */

TEST(a_count_goes_on_and_is_over_once)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC);
    put(&a, LVT_TIMER, 0x41);
    put(&a, INITIAL, 4000000000);
    put(&a, CURRENT, 3900000000);
    struct engine_apic got = there_and_back(&r, &a);
    CHECK_EQ(get(&got, INITIAL), 4000000000);
    CHECK(get(&got, CURRENT) <= 3900000000);
    CHECK(get(&got, CURRENT) > 0);
    CHECK(!has_bit(&got, IRR, 0x41));
    put(&a, CURRENT, 1); /* due */
    got = there_and_back(&r, &a);
    CHECK(has_bit(&got, IRR, 0x41));
    CHECK_EQ(get(&got, CURRENT), 0);
    /* Given back as the machine would: over, and its interrupt taken. */
    put(&a, INITIAL, 0);
    put(&a, CURRENT, 0);
    got = there_and_back(&r, &a);
    CHECK(!has_bit(&got, IRR, 0x41));
    rig_close(&r);
}

TEST(a_count_goes_there_after_a_deadline)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC), got;
    put(&a, LVT_TIMER, DEADLINE | 0x41);
    a.tsc_deadline = INT64_MAX;
    got = there_and_back(&r, &a);
    CHECK_EQ(got.tsc_deadline, INT64_MAX);
    a = fresh(XAPIC);
    put(&a, LVT_TIMER, PERIODIC | 0x42);
    put(&a, INITIAL, 4000000000);
    put(&a, CURRENT, 3900000000);
    got = there_and_back(&r, &a);
    CHECK_EQ(got.tsc_deadline, 0);
    CHECK_EQ(get(&got, INITIAL), 4000000000);
    CHECK(get(&got, CURRENT) <= 3900000000);
    rig_close(&r);
}

/* It is in the IRR, or the deadline is there still; not both. */
TEST(a_deadline_is_met_once)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(X2APIC);
    put(&a, LVT_TIMER, DEADLINE | 0x41);
    for (unsigned i = 0; i < 50; i++) {
        a.tsc_deadline = 1 + i;
        struct engine_apic got = there_and_back(&r, &a);
        CHECK(has_bit(&got, IRR, 0x41) != (got.tsc_deadline == 1 + i));
    }
    /* None is left of one that was taken away. */
    a.tsc_deadline = 0;
    struct engine_apic got = there_and_back(&r, &a);
    CHECK(!has_bit(&got, IRR, 0x41));
    CHECK_EQ(got.tsc_deadline, 0);
    rig_close(&r);
}

TEST(a_periodic_timer_ticks_while_it_is_there)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC), got;
    put(&a, LVT_TIMER, PERIODIC | 0x41);
    put(&a, INITIAL, 2000000);
    put(&a, CURRENT, 2000000);
    CHECK(apics->give(r.vcpu, &a));
    do {
        CHECK(apics->take(r.vcpu, &got));
        CHECK(get(&got, CURRENT) > 0 && get(&got, CURRENT) <= 2000000);
    } while (!has_bit(&got, IRR, 0x41));
    rig_close(&r);
}

/* ---- messages ---- */

TEST(a_message_that_comes_is_not_lost)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC), got;
    CHECK(apics->give(r.vcpu, &a));
    apics->deliver(r.vm, &(struct engine_msi){0xfee00000, 0x51});
    apics->deliver(r.vm, &(struct engine_msi){0xfee00000, 0xc052});
    apics->deliver(r.vm, &(struct engine_msi){0xfee07000, 0x53}); /* nobody's */
    CHECK(apics->take(r.vcpu, &got));
    CHECK(has_bit(&got, IRR, 0x51));
    CHECK(!has_bit(&got, TMR, 0x51));
    CHECK(has_bit(&got, IRR, 0x52));
    CHECK(has_bit(&got, TMR, 0x52));
    CHECK(!has_bit(&got, IRR, 0x53));
    rig_close(&r);
}

TEST(an_nmi_message_is_pending)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC), got;
    struct x86_state s = rig_state(&r);
    s.nmi_blocked = true;
    engine_hardware.set_state(r.vcpu, &s);
    CHECK(apics->give(r.vcpu, &a));
    apics->deliver(r.vm, &(struct engine_msi){0xfee00000, 0x4400});
    CHECK(apics->take(r.vcpu, &got));
    s = rig_state(&r);
    CHECK(s.nmi_pending);
    CHECK(s.nmi_blocked);
    rig_close(&r);
}

/* ---- what the processor does ---- */

TEST(waiting_comes_back)
{
    static const uint32_t activities[] = {X86_ACTIVE, X86_HALTED, X86_WAIT_FOR_SIPI};
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC);
    for (unsigned i = 0; i < ARRAY_LEN(activities); i++) {
        struct x86_state s = rig_state(&r);
        s.activity = activities[i];
        engine_hardware.set_state(r.vcpu, &s);
        there_and_back(&r, &a);
        CHECK_EQ(rig_state(&r).activity, activities[i]);
    }
    rig_close(&r);
}

/* The only processor, and so the boot processor, starts at once where a reset is asked for. */
TEST(init_leads_to_the_reset_vector_and_on)
{
    struct rig r = {0};
    OPEN(&r, endless);
    struct engine_apic a = fresh(XAPIC);
    static const uint8_t shout[] = {0xe6, 0x80, 0xeb, 0xfc}; /* out %al,$0x80, over and over */
    CHECK(memory_write(&r.memory, 0xffff0, shout, sizeof shout));
    there_and_back(&r, &a);
    CHECK(apics->give(r.vcpu, &a));
    apics->deliver(r.vm, &(struct engine_msi){0xfee00000, 0x4500});
    struct engine_apic got;
    CHECK(apics->take(r.vcpu, &got));
    struct x86_state s = rig_state(&r);
    CHECK_EQ(s.activity, X86_ACTIVE);
    CHECK_EQ(s.seg[X86_CS].base, 0xffff0000);
    CHECK_EQ(s.rip, 0xfff0);
    CHECK_EQ(s.cr0 & (CR0_PE | CR0_PG), 0);
    CHECK(r.vm->reset_vector[0xff0] == 0xea);
    rig_close(&r);
}

/* ---- instructions that KVM gives up on ---- */

/* FLD1 is one, on some; MOV to CR0 has the control registers go back, and CR8 with them. */
CODE(given_up, "fninit; fld1; mov %cr0, %rax; and $~2, %rax; mov %rax, %cr0; fld1\n"
               "1: out %al, $0x80; jmp 1b");

TEST(the_apic_is_as_it_was_behind_what_kvm_gives_up_on)
{
    struct rig r = {0};
    r.host.pio_write = stop_at_port;
    OPEN(&r, given_up);
    stopped = r.vcpu;
    struct engine_apic a = fresh(XAPIC), got;
    put(&a, TPR, 0x4d);
    struct x86_state s = rig_state(&r);
    s.nmi_blocked = true;
    engine_hardware.set_state(r.vcpu, &s);
    CHECK(apics->give(r.vcpu, &a));
    apics->deliver(r.vm, &(struct engine_msi){0xfee00000, 0x51});
    apics->deliver(r.vm, &(struct engine_msi){0xfee00000, 0x4400});
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
    CHECK(apics->take(r.vcpu, &got));
    s = rig_state(&r);
    CHECK_EQ(get(&got, TPR), 0x4d);
    CHECK(has_bit(&got, IRR, 0x51));
    CHECK(s.nmi_pending);
    CHECK_EQ(s.fsw >> 11 & 7, 6); /* two were loaded */
    rig_close(&r);
}

/* ---- the 8259s' interrupt ---- */

static unsigned acknowledged;

static int acknowledge(void *ctx)
{
    acknowledged++;
    engine_hardware.stop(stopped);
    return acknowledged == 1 ? 0x50 : -1;
}

/* Acknowledged, but not delivered: an event that goes with the state. */
TEST(an_interrupt_of_the_8259s_is_pending_or_not_asked_for)
{
    for (unsigned open = 0; open < 2; open++) {
        struct rig r = {0};
        CODE(ports, "1: out %al, $0x80; jmp 1b");
        r.host.interrupt_acknowledge = acknowledge;
        r.host.pio_write = stop_at_port;
        OPEN(&r, ports);
        stopped = r.vcpu;
        acknowledged = 0;
        struct engine_apic a = fresh(XAPIC);
        put(&a, LVT_LINT0, open ? EXTINT : MASKED | EXTINT);
        struct x86_state s = rig_state(&r);
        s.rflags |= FLAG_IF;
        engine_hardware.set_state(r.vcpu, &s);
        CHECK(apics->give(r.vcpu, &a));
        engine_hardware.interrupt(r.vcpu, true);
        CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
        s = rig_state(&r);
        CHECK_EQ(s.event_pending, open);
        CHECK_EQ(acknowledged != 0, open);
        if (open)
            CHECK_EQ(s.event_vector, 0x50);
        rig_close(&r);
    }
}

static int give_vector(void *ctx)
{
    return acknowledged++ == 0 ? 0x50 : -1;
}

static void stop_in_handler(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    if (port == 0x81)
        engine_hardware.stop(stopped);
}

CODE(waits, "sti; 1: out %al, $0x80; jmp 1b");
CODE(handles, "1: out %al, $0x81; jmp 1b");

/* With a GDT, and an IDT that has a gate for the vector. */
static void with_handler(struct rig *r, uint8_t vector)
{
    enum { GDT = 0x8000, IDT = 0x9000, HANDLER = 0x11000 };
    const uint64_t descriptors[] = {0, UINT64_C(0x00af9b000000ffff)};
    const uint64_t gate =
        UINT64_C(0x8e00) << 32 | 8 << 16 | (HANDLER & 0xffff) | (uint64_t)(HANDLER >> 16) << 48;
    struct x86_state s = rig_state(r);
    CHECK(memory_write(&r->memory, GDT, descriptors, sizeof descriptors));
    CHECK(memory_write(&r->memory, IDT + vector * 16u, &gate, sizeof gate));
    CHECK(memory_write(&r->memory, HANDLER, handles, (uint64_t)(handles_end - handles)));
    s.gdtr = (struct x86_table){GDT, sizeof descriptors - 1};
    s.idtr = (struct x86_table){IDT, 0xfff};
    engine_hardware.set_state(r->vcpu, &s);
}

/* Whom KVM may find in a guest of his own gets it from KVM. */
TEST(an_interrupt_of_the_8259s_is_kvms_to_give_where_there_is_vmx)
{
    for (unsigned vmx = 0; vmx < 2; vmx++) {
        struct rig r = {0};
        r.host.interrupt_acknowledge = give_vector;
        r.host.pio_write = stop_in_handler;
        OPEN(&r, waits);
        stopped = r.vcpu;
        acknowledged = 0;
        struct engine_apic a = fresh(XAPIC);
        put(&a, LVT_LINT0, EXTINT);
        with_handler(&r, 0x50);
        CHECK(apics->give(r.vcpu, &a));
        r.vm->offer.vmx = vmx;
        engine_hardware.interrupt(r.vcpu, true);
        CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
        CHECK(acknowledged > 0);
        rig_close(&r);
    }
}

/* ---- level-triggered interrupts ---- */

static unsigned eois;
static uint8_t eoi_vector;

static void on_eoi(void *ctx, uint8_t vector)
{
    eois++;
    eoi_vector = vector;
}

CODE(ends, "mov $0x80b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr; 1: out %al, $0x80; jmp 1b");

/* The guest ends what came with the state. KVM tells it before the machine has the state again. */
static unsigned eois_of(bool level, bool broadcast)
{
    struct rig r = {0};
    r.host.pio_write = stop_at_port;
    r.host.apic_eoi = on_eoi;
    eois = 0;
    if (!open_rig(&r, ends, ends_end))
        return UINT32_MAX;
    stopped = r.vcpu;
    struct engine_apic a = fresh(X2APIC), got;
    put(&a, SVR, broadcast ? 0x1ff : 0x11ff);
    set_bit(&a, ISR, 0x61);
    if (level)
        set_bit(&a, TMR, 0x61);
    struct engine_msi pins[ENGINE_PINS] = {0};
    if (level)
        pins[4] = (struct engine_msi){0xfee00000, 0xc061};
    CHECK(apics->give(r.vcpu, &a));
    apics->routes(r.vm, pins);
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_STOPPED);
    CHECK(apics->take(r.vcpu, &got));
    CHECK(!has_bit(&got, ISR, 0x61));
    rig_close(&r);
    return eois;
}

TEST(the_end_of_a_level_triggered_interrupt_is_told)
{
    unsigned told = eois_of(true, true);
    if (told == UINT32_MAX)
        SKIP(why);
    CHECK_EQ(told, 1);
    CHECK_EQ(eoi_vector, 0x61);
    CHECK_EQ(eois_of(true, false), 0);
    CHECK_EQ(eois_of(false, true), 0);
}

TESTS(T(every_register_comes_back_as_it_was),
      T(the_tpr_comes_back_when_the_processor_goes_there_anew), T(a_count_goes_on_and_is_over_once),
      T(a_count_goes_there_after_a_deadline), T(a_deadline_is_met_once),
      T(a_periodic_timer_ticks_while_it_is_there), T(a_message_that_comes_is_not_lost),
      T(an_nmi_message_is_pending), T(waiting_comes_back), T(init_leads_to_the_reset_vector_and_on),
      T(the_apic_is_as_it_was_behind_what_kvm_gives_up_on),
      T(an_interrupt_of_the_8259s_is_pending_or_not_asked_for),
      T(an_interrupt_of_the_8259s_is_kvms_to_give_where_there_is_vmx),
      T(the_end_of_a_level_triggered_interrupt_is_told))

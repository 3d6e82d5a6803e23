/*
 * The local APICs in the host's kernel, where the guest reaches them without an exit, processors
 * send each other interrupts, timers run and halted vCPUs sleep; the I/O APIC and the 8259s stay
 * the machine's ("split irqchip", Documentation/virt/kvm/api.rst).
 *
 * They are KVM's while the machine's clock runs. The state goes there and comes back (engine.h)
 * while no vCPU runs, and the one difficulty is a timer: KVM holds an interrupt of it back until
 * KVM_RUN, and says nowhere that it does.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/hardware/hardware.h"
#include "x86/msr.h"

/* Registers of the page (SDM 3, table 10-1). */
enum {
    TPR = 0x80,
    SVR = 0xf0,
    LVT_TIMER = 0x320,
    INITIAL_COUNT = 0x380,
    CURRENT_COUNT = 0x390,
};
enum { SVR_NO_EOI_BROADCAST = 1u << 12 };
enum { LVT_MASKED = 1u << 16, LVT_MODE = 3u << 17, LVT_PERIODIC = 1u << 17 };

_Static_assert(sizeof(((struct engine_apic){0}).page) == sizeof(struct kvm_lapic_state), "alike");

static uint32_t page_register(const struct engine_apic *image, unsigned offset)
{
    return load_u32(image->page + offset);
}

/* ---- KVM's ---- */

static bool set_page(struct engine_vcpu *v, const struct engine_apic *image)
{
    struct kvm_lapic_state k;
    memcpy(k.regs, image->page, sizeof k.regs);
    return ioctl(v->fd, KVM_SET_LAPIC, &k) == 0 || hardware_fail(v, "KVM_SET_LAPIC");
}

static bool get_page(struct engine_vcpu *v, struct engine_apic *image)
{
    struct kvm_lapic_state k;
    if (ioctl(v->fd, KVM_GET_LAPIC, &k) != 0) {
        hardware_fail(v, "KVM_GET_LAPIC");
        return false;
    }
    memcpy(image->page, k.regs, sizeof k.regs);
    return true;
}

struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
};

static bool get_msr(struct engine_vcpu *v, uint32_t msr, uint64_t *value)
{
    struct one_msr k = {.head.nmsrs = 1, .entry.index = msr};
    bool ok = ioctl(v->fd, KVM_GET_MSRS, &k.head) == 1;
    *value = ok ? k.entry.data : 0;
    return ok;
}

static bool set_msr(struct engine_vcpu *v, uint32_t msr, uint64_t value)
{
    struct one_msr k = {.head.nmsrs = 1, .entry = {.index = msr, .data = value}};
    return ioctl(v->fd, KVM_SET_MSRS, &k.head) == 1;
}

/* ---- there ---- */

/* A change into or out of deadline mode takes count and deadline away. So the timer goes out of it
 * first, whatever the last state left there, and into the mode that it is to have then. */
static bool set_registers(struct engine_vcpu *v, const struct engine_apic *from)
{
    struct engine_apic quiet = *from;
    store_u32(quiet.page + INITIAL_COUNT, 0);
    store_u32(quiet.page + LVT_TIMER, LVT_MASKED);
    return set_page(v, &quiet) && set_page(v, from);
}

/* Segments and events first: with them goes CR8, which is a part of the TPR. Deadlines are in time
 * stamps, so the counter goes before the timer. */
static bool give(struct engine_vcpu *v, const struct engine_apic *from)
{
    v->apic_base = from->base;
    v->run->cr8 = page_register(from, TPR) >> 4;
    if (v->broken || !hardware_set_tsc(v, false) || !hardware_load(v))
        return false;
    if (!set_msr(v, MSR_APIC_BASE, from->base))
        return hardware_fail(v, "IA32_APIC_BASE");
    return set_registers(v, from) &&
           (from->tsc_deadline == 0 || set_msr(v, MSR_TSC_DEADLINE, from->tsc_deadline) ||
            hardware_fail(v, "IA32_TSC_DEADLINE"));
}

void hardware_deadline_moved(struct engine_vcpu *v)
{
    uint64_t deadline;
    if (v->vm->keeps_apics && get_msr(v, MSR_TSC_DEADLINE, &deadline) && deadline)
        set_msr(v, MSR_TSC_DEADLINE, deadline);
}

/* ---- back ---- */

static bool is_deadline_timer(const struct engine_apic *i)
{
    return (page_register(i, LVT_TIMER) & LVT_MODE) > LVT_PERIODIC;
}

static bool counts(const struct engine_apic *i)
{
    return page_register(i, INITIAL_COUNT) != 0 && !is_deadline_timer(i);
}

/* A count that is at zero: an interrupt that KVM may not have given yet. The host's timer that
 * raises it is late by less than this. */
static void wait_for_late_timer(const struct engine_apic *i)
{
    const struct timespec late = {.tv_nsec = 1000000};
    bool masked = page_register(i, LVT_TIMER) & LVT_MASKED;
    if (counts(i) && !masked && page_register(i, CURRENT_COUNT) == 0)
        nanosleep(&late, NULL);
}

/* Whether no timer ran out between two looks, before the second of which KVM has given what was
 * held back: then `after` says all. */
static bool is_settled(const struct engine_apic *before, const struct engine_apic *after)
{
    uint32_t was = page_register(before, CURRENT_COUNT), is = page_register(after, CURRENT_COUNT);
    bool periodic = (page_register(after, LVT_TIMER) & LVT_MODE) == LVT_PERIODIC;
    if (before->tsc_deadline != after->tsc_deadline)
        return false;
    return !counts(after) || (is <= was && (is != 0) == (was != 0) && (is != 0 || !periodic));
}

/* The deadline is zero as soon as its interrupt is in the page: read on both sides of it, it was
 * not given meanwhile. */
static bool look(struct engine_vcpu *v, struct engine_apic *to)
{
    uint64_t before;
    do {
        get_msr(v, MSR_TSC_DEADLINE, &before);
        if (!get_page(v, to))
            return false;
        get_msr(v, MSR_TSC_DEADLINE, &to->tsc_deadline);
    } while (before != to->tsc_deadline);
    return true;
}

/* A guest may have a timer so fast that it never is settled; one tick more or less is nothing to
 * it. */
static bool take(struct engine_vcpu *v, struct engine_apic *to)
{
    enum { TRIES = 64 };
    struct engine_apic before;
    unsigned tries = 0;
    do {
        if (v->broken || !look(v, &before))
            return false;
        wait_for_late_timer(&before);
        if (!hardware_settle(v) || !look(v, to))
            return false;
    } while (!is_settled(&before, to) && ++tries < TRIES);
    return get_msr(v, MSR_APIC_BASE, &to->base) || hardware_fail(v, "IA32_APIC_BASE");
}

/* ---- messages ---- */

/* That nobody takes it is no failure. */
static void deliver(struct engine_vm *vm, const struct engine_msi *m)
{
    struct kvm_msi k = {.address_lo = m->address, .data = m->data};
    ioctl(vm->fd, KVM_SIGNAL_MSI, &k);
}

/* KVM's table of interrupts, as far as it is needed: the I/O APIC's pins, whose EOIs are to leave
 * the guest, and behind them the messages that eventfds send (signals.c). */
struct apic_routes {
    struct kvm_irq_routing head;
    struct kvm_irq_routing_entry entry[ENGINE_PINS + ENGINE_MESSAGES];
};

static void add_route(struct apic_routes *to, unsigned gsi, const struct engine_msi *m)
{
    struct kvm_irq_routing_entry *e = &to->entry[to->head.nr++];
    *e = (struct kvm_irq_routing_entry){.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI};
    e->u.msi.address_lo = m->address;
    e->u.msi.data = m->data;
}

bool hardware_set_routes(struct engine_vm *vm)
{
    struct apic_routes now = {0};
    for (unsigned pin = 0; pin < ENGINE_PINS; pin++)
        if (vm->level[pin].address)
            add_route(&now, pin, &vm->level[pin]);
    for (unsigned i = 0; i < ENGINE_MESSAGES; i++)
        if (vm->message[i].used)
            add_route(&now, ENGINE_PINS + i, &vm->message[i].msi);
    return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &now.head) == 0;
}

/* It costs a grace period, and the I/O APIC's entries are written all the time. */
static void routes(struct engine_vm *vm, const struct engine_msi level[ENGINE_PINS])
{
    struct engine_msi before[ENGINE_PINS];
    if (memcmp(vm->level, level, sizeof vm->level) == 0)
        return;
    memcpy(before, vm->level, sizeof before);
    memcpy(vm->level, level, sizeof vm->level);
    if (!hardware_set_routes(vm))
        memcpy(vm->level, before, sizeof vm->level);
}

/* KVM tells them also where the guest has turned them off, unless it is new. */
int hardware_exit_eoi(struct engine_vcpu *v)
{
    const struct x86_host *h = &v->cpu.host;
    uint8_t vector = v->run->eoi.vector;
    struct engine_apic image;
    if (!get_page(v, &image))
        return ENGINE_FAILED;
    if (h->apic_eoi && !(page_register(&image, SVR) & SVR_NO_EOI_BROADCAST))
        h->apic_eoi(h->ctx, vector);
    return GO_ON;
}

/* ---- the 8259s' interrupt ---- */

/* Not by KVM_INTERRUPT: a vector that waits there is in no state that KVM gives back. As an event
 * that is under way it is; the guest takes it first of all. (One with VMX might take it in a guest
 * of its own. KVM knows better, and such a guest's state never leaves it.) */
bool hardware_inject_external(struct engine_vcpu *v, uint8_t vector)
{
    struct kvm_mp_state running = {KVM_MP_STATE_RUNNABLE};
    struct kvm_vcpu_events k;
    if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &k) != 0)
        return hardware_fail(v, "KVM_GET_VCPU_EVENTS");
    k.flags = 0; /* an NMI that comes now is not to be lost */
    k.interrupt.injected = 1;
    k.interrupt.nr = vector;
    k.interrupt.soft = 0;
    if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &k) != 0)
        return hardware_fail(v, "KVM_SET_VCPU_EVENTS");
    return ioctl(v->fd, KVM_SET_MP_STATE, &running) == 0 || hardware_fail(v, "KVM_SET_MP_STATE");
}

/* ---- instructions that KVM gave up on ---- */

/* What reaches the page in such a way does so with more than 32 bits, or as a vector: undefined
 * (SDM 3, 10.4.1), and here such a write does nothing. */
static uint32_t read_page(struct engine_vcpu *v, uint32_t offset)
{
    struct engine_apic image;
    bool ok = offset < sizeof image.page && get_page(v, &image);
    return ok ? page_register(&image, offset) : 0;
}

static bool access_msr(struct engine_vcpu *v, uint32_t msr, bool write, uint64_t *value)
{
    if (!write)
        return get_msr(v, msr, value);
    if (!set_msr(v, msr, *value))
        return false;
    if (msr == MSR_APIC_BASE)
        v->apic_base = *value;
    return true;
}

/* It comes and goes with the control registers. */
static void access_cr8(struct engine_vcpu *v, bool write, uint64_t *value)
{
    if (write)
        v->run->cr8 = *value;
    *value = v->run->cr8;
}

/* ---- making ---- */

static const int needed[] = {KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_SIGNAL_MSI, KVM_CAP_MP_STATE,
                             KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_READONLY_MEM};

static bool can_keep(const struct engine_vm *vm)
{
    for (unsigned i = 0; i < ARRAY_LEN(needed); i++)
        if (ioctl(vm->kvm.fd, KVM_CHECK_EXTENSION, needed[i]) <= 0)
            return false;
    return true;
}

/* It is for KVMs that run all of the guest, and as the processor would. */
static bool should_keep(const struct engine_vm *vm)
{
    return !vm->facts.users_only && can_keep(vm) && kvm_serves_interrupts(&vm->kvm);
}

bool hardware_tune(struct engine_vm *vm, const struct engine_tuning *t, struct error *err)
{
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = ENGINE_PINS};
    if (t->apics == ENGINE_APICS_MACHINE || (t->apics == ENGINE_APICS_BEST && !should_keep(vm)))
        return true;
    if (!can_keep(vm) || ioctl(vm->fd, KVM_ENABLE_CAP, &split) != 0)
        return error_set(err, "--apic kernel: this host's KVM can't keep the local APICs so that "
                              "they can be taken back; use --apic machine");
    vm->keeps_apics = true;
    vm->facts.users_only = false;
    return hardware_make_offer(vm, err) && hardware_map_reset_vector(vm, err) &&
           hardware_filter_msrs(vm, err);
}

static bool kept(const struct engine_vm *vm)
{
    return vm->keeps_apics;
}

const struct engine_apics hardware_apics = {
    .kept = kept,
    .give = give,
    .take = take,
    .read_page = read_page,
    .msr = access_msr,
    .cr8 = access_cr8,
    .deliver = deliver,
    .routes = routes,
};

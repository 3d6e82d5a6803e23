/*
 * The run loop: what the machine wants, then KVM_RUN, then what the guest wants.
 *
 * Other threads reach a vCPU by a bit in its request word and, while it is inside KVM_RUN, a
 * signal. The signal is blocked everywhere but in KVM_RUN itself (KVM_SET_SIGNAL_MASK), so no
 * handler ever runs and none need be there: KVM_RUN comes back with EINTR, and the signal is taken
 * off the queue. Who sends it says so first, in the word that says where the thread is, and only
 * one does at a time: the vCPU can wait for the signal and thus never leaves one behind, with which
 * the thread's next vCPU would not get into its guest any more.
 */
#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"

/* ---- reaching a vCPU ---- */

static int kick_signal(void)
{
    return SIGRTMIN + 5;
}

void hardware_kick(struct engine_vcpu *v)
{
    enum hardware_place inside = PLACE_INSIDE;
    if (atomic_compare_exchange_strong(&v->place, &inside, PLACE_KICKED))
        pthread_kill(v->thread, kick_signal());
}

/* Whoever has made it PLACE_KICKED has sent the signal, or is about to, however slowly. */
static void come_outside(struct engine_vcpu *v)
{
    if (atomic_exchange(&v->place, PLACE_OUTSIDE) != PLACE_KICKED)
        return;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, kick_signal());
    while (sigwaitinfo(&set, NULL) < 0 && errno == EINTR)
        ;
}

/* Blocks the signal on this thread, and lets KVM_RUN have it. */
static bool enter_thread(struct engine_vcpu *v)
{
    sigset_t set, mask;
    sigemptyset(&set);
    sigaddset(&set, kick_signal());
    pthread_sigmask(SIG_BLOCK, &set, &mask);
    v->thread = pthread_self();
    sigdelset(&mask, kick_signal());
    /* The kernel's signal set is 64 bits, the first of libc's. */
    struct {
        struct kvm_signal_mask head;
        uint8_t bits[8];
    } k = {.head = {.len = sizeof k.bits}};
    memcpy(k.head.sigset, &mask, sizeof k.bits);
    return ioctl(v->fd, KVM_SET_SIGNAL_MASK, &k.head) == 0 ||
           hardware_fail(v, "KVM_SET_SIGNAL_MASK");
}

/* ---- between the guest's instructions ---- */

/* Whether KVM would take an interrupt now. */
static bool window_open(const struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    if (v->fresh)
        return (s->rflags & FLAG_IF) && !s->shadow_sti && !s->shadow_ss && !s->event_pending;
    return v->run->ready_for_interrupt_injection;
}

/* The request is only taken back when there was nothing, and then looked at once more, so that one
 * that is raised meanwhile is not lost; lowering it is the machine's. */
static int acknowledge(struct engine_vcpu *v)
{
    const struct x86_host *h = &v->cpu.host;
    int vector = h->interrupt_acknowledge(h->ctx);
    if (vector >= 0)
        return vector;
    atomic_fetch_and(&v->request, ~(uint32_t)REQUEST_INTR);
    vector = h->interrupt_acknowledge(h->ctx);
    if (vector >= 0)
        atomic_fetch_or(&v->request, REQUEST_INTR);
    return vector;
}

static bool inject(struct engine_vcpu *v)
{
    int vector = acknowledge(v);
    if (vector < 0)
        return true;
    struct kvm_interrupt k = {.irq = (uint32_t)vector};
    if (v->vm->keeps_apics && !v->vm->offer.vmx) {
        if (!hardware_inject_external(v, (uint8_t)vector))
            return false;
    } else if (ioctl(v->fd, KVM_INTERRUPT, &k) != 0) {
        return hardware_fail(v, "KVM_INTERRUPT");
    }
    v->cpu.s.activity = X86_ACTIVE;
    v->interrupts++;
    /* One at a time: the next one waits for a window. */
    v->fresh = false;
    v->run->ready_for_interrupt_injection = 0;
    return true;
}

static bool take_nmi(struct engine_vcpu *v)
{
    atomic_fetch_and(&v->request, ~(uint32_t)REQUEST_NMI);
    if (ioctl(v->fd, KVM_NMI) != 0)
        return hardware_fail(v, "KVM_NMI");
    v->cpu.s.activity = X86_ACTIVE;
    v->interrupts++;
    return true;
}

/* An NMI that came with the state wakes a halted vCPU as well. */
static bool wakes(const struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    return v->fresh && (s->event_pending || (s->nmi_pending && !s->nmi_blocked));
}

/* Whether the guest takes an interrupt of the 8259s now is KVM's to say where it has the local
 * APIC, and it does so when KVM_RUN returns. */
static bool open_for_8259s(struct engine_vcpu *v)
{
    v->incomplete |= v->fresh;
    bool ok = hardware_complete(v);
    v->fresh = false;
    return ok && v->run->ready_for_interrupt_injection;
}

/* The same where KVM has the local APIC: it knows who waits for what. */
static int attend_8259s(struct engine_vcpu *v, uint32_t request)
{
    if ((request & REQUEST_NMI) && !take_nmi(v))
        return ENGINE_FAILED;
    if ((request & REQUEST_INTR) && open_for_8259s(v) && !inject(v))
        return ENGINE_FAILED;
    return v->broken ? ENGINE_FAILED : GO_ON;
}

/* Does what was asked for. Returns an exit, or GO_ON. */
static int attend(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    uint32_t request = atomic_load(&v->request);
    if (request & REQUEST_STOP) {
        atomic_fetch_and(&v->request, ~(uint32_t)REQUEST_STOP);
        return ENGINE_STOPPED;
    }
    if (s->activity == X86_SHUTDOWN)
        return ENGINE_SHUTDOWN;
    if (v->vm->keeps_apics)
        return attend_8259s(v, request);
    if (s->activity == X86_WAIT_FOR_SIPI)
        return ENGINE_HALTED;
    if ((request & REQUEST_NMI) && !take_nmi(v))
        return ENGINE_FAILED;
    if ((request & REQUEST_INTR) && window_open(v) && !inject(v))
        return ENGINE_FAILED;
    if (wakes(v))
        s->activity = X86_ACTIVE;
    return s->activity == X86_ACTIVE ? GO_ON : ENGINE_HALTED;
}

/* ---- exits ---- */

static int exit_io(struct engine_vcpu *v)
{
    struct kvm_run *run = v->run;
    const struct x86_host *h = &v->cpu.host;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    unsigned size = run->io.size;
    v->incomplete = true;
    for (uint32_t i = 0; i < run->io.count; i++, data += size) {
        uint32_t value = 0;
        v->pio++;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, size);
            h->pio_write(h->ctx, run->io.port, size, value);
        } else {
            value = h->pio_read(h->ctx, run->io.port, size);
            memcpy(data, &value, size);
        }
    }
    return GO_ON;
}

/* The largest access of a size that a bus knows that fits in n and is aligned at gpa. */
static unsigned mmio_piece(uint64_t gpa, unsigned n)
{
    unsigned size = 8;
    while (size > n || (gpa & (size - 1)))
        size >>= 1;
    return size;
}

static int exit_mmio(struct engine_vcpu *v)
{
    struct kvm_run *run = v->run;
    const struct x86_host *h = &v->cpu.host;
    uint64_t gpa = run->mmio.phys_addr;
    unsigned n = run->mmio.len < sizeof run->mmio.data ? run->mmio.len : sizeof run->mmio.data;
    v->incomplete = true;
    for (unsigned done = 0, size; done < n; done += size) {
        uint64_t value = 0;
        size = mmio_piece(gpa + done, n - done);
        v->mmio++;
        if (run->mmio.is_write) {
            memcpy(&value, run->mmio.data + done, size);
            h->mmio_write(h->ctx, gpa + done, size, value);
        } else {
            value = h->mmio_read(h->ctx, gpa + done, size);
            memcpy(run->mmio.data + done, &value, size);
        }
    }
    return GO_ON;
}

static int exit_msr(struct engine_vcpu *v)
{
    hardware_msr_exit(v);
    return v->broken ? ENGINE_FAILED : GO_ON;
}

/* Whether it really waits is for attend() to say. */
static int exit_halt(struct engine_vcpu *v)
{
    v->halts++;
    v->cpu.s.activity = X86_HALTED;
    return GO_ON;
}

static int exit_shutdown(struct engine_vcpu *v)
{
    v->cpu.s.activity = X86_SHUTDOWN;
    return ENGINE_SHUTDOWN;
}

static int exit_internal_error(struct engine_vcpu *v)
{
    if (v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
        return hardware_assist(v);
    error_set(&v->error, "engine hardware: vCPU %u: KVM gave up (internal error %u)", v->cpu.index,
              v->run->internal.suberror);
    v->broken = true;
    return ENGINE_FAILED;
}

static int exit_fail_entry(struct engine_vcpu *v)
{
    error_set(&v->error,
              "engine hardware: vCPU %u: the processor refuses to enter the guest (reason 0x%llx)",
              v->cpu.index, (unsigned long long)v->run->fail_entry.hardware_entry_failure_reason);
    v->broken = true;
    return ENGINE_FAILED;
}

/* It was only there to be left. */
static int exit_nothing(struct engine_vcpu *v)
{
    (void)v;
    return GO_ON;
}

static int (*const exits[])(struct engine_vcpu *v) = {
    [KVM_EXIT_IO] = exit_io,
    [KVM_EXIT_MMIO] = exit_mmio,
    [KVM_EXIT_X86_RDMSR] = exit_msr,
    [KVM_EXIT_X86_WRMSR] = exit_msr,
    [KVM_EXIT_HLT] = exit_halt,
    [KVM_EXIT_SHUTDOWN] = exit_shutdown,
    [KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
    [KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
    [KVM_EXIT_IRQ_WINDOW_OPEN] = exit_nothing,
    [KVM_EXIT_SET_TPR] = exit_nothing,
    [KVM_EXIT_INTR] = exit_nothing,
    [KVM_EXIT_IOAPIC_EOI] = hardware_exit_eoi,
};

int hardware_dispatch(struct engine_vcpu *v)
{
    uint32_t reason = v->run->exit_reason;
    if (reason < ARRAY_LEN(exits) && exits[reason])
        return exits[reason](v);
    error_set(&v->error, "engine hardware: vCPU %u: an exit that is not known (reason %u)",
              v->cpu.index, reason);
    v->broken = true;
    return ENGINE_FAILED;
}

/* ---- the loop ---- */

/* What was asked for and attend() has not seen: it has looked at the interrupt line when it asks
 * for a window. */
bool hardware_enter(struct engine_vcpu *v)
{
    atomic_store(&v->place, PLACE_INSIDE);
    uint32_t request = atomic_load(&v->request);
    bool unseen = (request & (REQUEST_STOP | REQUEST_NMI)) ||
                  ((request & REQUEST_INTR) && !v->run->request_interrupt_window);
    int result = unseen ? -1 : ioctl(v->fd, KVM_RUN, 0);
    int failure = unseen ? EINTR : errno;
    v->exits += !unseen;
    come_outside(v);
    if (!unseen)
        v->fresh = v->incomplete = v->fpu.known = false;
    if (result < 0 && failure != EINTR && failure != EAGAIN) {
        errno = failure;
        hardware_fail(v, "KVM_RUN");
    }
    return result == 0;
}

static int go(struct engine_vcpu *v)
{
    const struct x86_host *h = &v->cpu.host;
    bool own_cr8 = h->cr8_read && h->cr8_write && !v->vm->keeps_apics;
    for (;;) {
        if (!hardware_load(v))
            return ENGINE_FAILED;
        int exit = attend(v);
        if (exit != GO_ON)
            return exit;
        uint64_t cr8 = own_cr8 ? h->cr8_read(h->ctx) : v->run->cr8;
        v->run->cr8 = cr8;
        v->run->request_interrupt_window = (atomic_load(&v->request) & REQUEST_INTR) != 0;
        bool left = hardware_enter(v);
        if (v->broken)
            return ENGINE_FAILED;
        if (v->run->cr8 != cr8 && own_cr8)
            h->cr8_write(h->ctx, v->run->cr8);
        exit = left ? hardware_dispatch(v) : GO_ON;
        if (exit != GO_ON)
            return exit;
    }
}

/* What is left to be done for the last access may touch devices again (one that crosses pages);
 * KVM leaves before the next instruction. */
bool hardware_complete(struct engine_vcpu *v)
{
    while (v->incomplete && !v->broken) {
        v->run->immediate_exit = 1;
        int result = ioctl(v->fd, KVM_RUN, 0);
        int failure = errno;
        v->run->immediate_exit = 0;
        v->incomplete = v->fpu.known = false;
        if (result == 0)
            hardware_dispatch(v);
        else if (failure != EINTR) {
            errno = failure;
            return hardware_fail(v, "KVM_RUN");
        }
    }
    return !v->broken;
}

/* A signal that waits lets KVM_RUN get as far as the guest's door; not so an immediate exit. */
bool hardware_settle(struct engine_vcpu *v)
{
    int result;
    if (!hardware_complete(v))
        return false;
    v->run->request_interrupt_window = 0;
    do {
        if (!enter_thread(v))
            return false;
        atomic_store(&v->place, PLACE_KICKED);
        pthread_kill(pthread_self(), kick_signal());
        result = ioctl(v->fd, KVM_RUN, 0);
        int failure = errno;
        come_outside(v);
        v->fresh = v->fpu.known = false;
        errno = failure;
        if (result != 0 && failure != EINTR && failure != EAGAIN)
            return hardware_fail(v, "KVM_RUN");
        if (result == 0 && hardware_dispatch(v) == ENGINE_FAILED)
            return false;
    } while (result == 0 && v->run->exit_reason == KVM_EXIT_IOAPIC_EOI);
    return true;
}

enum engine_exit hardware_run(struct engine_vcpu *v, uint64_t insns_limit)
{
    (void)insns_limit; /* nobody counts them */
    if (v->broken || !enter_thread(v) || !hardware_set_tsc(v, false))
        return ENGINE_FAILED;
    int exit = v->vm->facts.users_only ? hardware_run_users(v) : go(v);
    if (exit != ENGINE_FAILED && !hardware_complete(v))
        return ENGINE_FAILED;
    if (exit != ENGINE_FAILED && v->vm->keeps_apics && !hardware_settle(v))
        return ENGINE_FAILED;
    if (!hardware_take_writes(v->vm)) {
        hardware_fail(v, "KVM_CLEAR_DIRTY_LOG");
        return ENGINE_FAILED;
    }
    return (enum engine_exit)exit;
}

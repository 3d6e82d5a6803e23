/*
 * A KVM that runs users alone.
 *
 * Some KVMs interpret what is not user code, a thousand times slower than the processor, and give
 * up on part of it; code at CPL 3 they run on the processor. There KVM gets the guest's 64-bit
 * user code and nothing else, and `emulate` the rest, in stretches. The engine does so only where a
 * guest of a few bytes has shown it that KVM gives up (measure.c).
 *
 * Users leave by an exception, an interrupt, a system call, or an instruction that KVM would have
 * to emulate. None of these is left to KVM to deliver: it is given an IDT without entries, so that
 * an exception shuts its vCPU down, with the registers as they were before the instruction; and
 * `emulate` begins with that instruction, finds what is wrong with it itself, and delivers it by
 * the guest's own IDT. A system call goes to an address that is mapped nowhere.
 */
#include "engine/emulate/stretch.h"
#include "engine/hardware/hardware.h"
#include "x86/access.h"
#include "x86/debug.h"
#include "x86/exception.h"

/* ---- whose code is next ---- */

/* Whether the state is a 64-bit user's, with nothing to look at before or after its instructions:
 * `emulate` does what needs that. */
static bool users_turn(const struct x86_state *s)
{
    const uint64_t flags = FLAG_IF | FLAG_TF | FLAG_IOPL | FLAG_RF | FLAG_VM | FLAG_AC;
    const uint32_t mode = SEG_L | SEG_DPL;
    return (s->seg[X86_CS].attr & mode) == mode && (s->seg[X86_SS].attr & SEG_DPL) == SEG_DPL &&
           (s->efer & EFER_LMA) && (s->rflags & flags) == FLAG_IF &&
           !(s->cr0 & (CR0_TS | CR0_EM)) && !(s->cr4 & CR4_TSD) && !(s->dr[7] & 0xff) &&
           !s->shadow_ss && !s->shadow_sti && !s->event_pending && !s->nmi_pending &&
           s->activity == X86_ACTIVE;
}

static bool stretch_ends(void *vcpu, const struct x86_cpu *c)
{
    struct engine_vcpu *v = vcpu;
    return users_turn(&c->s) && !c->debug_hits && !hardware_is_beginning(v, c);
}

/* ---- how a user left ---- */

static uint8_t code_byte(struct engine_vcpu *v, uint64_t lin)
{
    uint64_t gpa;
    uint8_t byte = 0;
    x86_update_mode(&v->cpu);
    if (x86_translate_debug(&v->cpu, lin, &gpa))
        memory_read(v->vm->memory, gpa, &byte, 1);
    return byte;
}

/* Takes an instruction that pushes the address behind itself (INT3 and INTO in both of their
 * forms) back. */
static void undo_trap(struct engine_vcpu *v, unsigned vector)
{
    struct x86_state *s = &v->cpu.s;
    uint8_t short_form = vector == X86_BP ? 0xcc : 0xce;
    s->rip -= code_byte(v, s->rip - 1) == short_form ? 1 : 2;
}

static void pend(struct x86_state *s, uint8_t vector)
{
    s->event_pending = true;
    s->event_type = X86_HARDWARE_EXCEPTION;
    s->event_vector = vector;
    s->event_has_error = false;
}

/* No user can jump there with IF clear. */
static bool made_system_call(const struct x86_state *s)
{
    return s->rip == USERS_SYSCALL && !(s->rflags & FLAG_IF);
}

static void undo_system_call(struct x86_state *s)
{
    enum { SYSCALL_BYTES = 2 };
    s->rip = s->gpr[X86_RCX] - SYSCALL_BYTES;
    s->rflags = s->gpr[11];
}

/* What KVM did of the exception goes, so that the instruction is next. */
static void undo(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    s->rflags &= ~(uint64_t)FLAG_RF;
    if (made_system_call(s))
        undo_system_call(s);
    else if (v->exception == X86_BP || v->exception == X86_OF)
        undo_trap(v, v->exception);
    else if (v->exception == X86_DB && (s->rflags & FLAG_TF)) { /* which he set himself */
        s->dr[6] |= DR6_FIXED | DR6_BS;
        pend(s, X86_DB);
    }
    /* What he has found in registers that the guest's processor lacks (AVX-512's) would be lost
     * now; there it had been an undefined instruction to begin with. */
    if (hardware_fpu_exceeds_model(v))
        pend(s, X86_UD);
}

/* ---- the two halves ---- */

bool hardware_take_over(struct engine_vcpu *v)
{
    if (!v->loaded)
        return true;
    if (!hardware_complete(v) || !hardware_fetch_user(v))
        return false;
    v->loaded = v->users = false;
    v->from_user = true;
    undo(v);
    return hardware_take_writes(v->vm) || hardware_fail(v, "KVM_CLEAR_DIRTY_LOG");
}

/* Gives what others asked for to the emulating vCPU, which has the interrupt line's level. */
static void take_requests(struct engine_vcpu *v)
{
    uint32_t taken = atomic_fetch_and(&v->request, ~(uint32_t)(REQUEST_INTR | REQUEST_NMI));
    if (!(taken & REQUEST_NMI))
        return;
    v->cpu.s.nmi_pending = true;
    v->lent = false;
}

/* Gives the emulating vCPU the state. It has kept all but what the user changed, if he had it. */
static void lend(struct engine_vcpu *v)
{
    if (v->lent)
        return;
    if (v->from_user)
        emulate_set_user(v->assist, &v->cpu.s);
    else
        engine_emulate.set_state(v->assist, &v->cpu.s);
    v->from_user = false;
    v->stretches++;
}

static int run_system(struct engine_vcpu *v)
{
    const struct engine *e = &engine_emulate;
    struct emulate_stretch stretch = {.ends = stretch_ends, .ctx = v};
    if (!hardware_take_over(v))
        return ENGINE_FAILED;
    take_requests(v);
    lend(v);
    v->assisting = true;
    enum engine_exit exit = emulate_run_stretch(v->assist, &stretch);
    v->assisting = false;
    e->get_state(v->assist, &v->cpu.s);
    v->lent = true;
    v->users = exit == ENGINE_LIMIT;
    if (stretch.dropped && !v->vm->tables)
        atomic_store(&v->vm->stale, true);
    return exit == ENGINE_LIMIT || exit == ENGINE_STOPPED ? GO_ON : (int)exit;
}

static bool give_to_kvm(struct engine_vcpu *v)
{
    if (v->loaded)
        return true;
    if (!hardware_drop_translations(v->vm, v->cpu.s.cr3))
        return hardware_fail(v, "KVM_SET_USER_MEMORY_REGION");
    v->lent = false;
    return hardware_load_user(v);
}

/* A user who touched a device goes on; all else is for `emulate` to look at. */
static int handle_exit(struct engine_vcpu *v)
{
    const struct kvm_run *run = v->run;
    bool gave_up = run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
                   run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION;
    v->assists += gave_up;
    v->users = run->exit_reason == KVM_EXIT_MMIO || run->exit_reason == KVM_EXIT_IO;
    return gave_up || run->exit_reason == KVM_EXIT_SHUTDOWN ? GO_ON : hardware_dispatch(v);
}

static int run_user(struct engine_vcpu *v)
{
    if (!give_to_kvm(v))
        return ENGINE_FAILED;
    bool returned = hardware_enter(v);
    if (v->broken)
        return ENGINE_FAILED;
    return returned ? handle_exit(v) : GO_ON;
}

int hardware_run_users(struct engine_vcpu *v)
{
    for (;;) {
        uint32_t request = atomic_load(&v->request);
        if (request & REQUEST_STOP) {
            atomic_fetch_and(&v->request, ~(uint32_t)REQUEST_STOP);
            return ENGINE_STOPPED;
        }
        int exit = v->users && !request ? run_user(v) : run_system(v);
        if (exit != GO_ON)
            return exit;
    }
}

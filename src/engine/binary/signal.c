/*
 * Signals: how translated code's faults, and other threads' requests, reach the vCPU's thread.
 *
 * The handler decides nothing. It says where the guest was, and sends the thread on to
 * binary_leave(), as if the translated code had left there by itself. A request can only be
 * attended to between two guest instructions; one that comes in the middle of an instruction's host
 * code waits until the thread has single-stepped to the next one's beginning.
 */
#include "engine/binary/cage.h"
#include "engine/binary/loop.h"

#include <errno.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

/* The vCPU that this thread runs, or NULL: all that a handler has to go by. */
static _Thread_local struct binary_vcpu *current;
/* The one whose stack its signals are handled on: it may be gone by now. */
static _Thread_local const struct binary_vcpu *prepared;

extern const char binary_enter_look[], binary_enter_asked[];
extern const char binary_call_look[], binary_call_end[];

enum { HOST_TF = 1 << 8, HOST_DF = 1 << 10 };

static int kick_signal(void)
{
    return SIGRTMIN + 3;
}

static void leave(struct binary_vcpu *b, ucontext_t *uc, uint32_t reason)
{
    b->context->reason = reason;
    b->stepping = false;
    uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)HOST_TF;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)binary_leave;
}

void binary_stand_at(struct binary_vcpu *b, uint32_t n, unsigned index)
{
    const struct code *c = &b->vm->code;
    const struct translation *t = &c->block[n];
    const struct point *p = &c->point[t->points + index];
    b->v->cpu.s.rip = binary_page(b, n) + p->guest;
    b->resume = code_run(c, t->code + p->host);
    b->resume_block = n;
    b->resume_tied = p->tied;
    b->resume_insns = t->insns - index;
}

/* Whether instruction `point` of block n comes right behind STI: it runs before an interrupt. */
static bool in_shadow(const struct binary_vcpu *b, uint32_t n, int point)
{
    enum { STI = 0xfb };
    const struct translation *t = &b->vm->code.block[n];
    const struct point *p = &b->vm->code.point[t->points];
    if (point == 0 || p[point].guest - p[point - 1].guest != 1)
        return false;
    const uint8_t *before =
        memory_hva(b->v->vm->memory, (t->gpa & X86_PAGE_MASK) + p[point - 1].guest);
    return before && *before == STI;
}

static bool in_entry(uintptr_t rip)
{
    return rip >= (uintptr_t)binary_enter_look && rip < (uintptr_t)binary_leave;
}

/* On the way back from a call-out, behind the look at the requests. */
static bool in_return(uintptr_t rip)
{
    return rip >= (uintptr_t)binary_call_look && rip < (uintptr_t)binary_call_end;
}

/* Someone asks for something, or a step towards the next instruction is done. */
static void look_at_request(struct binary_vcpu *b, ucontext_t *uc)
{
    greg_t *regs = uc->uc_mcontext.gregs;
    void *rip = (void *)regs[REG_RIP];
    bool exact = false;
    if (b->caged) {
        cage_interrupt(b->caged);
        return;
    }
    if (in_entry((uintptr_t)rip)) { /* nothing has happened yet: begin by looking */
        regs[REG_RDI] = (greg_t)(uintptr_t)b->context;
        regs[REG_RSP] = (greg_t)b->context->host_rsp;
        regs[REG_RIP] = (greg_t)(uintptr_t)binary_enter_asked;
        regs[REG_EFL] &= ~(greg_t)(HOST_TF | HOST_DF);
        b->stepping = false;
        return;
    }
    if (in_return((uintptr_t)rip)) { /* what was done can be done again */
        regs[REG_RSP] = (greg_t)b->context->host_rsp;
        regs[REG_RIP] = (greg_t)(uintptr_t)binary_call_look;
        regs[REG_EFL] &= ~(greg_t)(HOST_TF | HOST_DF);
        b->stepping = false;
        return;
    }
    if (!code_holds(&b->vm->code, rip)) { /* on its way out, or in a call-out */
        regs[REG_EFL] &= ~(greg_t)HOST_TF;
        b->stepping = false;
        return;
    }
    uint32_t n = code_at(&b->vm->code, rip);
    int point = n ? code_point(&b->vm->code, n, rip, &exact) : -1;
    if ((exact && !in_shadow(b, n, point)) ||
        (point >= 0 && binary_string_undo(b->context, rip, regs))) {
        binary_stand_at(b, n, (unsigned)point);
        leave(b, uc, LEAVE_REQUEST);
        return;
    }
    b->stepping = true;
    regs[REG_EFL] |= HOST_TF;
}

static bool take_fault(struct binary_vcpu *b, int signal, ucontext_t *uc)
{
    void *rip = (void *)uc->uc_mcontext.gregs[REG_RIP];
    bool exact;
    if (bounce_take_fault(b, uc))
        return true;
    uint32_t n = code_at(&b->vm->code, rip);
    int point = n ? code_point(&b->vm->code, n, rip, &exact) : -1;
    if (point < 0)
        return false;
    binary_string_undo(b->context, rip, uc->uc_mcontext.gregs);
    binary_stand_at(b, n, (unsigned)point);
    b->fault_signal = signal;
    leave(b, uc, LEAVE_FAULT);
    return true;
}

/* Not ours: the default action, when the instruction is run again. */
static void give_up(int signal_number)
{
    signal(signal_number, SIG_DFL);
}

/* Other processes' signals (kill()) are not counted: that they come is not waited for. */
static void take_kick(struct binary_vcpu *b, const siginfo_t *info, ucontext_t *uc)
{
    if (info->si_code == SI_TKILL)
        atomic_fetch_sub(&b->kicks, 1);
    look_at_request(b, uc);
}

static void handle(int signal, siginfo_t *info, void *context)
{
    struct binary_vcpu *b = current;
    if (signal == kick_signal()) {
        if (b)
            take_kick(b, info, context);
        return;
    }
    if (b && signal == SIGTRAP && b->stepping)
        look_at_request(b, context);
    else if (!b || !take_fault(b, signal, context))
        give_up(signal);
}

bool binary_signals_install(struct error *err)
{
    const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, kick_signal()};
    struct sigaction sa = {.sa_sigaction = handle,
                           .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    sigfillset(&sa.sa_mask);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        if (sigaction(signals[i], &sa, NULL) != 0)
            return error_errno(err, "engine binary: signal %d can't be handled", signals[i]);
    return true;
}

/* ---- a thread that runs translated code ---- */

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

/* The guest's RSP is the host's while it runs and may point anywhere, to this stack as well: with
 * SS_AUTODISARM the kernel begins at its top all the same. */
static bool set_stack(struct binary_vcpu *b)
{
    size_t size = (getauxval(AT_MINSIGSTKSZ) + (64 << 10) + 4095) & ~(size_t)4095;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    b->stack = (stack_t){.ss_sp = p, .ss_size = size, .ss_flags = (int)SS_AUTODISARM};
    if (sigaltstack(&b->stack, NULL) == 0)
        return true;
    munmap(p, size);
    return false;
}

static bool prepare(struct binary_vcpu *b)
{
    /* A thread runs several in turn, and the last may be gone, and this one be at its address. */
    bool has_stack = b->stack.ss_sp != NULL;
    if (prepared == b && has_stack)
        return true;
    if (has_stack ? sigaltstack(&b->stack, NULL) != 0 : !set_stack(b))
        return false;
    /* Threads begin with all but the faults blocked, and translated code looks at requests only
     * where it comes from elsewhere. */
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, kick_signal());
    if (pthread_sigmask(SIG_UNBLOCK, &kick, NULL) != 0)
        return false;
    prepared = b;
    return true;
}

bool binary_signals_enter(struct binary_vcpu *b)
{
    if (!prepare(b))
        return false;
    current = b;
    return true;
}

/* Who has seen that the thread runs translated code may be slow to send his signal. It is not to
 * come when the thread does something else, and the vCPU and its signal stack are perhaps gone. */
void binary_signals_leave(struct binary_vcpu *b)
{
    /* Whoever counts himself from now on finds `running` off. */
    atomic_thread_fence(memory_order_seq_cst);
    while (atomic_load(&b->kicks))
        sched_yield();
    current = NULL;
}

void binary_kick(struct binary_vcpu *b)
{
    atomic_fetch_add(&b->kicks, 1);
    if (!atomic_load(&b->running) || pthread_kill(b->v->thread, kick_signal()) != 0)
        atomic_fetch_sub(&b->kicks, 1);
}

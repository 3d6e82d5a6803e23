/*
 * The run loop.
 *
 * Between blocks it looks at what others want (requests), delivers interrupts, and finds the next
 * block; blocks go from one to the next by themselves as long as they can. Faults come back here
 * with a longjmp from inside an instruction whose state is as before it. When something must be
 * looked at after every instruction (single step, breakpoints, shadows, the instruction limit),
 * instructions run one by one.
 */
#include "engine/emulate/emulate.h"

#include "x86/debug.h"
#include "x86/exception.h"

/* Exits are numbered from 0; this is none. */
enum { GO_ON = -1 };

/* PAUSEs after which a vCPU among several lets the others run. */
enum { PAUSES_IN_A_ROW = 32 };

static void end_of_block(struct x86_cpu *c)
{
    c->block = NULL;
}

/* ---- coming back from inside an instruction ---- */

/* The running instruction, and what follows it in its block, did not happen. */
static void uncount(struct x86_cpu *c)
{
    if (c->block)
        c->insns -= c->block->insns - (uint64_t)(c->op - c->block->ops);
    end_of_block(c);
}

static void come_back(struct engine_vcpu *v, int why)
{
    struct x86_cpu *c = &v->cpu;
    uncount(c);
    c->link_from = NULL;
    if (c->lock_closed_gate)
        x86_lock_end(c);
    if (why == JUMP_RESTART) {
        c->s.rip = x86_rip(c);
        v->step_once = true;
        return;
    }
    v->exceptions++;
    x86_deliver_fault(c);
}

/* ---- interrupts ---- */

/* An event that another engine accepted and did not get to deliver. */
static void deliver_pending(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    s->event_pending = false;
    s->activity = X86_ACTIVE;
    if (s->event_type == X86_HARDWARE_EXCEPTION)
        v->exceptions++;
    else
        v->interrupts++;
    x86_deliver(&v->cpu, s->event_type, s->event_vector, s->event_has_error, s->event_error);
}

static bool shadowed(const struct x86_cpu *c)
{
    return c->s.shadow_sti || c->s.shadow_ss;
}

static void deliver_nmi(struct engine_vcpu *v)
{
    struct x86_cpu *c = &v->cpu;
    c->s.nmi_pending = false;
    c->s.activity = X86_ACTIVE;
    v->interrupts++;
    x86_deliver(c, X86_EVENT_NMI, X86_NMI, false, 0);
}

/* The request is taken back before the acknowledge, so that one raised meanwhile is not lost; after
 * a success there may be more behind it. */
static void deliver_interrupt(struct engine_vcpu *v)
{
    struct x86_cpu *c = &v->cpu;
    atomic_fetch_and(&c->request, ~(uint32_t)X86_REQUEST_INTR);
    int vector = c->host.interrupt_acknowledge(c->host.ctx);
    if (vector < 0)
        return;
    atomic_fetch_or(&c->request, X86_REQUEST_INTR);
    c->s.activity = X86_ACTIVE;
    v->interrupts++;
    x86_deliver(c, X86_EXTERNAL_INTERRUPT, (unsigned)vector, false, 0);
}

/* Looks at the requests. Returns an exit, or GO_ON. */
static int attend(struct engine_vcpu *v, uint32_t request)
{
    struct x86_cpu *c = &v->cpu;
    if (request & X86_REQUEST_STOP) {
        atomic_fetch_and(&c->request, ~(uint32_t)X86_REQUEST_STOP);
        return ENGINE_STOPPED;
    }
    if (request & X86_REQUEST_GATE) {
        atomic_fetch_and(&c->request, ~(uint32_t)X86_REQUEST_GATE);
        gate_pass(&v->vm->gate);
    }
    if (request & X86_REQUEST_STEP)
        atomic_fetch_and(&c->request, ~(uint32_t)X86_REQUEST_STEP);
    if (request & X86_REQUEST_NMI) {
        atomic_fetch_and(&c->request, ~(uint32_t)X86_REQUEST_NMI);
        c->s.nmi_pending = true;
    }
    if (c->s.activity == X86_SHUTDOWN || c->s.activity == X86_WAIT_FOR_SIPI)
        return GO_ON;
    if (c->s.event_pending)
        deliver_pending(v);
    if (c->s.nmi_pending && !c->s.nmi_blocked && !shadowed(c))
        deliver_nmi(v);
    else if ((request & X86_REQUEST_INTR) && (c->s.rflags & FLAG_IF) && !shadowed(c))
        deliver_interrupt(v);
    return GO_ON;
}

/* ---- one by one ---- */

static void run_ops(struct x86_cpu *c, struct block *b)
{
    c->insns += b->insns;
    c->block = b;
    c->s.gpr[X86_GPR_BLOCK] = c->s.rip;
    const struct op *op = b->ops;
    while (op) {
        c->op = op;
        op = op->fn(c, op);
    }
    end_of_block(c);
}

/* Runs one instruction, with everything that belongs between instructions. */
static void step(struct engine_vcpu *v)
{
    struct x86_cpu *c = &v->cpu;
    v->step_once = false;
    if (x86_debug_check_fetch(c))
        return;
    bool tf = c->s.rflags & FLAG_TF;
    struct block *b = emulate_scratch_block(v);
    c->s.shadow_sti = c->s.shadow_ss = false;
    /* Keeps a branch from going straight on to the next block. */
    atomic_fetch_or(&c->request, X86_REQUEST_STEP);
    run_ops(c, b);
    c->link_from = NULL;
    x86_debug_after_insn(c, tf);
}

static bool must_step(const struct engine_vcpu *v)
{
    const struct x86_cpu *c = &v->cpu;
    return (c->s.rflags & (FLAG_TF | FLAG_RF)) || (c->s.dr[7] & 0xff) || shadowed(c) ||
           c->debug_hits || v->step_once;
}

/* The block to go on with, which the limit may cut short; NULL: an instruction by itself. */
static struct block *next_block(struct engine_vcpu *v)
{
    const struct x86_cpu *c = &v->cpu;
    if (must_step(v))
        return NULL;
    struct block *b = emulate_find_block(v, CACHE_BLOCK_INSNS);
    uint64_t left = c->insns_limit - c->insns;
    return b && b->insns > left ? emulate_find_block(v, left) : b;
}

/* ---- the loop ---- */

/* What the jump cache's entries must agree with. Odd: never NO_JUMP_KEY. */
static uint64_t jump_key(const struct engine_vcpu *v)
{
    const struct x86_cpu *c = &v->cpu;
    return v->generation << 8 | (uint64_t)c->cpl << 4 | c->code << 2 | x86_protected(c) << 1 | 1;
}

static int idle(const struct x86_cpu *c)
{
    if (c->s.activity == X86_SHUTDOWN)
        return ENGINE_SHUTDOWN;
    return c->s.activity == X86_ACTIVE ? GO_ON : ENGINE_HALTED;
}

static bool pauses(struct engine_vcpu *v)
{
    if (v->cpu.pauses - v->pauses_seen < PAUSES_IN_A_ROW || v->vm->vcpus == 1)
        return false;
    v->pauses_seen = v->cpu.pauses;
    return true;
}

static int go(struct engine_vcpu *v)
{
    struct x86_cpu *c = &v->cpu;
    for (;;) {
        uint32_t request = atomic_load_explicit(&c->request, memory_order_acquire);
        if (unlikely(request || c->s.nmi_pending || c->s.event_pending)) {
            c->link_from = NULL; /* an interrupt may go elsewhere */
            int exit = attend(v, request);
            if (exit != GO_ON)
                return exit;
        }
        if (unlikely(c->s.activity != X86_ACTIVE))
            return idle(c);
        if (unlikely(c->insns >= c->insns_limit))
            return ENGINE_LIMIT;
        if (unlikely(v->stretch != NULL) && emulate_stretch_ends(v))
            return ENGINE_LIMIT;
        if (unlikely(pauses(v)))
            return ENGINE_PAUSED;
        c->jump_key = jump_key(v);
        struct block *b = next_block(v);
        if (b)
            run_ops(c, b);
        else
            step(v);
    }
}

void emulate_enter_gate(struct engine_vcpu *v)
{
    v->thread = pthread_self();
    gate_enter(&v->vm->gate);
    v->inside = true;
}

void emulate_leave_gate(struct engine_vcpu *v)
{
    v->inside = false;
    gate_leave(&v->vm->gate);
}

enum engine_exit emulate_run_inside(struct engine_vcpu *v, uint64_t insns_limit)
{
    struct x86_cpu *c = &v->cpu;
    c->insns_limit = insns_limit;
    c->link_from = NULL; /* since then others may have run the vCPU elsewhere */
    int why = setjmp(c->fault_jump);
    if (why)
        come_back(v, why);
    int exit = go(v);
    end_of_block(c);
    if (exit == ENGINE_HALTED)
        v->halts++;
    return (enum engine_exit)exit;
}

void emulate_run_single(struct engine_vcpu *v, struct block *b)
{
    struct x86_cpu *c = &v->cpu;
    c->insns_limit = c->insns + 1; /* a branch does not go straight on to the next block */
    int why = setjmp(c->fault_jump);
    if (why)
        come_back(v, why);
    else
        run_ops(c, b);
    c->link_from = NULL;
    end_of_block(c);
}

enum engine_exit emulate_run(struct engine_vcpu *v, uint64_t insns_limit)
{
    emulate_enter_gate(v);
    enum engine_exit exit = emulate_run_inside(v, insns_limit);
    emulate_leave_gate(v);
    return exit;
}

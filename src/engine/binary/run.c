/*
 * The run loop: into translated code, and what to do when it is left.
 */
#include "engine/binary/loop.h"
#include "x86/flags.h"

/* Instructions that `emulate` runs at a time in a mode that is not translated. */
enum { EMULATE_AT_A_TIME = 4096, EMULATE_BLOCK = 64 };

enum { HOST_IF = 1 << 9 };

/* ---- what is known of linear addresses ---- */

void binary_forget_place(struct binary_vcpu *b)
{
    b->resume = NULL;
    b->came_from = NO_LINK;
}

static void forgot(struct binary_vcpu *b)
{
    binary_forget_place(b);
    b->forgotten++;
}

void binary_forget_all(struct binary_vcpu *b)
{
    spaces_forget(&b->spaces);
    binary_bound_flushed(b);
    forgot(b);
}

void binary_forget_page(struct binary_vcpu *b, uint64_t lin, unsigned bits)
{
    if (bits == PAGE_4K_BITS)
        spaces_forget_page(&b->spaces, lin);
    else
        spaces_forget_large_page(&b->spaces, lin, bits);
    binary_bound_flushed_page(b, lin);
    forgot(b);
}

void binary_switch_space(struct binary_vcpu *b, bool keep)
{
    const struct x86_state *s = &b->v->cpu.s;
    binary_fpu_home(b);
    spaces_switch(&b->spaces, s->cr4 & CR4_PCIDE ? s->cr3 & 0xfff : 0, keep);
    binary_bound_switched(b, keep);
    b->context->table_ac = spaces_table(&b->spaces, VIEW_AC)->entry;
    b->context->table_user = spaces_table(&b->spaces, VIEW_USER)->entry;
    /* Whether code goes on to be where it is, only its page says. */
    forgot(b);
}

/* ---- in and out ---- */

uint32_t binary_attended(const struct x86_cpu *c)
{
    uint32_t request = X86_REQUEST_STOP | X86_REQUEST_GATE | X86_REQUEST_STEP;
    if (c->s.rflags & FLAG_IF)
        request |= X86_REQUEST_INTR;
    if (!c->s.nmi_blocked)
        request |= X86_REQUEST_NMI;
    return request;
}

static void prepare(struct binary_vcpu *b, void *code)
{
    struct x86_cpu *c = &b->v->cpu;
    struct context *x = b->context;
    uint64_t flags = x86_rflags(c);
    binary_fpu_for_guest(b);
    x->code = code;
    x->left = (int64_t)(b->limit - c->insns);
    x->ac = is_user(c) ? 0 : flags & FLAG_AC;
    x->interrupt_flag = flags & FLAG_IF;
    x->table = spaces_table(&b->spaces, current_view(c))->entry;
    x->flags = (flags & (FLAGS_STATUS | FLAG_DF)) | FLAG_1 | HOST_IF;
    x->attend = binary_attended(c);
    binary_syscall_prepare(x, &c->s);
    binary_iret_prepare(b);
    x->no_fsgsbase = !(c->s.cr4 & CR4_FSGSBASE);
    x->no_tsc = !binary_tsc_on(b);
    x->no_tsc_user = x->no_tsc || (c->s.cr4 & CR4_TSD);
    /* Translated code adds what it keeps elsewhere. */
    c->s.rflags = flags & ~(FLAGS_STATUS | FLAG_DF | FLAG_IF | x->ac);
}

static void take_back(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    const struct context *x = b->context;
    uint64_t old = c->s.rflags;
    x86_set_rflags(c, old | x->ac | x->interrupt_flag | (x->flags & (FLAGS_STATUS | FLAG_DF)));
    x86_update_view(c); /* CPL and AC may have changed; nothing else of the mode can have */
    if (b->counted)
        c->insns = b->limit - (uint64_t)x->left - (b->resume ? b->resume_insns : 0);
    if (b->resume && b->vm->measures)
        binary_measure_rest(b, true);
}

static void enter(struct binary_vcpu *b, void *code)
{
    b->resume = NULL;
    prepare(b, code);
    if (b->vm->measures)
        binary_spend_end(b);
    atomic_store_explicit(&b->running, true, memory_order_seq_cst);
    binary_enter(b->context);
    atomic_store_explicit(&b->running, false, memory_order_relaxed);
    take_back(b);
    b->on = &b->left[b->context->reason];
    b->on->count++;
    if (b->vm->measures)
        binary_spend_begin(b);
}

/* ---- the loop ---- */

static bool asked(const struct binary_vcpu *b)
{
    const struct x86_cpu *c = &b->v->cpu;
    uint32_t request = atomic_load_explicit(&c->request, memory_order_acquire);
    if (!(c->s.rflags & FLAG_IF))
        request &= ~(uint32_t)X86_REQUEST_INTR;
    /* What another engine accepted and did not deliver comes before the first instruction. */
    return request || c->s.event_pending || (c->s.nmi_pending && !c->s.nmi_blocked);
}

static enum engine_exit emulate_to(struct binary_vcpu *b, uint64_t limit)
{
    uint64_t taken = b->v->interrupts;
    binary_forget_place(b);
    binary_fpu_to_state(b);
    enum engine_exit exit = emulate_run_inside(b->v, limit);
    if (b->v->interrupts != taken) /* maybe behind the last instruction */
        b->whole = false;
    return exit;
}

/* What has to be done where translated code left. */
static enum engine_exit attend_leave(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    struct context *x = b->context;
    const struct code *code = &b->vm->code;
    switch (x->reason) {
    case LEAVE_LINK:
        b->came_from = x->link;
        c->s.rip = binary_page(b, code->link[x->link].block) +
                   (uint64_t)(int64_t)code->link[x->link].target;
        return ENGINE_LIMIT;
    case LEAVE_STALE:
        c->s.rip = binary_page(b, x->link) + (code->block[x->link].gpa & (MEMORY_PAGE_SIZE - 1));
        jumps_forget(spaces_jumps(&b->spaces, is_user(c)), c->s.rip);
        return ENGINE_LIMIT;
    case LEAVE_EMULATE:
        return x->resume ? binary_emulate_at(b, binary_site(x->resume, false), NO_BLOCK)
                         : binary_emulate_one(b);
    case LEAVE_FAULT: return binary_after_fault(b);
    case LEAVE_LIMIT:
        return c->insns > b->began && b->by_block ? ENGINE_LIMIT : emulate_to(b, b->limit);
    case LEAVE_MOVED: binary_forget_place(b); return ENGINE_LIMIT;
    case LEAVE_JUMP: return ENGINE_LIMIT;
    case LEAVE_INDIRECT: return binary_after_indirect(b);
    default: b->whole = false; return ENGINE_LIMIT;
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Instructions that `emulate` runs before the mode is looked at again. */
static uint64_t most_emulated(const struct binary_vcpu *b)
{
    if (b->v->cpu.code == X86_CODE64)
        return 1;
    return b->by_block ? EMULATE_BLOCK : EMULATE_AT_A_TIME;
}

/* What comes behind the block at `code` is beyond the limit. */
static void limit_to_block(struct binary_vcpu *b, const void *code, uint64_t limit)
{
    const struct code *c = &b->vm->code;
    uint64_t most = b->resume ? 0 : c->block[code_at(c, code)].insns;
    b->limit = least(limit, b->v->cpu.insns + most);
}

static enum engine_exit step(struct binary_vcpu *b, uint64_t limit)
{
    struct x86_cpu *c = &b->v->cpu;
    b->whole = true;
    if (b->tsc_asked)
        binary_tsc_look(b);
    if (!binary_mode_allows(b->v))
        return emulate_to(b, least(c->insns + most_emulated(b), b->limit));
    if (asked(b)) {
        binary_tsc_look(b);
        binary_settle(b);
        return emulate_to(b, c->insns + 1);
    }
    enum engine_exit exit;
    if (is_user(c))
        binary_direct_consider(b);
    if (binary_direct_fits(b) && binary_direct_run(b, &exit))
        return exit;
    binary_notice_recycling(b);
    if (b->resume && (b->resume_tied || b->vm->code.block[b->resume_block].dropped))
        b->resume = NULL;
    if (c->s.rip == b->retry_rip)
        binary_retry(b);
    uint64_t before = c->insns, copied = b->context->copied, rewritten = b->context->rewritten;
    if (b->resume && b->counted) {
        if (c->insns + b->resume_insns > b->limit)
            b->resume = NULL;
        else
            c->insns += b->resume_insns;
    }
    void *code = b->resume ? b->resume : binary_find_code(b);
    if (!code)
        return binary_emulate_one(b);
    if (b->by_block)
        limit_to_block(b, code, limit);
    if (b->resume && b->vm->measures)
        binary_measure_rest(b, false);
    enter(b, code);
    b->limit = limit;
    if (b->context->reason == LEAVE_ASKED) { /* nothing ran */
        c->insns = before;
        b->context->copied = copied;
        b->context->rewritten = rewritten;
    }
    return attend_leave(b);
}

/* Whether run() is to come back where it stands: at the limit, or behind a block. */
static bool is_done(const struct binary_vcpu *b, uint64_t limit)
{
    uint64_t at = b->v->cpu.insns;
    return at >= limit || (b->by_block && b->whole && !b->resume && at > b->began);
}

enum engine_exit binary_run(struct binary_vcpu *b, uint64_t insns_limit, bool by_block)
{
    struct engine_vcpu *v = b->v;
    enum engine_exit exit = ENGINE_LIMIT;
    if (!binary_signals_enter(b))
        return ENGINE_FAILED;
    b->limit = insns_limit;
    b->counted = by_block || insns_limit != UINT64_MAX;
    if (!by_block) /* blocks are linked as they always are */
        binary_forget_place(b);
    b->by_block = by_block;
    b->began = v->cpu.insns;
    emulate_enter_gate(v);
    binary_tsc_look(b);
    while (exit == ENGINE_LIMIT && !is_done(b, insns_limit))
        exit = step(b, insns_limit);
    binary_direct_leave(b);
    binary_outside(b);
    if (b->vm->measures)
        binary_spend_end(b);
    emulate_leave_gate(v);
    binary_signals_leave(b);
    return exit;
}

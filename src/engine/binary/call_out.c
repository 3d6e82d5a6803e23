/*
 * Call-outs: instructions that translated code has C do, and goes straight on behind.
 *
 * What they do is too much to be written out, but neither the mode nor the run loop is concerned in
 * the usual case: CPUID, XGETBV, INVLPG, INVPCID, MOV to CR3, RDMSR and WRMSR of what a system uses
 * all the time. The block tells where it is and jumps to binary_call_out() (enter.S), which changes
 * over to the monitor's stack and calls binary_called() with the guest's vector registers still in
 * the host's. If this is not the usual case, or the block can't be gone on in, it is left from
 * there: before the instruction, for C to do it as it does others, or behind it.
 *
 * Requests: a signal that finds the thread in C or in enter.S does nothing. So binary_call_out()
 * looks at the requests before it goes back, and begins with that again if a signal comes between
 * (signal.c).
 */
#include "engine/binary/loop.h"
#include "engine/binary/translator.h"
#include "x86/access.h"
#include "x86/cpuid.h"
#include "x86/msr.h"

/* ---- in the block ---- */

/* In CTX_CALL: what is called for, the register that the instruction's ModRM.reg names, and which
 * of the block's instructions it is. */
enum { REG_SHIFT = 4, INDEX_SHIFT = 8 };

static void emit_call_out(struct translator *t, enum call what)
{
    struct emit *e = &t->e;
    struct host_mem call_out = {HOST_NONE, HOST_NONE, 0, true, GS_AREA + CTX_CALL_OUT};
    emit_store_imm(e, GS_AREA + CTX_LINK, t->block);
    emit_store_imm(e, GS_AREA + CTX_CALL,
                   what | (t->insn.reg & 15u) << REG_SHIFT | t->done << INDEX_SHIFT);
    emit_lea_rip(e, S2, 0);
    uint8_t *from = e->at;
    emit_jump_mem(e, &call_out);
    if (!e->full) /* where it comes back to */
        store_u32(from - 4, (uint32_t)(e->at - from));
}

bool call_out(struct translator *t, enum call what)
{
    operand_forget(t);
    emit_call_out(t, what);
    return true;
}

bool call_out_to_cr(struct translator *t)
{
    unsigned from = t->insn.rm;
    if (t->insn.reg != 3)
        return false;
    if (displaced(from))
        from = operand_value(t, from, HOST_NONE);
    if (from != S1)
        emit_move(&t->e, S1, from);
    operand_forget(t);
    emit_call_out(t, CALL_TO_CR3);
    return true;
}

bool call_out_with_address(struct translator *t, enum call what)
{
    if (!t->insn.is_mem || !operand_address(t))
        return false;
    emit_call_out(t, what);
    return true;
}

/* The register is one that C may not find where a block has left it (enter.S). */
bool call_out_invpcid(struct translator *t)
{
    if (!displaced(t->insn.reg))
        emit_store(&t->e, t->insn.reg, GS_GPR(t->insn.reg));
    return call_out_with_address(t, CALL_INVPCID);
}

/* ---- what is done ---- */

enum outcome {
    DONE,
    FOR_THE_LOOP, /* nothing has changed: this is not the usual case */
    MOVED,        /* done, and the block may not be what comes next any more */
};

static bool was_flushed(const struct binary_vcpu *b)
{
    return b->flushes_seen != b->vm->code.flushes;
}

/* Whether the block that runs has not been dropped, by itself or with all. */
static bool is_there(const struct binary_vcpu *b)
{
    return !was_flushed(b) && !b->vm->code.block[b->context->link].dropped;
}

/* Whether the code that runs, of a supervisor, is what comes next after a change of the mapping: it
 * is bound to where it is, and nothing that it is bound to has to be looked up again. (That is the
 * run loop's: it sets accessed bits, as the fetch of the next instruction does.) */
static bool goes_on(const struct binary_vcpu *b)
{
    const struct translation *t = &b->vm->code.block[b->context->link];
    return b->kernel_stale == BOUND_FRESH && (t->key & KEY_BOUND) &&
           t->key >> KEY_TAG_SHIFT == b->vm->kernel.tag;
}

static enum outcome do_invlpg(struct binary_vcpu *b, uint64_t operand)
{
    x86_invalidate_page(&b->v->cpu, operand);
    return goes_on(b) ? DONE : MOVED;
}

/* What a usual kernel names: in one page, of memory, that it may read. */
static bool read_descriptor(struct binary_vcpu *b, uint64_t at, uint64_t descriptor[2])
{
    enum { SIZE = 2 * sizeof *descriptor };
    struct x86_walk w;
    const uint8_t *bytes = NULL;
    if (!b->context->ac && x86_canonical(at) && at % MEMORY_PAGE_SIZE <= MEMORY_PAGE_SIZE - SIZE &&
        x86_walk(&b->v->cpu, at, X86_READ, X86_AS_SUPERVISOR, &w) && w.readable)
        bytes = memory_hva(b->v->vm->memory, w.gpa);
    if (bytes)
        bytes_copy(descriptor, bytes, SIZE);
    return bytes;
}

static enum outcome do_invpcid(struct binary_vcpu *b, uint64_t operand)
{
    uint64_t descriptor[2];
    uint64_t type = b->v->cpu.s.gpr[b->context->call >> REG_SHIFT & 15];
    if (!read_descriptor(b, operand, descriptor) ||
        !x86_invalidate_pcid(&b->v->cpu, type, descriptor))
        return FOR_THE_LOOP;
    return goes_on(b) ? DONE : MOVED;
}

/* With RFLAGS.AC the table in use is the address space's; vector registers that are in its cage
 * have to come back first. */
static enum outcome do_to_cr3(struct binary_vcpu *b, uint64_t operand)
{
    if (b->context->ac || b->context->fpu_away || !x86_load_cr3(&b->v->cpu, operand))
        return FOR_THE_LOOP;
    binary_iret_prepare(b);
    return goes_on(b) ? DONE : MOVED;
}

/* ---- what the machine may have to be asked for ---- */

/* The machine is asked. It may have to let others through the gate, who may drop this block, or
 * all. While instructions are counted, the count that its clock goes by is that before the block.
 */
static enum outcome ask_machine(struct binary_vcpu *b, bool (*ask)(struct binary_vcpu *b))
{
    uint64_t forgotten = b->forgotten;
    if (b->counted)
        return FOR_THE_LOOP;
    atomic_store_explicit(&b->running, false, memory_order_relaxed); /* it need not be kicked */
    bool ok = ask(b);
    atomic_store_explicit(&b->running, true, memory_order_seq_cst);
    if (!ok)
        return FOR_THE_LOOP;
    return is_there(b) && b->forgotten == forgotten ? DONE : MOVED;
}

static bool cpuid(struct binary_vcpu *b)
{
    uint64_t *gpr = b->v->cpu.s.gpr;
    uint32_t out[4];
    x86_cpuid(&b->v->cpu, (uint32_t)gpr[X86_RAX], (uint32_t)gpr[X86_RCX], out);
    gpr[X86_RAX] = out[0];
    gpr[X86_RBX] = out[1];
    gpr[X86_RCX] = out[2];
    gpr[X86_RDX] = out[3];
    return true;
}

static uint32_t ecx(const struct binary_vcpu *b)
{
    return (uint32_t)b->v->cpu.s.gpr[X86_RCX];
}

static bool rdmsr(struct binary_vcpu *b)
{
    uint64_t *gpr = b->v->cpu.s.gpr, value;
    if (!x86_msr_read(&b->v->cpu, ecx(b), &value))
        return false;
    gpr[X86_RAX] = (uint32_t)value;
    gpr[X86_RDX] = value >> 32;
    return true;
}

static bool wrmsr(struct binary_vcpu *b)
{
    const uint64_t *gpr = b->v->cpu.s.gpr;
    return x86_msr_write(&b->v->cpu, ecx(b), gpr[X86_RDX] << 32 | (uint32_t)gpr[X86_RAX]);
}

/* User code's instruction is known to be one from now on (guard.h). */
static void note_executed(struct binary_vcpu *b)
{
    const struct code *code = &b->vm->code;
    const struct translation *t = &code->block[b->context->link];
    const struct memory *m = b->v->vm->memory;
    uint64_t gpa = t->gpa & X86_PAGE_MASK;
    gpa += code->point[t->points + (b->context->call >> INDEX_SHIFT)].guest;
    const struct memory_region *r = t->gpa2 ? NULL : memory_find(m, gpa);
    if (!r || !is_user(&b->v->cpu))
        return;
    executed_note(&b->vm->executed, memory_offset(r, gpa));
    if (!is_there(b)) /* it is written just now */
        executed_forget_page(&b->vm->executed, memory_offset(r, gpa));
}

static enum outcome do_cpuid(struct binary_vcpu *b, uint64_t operand)
{
    enum { FEATURES = 1 }; /* the leaf that says whether there is a local APIC */
    (void)operand;
    note_executed(b);
    if ((uint32_t)b->v->cpu.s.gpr[X86_RAX] == FEATURES)
        return ask_machine(b, cpuid);
    cpuid(b);
    return DONE;
}

static enum outcome do_xgetbv(struct binary_vcpu *b, uint64_t operand)
{
    struct x86_state *s = &b->v->cpu.s;
    (void)operand;
    if (!(s->cr4 & CR4_OSXSAVE) || ecx(b) != 0)
        return FOR_THE_LOOP;
    note_executed(b);
    s->gpr[X86_RAX] = (uint32_t)s->xcr0;
    s->gpr[X86_RDX] = s->xcr0 >> 32;
    return DONE;
}

/* What the local APIC has there. */
static bool is_apics(uint32_t msr)
{
    return msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

static enum outcome do_rdmsr(struct binary_vcpu *b, uint64_t operand)
{
    (void)operand;
    if (is_apics(ecx(b)))
        return ask_machine(b, rdmsr);
    return !x86_msr_is_machines(ecx(b)) && rdmsr(b) ? DONE : FOR_THE_LOOP;
}

/* What is written and changes nothing that translated code goes by. */
static bool is_plain(uint32_t msr)
{
    return msr == MSR_FS_BASE || msr == MSR_GS_BASE || msr == MSR_KERNEL_GS_BASE ||
           msr == MSR_TSC_AUX || msr == MSR_SPEC_CTRL || msr == MSR_PRED_CMD;
}

static enum outcome do_wrmsr(struct binary_vcpu *b, uint64_t operand)
{
    (void)operand;
    if (is_apics(ecx(b)))
        return ask_machine(b, wrmsr);
    return is_plain(ecx(b)) && wrmsr(b) ? DONE : FOR_THE_LOOP;
}

/* ---- there and back ---- */

static struct binary_vcpu *vcpu_of(struct context *x)
{
    return binary_of((struct engine_vcpu *)(void *)((uint8_t *)x + CONTEXT_SIZE));
}

/* An instruction of the block, or what comes behind its last. */
static uint64_t address_of(const struct binary_vcpu *b, unsigned index)
{
    const struct code *code = &b->vm->code;
    uint32_t n = b->context->link;
    return binary_page(b, n) + code->point[code->block[n].points + index].guest;
}

/* Translated code is left, with the guest at that instruction, at rip. */
static void leave_at(struct binary_vcpu *b, unsigned index, uint64_t rip, uint32_t reason)
{
    struct context *x = b->context;
    x->reason = reason;
    x->code = (void *)(uintptr_t)x->leave;
    if (was_flushed(b))
        b->v->cpu.s.rip = rip;
    else
        binary_stand_at(b, x->link, index);
    if (!is_there(b)) /* what was made of the place may be old */
        x->resume = NULL;
}

static enum outcome (*const calls[])(struct binary_vcpu *b, uint64_t operand) = {
    [CALL_CPUID] = do_cpuid,     [CALL_XGETBV] = do_xgetbv, [CALL_INVLPG] = do_invlpg,
    [CALL_INVPCID] = do_invpcid, [CALL_TO_CR3] = do_to_cr3, [CALL_RDMSR] = do_rdmsr,
    [CALL_WRMSR] = do_wrmsr,
};

void binary_called(struct context *x, uint64_t operand)
{
    struct binary_vcpu *b = vcpu_of(x);
    unsigned what = x->call & ((1u << REG_SHIFT) - 1), index = x->call >> INDEX_SHIFT;
    uint64_t here = address_of(b, index), next = address_of(b, index + 1);
    x->code = x->resume;
    x->seen = 0;
    switch (calls[what](b, operand)) {
    case DONE: binary_fpu_for_guest(b); break;
    case FOR_THE_LOOP: leave_at(b, index, here, LEAVE_EMULATE); break;
    case MOVED: leave_at(b, index + 1, next, LEAVE_MOVED); break;
    }
}

/* Behind the block's last instruction there is no place to go on at. */
void binary_call_asked(struct context *x)
{
    struct binary_vcpu *b = vcpu_of(x);
    unsigned next = (x->call >> INDEX_SHIFT) + 1;
    uint32_t request = atomic_load_explicit(x->request, memory_order_acquire);
    x->seen = request;
    if (!x->interrupt_flag)
        request &= ~(uint32_t)X86_REQUEST_INTR;
    if (!request || x->code != x->resume)
        return;
    bool ends = next == b->vm->code.block[x->link].insns;
    leave_at(b, next, address_of(b, next), ends ? LEAVE_MOVED : LEAVE_REQUEST);
}

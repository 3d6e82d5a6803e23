/*
 * Round what some hosts' KVM does wrongly in 64-bit mode; docs/hardware.md has the evidence.
 *
 * #UD at CPL 3 for what its interpreter does not know: INT n, or an instruction that raises #GP.
 * Nothing is lost by it: the exception is taken back, and `emulate` does the instruction.
 *
 * SYSCALL of a user that sets RCX, R11, RIP and RFLAGS and leaves CS and SS as they were, so that
 * the vCPU stands at the system call's entry at CPL 3. Where users may not read the entry, the next
 * thing it does is to raise #PF. That is taken back too, and what is missing of SYSCALL is done.
 *
 * Breakpoints of KVM's on the entry and on the two exceptions' handlers stop the vCPU in time; and
 * whatever state is taken from KVM is mended, should it be one of these.
 */
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/access.h"
#include "x86/descriptor.h"

/* ---- looking at the guest's memory as its processor would ---- */

static bool read_linear(struct engine_vcpu *v, uint64_t lin, void *to, unsigned n)
{
    uint64_t gpa;
    bool one_page = (lin & (MEMORY_PAGE_SIZE - 1)) + n <= MEMORY_PAGE_SIZE;
    return one_page && x86_translate_debug(&v->cpu, lin, &gpa) &&
           memory_read(v->vm->memory, gpa, to, n);
}

/* Where an exception goes in 64-bit mode (SDM 3, figure 6-8); 0: nowhere yet. */
static uint64_t handler_of(struct engine_vcpu *v, unsigned vector)
{
    enum { GATE_SIZE = 16 };
    const struct x86_state *s = &v->cpu.s;
    uint32_t at = vector * GATE_SIZE;
    uint8_t gate[GATE_SIZE];
    x86_update_mode(&v->cpu);
    if (!(s->efer & EFER_LMA) || s->idtr.limit < at + GATE_SIZE - 1 ||
        !read_linear(v, s->idtr.base + at, gate, sizeof gate))
        return 0;
    return load_u16(gate) | (uint64_t)load_u16(gate + 6) << 16 | (uint64_t)load_u32(gate + 8) << 32;
}

/* What an exception pushes in 64-bit mode, behind its error code. */
struct frame {
    uint64_t rip, cs, rflags, rsp, ss;
};

/* Whether the vCPU is at the handler's first instruction and came from CPL 3. */
static bool entered_from_user(struct engine_vcpu *v, unsigned vector, uint64_t *error,
                              struct frame *f)
{
    uint64_t rsp = v->cpu.s.gpr[X86_RSP];
    bool pushes_error = vector == X86_PF;
    if (!v->cpu.s.rip || v->cpu.s.rip != handler_of(v, vector))
        return false;
    if (pushes_error && !read_linear(v, rsp, error, sizeof *error))
        return false;
    return read_linear(v, rsp + (pushes_error ? sizeof *error : 0), f, sizeof *f) &&
           (f->cs & 3) == 3;
}

/* ---- #UD ---- */

static bool read_segment(struct engine_vcpu *v, uint16_t selector, struct x86_segment *out)
{
    const struct x86_state *s = &v->cpu.s;
    struct x86_descriptor d = {.selector = selector};
    d.at = (selector & SELECTOR_TI ? s->ldtr.base : s->gdtr.base) + (selector & ~7u);
    if (selector_null(selector) || !read_linear(v, d.at, &d.raw, sizeof d.raw))
        return false;
    *out = x86_descriptor_segment(&d, selector);
    return true;
}

static bool undo_undefined(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    struct x86_segment cs, ss;
    struct frame f;
    if (!entered_from_user(v, X86_UD, NULL, &f) || !read_segment(v, (uint16_t)f.cs, &cs) ||
        !read_segment(v, (uint16_t)f.ss, &ss))
        return false;
    s->seg[X86_CS] = cs;
    s->seg[X86_SS] = ss;
    s->rip = f.rip;
    s->rflags = f.rflags & ~(uint64_t)FLAG_RF;
    s->gpr[X86_RSP] = f.rsp;
    return true;
}

/* ---- SYSCALL ---- */

/* Whoever jumps there at CPL 3 has not had his flags masked. */
static bool half_syscall(const struct x86_state *s)
{
    return (s->efer & EFER_LMA) && s->rip == s->lstar &&
           (s->seg[X86_SS].attr & SEG_DPL) == SEG_DPL &&
           (s->rflags & s->sfmask & ~(uint64_t)(FLAG_1 | FLAG_RF)) == 0;
}

/* SDM 2, SYSCALL: what is left to do. */
static void finish_syscall(struct x86_state *s)
{
    uint16_t selector = (uint16_t)(s->star >> 32) & ~3u;
    uint32_t common = SEG_ACCESSED | SEG_WRITABLE | SEG_S | SEG_P | SEG_G;
    s->seg[X86_CS] = (struct x86_segment){
        .selector = selector, .limit = UINT32_MAX, .attr = common | SEG_CODE | SEG_L};
    s->seg[X86_SS] = (struct x86_segment){
        .selector = (uint16_t)(selector + 8), .limit = UINT32_MAX, .attr = common | SEG_DB};
    s->rflags &= ~(uint64_t)FLAG_RF;
}

/* Takes back a page fault that was the fetch at the entry; what SYSCALL does not set is as it was
 * but CR2. */
static bool undo_fetch(struct engine_vcpu *v)
{
    enum { PRESENT = 1u << 0, USER_FETCH = 1u << 2 | 1u << 4 };
    struct x86_state *s = &v->cpu.s;
    uint64_t error;
    struct frame f;
    if (!s->lstar || s->cr2 != s->lstar || !entered_from_user(v, X86_PF, &error, &f) ||
        f.rip != s->lstar || (error & ~(uint64_t)PRESENT) != USER_FETCH ||
        (f.rflags & s->sfmask & ~(uint64_t)(FLAG_1 | FLAG_RF)))
        return false;
    s->rip = f.rip;
    s->rflags = f.rflags;
    s->gpr[X86_RSP] = f.rsp;
    return true;
}

void hardware_mend(struct engine_vcpu *v)
{
    if (v->vm->facts.raises_syscall)
        return;
    if (half_syscall(&v->cpu.s) || undo_fetch(v))
        finish_syscall(&v->cpu.s);
    else if (!undo_undefined(v))
        return;
    v->loaded = false;
}

/* ---- breakpoints ---- */

bool hardware_set_breakpoints(struct engine_vcpu *v)
{
    const uint64_t at[HARDWARE_BREAKPOINTS] = {v->cpu.s.lstar, handler_of(v, X86_PF),
                                               handler_of(v, X86_UD)};
    struct kvm_guest_debug k = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP};
    if (v->vm->facts.raises_syscall || memcmp(at, v->breakpoint, sizeof at) == 0)
        return true;
    for (unsigned i = 0; i < HARDWARE_BREAKPOINTS; i++) {
        k.arch.debugreg[i] = at[i];
        k.arch.debugreg[7] |= at[i] ? 2u << 2 * i : 0; /* on execution */
    }
    memcpy(v->breakpoint, at, sizeof at);
    return ioctl(v->fd, KVM_SET_GUEST_DEBUG, &k) == 0 || hardware_fail(v, "KVM_SET_GUEST_DEBUG");
}

/* KVM would stop at the same place again: the first instruction there is emulate's. */
int hardware_debug_exit(struct engine_vcpu *v)
{
    return hardware_fetch(v) ? hardware_step(v) : ENGINE_FAILED;
}

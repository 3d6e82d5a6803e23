/*
 * Round what some hosts' KVM does wrongly; docs/hardware.md has the evidence.
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

/* Where an exception goes in protected mode (SDM 3, figures 6-2 and 6-8); 0: nowhere yet. */
static uint64_t handler_of(struct engine_vcpu *v, unsigned vector)
{
    const struct x86_state *s = &v->cpu.s;
    uint32_t size = s->efer & EFER_LMA ? 16 : 8, at = vector * size;
    uint8_t gate[16] = {0};
    x86_update_mode(&v->cpu);
    if (!(s->cr0 & CR0_PE) || s->idtr.limit < at + size - 1 ||
        !read_linear(v, s->idtr.base + at, gate, size))
        return 0;
    uint64_t offset = load_u16(gate) | (uint64_t)load_u16(gate + 6) << 16;
    return size == 16 ? offset | (uint64_t)load_u32(gate + 8) << 32 : offset;
}

/* What an exception pushes. */
struct frame {
    uint64_t error, rip, cs, rflags, rsp, ss;
};

/* Reads it from the stack: 64-bit words, or 32-bit ones, of which the lower halves are told. */
static bool read_frame(struct engine_vcpu *v, bool has_error, struct frame *f)
{
    const struct x86_state *s = &v->cpu.s;
    unsigned size = s->efer & EFER_LMA ? 8 : 4, count = has_error ? 6 : 5;
    uint64_t base = size == 8 ? 0 : s->seg[X86_SS].base, word[6] = {0};
    for (unsigned i = 0; i < count; i++)
        if (!read_linear(v, base + s->gpr[X86_RSP] + i * size, &word[6 - count + i], size))
            return false;
    *f = (struct frame){word[0], word[1], word[2], word[3], word[4], word[5]};
    return true;
}

/* Whether the vCPU is at the handler's first instruction and came from CPL 3. */
static bool entered_from_user(struct engine_vcpu *v, unsigned vector, struct frame *f)
{
    return v->cpu.s.rip && v->cpu.s.rip == handler_of(v, vector) &&
           read_frame(v, vector == X86_PF, f) && (f->cs & 3) == 3 && !(f->rflags & FLAG_VM);
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
    if (!entered_from_user(v, X86_UD, &f) || !read_segment(v, (uint16_t)f.cs, &cs) ||
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
    struct frame f;
    if (!s->lstar || s->cr2 != s->lstar || !entered_from_user(v, X86_PF, &f) || f.rip != s->lstar ||
        (f.error & ~(uint64_t)PRESENT) != USER_FETCH ||
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

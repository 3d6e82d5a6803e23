/*
 * Round what some hosts' KVM does wrongly; docs/hardware.md has the evidence.
 *
 * SYSCALL of a user that sets RCX, R11, RIP and RFLAGS and leaves CS and SS as they were, so that
 * the vCPU stands at the system call's entry at CPL 3. Where users may not read the entry, the next
 * thing it does is to raise #PF, and the guest's handler is entered. Breakpoints of KVM's on both
 * places stop the vCPU. Whenever a state is taken from KVM, a page fault of that kind is taken back
 * and what is missing of SYSCALL is done.
 */
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/access.h"

/* ---- looking at the guest's memory as its processor would ---- */

static bool read_linear(struct engine_vcpu *v, uint64_t lin, void *to, unsigned n)
{
    uint64_t gpa;
    bool one_page = (lin & (MEMORY_PAGE_SIZE - 1)) + n <= MEMORY_PAGE_SIZE;
    return one_page && x86_translate_debug(&v->cpu, lin, &gpa) &&
           memory_read(v->vm->memory, gpa, to, n);
}

/* Where #PF goes in 64-bit mode (SDM 3, figure 6-8); 0: nowhere yet. */
static uint64_t page_fault_handler(struct engine_vcpu *v)
{
    enum { GATE_SIZE = 16, AT = X86_PF * GATE_SIZE };
    const struct x86_state *s = &v->cpu.s;
    uint8_t gate[GATE_SIZE];
    x86_update_mode(&v->cpu);
    if (!(s->efer & EFER_LMA) || s->idtr.limit < AT + GATE_SIZE - 1 ||
        !read_linear(v, s->idtr.base + AT, gate, sizeof gate))
        return 0;
    return load_u16(gate) | (uint64_t)load_u16(gate + 6) << 16 | (uint64_t)load_u32(gate + 8) << 32;
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

/* What #PF pushes in 64-bit mode. */
struct frame {
    uint64_t error, rip, cs, rflags, rsp, ss;
};

/* Takes back a page fault that was the fetch at the entry; what SYSCALL does not set is as it was
 * but CR2. */
static bool undo_fault(struct engine_vcpu *v)
{
    enum { USER_FETCH = 1u << 2 | 1u << 4 };
    struct x86_state *s = &v->cpu.s;
    struct frame f;
    if (s->cr2 != s->lstar || !s->lstar || s->rip != page_fault_handler(v) ||
        !read_linear(v, s->gpr[X86_RSP], &f, sizeof f))
        return false;
    if (f.rip != s->lstar || (f.cs & 3) != 3 || (f.error & ~UINT64_C(1)) != USER_FETCH ||
        (f.rflags & s->sfmask & ~(uint64_t)(FLAG_1 | FLAG_RF)))
        return false;
    s->rip = f.rip;
    s->rflags = f.rflags;
    s->gpr[X86_RSP] = f.rsp;
    return true;
}

void hardware_mend(struct engine_vcpu *v)
{
    if (v->vm->facts.raises_syscall || (!half_syscall(&v->cpu.s) && !undo_fault(v)))
        return;
    finish_syscall(&v->cpu.s);
    v->loaded = false;
}

/* ---- breakpoints ---- */

bool hardware_set_breakpoints(struct engine_vcpu *v)
{
    if (v->vm->facts.raises_syscall)
        return true;
    enum { DR7_EXECUTE_0_AND_1 = 0x40a };
    uint64_t syscall = v->cpu.s.lstar, fault = syscall ? page_fault_handler(v) : 0;
    if (v->breakpoint[0] == syscall && v->breakpoint[1] == fault)
        return true;
    struct kvm_guest_debug k = {0};
    if (fault) {
        k.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        k.arch.debugreg[0] = syscall;
        k.arch.debugreg[1] = fault;
        k.arch.debugreg[7] = DR7_EXECUTE_0_AND_1;
    }
    v->breakpoint[0] = syscall;
    v->breakpoint[1] = fault;
    return ioctl(v->fd, KVM_SET_GUEST_DEBUG, &k) == 0 || hardware_fail(v, "KVM_SET_GUEST_DEBUG");
}

/* KVM would stop at the same place again: the first instruction there is emulate's. */
int hardware_debug_exit(struct engine_vcpu *v)
{
    return hardware_fetch(v) ? hardware_step(v) : ENGINE_FAILED;
}

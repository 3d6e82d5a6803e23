/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT: levels 3 to 0 and back without looking at a table.
 */
#include "x86/debug.h"
#include "x86/segment.h"
#include "x86/sem/op.h"

/* What SYSRET takes of R11: everything but RF and VM (SDM 2, SYSRET). */
enum { SYSRET_FLAGS = 0x3c7fd7 };

static void enter(struct x86_cpu *c, uint16_t cs, uint16_t ss, unsigned cpl, bool long64)
{
    c->s.seg[X86_CS] = x86_flat_code((uint16_t)(cs | cpl), cpl, long64);
    c->s.seg[X86_SS] = x86_flat_stack((uint16_t)(ss | cpl), cpl);
}

OP_END(syscall)
{
    if (!(c->s.efer & EFER_SCE) || c->code != X86_CODE64)
        x86_raise(c, X86_UD);
    uint16_t cs = (c->s.star >> 32) & 0xfffc;
    uint64_t flags = x86_rflags(c);
    uint64_t kept = flags & ~c->s.sfmask & ~(uint64_t)FLAG_RF;
    c->s.gpr[X86_RCX] = c->s.rip;
    c->s.gpr[11] = flags & ~(uint64_t)FLAG_RF;
    c->s.rip = c->s.lstar;
    enter(c, cs, (uint16_t)(cs + 8), 0, true);
    x86_set_rflags(c, kept);
    if ((flags & ~kept) & FLAG_TF)
        c->debug_hits |= X86_DEBUG_NO_STEP;
    x86_update_mode(c);
}

OP_END(sysret)
{
    if (!(c->s.efer & EFER_SCE) || c->code != X86_CODE64)
        x86_raise(c, X86_UD);
    x86_need_cpl0(c);
    bool long64 = op->size == 8;
    uint64_t to = c->s.gpr[X86_RCX];
    if (long64 && !x86_canonical(to))
        x86_raise_gp0(c);
    uint16_t selector = (uint16_t)(c->s.star >> 48);
    c->s.rip = long64 ? to : (uint32_t)to;
    enter(c, (uint16_t)(selector + (long64 ? 16 : 0)), (uint16_t)(selector + 8), 3, long64);
    x86_set_rflags(c, c->s.gpr[11] & SYSRET_FLAGS);
    x86_update_mode(c);
    x86_debug_rearm(c);
}

OP_END(sysenter)
{
    uint16_t cs = c->s.sysenter_cs & 0xfffc;
    if (!(c->s.cr0 & CR0_PE) || cs == 0)
        x86_raise_gp0(c);
    bool long64 = c->long_mode;
    c->s.rflags &= ~(uint64_t)(FLAG_VM | FLAG_IF | FLAG_RF);
    c->s.gpr[X86_RSP] = long64 ? c->s.sysenter_esp : (uint32_t)c->s.sysenter_esp;
    c->s.rip = long64 ? c->s.sysenter_eip : (uint32_t)c->s.sysenter_eip;
    enter(c, cs, (uint16_t)(cs + 8), 0, long64);
    x86_update_mode(c);
}

OP_END(sysexit)
{
    uint16_t cs = c->s.sysenter_cs & 0xfffc;
    if (!(c->s.cr0 & CR0_PE) || cs == 0)
        x86_raise_gp0(c);
    x86_need_cpl0(c);
    bool long64 = op->size == 8;
    uint64_t rsp = c->s.gpr[X86_RCX], rip = c->s.gpr[X86_RDX];
    if (long64 && (!x86_canonical(rsp) || !x86_canonical(rip)))
        x86_raise_gp0(c);
    c->s.gpr[X86_RSP] = long64 ? rsp : (uint32_t)rsp;
    c->s.rip = long64 ? rip : (uint32_t)rip;
    cs = (uint16_t)(cs + (long64 ? 32 : 16));
    enter(c, cs, (uint16_t)(cs + 8), 3, long64);
    x86_update_mode(c);
}

/*
 * RFLAGS: single flags, PUSHF and POPF, CLI and STI with their virtual forms (SDM 3, 20.3).
 */
#include "x86/sem/op.h"

OP(clc)
{
    cc_set_cf(c, false);
}
OP(stc)
{
    cc_set_cf(c, true);
}
OP(cmc)
{
    cc_set_cf(c, !cc_cf(c));
}
OP(cld)
{
    c->s.rflags &= ~(uint64_t)FLAG_DF;
}
OP(std)
{
    c->s.rflags |= FLAG_DF;
}

enum { LAHF_FLAGS = FLAG_SF | FLAG_ZF | FLAG_AF | FLAG_PF | FLAG_CF };

OP(lahf)
{
    uint64_t ah = (x86_rflags(c) & LAHF_FLAGS) | FLAG_1;
    c->s.gpr[X86_RAX] = (c->s.gpr[X86_RAX] & ~UINT64_C(0xff00)) | ah << 8;
}

OP(sahf)
{
    uint64_t ah = (c->s.gpr[X86_RAX] >> 8) & LAHF_FLAGS;
    x86_set_status(c, ah | (cc_of(c) ? FLAG_OF : 0));
}

/* ---- AC: what SMAP looks at ---- */

static void set_ac(struct x86_cpu *c, bool ac)
{
    if (c->cpl != 0)
        x86_raise(c, X86_UD);
    c->s.rflags = (c->s.rflags & ~(uint64_t)FLAG_AC) | (ac ? FLAG_AC : 0);
    x86_update_view(c);
}

OP(stac)
{
    set_ac(c, true);
}
OP(clac)
{
    set_ac(c, false);
}

/* ---- the interrupt flag ---- */

/* Who CLI and STI change: IF itself, its virtual image VIF, or nothing (#GP). */
enum interrupt_flag { THE_REAL_ONE, THE_VIRTUAL_ONE, NEITHER };

static enum interrupt_flag interrupt_flag(const struct x86_cpu *c)
{
    if (!(c->s.cr0 & CR0_PE))
        return THE_REAL_ONE;
    if (x86_v86(c)) {
        if (x86_iopl(c) == 3)
            return THE_REAL_ONE;
        return c->s.cr4 & CR4_VME ? THE_VIRTUAL_ONE : NEITHER;
    }
    if (c->cpl <= x86_iopl(c))
        return THE_REAL_ONE;
    return c->cpl == 3 && (c->s.cr4 & CR4_PVI) ? THE_VIRTUAL_ONE : NEITHER;
}

OP_END(cli)
{
    switch (interrupt_flag(c)) {
    case THE_REAL_ONE: c->s.rflags &= ~(uint64_t)FLAG_IF; break;
    case THE_VIRTUAL_ONE: c->s.rflags &= ~(uint64_t)FLAG_VIF; break;
    case NEITHER: x86_raise_gp0(c);
    }
}

OP_END(sti)
{
    switch (interrupt_flag(c)) {
    case THE_REAL_ONE:
        if (!(c->s.rflags & FLAG_IF)) {
            /* Nothing is taken before the next instruction is done. */
            c->s.rflags |= FLAG_IF;
            c->s.shadow_sti = true;
            atomic_fetch_or(&c->request, X86_REQUEST_STEP);
        }
        break;
    case THE_VIRTUAL_ONE:
        if (c->s.rflags & FLAG_VIP)
            x86_raise_gp0(c);
        c->s.rflags |= FLAG_VIF;
        break;
    case NEITHER: x86_raise_gp0(c);
    }
}

/* ---- PUSHF and POPF ---- */

/* In virtual-8086 mode below IOPL 3 the 16-bit forms work on VIF under VME, and nothing else does.
 */
static bool uses_virtual_if(struct x86_cpu *c, unsigned size)
{
    if (!x86_v86(c) || x86_iopl(c) == 3)
        return false;
    if (size != 2 || !(c->s.cr4 & CR4_VME))
        x86_raise_gp0(c);
    return true;
}

OP(pushf)
{
    uint64_t flags = x86_rflags(c) & ~(uint64_t)(FLAG_VM | FLAG_RF);
    if (uses_virtual_if(c, op->size)) {
        flags = (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL;
        flags |= c->s.rflags & FLAG_VIF ? FLAG_IF : 0;
    }
    uint64_t sp = x86_stack_pointer(c);
    x86_push_at(c, &sp, op->size, flags);
    x86_stack_commit(c, sp);
}

/* The flags that POPF may change here, beside those of the status. */
static uint64_t popf_changes(const struct x86_cpu *c, unsigned size)
{
    uint64_t changes = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;
    if (size != 2)
        changes |= FLAG_AC | FLAG_ID;
    if (c->cpl == 0)
        changes |= FLAG_IOPL;
    if (c->cpl <= x86_iopl(c))
        changes |= FLAG_IF;
    return changes;
}

static uint64_t virtual_popf(struct x86_cpu *c, uint64_t popped)
{
    if ((popped & FLAG_TF) || ((popped & FLAG_IF) && (c->s.rflags & FLAG_VIP)))
        x86_raise_gp0(c);
    return popped & FLAG_IF ? FLAG_VIF : 0;
}

OP_END(popf)
{
    bool virtual_if = uses_virtual_if(c, op->size);
    uint64_t sp = x86_stack_pointer(c);
    uint64_t popped = x86_pop_at(c, &sp, op->size);
    uint64_t changes = popf_changes(c, op->size);
    uint64_t old = x86_rflags(c);
    if (virtual_if) {
        popped = (popped & ~(uint64_t)FLAG_VIF) | virtual_popf(c, popped);
        changes = (changes & ~(uint64_t)FLAG_IF) | FLAG_VIF;
    }
    x86_stack_commit(c, sp);
    x86_set_rflags(c, (old & ~(changes | FLAG_RF)) | (popped & changes));
    if ((old ^ c->s.rflags) & FLAG_AC)
        x86_update_view(c);
    if (c->s.rflags & FLAG_TF)
        atomic_fetch_or(&c->request, X86_REQUEST_STEP);
}

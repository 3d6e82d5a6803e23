/*
 * Far RET and IRET.
 */
#include "x86/access.h"
#include "x86/debug.h"
#include "x86/far.h"
#include "x86/newstack.h"
#include "x86/segment.h"
#include "x86/sem/op.h"
#include "x86/task.h"

/* Bits of RFLAGS that exist. */
enum { FLAGS_ALL = 0x3f7fd7 };

/* The code segment that a return goes to, checked; its RPL is the level returned to. */
static struct x86_segment return_code(struct x86_cpu *c, uint16_t selector)
{
    uint32_t error = x86_selector_error(selector, 0);
    unsigned rpl = selector & SELECTOR_RPL;
    if (selector_null(selector))
        x86_raise_gp0(c);
    struct x86_descriptor d;
    x86_descriptor_need(c, selector, X86_GP, 0, &d);
    if (!desc_is_code(&d) || rpl < c->cpl)
        x86_raise_error(c, X86_GP, error);
    if (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl)
        x86_raise_error(c, X86_GP, error);
    x86_need_code_mode(c, &d, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, error);
    x86_descriptor_set(c, &d, SEG_ACCESSED);
    return x86_descriptor_segment(&d, selector);
}

static struct x86_segment return_stack(struct x86_cpu *c, uint16_t selector,
                                       const struct x86_segment *cs)
{
    unsigned cpl = cs->selector & SELECTOR_RPL;
    bool long64 = c->long_mode && (cs->attr & SEG_L);
    const struct x86_stack_rules rules = {
        .vector = X86_GP, .cpl = cpl, .null_ok = long64 && cpl < 3};
    return x86_check_stack_segment(c, selector, &rules);
}

/* Loads CS:RIP and SS:RSP together, at a level that may be an outer one. */
static void enter_with_stack(struct x86_cpu *c, const struct x86_segment *cs, uint64_t rip,
                             const struct x86_segment *ss, uint64_t sp)
{
    unsigned cpl = cs->selector & SELECTOR_RPL;
    bool long64 = c->long_mode && (cs->attr & SEG_L);
    c->s.gpr[X86_RSP] = long64 ? sp : x86_stack_merge(ss, c->s.gpr[X86_RSP], sp);
    c->s.seg[X86_CS] = *cs;
    c->s.seg[X86_SS] = *ss;
    c->s.rip = rip;
    if (cpl > c->cpl)
        x86_drop_inner_segments(c, cpl);
}

static struct x86_segment paragraph_code(const struct x86_cpu *c, uint16_t selector)
{
    return x86_v86(c) ? x86_v86_segment(selector) : x86_real_segment(&c->s.seg[X86_CS], selector);
}

/* ---- RET ---- */

static void return_real(struct x86_cpu *c, unsigned size, unsigned released)
{
    uint64_t sp = x86_stack_pointer(c);
    uint64_t rip = x86_pop_at(c, &sp, size);
    struct x86_segment cs = paragraph_code(c, (uint16_t)x86_pop_at(c, &sp, size));
    x86_need_target(c, &cs, rip, 0);
    x86_stack_commit(c, sp + released);
    c->s.seg[X86_CS] = cs;
    c->s.rip = rip;
    x86_update_mode(c);
}

void x86_far_return(struct x86_cpu *c, unsigned size, unsigned released)
{
    if (!x86_protected(c)) {
        return_real(c, size, released);
        return;
    }
    uint64_t sp = x86_stack_pointer(c);
    uint64_t rip = x86_pop_at(c, &sp, size);
    struct x86_segment cs = return_code(c, (uint16_t)x86_pop_at(c, &sp, size));
    sp += released;
    if ((cs.selector & SELECTOR_RPL) == c->cpl) {
        x86_need_target(c, &cs, rip, 0);
        x86_stack_commit(c, sp);
        c->s.seg[X86_CS] = cs;
        c->s.rip = rip;
    } else {
        uint64_t new_sp = x86_pop_at(c, &sp, size);
        struct x86_segment ss = return_stack(c, (uint16_t)x86_pop_at(c, &sp, size), &cs);
        x86_need_target(c, &cs, rip, 0);
        enter_with_stack(c, &cs, rip, &ss, new_sp + released);
    }
    x86_update_mode(c);
}

/* ---- IRET ---- */

/* Replaces the bits of RFLAGS in mask. RF lasts for one instruction, and only breakpoints see it.
 */
static void load_flags(struct x86_cpu *c, uint64_t flags, uint64_t mask)
{
    uint64_t old = x86_rflags(c) & ~(uint64_t)FLAG_RF;
    uint64_t new = ((old & ~mask) | (flags & mask)) & FLAGS_ALL;
    if (!(c->s.dr[7] & 0xff))
        new &= ~(uint64_t)FLAG_RF;
    if (new &FLAG_RF)
        c->debug_hits |= X86_DEBUG_KEEP_RF;
    x86_set_rflags(c, new);
    x86_update_mode(c);
    x86_debug_rearm(c);
}

static uint64_t size_mask(unsigned size)
{
    return size == 2 ? 0xffff : ~UINT64_C(0);
}

static void unblock_nmi(struct x86_cpu *c)
{
    if (!c->s.nmi_blocked)
        return;
    c->s.nmi_blocked = false;
    if (c->s.nmi_pending)
        atomic_fetch_or_explicit(&c->request, X86_REQUEST_NMI, memory_order_relaxed);
}

/* Real mode, and virtual-8086 mode where IOPL or VME lets it. Under VME with an IOPL below 3, IF is
 * the program's view of VIF. */
static void iret_real(struct x86_cpu *c, unsigned size)
{
    bool v86 = x86_v86(c);
    bool virtual_if = v86 && x86_iopl(c) < 3;
    if (virtual_if && (!(c->s.cr4 & CR4_VME) || size != 2))
        x86_raise_gp0(c);
    uint64_t sp = x86_stack_pointer(c);
    uint64_t rip = x86_pop_at(c, &sp, size);
    struct x86_segment cs = paragraph_code(c, (uint16_t)x86_pop_at(c, &sp, size));
    uint64_t flags = x86_pop_at(c, &sp, size);
    uint64_t mask = ~(uint64_t)(FLAG_VM | FLAG_VIF | FLAG_VIP) & size_mask(size);
    if (virtual_if) {
        if ((flags & FLAG_TF) || ((flags & FLAG_IF) && (c->s.rflags & FLAG_VIP)))
            x86_raise_gp0(c);
        flags = (flags & ~(uint64_t)FLAG_VIF) | (flags & FLAG_IF ? FLAG_VIF : 0);
        mask = (mask & ~(uint64_t)FLAG_IF) | FLAG_VIF;
    }
    if (v86)
        mask &= ~(uint64_t)FLAG_IOPL;
    x86_need_target(c, &cs, rip, 0);
    unblock_nmi(c);
    x86_stack_commit(c, sp);
    c->s.seg[X86_CS] = cs;
    c->s.rip = rip;
    load_flags(c, flags, mask);
}

/* What a return at the current level may change. */
static uint64_t protected_mask(const struct x86_cpu *c, unsigned size)
{
    uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID;
    if (c->cpl <= x86_iopl(c))
        mask |= FLAG_IF;
    if (c->cpl == 0)
        mask |= FLAG_IOPL | FLAG_VIF | FLAG_VIP;
    return mask & size_mask(size);
}

/* From CPL 0 with VM set in the image: nine doublewords (SDM 3, 20.2.1). */
static void iret_to_v86(struct x86_cpu *c, uint64_t sp, uint64_t rip, uint16_t cs, uint64_t flags)
{
    static const uint8_t order[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
    uint16_t selectors[ARRAY_LEN(order)];
    uint64_t new_sp = x86_pop_at(c, &sp, 4);
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        selectors[i] = (uint16_t)x86_pop_at(c, &sp, 4);
    struct x86_segment code = x86_v86_segment(cs);
    x86_need_target(c, &code, rip, 0);

    c->s.seg[X86_CS] = code;
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        c->s.seg[order[i]] = x86_v86_segment(selectors[i]);
    c->s.gpr[X86_RSP] = (uint32_t)new_sp;
    c->s.rip = rip;
    load_flags(c, flags, ~UINT64_C(0));
}

static void iret_protected(struct x86_cpu *c, unsigned size)
{
    uint64_t sp = x86_stack_pointer(c);
    uint64_t rip = x86_pop_at(c, &sp, size);
    uint16_t selector = (uint16_t)x86_pop_at(c, &sp, size);
    uint64_t flags = x86_pop_at(c, &sp, size);
    if (size == 4 && (flags & FLAG_VM) && c->cpl == 0 && !c->long_mode) {
        iret_to_v86(c, sp, rip, selector, flags);
        return;
    }
    uint64_t mask = protected_mask(c, size);
    struct x86_segment cs = return_code(c, selector);
    if ((selector & SELECTOR_RPL) == c->cpl && c->code != X86_CODE64) {
        x86_need_target(c, &cs, rip, 0);
        x86_stack_commit(c, sp);
        c->s.seg[X86_CS] = cs;
        c->s.rip = rip;
    } else {
        uint64_t new_sp = x86_pop_at(c, &sp, size);
        struct x86_segment ss = return_stack(c, (uint16_t)x86_pop_at(c, &sp, size), &cs);
        x86_need_target(c, &cs, rip, 0);
        enter_with_stack(c, &cs, rip, &ss, new_sp);
    }
    load_flags(c, flags, mask);
}

void x86_interrupt_return(struct x86_cpu *c, unsigned size)
{
    if (!x86_protected(c)) {
        iret_real(c, size);
        return;
    }
    unblock_nmi(c);
    if (!(c->s.rflags & FLAG_NT))
        iret_protected(c, size);
    else if (c->long_mode)
        x86_raise_gp0(c);
    else
        x86_task_return(c);
}

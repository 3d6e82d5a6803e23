/*
 * Segment registers and the instructions that look at descriptors.
 */
#include "x86/segment.h"

#include "x86/debug.h"
#include "x86/sem/op.h"

/* ---- moves, pushes and pops ---- */

/* After MOV SS and POP SS the next instruction runs before anything else happens, so that it can
 * load the stack pointer (SDM 3, 6.8.3). */
static void shadow_stack_switch(struct x86_cpu *c, unsigned seg)
{
    if (seg != X86_SS)
        return;
    c->s.shadow_ss = true;
    x86_debug_rearm(c);
}

OP_END(mov_to_seg)
{
    x86_load_segment(c, op->reg, (uint16_t)op_rm_read(c, op, 2));
    shadow_stack_switch(c, op->reg);
}

OP(mov_from_seg)
{
    op_rm_write(c, op, op->ea == EA_REG ? op->size : 2, c->s.seg[op->reg].selector);
}

OP(push_seg)
{
    uint64_t sp = x86_stack_pointer(c);
    x86_push_at(c, &sp, op->size, c->s.seg[op->reg].selector);
    x86_stack_commit(c, sp);
}

OP_END(pop_seg)
{
    uint64_t sp = x86_stack_pointer(c);
    uint16_t selector = (uint16_t)x86_pop_at(c, &sp, op->size);
    /* The pointer moves as the old SS has it; no fault is left behind the load. */
    bool wide = c->code == X86_CODE64;
    unsigned width = wide ? 8 : c->stack32 ? 4 : 2;
    x86_load_segment(c, op->reg, selector);
    gpr_write(c, X86_RSP, width, sp);
    shadow_stack_switch(c, op->reg);
}

static void load_far_pointer(struct x86_cpu *c, const struct op *op, unsigned seg)
{
    uint8_t bytes[10];
    op_load(c, op, bytes, op->size + 2u);
    uint16_t selector = load_u16(bytes + op->size);
    uint64_t offset = op->size == 2   ? load_u16(bytes)
                      : op->size == 4 ? load_u32(bytes)
                                      : load_u64(bytes);
    x86_load_segment(c, seg, selector);
    gpr_write(c, op->reg, op->size, offset);
}

OP_END(les)
{
    load_far_pointer(c, op, X86_ES);
}
OP_END(lds)
{
    load_far_pointer(c, op, X86_DS);
}
OP_END(lss)
{
    load_far_pointer(c, op, X86_SS);
}
OP_END(lfs)
{
    load_far_pointer(c, op, X86_FS);
}
OP_END(lgs)
{
    load_far_pointer(c, op, X86_GS);
}

/* ---- LAR, LSL, VERR, VERW: what a selector stands for, without a fault ---- */

static void set_zf(struct x86_cpu *c, bool zf)
{
    uint64_t f = x86_rflags(c) & ~(uint64_t)FLAG_ZF;
    x86_set_status(c, f | (zf ? FLAG_ZF : 0));
}

static void need_protected(struct x86_cpu *c)
{
    if (!x86_protected(c))
        x86_raise(c, X86_UD);
}

/* Reads the descriptor if the selector may be used at the current level. */
static bool visible(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d)
{
    if (selector_null(selector) || !x86_descriptor_read(c, selector, d))
        return false;
    return desc_is_conforming(d) ||
           (desc_dpl(d) >= c->cpl && desc_dpl(d) >= (selector & SELECTOR_RPL));
}

/* Sets of system descriptor types, as bits. */
enum {
    TYPES_WITH_LIMIT_LONG = 1u << DESC_LDT | 1u << DESC_TSS32 | 1u << DESC_TSS32_BUSY,
    TYPES_WITH_LIMIT = TYPES_WITH_LIMIT_LONG | 1u << DESC_TSS16 | 1u << DESC_TSS16_BUSY,
    TYPES_WITH_RIGHTS_LONG = TYPES_WITH_LIMIT_LONG | 1u << DESC_CALL_GATE32,
    TYPES_WITH_RIGHTS =
        TYPES_WITH_LIMIT | 1u << DESC_CALL_GATE32 | 1u << DESC_CALL_GATE16 | 1u << DESC_TASK_GATE,
};

static bool type_in(const struct x86_descriptor *d, uint32_t types)
{
    return desc_is_segment(d) || (types >> desc_type(d) & 1);
}

OP(lar)
{
    need_protected(c);
    uint16_t selector = (uint16_t)op_rm_read(c, op, 2);
    uint32_t types = c->long_mode ? TYPES_WITH_RIGHTS_LONG : TYPES_WITH_RIGHTS;
    struct x86_descriptor d;
    bool ok = visible(c, selector, &d) && type_in(&d, types);
    if (ok)
        gpr_write(c, op->reg, op->size, (d.raw >> 32) & 0xffff00);
    set_zf(c, ok);
}

OP(lsl)
{
    need_protected(c);
    uint16_t selector = (uint16_t)op_rm_read(c, op, 2);
    uint32_t types = c->long_mode ? TYPES_WITH_LIMIT_LONG : TYPES_WITH_LIMIT;
    struct x86_descriptor d;
    bool ok = visible(c, selector, &d) && type_in(&d, types);
    if (ok)
        gpr_write(c, op->reg, op->size, desc_limit(&d));
    set_zf(c, ok);
}

OP(verr)
{
    need_protected(c);
    struct x86_descriptor d;
    set_zf(c, visible(c, (uint16_t)op_rm_read(c, op, 2), &d) && desc_is_readable(&d));
}

OP(verw)
{
    need_protected(c);
    struct x86_descriptor d;
    set_zf(c, visible(c, (uint16_t)op_rm_read(c, op, 2), &d) && desc_is_writable_data(&d));
}

OP(arpl)
{
    need_protected(c);
    uint16_t to = (uint16_t)op_rm_read(c, op, 2);
    unsigned rpl = (unsigned)gpr_read(c, op->reg, 2) & SELECTOR_RPL;
    bool raise = (to & SELECTOR_RPL) < rpl;
    if (raise)
        op_rm_write(c, op, 2, (to & ~SELECTOR_RPL) | rpl);
    set_zf(c, raise);
}

/* ---- LDTR and TR ---- */

OP(lldt)
{
    need_protected(c);
    x86_need_cpl0(c);
    x86_load_ldtr(c, (uint16_t)op_rm_read(c, op, 2));
}

OP(ltr)
{
    need_protected(c);
    x86_need_cpl0(c);
    x86_load_tr(c, (uint16_t)op_rm_read(c, op, 2));
}

static void store_selector(struct x86_cpu *c, const struct op *op, uint16_t selector)
{
    need_protected(c);
    if (c->s.cr4 & CR4_UMIP)
        x86_need_cpl0(c);
    op_rm_write(c, op, op->ea == EA_REG ? op->size : 2, selector);
}

OP(sldt)
{
    store_selector(c, op, c->s.ldtr.selector);
}

OP(str)
{
    store_selector(c, op, c->s.tr.selector);
}

/*
 * Segment registers: checks, loads, and addresses through them.
 */
#include "x86/segment.h"

#include "x86/access.h"
#include "x86/sem/op.h"

/* ---- addresses ---- */

static _Noreturn void raise_bounds(struct x86_cpu *c, unsigned seg)
{
    x86_raise_error(c, seg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}

bool x86_inside_limit(const struct x86_segment *s, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    if ((s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == SEG_EXPAND_DOWN)
        return offset > s->limit && last <= (s->attr & SEG_DB ? 0xffffffff : 0xffff);
    return last <= s->limit;
}

/* Whether a segment's type allows the access (SDM 3, 5.5); real mode and virtual-8086 mode don't
 * ask. */
static bool type_allows(const struct x86_segment *s, unsigned access)
{
    if (s->attr & SEG_UNUSABLE)
        return false;
    if (access & X86_WRITE)
        return (s->attr & (SEG_CODE | SEG_WRITABLE)) == SEG_WRITABLE;
    if (access & X86_FETCH)
        return true;
    return !(s->attr & SEG_CODE) || (s->attr & SEG_WRITABLE);
}

uint64_t x86_linear(struct x86_cpu *c, unsigned seg, uint64_t offset, unsigned size,
                    unsigned access)
{
    const struct x86_segment *s = &c->s.seg[seg];
    if (c->code == X86_CODE64)
        return seg >= X86_FS ? s->base + offset : offset;
    if (x86_protected(c) && !type_allows(s, access))
        raise_bounds(c, seg);
    if (!x86_inside_limit(s, offset, size))
        raise_bounds(c, seg);
    return (uint32_t)(s->base + offset);
}

/* ---- what loads make of a segment register ---- */

struct x86_segment x86_real_segment(const struct x86_segment *old, uint16_t selector)
{
    struct x86_segment s = *old;
    if (s.attr & SEG_UNUSABLE)
        s = (struct x86_segment){.limit = 0xffff, .attr = SEG_WRITABLE};
    s.base = (uint32_t)selector << 4;
    s.selector = selector;
    s.attr |= SEG_P | SEG_S | SEG_ACCESSED;
    return s;
}

struct x86_segment x86_v86_segment(uint16_t selector)
{
    return (struct x86_segment){.base = (uint32_t)selector << 4,
                                .limit = 0xffff,
                                .attr = SEG_P | SEG_DPL | SEG_S | SEG_WRITABLE | SEG_ACCESSED,
                                .selector = selector};
}

struct x86_segment x86_null_segment(uint16_t selector)
{
    return (struct x86_segment){.attr = SEG_UNUSABLE, .selector = selector};
}

struct x86_segment x86_flat_code(uint16_t selector, unsigned dpl, bool long64)
{
    uint32_t attr = SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_ACCESSED;
    return (struct x86_segment){.limit = 0xffffffff,
                                .attr = attr | (long64 ? SEG_L : SEG_DB) | dpl << SEG_DPL_SHIFT,
                                .selector = selector};
}

struct x86_segment x86_flat_stack(uint16_t selector, unsigned dpl)
{
    uint32_t attr = SEG_G | SEG_DB | SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED;
    return (struct x86_segment){
        .limit = 0xffffffff, .attr = attr | dpl << SEG_DPL_SHIFT, .selector = selector};
}

struct x86_segment x86_check_data_segment(struct x86_cpu *c, uint16_t selector, unsigned cpl)
{
    if (selector_null(selector))
        return x86_null_segment(selector);
    struct x86_descriptor d;
    uint32_t error = x86_selector_error(selector, 0);
    x86_descriptor_need(c, selector, X86_GP, 0, &d);
    if (!desc_is_readable(&d))
        x86_raise_error(c, X86_GP, error);
    unsigned rpl = selector & SELECTOR_RPL;
    if (!desc_is_conforming(&d) && (rpl > desc_dpl(&d) || cpl > desc_dpl(&d)))
        x86_raise_error(c, X86_GP, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, error);
    x86_descriptor_set(c, &d, SEG_ACCESSED);
    return x86_descriptor_segment(&d, selector);
}

struct x86_segment x86_check_stack_segment(struct x86_cpu *c, uint16_t selector,
                                           const struct x86_stack_rules *rules)
{
    unsigned rpl = selector & SELECTOR_RPL;
    uint32_t error = x86_selector_error(selector, rules->ext);
    if (selector_null(selector)) {
        if (!rules->null_ok || rpl != rules->cpl)
            x86_raise_error(c, rules->vector, rules->ext);
        struct x86_segment s = x86_null_segment(selector);
        s.attr |= rules->cpl << SEG_DPL_SHIFT; /* SS.DPL is the CPL, always */
        return s;
    }
    struct x86_descriptor d;
    x86_descriptor_need(c, selector, rules->vector, rules->ext, &d);
    if (rpl != rules->cpl || desc_dpl(&d) != rules->cpl || !desc_is_writable_data(&d))
        x86_raise_error(c, rules->vector, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_SS_FAULT, error);
    x86_descriptor_set(c, &d, SEG_ACCESSED);
    return x86_descriptor_segment(&d, selector);
}

void x86_load_segment(struct x86_cpu *c, unsigned seg, uint16_t selector)
{
    struct x86_segment *to = &c->s.seg[seg];
    if (x86_v86(c)) {
        *to = x86_v86_segment(selector);
    } else if (!x86_protected(c)) {
        *to = x86_real_segment(to, selector);
    } else if (seg == X86_SS) {
        const struct x86_stack_rules rules = {
            .vector = X86_GP, .cpl = c->cpl, .null_ok = c->code == X86_CODE64 && c->cpl < 3};
        *to = x86_check_stack_segment(c, selector, &rules);
    } else {
        *to = x86_check_data_segment(c, selector, c->cpl);
    }
    x86_update_mode(c);
}

void x86_drop_inner_segments(struct x86_cpu *c, unsigned cpl)
{
    static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        struct x86_segment *s = &c->s.seg[data[i]];
        unsigned dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT;
        bool conforming = (s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == (SEG_CODE | SEG_EXPAND_DOWN);
        if (!(s->attr & SEG_UNUSABLE) && dpl < cpl && !conforming)
            *s = x86_null_segment(0);
    }
}

/* ---- the system's own segment registers ---- */

/* The part of LLDT and LTR that is the same: the descriptor of type `type`, present; *base gets
 * its whole base. */
static void need_system(struct x86_cpu *c, uint16_t selector,
                        bool (*type_ok)(const struct x86_cpu *, unsigned), struct x86_descriptor *d,
                        uint64_t *base)
{
    uint32_t error = x86_selector_error(selector, 0);
    if (selector & SELECTOR_TI)
        x86_raise_error(c, X86_GP, error);
    x86_descriptor_need(c, selector, X86_GP, 0, d);
    if (desc_is_segment(d) || !type_ok(c, desc_type(d)))
        x86_raise_error(c, X86_GP, error);
    *base = desc_base(d);
    if (c->long_mode) {
        uint64_t upper;
        if (!x86_descriptor_read_upper(c, d, &upper) || (upper >> 40 & 0x1f))
            x86_raise_error(c, X86_GP, error);
        *base |= upper << 32;
        if (!x86_canonical(*base))
            x86_raise_error(c, X86_GP, error);
    }
    if (!desc_present(d))
        x86_raise_error(c, X86_NP, error);
}

static bool is_ldt(const struct x86_cpu *c, unsigned type)
{
    (void)c;
    return type == DESC_LDT;
}

static bool is_free_tss(const struct x86_cpu *c, unsigned type)
{
    return type == DESC_TSS32 || (type == DESC_TSS16 && !c->long_mode);
}

void x86_load_ldtr(struct x86_cpu *c, uint16_t selector)
{
    if (selector_null(selector)) {
        c->s.ldtr = x86_null_segment(selector);
        return;
    }
    struct x86_descriptor d;
    uint64_t base;
    need_system(c, selector, is_ldt, &d, &base);
    c->s.ldtr = x86_descriptor_segment(&d, selector);
    c->s.ldtr.base = base;
}

void x86_load_tr(struct x86_cpu *c, uint16_t selector)
{
    if (selector_null(selector))
        x86_raise_gp0(c);
    struct x86_descriptor d;
    uint64_t base;
    need_system(c, selector, is_free_tss, &d, &base);
    x86_descriptor_set(c, &d, 2); /* busy */
    c->s.tr = x86_descriptor_segment(&d, selector);
    c->s.tr.base = base;
}

/*
 * Hardware task switches: the old task's registers go into its TSS, the new one's come out of its
 * own (SDM 3, 7.3).
 *
 * Until commit() nothing but memory has changed, and faults are the old task's. What follows runs
 * as the new task.
 */
#include "x86/task.h"

#include "x86/access.h"
#include "x86/debug.h"
#include "x86/descriptor.h"
#include "x86/exception.h"
#include "x86/far.h"
#include "x86/paging.h"
#include "x86/segment.h"
#include "x86/sem/op.h"

enum cause { JUMP, CALL, RETURN, GATE };

/* Offsets in a TSS (SDM 3, figures 7-2 and 7-10); fields of the 32-bit one are four bytes wide, of
 * the 16-bit one two. 0: it has no such field. */
struct layout {
    uint8_t width, last; /* last: the least limit */
    uint8_t cr3, ip, flags, gpr, segments, ldt, trap;
    uint8_t segment_count;
};
static const struct layout layout16 = {2, 43, 0, 14, 16, 18, 34, 42, 0, 4};
static const struct layout layout32 = {4, 103, 28, 32, 36, 40, 72, 96, 100, 6};

/* A TSS's dynamic fields. */
struct image {
    uint32_t cr3, ip, flags, gpr[8];
    uint16_t selector[X86_SEG_COUNT], ldt;
    bool trap;
};

struct task_switch {
    enum cause cause;
    uint32_t ext;
    struct x86_descriptor d;
    struct x86_segment tss;
    const struct layout *layout;
    struct image image;
};

static const struct layout *layout_of(uint32_t attr)
{
    return attr & 8 ? &layout32 : &layout16;
}

static uint32_t field_read(struct x86_cpu *c, const struct x86_segment *tss, unsigned at,
                           unsigned size)
{
    return (uint32_t)x86_sys_read(c, (uint32_t)(tss->base + at), size);
}

static void field_write(struct x86_cpu *c, const struct x86_segment *tss, unsigned at,
                        unsigned size, uint32_t v)
{
    x86_sys_write(c, (uint32_t)(tss->base + at), size, v);
}

/* ---- the new task's TSS ---- */

static void find_tss(struct x86_cpu *c, struct task_switch *t, uint16_t selector)
{
    unsigned vector = t->cause == RETURN ? X86_TS : X86_GP;
    uint32_t error = x86_selector_error(selector, t->ext);
    if (selector_null(selector) || (selector & SELECTOR_TI))
        x86_raise_error(c, vector, error);
    x86_descriptor_need(c, selector, vector, t->ext, &t->d);
    unsigned busy = t->cause == RETURN ? 2 : 0;
    unsigned type = desc_type(&t->d);
    if (desc_is_segment(&t->d) || (type != (DESC_TSS16 | busy) && type != (DESC_TSS32 | busy)))
        x86_raise_error(c, vector, error);
    if (!desc_present(&t->d))
        x86_raise_error(c, X86_NP, error);
    t->tss = x86_descriptor_segment(&t->d, selector);
    t->layout = layout_of(t->tss.attr);
    if (t->tss.limit < t->layout->last)
        x86_raise_error(c, X86_TS, error);
}

static void read_image(struct x86_cpu *c, struct task_switch *t)
{
    const struct layout *l = t->layout;
    struct image *m = &t->image;
    if (l->cr3)
        m->cr3 = field_read(c, &t->tss, l->cr3, 4);
    m->ip = field_read(c, &t->tss, l->ip, l->width);
    m->flags = field_read(c, &t->tss, l->flags, l->width);
    for (unsigned i = 0; i < 8; i++)
        m->gpr[i] = field_read(c, &t->tss, l->gpr + i * l->width, l->width);
    for (unsigned i = 0; i < l->segment_count; i++)
        m->selector[i] = (uint16_t)field_read(c, &t->tss, l->segments + i * l->width, 2);
    m->ldt = (uint16_t)field_read(c, &t->tss, l->ldt, 2);
    if (l->trap)
        m->trap = field_read(c, &t->tss, l->trap, 2) & 1;
}

/* ---- the old task's TSS ---- */

static void save_old(struct x86_cpu *c, uint64_t flags)
{
    const struct x86_segment *tr = &c->s.tr;
    const struct layout *l = layout_of(tr->attr);
    if (tr->limit < l->last)
        x86_raise_error(c, X86_TS, x86_selector_error(tr->selector, 0));
    field_write(c, tr, l->ip, l->width, (uint32_t)c->s.rip);
    field_write(c, tr, l->flags, l->width, (uint32_t)flags);
    for (unsigned i = 0; i < 8; i++)
        field_write(c, tr, l->gpr + i * l->width, l->width, (uint32_t)c->s.gpr[i]);
    for (unsigned i = 0; i < l->segment_count; i++)
        field_write(c, tr, l->segments + i * l->width, 2, c->s.seg[i].selector);
}

static void release_old(struct x86_cpu *c)
{
    struct x86_descriptor d;
    if (!selector_null(c->s.tr.selector) && x86_descriptor_read(c, c->s.tr.selector, &d))
        x86_descriptor_clear_busy(c, &d);
}

/* ---- the switch ---- */

/* Bits of EFLAGS that exist. */
enum { EFLAGS_ALL = 0x3f7fd7 };

/* Every register from the image; segment registers get their selectors only, and can't be used
 * until their descriptors are loaded. */
static void commit(struct x86_cpu *c, struct task_switch *t)
{
    const struct image *m = &t->image;
    uint64_t flags = m->flags & EFLAGS_ALL;
    if (t->cause == CALL || t->cause == GATE)
        flags |= FLAG_NT;
    for (unsigned i = 0; i < 8; i++)
        c->s.gpr[i] = t->layout->width == 2 ? (c->s.gpr[i] & 0xffff0000) | m->gpr[i] : m->gpr[i];
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        c->s.seg[i] = x86_null_segment(m->selector[i]);
    unsigned cpl = m->selector[X86_CS] & SELECTOR_RPL;
    c->s.seg[X86_CS].attr |= SEG_CODE | SEG_S | (t->layout->width == 4 ? SEG_DB : 0);
    c->s.seg[X86_SS].attr |= cpl << SEG_DPL_SHIFT;
    c->s.rip = m->ip;
    c->s.tr = t->tss;
    c->s.tr.attr |= 2;
    c->s.cr0 |= CR0_TS;
    c->s.dr[7] &= ~UINT64_C(0x155); /* L0 to L3, LE: local to the task */
    x86_set_rflags(c, flags);
    x86_update_mode(c);
    c->task_switched = true;
}

/* ---- as the new task: descriptors, from the outside in ---- */

static void load_cr3(struct x86_cpu *c, const struct task_switch *t)
{
    if (!t->layout->cr3 || !c->paging)
        return;
    if (!x86_load_pdptes(c, t->image.cr3, c->s.cr0, c->s.cr4))
        x86_raise_error(c, X86_GP, t->ext);
    c->s.cr3 = t->image.cr3;
    x86_tlb_flush(c);
    if (c->mappings_changed)
        c->mappings_changed(c);
}

static void load_ldt(struct x86_cpu *c, const struct task_switch *t)
{
    uint16_t selector = t->image.ldt;
    uint32_t error = x86_selector_error(selector, t->ext);
    c->s.ldtr = x86_null_segment(selector);
    if (selector_null(selector))
        return;
    struct x86_descriptor d;
    if (selector & SELECTOR_TI)
        x86_raise_error(c, X86_TS, error);
    x86_descriptor_need(c, selector, X86_TS, t->ext, &d);
    if (desc_is_segment(&d) || desc_type(&d) != DESC_LDT || !desc_present(&d))
        x86_raise_error(c, X86_TS, error);
    c->s.ldtr = x86_descriptor_segment(&d, selector);
}

static void load_code(struct x86_cpu *c, const struct task_switch *t)
{
    uint16_t selector = t->image.selector[X86_CS];
    uint32_t error = x86_selector_error(selector, t->ext);
    unsigned rpl = selector & SELECTOR_RPL;
    struct x86_descriptor d;
    if (selector_null(selector))
        x86_raise_error(c, X86_TS, error);
    x86_descriptor_need(c, selector, X86_TS, t->ext, &d);
    bool level_ok = desc_is_conforming(&d) ? desc_dpl(&d) <= rpl : desc_dpl(&d) == rpl;
    if (!desc_is_code(&d) || !level_ok)
        x86_raise_error(c, X86_TS, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, error);
    x86_descriptor_set(c, &d, SEG_ACCESSED);
    c->s.seg[X86_CS] = x86_descriptor_segment(&d, selector);
}

static void load_data(struct x86_cpu *c, const struct task_switch *t, unsigned seg)
{
    uint16_t selector = t->image.selector[seg];
    uint32_t error = x86_selector_error(selector, t->ext);
    if (selector_null(selector))
        return;
    struct x86_descriptor d;
    x86_descriptor_need(c, selector, X86_TS, t->ext, &d);
    unsigned dpl = desc_dpl(&d), rpl = selector & SELECTOR_RPL;
    bool level_ok = desc_is_conforming(&d) || (dpl >= c->cpl && dpl >= rpl);
    if (!desc_is_readable(&d) || !level_ok)
        x86_raise_error(c, X86_TS, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, error);
    x86_descriptor_set(c, &d, SEG_ACCESSED);
    c->s.seg[seg] = x86_descriptor_segment(&d, selector);
}

static void load_segments(struct x86_cpu *c, const struct task_switch *t)
{
    if (x86_v86(c)) {
        for (unsigned i = 0; i < X86_SEG_COUNT; i++)
            c->s.seg[i] = x86_v86_segment(t->image.selector[i]);
        x86_update_mode(c);
        return;
    }
    load_code(c, t);
    const struct x86_stack_rules rules = {.vector = X86_TS, .ext = t->ext, .cpl = c->cpl};
    c->s.seg[X86_SS] = x86_check_stack_segment(c, t->image.selector[X86_SS], &rules);
    static const uint8_t data[] = {X86_DS, X86_ES, X86_FS, X86_GS};
    for (unsigned i = 0; i < ARRAY_LEN(data); i++)
        load_data(c, t, data[i]);
    x86_update_mode(c);
}

static void begin_task(struct x86_cpu *c, const struct task_switch *t)
{
    load_cr3(c, t);
    load_ldt(c, t);
    load_segments(c, t);
    x86_need_target(c, &c->s.seg[X86_CS], c->s.rip, t->ext);
}

static void end_switch(struct x86_cpu *c, const struct task_switch *t)
{
    c->task_switched = false;
    x86_debug_rearm(c);
    if (t->image.trap) {
        x86_debug_record(c, DR6_BT);
        x86_deliver(c, X86_HARDWARE_EXCEPTION, X86_DB, false, 0);
    }
}

static void switch_task(struct x86_cpu *c, struct task_switch *t, uint16_t selector,
                        uint64_t old_flags)
{
    find_tss(c, t, selector);
    read_image(c, t);
    if (t->cause == RETURN)
        old_flags &= ~(uint64_t)FLAG_NT;
    save_old(c, old_flags);
    if (t->cause == CALL || t->cause == GATE)
        field_write(c, &t->tss, 0, 2, c->s.tr.selector);
    if (t->cause == JUMP || t->cause == RETURN)
        release_old(c);
    if (t->cause != RETURN)
        x86_descriptor_set(c, &t->d, 2);
    if (c->s.rflags & FLAG_TF)
        c->debug_hits |= X86_DEBUG_NO_STEP;
    commit(c, t);
    begin_task(c, t);
}

void x86_task_jump(struct x86_cpu *c, uint16_t selector)
{
    struct task_switch t = {.cause = JUMP};
    switch_task(c, &t, selector, x86_rflags(c));
    end_switch(c, &t);
}

void x86_task_call(struct x86_cpu *c, uint16_t selector)
{
    struct task_switch t = {.cause = CALL};
    switch_task(c, &t, selector, x86_rflags(c));
    end_switch(c, &t);
}

void x86_task_return(struct x86_cpu *c)
{
    struct task_switch t = {.cause = RETURN};
    if ((c->s.tr.attr & SEG_UNUSABLE) || c->s.tr.limit < 1)
        x86_raise_error(c, X86_TS, x86_selector_error(c->s.tr.selector, 0));
    uint16_t link = (uint16_t)field_read(c, &c->s.tr, 0, 2);
    switch_task(c, &t, link, x86_rflags(c));
    end_switch(c, &t);
}

void x86_task_gate(struct x86_cpu *c, uint16_t selector, uint64_t flags, bool has_error,
                   uint32_t error, uint32_t ext)
{
    struct task_switch t = {.cause = GATE, .ext = ext};
    switch_task(c, &t, selector, flags);
    if (has_error) {
        uint64_t sp = x86_stack_pointer(c);
        x86_push_at(c, &sp, t.layout->width, error);
        x86_stack_commit(c, sp);
    }
    end_switch(c, &t);
}

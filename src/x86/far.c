/*
 * Far JMP and CALL: directly, through call gates, to tasks.
 */
#include "x86/far.h"

#include "x86/access.h"
#include "x86/newstack.h"
#include "x86/segment.h"
#include "x86/sem/op.h"
#include "x86/task.h"

static bool code_is_long(const struct x86_cpu *c, const struct x86_segment *cs)
{
    return c->long_mode && (cs->attr & SEG_L);
}

void x86_need_target(struct x86_cpu *c, const struct x86_segment *cs, uint64_t offset, uint32_t ext)
{
    if (code_is_long(c, cs) ? !x86_canonical(offset) : offset > cs->limit)
        x86_raise_error(c, X86_GP, ext);
}

void x86_need_code_mode(struct x86_cpu *c, const struct x86_descriptor *d, uint32_t error)
{
    if (c->long_mode && (desc_attr(d) & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
        x86_raise_error(c, X86_GP, error);
}

static void enter(struct x86_cpu *c, const struct x86_segment *cs, uint64_t offset)
{
    c->s.seg[X86_CS] = *cs;
    c->s.rip = offset;
    x86_update_mode(c);
}

/* Pushes CS and RIP on the stack in use. */
static void push_return(struct x86_cpu *c, unsigned size)
{
    uint64_t sp = x86_stack_pointer(c);
    x86_push_at(c, &sp, size, c->s.seg[X86_CS].selector);
    x86_push_at(c, &sp, size, c->s.rip);
    x86_stack_commit(c, sp);
}

/* ---- real and virtual-8086 mode ---- */

static void transfer_real(struct x86_cpu *c, uint16_t selector, uint64_t offset, unsigned size,
                          bool call)
{
    struct x86_segment cs =
        x86_v86(c) ? x86_v86_segment(selector) : x86_real_segment(&c->s.seg[X86_CS], selector);
    x86_need_target(c, &cs, offset, 0);
    if (call)
        push_return(c, size);
    enter(c, &cs, offset);
}

/* ---- protected mode: to a code segment at the same level ---- */

/* The level that a code segment may be entered from is its own, or any outer one if it is
 * conforming. */
static bool same_level_ok(const struct x86_cpu *c, const struct x86_descriptor *d)
{
    return desc_is_conforming(d) ? desc_dpl(d) <= c->cpl : desc_dpl(d) == c->cpl;
}

static struct x86_segment finish_code(struct x86_cpu *c, struct x86_descriptor *d, unsigned cpl)
{
    x86_descriptor_set(c, d, SEG_ACCESSED);
    return x86_descriptor_segment(d, (uint16_t)((d->selector & ~SELECTOR_RPL) | cpl));
}

static void transfer_direct(struct x86_cpu *c, struct x86_descriptor *d, uint64_t offset,
                            unsigned size, bool call)
{
    uint32_t error = x86_selector_error(d->selector, 0);
    x86_need_code_mode(c, d, error);
    bool rpl_ok = desc_is_conforming(d) || (d->selector & SELECTOR_RPL) <= c->cpl;
    if (!rpl_ok || !same_level_ok(c, d))
        x86_raise_error(c, X86_GP, error);
    if (!desc_present(d))
        x86_raise_error(c, X86_NP, error);
    struct x86_segment cs = finish_code(c, d, c->cpl);
    x86_need_target(c, &cs, offset, 0);
    if (call)
        push_return(c, size);
    enter(c, &cs, offset);
}

/* ---- call gates ---- */

struct call_gate {
    uint16_t selector;
    uint64_t offset;
    unsigned size;       /* of what is pushed */
    unsigned parameters; /* copied, each of that size */
};

static struct call_gate read_call_gate(struct x86_cpu *c, const struct x86_descriptor *d)
{
    struct call_gate g = {.selector = gate_selector(d),
                          .offset = gate_offset(d),
                          .size = desc_type(d) & 8 ? 4 : 2,
                          .parameters = d->raw >> 32 & 0x1f};
    if (c->long_mode) {
        uint64_t upper;
        if (!x86_descriptor_read_upper(c, d, &upper) || (upper >> 40 & 0x1f))
            x86_raise_error(c, X86_GP, x86_selector_error(d->selector, 0));
        g.offset |= upper << 32;
        g.size = 8;
        g.parameters = 0;
    } else if (g.size == 2) {
        g.offset = (uint16_t)g.offset;
    }
    return g;
}

/* The gate's code segment. */
static void gate_target(struct x86_cpu *c, const struct call_gate *g, struct x86_descriptor *d)
{
    uint32_t error = x86_selector_error(g->selector, 0);
    if (selector_null(g->selector))
        x86_raise_gp0(c);
    x86_descriptor_need(c, g->selector, X86_GP, 0, d);
    if (!desc_is_code(d) || desc_dpl(d) > c->cpl)
        x86_raise_error(c, X86_GP, error);
    if (c->long_mode && (desc_attr(d) & (SEG_L | SEG_DB)) != SEG_L)
        x86_raise_error(c, X86_GP, error);
}

static void jump_gate(struct x86_cpu *c, const struct call_gate *g)
{
    struct x86_descriptor d;
    gate_target(c, g, &d);
    if (!same_level_ok(c, &d))
        x86_raise_error(c, X86_GP, x86_selector_error(g->selector, 0));
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, x86_selector_error(g->selector, 0));
    struct x86_segment cs = finish_code(c, &d, c->cpl);
    x86_need_target(c, &cs, g->offset, 0);
    enter(c, &cs, g->offset);
}

/* Parameters lie on the caller's stack, the last pushed first. */
static void copy_parameters(struct x86_cpu *c, const struct call_gate *g, struct x86_new_stack *st)
{
    uint32_t values[31];
    uint64_t sp = x86_stack_pointer(c);
    for (unsigned i = 0; i < g->parameters; i++)
        values[i] = (uint32_t)x86_pop_at(c, &sp, g->size);
    for (unsigned i = g->parameters; i > 0; i--)
        x86_new_stack_push(c, st, g->size, values[i - 1]);
}

static void call_inner(struct x86_cpu *c, const struct call_gate *g, struct x86_descriptor *d)
{
    unsigned cpl = desc_dpl(d);
    struct x86_new_stack st = x86_new_stack_inner(c, cpl, 0, 0);
    x86_new_stack_need(c, &st, 4 + g->parameters, g->size);
    struct x86_segment cs = finish_code(c, d, cpl);
    x86_need_target(c, &cs, g->offset, 0);
    x86_new_stack_push(c, &st, g->size, c->s.seg[X86_SS].selector);
    x86_new_stack_push(c, &st, g->size, c->s.gpr[X86_RSP]);
    copy_parameters(c, g, &st);
    x86_new_stack_push(c, &st, g->size, c->s.seg[X86_CS].selector);
    x86_new_stack_push(c, &st, g->size, c->s.rip);
    x86_new_stack_commit(c, &st);
    enter(c, &cs, g->offset);
}

static void call_same(struct x86_cpu *c, const struct call_gate *g, struct x86_descriptor *d)
{
    struct x86_segment cs = finish_code(c, d, c->cpl);
    x86_need_target(c, &cs, g->offset, 0);
    push_return(c, g->size);
    enter(c, &cs, g->offset);
}

static void call_gate(struct x86_cpu *c, const struct call_gate *g)
{
    struct x86_descriptor d;
    gate_target(c, g, &d);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, x86_selector_error(g->selector, 0));
    if (!desc_is_conforming(&d) && desc_dpl(&d) < c->cpl)
        call_inner(c, g, &d);
    else
        call_same(c, g, &d);
}

/* ---- system descriptors as targets ---- */

static bool is_call_gate(const struct x86_cpu *c, unsigned type)
{
    return type == DESC_CALL_GATE32 || (type == DESC_CALL_GATE16 && !c->long_mode);
}

static bool is_task_target(const struct x86_cpu *c, unsigned type)
{
    return !c->long_mode && (type == DESC_TASK_GATE || type == DESC_TSS16 || type == DESC_TSS32);
}

static void transfer_system(struct x86_cpu *c, const struct x86_descriptor *d, bool call)
{
    uint32_t error = x86_selector_error(d->selector, 0);
    unsigned type = desc_type(d);
    if (!is_call_gate(c, type) && !is_task_target(c, type))
        x86_raise_error(c, X86_GP, error);
    if (desc_dpl(d) < c->cpl || desc_dpl(d) < (d->selector & SELECTOR_RPL))
        x86_raise_error(c, X86_GP, error);
    if (!desc_present(d))
        x86_raise_error(c, X86_NP, error);
    if (is_call_gate(c, type)) {
        struct call_gate g = read_call_gate(c, d);
        (call ? call_gate : jump_gate)(c, &g);
    } else {
        uint16_t tss = type == DESC_TASK_GATE ? gate_selector(d) : d->selector;
        (call ? x86_task_call : x86_task_jump)(c, tss);
    }
}

static void transfer(struct x86_cpu *c, uint16_t selector, uint64_t offset, unsigned size,
                     bool call)
{
    if (!x86_protected(c)) {
        transfer_real(c, selector, offset, size, call);
        return;
    }
    if (selector_null(selector))
        x86_raise_gp0(c);
    struct x86_descriptor d;
    x86_descriptor_need(c, selector, X86_GP, 0, &d);
    if (desc_is_code(&d))
        transfer_direct(c, &d, offset, size, call);
    else if (!desc_is_segment(&d))
        transfer_system(c, &d, call);
    else
        x86_raise_error(c, X86_GP, x86_selector_error(selector, 0));
}

void x86_far_jump(struct x86_cpu *c, uint16_t selector, uint64_t offset, unsigned size)
{
    transfer(c, selector, offset, size, false);
}

void x86_far_call(struct x86_cpu *c, uint16_t selector, uint64_t offset, unsigned size)
{
    transfer(c, selector, offset, size, true);
}

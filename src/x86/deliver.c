/*
 * Delivery of one event through the interrupt vector table or the IDT (SDM 3, 6.10 to 6.14; SDM 2,
 * INT n, "Operation").
 *
 * Everything that can fault comes first: a fault leaves the registers as they were.
 */
#include "x86/access.h"
#include "x86/debug.h"
#include "x86/exception.h"
#include "x86/far.h"
#include "x86/newstack.h"
#include "x86/segment.h"
#include "x86/sem/op.h"
#include "x86/task.h"

static bool is_software(const struct x86_event *e)
{
    return e->type == X86_SOFTWARE_INTERRUPT || e->type == X86_SOFTWARE_EXCEPTION;
}

/* ERROR_EXT for what the program didn't ask for (SDM 3, 6.13). */
static uint32_t ext_of(const struct x86_event *e)
{
    return is_software(e) ? 0 : ERROR_EXT;
}

/* RFLAGS as the handler finds it on its stack: RF says that an instruction breakpoint on the
 * faulting instruction is not to be taken again (SDM 3, 17.3.1.1). */
static uint64_t saved_flags(const struct x86_cpu *c, const struct x86_event *e)
{
    uint64_t f = x86_rflags(c);
    if (is_software(e))
        f &= ~(uint64_t)FLAG_RF;
    return e->fault ? f | FLAG_RF : f;
}

static void enter_handler(struct x86_cpu *c, uint64_t cleared)
{
    c->s.rflags &= ~(cleared | FLAG_TF | FLAG_RF);
    x86_update_mode(c);
}

/* ---- real mode, and what virtual-8086 mode redirects to the 8086 program ---- */

static void real_vector(struct x86_cpu *c, uint64_t table, unsigned vector, uint64_t flags,
                        uint64_t cleared)
{
    uint32_t entry = (uint32_t)x86_sys_read(c, (uint32_t)(table + vector * 4), 4);
    uint64_t sp = x86_stack_pointer(c);
    x86_push_at(c, &sp, 2, (uint16_t)flags);
    x86_push_at(c, &sp, 2, c->s.seg[X86_CS].selector);
    x86_push_at(c, &sp, 2, (uint16_t)c->s.rip);
    struct x86_segment *cs = &c->s.seg[X86_CS];
    if ((uint16_t)entry > cs->limit)
        x86_raise_error(c, X86_GP, 0);
    x86_stack_commit(c, sp);
    *cs = x86_v86(c) ? x86_v86_segment((uint16_t)(entry >> 16))
                     : x86_real_segment(cs, (uint16_t)(entry >> 16));
    c->s.rip = (uint16_t)entry;
    enter_handler(c, cleared);
}

static void deliver_real(struct x86_cpu *c, const struct x86_event *e)
{
    if (e->vector * 4u + 3 > c->s.idtr.limit)
        x86_raise_error(c, X86_GP, e->vector * 8u | ERROR_IDT | ext_of(e));
    real_vector(c, c->s.idtr.base, e->vector, saved_flags(c, e), FLAG_IF | FLAG_AC);
}

/* INT n under CR4.VME: whether the bitmap below the TSS's I/O bitmap sends the vector to the 8086
 * program (bit clear) rather than to the monitor (SDM 3, 20.3.3). */
static bool redirected(struct x86_cpu *c, unsigned vector)
{
    const struct x86_segment *tr = &c->s.tr;
    if (!(c->s.cr4 & CR4_VME) || tr->limit < 103)
        return false;
    uint32_t map = (uint32_t)x86_sys_read(c, (uint32_t)(tr->base + 102), 2);
    uint32_t at = map - 32 + vector / 8;
    if (map < 32 || at > tr->limit)
        x86_raise_gp0(c);
    uint8_t bits = (uint8_t)x86_sys_read(c, (uint32_t)(tr->base + at), 1);
    return !(bits >> (vector & 7) & 1);
}

/* INT n in virtual-8086 mode: true when the 8086 program's own table took it (SDM 3, table 20-2).
 */
static bool v86_interrupt(struct x86_cpu *c, unsigned vector)
{
    if (redirected(c, vector)) {
        uint64_t flags = x86_rflags(c);
        uint64_t cleared = FLAG_IF;
        if (x86_iopl(c) < 3) {
            /* The program's IF is VIF, and it believes to have an IOPL of 3. */
            flags = (flags & ~(uint64_t)FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
            cleared = FLAG_VIF;
        }
        real_vector(c, 0, vector, flags, cleared);
        return true;
    }
    if (x86_iopl(c) < 3)
        x86_raise_gp0(c);
    return false;
}

/* ---- gates ---- */

struct gate_entry {
    uint64_t offset;
    uint16_t selector;
    unsigned size;  /* of a push: 2, 4 or 8 */
    unsigned ist;   /* long mode */
    bool interrupt; /* clears IF */
    bool task;
};

static bool gate_type_ok(const struct x86_cpu *c, unsigned type)
{
    switch (type) {
    case DESC_INTERRUPT_GATE32:
    case DESC_TRAP_GATE32: return true;
    case DESC_TASK_GATE:
    case DESC_INTERRUPT_GATE16:
    case DESC_TRAP_GATE16: return !c->long_mode;
    default: return false;
    }
}

/* Reads and checks the vector's gate. */
static struct gate_entry read_gate(struct x86_cpu *c, const struct x86_event *e)
{
    unsigned entry_size = c->long_mode ? 16 : 8;
    uint32_t at = e->vector * entry_size;
    uint32_t error = e->vector * 8u | ERROR_IDT | ext_of(e);
    if (at + entry_size - 1 > c->s.idtr.limit)
        x86_raise_error(c, X86_GP, error);
    uint64_t lin = c->s.idtr.base + at;
    struct x86_descriptor d = {.at = c->long_mode ? lin : (uint32_t)lin};
    d.raw = x86_sys_read(c, d.at, 8);
    if (desc_is_segment(&d) || !gate_type_ok(c, desc_type(&d)))
        x86_raise_error(c, X86_GP, error);
    if (is_software(e) && desc_dpl(&d) < c->cpl)
        x86_raise_error(c, X86_GP, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, error);

    struct gate_entry g = {.offset = gate_offset(&d),
                           .selector = gate_selector(&d),
                           .size = desc_type(&d) & 8 ? 4 : 2,
                           .interrupt = !(desc_type(&d) & 1),
                           .task = desc_type(&d) == DESC_TASK_GATE};
    if (c->long_mode) {
        g.offset |= x86_sys_read(c, d.at + 8, 4) << 32;
        g.size = 8;
        g.ist = d.raw >> 32 & 7;
    } else if (g.size == 2) {
        g.offset = (uint16_t)g.offset;
    }
    return g;
}

/* The handler's code segment, checked; *cpl is the level that it runs at. */
static struct x86_segment handler_code(struct x86_cpu *c, const struct gate_entry *g, uint32_t ext,
                                       unsigned *cpl)
{
    uint32_t error = x86_selector_error(g->selector, ext);
    struct x86_descriptor d;
    if (selector_null(g->selector))
        x86_raise_error(c, X86_GP, ext);
    x86_descriptor_need(c, g->selector, X86_GP, ext, &d);
    if (!desc_is_code(&d) || desc_dpl(&d) > c->cpl)
        x86_raise_error(c, X86_GP, error);
    if (c->long_mode && (desc_attr(&d) & (SEG_L | SEG_DB)) != SEG_L)
        x86_raise_error(c, X86_GP, error);
    if (!desc_present(&d))
        x86_raise_error(c, X86_NP, error);
    *cpl = desc_is_conforming(&d) ? c->cpl : desc_dpl(&d);
    if (x86_v86(c) && *cpl != 0)
        x86_raise_error(c, X86_GP, error);
    x86_descriptor_set(c, &d, SEG_ACCESSED);
    return x86_descriptor_segment(&d, (uint16_t)((g->selector & ~SELECTOR_RPL) | *cpl));
}

static void push_v86_segments(struct x86_cpu *c, struct x86_new_stack *st, unsigned size)
{
    static const uint8_t order[] = {X86_GS, X86_FS, X86_DS, X86_ES};
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        x86_new_stack_push(c, st, size, c->s.seg[order[i]].selector);
}

static void drop_v86_segments(struct x86_cpu *c)
{
    static const uint8_t order[] = {X86_GS, X86_FS, X86_DS, X86_ES};
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        c->s.seg[order[i]] = x86_null_segment(0);
}

static void deliver_gate(struct x86_cpu *c, const struct x86_event *e, const struct gate_entry *g)
{
    uint32_t ext = ext_of(e);
    bool v86 = x86_v86(c);
    uint64_t flags = saved_flags(c, e);
    unsigned cpl;
    struct x86_segment cs = handler_code(c, g, ext, &cpl);
    bool inner = cpl != c->cpl;

    struct x86_new_stack st = inner || g->ist ? x86_new_stack_inner(c, cpl, g->ist, ext)
                                              : x86_new_stack_same(c, c->long_mode, ext);
    bool push_stack = inner || c->long_mode;
    if (c->long_mode)
        st.sp &= ~UINT64_C(15);
    unsigned pushes = 3 + (push_stack ? 2 : 0) + (v86 ? 4 : 0) + e->has_error;
    x86_new_stack_need(c, &st, pushes, g->size);
    x86_need_target(c, &cs, g->offset, ext);

    if (v86)
        push_v86_segments(c, &st, g->size);
    if (push_stack) {
        x86_new_stack_push(c, &st, g->size, c->s.seg[X86_SS].selector);
        x86_new_stack_push(c, &st, g->size, c->s.gpr[X86_RSP]);
    }
    x86_new_stack_push(c, &st, g->size, flags);
    x86_new_stack_push(c, &st, g->size, c->s.seg[X86_CS].selector);
    x86_new_stack_push(c, &st, g->size, c->s.rip);
    if (e->has_error)
        x86_new_stack_push(c, &st, g->size, e->error);

    x86_new_stack_commit(c, &st);
    c->s.seg[X86_CS] = cs;
    c->s.rip = g->offset;
    if (v86)
        drop_v86_segments(c);
    enter_handler(c, FLAG_NT | FLAG_VM | (g->interrupt ? FLAG_IF : 0));
}

void x86_deliver_event(struct x86_cpu *c, const struct x86_event *e)
{
    if (!(c->s.cr0 & CR0_PE)) {
        deliver_real(c, e);
        return;
    }
    if (x86_v86(c) && e->type == X86_SOFTWARE_INTERRUPT && v86_interrupt(c, e->vector))
        return;
    struct gate_entry g = read_gate(c, e);
    if (g.task)
        x86_task_gate(c, g.selector, saved_flags(c, e), e->has_error, e->error, ext_of(e));
    else
        deliver_gate(c, e, &g);
}

void x86_software_interrupt(struct x86_cpu *c, enum x86_event_type type, unsigned vector)
{
    const struct x86_event e = {.type = type, .vector = (uint8_t)vector};
    bool step = c->s.rflags & FLAG_TF;
    x86_deliver_event(c, &e);
    c->debug_hits |= step ? X86_DEBUG_NO_STEP : 0;
}

/*
 * PUSH and POP of registers, operands and immediates, PUSHA POPA, ENTER LEAVE.
 *
 * 64-bit pushes and pops exist in 64-bit mode only, where the stack is flat; the rest goes through
 * x86_push_at() and its like, which know the stack segment.
 */
#include "x86/sem/hot.h"

static void push(struct x86_cpu *c, unsigned size, uint64_t v)
{
    if (likely(size == 8)) {
        uint64_t sp = c->s.gpr[X86_RSP] - 8;
        x86_write64(c, sp, v, X86_SS);
        c->s.gpr[X86_RSP] = sp;
        return;
    }
    uint64_t sp = x86_stack_pointer(c);
    x86_push_at(c, &sp, size, v);
    x86_stack_commit(c, sp);
}

/* What pop would give; *sp gets the stack pointer to commit. */
static uint64_t peek(struct x86_cpu *c, unsigned size, uint64_t *sp)
{
    *sp = x86_stack_pointer(c);
    return x86_pop_at(c, sp, size);
}

static COLD const struct op *general_push_r(struct x86_cpu *c, const struct op *op)
{
    push(c, op->size, gpr_read(c, op->rm, op->size));
    return op + 1;
}

static const struct op *op_push_r(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp = c->s.gpr[X86_RSP] - 8;
    void *p = stack_host(c, sp, true);
    if (unlikely(op->size != 8 || !p))
        return general_push_r(c, op);
    store_u64(p, c->s.gpr[op->rm]);
    c->s.gpr[X86_RSP] = sp;
    OP_NEXT(c, op + 1);
}
const struct sem push_r_sem = {.any = op_push_r};

static COLD const struct op *general_pop_r(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp, v = peek(c, op->size, &sp);
    x86_stack_commit(c, sp);
    gpr_write(c, op->rm, op->size, v); /* POP RSP: the popped value wins */
    return op + 1;
}

static const struct op *op_pop_r(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp = c->s.gpr[X86_RSP];
    const void *p = stack_host(c, sp, false);
    if (unlikely(op->size != 8 || !p))
        return general_pop_r(c, op);
    c->s.gpr[X86_RSP] = sp + 8;
    c->s.gpr[op->rm] = load_u64(p);
    OP_NEXT(c, op + 1);
}
const struct sem pop_r_sem = {.any = op_pop_r};

OP(push_rm)
{
    push(c, op->size, op_rm_read(c, op, op->size));
}

OP(push_i)
{
    push(c, op->size, op->imm);
}

/* The operand's address is computed with the stack pointer already moved (SDM 2, POP), but a fault
 * must leave it as it was. */
OP(pop_rm)
{
    uint64_t sp, v = peek(c, op->size, &sp);
    if (op->ea == EA_REG) {
        x86_stack_commit(c, sp);
        gpr_write(c, op->rm, op->size, v);
        return;
    }
    uint64_t before = c->s.gpr[X86_RSP];
    x86_stack_commit(c, sp);
    uint64_t after = c->s.gpr[X86_RSP], offset = op_offset(c, op);
    c->s.gpr[X86_RSP] = before;
    uint64_t lin = x86_linear(c, op->seg, offset, op->size, X86_WRITE);
    lin_write_size(c, lin, op->seg, v, op->size);
    c->s.gpr[X86_RSP] = after;
}

OP(pusha)
{
    uint64_t sp = x86_stack_pointer(c);
    for (unsigned r = X86_RAX; r <= X86_RDI; r++) /* SP is pushed as it was before */
        x86_push_at(c, &sp, op->size, gpr_read(c, r, op->size));
    x86_stack_commit(c, sp);
}

OP(popa)
{
    uint64_t sp = x86_stack_pointer(c), v[8];
    for (int r = X86_RDI; r >= X86_RAX; r--)
        v[r] = x86_pop_at(c, &sp, op->size);
    x86_stack_commit(c, sp);
    for (unsigned r = X86_RAX; r <= X86_RDI; r++)
        if (r != X86_RSP)
            gpr_write(c, r, op->size, v[r]);
}

/* The size of the stack pointer, in bytes: what ENTER and LEAVE move between RBP and RSP. */
static unsigned stack_size(const struct x86_cpu *c)
{
    return c->code == X86_CODE64 ? 8 : c->stack32 ? 4 : 2;
}

/* op->imm: bytes to allocate, and the nesting level from bit 32 on. */
OP(enter)
{
    unsigned level = op->imm >> 32 & 31, width = stack_size(c);
    uint16_t allocate = (uint16_t)op->imm;
    uint64_t sp = x86_stack_pointer(c), bp = c->s.gpr[X86_RBP];
    x86_push_at(c, &sp, op->size, gpr_read(c, X86_RBP, op->size));
    uint64_t frame = sp;
    for (unsigned i = 1; i < level; i++) {
        bp -= op->size;
        uint64_t at = cut(bp, width * 8);
        uint64_t lin = x86_linear(c, X86_SS, at, op->size, X86_READ);
        x86_push_at(c, &sp, op->size, lin_read_size(c, lin, X86_SS, op->size));
    }
    if (level)
        x86_push_at(c, &sp, op->size, frame);
    sp = cut(sp - allocate, width * 8);
    /* A later push to the new top must be possible: the manual has ENTER fault for it. */
    x86_probe_write(c, x86_linear(c, X86_SS, sp, op->size, X86_WRITE), op->size, X86_SS);
    x86_stack_commit(c, sp);
    gpr_write(c, X86_RBP, op->size == 2 ? 2 : width, frame);
}

static COLD const struct op *general_leave(struct x86_cpu *c, const struct op *op)
{
    unsigned width = stack_size(c);
    uint64_t sp = gpr_read(c, X86_RBP, width);
    uint64_t v = x86_pop_at(c, &sp, op->size);
    x86_stack_commit(c, sp);
    gpr_write(c, X86_RBP, op->size, v);
    return op + 1;
}

static const struct op *op_leave(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp = c->s.gpr[X86_RBP];
    const void *p = stack_host(c, sp, false);
    if (unlikely(op->size != 8 || !p))
        return general_leave(c, op);
    c->s.gpr[X86_RBP] = load_u64(p);
    c->s.gpr[X86_RSP] = sp + 8;
    OP_NEXT(c, op + 1);
}
const struct sem leave_sem = {.any = op_leave};

/* RET outside 64-bit mode, or with a 16-bit operand: pops the target and commits. */
uint64_t x86_ret_slow(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp, to = peek(c, op->size, &sp);
    if (c->code == X86_CODE64 ? !x86_canonical(to) : to > c->s.seg[X86_CS].limit)
        x86_raise_gp0(c);
    x86_stack_commit(c, sp);
    x86_stack_commit(c, x86_stack_pointer(c) + op->imm);
    return to;
}

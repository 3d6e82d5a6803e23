/*
 * Far jumps, calls and returns.
 */
#include "x86/far.h"

#include "x86/sem/op.h"

/* A far pointer in memory: the offset, then the selector. */
static uint64_t far_pointer(struct x86_cpu *c, const struct op *op, uint16_t *selector)
{
    uint8_t bytes[10];
    op_load(c, op, bytes, op->size + 2u);
    *selector = load_u16(bytes + op->size);
    switch (op->size) {
    case 2: return load_u16(bytes);
    case 4: return load_u32(bytes);
    default: return load_u64(bytes);
    }
}

OP_END(jmp_far)
{
    x86_far_jump(c, (uint16_t)(op->imm >> 32), (uint32_t)op->imm, op->size);
}

OP_END(jmp_far_m)
{
    uint16_t selector;
    uint64_t offset = far_pointer(c, op, &selector);
    x86_far_jump(c, selector, offset, op->size);
}

OP_END(call_far)
{
    x86_far_call(c, (uint16_t)(op->imm >> 32), (uint32_t)op->imm, op->size);
}

OP_END(call_far_m)
{
    uint16_t selector;
    uint64_t offset = far_pointer(c, op, &selector);
    x86_far_call(c, selector, offset, op->size);
}

OP_END(retf)
{
    x86_far_return(c, op->size, (uint16_t)op->imm);
}

OP_END(iret)
{
    x86_interrupt_return(c, op->size);
}

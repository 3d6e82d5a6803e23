#include "x86/sem/op.h"

/* Outside 64-bit mode SS.B says how much of RSP is the stack pointer (SDM 1, 6.2.3). */
static uint64_t pointer_mask(const struct x86_cpu *c)
{
    if (c->code == X86_CODE64)
        return UINT64_MAX;
    return c->stack32 ? UINT32_MAX : UINT16_MAX;
}

static uint64_t stack_linear(struct x86_cpu *c, uint64_t sp, unsigned size, unsigned access)
{
    if (c->code == X86_CODE64 || c->flat[X86_SS])
        return sp;
    return x86_linear(c, X86_SS, sp, size, access);
}

uint64_t x86_stack_pointer(const struct x86_cpu *c)
{
    return c->s.gpr[X86_RSP] & pointer_mask(c);
}

void x86_stack_commit(struct x86_cpu *c, uint64_t sp)
{
    if (c->code == X86_CODE64)
        c->s.gpr[X86_RSP] = sp;
    else
        gpr_write(c, X86_RSP, c->stack32 ? 4 : 2, sp);
}

void x86_push_at(struct x86_cpu *c, uint64_t *sp, unsigned size, uint64_t v)
{
    uint64_t to = (*sp - size) & pointer_mask(c);
    uint64_t lin = stack_linear(c, to, size, X86_WRITE);
    switch (size) {
    case 2: x86_write16(c, lin, (uint16_t)v, X86_SS); break;
    case 4: x86_write32(c, lin, (uint32_t)v, X86_SS); break;
    default: x86_write64(c, lin, v, X86_SS); break;
    }
    *sp = to;
}

uint64_t x86_pop_at(struct x86_cpu *c, uint64_t *sp, unsigned size)
{
    uint64_t lin = stack_linear(c, *sp, size, X86_READ);
    uint64_t v;
    switch (size) {
    case 2: v = x86_read16(c, lin, X86_SS); break;
    case 4: v = x86_read32(c, lin, X86_SS); break;
    default: v = x86_read64(c, lin, X86_SS); break;
    }
    *sp = (*sp + size) & pointer_mask(c);
    return v;
}

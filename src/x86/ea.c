#include "x86/sem/op.h"

uint64_t op_linear_slow(struct x86_cpu *c, const struct op *op, unsigned size, unsigned access)
{
    uint64_t offset = op_offset(c, op);
    if (c->code == X86_CODE64) {
        /* Only FS and GS have a base here, nothing has a limit; what is not canonical the access
         * itself finds. */
        return op->seg >= X86_FS ? c->s.seg[op->seg].base + offset : offset;
    }
    if (c->flat[op->seg])
        return (uint32_t)offset;
    return x86_linear(c, op->seg, offset, size, access);
}

void op_load(struct x86_cpu *c, const struct op *op, void *to, unsigned n)
{
    x86_read_bytes(c, op_linear(c, op, n, X86_READ), to, n, op->seg);
}

void op_store(struct x86_cpu *c, const struct op *op, const void *from, unsigned n)
{
    x86_write_bytes(c, op_linear(c, op, n, X86_WRITE), from, n, op->seg);
}

uint64_t op_rm_read(struct x86_cpu *c, const struct op *op, unsigned size)
{
    if (op->ea == EA_REG)
        return gpr_read(c, op->rm, size);
    uint64_t lin = op_linear(c, op, size, X86_READ);
    switch (size) {
    case 1: return x86_read8(c, lin, op->seg);
    case 2: return x86_read16(c, lin, op->seg);
    case 4: return x86_read32(c, lin, op->seg);
    default: return x86_read64(c, lin, op->seg);
    }
}

void op_rm_write(struct x86_cpu *c, const struct op *op, unsigned size, uint64_t v)
{
    if (op->ea == EA_REG) {
        gpr_write(c, op->rm, size, v);
        return;
    }
    uint64_t lin = op_linear(c, op, size, X86_WRITE);
    switch (size) {
    case 1: x86_write8(c, lin, (uint8_t)v, op->seg); break;
    case 2: x86_write16(c, lin, (uint16_t)v, op->seg); break;
    case 4: x86_write32(c, lin, (uint32_t)v, op->seg); break;
    default: x86_write64(c, lin, v, op->seg); break;
    }
}

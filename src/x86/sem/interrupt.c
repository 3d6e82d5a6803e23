/*
 * Interrupts that programs ask for: INT n, INT1, INT3, INTO, BOUND.
 */
#include "x86/exception.h"
#include "x86/sem/op.h"

OP_END(int)
{
    x86_software_interrupt(c, X86_SOFTWARE_INTERRUPT, (uint8_t)op->imm);
}

OP_END(int1)
{
    x86_software_interrupt(c, X86_PRIVILEGED_SOFTWARE_EXCEPTION, X86_DB);
}

OP_END(int3)
{
    x86_software_interrupt(c, X86_SOFTWARE_EXCEPTION, X86_BP);
}

OP_END(into)
{
    if (cc_of(c))
        x86_software_interrupt(c, X86_SOFTWARE_EXCEPTION, X86_OF);
}

/* One of BOUND's two limits, each an access of its own. */
static int64_t read_bound(struct x86_cpu *c, const struct op *op, unsigned i)
{
    uint32_t v = 0, offset = (uint32_t)op_offset(c, op) + i * op->size;
    uint64_t lin = x86_linear(c, op->seg, offset, op->size, X86_READ);
    x86_read_bytes(c, lin, &v, op->size, op->seg);
    return bits_sign_extend(v, op->size * 8);
}

OP(bound)
{
    int64_t lower = read_bound(c, op, 0), upper = read_bound(c, op, 1);
    int64_t index = bits_sign_extend(gpr_read(c, op->reg, op->size), op->size * 8);
    if (index < lower || index > upper)
        x86_raise(c, X86_BR);
}

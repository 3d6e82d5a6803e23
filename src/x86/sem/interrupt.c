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

OP(bound)
{
    unsigned bits = op->size * 8;
    uint64_t lin = op_linear(c, op, 2 * op->size, X86_READ);
    uint32_t pair[2] = {0};
    x86_read_bytes(c, lin, &pair[0], op->size, op->seg);
    x86_read_bytes(c, lin + op->size, &pair[1], op->size, op->seg);
    int64_t index = bits_sign_extend(gpr_read(c, op->reg, op->size), bits);
    int64_t lower = bits_sign_extend(pair[0], bits), upper = bits_sign_extend(pair[1], bits);
    if (index < lower || index > upper)
        x86_raise(c, X86_BR);
}

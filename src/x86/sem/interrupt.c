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
    int32_t index, lower, upper;
    if (op->size == 2) {
        int16_t pair[2];
        op_load(c, op, pair, sizeof pair);
        index = (int16_t)gpr_read(c, op->reg, 2);
        lower = pair[0];
        upper = pair[1];
    } else {
        int32_t pair[2];
        op_load(c, op, pair, sizeof pair);
        index = (int32_t)gpr_read(c, op->reg, 4);
        lower = pair[0];
        upper = pair[1];
    }
    if (index < lower || index > upper)
        x86_raise(c, X86_BR);
}

/*
 * One vector instruction at a time, by the host's processor, on a copy of its operand (bounce.c),
 * and gathers and scatters, element by element in C (gather.c).
 */
#ifndef DOPPEL_ENGINE_BINARY_BOUNCE_H
#define DOPPEL_ENGINE_BINARY_BOUNCE_H

#include "engine/binary/binary.h"
#include "x86/forms.h"
#include "x86/sem/op.h"

/* Gathers and scatters under a mask register. The vector registers are in the state. False: the
 * instruction is to be begun again, with what is left of the mask. */
bool gather_run(struct x86_cpu *c, const struct op *op, const struct x86_insn *insn);

#endif

#ifndef DOPPEL_ENGINE_EMULATE_LOWER_H
#define DOPPEL_ENGINE_EMULATE_LOWER_H

#include "x86/cpu.h"
#include "x86/insn.h"
#include "x86/sem/op.h"

/* Turns a decoded instruction into the operation that does it. code: enum x86_code it was decoded
 * for; end: offset of the next instruction from the block's start. Returns SEM_* flags of its
 * semantics. */
unsigned lower_insn(const struct x86_insn *insn, unsigned code, unsigned end, struct op *op);

/* The same for one that x86_cpu.native executes. */
unsigned lower_native(const struct x86_insn *insn, unsigned code, unsigned end, op_fn *native,
                      struct op *op);

/* An operation that raises #UD, or #GP(0), in the place of an instruction of len bytes (at least 1)
 * that is none. */
void lower_invalid(unsigned len, unsigned end, bool too_long, struct op *op);

#endif

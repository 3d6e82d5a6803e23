/*
 * Far transfers of control: JMP, CALL, RET and IRET to another code segment (SDM 3, 5.8; SDM 2,
 * the four instructions' "Operation").
 *
 * All of them are called at the end of an instruction, with s.rip behind it; they raise faults
 * before they change a register.
 */
#ifndef DOPPEL_X86_FAR_H
#define DOPPEL_X86_FAR_H

#include "x86/cpu.h"
#include "x86/descriptor.h"

/* size is the operand size in bytes; offset is cut to it already. */
void x86_far_jump(struct x86_cpu *c, uint16_t selector, uint64_t offset, unsigned size);
void x86_far_call(struct x86_cpu *c, uint16_t selector, uint64_t offset, unsigned size);

/* RETF; released bytes of parameters are dropped from the stack, from both on a return to an outer
 * level. */
void x86_far_return(struct x86_cpu *c, unsigned size, unsigned released);
void x86_interrupt_return(struct x86_cpu *c, unsigned size);

/* Raises #GP(ext) unless offset may be jumped to in a code segment: inside of its limit, or
 * canonical where it is 64-bit code. */
void x86_need_target(struct x86_cpu *c, const struct x86_segment *cs, uint64_t offset,
                     uint32_t ext);

/* Raises #GP(error) if L and D are both set in long mode. */
void x86_need_code_mode(struct x86_cpu *c, const struct x86_descriptor *d, uint32_t error);

#endif

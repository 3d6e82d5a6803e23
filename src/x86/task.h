/*
 * Hardware task switches (SDM 3, chapter 7). Not in long mode.
 */
#ifndef DOPPEL_X86_TASK_H
#define DOPPEL_X86_TASK_H

#include "x86/cpu.h"

/* JMP and CALL to a TSS or a task gate's TSS: privileges were checked. s.rip is what the old task
 * will resume at. */
void x86_task_jump(struct x86_cpu *c, uint16_t selector);
void x86_task_call(struct x86_cpu *c, uint16_t selector);

/* IRET with NT set: back to the task that the current TSS links to. */
void x86_task_return(struct x86_cpu *c);

/* A task gate in the IDT. flags is what the interrupted task's TSS gets; the error code goes on the
 * new task's stack. */
void x86_task_gate(struct x86_cpu *c, uint16_t selector, uint64_t flags, bool has_error,
                   uint32_t error, uint32_t ext);

#endif

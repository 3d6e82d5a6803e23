/*
 * A stack that is about to become the current one.
 *
 * Interrupts and call gates push on a stack that is not in SS:RSP yet. Pushes go to memory at once;
 * the registers change when the caller commits, so that a fault on the way leaves them alone.
 */
#ifndef DOPPEL_X86_NEWSTACK_H
#define DOPPEL_X86_NEWSTACK_H

#include "x86/cpu.h"

struct x86_new_stack {
    struct x86_segment ss;
    uint64_t sp;
    unsigned cpl;   /* whose rights the pushes have */
    bool long64;    /* 64 bits wide, no segment */
    uint32_t error; /* of the #SS that a push out of bounds raises */
};

/* The stack in use, for a push of a handler at the same level. */
struct x86_new_stack x86_new_stack_same(const struct x86_cpu *c, bool long64, uint32_t ext);

/* The stack that the TSS holds for an inner level (SDM 3, 5.8.5), checked. ist, in long mode, is 0
 * or the number of an interrupt stack. ext is ERROR_EXT or 0. */
struct x86_new_stack x86_new_stack_inner(struct x86_cpu *c, unsigned cpl, unsigned ist,
                                         uint32_t ext);

/* Raises #SS unless n pushes of size bytes fit. */
void x86_new_stack_need(struct x86_cpu *c, const struct x86_new_stack *st, unsigned n,
                        unsigned size);
void x86_new_stack_push(struct x86_cpu *c, struct x86_new_stack *st, unsigned size, uint64_t v);
void x86_new_stack_commit(struct x86_cpu *c, const struct x86_new_stack *st);

/* RSP with the part that a stack segment lets through (SP or ESP) replaced. */
static inline uint64_t x86_stack_merge(const struct x86_segment *ss, uint64_t rsp, uint64_t sp)
{
    return ss->attr & SEG_DB ? (uint32_t)sp : (rsp & ~UINT64_C(0xffff)) | (uint16_t)sp;
}

#endif

/*
 * Segment registers: loading them, and the checks on addresses that go through them (SDM 3,
 * chapters 3 and 5).
 */
#ifndef DOPPEL_X86_SEGMENT_H
#define DOPPEL_X86_SEGMENT_H

#include "x86/cpu.h"
#include "x86/descriptor.h"

/* x86_linear() is declared in sem/op.h, where memory operands need it. */

/* MOV, POP, LDS and their kind: loads ES, SS, DS, FS or GS as the mode has it. Raises the faults
 * (#GP, #NP, #SS), sets the accessed bit and calls x86_update_mode(). */
void x86_load_segment(struct x86_cpu *c, unsigned seg, uint16_t selector);

/* The two halves of it for protected mode, for those who load several registers and must not
 * fault between them: the first checks, sets the accessed bit and says what the register becomes,
 * at privilege cpl. */
struct x86_segment x86_check_data_segment(struct x86_cpu *c, uint16_t selector, unsigned cpl);

/* Who loads a stack segment decides what bad selectors raise. */
struct x86_stack_rules {
    unsigned vector; /* #GP, or #TS where the selector came from a TSS */
    uint32_t ext;    /* ERROR_EXT or 0 */
    unsigned cpl;    /* the privilege level the stack will serve */
    bool null_ok;    /* a null selector may be loaded (64-bit code below CPL 3) */
};
struct x86_segment x86_check_stack_segment(struct x86_cpu *c, uint16_t selector,
                                           const struct x86_stack_rules *rules);

/* What a segment register holds in real mode (a paragraph number changes the base and nothing
 * else), and in virtual-8086 mode. */
struct x86_segment x86_real_segment(const struct x86_segment *old, uint16_t selector);
struct x86_segment x86_v86_segment(uint16_t selector);

/* What a data segment register holds after a null selector was loaded. */
struct x86_segment x86_null_segment(uint16_t selector);

/* Whether the bytes [offset, offset + size) are inside of the segment's limit (SDM 3, 5.3). */
bool x86_inside_limit(const struct x86_segment *s, uint64_t offset, unsigned size);

/* The flat segments that SYSCALL, SYSENTER and their returns load without looking at any table. */
struct x86_segment x86_flat_code(uint16_t selector, unsigned dpl, bool long64);
struct x86_segment x86_flat_stack(uint16_t selector, unsigned dpl);

/* After a return to an outer level: data segments that the new CPL may not use become null. */
void x86_drop_inner_segments(struct x86_cpu *c, unsigned cpl);

/* LLDT and LTR after their privilege checks. */
void x86_load_ldtr(struct x86_cpu *c, uint16_t selector);
void x86_load_tr(struct x86_cpu *c, uint16_t selector);

#endif

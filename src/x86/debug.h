/*
 * Debug exceptions: breakpoints, single steps, DR6 and DR7 (SDM 3, chapter 17).
 *
 * All of it happens between instructions, while X86_REQUEST_STEP is set in c->request: the engine
 * then runs one instruction a block and calls, in this order,
 *
 *   x86_debug_check_fetch()    before the instruction (interrupts come first)
 *   x86_debug_after_insn()     after it, unless it faulted
 *   x86_debug_rearm()          sets the request again if the next instruction needs the look too
 */
#ifndef DOPPEL_X86_DEBUG_H
#define DOPPEL_X86_DEBUG_H

#include "x86/cpu.h"

enum {
    DR6_B = 0xf,
    DR6_BD = 1u << 13,
    DR6_BS = 1u << 14,
    DR6_BT = 1u << 15,
    DR6_FIXED = 0xffff0ff0, /* bits that always read 1 */
    DR7_GD = 1u << 13,
    DR7_FIXED = 1u << 10,
};

/* In c->debug_hits, beside the bits of DR6: the instruction that ran took TF away without a trap
 * (INT n, SYSCALL), or set RF for the next one (IRET). */
#define X86_DEBUG_NO_STEP (1u << 31)
#define X86_DEBUG_KEEP_RF (1u << 30)

/* Delivers the #DB fault of an instruction breakpoint at CS:RIP, if there is one and RF is clear.
 * True: delivered, the instruction does not run now. */
bool x86_debug_check_fetch(struct x86_cpu *c);

/* Delivers the #DB trap of the instruction that just ran: data and I/O breakpoints, and the single
 * step if tf_before says that TF was set when it began. s.rip is the next instruction's. True:
 * delivered. Behind MOV SS it waits for one more instruction. */
bool x86_debug_after_insn(struct x86_cpu *c, bool tf_before);

/* Sets X86_REQUEST_STEP if TF, a breakpoint in DR7, an interrupt shadow or a trap that waits asks
 * for it, and returns whether it does. */
bool x86_debug_rearm(struct x86_cpu *c);

/* Notes the breakpoints (DR7.R/W 10b, CR4.DE) that IN, OUT, INS or OUTS of a port hits. */
void x86_debug_io(struct x86_cpu *c, uint16_t port, unsigned size);

/* A repeated string instruction stops before its last iteration, to go on later: RF is set until it
 * does, so that a breakpoint on it is met once (SDM 3, 17.3.1.1). Only debugging can tell. */
static inline void x86_debug_suspend(struct x86_cpu *c)
{
    if (likely(!(c->s.dr[7] & 0xff) && !(c->s.rflags & FLAG_TF)))
        return;
    c->s.rflags |= FLAG_RF;
    c->debug_hits |= X86_DEBUG_KEEP_RF;
}

/* Sets bits of DR6 and raises #DB, as MOV DR does under DR7.GD. */
_Noreturn void x86_debug_raise(struct x86_cpu *c, uint32_t dr6);

/* Sets bits of DR6 for a #DB about to be delivered, and clears DR7.GD as it does. */
void x86_debug_record(struct x86_cpu *c, uint32_t dr6);

#endif

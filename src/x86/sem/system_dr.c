/*
 * MOV to and from debug registers (SDM 3, 17.2).
 */
#include "x86/debug.h"
#include "x86/sem/op.h"

/* The register that an encoding means, after the checks that both directions make. */
static unsigned debug_register(struct x86_cpu *c, unsigned reg)
{
    x86_need_cpl0(c);
    if (reg > 7 || ((reg == 4 || reg == 5) && (c->s.cr4 & CR4_DE)))
        x86_raise(c, X86_UD);
    if (c->s.dr[7] & DR7_GD)
        x86_debug_raise(c, DR6_BD);
    return reg == 4 || reg == 5 ? reg + 2 : reg;
}

OP_END(mov_from_dr)
{
    unsigned reg = debug_register(c, op->reg);
    gpr_write(c, op->rm, c->code == X86_CODE64 ? 8 : 4, c->s.dr[reg]);
}

OP_END(mov_to_dr)
{
    const uint64_t dr6_writable = DR6_B | DR6_BD | DR6_BS | DR6_BT;
    const uint64_t dr7_reserved = 0xd800; /* bits 11, 12, 14 and 15 read 0 */
    unsigned reg = debug_register(c, op->reg);
    uint64_t v = gpr_read(c, op->rm, c->code == X86_CODE64 ? 8 : 4);
    if (reg >= 6 && v >> 32)
        x86_raise_gp0(c);
    if (reg == 6)
        v = (v & dr6_writable) | DR6_FIXED;
    if (reg == 7)
        v = (v & ~dr7_reserved) | DR7_FIXED;
    c->s.dr[reg] = v;
    /* Pages under a data breakpoint are kept out of the TLB. */
    x86_tlb_flush(c);
    x86_update_mode(c);
    x86_debug_rearm(c);
}

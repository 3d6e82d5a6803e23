/*
 * What one processor's software keeps in registers of its own: FS and GS bases, protection-key
 * rights, the processor's number.
 */
#include "x86/sem/op.h"

static void need_fsgsbase(struct x86_cpu *c)
{
    if (!(c->s.cr4 & CR4_FSGSBASE) || c->code != X86_CODE64)
        x86_raise(c, X86_UD);
}

static void read_base(struct x86_cpu *c, const struct op *op, unsigned seg)
{
    need_fsgsbase(c);
    gpr_write(c, op->rm, op->size, c->s.seg[seg].base);
}

/* All of x86_update_mode() that a base means to 64-bit code. */
static void set_base(struct x86_cpu *c, unsigned seg, uint64_t base)
{
    c->s.seg[seg].base = base;
    c->flat[seg] = base == 0;
}

static void write_base(struct x86_cpu *c, const struct op *op, unsigned seg)
{
    need_fsgsbase(c);
    uint64_t base = gpr_read(c, op->rm, op->size);
    if (!x86_canonical(base))
        x86_raise_gp0(c);
    set_base(c, seg, base);
}

OP(rdfsbase)
{
    read_base(c, op, X86_FS);
}
OP(rdgsbase)
{
    read_base(c, op, X86_GS);
}
OP(wrfsbase)
{
    write_base(c, op, X86_FS);
}
OP(wrgsbase)
{
    write_base(c, op, X86_GS);
}

OP(swapgs)
{
    if (c->code != X86_CODE64)
        x86_raise(c, X86_UD);
    x86_need_cpl0(c);
    uint64_t base = c->s.seg[X86_GS].base;
    set_base(c, X86_GS, c->s.kernel_gs_base);
    c->s.kernel_gs_base = base;
}

OP(rdpid)
{
    gpr_write(c, op->rm, c->code == X86_CODE64 ? 8 : 4, c->s.tsc_aux);
}

OP(rdpkru)
{
    if (!(c->s.cr4 & CR4_PKE))
        x86_raise(c, X86_UD);
    if ((uint32_t)c->s.gpr[X86_RCX])
        x86_raise_gp0(c);
    c->s.gpr[X86_RAX] = c->s.pkru;
    c->s.gpr[X86_RDX] = 0;
}

/* Keys are looked at when a page enters the TLB. Fetches mind no keys, so what addresses mean to
 * them stays. */
OP(wrpkru)
{
    if (!(c->s.cr4 & CR4_PKE))
        x86_raise(c, X86_UD);
    if ((uint32_t)c->s.gpr[X86_RCX] || (uint32_t)c->s.gpr[X86_RDX])
        x86_raise_gp0(c);
    if (c->s.pkru != (uint32_t)c->s.gpr[X86_RAX]) {
        c->s.pkru = (uint32_t)c->s.gpr[X86_RAX];
        x86_tlb_flush(c);
    }
}

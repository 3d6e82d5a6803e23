/*
 * Control registers, and the translations that hang on them (SDM 3, 2.5 and 4.10.4).
 */
#include "x86/cpuid.h"
#include "x86/paging.h"
#include "x86/sem/op.h"

#define CR4_MODELLED                                                                               \
    ((uint64_t)(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |     \
                CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE |      \
                CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE))

static void translations_changed(struct x86_cpu *c)
{
    x86_tlb_flush(c);
    c->mappings_changed(c);
}

/* ---- CR0 ---- */

/* Switching paging on with EFER.LME set is what enters long mode (SDM 3, 9.8.5). */
static void check_long_mode_entry(struct x86_cpu *c)
{
    unsigned tss = c->s.tr.attr & SEG_TYPE;
    bool tss16 = tss == 1 || tss == 3;
    if (!(c->s.cr4 & CR4_PAE) || (c->s.seg[X86_CS].attr & SEG_L) || tss16)
        x86_raise_gp0(c);
}

static void check_cr0(struct x86_cpu *c, uint64_t v)
{
    bool paging_on = (v & CR0_PG) && !(c->s.cr0 & CR0_PG);
    bool paging_off = !(v & CR0_PG) && (c->s.cr0 & CR0_PG);
    if (v >> 32)
        x86_raise_gp0(c);
    if ((v & CR0_PG) && !(v & CR0_PE))
        x86_raise_gp0(c);
    if ((v & CR0_NW) && !(v & CR0_CD))
        x86_raise_gp0(c);
    if (paging_on && (c->s.efer & EFER_LME))
        check_long_mode_entry(c);
    if (paging_off && (c->code == X86_CODE64 || (c->s.cr4 & CR4_PCIDE)))
        x86_raise_gp0(c);
}

static void write_cr0(struct x86_cpu *c, uint64_t v)
{
    const uint64_t known =
        CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    check_cr0(c, v);
    v = (v & known) | CR0_ET;
    uint64_t changed = v ^ c->s.cr0;
    bool enters_long_mode = (v & CR0_PG) && (c->s.efer & EFER_LME);
    if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && !enters_long_mode &&
        !x86_load_pdptes(c, c->s.cr3, v, c->s.cr4))
        x86_raise_gp0(c);

    c->s.cr0 = v;
    c->s.efer &= ~(uint64_t)EFER_LMA;
    if (enters_long_mode)
        c->s.efer |= EFER_LMA;
    if (changed & (CR0_PG | CR0_WP | CR0_PE))
        translations_changed(c);
    x86_update_mode(c);
}

/* ---- CR3 ---- */

bool x86_load_cr3(struct x86_cpu *c, uint64_t v)
{
    /* Bit 63 asks for the PCID's translations to be kept (SDM 3, 4.10.4.1). */
    bool keep = (c->s.cr4 & CR4_PCIDE) && (v & BIT(63));
    if (c->s.cr4 & CR4_PCIDE)
        v &= ~BIT(63);
    if (v & ~bits_mask(x86_physical_bits(c->model)))
        return false;
    if (!x86_load_pdptes(c, v, c->s.cr0, c->s.cr4))
        return false;
    c->s.cr3 = v;
    x86_tlb_switch(c, keep);
    c->mappings_changed(c);
    return true;
}

static void write_cr3(struct x86_cpu *c, uint64_t v)
{
    if (!x86_load_cr3(c, v))
        x86_raise_gp0(c);
}

/* ---- CR4 ---- */

static void write_cr4(struct x86_cpu *c, uint64_t v)
{
    uint64_t changed = v ^ c->s.cr4;
    uint64_t pdpte_bits = CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP;
    uint64_t paging_bits = pdpte_bits | CR4_PCIDE | CR4_SMAP | CR4_PKE;
    /* One of KVM's guests may have VMX, and KVM gives up on an instruction that comes later. */
    if (v & ~(CR4_MODELLED | (c->s.cr4 & CR4_VMXE)))
        x86_raise_gp0(c);
    if (c->long_mode && !(v & CR4_PAE))
        x86_raise_gp0(c);
    if ((changed & v & CR4_PCIDE) && (!c->long_mode || (c->s.cr3 & 0xfff)))
        x86_raise_gp0(c);
    if ((changed & pdpte_bits) && !x86_load_pdptes(c, c->s.cr3, c->s.cr0, v))
        x86_raise_gp0(c);
    c->s.cr4 = v;
    if (changed & paging_bits)
        translations_changed(c);
    x86_update_mode(c);
}

/* ---- the instructions ---- */

static unsigned register_size(const struct x86_cpu *c)
{
    return c->code == X86_CODE64 ? 8 : 4;
}

OP_END(mov_to_cr)
{
    uint64_t v = gpr_read(c, op->rm, register_size(c));
    if (op->reg != 0 && op->reg != 2 && op->reg != 3 && op->reg != 4 && op->reg != 8)
        x86_raise(c, X86_UD);
    x86_need_cpl0(c);
    switch (op->reg) {
    case 0: write_cr0(c, v); break;
    case 2: c->s.cr2 = v; break;
    case 3: write_cr3(c, v); break;
    case 4: write_cr4(c, v); break;
    default:
        if (v > 15)
            x86_raise_gp0(c);
        c->host.cr8_write(c->host.ctx, v);
        break;
    }
}

OP_END(mov_from_cr)
{
    uint64_t v = 0;
    if (op->reg != 0 && op->reg != 2 && op->reg != 3 && op->reg != 4 && op->reg != 8)
        x86_raise(c, X86_UD);
    x86_need_cpl0(c);
    switch (op->reg) {
    case 0: v = c->s.cr0; break;
    case 2: v = c->s.cr2; break;
    case 3: v = c->s.cr3; break;
    case 4: v = c->s.cr4; break;
    default: v = c->host.cr8_read(c->host.ctx); break;
    }
    gpr_write(c, op->rm, register_size(c), v);
}

/* To a register of any size goes what fits of CR0, to memory always 16 bits. */
OP(smsw)
{
    if ((c->s.cr4 & CR4_UMIP) && c->cpl > 0)
        x86_raise_gp0(c);
    op_rm_write(c, op, op->ea == EA_REG ? op->size : 2, c->s.cr0);
}

/* Changes PE, MP, EM and TS, but can't clear PE. */
OP_END(lmsw)
{
    x86_need_cpl0(c);
    uint64_t v = op_rm_read(c, op, 2);
    uint64_t low = (v & (CR0_PE | CR0_MP | CR0_EM | CR0_TS)) | (c->s.cr0 & CR0_PE);
    write_cr0(c, (c->s.cr0 & ~(uint64_t)0xf) | low);
}

OP_END(clts)
{
    x86_need_cpl0(c);
    c->s.cr0 &= ~(uint64_t)CR0_TS;
    x86_update_mode(c);
}

void x86_invalidate_page(struct x86_cpu *c, uint64_t lin)
{
    x86_tlb_flush_page(c, lin);
    c->mappings_changed(c);
}

/* The operand is an address only: nothing is accessed and no limit applies. */
OP_END(invlpg)
{
    x86_need_cpl0(c);
    uint64_t lin = op_offset(c, op);
    if (c->code != X86_CODE64)
        lin = (uint32_t)(lin + c->s.seg[op->seg].base);
    else if (op->seg >= X86_FS)
        lin += c->s.seg[op->seg].base;
    x86_invalidate_page(c, lin);
}

bool x86_invalidate_pcid(struct x86_cpu *c, uint64_t type, const uint64_t descriptor[2])
{
    enum { ADDRESS, CONTEXT, ALL, ALL_BUT_GLOBAL, PCID_MASK = 0xfff };
    uint64_t pcid = descriptor[0], lin = descriptor[1];
    bool pcids = c->s.cr4 & CR4_PCIDE;
    if (type > ALL_BUT_GLOBAL || pcid > PCID_MASK || (type <= CONTEXT && pcid != 0 && !pcids) ||
        (type == ADDRESS && !x86_canonical(lin)))
        return false;
    if (type == ADDRESS && pcid == (pcids ? c->s.cr3 & PCID_MASK : 0))
        x86_invalidate_page(c, lin);
    else
        translations_changed(c);
    return true;
}

OP_END(invpcid)
{
    uint64_t descriptor[2];
    x86_need_cpl0(c);
    op_load(c, op, descriptor, sizeof descriptor);
    if (!x86_invalidate_pcid(c, gpr_read(c, op->reg, register_size(c)), descriptor))
        x86_raise_gp0(c);
}

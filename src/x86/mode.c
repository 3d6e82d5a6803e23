#include "x86/cpu.h"

/* CPL is SS.DPL in protected mode (SDM 3, 5.5): loads of SS keep it so, null selectors included. */
static uint8_t current_cpl(const struct x86_cpu *c)
{
    if (!(c->s.cr0 & CR0_PE))
        return 0;
    if (c->s.rflags & FLAG_VM)
        return 3;
    return (c->s.seg[X86_SS].attr & SEG_DPL) >> SEG_DPL_SHIFT;
}

static uint8_t code_width(const struct x86_cpu *c)
{
    uint32_t cs = c->s.seg[X86_CS].attr;
    if (x86_v86(c) && (c->s.cr0 & CR0_PE))
        return X86_CODE16;
    if (c->long_mode && (cs & SEG_L))
        return X86_CODE64;
    return cs & SEG_DB ? X86_CODE32 : X86_CODE16;
}

/* Whether any offset in the segment may be read and written and is its own linear address. */
static bool is_flat(const struct x86_cpu *c, unsigned i)
{
    const struct x86_segment *s = &c->s.seg[i];
    if (c->code == X86_CODE64)
        return i < X86_FS || s->base == 0;
    uint32_t need = SEG_P | SEG_S | SEG_WRITABLE;
    uint32_t never = SEG_CODE | SEG_EXPAND_DOWN | SEG_UNUSABLE;
    return s->base == 0 && s->limit == UINT32_MAX && (s->attr & (need | never)) == need;
}

void x86_update_view(struct x86_cpu *c)
{
    bool ac = c->s.rflags & FLAG_AC;
    enum tlb_view v;
    if (c->cpl == 3)
        v = ac && (c->s.cr0 & CR0_AM) ? TLB_NEVER : TLB_USER;
    else /* without SMAP both supervisor views would hold the same */
        v = ac && (c->s.cr4 & CR4_SMAP) ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
    c->tlb = &c->view[v];
}

static bool watches_data(const struct x86_cpu *c)
{
    for (unsigned i = 0; i < 4; i++) {
        bool enabled = (c->s.dr[7] >> (2 * i)) & 3;
        bool data = (c->s.dr[7] >> (16 + 4 * i)) & 1; /* 1: writes, 3: reads and writes */
        if (enabled && data)
            return true;
    }
    return false;
}

void x86_update_mode(struct x86_cpu *c)
{
    c->long_mode = c->s.efer & EFER_LMA;
    c->paging = c->s.cr0 & CR0_PG;
    c->cpl = current_cpl(c);
    c->code = code_width(c);
    c->stack32 = c->s.seg[X86_SS].attr & SEG_DB;
    c->no_x87 = c->s.cr0 & (CR0_EM | CR0_TS);
    c->no_sse = c->no_x87 || !(c->s.cr4 & CR4_OSFXSR);
    c->no_avx = (c->s.cr0 & CR0_TS) || !x86_avx_enabled(&c->s);
    c->no_avx512 = (c->s.cr0 & CR0_TS) || !x86_avx512_enabled(&c->s);
    c->debug_data = watches_data(c);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        c->flat[i] = is_flat(c, i);
    x86_update_view(c);
}

#include "x86/msr.h"

#include "x86/access.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"

/* ---- registers that are plain words of the state ---- */

enum kind {
    BITS,      /* any value within `allowed` */
    CANONICAL, /* a canonical linear address */
};

/* IBRS, STIBP, SSBD, BHI_DIS_S: there is no speculation for them to change. */
#define SPEC_CTRL_BITS (BIT(0) | BIT(1) | BIT(2) | BIT(10))

static const struct {
    uint32_t msr;
    uint32_t offset; /* in struct x86_state */
    enum kind kind;
    uint64_t allowed;
} plain[] = {
    {MSR_SPEC_CTRL, offsetof(struct x86_state, spec_ctrl), BITS, SPEC_CTRL_BITS},
    {MSR_SYSENTER_CS, offsetof(struct x86_state, sysenter_cs), BITS, UINT32_MAX},
    {MSR_SYSENTER_ESP, offsetof(struct x86_state, sysenter_esp), CANONICAL, 0},
    {MSR_SYSENTER_EIP, offsetof(struct x86_state, sysenter_eip), CANONICAL, 0},
    {MSR_MCG_STATUS, offsetof(struct x86_state, mcg_status), BITS, 7},
    {MSR_DEBUGCTL, offsetof(struct x86_state, debugctl), BITS, 3}, /* LBR, BTF */
    {MSR_XSS, offsetof(struct x86_state, xss), BITS, 0},
    {MSR_STAR, offsetof(struct x86_state, star), BITS, UINT64_MAX},
    {MSR_LSTAR, offsetof(struct x86_state, lstar), CANONICAL, 0},
    {MSR_CSTAR, offsetof(struct x86_state, cstar), CANONICAL, 0},
    {MSR_SFMASK, offsetof(struct x86_state, sfmask), BITS, UINT32_MAX},
    {MSR_KERNEL_GS_BASE, offsetof(struct x86_state, kernel_gs_base), CANONICAL, 0},
    {MSR_TSC_AUX, offsetof(struct x86_state, tsc_aux), BITS, UINT32_MAX},
};

static uint64_t *plain_word(struct x86_cpu *c, unsigned i)
{
    return (uint64_t *)((uint8_t *)&c->s + plain[i].offset);
}

/* ---- registers that never change, and commands ---- */

static bool read_constant(const struct x86_cpu *c, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE:
    case MSR_PLATFORM_ID:
    case MSR_MCG_CAP: *value = 0; return true;                      /* no machine-check banks */
    case MSR_BIOS_SIGN_ID: *value = UINT64_C(1) << 32; return true; /* the microcode's revision */
    case MSR_PLATFORM_INFO:
        *value = c->model->tsc_hz / 100000000 << 8; /* the ratio to a bus of 100 MHz */
        return true;
    case MSR_MTRRCAP: *value = X86_MTRR_VARIABLE | BIT(8) | BIT(10); return true;
    case MSR_ARCH_CAPABILITIES: *value = c->model->arch_capabilities; return true;
    default: return false;
    }
}

/* What can be written and keeps nothing. */
static bool write_command(uint32_t msr, uint64_t value)
{
    switch (msr) {
    case MSR_PRED_CMD:
    case MSR_FLUSH_CMD: return (value & ~UINT64_C(1)) == 0;
    case MSR_P5_MC_ADDR:
    case MSR_P5_MC_TYPE: return value == 0;
    case MSR_BIOS_UPDT_TRIG:
    case MSR_BIOS_SIGN_ID: return true;
    default: return false;
    }
}

bool x86_msr_is_machines(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC || msr == MSR_TSC_ADJUST ||
           msr == MSR_TSC_DEADLINE || (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

/* ---- memory types (SDM 3, 11.11 and 11.12) ---- */

/* UC, WC, WT, WP, WB; the PAT also knows UC-. */
static bool memory_type_ok(uint64_t type, bool pat)
{
    return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool memory_types_ok(uint64_t types, bool pat)
{
    for (unsigned i = 0; i < 8; i++)
        if (!memory_type_ok((types >> (8 * i)) & 0xff, pat))
            return false;
    return true;
}

static int fixed_mtrr(uint32_t msr)
{
    switch (msr) {
    case MSR_MTRR_FIX64K_00000: return 0;
    case MSR_MTRR_FIX16K_80000: return 1;
    case MSR_MTRR_FIX16K_A0000: return 2;
    default: return msr - MSR_MTRR_FIX4K_C0000 < 8 ? 3 + (int)(msr - MSR_MTRR_FIX4K_C0000) : -1;
    }
}

static bool read_memory_type(const struct x86_cpu *c, uint32_t msr, uint64_t *value)
{
    uint32_t variable = msr - MSR_MTRR_PHYSBASE0;
    int fixed = fixed_mtrr(msr);
    if (variable < 2 * X86_MTRR_VARIABLE)
        *value = (variable & 1 ? c->s.mtrr_mask : c->s.mtrr_base)[variable / 2];
    else if (fixed >= 0)
        *value = c->s.mtrr_fixed[fixed];
    else if (msr == MSR_MTRR_DEF_TYPE)
        *value = c->s.mtrr_def_type;
    else if (msr == MSR_PAT)
        *value = c->s.pat;
    else
        return false;
    return true;
}

static bool write_variable_mtrr(struct x86_cpu *c, uint32_t i, uint64_t value)
{
    uint64_t address = bits_mask(x86_physical_bits(c->model)) & ~bits_mask(12);
    if (i & 1) {
        if (value & ~(address | BIT(11)))
            return false;
        c->s.mtrr_mask[i / 2] = value;
    } else {
        if ((value & ~(address | 0xff)) || !memory_type_ok(value & 0xff, false))
            return false;
        c->s.mtrr_base[i / 2] = value;
    }
    return true;
}

static bool write_memory_type(struct x86_cpu *c, uint32_t msr, uint64_t value)
{
    uint32_t variable = msr - MSR_MTRR_PHYSBASE0;
    int fixed = fixed_mtrr(msr);
    if (variable < 2 * X86_MTRR_VARIABLE)
        return write_variable_mtrr(c, variable, value);
    if (fixed >= 0) {
        if (!memory_types_ok(value, false))
            return false;
        c->s.mtrr_fixed[fixed] = value;
    } else if (msr == MSR_MTRR_DEF_TYPE) {
        if ((value & ~UINT64_C(0xcff)) || !memory_type_ok(value & 0xff, false))
            return false;
        c->s.mtrr_def_type = value;
    } else if (msr == MSR_PAT) {
        if (!memory_types_ok(value, true))
            return false;
        c->s.pat = value;
    } else {
        return false;
    }
    return true;
}

/* ---- registers that do something ---- */

static bool write_efer(struct x86_cpu *c, uint64_t value)
{
    uint64_t allowed = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    uint64_t changed = value ^ c->s.efer;
    if (value & ~allowed)
        return false;
    if ((changed & EFER_LME) && (c->s.cr0 & CR0_PG))
        return false;
    if ((value & EFER_NXE) && (c->s.misc_enable & MISC_ENABLE_XD_DISABLE))
        return false;
    /* LMA follows CR0.PG and LME; writes leave it alone. */
    c->s.efer = (value & ~(uint64_t)EFER_LMA) | (c->s.efer & EFER_LMA);
    if (changed & EFER_NXE) {
        x86_tlb_flush(c);
        c->mappings_changed(c);
    }
    x86_update_mode(c);
    return true;
}

static bool write_misc_enable(struct x86_cpu *c, uint64_t value)
{
    uint64_t writable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_XD_DISABLE;
    c->s.misc_enable = (c->s.misc_enable & ~writable) | (value & writable);
    return true;
}

static bool write_segment_base(struct x86_cpu *c, unsigned seg, uint64_t value)
{
    if (!x86_canonical(value))
        return false;
    c->s.seg[seg].base = value;
    x86_update_mode(c);
    return true;
}

/* ---- the two ways in ---- */

bool x86_msr_read(struct x86_cpu *c, uint32_t msr, uint64_t *value)
{
    if (x86_msr_is_machines(msr))
        return c->host.msr_read(c->host.ctx, msr, value);
    for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
        if (plain[i].msr == msr) {
            *value = *plain_word(c, i);
            return true;
        }
    }
    switch (msr) {
    case MSR_EFER: *value = c->s.efer; return true;
    case MSR_MISC_ENABLE: *value = c->s.misc_enable; return true;
    case MSR_FS_BASE: *value = c->s.seg[X86_FS].base; return true;
    case MSR_GS_BASE: *value = c->s.seg[X86_GS].base; return true;
    default: return read_memory_type(c, msr, value) || read_constant(c, msr, value);
    }
}

bool x86_msr_write(struct x86_cpu *c, uint32_t msr, uint64_t value)
{
    if (x86_msr_is_machines(msr))
        return c->host.msr_write(c->host.ctx, msr, value);
    for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
        if (plain[i].msr == msr) {
            bool ok = plain[i].kind == CANONICAL ? x86_canonical(value)
                                                 : (value & ~plain[i].allowed) == 0;
            if (ok)
                *plain_word(c, i) = value;
            return ok;
        }
    }
    switch (msr) {
    case MSR_EFER: return write_efer(c, value);
    case MSR_MISC_ENABLE: return write_misc_enable(c, value);
    case MSR_FS_BASE: return write_segment_base(c, X86_FS, value);
    case MSR_GS_BASE: return write_segment_base(c, X86_GS, value);
    default: return write_memory_type(c, msr, value) || write_command(msr, value);
    }
}

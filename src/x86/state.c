#include "x86/state.h"

#include <string.h>

#include "base/bits.h"
#include "x86/cpuid.h"
#include "x86/msr.h"

/* Real-mode segments: present, writable, accessed, 64 KiB. */
static struct x86_segment real_segment(uint16_t selector, uint64_t base)
{
    return (struct x86_segment){
        .selector = selector,
        .base = base,
        .limit = 0xffff,
        .attr = SEG_P | SEG_S | SEG_WRITABLE | SEG_ACCESSED,
    };
}

static void reset_segments(struct x86_state *s)
{
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        s->seg[i] = real_segment(0, 0);
    /* The base does not fit the selector until CS is loaded for the first time: the first
     * instruction is at 0xfffffff0. */
    s->seg[X86_CS] = real_segment(0xf000, 0xffff0000);
    s->ldtr = (struct x86_segment){.limit = 0xffff, .attr = SEG_P | 2};
    s->tr = (struct x86_segment){.limit = 0xffff, .attr = SEG_P | 11};
    s->gdtr = (struct x86_table){.limit = 0xffff};
    s->idtr = (struct x86_table){.limit = 0xffff};
}

/* What only power-on sets. The x87 tags say "zero", not "empty", until FNINIT. */
static void power_on(struct x86_state *s)
{
    s->cr0 = CR0_CD | CR0_NW | CR0_ET;
    s->fcw = 0x0040;
    s->ftag = 0xff;
    s->mxcsr = 0x1f80;
    s->xcr0 = XCR0_X87;
    s->pat = UINT64_C(0x0007040600070406);
    s->misc_enable = MISC_ENABLE_FAST_STRINGS | MISC_ENABLE_NO_BTS | MISC_ENABLE_NO_PEBS;
}

void x86_state_reset(struct x86_state *s, bool bsp, bool init)
{
    struct x86_state old = *s;
    memset(s, 0, sizeof *s);
    power_on(s);
    if (init) {
        /* The caches' control bits, the vectors and x87, and the model-specific registers stay. */
        s->cr0 = (old.cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
        s->xcr0 = old.xcr0;
        s->pkru = old.pkru;
        s->star = old.star;
        s->lstar = old.lstar;
        s->cstar = old.cstar;
        s->sfmask = old.sfmask;
        s->kernel_gs_base = old.kernel_gs_base;
        s->tsc_aux = old.tsc_aux;
        s->sysenter_cs = old.sysenter_cs;
        s->sysenter_esp = old.sysenter_esp;
        s->sysenter_eip = old.sysenter_eip;
        s->pat = old.pat;
        s->misc_enable = old.misc_enable;
        s->mtrr_def_type = old.mtrr_def_type;
        memcpy(s->mtrr_fixed, old.mtrr_fixed, sizeof s->mtrr_fixed);
        memcpy(s->mtrr_base, old.mtrr_base, sizeof s->mtrr_base);
        memcpy(s->mtrr_mask, old.mtrr_mask, sizeof s->mtrr_mask);
        s->spec_ctrl = old.spec_ctrl;
        s->mcg_status = old.mcg_status;
        s->xss = old.xss;
        memcpy(s->st, old.st, sizeof s->st);
        s->fcw = old.fcw;
        s->fsw = old.fsw;
        s->ftag = old.ftag;
        s->fop = old.fop;
        s->fip = old.fip;
        s->fdp = old.fdp;
        s->fcs = old.fcs;
        s->fds = old.fds;
        memcpy(s->vec, old.vec, sizeof s->vec);
        s->mxcsr = old.mxcsr;
        memcpy(s->opmask, old.opmask, sizeof s->opmask);
        memcpy(s->zmm_upper, old.zmm_upper, sizeof s->zmm_upper);
        memcpy(s->zmm_more, old.zmm_more, sizeof s->zmm_more);
    }
    reset_segments(s);
    s->gpr[X86_RDX] = x86_model_signature(x86_model_at(0));
    s->rip = 0xfff0;
    s->rflags = FLAG_1;
    s->dr[6] = 0xffff0ff0;
    s->dr[7] = 0x400;
    s->activity = bsp ? X86_ACTIVE : X86_WAIT_FOR_SIPI;
}

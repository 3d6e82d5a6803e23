/*
 * The x87's state as a whole: pending exceptions, FXSAVE's image, and how MMX shares it.
 */
#include "x86/sem/x87.h"

#include "base/bits.h"

/* ---- exceptions ---- */

/* FERR#, which CR0.NE = 0 routes to IRQ 13 instead of #MF (SDM 1, D.3). */
static void drive_ferr(struct x86_cpu *c)
{
    if (!(c->s.cr0 & CR0_NE) && c->host.fpu_error)
        c->host.fpu_error(c->host.ctx, c->s.fsw & FSW_ES);
}

void x87_update_summary(struct x86_cpu *c)
{
    unsigned pending = c->s.fsw & ~c->s.fcw & SF_ALL, before = c->s.fsw & FSW_ES;
    fsw_put(c, FSW_ES | FSW_B, pending ? FSW_ES | FSW_B : 0);
    if ((c->s.fsw & FSW_ES) != before)
        drive_ferr(c);
}

/* A real processor without CR0.NE freezes here until IRQ 13 comes, or goes on when IGNNE# is
 * asserted; we go on. */
void x87_wait(struct x86_cpu *c)
{
    if (!(c->s.fsw & FSW_ES))
        return;
    if (c->s.cr0 & CR0_NE)
        x86_raise(c, X86_MF);
    drive_ferr(c);
}

void x87_begin_slow(struct x86_cpu *c)
{
    if (c->no_x87)
        x86_raise(c, X86_NM);
    x87_wait(c);
}

uint8_t x87_report(struct x86_cpu *c, const struct sf_env *env)
{
    uint8_t flags = sf_reported(env);
    fsw_put(c, FSW_C1, env->up && (flags & SF_PE) ? FSW_C1 : 0);
    if (likely(flags == 0))
        return 0;
    fsw_set(c, flags);
    uint8_t unmasked = flags & ~env->masks;
    if (unmasked)
        x87_update_summary(c);
    return unmasked;
}

bool x87_stack_fault(struct x86_cpu *c, bool overflow)
{
    fsw_put(c, FSW_C1, overflow ? FSW_C1 : 0);
    fsw_set(c, SF_IE | FSW_SF);
    x87_update_summary(c);
    return c->s.fcw & SF_IE;
}

/* ---- MMX ---- */

void x86_mmx_check(struct x86_cpu *c)
{
    if (c->s.cr0 & CR0_EM)
        x86_raise(c, X86_UD);
    x87_begin(c);
}

OP(emms)
{
    x86_mmx_check(c);
    x86_mmx_commit(c);
    c->s.ftag = 0;
}

/* ---- FXSAVE's image (SDM 1, 10.5.1) ---- */

enum { FX_FCW = 0, FX_FSW = 2, FX_FTAG = 4, FX_FOP = 6, FX_FIP = 8, FX_FDP = 16, FX_ST = 32 };

/* The pointers are those of the pending exception; without one, zeros are stored. */
void x86_fxsave_x87(struct x86_cpu *c, uint8_t *area, bool rexw64)
{
    bool pending = c->s.fsw & FSW_ES;
    uint64_t fip = pending ? c->s.fip : 0, fdp = pending ? c->s.fdp : 0;
    store_u16(area + FX_FCW, c->s.fcw);
    store_u16(area + FX_FSW, c->s.fsw);
    store_u16(area + FX_FTAG, c->s.ftag);
    store_u16(area + FX_FOP, pending ? c->s.fop : 0);
    /* Without REX.W: 32-bit offsets, and selectors behind them. */
    store_u64(area + FX_FIP, rexw64 ? fip : (uint32_t)fip | (uint64_t)c->s.fcs << 32);
    store_u64(area + FX_FDP, rexw64 ? fdp : (uint32_t)fdp | (uint64_t)c->s.fds << 32);
    for (unsigned i = 0; i < 8; i++) {
        sf80 v = x87_read(c, i);
        store_u64(area + FX_ST + 16 * i, v.mantissa);
        store_u64(area + FX_ST + 16 * i + 8, v.se);
    }
}

void x86_fxrstor_x87(struct x86_cpu *c, const uint8_t *area, bool rexw64)
{
    c->s.fcw = (load_u16(area + FX_FCW) & FCW_WRITABLE) | FCW_FIXED;
    c->s.fsw = load_u16(area + FX_FSW);
    c->s.ftag = load_u8(area + FX_FTAG);
    c->s.fop = load_u16(area + FX_FOP) & 0x7ff;
    c->s.fip = rexw64 ? load_u64(area + FX_FIP) : load_u32(area + FX_FIP);
    c->s.fdp = rexw64 ? load_u64(area + FX_FDP) : load_u32(area + FX_FDP);
    c->s.fcs = c->s.fds = 0;
    for (unsigned i = 0; i < 8; i++)
        c->s.st[x87_physical(c, i)] = (sf80){.mantissa = load_u64(area + FX_ST + 16 * i),
                                             .se = load_u16(area + FX_ST + 16 * i + 8)};
    x87_update_summary(c);
}

void x86_x87_init(struct x86_state *s, bool registers)
{
    s->fcw = FCW_INIT;
    s->fsw = 0;
    s->ftag = 0;
    s->fop = 0;
    s->fip = s->fdp = 0;
    s->fcs = s->fds = 0;
    if (registers)
        memset(s->st, 0, sizeof s->st);
}

bool x86_x87_in_use(const struct x86_state *s)
{
    if (s->fcw != FCW_INIT || s->fsw || s->ftag || s->fop || s->fip || s->fdp)
        return true;
    for (unsigned i = 0; i < 8; i++)
        if (s->st[i].mantissa || s->st[i].se)
            return true;
    return false;
}

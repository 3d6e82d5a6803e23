/*
 * The x87's state as a whole: pending exceptions, FXSAVE's image, and how MMX shares it.
 */
#include "x86/sem/x87.h"

#include "base/bits.h"
#include "base/bytes.h"

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

enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTAG = 4,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FDP = 16,
    FX_MXCSR = 24,
    FX_ST = 32,
    FX_XMM = 160
};

static unsigned physical(const struct x86_state *s, unsigned i)
{
    return ((unsigned)(s->fsw >> 11) + i) & 7;
}

/* All of the x87 but its pointers. */
static void put_registers(const struct x86_state *s, uint8_t *image)
{
    store_u16(image + FX_FCW, s->fcw);
    store_u16(image + FX_FSW, s->fsw);
    store_u16(image + FX_FTAG, s->ftag);
    for (unsigned i = 0; i < 8; i++) {
        const struct x86_f80 *v = &s->st[physical(s, i)];
        store_u64(image + FX_ST + 16 * i, v->mantissa);
        store_u64(image + FX_ST + 16 * i + 8, v->se);
    }
}

static void put_pointers(uint8_t *image, uint16_t fop, uint64_t fip, uint64_t fdp)
{
    store_u16(image + FX_FOP, fop);
    store_u64(image + FX_FIP, fip);
    store_u64(image + FX_FDP, fdp);
}

/* The whole of it, pointers of 64 bits. */
static void take_x87(struct x86_state *s, const uint8_t *image)
{
    s->fcw = load_u16(image + FX_FCW);
    s->fsw = load_u16(image + FX_FSW);
    s->ftag = load_u8(image + FX_FTAG);
    s->fop = load_u16(image + FX_FOP);
    s->fip = load_u64(image + FX_FIP);
    s->fdp = load_u64(image + FX_FDP);
    s->fcs = s->fds = 0;
    for (unsigned i = 0; i < 8; i++)
        s->st[physical(s, i)] = (struct x86_f80){.mantissa = load_u64(image + FX_ST + 16 * i),
                                                 .se = load_u16(image + FX_ST + 16 * i + 8)};
}

/* The pointers are those of the pending exception; without one, zeros are stored. */
void x86_fxsave_x87(struct x86_cpu *c, uint8_t *area, bool rexw64)
{
    bool pending = c->s.fsw & FSW_ES;
    uint64_t fip = pending ? c->s.fip : 0, fdp = pending ? c->s.fdp : 0;
    put_registers(&c->s, area);
    /* Without REX.W: 32-bit offsets, and selectors behind them. */
    put_pointers(area, pending ? c->s.fop : 0,
                 rexw64 ? fip : (uint32_t)fip | (uint64_t)c->s.fcs << 32,
                 rexw64 ? fdp : (uint32_t)fdp | (uint64_t)c->s.fds << 32);
}

void x86_fxrstor_x87(struct x86_cpu *c, const uint8_t *area, bool rexw64)
{
    take_x87(&c->s, area);
    c->s.fcw = (c->s.fcw & FCW_WRITABLE) | FCW_FIXED;
    c->s.fop &= 0x7ff;
    if (!rexw64) {
        c->s.fip = (uint32_t)c->s.fip;
        c->s.fdp = (uint32_t)c->s.fdp;
    }
    x87_update_summary(c);
}

/* ---- the same for a host's registers ---- */

void x86_fx_put(const struct x86_state *s, uint8_t *image)
{
    put_registers(s, image);
    put_pointers(image, s->fop, s->fip, s->fdp);
    store_u32(image + FX_MXCSR, s->mxcsr);
    for (unsigned i = 0; i < ARRAY_LEN(s->vec); i++)
        bytes_copy(image + FX_XMM + 16 * i, s->vec[i].u8, 16);
}

void x86_fx_take(struct x86_state *s, const uint8_t *image, uint64_t components)
{
    if (components & XCR0_X87)
        take_x87(s, image);
    else
        x86_x87_init(s, true);
    s->mxcsr = load_u32(image + FX_MXCSR);
    for (unsigned i = 0; i < ARRAY_LEN(s->vec); i++) {
        s->vec[i] = (union x86_vec){.u64 = {0}};
        if (components & XCR0_SSE)
            bytes_copy(s->vec[i].u8, image + FX_XMM + 16 * i, 16);
    }
}

void x86_ymm_put(const struct x86_state *s, uint8_t *upper)
{
    for (unsigned i = 0; i < ARRAY_LEN(s->vec); i++)
        bytes_copy(upper + 16 * i, s->vec[i].u8 + 16, 16);
}

void x86_ymm_take(struct x86_state *s, const uint8_t *upper)
{
    for (unsigned i = 0; i < ARRAY_LEN(s->vec); i++)
        bytes_copy(s->vec[i].u8 + 16, upper + 16 * i, 16);
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

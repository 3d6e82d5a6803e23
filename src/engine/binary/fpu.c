/*
 * The guest's x87 and vector registers, between the neutral state and the XSAVE area that enter.S
 * loads and stores (SDM 1, 13.4).
 */
#include "engine/binary/binary.h"
#include "x86/xsave.h"

enum {
    AREA_FCW = 0,
    AREA_FSW = 2,
    AREA_FTW = 4,
    AREA_FOP = 6,
    AREA_FIP = 8,
    AREA_FDP = 16,
    AREA_MXCSR = 24,
    AREA_ST = 32,
    AREA_XMM = 160,
    AREA_XSTATE_BV = 512,
    AREA_YMM = 576,
};

/* ST(0)'s physical register. */
static unsigned top_of(uint16_t fsw)
{
    return fsw >> 11 & 7;
}

void binary_fpu_to_context(struct binary_vcpu *b)
{
    if (b->fpu == FPU_IN_CONTEXT)
        return;
    const struct x86_state *s = &b->v->cpu.s;
    uint8_t *area = b->context->fpu;
    memset(area, 0, XSAVE_MIN_SIZE);
    store_u16(area + AREA_FCW, s->fcw);
    store_u16(area + AREA_FSW, s->fsw);
    area[AREA_FTW] = s->ftag;
    store_u32(area + AREA_MXCSR, s->mxcsr);
    for (unsigned i = 0; i < 8; i++) {
        const struct x86_f80 *r = &s->st[(top_of(s->fsw) + i) & 7];
        store_u64(area + AREA_ST + 16 * i, r->mantissa);
        store_u16(area + AREA_ST + 16 * i + 8, r->se);
    }
    for (unsigned i = 0; i < 16; i++) {
        memcpy(area + AREA_XMM + 16 * i, s->vec[i].u8, 16);
        memcpy(area + AREA_YMM + 16 * i, s->vec[i].u8 + 16, 16);
    }
    store_u64(area + AREA_XSTATE_BV, b->context->components);
    b->fpu = FPU_IN_CONTEXT;
}

void binary_fpu_to_state(struct binary_vcpu *b)
{
    if (b->fpu == FPU_IN_STATE)
        return;
    struct x86_state *s = &b->v->cpu.s;
    const uint8_t *area = b->context->fpu;
    uint64_t present = load_u64(area + AREA_XSTATE_BV);
    b->fpu = FPU_IN_STATE;
    s->mxcsr = load_u32(area + AREA_MXCSR);
    /* A component in its initial state may not have been written. */
    bool x87 = present & XCR0_X87, sse = present & XCR0_SSE, avx = present & XCR0_AVX;
    s->fcw = x87 ? load_u16(area + AREA_FCW) : 0x37f;
    s->fsw = x87 ? load_u16(area + AREA_FSW) : 0;
    s->ftag = x87 ? area[AREA_FTW] : 0;
    /* The host's pointers are into translated code: no one is told. */
    s->fop = 0;
    s->fip = s->fdp = 0;
    s->fcs = s->fds = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct x86_f80 *r = &s->st[(top_of(s->fsw) + i) & 7];
        r->mantissa = x87 ? load_u64(area + AREA_ST + 16 * i) : 0;
        r->se = x87 ? load_u16(area + AREA_ST + 16 * i + 8) : 0;
    }
    for (unsigned i = 0; i < 16; i++) {
        memset(&s->vec[i], 0, sizeof s->vec[i]);
        if (sse)
            memcpy(s->vec[i].u8, area + AREA_XMM + 16 * i, 16);
        if (avx)
            memcpy(s->vec[i].u8 + 16, area + AREA_YMM + 16 * i, 16);
    }
}

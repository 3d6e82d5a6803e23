/*
 * The guest's x87 and vector registers, between the neutral state and the XSAVE area that enter.S
 * loads and stores (SDM 1, 13.4).
 */
#include "base/bytes.h"
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

/* ---- the host's registers ---- */

static void load(struct binary_vcpu *b)
{
    const struct context *x = b->context;
    __asm__ volatile("xrstor64 %0"
                     :
                     : "m"(x->fpu), "a"((uint32_t)x->components), "d"(0)
                     : "memory");
    b->fpu = FPU_IN_HOST;
}

void binary_outside(struct binary_vcpu *b)
{
    static const uint32_t mxcsr = X86_MXCSR_INIT;
    struct context *x = b->context;
    if (b->fpu != FPU_IN_HOST)
        return;
    __asm__ volatile("xsave64 %0" : "=m"(x->fpu) : "a"((uint32_t)x->components), "d"(0) : "memory");
    __asm__ volatile("ldmxcsr %0\n\tfninit\n\tvzeroupper" : : "m"(mxcsr));
    b->fpu = FPU_IN_CONTEXT;
}

/* ---- the state ---- */

static void to_context(struct binary_vcpu *b)
{
    const struct x86_state *s = &b->v->cpu.s;
    uint8_t *area = b->context->fpu;
    bytes_fill(area, 0, XSAVE_MIN_SIZE);
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
        bytes_copy(area + AREA_XMM + 16 * i, s->vec[i].u8, 16);
        bytes_copy(area + AREA_YMM + 16 * i, s->vec[i].u8 + 16, 16);
    }
    store_u64(area + AREA_XSTATE_BV, b->context->components);
    b->fpu = FPU_IN_CONTEXT;
}

void binary_fpu_to_host(struct binary_vcpu *b)
{
    if (b->fpu == FPU_IN_STATE)
        to_context(b);
    if (b->fpu == FPU_IN_CONTEXT)
        load(b);
}

void binary_fpu_to_state(struct binary_vcpu *b)
{
    binary_outside(b);
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
        s->vec[i] = (union x86_vec){.u64 = {0}};
        if (sse)
            bytes_copy(s->vec[i].u8, area + AREA_XMM + 16 * i, 16);
        if (avx)
            bytes_copy(s->vec[i].u8 + 16, area + AREA_YMM + 16 * i, 16);
    }
}

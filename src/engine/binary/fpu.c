/*
 * The guest's x87 and vector registers, between the neutral state and the XSAVE area that enter.S
 * loads and stores (SDM 1, 13.4).
 */
#include "x86/fpu.h"
#include "base/bytes.h"
#include "engine/binary/binary.h"
#include "x86/xsave.h"

enum { AREA_XSTATE_BV = XSAVE_LEGACY_SIZE };

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

static uint8_t *ymm_in(uint8_t *area)
{
    return area + x86_xsave_component[XSAVE_AVX].offset;
}

static void to_context(struct binary_vcpu *b)
{
    uint8_t *area = b->context->fpu;
    bytes_fill(area, 0, XSAVE_MIN_SIZE);
    x86_fx_put(&b->v->cpu.s, area);
    x86_ymm_put(&b->v->cpu.s, ymm_in(area));
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

static void take(struct x86_state *s, const uint8_t *area)
{
    uint64_t present = load_u64(area + AREA_XSTATE_BV);
    x86_fx_take(s, area, present);
    if (present & XCR0_AVX)
        x86_ymm_take(s, area + x86_xsave_component[XSAVE_AVX].offset);
    /* The host's pointers are into translated code: no one is told. */
    s->fop = 0;
    s->fip = s->fdp = 0;
}

void binary_fpu_to_state(struct binary_vcpu *b)
{
    binary_outside(b);
    if (b->fpu == FPU_IN_STATE)
        return;
    b->fpu = FPU_IN_STATE;
    take(&b->v->cpu.s, b->context->fpu);
}

void binary_fpu_copy(struct binary_vcpu *b, struct x86_state *to)
{
    binary_outside(b);
    if (b->fpu != FPU_IN_STATE)
        take(to, b->context->fpu);
}

/*
 * The guest's x87 and vector registers, between the neutral state and the XSAVE area that enter.S
 * loads and stores (SDM 1, 13.4).
 */
#include "x86/fpu.h"

#include <cpuid.h>

#include "base/bytes.h"
#include "engine/binary/binary.h"
#include "engine/binary/cage.h"
#include "x86/cpuid.h"
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

/* AVX-512's components, which the state has as the area has them; where they are in it, the host's
 * processor says. */
static const struct {
    uint8_t component;
    uint16_t size, state;
} avx512[] = {
    {XSAVE_OPMASK, sizeof((struct x86_state *)0)->opmask, offsetof(struct x86_state, opmask)},
    {XSAVE_ZMM_HI256, sizeof((struct x86_state *)0)->zmm_upper,
     offsetof(struct x86_state, zmm_upper)},
    {XSAVE_HI16_ZMM, sizeof((struct x86_state *)0)->zmm_more, offsetof(struct x86_state, zmm_more)},
};

static void put_avx512(const struct binary_vcpu *b, uint8_t *area)
{
    const uint8_t *s = (const uint8_t *)&b->v->cpu.s;
    for (unsigned i = 0; i < ARRAY_LEN(avx512); i++)
        bytes_copy(area + b->vm->xsave_offset[avx512[i].component], s + avx512[i].state,
                   avx512[i].size);
}

static void take_avx512(const struct binary_vcpu *b, struct x86_state *to, uint64_t present)
{
    const uint8_t *area = b->context->fpu;
    uint8_t *s = (uint8_t *)to;
    for (unsigned i = 0; i < ARRAY_LEN(avx512); i++) {
        unsigned component = avx512[i].component;
        if (present >> component & 1)
            bytes_copy(s + avx512[i].state, area + b->vm->xsave_offset[component], avx512[i].size);
        else
            bytes_fill(s + avx512[i].state, 0, avx512[i].size);
    }
}

bool binary_fpu_find(struct binary_vm *vm, const struct x86_model *model, struct error *err)
{
    vm->components = XCR0_X87 | XCR0_SSE | XCR0_AVX | (model->xcr0 & XCR0_AVX512);
    if (!(vm->components & XCR0_AVX512))
        return true;
    for (unsigned i = 0; i < ARRAY_LEN(avx512); i++) {
        unsigned size = 0, offset = 0, c, d;
        if (!__get_cpuid_count(0xd, avx512[i].component, &size, &offset, &c, &d) ||
            size != avx512[i].size || offset + size > sizeof((struct context *)0)->fpu)
            return error_set(err, "engine binary: the host's XSAVE area has an unknown layout");
        vm->xsave_offset[avx512[i].component] = (uint16_t)offset;
    }
    return true;
}

static void to_context(struct binary_vcpu *b)
{
    uint8_t *area = b->context->fpu;
    bytes_fill(area, 0, XSAVE_MIN_SIZE);
    x86_fx_put(&b->v->cpu.s, area);
    x86_ymm_put(&b->v->cpu.s, ymm_in(area));
    if (b->context->components & XCR0_AVX512)
        put_avx512(b, area);
    store_u64(area + AREA_XSTATE_BV, b->context->components);
    b->fpu = FPU_IN_CONTEXT;
}

/* Out of the cage, but for components that the guest does not have. If it is gone, so are they: it
 * is told of at the next run. */
static void fetch(struct binary_vcpu *b)
{
    uint8_t *area = b->context->fpu;
    cage_get_vectors(b->fpu_cage, area, sizeof b->context->fpu);
    store_u64(area + AREA_XSTATE_BV, load_u64(area + AREA_XSTATE_BV) & b->context->components);
    b->fpu = FPU_IN_CONTEXT;
}

void binary_fpu_home(struct binary_vcpu *b)
{
    if (b->fpu == FPU_IN_CAGE)
        fetch(b);
}

bool binary_fpu_to_cage(struct binary_vcpu *b, const struct cage *to)
{
    if (b->fpu == FPU_IN_CAGE && b->fpu_cage == to)
        return true;
    binary_fpu_home(b);
    binary_outside(b);
    if (b->fpu == FPU_IN_STATE)
        to_context(b);
    if (!cage_set_vectors(to, b->context->fpu, sizeof b->context->fpu))
        return false;
    b->fpu = FPU_IN_CAGE;
    b->fpu_cage = to;
    return true;
}

void binary_fpu_to_host(struct binary_vcpu *b)
{
    binary_fpu_home(b);
    if (b->fpu == FPU_IN_STATE)
        to_context(b);
    if (b->fpu == FPU_IN_CONTEXT)
        load(b);
}

void binary_fpu_for_guest(struct binary_vcpu *b)
{
    if (b->fpu != FPU_IN_CAGE || b->v->cpu.cpl == 3)
        binary_fpu_to_host(b);
    b->context->fpu_away = b->fpu == FPU_IN_CAGE;
}

static void take(const struct binary_vcpu *b, struct x86_state *s)
{
    uint8_t *area = b->context->fpu;
    uint64_t present = load_u64(area + AREA_XSTATE_BV);
    x86_fx_take(s, area, present);
    if (present & XCR0_AVX)
        x86_ymm_take(s, ymm_in(area));
    if (b->context->components & XCR0_AVX512)
        take_avx512(b, s, present);
    /* The host's pointers are into translated code: no one is told. */
    s->fop = 0;
    s->fip = s->fdp = 0;
}

void binary_fpu_to_state(struct binary_vcpu *b)
{
    binary_fpu_home(b);
    binary_outside(b);
    if (b->fpu == FPU_IN_STATE)
        return;
    b->fpu = FPU_IN_STATE;
    take(b, &b->v->cpu.s);
}

void binary_fpu_copy(struct binary_vcpu *b, struct x86_state *to)
{
    binary_outside(b);
    if (b->fpu != FPU_IN_STATE)
        take(b, to);
}

/*
 * x87, vector and protection-key state: the XSAVE area that KVM takes and gives, in the standard
 * form (SDM 1, 13.4), whatever the guest uses itself.
 */
#include <cpuid.h>
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/fpu.h"
#include "x86/xsave.h"

enum { AREA_XSTATE_BV = XSAVE_LEGACY_SIZE };

/* Where the host's processor puts a component (KVM's area follows it, not the guest's CPUID). Asked
 * for once: under a hypervisor CPUID takes its time. */
void hardware_find_components(struct engine_vm *vm)
{
    enum { XSAVEC = 1u << 1, XSAVES = 1u << 3 };
    size_t room = vm->kvm.xsave_size ? vm->kvm.xsave_size : sizeof(struct kvm_xsave);
    unsigned features = 0, x, y, z;
    vm->compacts =
        __get_cpuid_count(0xd, 1, &features, &x, &y, &z) && (features & (XSAVEC | XSAVES));
    for (unsigned i = XSAVE_AVX; i < HARDWARE_COMPONENTS; i++) {
        unsigned size = 0, offset = 0, c, d;
        if (__get_cpuid_count(0xd, i, &size, &offset, &c, &d) && offset + size <= room)
            vm->component[i] = (struct component){offset, size};
    }
}

/* NULL: the host has none. */
static uint8_t *component_at(const struct engine_vcpu *v, unsigned number)
{
    const struct component *c = &v->vm->component[number];
    return c->size ? v->xsave + c->offset : NULL;
}

/* AVX-512's components are in the neutral state as they are in the area. */
static const struct {
    unsigned number;
    uint16_t offset, size; /* in struct x86_state */
} plain[] = {
    {XSAVE_OPMASK, offsetof(struct x86_state, opmask), sizeof((struct x86_state *)0)->opmask},
    {XSAVE_ZMM_HI256, offsetof(struct x86_state, zmm_upper),
     sizeof((struct x86_state *)0)->zmm_upper},
    {XSAVE_HI16_ZMM, offsetof(struct x86_state, zmm_more), sizeof((struct x86_state *)0)->zmm_more},
};

static uint64_t put_plain(struct engine_vcpu *v)
{
    uint64_t present = 0;
    for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
        uint8_t *to = component_at(v, plain[i].number);
        if (!to || !(v->vm->model->xcr0 & BIT(plain[i].number)))
            continue;
        memcpy(to, (const uint8_t *)&v->cpu.s + plain[i].offset, plain[i].size);
        present |= BIT(plain[i].number);
    }
    return present;
}

static void take_plain(struct engine_vcpu *v, uint64_t present)
{
    for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
        const uint8_t *from = component_at(v, plain[i].number);
        uint8_t *to = (uint8_t *)&v->cpu.s + plain[i].offset;
        if (!from || !(v->vm->model->xcr0 & BIT(plain[i].number)))
            continue;
        if (present & BIT(plain[i].number))
            memcpy(to, from, plain[i].size);
        else
            memset(to, 0, plain[i].size);
    }
}

static void put_area(struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    uint8_t *area = v->xsave;
    uint64_t present = XCR0_X87 | XCR0_SSE | put_plain(v);
    memset(area, 0, XSAVE_MIN_SIZE);
    x86_fx_put(s, area);
    uint8_t *ymm = component_at(v, XSAVE_AVX);
    uint8_t *pkru = component_at(v, XSAVE_PKRU);
    if (ymm && (v->vm->model->xcr0 & XCR0_AVX)) {
        x86_ymm_put(s, ymm);
        present |= XCR0_AVX;
    }
    if (pkru && (v->vm->model->xcr0 & XCR0_PKRU)) {
        store_u32(pkru, s->pkru);
        present |= XCR0_PKRU;
    }
    store_u64(area + AREA_XSTATE_BV, present);
}

/* A component that is not present is in its initial state. */
static void take_area(struct engine_vcpu *v)
{
    struct x86_state *s = &v->cpu.s;
    const uint8_t *area = v->xsave;
    uint64_t present = load_u64(area + AREA_XSTATE_BV);
    const uint8_t *ymm = component_at(v, XSAVE_AVX);
    x86_fx_take(s, area, present);
    /* The kernel's XSAVES counts MXCSR to SSE and leaves it alone where all of that is in its
     * initial state; KVM then gives what was there before. */
    if (v->vm->compacts && !(present & XCR0_SSE))
        s->mxcsr = X86_MXCSR_INIT;
    take_plain(v, present);
    if ((present & XCR0_AVX) && ymm)
        x86_ymm_take(s, ymm);
    const uint8_t *pkru = component_at(v, XSAVE_PKRU);
    if (v->vm->model->xcr0 & XCR0_PKRU)
        s->pkru = (present & XCR0_PKRU) && pkru ? load_u32(pkru) : 0;
}

/* ---- what KVM has already ---- */

/* Most stretches of a system's leave a user's registers alone, which are an ioctl to load. */
static bool has_already(const struct engine_vcpu *v)
{
    return v->fpu.known && v->fpu.pkru == v->cpu.s.pkru &&
           memcmp(v->fpu.bytes, (const uint8_t *)&v->cpu.s + FPU_BEGIN, FPU_END - FPU_BEGIN) == 0;
}

static void note(struct engine_vcpu *v)
{
    v->fpu.known = true;
    v->fpu.pkru = v->cpu.s.pkru;
    memcpy(v->fpu.bytes, (const uint8_t *)&v->cpu.s + FPU_BEGIN, FPU_END - FPU_BEGIN);
}

bool hardware_load_fpu(struct engine_vcpu *v)
{
    if (has_already(v))
        return true;
    put_area(v);
    return ioctl(v->fd, KVM_SET_XSAVE, v->xsave) == 0 || hardware_fail(v, "KVM_SET_XSAVE");
}

/* Some processors count a component as in use that has only zeros, as they do after VPGATHERDD. */
static bool in_use(const struct engine_vcpu *v, unsigned number)
{
    const struct component *c = &v->vm->component[number];
    uint8_t bits = 0;
    for (unsigned i = 0; i < c->size; i++)
        bits |= v->xsave[c->offset + i];
    return bits != 0;
}

bool hardware_fpu_exceeds_model(const struct engine_vcpu *v)
{
    const uint64_t known = v->vm->model->xcr0 | XCR0_PKRU;
    uint64_t strange = load_u64(v->xsave + AREA_XSTATE_BV) & ~known;
    for (unsigned i = XSAVE_AVX; i < HARDWARE_COMPONENTS; i++)
        if ((strange & BIT(i)) && in_use(v, i))
            return true;
    return false;
}

bool hardware_fetch_fpu(struct engine_vcpu *v)
{
    bool large = v->vm->kvm.xsave_size;
    if (ioctl(v->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, v->xsave) != 0)
        return hardware_fail(v, large ? "KVM_GET_XSAVE2" : "KVM_GET_XSAVE");
    take_area(v);
    note(v);
    return true;
}

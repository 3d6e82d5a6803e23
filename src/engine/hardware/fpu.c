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

/* Where the host's processor puts a component; 0: it has none. KVM's area follows the host, not
 * the guest's CPUID. */
static unsigned host_offset(unsigned component)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(0xd, component, &a, &b, &c, &d) && a ? b : 0;
}

/* KVM sizes its area for what the host has: none of the offsets is outside. */
static uint8_t *component_at(const struct engine_vcpu *v, unsigned component, unsigned size)
{
    unsigned offset = host_offset(component);
    size_t room = v->vm->kvm.xsave_size ? v->vm->kvm.xsave_size : sizeof(struct kvm_xsave);
    return offset && offset + size <= room ? v->xsave + offset : NULL;
}

enum { YMM_HIGH_ALL = 16 * 16, PKRU_SIZE = 4 };

static void put_area(struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    uint8_t *area = v->xsave;
    uint64_t present = XCR0_X87 | XCR0_SSE;
    memset(area, 0, XSAVE_MIN_SIZE);
    x86_fx_put(s, area);
    uint8_t *ymm = component_at(v, XSAVE_AVX, YMM_HIGH_ALL);
    uint8_t *pkru = component_at(v, XSAVE_PKRU, PKRU_SIZE);
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
    const uint8_t *ymm = component_at(v, XSAVE_AVX, YMM_HIGH_ALL);
    x86_fx_take(s, area, present);
    if ((present & XCR0_AVX) && ymm)
        x86_ymm_take(s, ymm);
    const uint8_t *pkru = component_at(v, XSAVE_PKRU, PKRU_SIZE);
    if (v->vm->model->xcr0 & XCR0_PKRU)
        s->pkru = (present & XCR0_PKRU) && pkru ? load_u32(pkru) : 0;
}

bool hardware_load_fpu(struct engine_vcpu *v)
{
    put_area(v);
    return ioctl(v->fd, KVM_SET_XSAVE, v->xsave) == 0 || hardware_fail(v, "KVM_SET_XSAVE");
}

bool hardware_fetch_fpu(struct engine_vcpu *v)
{
    bool large = v->vm->kvm.xsave_size;
    if (ioctl(v->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, v->xsave) != 0)
        return hardware_fail(v, large ? "KVM_GET_XSAVE2" : "KVM_GET_XSAVE");
    take_area(v);
    return true;
}

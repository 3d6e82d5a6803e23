/*
 * x87, vector and protection-key state: the XSAVE area that KVM takes and gives, in the standard
 * form (SDM 1, 13.4), whatever the guest uses itself.
 */
#include <cpuid.h>
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/xsave.h"

/* Offsets in the legacy region (SDM 1, table 10-2, with 64-bit pointers). */
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
    AREA_XSTATE_BV = XSAVE_LEGACY_SIZE,
};

/* Where the host's processor puts a component; 0: it has none. KVM's area follows the host, not
 * the guest's CPUID. */
static unsigned host_offset(unsigned component)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(0xd, component, &a, &b, &c, &d) && a ? b : 0;
}

static unsigned top(const struct x86_state *s)
{
    return s->fsw >> 11 & 7;
}

/* KVM sizes its area for what the host has: none of the offsets is outside. */
static uint8_t *component_at(const struct engine_vcpu *v, unsigned component, unsigned size)
{
    unsigned offset = host_offset(component);
    size_t room = v->vm->kvm.xsave_size ? v->vm->kvm.xsave_size : sizeof(struct kvm_xsave);
    return offset && offset + size <= room ? v->xsave + offset : NULL;
}

enum { YMM_HIGH = 16, YMM_HIGH_ALL = 16 * YMM_HIGH, PKRU_SIZE = 4 };

static void put_area(struct engine_vcpu *v)
{
    const struct x86_state *s = &v->cpu.s;
    uint8_t *area = v->xsave;
    uint64_t present = XCR0_X87 | XCR0_SSE;
    memset(area, 0, XSAVE_MIN_SIZE);
    store_u16(area + AREA_FCW, s->fcw);
    store_u16(area + AREA_FSW, s->fsw);
    area[AREA_FTW] = s->ftag;
    store_u16(area + AREA_FOP, s->fop);
    store_u64(area + AREA_FIP, s->fip);
    store_u64(area + AREA_FDP, s->fdp);
    store_u32(area + AREA_MXCSR, s->mxcsr);
    for (unsigned i = 0; i < 8; i++) {
        const struct x86_f80 *st = &s->st[(top(s) + i) & 7];
        store_u64(area + AREA_ST + 16 * i, st->mantissa);
        store_u16(area + AREA_ST + 16 * i + 8, st->se);
    }
    for (unsigned i = 0; i < 16; i++)
        memcpy(area + AREA_XMM + 16 * i, &s->vec[i], 16);
    uint8_t *ymm = component_at(v, XSAVE_AVX, YMM_HIGH_ALL);
    uint8_t *pkru = component_at(v, XSAVE_PKRU, PKRU_SIZE);
    if (ymm && (v->vm->model->xcr0 & XCR0_AVX)) {
        for (unsigned i = 0; i < 16; i++)
            memcpy(ymm + YMM_HIGH * i, s->vec[i].u8 + 16, YMM_HIGH);
        present |= XCR0_AVX;
    }
    if (pkru && (v->vm->model->xcr0 & XCR0_PKRU)) {
        store_u32(pkru, s->pkru);
        present |= XCR0_PKRU;
    }
    store_u64(area + AREA_XSTATE_BV, present);
}

static void take_x87(struct x86_state *s, const uint8_t *area)
{
    s->fcw = load_u16(area + AREA_FCW);
    s->fsw = load_u16(area + AREA_FSW);
    s->ftag = area[AREA_FTW];
    s->fop = load_u16(area + AREA_FOP);
    s->fip = load_u64(area + AREA_FIP);
    s->fdp = load_u64(area + AREA_FDP);
    s->fcs = s->fds = 0;
    for (unsigned i = 0; i < 8; i++) {
        struct x86_f80 *st = &s->st[(top(s) + i) & 7];
        st->mantissa = load_u64(area + AREA_ST + 16 * i);
        st->se = load_u16(area + AREA_ST + 16 * i + 8);
    }
}

/* A component that is not present is in its initial state. */
static void take_area(struct engine_vcpu *v)
{
    static const uint8_t initial_x87[XSAVE_LEGACY_SIZE] = {[AREA_FCW] = 0x7f, 0x03};
    struct x86_state *s = &v->cpu.s;
    const uint8_t *area = v->xsave;
    uint64_t present = load_u64(area + AREA_XSTATE_BV);
    take_x87(s, present & XCR0_X87 ? area : initial_x87);
    s->mxcsr = load_u32(area + AREA_MXCSR);
    const uint8_t *ymm = component_at(v, XSAVE_AVX, YMM_HIGH_ALL);
    for (unsigned i = 0; i < 16; i++) {
        memset(&s->vec[i], 0, sizeof s->vec[i]);
        if (present & XCR0_SSE)
            memcpy(&s->vec[i], area + AREA_XMM + 16 * i, 16);
        if ((present & XCR0_AVX) && ymm)
            memcpy(s->vec[i].u8 + 16, ymm + YMM_HIGH * i, YMM_HIGH);
    }
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

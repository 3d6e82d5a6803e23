/*
 * The time-stamp counter. The guest reads the processor's own, to which KVM adds an offset; it must
 * show what the machine's counter does (struct x86_host).
 */
#include <sys/ioctl.h>
#include <x86intrin.h>

#include "engine/hardware/hardware.h"

enum { SAMPLES = 5 };

static uint64_t distance(int64_t a, int64_t b)
{
    return a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;
}

/* How far the machine's counter is ahead of the host's: of several looks at both, the one that took
 * the least time. */
static int64_t measure(struct engine_vcpu *v)
{
    uint64_t least = UINT64_MAX;
    int64_t offset = 0;
    for (unsigned i = 0; i < SAMPLES; i++) {
        uint64_t before = __rdtsc();
        uint64_t machine = v->cpu.host.tsc_read(v->cpu.host.ctx);
        uint64_t took = __rdtsc() - before;
        if (took < least) {
            least = took;
            offset = (int64_t)(machine - (before + took / 2));
        }
    }
    return offset;
}

/* Processors whose counters agree as far as can be told get one offset: guests look for the
 * smallest difference between two. */
static int64_t agree(struct engine_vm *vm, int64_t offset, uint64_t tolerance)
{
    int64_t shared = atomic_load(&vm->tsc_offset);
    if (atomic_load(&vm->tsc_known) && distance(offset, shared) < tolerance)
        return shared;
    atomic_store(&vm->tsc_offset, offset);
    atomic_store(&vm->tsc_known, true);
    return offset;
}

static bool set_offset(struct engine_vcpu *v, int64_t offset)
{
    uint64_t value = (uint64_t)offset;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&value};
    v->tsc_offset = offset;
    v->tsc_known = true;
    if (ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr) != 0)
        return hardware_fail(v, "KVM_VCPU_TSC_OFFSET");
    hardware_deadline_moved(v);
    return true;
}

/* Where guests read the host's counter whatever the offset is, deadlines of KVM's local APIC are
 * to mean that counter too. */
static bool set_fixed(struct engine_vcpu *v)
{
    return v->tsc_known || !v->vm->keeps_apics || set_offset(v, 0);
}

bool hardware_set_tsc(struct engine_vcpu *v, bool moved)
{
    if (v->vm->model->tsc == X86_TSC_FIXED)
        return set_fixed(v);
    if (!v->cpu.host.tsc_read)
        return true;
    uint64_t hz = v->vm->model->tsc_hz;
    uint64_t tolerance = moved ? hz / 1000000 : hz / 20000;
    int64_t offset = measure(v);
    if (v->tsc_known && !moved && distance(offset, v->tsc_offset) < tolerance)
        return true;
    return set_offset(v, agree(v->vm, offset, tolerance));
}

/*
 * Where KVM gives up on an instruction, `emulate` does that one on the neutral state.
 *
 * Where the local APIC is KVM's it goes on all the while: other processors send interrupts. So it
 * is not touched: a pending NMI stays with KVM, and the control registers, of which CR8 is a part
 * of the APIC's TPR, go back only if they have changed.
 *
 * Of a guest of the guest's `emulate` knows nothing: its memory is behind tables of another kind.
 * No instruction of that kind should come here (hardware_tell_failures()).
 */
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"

/* The emulating vCPU keeps no decoded code over such a step: KVM's vCPUs write to memory without
 * telling it. It runs its last instruction before a limit as one that is not kept. */
static int step(struct engine_vcpu *v)
{
    const struct engine *e = &engine_emulate;
    struct engine_vcpu *a = v->assist;
    struct x86_state *s = &v->cpu.s;
    struct kvm_sregs2 before;
    bool nmi = s->nmi_pending;
    hardware_put_sregs(v, &before);
    s->nmi_pending = nmi && !v->vm->keeps_apics;
    e->set_state(a, s);
    v->assisting = true;
    enum engine_exit exit = e->run(a, e->instructions(a) + 1);
    v->assisting = false;
    e->get_state(a, s);
    v->loaded = v->incomplete = false;
    v->stepping = v->vm->keeps_apics;
    v->same_sregs = hardware_same_sregs(v, &before);
    return exit == ENGINE_SHUTDOWN || exit == ENGINE_FAILED ? (int)exit : GO_ON;
}

/* Also where KVM does not say. */
static bool runs_guest_of_guest(const struct engine_vcpu *v)
{
    union {
        struct kvm_nested_state head;
        uint8_t all[sizeof(struct kvm_nested_state) + sizeof(struct kvm_vmx_nested_state_data)];
    } k = {.head.size = sizeof k};
    return v->vm->offer.vmx && (ioctl(v->fd, KVM_GET_NESTED_STATE, &k.head) < 0 ||
                                (k.head.flags & KVM_STATE_NESTED_GUEST_MODE));
}

int hardware_assist(struct engine_vcpu *v)
{
    v->assists++;
    v->cpu.s.activity = X86_ACTIVE;
    if (runs_guest_of_guest(v)) {
        error_set(&v->error,
                  "engine hardware: vCPU %u: KVM gave up on an instruction of a guest that the "
                  "guest runs",
                  v->cpu.index);
        v->broken = true;
        return ENGINE_FAILED;
    }
    if (!hardware_fetch(v))
        return ENGINE_FAILED;
    /* Where INIT has come meanwhile, the instruction is nobody's any more. */
    return v->cpu.s.activity == X86_ACTIVE ? step(v) : GO_ON;
}

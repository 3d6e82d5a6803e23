/*
 * Where KVM gives up on an instruction, `emulate` does that one on the neutral state.
 *
 * Where the local APIC is KVM's it goes on all the while: other processors send interrupts. So it
 * is not touched: a pending NMI stays with KVM, and the control registers, of which CR8 is a part
 * of the APIC's TPR, go back only if they have changed.
 */
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

int hardware_assist(struct engine_vcpu *v)
{
    v->assists++;
    v->cpu.s.activity = X86_ACTIVE;
    if (!hardware_fetch(v))
        return ENGINE_FAILED;
    /* Where INIT has come meanwhile, the instruction is nobody's any more. */
    return v->cpu.s.activity == X86_ACTIVE ? step(v) : GO_ON;
}

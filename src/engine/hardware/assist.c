/*
 * Where KVM gives up on an instruction, `emulate` does that one on the neutral state.
 */
#include "engine/hardware/hardware.h"

/* The emulating vCPU keeps no decoded code over such a step: KVM's vCPUs write to memory without
 * telling it. It runs its last instruction before a limit as one that is not kept. */
static int step(struct engine_vcpu *v)
{
    const struct engine *e = &engine_emulate;
    struct engine_vcpu *a = v->assist;
    v->cpu.s.activity = X86_ACTIVE;
    e->set_state(a, &v->cpu.s);
    v->assisting = true;
    enum engine_exit exit = e->run(a, e->instructions(a) + 1);
    v->assisting = false;
    e->get_state(a, &v->cpu.s);
    v->loaded = v->incomplete = false;
    return exit == ENGINE_SHUTDOWN || exit == ENGINE_FAILED ? (int)exit : GO_ON;
}

int hardware_assist(struct engine_vcpu *v)
{
    v->assists++;
    return hardware_fetch(v) ? step(v) : ENGINE_FAILED;
}

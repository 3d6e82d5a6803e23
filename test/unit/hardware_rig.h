/* The rig on KVM, for tests that are skipped where there is none. */
#ifndef DOPPEL_TEST_HARDWARE_RIG_H
#define DOPPEL_TEST_HARDWARE_RIG_H

#define RIG_ENGINE engine_hardware
#include "emulate_rig.h"

static char why[256];

#define NEEDS_KVM()                                                                                \
    do {                                                                                           \
        if (!engine_hardware.usable(why, sizeof why))                                              \
            SKIP(why);                                                                             \
    } while (0)

/* The first vCPU goes on as the only one of a new machine, of that model and with what r->host has
 * become: KVM takes both when it is made. */
static bool rig_remake(struct rig *r, const struct x86_model *model)
{
    struct error err;
    struct x86_state s = rig_state(r);
    engine_hardware.vcpu_destroy(r->vcpu);
    engine_hardware.vm_destroy(r->vm);
    if (!engine_hardware.vm_create(&r->vm, &r->memory, model, 1, &err) ||
        !engine_hardware.vcpu_create(&r->vcpu, r->vm, 0, &r->host, &err))
        return false;
    r->all[0] = r->vcpu;
    engine_hardware.set_state(r->vcpu, &s);
    return true;
}

#endif

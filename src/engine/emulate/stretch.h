/*
 * For an engine that leaves whole stretches of code to this one, and keeps what it runs better
 * itself.
 */
#ifndef DOPPEL_ENGINE_EMULATE_STRETCH_H
#define DOPPEL_ENGINE_EMULATE_STRETCH_H

#include "engine/engine.h"
#include "x86/cpu.h"

struct emulate_stretch {
    /* Whether the other engine is to go on from here; asked between instructions. */
    bool (*ends)(void *ctx, const struct x86_cpu *c);
    void *ctx;

    bool dropped; /* out: the guest had the processor drop translations */
};

/* The engine's set_state(), when of the state that it gave last at most registers have changed that
 * users can change: translations and code that are known are kept. */
void emulate_set_user(struct engine_vcpu *v, const struct x86_state *from);

/* Runs as the engine's run() does, one instruction at least, which is not kept decoded.
 * ENGINE_LIMIT: the stretch ends here. */
enum engine_exit emulate_run_stretch(struct engine_vcpu *v, struct emulate_stretch *stretch);

#endif

#include "engine/emulate/stretch.h"

#include "engine/emulate/emulate.h"
#include "x86/flags.h"

void emulate_set_user(struct engine_vcpu *v, const struct x86_state *from)
{
    struct x86_cpu *c = &v->cpu;
    c->s = *from;
    c->s.gpr[X86_GPR_ZERO] = 0;
    c->jump_key = NO_JUMP_KEY;
    x86_set_rflags(c, from->rflags);
    x86_update_mode(c);
}

static void note_flush(struct x86_cpu *c)
{
    struct engine_vcpu *v = c->engine;
    v->stretch->dropped = true;
}

static void note_page_flush(struct x86_cpu *c, uint64_t lin, unsigned bits)
{
    (void)lin;
    (void)bits;
    note_flush(c);
}

bool emulate_stretch_ends(const struct engine_vcpu *v)
{
    return v->cpu.insns != v->stretch_from && v->stretch->ends(v->stretch->ctx, &v->cpu);
}

enum engine_exit emulate_run_stretch(struct engine_vcpu *v, struct emulate_stretch *stretch)
{
    struct x86_cpu *c = &v->cpu;
    stretch->dropped = false;
    v->stretch = stretch;
    v->stretch_from = c->insns;
    v->step_once = true;
    c->tlb_flushed = note_flush;
    c->tlb_flushed_page = note_page_flush;
    enum engine_exit exit = emulate_run(v, UINT64_MAX);
    c->tlb_flushed = NULL;
    c->tlb_flushed_page = NULL;
    v->stretch = NULL;
    return exit;
}

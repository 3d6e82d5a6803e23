#include "engine/emulate/stretch.h"

#include "engine/emulate/emulate.h"

static void note_flush(struct x86_cpu *c)
{
    struct engine_vcpu *v = c->engine;
    v->stretch->dropped = true;
}

static void note_page_flush(struct x86_cpu *c, uint64_t lin)
{
    (void)lin;
    note_flush(c);
}

bool emulate_stretch_ends(const struct engine_vcpu *v)
{
    return v->cpu.insns != v->stretch_from && v->stretch->ends(v->stretch->ctx, &v->cpu);
}

enum engine_exit emulate_run_stretch(struct engine_vcpu *v, struct emulate_stretch *stretch)
{
    struct x86_cpu *c = &v->cpu;
    uint64_t decoded = v->cache.decoded;
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
    stretch->decoded = v->cache.decoded != decoded;
    return exit;
}

/*
 * Running one of the two engines to a count.
 */
#include "engine/lockstep/internal.h"

#include <string.h>

#include "x86/state_archive.h"

/* Returns from an engine's run() without progress, after which it counts as stuck; more
 * instructions than a block has. */
enum { PATIENCE = 10000, FAR = 4096 };

uint64_t side_count(const struct side *s)
{
    return s->engine->instructions(s->vcpu) - s->origin;
}

void side_state(struct side *s, struct x86_state *state)
{
    s->engine->get_state(s->vcpu, state);
}

typedef enum engine_exit run_fn(struct engine_vcpu *vcpu, uint64_t limit);

static enum engine_exit run_to(struct side *s, uint64_t limit, run_fn *run)
{
    s->limit = limit;
    s->engine->interrupt(s->vcpu, s->level);
    s->running = true;
    enum engine_exit why = run(s->vcpu, limit + s->origin);
    s->running = false;
    return why;
}

/* Where an engine stops because it was asked to, it may have delivered a fault of the next
 * instruction, or have done part of a repeated one, which no count tells. It stands at a boundary
 * that another engine can be brought to when it has just done an instruction and was not to do
 * more: one more instruction is run where it was not so. */
enum engine_exit side_lead(struct engine_vcpu *v, uint64_t to)
{
    struct side *s = &v->side[0];
    run_fn *run = v->lockstep->step == LOCKSTEP_BLOCK ? s->engine->run_block : s->engine->run;
    tape_inputs(v);
    v->recording = true;
    enum engine_exit why = ENGINE_LIMIT;
    unsigned patience = PATIENCE;
    for (uint64_t limit = to; side_count(s) < limit;) {
        uint64_t before = side_count(s);
        why = run_to(s, limit, run);
        if (why == ENGINE_HALTED || why == ENGINE_SHUTDOWN || why == ENGINE_FAILED)
            break;
        if (why == ENGINE_LIMIT && side_count(s) > before)
            break; /* at the limit, or behind a block */
        if (side_count(s) >= limit)
            why = ENGINE_LIMIT;
        else if (why == ENGINE_STOPPED)
            limit = side_count(s) + 1;
        if (side_count(s) == before && --patience == 0) {
            why = ENGINE_FAILED;
            break;
        }
    }
    v->recording = false;
    s->next = v->tape.count;
    return why;
}

/* ---- replays ---- */

/* Takes what the machine did to the vCPU at this count. */
static void take_inputs(struct side *s)
{
    const struct tape *r = &s->owner->tape;
    for (; s->input < r->inputs && r->input[s->input].at <= side_count(s); s->input++) {
        const struct input *in = &r->input[s->input];
        if (in->nmi)
            s->engine->nmi(s->vcpu);
        else
            s->level = in->level;
    }
}

static uint64_t plant_at(const struct side *s)
{
    const struct lockstep_plant *p = &s->owner->lockstep->plant;
    return p->wanted && s == &s->owner->side[1] ? p->at : UINT64_MAX;
}

/* The count at which something is to be done before the side may go on to `to`. */
static uint64_t next_stop(const struct side *s, uint64_t to)
{
    const struct tape *r = &s->owner->tape;
    uint64_t at = plant_at(s);
    if (s->input < r->inputs && r->input[s->input].at < to)
        to = r->input[s->input].at;
    return at > side_count(s) && at < to ? at : to;
}

static void plant(struct side *s)
{
    const struct lockstep_plant *p = &s->owner->lockstep->plant;
    uint8_t byte;
    if (!p->field) {
        if (memory_read(s->memory, p->gpa, &byte, 1)) {
            byte ^= 1;
            memory_write(s->memory, p->gpa, &byte, 1);
        }
        return;
    }
    struct x86_state state;
    side_state(s, &state);
    for (unsigned i = 0; i < x86_state_archive.field_count; i++) {
        const struct archive_field *f = &x86_state_archive.fields[i];
        if (strcmp(f->name, p->field) == 0 && p->index < f->count)
            *((uint8_t *)&state + f->offset + (size_t)p->index * f->size) ^= 1;
    }
    s->engine->set_state(s->vcpu, &state);
}

/* By blocks, it may go a little further. */
static enum engine_exit go_to(struct side *s, uint64_t to)
{
    enum engine_exit why = ENGINE_LIMIT;
    run_fn *run = s->by_block ? s->engine->run_block : s->engine->run;
    unsigned patience = PATIENCE;
    while (side_count(s) < to && !s->differs) {
        uint64_t before = side_count(s);
        why = run_to(s, s->by_block ? to + FAR : to, run);
        if (why == ENGINE_HALTED || why == ENGINE_SHUTDOWN || why == ENGINE_FAILED)
            break;
        if (side_count(s) == before && --patience == 0)
            return ENGINE_FAILED;
    }
    return why;
}

/* A halt is no exit of its own here: the input that ends it may be on record at the same count. */
enum engine_exit side_replay(struct side *s, uint64_t to)
{
    enum engine_exit why = ENGINE_LIMIT;
    take_inputs(s);
    for (uint64_t stop; side_count(s) < to && !s->differs;) {
        stop = next_stop(s, to);
        why = go_to(s, stop);
        if (why == ENGINE_SHUTDOWN || why == ENGINE_FAILED || side_count(s) < stop)
            break;
        if (side_count(s) == plant_at(s))
            plant(s);
        if (side_count(s) < to)
            take_inputs(s);
    }
    return why;
}

void side_rewind(struct side *s)
{
    struct engine_vcpu *v = s->owner;
    pages_copy(s->memory, &v->vm->base);
    s->engine->set_state(s->vcpu, &v->base);
    s->origin = s->engine->instructions(s->vcpu) - v->base_at;
    s->next = s->input = 0;
    s->level = v->base_level;
    s->differs = false;
    s->replays = true;
}

/*
 * The two engines as one: what the machine sees.
 */
#include "engine/lockstep/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* Accesses on record, or instructions, after which someone may be told how far it is. */
enum { TAPE_MOST = 1 << 20, PROGRESS = 1000000 };

static struct lockstep *lockstep_of(const struct engine *self)
{
    return (struct lockstep *)((char *)(uintptr_t)self - offsetof(struct lockstep, engine));
}

static const struct engine *engine_of(const struct lockstep *l, unsigned side)
{
    return side ? l->follower : l->leader;
}

/* ---- making ---- */

static bool usable(char *why, size_t size)
{
    snprintf(why, size, "works with any two engines");
    return true;
}

static bool vm_create(struct engine_vm **out, struct memory *memory, const struct x86_model *model,
                      unsigned vcpus, struct error *err)
{
    (void)memory, (void)model, (void)vcpus;
    *out = NULL;
    return error_set(err, "engine lockstep: it does not know of which two");
}

static void vm_destroy(struct engine_vm *vm)
{
    for (unsigned i = 0; i < 2; i++)
        if (vm->sides[i])
            engine_of(vm->lockstep, i)->vm_destroy(vm->sides[i]);
    memory_destroy(&vm->second);
    memory_destroy(&vm->base);
    vm->lockstep->vm = NULL;
    free(vm);
}

static bool make_vm(struct engine_vm *vm, struct memory *memory, const struct x86_model *model,
                    struct error *err)
{
    return memory_create(&vm->second, memory->size, err) &&
           memory_create(&vm->base, memory->size, err) &&
           vm->lockstep->leader->vm_create(&vm->sides[0], memory, model, 1, err) &&
           vm->lockstep->follower->vm_create(&vm->sides[1], &vm->second, model, 1, err);
}

static bool vm_compose(struct engine_vm **out, const struct engine *self, struct memory *memory,
                       const struct x86_model *model, unsigned vcpus, struct error *err)
{
    *out = NULL;
    if (vcpus != 1)
        return error_usage(err,
                           "--cpus %u: two engines can be compared with one processor; "
                           "use --cpus 1",
                           vcpus);
    struct engine_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return error_errno(err, "engine lockstep");
    vm->lockstep = lockstep_of(self);
    vm->memory = memory;
    vm->model = model;
    vm->second.fd = vm->base.fd = -1;
    if (!make_vm(vm, memory, model, err)) {
        vm_destroy(vm);
        return false;
    }
    vm->lockstep->vm = vm;
    *out = vm;
    return true;
}

static bool tune(struct engine_vm *vm, const struct engine_tuning *t, struct error *err)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct engine *e = engine_of(vm->lockstep, i);
        if (e->tune && !e->tune(vm->sides[i], t, err))
            return false;
    }
    return true;
}

static void vcpu_destroy(struct engine_vcpu *v)
{
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &v->side[i];
        if (s->memory)
            watch_end(s);
        if (s->vcpu)
            s->engine->vcpu_destroy(s->vcpu);
    }
    tape_free(&v->tape);
    v->vm->vcpu = NULL;
    free(v);
}

static bool make_side(struct engine_vcpu *v, unsigned index, struct error *err)
{
    struct engine_vm *vm = v->vm;
    struct side *s = &v->side[index];
    struct x86_host host = lockstep_host;
    *s = (struct side){.owner = v, .engine = engine_of(vm->lockstep, index), .replays = index == 1};
    s->vm = vm->sides[index];
    s->memory = index ? &vm->second : vm->memory;
    host.ctx = s;
    return s->engine->vcpu_create(&s->vcpu, s->vm, 0, &host, err);
}

static bool vcpu_create(struct engine_vcpu **out, struct engine_vm *vm, unsigned index,
                        const struct x86_host *host, struct error *err)
{
    (void)index;
    *out = NULL;
    struct engine_vcpu *v = calloc(1, sizeof *v);
    if (!v)
        return error_errno(err, "engine lockstep");
    v->lockstep = vm->lockstep;
    v->vm = vm;
    v->host = *host;
    shape_init(&v->shape, v->lockstep);
    vm->vcpu = v;
    if (!make_side(v, 0, err) || !make_side(v, 1, err)) {
        vcpu_destroy(v);
        return false;
    }
    *out = v;
    return true;
}

/* ---- running ---- */

/* Makes the present the point to go back to. */
static void begin_tape(struct engine_vcpu *v)
{
    struct side *leader = &v->side[0];
    pages_copy(&v->vm->base, leader->memory);
    side_state(leader, &v->base);
    v->base_at = side_count(leader);
    v->base_level = leader->level;
    v->equal = v->base;
    v->equal_at = v->base_at;
    tape_clear(&v->tape);
    for (unsigned i = 0; i < 2; i++)
        v->side[i].next = v->side[i].input = 0;
}

/* Both begin with what the machine has put into the leader's state and memory. */
static void begin(struct engine_vcpu *v)
{
    struct side *leader = &v->side[0], *follower = &v->side[1];
    pages_copy(follower->memory, leader->memory);
    follower->origin = follower->engine->instructions(follower->vcpu) - side_count(leader);
    follower->level = leader->level;
    begin_tape(v);
    watch_begin(v);
    v->begun = true;
}

static bool checkpoint(struct engine_vcpu *v)
{
    v->lockstep->checkpoints++;
    if (!pages_equal(v->side[0].memory, v->side[1].memory))
        return false;
    begin_tape(v);
    return true;
}

static void tell_progress(struct engine_vcpu *v)
{
    struct lockstep *l = v->lockstep;
    uint64_t now = v->equal_at;
    atomic_store_explicit(&l->instructions, now, memory_order_relaxed);
    if (l->progress && now - v->reported >= PROGRESS) {
        v->reported = now;
        l->progress(l->ctx, now);
    }
}

/* Registers, and memory as far as it is known to have been written. */
static bool same(struct engine_vcpu *v)
{
    struct x86_state a, b;
    side_state(&v->side[0], &a);
    side_state(&v->side[1], &b);
    if (!states_equal(&v->shape, &a, &b) || !watched_equal(v))
        return false;
    v->equal = a;
    v->equal_at = side_count(&v->side[0]);
    return true;
}

/* Brings the follower to where the leader is, and compares. */
static bool look(struct engine_vcpu *v, enum engine_exit why)
{
    struct side *leader = &v->side[0], *follower = &v->side[1];
    uint64_t at = side_count(leader);
    bool shutdown = why == ENGINE_SHUTDOWN;
    enum engine_exit exit[2] = {why, ENGINE_LIMIT};
    exit[1] = side_replay(follower, at + shutdown);
    v->lockstep->looks++;
    bool alike = !v->tape.failed && tape_complete(follower, at + shutdown) &&
                 side_count(follower) == at && shutdown == (exit[1] == ENGINE_SHUTDOWN) && same(v);
    bool full = at - v->base_at >= v->lockstep->checkpoint || v->tape.count >= TAPE_MOST;
    if (alike && full)
        alike = checkpoint(v);
    if (!alike)
        narrow(v, exit);
    tell_progress(v);
    return alike;
}

static enum engine_exit run(struct engine_vcpu *v, uint64_t limit)
{
    struct lockstep *l = v->lockstep;
    struct side *leader = &v->side[0];
    if (!v->begun)
        begin(v);
    while (!l->difference.found) {
        uint64_t at = side_count(leader);
        if (atomic_exchange(&v->stop, false))
            return ENGINE_STOPPED;
        if (at >= limit)
            return ENGINE_LIMIT;
        bool step = l->step != LOCKSTEP_BLOCK && limit - at > l->step;
        enum engine_exit why = side_lead(v, step ? at + l->step : limit);
        if (why == ENGINE_FAILED)
            return why;
        if (look(v, why) && why != ENGINE_LIMIT)
            return why;
    }
    return ENGINE_FAILED;
}

bool lockstep_finish(struct lockstep *l)
{
    struct engine_vcpu *v = l->vm ? l->vm->vcpu : NULL;
    static const enum engine_exit exit[2] = {ENGINE_LIMIT, ENGINE_LIMIT};
    if (v && v->begun && !l->difference.found && !checkpoint(v))
        narrow(v, exit);
    return !l->difference.found;
}

/* ---- what the machine asks ---- */

static void nmi(struct engine_vcpu *v)
{
    lockstep_nmi(v);
}

static void interrupt(struct engine_vcpu *v, bool level)
{
    lockstep_interrupt(v, level);
}

static void stop(struct engine_vcpu *v)
{
    atomic_store(&v->stop, true);
    v->side[0].engine->stop(v->side[0].vcpu);
}

static void get_state(struct engine_vcpu *v, struct x86_state *to)
{
    side_state(&v->side[0], to);
}

/* A new state comes with new memory: a reset. */
static void set_state(struct engine_vcpu *v, const struct x86_state *from)
{
    for (unsigned i = 0; i < 2; i++)
        v->side[i].engine->set_state(v->side[i].vcpu, from);
    v->begun = false;
}

static uint64_t instructions(const struct engine_vcpu *v)
{
    return side_count(&v->side[0]);
}

static void stats(const struct engine_vcpu *v, struct engine_stats *out)
{
    v->side[0].engine->stats(v->side[0].vcpu, out);
}

static void remapped(struct engine_vm *vm)
{
    for (unsigned i = 0; i < 2; i++)
        engine_of(vm->lockstep, i)->remapped(vm->sides[i]);
}

static const struct engine engine_lockstep = {
    .name = "lockstep",
    .summary = "two engines, compared",
    .usable = usable,
    .vm_create = vm_create,
    .vm_compose = vm_compose,
    .tune = tune,
    .vm_destroy = vm_destroy,
    .vcpu_create = vcpu_create,
    .vcpu_destroy = vcpu_destroy,
    .run = run,
    .interrupt = interrupt,
    .nmi = nmi,
    .stop = stop,
    .get_state = get_state,
    .set_state = set_state,
    .instructions = instructions,
    .stats = stats,
    .remapped = remapped,
};

void lockstep_init(struct lockstep *l, const struct engine *leader, const struct engine *follower)
{
    *l = (struct lockstep){
        .engine = engine_lockstep,
        .leader = leader,
        .follower = follower,
        .step = leader->run_block ? LOCKSTEP_BLOCK : LOCKSTEP_STEP,
        .checkpoint = LOCKSTEP_CHECKPOINT,
    };
}

/*
 * The two differ: which instruction was it?
 *
 * Both replay what is on record from the last checkpoint, at which they were alike, to counts in
 * the middle of an interval at whose beginning they are alike and at whose end they are not.
 */
#include "engine/lockstep/internal.h"

#include <stdlib.h>

#include "x86/access.h"
#include "x86/paging.h"
#include "x86/tlb.h"

/* Both from where they are to the count. */
static void go_on_both(struct engine_vcpu *v, uint64_t to, enum engine_exit exit[2])
{
    for (unsigned i = 0; i < 2; i++) {
        exit[i] = side_replay(&v->side[i], to);
        tape_complete(&v->side[i], to);
    }
}

/* Both from the checkpoint to the count. */
static void replay_both(struct engine_vcpu *v, uint64_t to, enum engine_exit exit[2])
{
    for (unsigned i = 0; i < 2; i++)
        side_rewind(&v->side[i]);
    go_on_both(v, to, exit);
}

static bool alike(struct engine_vcpu *v)
{
    struct side *a = &v->side[0], *b = &v->side[1];
    struct x86_state sa, sb;
    if (a->differs || b->differs || side_count(a) != side_count(b))
        return false;
    side_state(a, &sa);
    side_state(b, &sb);
    return states_equal(&v->shape, &sa, &sb) && pages_equal(a->memory, b->memory);
}

static bool alike_at(struct engine_vcpu *v, uint64_t at)
{
    enum engine_exit exit[2];
    replay_both(v, at, exit);
    return alike(v);
}

/* ---- what is told of it ---- */

/* The guest-physical address of code at linear address lin; false: it can't be fetched. */
static bool find_code(struct x86_cpu *c, uint64_t lin, uint64_t *gpa)
{
    struct x86_walk w;
    lin = c->code == X86_CODE64 ? lin : (uint32_t)lin;
    if (c->code == X86_CODE64 && !x86_canonical(lin))
        return false;
    if (!x86_walk(c, lin, X86_FETCH, c->cpl == 3 ? X86_AS_USER : X86_AS_SUPERVISOR, &w))
        return false;
    *gpa = w.gpa;
    return true;
}

/* The bytes at before.rip, as the leader's memory has them now. */
static void fetch_code(struct engine_vcpu *v, struct lockstep_difference *d)
{
    struct x86_cpu *c = aligned_alloc(64, (sizeof *c + 63) & ~(size_t)63);
    if (!c)
        return;
    memset(c, 0, sizeof *c);
    c->s = d->before;
    c->memory = v->side[0].memory;
    c->model = v->vm->model;
    x86_tlb_init(c);
    x86_update_mode(c);
    d->code_width = c->code;
    uint64_t lin = d->before.rip + (c->code == X86_CODE64 ? 0 : d->before.seg[X86_CS].base);
    uint64_t gpa;
    for (; d->code_size < LOCKSTEP_CODE; d->code_size++)
        if (!find_code(c, lin + d->code_size, &gpa) ||
            !memory_read(c->memory, gpa, &d->code[d->code_size], 1))
            break;
    free(c);
}

static void tell_memory(struct engine_vcpu *v, struct lockstep_difference *d)
{
    const struct memory *a = v->side[0].memory, *b = v->side[1].memory;
    if (!pages_compare(a, b, &d->gpa, &d->memory_differs))
        return;
    uint64_t in_page = MEMORY_PAGE_SIZE - (d->gpa & (MEMORY_PAGE_SIZE - 1));
    d->byte_count = in_page < LOCKSTEP_BYTES ? (unsigned)in_page : LOCKSTEP_BYTES;
    memory_read(a, d->gpa, d->bytes[0], d->byte_count);
    memory_read(b, d->gpa, d->bytes[1], d->byte_count);
}

/* The follower's request that was not on record, beside what was. */
static void tell_access(struct engine_vcpu *v, struct lockstep_difference *d)
{
    const struct side *s = &v->side[1];
    if (!s->differs)
        return;
    d->accesses_differ = true;
    d->access[1] = s->wrong;
    if (s->next < v->tape.count)
        d->access[0] = v->tape.access[s->next];
}

static bool has_blocks(const struct engine_vcpu *v)
{
    return v->lockstep->step == LOCKSTEP_BLOCK;
}

static void tell_after(struct engine_vcpu *v, const enum engine_exit exit[2])
{
    struct lockstep_difference *d = &v->lockstep->difference;
    for (unsigned i = 0; i < 2; i++) {
        struct side *s = &v->side[i];
        d->count[i] = side_count(s);
        d->exit[i] = exit[i];
        side_state(s, &d->after[i]);
    }
    tell_access(v, d);
    tell_memory(v, d);
}

/* The state that both begin with, at the count `from`, and the code there. */
static void tell_before(struct engine_vcpu *v, uint64_t from)
{
    struct lockstep_difference *d = &v->lockstep->difference;
    const struct side *s = &v->side[0];
    d->from = from;
    d->code_size = 0;
    side_state(&v->side[0], &d->before);
    fetch_code(v, d);
    if (s->engine->host_code)
        d->host_size = s->engine->host_code(s->vcpu, d->host, sizeof d->host, &d->host_at);
}

/* Whether the difference comes again when both stop at the count `from` and go on from there. */
static bool comes_again(struct engine_vcpu *v, uint64_t from, bool by_block,
                        enum engine_exit exit[2])
{
    if (!alike_at(v, from))
        return false;
    tell_before(v, from);
    v->side[0].by_block = by_block;
    go_on_both(v, v->lockstep->difference.to, exit);
    v->side[0].by_block = false;
    return !alike(v);
}

/* Looks for the one instruction that makes them differ at the count `high`. */
static bool find_instruction(struct engine_vcpu *v, uint64_t high, enum engine_exit exit[2])
{
    struct lockstep_difference *d = &v->lockstep->difference;
    uint64_t low = v->base_at;
    if (alike_at(v, high))
        return false;
    if (v->equal_at > low && v->equal_at < high && alike_at(v, v->equal_at))
        low = v->equal_at;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (alike_at(v, middle))
            low = middle;
        else
            high = middle;
    }
    d->to = high;
    return comes_again(v, low, false, exit);
}

/* An engine that runs whole blocks may do one wrong, and each of its instructions right when it is
 * stopped behind it: then the block is told. What does not come again at all, as it depended on
 * what an engine had cached, is told as it was seen. */
void narrow(struct engine_vcpu *v, const enum engine_exit exit[2])
{
    struct lockstep_difference *d = &v->lockstep->difference;
    uint64_t low = v->base_at, high = side_count(&v->side[0]);
    high += exit[0] == ENGINE_SHUTDOWN || high == low;

    *d = (struct lockstep_difference){.found = true, .from = v->equal_at, .to = high};
    d->before = v->equal;
    tell_after(v, exit);
    const struct lockstep_difference seen = *d;
    enum engine_exit last[2];
    *d = (struct lockstep_difference){.found = true, .to = high};
    d->exact = !v->tape.failed && find_instruction(v, high, last);
    if (!d->exact && !v->tape.failed) {
        d->to = high;
        d->again = comes_again(v, v->equal_at, has_blocks(v), last);
    }
    if (d->exact || d->again) {
        tell_after(v, last);
        return;
    }
    *d = seen;
    fetch_code(v, d);
}

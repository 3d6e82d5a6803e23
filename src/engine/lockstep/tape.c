/*
 * What goes between an engine and the machine: recorded when the leader runs for the machine,
 * answered from the record in every other run.
 *
 * An interrupt may be delivered at any instruction boundary, and engines look for one at different
 * places. So the line is only raised between two runs, where both engines are at the same count
 * and take the interrupt at the first boundary that allows it; and none is taken at the boundary
 * that a run ends at, which one engine would take there and another in its next run.
 */
#include "engine/lockstep/internal.h"

#include <stdlib.h>

#include "base/bits.h"

/* ---- the record ---- */

/* Makes room for one more of `size` bytes behind `count`. */
static bool grow(struct tape *t, void **array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? 2 * *capacity : 1024;
    void *larger = realloc(*array, wanted * size);
    if (!larger) {
        t->failed = true;
        return false;
    }
    *array = larger;
    *capacity = wanted;
    return true;
}

static void add_access(struct tape *t, const struct lockstep_access *a)
{
    void *array = t->access;
    if (!grow(t, &array, t->count, &t->capacity, sizeof *a))
        return;
    t->access = array;
    t->access[t->count++] = *a;
}

static void add_input(struct tape *t, const struct input *in)
{
    void *array = t->input;
    if (!grow(t, &array, t->inputs, &t->input_capacity, sizeof *in))
        return;
    t->input = array;
    t->input[t->inputs++] = *in;
}

void tape_clear(struct tape *r)
{
    r->count = r->inputs = 0;
}

void tape_free(struct tape *r)
{
    free(r->access);
    free(r->input);
    *r = (struct tape){0};
}

/* ---- the leader's side of it ---- */

static void put_on_record(struct side *s, const struct lockstep_access *a)
{
    if (a->kind == LOCKSTEP_INTERRUPT)
        s->owner->lockstep->interrupts++;
    else
        s->owner->lockstep->accesses++;
    add_access(&s->owner->tape, a);
}

/* The line, set from inside a request of the leader's. */
static void set_level(struct engine_vcpu *v, bool level)
{
    struct side *leader = &v->side[0];
    v->raise = false;
    if (leader->level == level)
        return;
    leader->level = level;
    leader->engine->interrupt(leader->vcpu, level);
    const struct lockstep_access a = {
        .at = side_count(leader), .kind = LOCKSTEP_LEVEL, .value = level};
    add_access(&v->tape, &a);
}

void lockstep_interrupt(struct engine_vcpu *v, bool level)
{
    struct side *leader = &v->side[0];
    if (!v->recording) {
        v->raise = level;
        if (!level && leader->level) {
            add_input(&v->tape, &(struct input){.at = side_count(leader)});
            leader->level = false;
            leader->engine->interrupt(leader->vcpu, false);
        }
    } else if (!level || leader->acknowledging) {
        set_level(v, level);
    } else if (!leader->level) {
        v->raise = true;
        leader->engine->stop(leader->vcpu);
    }
}

void lockstep_nmi(struct engine_vcpu *v)
{
    v->nmi = true;
    if (v->recording)
        v->side[0].engine->stop(v->side[0].vcpu);
}

void tape_inputs(struct engine_vcpu *v)
{
    struct side *leader = &v->side[0];
    uint64_t at = side_count(leader);
    if (v->raise && !leader->level) {
        leader->level = true;
        add_input(&v->tape, &(struct input){.at = at, .level = true});
    }
    if (v->nmi) {
        leader->engine->nmi(leader->vcpu);
        add_input(&v->tape, &(struct input){.at = at, .nmi = true});
    }
    v->raise = v->nmi = false;
    leader->input = v->tape.inputs;
}

/* ---- the other side of it ---- */

static const struct lockstep_access *recorded(const struct side *s)
{
    const struct tape *r = &s->owner->tape;
    return s->next < r->count ? &r->access[s->next] : NULL;
}

static void differ(struct side *s, const struct lockstep_access *wrong)
{
    if (s->differs)
        return;
    s->differs = true;
    s->wrong = *wrong;
    if (s->running)
        s->engine->stop(s->vcpu);
}

/* Goes on behind a request, and does to the line what it did. */
static void pass(struct side *s)
{
    const struct lockstep_access *a;
    s->next++;
    while ((a = recorded(s)) && a->kind == LOCKSTEP_LEVEL) {
        s->level = a->value;
        s->engine->interrupt(s->vcpu, s->level);
        s->next++;
    }
}

static bool writes(unsigned kind)
{
    return kind == LOCKSTEP_PIO_WRITE || kind == LOCKSTEP_MMIO_WRITE ||
           kind == LOCKSTEP_MSR_WRITE || kind == LOCKSTEP_CR8_WRITE || kind == LOCKSTEP_FPU_ERROR;
}

static bool same_request(const struct lockstep_access *a, const struct lockstep_access *b)
{
    return a->at == b->at && a->kind == b->kind && a->size == b->size && a->address == b->address &&
           (!writes(a->kind) || a->value == b->value);
}

/* Answers a from the record; from there on, if it is not what was recorded, with all ones. */
static void answer(struct side *s, struct lockstep_access *a)
{
    const struct lockstep_access *r = recorded(s);
    if (s->differs || !r || !same_request(a, r)) {
        differ(s, a);
        a->value = UINT64_MAX;
        a->ok = false;
        return;
    }
    a->value = r->value;
    a->ok = r->ok;
    pass(s);
}

bool tape_complete(struct side *s, uint64_t at)
{
    const struct lockstep_access *r = recorded(s);
    if (!s->differs && r && r->at < at)
        differ(s, &(struct lockstep_access){.at = side_count(s)});
    return !s->differs;
}

/* ---- struct x86_host ---- */

static struct lockstep_access request(const struct side *s, unsigned kind, uint64_t address,
                                      unsigned size, uint64_t value)
{
    return (struct lockstep_access){.at = side_count(s),
                                    .kind = (uint8_t)kind,
                                    .address = address,
                                    .size = (uint8_t)size,
                                    .value = value};
}

static void ask_machine(const struct x86_host *h, struct lockstep_access *a)
{
    uint32_t address = (uint32_t)a->address, value = (uint32_t)a->value;
    switch (a->kind) {
    case LOCKSTEP_PIO_READ: a->value = h->pio_read(h->ctx, (uint16_t)address, a->size); break;
    case LOCKSTEP_PIO_WRITE: h->pio_write(h->ctx, (uint16_t)address, a->size, value); break;
    case LOCKSTEP_MMIO_READ: a->value = h->mmio_read(h->ctx, a->address, a->size); break;
    case LOCKSTEP_MMIO_WRITE: h->mmio_write(h->ctx, a->address, a->size, a->value); break;
    case LOCKSTEP_MSR_READ: a->ok = h->msr_read(h->ctx, address, &a->value); break;
    case LOCKSTEP_MSR_WRITE: a->ok = h->msr_write(h->ctx, address, a->value); break;
    case LOCKSTEP_CR8_READ: a->value = h->cr8_read(h->ctx); break;
    case LOCKSTEP_CR8_WRITE: h->cr8_write(h->ctx, a->value); break;
    case LOCKSTEP_TSC_READ: a->value = h->tsc_read(h->ctx); break;
    case LOCKSTEP_RANDOM: h->random(h->ctx, &a->value, a->size); break;
    case LOCKSTEP_FPU_ERROR: h->fpu_error(h->ctx, a->value); break;
    }
}

/* The request goes on record before it is made: what it does to the interrupt line comes behind. */
static void ask(struct side *s, struct lockstep_access *a)
{
    struct tape *r = &s->owner->tape;
    if (s->replays) {
        answer(s, a);
        return;
    }
    size_t index = r->count;
    put_on_record(s, a);
    ask_machine(&s->owner->host, a);
    if (index < r->count)
        r->access[index] = *a;
}

static uint32_t pio_read(void *ctx, uint16_t port, unsigned size)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_PIO_READ, port, size, 0);
    ask(ctx, &a);
    return (uint32_t)a.value;
}

static void pio_write(void *ctx, uint16_t port, unsigned size, uint32_t value)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_PIO_WRITE, port, size, value);
    ask(ctx, &a);
}

static uint64_t mmio_read(void *ctx, uint64_t gpa, unsigned size)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_MMIO_READ, gpa, size, 0);
    ask(ctx, &a);
    return a.value;
}

static void mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_MMIO_WRITE, gpa, size, value);
    ask(ctx, &a);
}

static uint64_t tsc_read(void *ctx)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_TSC_READ, 0, 8, 0);
    ask(ctx, &a);
    return a.value;
}

static bool msr_read(void *ctx, uint32_t msr, uint64_t *value)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_MSR_READ, msr, 8, 0);
    ask(ctx, &a);
    if (a.ok)
        *value = a.value;
    return a.ok;
}

static bool msr_write(void *ctx, uint32_t msr, uint64_t value)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_MSR_WRITE, msr, 8, value);
    ask(ctx, &a);
    return a.ok;
}

static uint64_t cr8_read(void *ctx)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_CR8_READ, 0, 8, 0);
    ask(ctx, &a);
    return a.value;
}

static void cr8_write(void *ctx, uint64_t value)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_CR8_WRITE, 0, 8, value);
    ask(ctx, &a);
}

static void fpu_error(void *ctx, bool level)
{
    struct lockstep_access a = request(ctx, LOCKSTEP_FPU_ERROR, 0, 1, level);
    ask(ctx, &a);
}

/* At most eight bytes, as RDRAND asks for. */
static void random_bytes(void *ctx, void *to, unsigned n)
{
    n = n < 8 ? n : 8;
    struct lockstep_access a = request(ctx, LOCKSTEP_RANDOM, 0, n, 0);
    ask(ctx, &a);
    memcpy(to, &a.value, n);
}

/* The leader's: what it is given goes on record, refusals don't (they change nothing). */
static int take_interrupt(struct side *s)
{
    struct engine_vcpu *v = s->owner;
    struct tape *r = &v->tape;
    struct lockstep_access a = request(s, LOCKSTEP_INTERRUPT, 0, 1, 0);
    size_t index = r->count;
    put_on_record(s, &a);
    s->acknowledging = true;
    int vector = v->host.interrupt_acknowledge(v->host.ctx);
    s->acknowledging = false;
    if (vector < 0 && index + 1 == r->count)
        r->count = index;
    else if (index < r->count)
        r->access[index].value = (uint64_t)(int64_t)vector;
    return vector;
}

static int interrupt_acknowledge(void *ctx)
{
    struct side *s = ctx;
    if (side_count(s) >= s->limit)
        return -1;
    if (!s->replays)
        return take_interrupt(s);
    const struct lockstep_access *r = recorded(s);
    if (s->differs || !r || r->kind != LOCKSTEP_INTERRUPT || r->at != side_count(s))
        return -1;
    int vector = (int)r->value;
    pass(s);
    return vector;
}

const struct x86_host lockstep_host = {
    .pio_read = pio_read,
    .pio_write = pio_write,
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .interrupt_acknowledge = interrupt_acknowledge,
    .tsc_read = tsc_read,
    .msr_read = msr_read,
    .msr_write = msr_write,
    .cr8_read = cr8_read,
    .cr8_write = cr8_write,
    .random = random_bytes,
    .fpu_error = fpu_error,
};

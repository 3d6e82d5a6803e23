/*
 * --clock virtual: time is the number of instructions that were executed, a nanosecond each, by all
 * vCPUs together. They take turns on one thread, in slices that end where a timer is due, so that
 * the same guest does the same thing at the same count in every run.
 *
 * The thread holds the machine's lock while it runs a slice: whoever else wants it (the console)
 * gets it between two slices, when time is exact.
 */
#include <sched.h>

#include "machine/internal.h"

/* How long a vCPU's turn is. A turn may take several slices: one ends where a timer is due, or
 * where somebody outside wanted the vCPUs to stand still, which must not change whose turn it is.
 */
enum { TURN = 20000 };

uint64_t virtual_now(void *machine)
{
    const struct machine *m = machine;
    const struct virtual_time *t = &m->virtual;
    if (!t->current)
        return t->base;
    return t->base + m->config.engine->instructions(t->current->engine) - t->begun_at;
}

void virtual_changed(void *machine)
{
    struct machine *m = machine;
    struct virtual_time *t = &m->virtual;
    if (t->current && clock_next(&m->clock) < t->slice_end)
        m->config.engine->stop(t->current->engine);
}

/* splitmix64 (Steele, Lea and Flood, 2014): every run asks for the same numbers, not for
 * unpredictable ones. */
bool virtual_random(void *machine, void *to, size_t n)
{
    struct machine *m = machine;
    uint8_t *bytes = to;
    for (size_t at = 0; at < n; at += sizeof(uint64_t)) {
        uint64_t z = m->virtual.random += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        z ^= z >> 31;
        memcpy(bytes + at, &z, n - at < sizeof z ? n - at : sizeof z);
    }
    return true;
}

static enum engine_exit run_slice(struct vcpu *v)
{
    struct machine *m = v->machine;
    struct virtual_time *t = &m->virtual;
    const struct engine *e = m->config.engine;
    uint64_t now = clock_now(&m->clock), next = clock_next(&m->clock);
    t->slice_end = next <= now ? now + 1 : next < t->turn_end ? next : t->turn_end;
    t->begun_at = e->instructions(v->engine);
    t->current = v;
    enum engine_exit why = e->run(v->engine, t->begun_at + (t->slice_end - now));
    t->base += e->instructions(v->engine) - t->begun_at;
    t->current = NULL;
    if (why != ENGINE_STOPPED && why != ENGINE_LIMIT)
        t->turn_end = 0;
    return why;
}

static bool has_work(struct vcpu *v)
{
    if (atomic_exchange(&v->stirred, false))
        v->halted = false;
    return vcpu_prepare(v) && !v->halted;
}

/* Whose turn it is: still the same vCPU's, or that of the next one that has something to do; NULL:
 * nobody has. */
static struct vcpu *whose_turn(struct machine *m)
{
    struct virtual_time *t = &m->virtual;
    uint64_t now = clock_now(&m->clock);
    if (now < t->turn_end && has_work(&m->vcpu[t->turn]))
        return &m->vcpu[t->turn];
    for (unsigned i = 1; i <= m->cpus; i++) {
        unsigned candidate = (t->turn + i) % m->cpus;
        if (has_work(&m->vcpu[candidate])) {
            t->turn = candidate;
            t->turn_end = now + TURN;
            return &m->vcpu[candidate];
        }
    }
    return NULL;
}

/* Everyone is idle: on to the next deadline, or, without one, until something comes from outside.
 */
static void idle(struct machine *m)
{
    uint64_t now = clock_now(&m->clock), next = clock_next(&m->clock);
    if (next != CLOCK_NEVER) {
        m->virtual.base += next > now ? next - now : 0;
        return;
    }
    pthread_mutex_unlock(&m->lock);
    vcpu_sleep(&m->vcpu[0]);
    pthread_mutex_lock(&m->lock);
}

/* Lets others have the machine's lock, and stands still when asked to. False: the end. */
static bool between_slices(struct machine *m)
{
    uint32_t stop = 0;
    for (unsigned i = 0; i < m->cpus; i++)
        stop |= atomic_fetch_and(&m->vcpu[i].events, ~(uint32_t)VCPU_STOP) & VCPU_STOP;
    bool go_on = true;
    if (stop || atomic_load(&m->virtual.outsiders)) {
        pthread_mutex_unlock(&m->lock);
        if (stop)
            go_on = control_stand(m);
        while (atomic_load(&m->virtual.outsiders))
            sched_yield();
        pthread_mutex_lock(&m->lock);
    }
    return go_on;
}

void *virtual_main(void *machine)
{
    struct machine *m = machine;
    pthread_mutex_lock(&m->lock);
    while (between_slices(m)) {
        clock_fire(&m->clock);
        struct vcpu *v = whose_turn(m);
        if (!v) {
            idle(m);
            continue;
        }
        enum engine_exit why = run_slice(v);
        if (why == ENGINE_SHUTDOWN || why == ENGINE_FAILED)
            vcpu_exited(v, why);
        v->halted = why == ENGINE_HALTED || why == ENGINE_SHUTDOWN || why == ENGINE_FAILED;
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

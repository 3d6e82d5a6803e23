/*
 * A vCPU: its thread, how it is woken and stopped, INIT and start-up IPIs.
 */
#include "machine/internal.h"

#include <sched.h>

/* ---- sleeping and waking ---- */

static void wakeup_init(struct wakeup *w)
{
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
}

void vcpu_wake(struct vcpu *v)
{
    atomic_store(&v->stirred, true);
    struct wakeup *w = v->wakeup;
    pthread_mutex_lock(&w->lock);
    bool tell = !w->woken;
    w->woken = true;
    pthread_mutex_unlock(&w->lock);
    if (tell)
        pthread_cond_signal(&w->changed);
}

void vcpu_sleep(struct vcpu *v)
{
    struct wakeup *w = v->wakeup;
    pthread_mutex_lock(&w->lock);
    while (!w->woken)
        pthread_cond_wait(&w->changed, &w->lock);
    w->woken = false;
    pthread_mutex_unlock(&w->lock);
}

void vcpu_ask(struct vcpu *v, uint32_t events)
{
    atomic_fetch_or(&v->events, events);
    pthread_mutex_lock(&v->own.lock); /* the engine may be about to be changed */
    if (v->engine)
        v->machine->config.engine->stop(v->engine);
    pthread_mutex_unlock(&v->own.lock);
    vcpu_wake(v);
}

/* ---- making ---- */

bool vcpu_make_engine(struct vcpu *v, struct error *err)
{
    struct machine *m = v->machine;
    struct engine_vcpu *engine;
    struct x86_host host = vcpu_host;
    host.ctx = v;
    host.random = m->config.virtual_clock ? vcpu_virtual_random : NULL;
    bool made = m->config.engine->vcpu_create(&engine, m->vm, v->index, &host, err);
    pthread_mutex_lock(&v->own.lock);
    v->engine = made ? engine : NULL;
    pthread_mutex_unlock(&v->own.lock);
    return made;
}

void vcpu_unmake_engine(struct vcpu *v)
{
    const struct engine *e = v->machine->config.engine;
    struct engine_vcpu *engine = v->engine;
    struct engine_stats stats;
    if (!engine)
        return;
    e->stats(engine, &stats);
    machine_add_stats(&v->past, &stats);
    pthread_mutex_lock(&v->own.lock);
    v->engine = NULL;
    pthread_mutex_unlock(&v->own.lock);
    e->vcpu_destroy(engine);
}

bool vcpu_create(struct vcpu *v, struct machine *m, unsigned index, struct error *err)
{
    v->machine = m;
    v->index = index;
    v->lapic = &m->pc.lapic[index];
    wakeup_init(&v->own);
    v->wakeup = m->config.virtual_clock ? &m->vcpu[0].own : &v->own;
    if (!vcpu_make_engine(v, err))
        return false;
    struct lapic_host lapic = vcpu_lapic_host;
    lapic.ctx = v;
    pc_add_cpu(&m->pc, &lapic, x86_physical_bits(m->model));
    return true;
}

void vcpu_destroy(struct vcpu *v)
{
    if (v->machine) {
        vcpu_unmake_engine(v);
        pthread_cond_destroy(&v->own.changed);
        pthread_mutex_destroy(&v->own.lock);
    }
}

void vcpu_set_state(struct vcpu *v, const struct x86_state *s)
{
    v->waiting = s->activity == X86_WAIT_FOR_SIPI;
    v->halted = false;
    v->machine->config.engine->set_state(v->engine, s);
}

/* ---- INIT and start-up (SDM 3, 8.4.4) ---- */

static void take_init(struct vcpu *v)
{
    struct x86_state s;
    v->machine->config.engine->get_state(v->engine, &s);
    x86_state_reset(&s, false, true);
    vcpu_set_state(v, &s);
}

/* Begins in real mode at vector << 12. Ignored by a processor that does not wait for it, as the
 * second start-up IPI of the usual pair is. */
static void take_startup(struct vcpu *v, uint8_t vector)
{
    if (!v->waiting)
        return;
    struct x86_state s;
    v->machine->config.engine->get_state(v->engine, &s);
    s.seg[X86_CS].selector = (uint16_t)(vector << 8);
    s.seg[X86_CS].base = (uint64_t)vector << 12;
    s.rip = 0;
    s.activity = X86_ACTIVE;
    vcpu_set_state(v, &s);
}

bool vcpu_prepare(struct vcpu *v)
{
    uint32_t events = atomic_fetch_and(&v->events, ~(uint32_t)(VCPU_INIT | VCPU_STARTUP));
    if (events & VCPU_INIT)
        take_init(v);
    if (events & VCPU_STARTUP)
        take_startup(v, (uint8_t)atomic_load(&v->startup_vector));
    return !v->waiting || v->machine->apics_lent;
}

/* ---- running ---- */

void vcpu_exited(struct vcpu *v, enum engine_exit why)
{
    struct machine *m = v->machine;
    bool crashed = why == ENGINE_SHUTDOWN;
    struct error err = {0};
    const struct engine *e = m->config.engine;
    const char *failure = !crashed && e->failure ? e->failure(v->engine) : NULL;
    if (failure)
        error_set(&err, "%s", failure);
    else if (!crashed)
        error_set(&err, "engine %s: vCPU %u can't go on", e->name, v->index);
    bool own = !m->config.virtual_clock; /* there, the thread holds the lock already */
    if (own)
        pthread_mutex_lock(&m->lock);
    if (!crashed)
        machine_failed(m, &err);
    else if (m->config.no_reboot)
        machine_over(m, MACHINE_CRASHED, 0);
    else
        machine_ask_reset(m);
    if (own)
        pthread_mutex_unlock(&m->lock);
}

void *vcpu_main(void *vcpu)
{
    struct vcpu *v = vcpu;
    struct machine *m = v->machine;
    for (;;) {
        if (atomic_fetch_and(&v->events, ~(uint32_t)VCPU_STOP) & VCPU_STOP)
            if (!control_stand(m))
                return NULL;
        if (!vcpu_prepare(v)) {
            vcpu_sleep(v);
            continue;
        }
        enum engine_exit why = m->config.engine->run(v->engine, UINT64_MAX);
        switch (why) {
        case ENGINE_STOPPED:
        case ENGINE_LIMIT: break;
        case ENGINE_PAUSED: sched_yield(); break;
        case ENGINE_SHUTDOWN:
        case ENGINE_FAILED:
            vcpu_exited(v, why);
            vcpu_sleep(v);
            break;
        case ENGINE_HALTED: vcpu_sleep(v); break;
        }
    }
}

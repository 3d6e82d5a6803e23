/*
 * Changing engines while the guest runs: at an instruction boundary every vCPU stands still, the
 * old engine gives their states and is unmade, and the next one is made and takes them. The guest
 * finds nothing changed but the time that it took.
 *
 * Engines that keep code of the guest's (or that do not tell others of stores to it) can't share
 * its memory: there is only ever one.
 */
#include <stdlib.h>

#include "machine/internal.h"

/* What the host adds to a model is known to engines that let its processor execute the guest's
 * instructions, and to each in a form of its own: such a guest stays where it began. */
static bool carries_model(const struct machine *m, const struct engine *e, struct error *err)
{
    if (!m->model->host)
        return true;
    if (m->config.other_count)
        return error_usage(err,
                           "--cpu host: such a guest can't change engines, since each has what the "
                           "host adds in a form of its own; use --cpu %s",
                           x86_model_at(0)->name);
    return e->host_model ||
           error_usage(err, "--cpu host: engine %s does not know what the host adds; use --cpu %s",
                       e->name, x86_model_at(0)->name);
}

bool switch_init(struct machine *m, struct error *err)
{
    const struct machine_config *c = &m->config;
    for (unsigned i = 0; i <= c->other_count; i++) {
        const struct engine *e = i ? c->other[i - 1] : c->engine;
        if (c->virtual_clock && e->uncounted)
            return error_usage(err,
                               "--clock virtual: engine %s does not count instructions; use "
                               "another --engine",
                               e->name);
        if (!carries_model(m, e, err))
            return false;
        if (e->limit && !e->limit(&m->model_here, err))
            return false;
    }
    return true;
}

/* ---- engines ---- */

bool switch_make_engine(struct machine *m, struct error *err)
{
    const struct engine *e = m->config.engine;
    bool made = e->vm_compose ? e->vm_compose(&m->vm, e, &m->memory, m->model, m->config.cpus, err)
                              : e->vm_create(&m->vm, &m->memory, m->model, m->config.cpus, err);
    return made && (!e->tune || e->tune(m->vm, &m->config.tuning, err));
}

static void unmake_engine(struct machine *m)
{
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_unmake_engine(&m->vcpu[i]);
    m->config.engine->vm_destroy(m->vm);
    m->vm = NULL;
}

static bool remake_engine(struct machine *m, const struct x86_state *states, struct error *err)
{
    if (!switch_make_engine(m, err))
        return false;
    for (unsigned i = 0; i < m->cpus; i++) {
        struct vcpu *v = &m->vcpu[i];
        if (!vcpu_make_engine(v, err))
            return false;
        m->config.engine->set_state(v->engine, &states[i]);
        m->config.engine->interrupt(v->engine, lapic_pending(v->lapic));
    }
    return true;
}

static const struct engine *next_engine(struct machine *m)
{
    const struct machine_config *c = &m->config;
    m->switching.turn = (m->switching.turn + 1) % (c->other_count + 1);
    return m->switching.turn ? c->other[m->switching.turn - 1] : m->switching.first;
}

/* No vCPU runs; under the machine's lock. */
static bool change(struct machine *m, struct error *err)
{
    struct x86_state *states = calloc(m->cpus, sizeof *states);
    if (!states)
        return error_errno(err, "changing engines");
    for (unsigned i = 0; i < m->cpus; i++)
        m->config.engine->get_state(m->vcpu[i].engine, &states[i]);
    unmake_engine(m);
    m->config.engine = next_engine(m);
    bool ok = remake_engine(m, states, err);
    free(states);
    m->switching.changes++;
    return ok;
}

/* ---- the round ---- */

uint64_t switch_due(const struct machine *m)
{
    return m->config.other_count && m->config.switch_every_ns ? m->switching.due : LOOP_NEVER;
}

void switch_begin(struct machine *m)
{
    m->switching.first = m->config.engine;
    m->switching.due = loop_now() + m->config.switch_every_ns;
}

void switch_serve(struct machine *m)
{
    struct error err = {0};
    control_hold(m);
    control_wait(m);
    machine_lock(m);
    bool runs = m->clock.stopped_at == CLOCK_NEVER; /* nobody else has paused the machine */
    if (runs)
        machine_stop_clock(m);
    if (!m->outcome.over && !change(m, &err))
        machine_failed(m, &err);
    if (runs)
        machine_start_clock(m);
    machine_unlock(m);
    control_continue(m);
    m->switching.due = loop_now() + m->config.switch_every_ns;
}

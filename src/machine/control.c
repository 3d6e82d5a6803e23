/*
 * Who runs and who stands still: stopping all vCPU threads and letting them go on.
 */
#include "machine/internal.h"

void control_init(struct control *c)
{
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

void control_destroy(struct control *c)
{
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
}

void control_hold(struct machine *m)
{
    pthread_mutex_lock(&m->control.lock);
    m->control.stoppers++;
    pthread_mutex_unlock(&m->control.lock);
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_ask(&m->vcpu[i], VCPU_STOP);
}

void control_wait(struct machine *m)
{
    struct control *c = &m->control;
    pthread_mutex_lock(&c->lock);
    while (c->running)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
}

void control_continue(struct machine *m)
{
    struct control *c = &m->control;
    pthread_mutex_lock(&c->lock);
    c->stoppers--;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

bool control_stand(struct machine *m)
{
    struct control *c = &m->control;
    pthread_mutex_lock(&c->lock);
    c->running--;
    pthread_cond_broadcast(&c->changed);
    while (c->stoppers && !c->over)
        pthread_cond_wait(&c->changed, &c->lock);
    bool go_on = !c->over;
    if (go_on)
        c->running++;
    pthread_mutex_unlock(&c->lock);
    return go_on;
}

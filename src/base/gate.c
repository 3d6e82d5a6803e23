#include "base/gate.h"

void gate_init(struct gate *g, void (*ask)(void *ctx), void *ctx)
{
    *g = (struct gate){.ask = ask, .ctx = ctx};
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
}

void gate_destroy(struct gate *g)
{
    pthread_cond_destroy(&g->changed);
    pthread_mutex_destroy(&g->lock);
}

void gate_enter(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    while (g->closers)
        pthread_cond_wait(&g->changed, &g->lock);
    g->inside++;
    pthread_mutex_unlock(&g->lock);
}

bool gate_try_enter(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    bool open = g->closers == 0;
    if (open)
        g->inside++;
    pthread_mutex_unlock(&g->lock);
    return open;
}

void gate_leave(struct gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->inside--;
    if (g->closers)
        pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void gate_pass(struct gate *g)
{
    gate_leave(g);
    gate_enter(g);
}

void gate_close(struct gate *g, bool inside)
{
    pthread_mutex_lock(&g->lock);
    if (inside) {
        g->inside--;
        pthread_cond_broadcast(&g->changed);
    }
    g->closers++;
    if (g->ask)
        g->ask(g->ctx);
    while (g->inside || g->closed)
        pthread_cond_wait(&g->changed, &g->lock);
    g->closed = true;
    pthread_mutex_unlock(&g->lock);
}

void gate_open(struct gate *g, bool inside)
{
    pthread_mutex_lock(&g->lock);
    g->closed = false;
    g->closers--;
    pthread_cond_broadcast(&g->changed);
    /* An insider that closed the gate yields to the others that wait to: else their turn might
     * never come. */
    if (inside) {
        while (g->closers)
            pthread_cond_wait(&g->changed, &g->lock);
        g->inside++;
    }
    pthread_mutex_unlock(&g->lock);
}

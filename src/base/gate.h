/*
 * A gate: threads that run guest code pass through it, and one of them (or an outsider) can close
 * it for an exclusive section, in which none of the others is inside.
 *
 * A vCPU's thread is inside from gate_enter() to gate_leave(); it leaves for anything that may wait
 * (a lock, HLT, the outside). While inside it looks at its request word at least once per block of
 * guest instructions and calls gate_pass() when X86_REQUEST_GATE is set there. Never hold a lock
 * that an insider may wait for while closing the gate.
 */
#ifndef DOPPEL_BASE_GATE_H
#define DOPPEL_BASE_GATE_H

#include <pthread.h>
#include <stdbool.h>

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned inside;
    unsigned closers; /* threads waiting to close it, or in their section */
    bool closed;
    /* Tells every insider that someone waits; called with the lock held, from the closer. */
    void (*ask)(void *ctx);
    void *ctx;
};

void gate_init(struct gate *g, void (*ask)(void *ctx), void *ctx);
void gate_destroy(struct gate *g);

void gate_enter(struct gate *g);
/* Does not wait: false when someone has closed the gate or wants to. */
bool gate_try_enter(struct gate *g);
void gate_leave(struct gate *g);
/* Leave and enter again if someone waits. */
void gate_pass(struct gate *g);

/* The exclusive section; inside says whether the caller is an insider now (it is one again after
 * gate_open()). */
void gate_close(struct gate *g, bool inside);
void gate_open(struct gate *g, bool inside);

#endif

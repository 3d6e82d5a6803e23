/*
 * Signals for a run, taken by the event loop instead of by handlers: the loop's thread can do
 * anything, a handler next to nothing. A thread waits for them and hands them on. (A signalfd would
 * do without; but Linux wakes whoever waits for one at every signal of the process, and engines
 * take a fault of the guest's as a signal: it then cost twice as much.)
 */
#ifndef DOPPEL_CLI_SIGNALS_H
#define DOPPEL_CLI_SIGNALS_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "base/loop.h"

struct signals {
    int fd;                       /* numbers of signals come out of it; -1: not taken */
    void (*end)(void *ctx);       /* SIGTERM, SIGHUP, SIGINT, SIGQUIT */
    void (*suspend)(void *ctx);   /* SIGTSTP */
    void (*continued)(void *ctx); /* SIGCONT */
    void *ctx;
    /* signals.c's own */
    int into;
    sigset_t set;
    pthread_t thread;
    atomic_bool over;
};

/* Holds the signals back from now on, for this thread and those it will start; those that the
 * parent chose to have ignored stay ignored. */
bool signals_take(struct signals *s, struct error *err);
bool signals_watch(struct signals *s, struct loop *loop, struct error *err);
/* They mean again what they meant. */
void signals_release(struct signals *s);

#endif

/*
 * Signals for a run, taken by the event loop instead of by handlers: the loop's thread can do
 * anything, a handler next to nothing.
 */
#ifndef DOPPEL_CLI_SIGNALS_H
#define DOPPEL_CLI_SIGNALS_H

#include "base/loop.h"

struct signals {
    int fd;                       /* -1: not taken */
    void (*end)(void *ctx);       /* SIGTERM, SIGHUP, SIGINT, SIGQUIT */
    void (*suspend)(void *ctx);   /* SIGTSTP */
    void (*continued)(void *ctx); /* SIGCONT */
    void *ctx;
};

/* Holds the signals back from now on, for this thread and those it will start; those that the
 * parent chose to have ignored stay ignored. */
bool signals_take(struct signals *s, struct error *err);
bool signals_watch(struct signals *s, struct loop *loop, struct error *err);
/* They mean again what they meant. */
void signals_release(struct signals *s);

#endif

/*
 * Calling the OCI runtime, a program with runc's command line.
 */
#ifndef DOPPEL_CONTAINER_FRONT_RUNTIME_H
#define DOPPEL_CONTAINER_FRONT_RUNTIME_H

#include "container/front/front.h"

enum { RUNTIME_ARGS_MAX = 16 };

struct runtime_call {
    const struct front *front;
    int folder;                         /* the container's: the runtime's log is written there */
    const char *args[RUNTIME_ARGS_MAX]; /* the command and its arguments, NULL-terminated */
    int fds[3];                         /* standard input, output and error; -1: /dev/null */
};

/* Runs it to its end. When it fails, err has what it wrote to its log. */
bool runtime_run(const struct runtime_call *call, struct error *err);

/* Becomes the runtime, on this process's standard files (call->fds is not used), with the
 * descriptor kept open besides. Returns when it can't. */
bool runtime_become(const struct runtime_call *call, int kept, struct error *err);

#endif

/*
 * The process that a container has beside it from its beginning to its end.
 */
#ifndef DOPPEL_CONTAINER_FRONT_MONITOR_H
#define DOPPEL_CONTAINER_FRONT_MONITOR_H

#include "container/front/log.h"
#include "container/front/record.h"

struct monitor {
    const struct front *front;
    struct front_record *record;
    int folder; /* the container's */
    struct log_file *log;
    bool foreground;
    bool network; /* one of its own that leads out */
};

/* Has the runtime create and start the container whose bundle is in the folder, calls
 * started(ctx), keeps its output until it has ended, and writes down how. False: it never ran, and
 * nothing is left of it. */
bool monitor_run(struct monitor *m, void (*started)(void *ctx), void *ctx, struct error *err);

#endif

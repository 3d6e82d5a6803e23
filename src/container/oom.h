/*
 * Notices of a container whose memory ran out.
 */
#ifndef DOPPEL_CONTAINER_OOM_H
#define DOPPEL_CONTAINER_OOM_H

#include <stdbool.h>

#include "base/error.h"
#include "container/cgroup.h"

struct oom_watch {
    int fd;  /* readable when there may be something new; -1: this host tells nothing */
    bool v2; /* fd watches a file with a count; otherwise it counts itself */
    char file[PATH_MAX];
    unsigned long long seen;
};

bool oom_open(struct oom_watch *w, const struct cgroups *g, struct error *err);
/* After fd was readable: how many times it ran out since the last call. */
unsigned long long oom_take(struct oom_watch *w);
void oom_close(struct oom_watch *w);

#endif

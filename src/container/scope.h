/*
 * Scopes: cgroups that systemd makes on request, and knows of, so that it leaves them alone. It is
 * asked through its own client, busctl, which is wherever systemd is.
 *
 * A scope lasts as long as there is someone in it, so the first one in is a process of ours that
 * waits there until the container's has come.
 */
#ifndef DOPPEL_CONTAINER_SCOPE_H
#define DOPPEL_CONTAINER_SCOPE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "container/cgroup.h"

struct scope {
    char slice[256], unit[512];
    bool user;           /* the user's systemd, not the host's */
    pid_t holder;        /* 0: none */
    char path[PATH_MAX]; /* of its cgroup, from the hierarchies' roots */
};

/* linux.cgroupsPath as "slice:prefix:name"; NULL or "": a name made of the id. */
bool scope_parse(struct scope *s, const char *path, const char *id, bool user, struct error *err);
/* Has systemd make it, with the plan's limits, and sets path. */
bool scope_start(struct scope *s, const struct cgroup_plan *plan, struct error *err);
/* The container's process is in it. */
void scope_release(struct scope *s);
/* Limits that change are systemd's to know, too: it writes its own again now and then. */
bool scope_update(const struct scope *s, const struct cgroup_plan *plan, struct error *err);
void scope_stop(const struct scope *s);

#endif

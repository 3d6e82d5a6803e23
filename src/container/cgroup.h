/*
 * Control groups in all three layouts: version 1 (a hierarchy per controller or set of them),
 * version 2 (one for all), and hybrid (version 1 with an additional version 2 that has few or no
 * controllers). A container gets a folder in every hierarchy that can be written.
 */
#ifndef DOPPEL_CONTAINER_CGROUP_H
#define DOPPEL_CONTAINER_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "container/config.h"

enum { CGROUP_MAX_HIERARCHIES = 24 };

struct cgroup_hierarchy {
    bool unified;          /* version 2 */
    char controllers[128]; /* of version 1, separated by commas: "cpu,cpuacct", "name=systemd" */
    char mount[256];       /* where it is mounted */
    char *own;             /* our folder below the mount; owned */
    char *folder;          /* the container's, absolute; owned; NULL: none here */
};

struct cgroups {
    struct cgroup_hierarchy list[CGROUP_MAX_HIERARCHIES];
    size_t count;
};

/* Finds the hierarchies. None is no error: count is 0 then. */
bool cgroups_find(struct cgroups *g, struct error *err);
void cgroups_free(struct cgroups *g);
/* Chooses the folders: path is linux.cgroupsPath (absolute: from each hierarchy's root; otherwise
 * from our own; NULL: the id). */
bool cgroups_choose(struct cgroups *g, const char *path, const char *id, struct error *err);
/* Makes the folders. Where we have no right to, may_fail says that they are left out. */
bool cgroups_make(struct cgroups *g, bool may_fail, struct error *err);
/* The folders' descriptors for the container's first process: of version 2, for clone3() (-1:
 * none); and of version 1's task lists, to which it adds itself with cgroups_enter(). */
struct cgroup_doors {
    int unified;
    int tasks[CGROUP_MAX_HIERARCHIES];
    size_t count;
};
bool cgroups_open(const struct cgroups *g, struct cgroup_doors *doors, struct error *err);
bool cgroups_enter(const struct cgroup_doors *doors, struct error *err);
void cgroups_close(struct cgroup_doors *doors);
/* Removes the folders and those in them; their processes must be gone or dying. */
bool cgroups_try_remove(const struct cgroups *g); /* without waiting for anyone */
bool cgroups_remove(struct cgroups *g, struct error *err);

/* The hierarchy with that controller: "memory"; the version 2 one if v1 has none. NULL: nowhere. */
const struct cgroup_hierarchy *cgroups_controller(const struct cgroups *g, const char *name);
const struct cgroup_hierarchy *cgroups_unified(const struct cgroups *g);
bool cgroup_read(const struct cgroup_hierarchy *h, const char *file, char *text, size_t size);
bool cgroup_write(const struct cgroup_hierarchy *h, const char *file, const char *text);
/* Parses text with the hierarchies of a saved state. */
json_t *cgroups_save(const struct cgroups *g);
bool cgroups_restore(struct cgroups *g, json_t *saved, struct error *err);

bool cgroups_freeze(const struct cgroups *g, bool freeze, struct error *err);
bool cgroups_frozen(const struct cgroups *g);
/* Signals every process in it, also in nested ones. */
bool cgroups_kill(const struct cgroups *g, int signal, struct error *err);
/* Every process in it: an array that the caller frees. */
bool cgroups_pids(const struct cgroups *g, pid_t **pids, size_t *count, struct error *err);

/* ---- resources ---- */

/* What is to be written where. */
struct cgroup_setting {
    char controller[24]; /* "" : any file of version 2 */
    char file[64];
    char *value;
    struct field at; /* which part of the configuration asks */
    bool optional;   /* not every kernel has the file */
};

struct device_rule {
    bool allow;
    char type;            /* a, b, c */
    int64_t major, minor; /* -1: any */
    bool read, write, mknod;
};

struct cgroup_plan {
    struct cgroup_setting *settings;
    size_t count, room;
    struct device_rule *devices;
    size_t device_count;
};

/* Reads linux.resources (checks it wholly); v2: for a host whose controllers are version 2's. */
bool cgroup_plan_read(const struct field *resources, bool v2, struct arena *arena,
                      struct cgroup_plan *plan, struct error *err);
bool cgroup_plan_apply(const struct cgroup_plan *plan, const struct cgroups *g,
                       bool devices_may_fail, struct error *err);
bool cgroups_are_v2(const struct cgroups *g);

bool cgroup_devices_apply(const struct device_rule *rules, size_t count, const struct cgroups *g,
                          struct error *err);

/* Usage as `events --stats` reports it; a new reference. */
json_t *cgroups_stats(const struct cgroups *g);

#endif

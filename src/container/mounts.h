/*
 * The mounts of a configuration. All of this runs in the container's own mount namespace, before
 * pivot_root(), while the host's /proc can still be used.
 */
#ifndef DOPPEL_CONTAINER_MOUNTS_H
#define DOPPEL_CONTAINER_MOUNTS_H

#include "container/cgroup.h"
#include "container/config.h"

/* What a mount's options mean. */
struct mount_options {
    unsigned long flags;                     /* MS_* for mount(2) */
    uint64_t set, clear;                     /* MOUNT_ATTR_* of the mount */
    uint64_t recursive_set, recursive_clear; /* of all under it: rro and its like */
    unsigned long propagation;               /* MS_PRIVATE and its like; 0: not said */
    bool propagation_recursive;
    bool bind, recursive, copy_up, idmap, idmap_recursive;
    char *data; /* what is the file system's, separated by commas; in the arena */
};

bool mount_options_read(const struct mount_config *m, struct arena *arena,
                        struct mount_options *out, struct error *err);

/* Whether a name is one of the options known here, for `features`. NULL behind the last. */
const char *mount_option_name(size_t index);

/* One mount on its way: its options, and for a bind mount the detached tree that becomes it. */
struct mount_plan {
    const struct mount_config *config;
    struct mount_options options;
    int tree; /* -1: none */
};

struct mount_plans {
    struct mount_plan *plans;
    size_t count;
};

/* Reads the options; and takes the trees that only the host's privileges can (idmapped ones). In
 * the runtime, before the container exists. */
bool mounts_plan(struct config *c, const char *bundle, struct mount_plans *plans,
                 struct error *err);
/* Takes the trees of the bind mounts: in the container's namespaces, with the host's paths. */
bool mounts_take_trees(struct mount_plans *plans, const char *bundle, struct error *err);
/* Mounts everything under root, a descriptor of the container's root. g are the hierarchies as the
 * runtime found them. */
bool mounts_do(struct config *c, struct mount_plans *plans, const struct cgroups *g, int root,
               struct error *err);

/* Makes the mount at fd (a descriptor inside it) an own mount that is read-only. */
bool mount_read_only(int fd);

bool mount_cgroups(const struct mount_plan *p, const struct cgroups *g, int root,
                   bool own_namespace, struct error *err);
bool mount_copy_up(int from, int to);

#endif

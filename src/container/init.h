/*
 * The container's first process, from its making to execve() of the user's program; and the same
 * last steps for a process that exec adds.
 */
#ifndef DOPPEL_CONTAINER_INIT_H
#define DOPPEL_CONTAINER_INIT_H

#include <jansson.h>
#include <stdbool.h>

#include "container/cgroup.h"
#include "container/config.h"
#include "container/container.h"
#include "container/filter.h"
#include "container/mounts.h"

struct init {
    const char *id;
    struct config *config;
    const struct process_config *process;
    const struct container_options *options;
    const struct seccomp_filter *filter;
    struct mount_plans plans;
    struct cgroup_doors doors;
    const struct cgroups *cgroups;   /* as found on the host */
    const char *bundle;              /* its folder: sources of mounts may be in it */
    const char *rootfs;              /* absolute */
    int namespaces[NAMESPACE_KINDS]; /* to be joined, in the configuration's order; -1: new */
    int sync;                        /* our end */
    int start;                       /* where `start` knocks; -1: start at once */
    bool early;    /* SYNC_GO comes before we are ready: nobody wants to hear that we are */
    int agent;     /* who takes the seccomp listener; -1: nobody */
    json_t *state; /* for hooks; without the pid */
};

/* In the new process. */
_Noreturn void init_main(struct init *in);

/* For exec: everything from the terminal to execve(). The caller has joined the namespaces; label
 * is from identity_open_label(). */
_Noreturn void init_join(struct init *in, int label);

/* Joins what linux.namespaces names by path; user says whether the user namespace, or the others.
 * The pid namespace counts for children only. */
bool init_join_namespaces(const struct init *in, bool user, struct error *err);

#endif

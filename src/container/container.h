/*
 * Containers as the OCI runtime specification has them: everything that doppel-oci's commands do,
 * for other callers too. A container is known by its id below a root folder (see state.h).
 */
#ifndef DOPPEL_CONTAINER_CONTAINER_H
#define DOPPEL_CONTAINER_CONTAINER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct container_options {
    const char *root;           /* where containers are known; container_default_root() */
    const char *bundle;         /* the folder with config.json */
    const char *console_socket; /* NULL: none */
    const char *pid_file;       /* NULL: none */
    unsigned preserve_fds;      /* so many from 3 on are passed to the process */
    bool no_pivot, no_new_keyring;
    bool systemd_cgroup;
    bool detach;  /* run, exec: do not wait */
    bool keep;    /* run: do not delete at the end */
    int rootless; /* 1 yes, 0 no, -1: unless we are the host's root */
};

/* What exec changes of the process that the configuration has, unless process names another. */
struct container_exec {
    const char *process; /* a file with a process object; NULL: what follows */
    const char *cwd, *user, *apparmor;
    char **env, **caps, **args;
    size_t env_count, cap_count, arg_count;
    unsigned *groups;
    size_t group_count;
    bool terminal, no_new_privileges, ignore_paused;
};

/* Folder for the state of this user's containers; in buffer. */
const char *container_default_root(char *buffer, size_t size);

bool container_create(const char *id, const struct container_options *o, struct error *err);
bool container_start(const char *id, const struct container_options *o, struct error *err);
/* create, start, wait, delete. *status is the process's, as a shell has it. */
bool container_run(const char *id, const struct container_options *o, int *status,
                   struct error *err);
bool container_exec(const char *id, const struct container_options *o,
                    const struct container_exec *x, int *status, struct error *err);
/* The state as the specification defines it; a new reference. NULL: err is set. */
json_t *container_state(const char *id, const struct container_options *o, struct error *err);
bool container_kill(const char *id, const struct container_options *o, int signal, bool all,
                    struct error *err);
bool container_delete(const char *id, const struct container_options *o, bool force,
                      struct error *err);
bool container_freeze(const char *id, const struct container_options *o, bool freeze,
                      struct error *err);
bool container_update(const char *id, const struct container_options *o, json_t *resources,
                      struct error *err);
json_t *container_stats(const char *id, const struct container_options *o, struct error *err);
/* Whoever is told what happens. */
struct container_watcher {
    int64_t interval; /* between statistics: ns, above 0 */
    /* type is "stats" or "oom", which has no data. false with err set ends it. */
    bool (*tell)(void *user, const char *type, json_t *data, struct error *err);
    void *user;
};
/* Until the container's end. */
bool container_watch(const char *id, const struct container_options *o,
                     const struct container_watcher *watcher, struct error *err);
/* An array of the processes' numbers. */
json_t *container_processes(const char *id, const struct container_options *o, struct error *err);
/* An array of all containers' states. */
json_t *container_list(const struct container_options *o, struct error *err);
json_t *container_features(void);
json_t *container_spec(bool rootless);

#endif

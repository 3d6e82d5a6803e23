/*
 * The friendly front: containers from a folder or an image, by name, with their output kept.
 *
 * All it knows is in one state folder: `containers/NAME/` (the record, the bundle that the OCI
 * runtime gets, the log) and `layers/` (unpacked images). One process per container, the monitor,
 * holds the container's file system in a mount namespace of its own, keeps its output, and writes
 * down how it ended; nothing else stays running.
 */
#ifndef DOPPEL_CONTAINER_FRONT_FRONT_H
#define DOPPEL_CONTAINER_FRONT_FRONT_H

#include <limits.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "container/image/strings.h"

/* A folder's name that leaves room below PATH_MAX for what is in it. */
enum { FRONT_NAME_MAX = 63, FRONT_ROOT_MAX = PATH_MAX - 256 };

struct front {
    char root[FRONT_ROOT_MAX]; /* the state folder, absolute */
    char runtime[PATH_MAX];    /* the OCI runtime's program */
    int fd;                    /* of the state folder */
    int containers;            /* of containers/ in it */
    bool rootless;             /* the user is not root (we may be, in a user namespace) */
};

/* Opens the state folder and makes it where it is missing. root and runtime: NULL for the usual
 * ones. */
bool front_open(struct front *f, const char *root, const char *runtime, struct error *err);
void front_close(struct front *f);

enum front_tty { FRONT_TTY_AUTO, FRONT_TTY_YES, FRONT_TTY_NO };

/* What `doppel container run` was asked for. The strings are the caller's. */
struct front_options {
    const char *image;     /* a root folder, an OCI image layout, or an archive of an image */
    const char *reference; /* which image of several; NULL: the only one */
    char **command;        /* NULL-terminated; empty: the image's own */
    const char *name, *hostname, *workdir, *user, *network, *entrypoint;
    struct strings env, volumes, cap_add, cap_drop;
    uint64_t memory;                  /* bytes; 0: no limit */
    uint64_t cpu_quota;               /* microseconds per 100 ms; 0: no limit */
    uint64_t pids;                    /* 0: no limit */
    uint64_t log_limit, unpack_limit; /* bytes */
    bool read_only, remove, detach, copy;
    enum front_tty tty;
};

/* Runs a container. Detached: returns when it runs, name holding what it is called. Otherwise:
 * returns when it has ended, *status being the command's exit status (128 + the signal that ended
 * it). */
bool front_run(const struct front *f, const struct front_options *o, char name[FRONT_NAME_MAX + 1],
               int *status, struct error *err);

/* Runs a command in a running container, on this process's terminal or files: does not return
 * unless it fails. */
bool front_exec(const struct front *f, const char *name, const struct front_options *o,
                struct error *err);

/* The containers' names, sorted. */
bool front_names(const struct front *f, struct strings *names, struct error *err);

/* Sends the stop signal (or `signal`, when it is not 0), and SIGKILL when the container still runs
 * after that many seconds. A container that does not run is stopped already. */
bool front_stop(const struct front *f, const char *name, int signal, unsigned seconds,
                struct error *err);

/* Sends a signal. */
bool front_kill(const struct front *f, const char *name, int signal, struct error *err);

/* Removes a container that does not run; with force, stops it (SIGKILL) first. */
bool front_remove(const struct front *f, const char *name, bool force, struct error *err);

struct front_logs {
    bool follow, timestamps;
    bool tail; /* only the last `lines` */
    uint64_t lines;
};

/* Copies a container's output so far to stdout and stderr; with follow, until it has ended. */
bool front_logs(const struct front *f, const char *name, const struct front_logs *how, FILE *out,
                FILE *error, struct error *err);

/* "SIGTERM", "TERM" or "15"; 0: no such signal. */
int front_signal(const char *name);

#endif

/*
 * linux.seccomp: compiled in the runtime, loaded by the container's process.
 */
#ifndef DOPPEL_CONTAINER_FILTER_H
#define DOPPEL_CONTAINER_FILTER_H

#include <linux/filter.h>

#include "container/config.h"

struct seccomp_filter {
    bool present;
    struct sock_fprog program; /* in the arena */
    unsigned flags;            /* SECCOMP_FILTER_FLAG_* */
    bool notifies;
    const char *listener_path, *listener_metadata;
};

/* Compiles; errors name the field. An absent object gives an absent filter. */
bool seccomp_compile(const struct field *at, struct arena *arena, struct seccomp_filter *out,
                     struct error *err);
/* Loads it in the calling thread. For one that notifies, *listener is the descriptor (else -1). */
bool seccomp_install(const struct seccomp_filter *f, int *listener, struct error *err);
/* Hands the listener to the agent, with the container process state as text. */
bool seccomp_send_listener(int socket, int listener, const char *state, struct error *err);

#endif

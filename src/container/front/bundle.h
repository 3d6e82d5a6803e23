/*
 * The bundle of a container: the config.json that the OCI runtime gets.
 */
#ifndef DOPPEL_CONTAINER_FRONT_BUNDLE_H
#define DOPPEL_CONTAINER_FRONT_BUNDLE_H

#include <jansson.h>

#include "container/front/front.h"
#include "container/front/users.h"

struct bundle {
    const char *name;
    const char *rootfs; /* absolute */
    char **args;        /* NULL-terminated */
    const struct strings *env;
    const char *cwd;
    struct user user;
    const char *hostname;
    bool tty, read_only, rootless;
    bool bind_resolver; /* give it the host's resolv.conf and hosts */
    const struct front_options *options;
};

/* Writes config.json into the folder. */
bool bundle_write(int folder, const struct bundle *b, struct error *err);

/* The runtime specification's `process`; a new reference, or NULL: no memory, or not UTF-8. */
json_t *bundle_process(const struct bundle *b, struct error *err);

/* The system calls that a container is refused, as the specification's `linux.seccomp`. */
json_t *bundle_seccomp(void);

/* Sets KEY=VALUE in env in place of an older value of KEY. */
bool bundle_env_set(struct strings *env, const char *item, struct error *err);
bool bundle_env_has(const struct strings *env, const char *key);

#endif

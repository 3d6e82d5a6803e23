/*
 * What is known of a container between commands: a folder ROOT/ID with state.json, a copy of
 * config.json, the number of its first process (process), and, until the container is started, the
 * socket start.sock on which it waits. No file is ever written twice: some file systems bring a
 * replaced file to the disk before they go on.
 *
 * The folder is made first and removed last, and state.json names the cgroups before they are made:
 * so whenever a command is killed, `delete --force` finds all there is to clean up.
 */
#ifndef DOPPEL_CONTAINER_STATE_H
#define DOPPEL_CONTAINER_STATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "container/cgroup.h"
#include "container/scope.h"

enum container_status {
    CONTAINER_CREATING,
    CONTAINER_CREATED,
    CONTAINER_RUNNING,
    CONTAINER_PAUSED,
    CONTAINER_STOPPED,
};

struct state {
    char *folder; /* ROOT/ID */
    char *id;
    char *bundle, *rootfs;
    char *version;
    char *created; /* RFC 3339 */
    pid_t pid;     /* 0: none yet */
    uint64_t start_time;
    uid_t owner;
    struct cgroups cgroups;
    struct scope scope; /* without a unit: systemd was not asked */
    json_t *annotations;
};

const char *container_status_name(enum container_status status);

/* ROOT/ID made anew. */
bool state_make(struct state *s, const char *root, const char *id, struct error *err);
bool state_load(struct state *s, const char *root, const char *id, struct error *err);
/* All but the process; then that. Once each. */
bool state_save(const struct state *s, struct error *err);
bool state_save_process(const struct state *s, struct error *err);
/* Removes the folder. */
bool state_remove(const struct state *s, struct error *err);
void state_free(struct state *s);

enum container_status state_status(const struct state *s);
/* The state as the specification defines it, for hooks and `state`; a new reference. */
json_t *state_json(const struct state *s, enum container_status status);
/* ROOT/ID/name; valid until the next call with the same buffer. */
const char *state_file(const struct state *s, const char *name, char *path, size_t size);
bool state_id_valid(const char *id, struct error *err);

#endif

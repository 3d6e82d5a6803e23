/*
 * What the files that make and end containers share.
 */
#ifndef DOPPEL_CONTAINER_INTERNAL_H
#define DOPPEL_CONTAINER_INTERNAL_H

#include "container/config.h"
#include "container/container.h"
#include "container/state.h"

/* As --rootless says, or else whether we are someone else than the host's root: a rootless
 * container does without the cgroups and device rules that its maker has no right to. */
bool container_is_rootless(const struct container_options *o);

/* Writes the number as --pid-file has it: whole or not at all. */
bool container_write_pid(const char *path, pid_t pid, struct error *err);

/* A container whose process has ended: kills what is left in its cgroups, removes them and the
 * state, and runs the poststop hooks (config may be NULL: none are known). */
bool container_clean_up(struct state *s, const struct config *config, struct error *err);

#endif

/*
 * Hooks: programs that the configuration has run at points of a container's life, with the state on
 * their standard input.
 */
#ifndef DOPPEL_CONTAINER_HOOKS_H
#define DOPPEL_CONTAINER_HOOKS_H

#include <jansson.h>

#include "container/config.h"

/* Runs them one after the other in the caller's namespaces; the first that fails ends it. */
bool hooks_run(const struct hook_list *hooks, const char *kind, json_t *state, struct error *err);

#endif

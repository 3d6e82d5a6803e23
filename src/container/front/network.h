/*
 * A container's own network with a way out that takes no rights over the host's: slirp4netns, which
 * speaks for it from the monitor's side.
 */
#ifndef DOPPEL_CONTAINER_FRONT_NETWORK_H
#define DOPPEL_CONTAINER_FRONT_NETWORK_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* What its resolver is to ask. */
#define NETWORK_NAMESERVER "10.0.2.3"

/* Starts it for the network namespace of that process and waits until there is a network. It ends
 * when *hold is closed, or with us; the caller closes that, and reaps it. */
bool network_start(pid_t init, int *hold, struct error *err);

#endif

/*
 * Who a process is and what it may: user and groups, capabilities, limits, priorities, labels.
 */
#ifndef DOPPEL_CONTAINER_IDENTITY_H
#define DOPPEL_CONTAINER_IDENTITY_H

#include "container/config.h"

/* Limits, scheduling, oom score: with the host's /proc, before the user is changed. */
bool identity_limits(const struct process_config *p, struct error *err);
/* The rest, right before execve(): user, groups, capabilities, no_new_privs. */
bool identity_become(const struct process_config *p, struct error *err);
/* A descriptor that the LSM label is later written to, from proc, a descriptor of the host's /proc;
 * -1 with no error: no label asked for. */
bool identity_open_label(const struct process_config *p, int proc, int *fd, struct error *err);
bool identity_write_label(const struct process_config *p, int fd, struct error *err);

#endif

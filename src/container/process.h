/*
 * Processes: clone3(), helpers that are run to their end, and what /proc says of a process.
 */
#ifndef DOPPEL_CONTAINER_PROCESS_H
#define DOPPEL_CONTAINER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* A new process as fork() makes it, in new namespaces (CLONE_NEW* in flags) and, if cgroup is not
 * -1, in that folder of cgroup version 2. CLONE_PARENT in flags makes it our sibling. pidfd may be
 * NULL. 0 in the child; -1: errno says why. */
pid_t process_clone(uint64_t flags, int cgroup, int *pidfd);

/* Runs a program found by PATH with no output of its own, to its end. Its exit status; -1: err. */
int process_run(char *const *args, struct error *err);

/* When it started, in clock ticks since boot: with the pid, the identity of a process. 0: there is
 * none, or it is a zombie. */
uint64_t process_start_time(pid_t pid);

/* Waits for its end; its exit status as a shell has it (128 + N for signal N). */
int process_wait(pid_t pid);

#endif

/*
 * Our own program, out of a container's reach.
 *
 * A process of ours that is inside a container, but has not yet become the user's program, shows
 * the file that it runs as /proc/PID/exe; a container whose root is the host's could open that for
 * writing and so replace the runtime (CVE-2019-5736), for example by naming /proc/self/exe as the
 * program to run. So what enters a container runs the file from a read-only mount that is in no
 * namespace and so out of everyone's reach, or, where mounts are not ours to make, from a sealed
 * copy in memory. The mount is preferred because it copies nothing. Either takes one execve(), and
 * is done where it is needed only: when we run as a user who could write the file.
 */
#ifndef DOPPEL_OCI_SEAL_H
#define DOPPEL_OCI_SEAL_H

#include "base/error.h"

/* Returns when we run from such a copy, or need none; false: err is set. */
bool seal_ourselves(char **argv, struct error *err);

#endif

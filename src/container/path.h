/*
 * Paths inside a container's root, which may be full of hostile symbolic links and may change under
 * our feet: every step is an openat2() that cannot leave the root, and what is done to the end of a
 * path is done to the descriptor that it yielded.
 */
#ifndef DOPPEL_CONTAINER_PATH_H
#define DOPPEL_CONTAINER_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* openat2() with RESOLVE_IN_ROOT and no magic links; O_CLOEXEC is added. -1: errno says why. */
int path_open(int root, const char *path, int flags);

enum path_kind { PATH_DIRECTORY, PATH_FILE };

/* An O_PATH descriptor of the path, made with missing directories (and at the end a directory or an
 * empty file) if it does not exist; symbolic links count from the root. -1: errno says why. */
int path_make(int root, const char *path, enum path_kind kind, mode_t mode);

/* The directory that a path's last component stands in, made when missing; name receives that
 * component. -1: errno says why. */
int path_make_parent(int root, const char *path, char *name, size_t size);

/* "/proc/self/fd/N": the way to hand a descriptor to mount(2). */
struct fd_path {
    char text[32];
};
struct fd_path fd_path(int fd);

/* mkdir -p with mode 0700 on the host's own paths. */
bool path_make_host(const char *path, mode_t mode, struct error *err);

#endif

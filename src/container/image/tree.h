/*
 * File trees that someone else filled: every path is resolved inside the tree's root by the kernel
 * (openat2 with RESOLVE_IN_ROOT), so no symbolic link and no `..` in it leads out.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_TREE_H
#define DOPPEL_CONTAINER_IMAGE_TREE_H

#include <stddef.h>
#include <sys/types.h>

#include "container/image/strings.h"

/* open() of a path as a process whose root is `root` would see it; magic links of procfs are
 * refused. The descriptor is close-on-exec. -1 with errno set when it fails. */
int tree_open(int root, const char *path, int flags, mode_t mode);

/* The folder of that path, made with its parents where it is missing (mode 0755). -1: failed. */
int tree_make_folders(int root, const char *path, struct error *err);

/* Removes what `name` in `folder` is, with everything below it however deep that is, following no
 * link and leaving no mount point. Something that is not there is removed already. */
bool tree_remove(int folder, const char *name, struct error *err);

/* The same for everything in a folder, which stays. */
bool tree_remove_content(int folder, struct error *err);

/* The names in a folder that begin so, sorted; with "" those that don't begin with a dot. */
bool tree_list(int folder, const char *prefix, struct strings *names, struct error *err);

/* A whole file of at most `most` bytes with a zero byte behind it, from malloc(); `what` names it
 * in the error. */
char *tree_read(int root, const char *path, size_t most, size_t *size, const char *what,
                struct error *err);

/* Puts a file in place in one step: readers see the old one or the new one. */
bool tree_write(int folder, const char *name, const void *data, size_t size, mode_t mode,
                struct error *err);

/* Reads all of fd, as tree_read() does. */
char *tree_read_all(int fd, size_t most, size_t *size, const char *what, struct error *err);

#endif

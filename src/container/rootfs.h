/*
 * The container's root: made a mount of its own, filled, and pivoted to. Called in the container's
 * mount namespace, in this order.
 */
#ifndef DOPPEL_CONTAINER_ROOTFS_H
#define DOPPEL_CONTAINER_ROOTFS_H

#include "container/config.h"
#include "container/mounts.h"

/* Cuts the namespace off the host's and mounts path over itself. Returns a descriptor of the root;
 * -1: err is set. */
int rootfs_open(const char *path, struct error *err);
/* Mounts, devices and links; then, after hooks have had their say, what is hidden or read-only. */
bool rootfs_fill(struct config *c, struct mount_plans *plans, const struct cgroups *g, int root,
                 struct error *err);
bool rootfs_restrict(const struct config *c, int root, struct error *err);
/* The old root goes. */
bool rootfs_pivot(const struct config *c, int root, bool no_pivot, struct error *err);

#endif

/*
 * User and group ids: the maps of a user namespace, written by us where we may and by newuidmap
 * and newgidmap where we may not.
 */
#ifndef DOPPEL_CONTAINER_IDMAP_H
#define DOPPEL_CONTAINER_IDMAP_H

#include <stdbool.h>
#include <sys/types.h>

#include "container/config.h"

/* Writes the maps of the user namespace that pid was the first in. */
bool idmap_write(const struct id_maps *maps, pid_t pid, struct error *err);
/* A descriptor of a user namespace with these maps, for mount_setattr(). -1: err is set. */
int idmap_namespace(const struct id_maps *maps, struct error *err);
/* Whether we are the host's root: device rules, for one, are for nobody else to make. */
bool idmap_is_initial(void);
/* Whether id 0 (or any) inside is mapped. */
bool idmap_has(const struct id_map *maps, size_t count, uint32_t inside);

#endif

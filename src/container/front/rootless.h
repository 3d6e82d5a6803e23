/*
 * Containers of a user who is not root: everything happens in a user namespace where that user is
 * root, with the further ids that /etc/subuid and /etc/subgid grant where newuidmap(1) is there,
 * and with that one id otherwise.
 */
#ifndef DOPPEL_CONTAINER_FRONT_ROOTLESS_H
#define DOPPEL_CONTAINER_FRONT_ROOTLESS_H

#include "container/front/record.h"

/* Whether we are less than the host's root. */
bool rootless_is(void);

/* Enters such a namespace, unless we are root already; a mount namespace of its own comes with it.
 * Before anything that makes or removes a container's files. */
bool rootless_enter(struct error *err);

/* Does something to a container where its ids are at hand: when the user is not root, in a child
 * that has entered the container's namespace, or one of its own when nothing runs any more. */
bool rootless_do(const struct front *f, const char *name,
                 bool (*act)(const struct front *f, const char *name, const void *how,
                             struct error *err),
                 const void *how, struct error *err);

/* Whether our user namespace has that user and group; and whether it may set further groups. */
bool rootless_may_set_groups(void);
bool rootless_has_ids(uint32_t uid, uint32_t gid);

/* Enters the namespace of a container's monitor, where it is another one than ours. */
bool rootless_join(const struct front *f, const struct front_record *r, struct error *err);

#endif

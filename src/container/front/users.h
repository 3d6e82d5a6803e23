/*
 * Users and groups as a container's own /etc/passwd and /etc/group name them.
 */
#ifndef DOPPEL_CONTAINER_FRONT_USERS_H
#define DOPPEL_CONTAINER_FRONT_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { USER_GROUPS_MAX = 64 };

struct user {
    uint32_t uid, gid;
    uint32_t groups[USER_GROUPS_MAX]; /* the further ones */
    unsigned group_count;
    char home[256];
};

/* Finds "USER[:GROUP]", each a name or a number, in the tree below root; NULL or "": root. */
bool user_find(int root, const char *wanted, struct user *u, struct error *err);

/* The same in the two files' text, which may be NULL: fields are taken in place, bad lines are
 * passed over. */
bool user_find_in(const char *passwd, const char *group, const char *wanted, struct user *u,
                  struct error *err);

#endif

/*
 * A cgroup and those that a container made in it, however deep: a list, so that nobody can make us
 * run out of stack, descriptors or path length. A folder stands before those in it.
 */
#ifndef DOPPEL_CONTAINER_CGROUP_TREE_H
#define DOPPEL_CONTAINER_CGROUP_TREE_H

#include <stdbool.h>
#include <stddef.h>

struct cgroup_node {
    size_t parent; /* index */
    char *name;    /* NULL: the top */
};

struct cgroup_tree {
    int top; /* O_PATH descriptor */
    struct cgroup_node *nodes;
    size_t count, room;
};

/* false with errno; nothing is to be freed then. */
bool cgroup_tree_read(struct cgroup_tree *t, const char *folder);
void cgroup_tree_free(struct cgroup_tree *t);
/* The folder of that node, O_PATH; the caller closes it. -1 with errno. */
int cgroup_tree_open(const struct cgroup_tree *t, size_t node);

#endif

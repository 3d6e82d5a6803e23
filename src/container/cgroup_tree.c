#include "container/cgroup_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How many names make one path for the kernel: 15 of at most 255 bytes stay below PATH_MAX. */
enum { NAMES_AT_ONCE = 15, NAME_ROOM = 256 };

static bool add(struct cgroup_tree *t, size_t parent, const char *name)
{
    if (t->count == t->room) {
        size_t room = t->room ? t->room * 2 : 16;
        struct cgroup_node *more = realloc(t->nodes, room * sizeof *more);
        if (!more)
            return false;
        t->nodes = more;
        t->room = room;
    }
    char *copy = name ? strdup(name) : NULL;
    if (name && !copy)
        return false;
    t->nodes[t->count++] = (struct cgroup_node){.parent = parent, .name = copy};
    return true;
}

/* The names of chain[count - 1] and on down, as many as fit. */
static size_t join(const struct cgroup_tree *t, const size_t *chain, size_t count, char *path)
{
    size_t used = 0, taken = 0;
    for (; taken < count && taken < NAMES_AT_ONCE; taken++) {
        const char *name = t->nodes[chain[count - 1 - taken]].name;
        size_t length = strnlen(name, NAME_ROOM - 1);
        memcpy(path + used, name, length);
        path[used + length] = '/';
        used += length + 1;
    }
    path[used] = 0;
    return taken;
}

/* Takes fd; chain is the way down from there, its end first. */
static int descend(const struct cgroup_tree *t, int fd, const size_t *chain, size_t count)
{
    char path[NAMES_AT_ONCE * NAME_ROOM + 1];
    while (count > 0 && fd >= 0) {
        count -= join(t, chain, count, path);
        int next = openat(fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int saved = errno;
        close(fd);
        errno = saved;
        fd = next;
    }
    return fd;
}

int cgroup_tree_open(const struct cgroup_tree *t, size_t node)
{
    size_t depth = 0, *chain = NULL;
    for (size_t at = node; at != 0; at = t->nodes[at].parent)
        depth++;
    if (depth > 0 && !(chain = malloc(depth * sizeof *chain)))
        return -1;
    depth = 0;
    for (size_t at = node; at != 0; at = t->nodes[at].parent)
        chain[depth++] = at;
    int fd = descend(t, fcntl(t->top, F_DUPFD_CLOEXEC, 0), chain, depth);
    int saved = errno;
    free(chain);
    errno = saved;
    return fd;
}

/* Adds what is in the folder; a folder that has gone meanwhile has nothing in it. */
static bool add_children(struct cgroup_tree *t, int folder, size_t node)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    bool ok = true;
    if (!entries) {
        if (fd >= 0)
            close(fd);
        return errno == ENOENT || errno == EACCES;
    }
    while (ok && (entry = readdir(entries)))
        if (entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 &&
            strcmp(entry->d_name, "..") != 0)
            ok = add(t, node, entry->d_name);
    closedir(entries);
    return ok;
}

/* The folder of a node whose parent is most often the one that was open last. */
static int open_next(const struct cgroup_tree *t, size_t node, size_t last, int last_fd)
{
    if (node == 0 || last_fd < 0 || t->nodes[node].parent != last)
        return cgroup_tree_open(t, node);
    return openat(last_fd, t->nodes[node].name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool cgroup_tree_read(struct cgroup_tree *t, const char *folder)
{
    *t = (struct cgroup_tree){.top = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC)};
    bool ok = t->top >= 0 && add(t, 0, NULL);
    int last_fd = -1;
    for (size_t i = 0, last = 0; i < t->count && ok; i++) {
        int fd = open_next(t, i, last, last_fd);
        if (fd < 0) {
            ok = errno == ENOENT;
            continue;
        }
        ok = add_children(t, fd, i);
        if (last_fd >= 0)
            close(last_fd);
        last_fd = fd;
        last = i;
    }
    int saved = errno;
    if (last_fd >= 0)
        close(last_fd);
    if (!ok)
        cgroup_tree_free(t);
    errno = saved;
    return ok;
}

void cgroup_tree_free(struct cgroup_tree *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->nodes[i].name);
    free(t->nodes);
    if (t->top >= 0)
        close(t->top);
    *t = (struct cgroup_tree){.top = -1};
}

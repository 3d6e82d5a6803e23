/* The container's view of its control groups: a mount of type cgroup. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/mounts.h"
#include "container/path.h"

static bool bind_folder(const char *folder, int target, uint64_t attributes)
{
    int tree = open_tree(AT_FDCWD, folder, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    struct mount_attr attr = {.attr_set = attributes};
    bool ok =
        tree >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0 &&
        move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0;
    int saved = errno;
    if (tree >= 0)
        close(tree);
    errno = saved;
    return ok;
}

/* In a cgroup namespace a new mount shows the namespace's part; without one, or where a user
 * namespace may not mount it, the part is bound. */
static bool mount_hierarchy(const struct mount_plan *p, const struct cgroup_hierarchy *h,
                            int target, bool own_namespace)
{
    const char *type = h->unified ? "cgroup2" : "cgroup";
    if (own_namespace && mount("cgroup", fd_path(target).text, type, p->options.flags,
                               h->unified ? NULL : h->controllers) == 0)
        return true;
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s%s", h->mount, h->own);
    return bind_folder(folder, target, p->options.set);
}

/* "cpu" for the hierarchy "cpu,cpuacct". */
static void link_controllers(const char *name, int folder)
{
    char copy[128], *save = NULL;
    if (!strchr(name, ','))
        return;
    snprintf(copy, sizeof copy, "%s", name);
    for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save))
        if (symlinkat(name, folder, word) < 0)
            return;
}

static bool mount_one_of_many(const struct mount_plan *p, const struct cgroup_hierarchy *h,
                              int folder, bool own_namespace)
{
    const char *name = strrchr(h->mount, '/') + 1;
    /* The folder is a new tmpfs that nobody else has: there are no links to look out for. */
    bool made = mkdirat(folder, name, 0755) == 0;
    int target = made ? openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    bool ok = target >= 0 && mount_hierarchy(p, h, target, own_namespace);
    int saved = errno;
    if (target >= 0)
        close(target);
    if (ok && !h->unified)
        link_controllers(h->controllers, folder);
    errno = saved;
    return ok;
}

static bool mount_many(const struct mount_plan *p, const struct cgroups *g, int root,
                       bool own_namespace)
{
    int folder = path_open(root, p->config->destination, O_PATH);
    bool ok = folder >= 0;
    for (size_t i = 0; i < g->count && ok; i++)
        ok = mount_one_of_many(p, &g->list[i], folder, own_namespace);
    /* Only the folder itself: the hierarchies in it have their own flags. */
    struct mount_attr attr = {.attr_set = p->options.set & MOUNT_ATTR_RDONLY};
    ok =
        ok && (!attr.attr_set || mount_setattr(folder, "", AT_EMPTY_PATH, &attr, sizeof attr) == 0);
    int saved = errno;
    if (folder >= 0)
        close(folder);
    errno = saved;
    return ok;
}

bool mount_cgroups(const struct mount_plan *p, const struct cgroups *g, int root,
                   bool own_namespace, struct error *err)
{
    int target = path_make(root, p->config->destination, PATH_DIRECTORY, 0755);
    bool ok = target >= 0;
    if (ok && cgroups_are_v2(g))
        ok = mount_hierarchy(p, &g->list[0], target, own_namespace);
    else if (ok)
        ok =
            mount("tmpfs", fd_path(target).text, "tmpfs",
                  (p->options.flags & ~(unsigned long)MS_RDONLY) | MS_NOEXEC | MS_NOSUID | MS_NODEV,
                  "mode=755") == 0 &&
            mount_many(p, g, root, own_namespace);
    if (!ok)
        field_error(&p->config->at, err, "cgroup on %.100s: %s", p->config->destination,
                    strerror(errno));
    if (target >= 0)
        close(target);
    return ok;
}

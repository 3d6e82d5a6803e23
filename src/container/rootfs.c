#include "container/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/path.h"

int rootfs_open(const char *path, struct error *err)
{
    struct mount_attr private = {.propagation = MS_PRIVATE};
    /* Nothing that is mounted here may reach the host. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0) {
        error_errno(err, "/: can't be cut off the host's mounts");
        return -1;
    }
    int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
    if (tree < 0) {
        error_errno(err, "config.json: root.path: %s", path);
        return -1;
    }
    if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &private, sizeof private) < 0 ||
        move_mount(tree, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        error_errno(err, "config.json: root.path: %s can't be mounted", path);
        close(tree);
        return -1;
    }
    return tree;
}

/* ---- devices ---- */

/* makedev() for small numbers, as a constant. */
#define DEVICE(major, minor) ((dev_t)(major) << 8 | (minor))

static const struct device_config default_devices[] = {
    {"/dev/null", S_IFCHR | 0666, DEVICE(1, 3), 0, 0},
    {"/dev/zero", S_IFCHR | 0666, DEVICE(1, 5), 0, 0},
    {"/dev/full", S_IFCHR | 0666, DEVICE(1, 7), 0, 0},
    {"/dev/random", S_IFCHR | 0666, DEVICE(1, 8), 0, 0},
    {"/dev/urandom", S_IFCHR | 0666, DEVICE(1, 9), 0, 0},
    {"/dev/tty", S_IFCHR | 0666, DEVICE(5, 0), 0, 0},
};

/* An empty name: what folder itself is open on. */
static bool is_device(int folder, const char *name, const struct device_config *d)
{
    struct stat st;
    return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) == 0 &&
           (st.st_mode & S_IFMT) == (d->mode & S_IFMT) &&
           (S_ISFIFO(d->mode) || st.st_rdev == d->number);
}

/* An empty file to bind a device over: a new one, or one that an earlier container has left in this
 * root. Nothing else is opened: opening a node does something. */
static int open_place(int folder, const char *name)
{
    struct stat st;
    int fd = openat(folder, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDONLY, 0644);
    if (fd >= 0 || errno != EEXIST)
        return fd;
    fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == 0))
        return fd;
    close(fd);
    errno = EEXIST;
    return -1;
}

/* The host's device of that name, to be mounted; only if it is the one that is meant. */
static int open_device(const struct device_config *d)
{
    int tree = open_tree(AT_FDCWD, d->path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0 || is_device(tree, "", d))
        return tree;
    close(tree);
    errno = ENODEV;
    return -1;
}

/* Where devices can't be made, as in a user namespace, the host's is bound. */
static bool bind_device(int folder, const char *name, const struct device_config *d)
{
    int fd = open_place(folder, name);
    if (fd < 0)
        return false;
    int tree = open_device(d);
    bool ok = tree >= 0 &&
              move_mount(tree, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0;
    int saved = errno;
    if (tree >= 0)
        close(tree);
    close(fd);
    errno = saved;
    return ok;
}

static bool make_node(int folder, const char *name, const struct device_config *d)
{
    if (mknodat(folder, name, d->mode, S_ISFIFO(d->mode) ? 0 : d->number) == 0)
        return (d->uid == 0 && d->gid == 0) ||
               fchownat(folder, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW) == 0;
    if (errno == EEXIST)
        return is_device(folder, name, d) || bind_device(folder, name, d);
    return errno == EPERM && bind_device(folder, name, d);
}

static bool make_device(int root, const struct device_config *d, struct error *err)
{
    char name[NAME_MAX + 1];
    int folder = path_make_parent(root, d->path, name, sizeof name);
    bool ok = folder >= 0 && make_node(folder, name, d);
    if (!ok)
        error_errno(err, "device %s: can't be made", d->path);
    if (folder >= 0)
        close(folder);
    return ok;
}

static bool make_devices(const struct config *c, int root, struct error *err)
{
    int dev = path_make(root, "/dev", PATH_DIRECTORY, 0755);
    if (dev < 0)
        return error_errno(err, "/dev: can't be made");
    bool ok = true;
    mode_t old = umask(0);
    for (size_t i = 0; i < ARRAY_LEN(default_devices) && ok; i++)
        if (!make_node(dev, default_devices[i].path + 5, &default_devices[i]))
            ok = error_errno(err, "device %s: can't be made", default_devices[i].path);
    for (size_t i = 0; i < c->device_count && ok; i++)
        ok = make_device(root, &c->devices[i], err);
    umask(old);
    close(dev);
    return ok;
}

static bool make_links(int root, struct error *err)
{
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"/proc/kcore", "core"},      {"pts/ptmx", "ptmx"}};
    int dev = path_open(root, "/dev", O_PATH | O_DIRECTORY);
    bool ok = dev >= 0;
    for (size_t i = 0; i < ARRAY_LEN(links) && ok; i++)
        ok = symlinkat(links[i][0], dev, links[i][1]) == 0 || errno == EEXIST;
    if (!ok)
        error_errno(err, "/dev: its links can't be made");
    if (dev >= 0)
        close(dev);
    return ok;
}

/* With the host's own /dev there is nothing to make. */
static bool dev_is_bound(const struct config *c, const struct mount_plans *plans)
{
    for (size_t i = 0; i < c->mount_count; i++) {
        const char *to = c->mounts[i].destination;
        if (plans->plans[i].options.bind && (strcmp(to, "/dev") == 0 || strcmp(to, "/dev/") == 0))
            return true;
    }
    return false;
}

bool rootfs_fill(struct config *c, struct mount_plans *plans, const struct cgroups *g, int root,
                 struct error *err)
{
    if (!mounts_do(c, plans, g, root, err))
        return false;
    return dev_is_bound(c, plans) || (make_devices(c, root, err) && make_links(root, err));
}

/* ---- restricting ---- */

/* A file is hidden by /dev/null, a folder by an empty one. */
static bool mask(int root, const char *path, int *empty)
{
    struct stat st;
    int fd = path_open(root, path, O_PATH);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR;
    bool ok = fstat(fd, &st) == 0;
    if (ok && !S_ISDIR(st.st_mode))
        ok = mount("/dev/null", fd_path(fd).text, NULL, MS_BIND, NULL) == 0;
    else if (ok && *empty >= 0)
        ok = mount(fd_path(*empty).text, fd_path(fd).text, NULL, MS_BIND, NULL) == 0;
    else if (ok) {
        ok = mount("tmpfs", fd_path(fd).text, "tmpfs", MS_RDONLY, "size=0k,nr_inodes=1,mode=755") ==
             0;
        *empty = ok ? path_open(root, path, O_PATH) : -1;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

static bool make_read_only(int root, const char *path)
{
    int fd = path_open(root, path, O_PATH);
    if (fd < 0)
        return errno == ENOENT || errno == ENOTDIR;
    bool ok = mount_read_only(fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

bool rootfs_restrict(const struct config *c, int root, struct error *err)
{
    int empty = -1;
    bool ok = true;
    for (size_t i = 0; i < c->readonly_count && ok; i++)
        if (!make_read_only(root, c->readonly_paths[i]))
            ok = error_errno(err, "config.json: linux.readonlyPaths[%zu]: %s", i,
                             c->readonly_paths[i]);
    for (size_t i = 0; i < c->masked_count && ok; i++)
        if (!mask(root, c->masked_paths[i], &empty))
            ok = error_errno(err, "config.json: linux.maskedPaths[%zu]: %s", i, c->masked_paths[i]);
    if (empty >= 0)
        close(empty);
    return ok;
}

/* ---- leaving the old root ---- */

static bool pivot(int root, struct error *err)
{
    /* The old root comes to lie over the new one's, where it can be taken off without a folder of
     * its own. */
    if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return error_errno(err, "pivot_root: refused; on a root in memory use --no-pivot");
    if (umount2(".", MNT_DETACH) < 0)
        return error_errno(err, "/: the host's can't be left");
    return true;
}

static bool move(int root, struct error *err)
{
    if (fchdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0)
        return error_errno(err, "/: can't be moved");
    return true;
}

bool rootfs_pivot(const struct config *c, int root, bool no_pivot, struct error *err)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    if (!(no_pivot ? move(root, err) : pivot(root, err)))
        return false;
    if (chdir("/") < 0)
        return error_errno(err, "/: can't be entered");
    if (c->rootfs_propagation && mount(NULL, "/", NULL, c->rootfs_propagation, NULL) < 0)
        return error_errno(err, "config.json: linux.rootfsPropagation: can't be set");
    if (c->rootfs_readonly && mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        return error_errno(err, "config.json: root.readonly: can't be set");
    return true;
}

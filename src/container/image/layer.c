#include "container/image/layer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/image/tree.h"

/* A folder's mode and time, set when nothing more is put into it. */
struct later {
    char *path; /* owned */
    mode_t mode;
    struct timespec mtime;
};

struct unpacking {
    struct tar *tar;
    int root;
    const struct layer_how *how;
    struct later *later; /* owned */
    size_t later_count, later_capacity;
    /* The folder of the entry before: most entries have the same. Forgotten when anything is
     * removed, for its name may lead elsewhere then. */
    char folder_path[TAR_PATH_MAX + 1];
    int folder; /* -1: none */
    uint8_t buffer[STREAM_BUFFER];
};

/* An entry's place: its folder, opened, and its name in there. */
struct place {
    int folder;
    const char *name;
    const char *path;
};

/* ------------------------------------------------------------------------------------------- *
 * Names
 * ------------------------------------------------------------------------------------------- */

bool layer_path(const char *name, char path[TAR_PATH_MAX + 1], struct error *err)
{
    size_t n = 0;
    if (strlen(name) > TAR_PATH_MAX)
        return error_set(err, "%.60s...: its name is too long; the layer can't be unpacked", name);
    for (const char *p = name; *p;) {
        p += strspn(p, "/");
        size_t length = strcspn(p, "/");
        if (length == 2 && p[0] == '.' && p[1] == '.')
            return error_set(err,
                             "%.200s: its name has a `..`, which no image needs; the layer is "
                             "not unpacked",
                             name);
        if (length > NAME_MAX)
            return error_set(err,
                             "%.60s...: a part of its name is longer than %d bytes; no file "
                             "system takes it",
                             p, NAME_MAX);
        if (length && !(length == 1 && p[0] == '.')) {
            if (n)
                path[n++] = '/';
            memmove(path + n, p, length);
            n += length;
        }
        p += length;
    }
    path[n] = 0;
    return true;
}

static void forget_folder(struct unpacking *u)
{
    if (u->folder >= 0)
        close(u->folder);
    u->folder = -1;
}

/* path, cut in two, and its folder opened; with `make`, made where it is missing. */
static bool find_place(struct unpacking *u, char *path, bool make, struct place *p,
                       struct error *err)
{
    char *slash = strrchr(path, '/');
    const char *folder = slash ? path : "";
    p->name = slash ? slash + 1 : path;
    p->path = path;
    if (slash)
        *slash = 0;
    if (u->folder < 0 || strcmp(u->folder_path, folder) != 0) {
        forget_folder(u);
        u->folder = make ? tree_make_folders(u->root, *folder ? folder : "/", err)
                         : tree_open(u->root, *folder ? folder : "/", O_PATH | O_DIRECTORY, 0);
        snprintf(u->folder_path, sizeof u->folder_path, "%s", folder);
    }
    p->folder = u->folder;
    if (slash)
        *slash = '/';
    return u->folder >= 0;
}

static bool clear_place(struct unpacking *u, const struct place *p, struct error *err)
{
    int folder = fcntl(p->folder, F_DUPFD_CLOEXEC, 3);
    if (folder < 0)
        return error_errno(err, "%.200s", p->path);
    bool ok = tree_remove(folder, p->name, err);
    close(folder);
    forget_folder(u);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * Whiteouts
 * ------------------------------------------------------------------------------------------- */

static bool make_opaque(struct unpacking *u, int folder, const char *name, struct error *err)
{
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const char *key = u->how->user_xattrs ? "user.overlay.opaque" : "trusted.overlay.opaque";
    bool ok = fd >= 0 && fsetxattr(fd, key, "y", 1, 0) == 0;
    if (!ok)
        error_errno(err, "%.200s: it can't be marked opaque; use --copy", name);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool is_whiteout(const struct stat *st)
{
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

/* What the layer itself has of that name stays: a whiteout is for the layers below. */
static bool mark_whiteout(struct unpacking *u, const struct place *p, const char *name,
                          struct error *err)
{
    struct stat st;
    if (fstatat(p->folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        return !S_ISDIR(st.st_mode) || make_opaque(u, p->folder, name, err);
    return mknodat(p->folder, name, S_IFCHR | 0600, 0) == 0 ||
           error_errno(err, "%.200s: its whiteout can't be made; use --copy", p->path);
}

static bool remove_whited_out(struct unpacking *u, const struct place *p, const char *name,
                              struct error *err)
{
    struct place target = {p->folder, name, p->path};
    return clear_place(u, &target, err);
}

/* Everything that the layers below have put into a folder. */
static bool remove_content(struct unpacking *u, const struct place *p, struct error *err)
{
    int fd = openat(p->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, "%.200s", p->path);
    forget_folder(u);
    bool ok = tree_remove_content(fd, err);
    close(fd);
    return ok;
}

static bool take_whiteout(struct unpacking *u, char *path, struct error *err)
{
    struct place p;
    enum layer_form form = u->how->form;
    if (form == LAYER_FLAT_ADD)
        return true;
    if (!find_place(u, path, form == LAYER_OVERLAY, &p, err))
        return form == LAYER_FLAT_REMOVE; /* there is nothing to take away */
    const char *name = p.name + 4;
    if (strcmp(name, ".wh..opq") == 0)
        return form == LAYER_OVERLAY ? make_opaque(u, p.folder, ".", err)
                                     : remove_content(u, &p, err);
    if (strncmp(name, ".wh.", 4) == 0) /* aufs's own bookkeeping */
        return true;
    /* It began with ".wh.". NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Branch) */
    if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return error_set(err,
                         "%.200s: a whiteout of nothing that could be there; the layer is not "
                         "unpacked",
                         path);
    return form == LAYER_OVERLAY ? mark_whiteout(u, &p, name, err)
                                 : remove_whited_out(u, &p, name, err);
}

/* ------------------------------------------------------------------------------------------- *
 * What files have besides their content
 * ------------------------------------------------------------------------------------------- */

/* Attributes that mean something in a container and nothing to the host: not overlayfs's, with
 * which a layer could name other folders, nor other security modules'. */
static bool xattr_wanted(const char *name)
{
    return (strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0) ||
           strcmp(name, "security.capability") == 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

/* Why a file can go without: the file system or our rights don't allow it. */
static bool can_do_without(const struct unpacking *u)
{
    return errno == ENOTSUP || errno == ENODATA ||
           (u->how->rootless && (errno == EPERM || errno == EINVAL));
}

static bool set_xattrs(struct unpacking *u, int fd, const struct tar_entry *e, struct error *err)
{
    for (unsigned i = 0; i < e->xattr_count; i++) {
        const struct tar_xattr *x = &e->xattrs[i];
        if (xattr_wanted(x->name) && fsetxattr(fd, x->name, x->value, x->size, 0) != 0 &&
            !can_do_without(u))
            return error_errno(err, "%.200s: its attribute %.60s", e->name, x->name);
    }
    return true;
}

static bool set_owner(struct unpacking *u, int folder, const char *name, const struct tar_entry *e,
                      struct error *err)
{
    int flags = AT_SYMLINK_NOFOLLOW | (*name ? 0 : AT_EMPTY_PATH);
    if (fchownat(folder, name, e->uid, e->gid, flags) == 0 ||
        (u->how->rootless && (errno == EPERM || errno == EINVAL)))
        return true;
    return error_errno(err, "%.200s: its owner (%u:%u)", e->name, e->uid, e->gid);
}

/* The owner first: a change of it takes set-user-ID bits and capabilities away. */
static bool set_all(struct unpacking *u, int fd, const struct tar_entry *e, struct error *err)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};
    if (!set_owner(u, fd, "", e, err))
        return false;
    if (fchmod(fd, e->mode) != 0)
        return error_errno(err, "%.200s: its mode", e->name);
    if (!set_xattrs(u, fd, e, err))
        return false;
    return futimens(fd, times) == 0 || error_errno(err, "%.200s: its time", e->name);
}

/* ------------------------------------------------------------------------------------------- *
 * Each type of entry
 * ------------------------------------------------------------------------------------------- */

static bool write_at(int fd, const uint8_t *data, size_t size, uint64_t at)
{
    while (size) {
        ssize_t n = pwrite(fd, data, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        size -= (size_t)n;
        at += (uint64_t)n;
    }
    return true;
}

static bool write_parts(struct unpacking *u, int fd, const struct tar_entry *e, struct error *err)
{
    for (unsigned i = 0; i < e->part_count; i++) {
        uint64_t at = e->parts[i].at, left = e->parts[i].size;
        while (left) {
            size_t want = left < sizeof u->buffer ? (size_t)left : sizeof u->buffer;
            ssize_t n = tar_read(u->tar, u->buffer, want, err);
            if (n < 0 || !room_take(u->how->room, (uint64_t)n, err))
                return false;
            if (!write_at(fd, u->buffer, (size_t)n, at))
                return error_errno(err, "%.200s: it can't be written", e->name);
            at += (uint64_t)n;
            left -= (uint64_t)n;
        }
    }
    return e->size == 0 || ftruncate(fd, (off_t)e->size) == 0 ||
           error_errno(err, "%.200s: its size of %llu bytes", e->name, (unsigned long long)e->size);
}

static bool make_file(struct unpacking *u, const struct place *p, const struct tar_entry *e,
                      struct error *err)
{
    int fd = openat(p->folder, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, "%.200s: it can't be made", e->name);
    bool ok = write_parts(u, fd, e, err) && set_all(u, fd, e, err);
    close(fd);
    return ok;
}

static bool remember(struct unpacking *u, const char *path, const struct tar_entry *e,
                     struct error *err)
{
    if (u->later_count == u->later_capacity) {
        size_t capacity = u->later_capacity ? u->later_capacity * 2 : 64;
        struct later *more = realloc(u->later, capacity * sizeof *more);
        if (!more)
            return error_set(err, "%.200s: no memory left to remember it", path);
        u->later = more;
        u->later_capacity = capacity;
    }
    struct later *l = &u->later[u->later_count];
    *l = (struct later){strdup(path), e->mode, e->mtime};
    if (!l->path)
        return error_set(err, "%.200s: no memory left to remember it", path);
    u->later_count++;
    return true;
}

/* The folder may be there: made for what came before it, or by a layer below. */
static bool make_folder(struct unpacking *u, const struct place *p, const struct tar_entry *e,
                        bool replaces_whiteout, struct error *err)
{
    if (mkdirat(p->folder, p->name, 0700) != 0 && errno != EEXIST)
        return error_errno(err, "%.200s: it can't be made", e->name);
    int fd = openat(p->folder, p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, "%.200s: it can't be opened", e->name);
    bool ok = set_owner(u, fd, "", e, err) && set_xattrs(u, fd, e, err) &&
              (!replaces_whiteout || make_opaque(u, p->folder, p->name, err)) &&
              remember(u, p->path, e, err);
    close(fd);
    return ok;
}

static bool make_hard_link(struct unpacking *u, const struct place *p, const struct tar_entry *e,
                           struct error *err)
{
    char path[TAR_PATH_MAX + 1];
    if (!layer_path(e->link, path, err))
        return false;
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = 0;
    const char *name = slash ? slash + 1 : path;
    int folder = tree_open(u->root, slash ? path : "/", O_PATH | O_DIRECTORY, 0);
    bool ok = folder >= 0 && *name && linkat(folder, name, p->folder, p->name, 0) == 0;
    if (!ok)
        error_set(err,
                  "%.120s: a hard link to %.120s, which is not there to be linked to (%s); the "
                  "layer is not unpacked",
                  e->name, e->link, strerror(errno));
    if (folder >= 0)
        close(folder);
    return ok;
}

static bool make_special(struct unpacking *u, const struct place *p, const struct tar_entry *e,
                         struct error *err)
{
    static const mode_t types[] = {
        [TAR_CHARACTER] = S_IFCHR, [TAR_BLOCK] = S_IFBLK, [TAR_FIFO] = S_IFIFO};
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};
    if (e->type == TAR_CHARACTER && e->major == 0 && e->minor == 0)
        return error_set(err,
                         "%.200s: device 0:0 is overlayfs's mark for what is not there; the "
                         "layer is not unpacked",
                         e->name);
    if (mknodat(p->folder, p->name, types[e->type] | 0600, makedev(e->major, e->minor)) != 0)
        return (u->how->rootless && errno == EPERM) ||
               error_errno(err, "%.200s: the device can't be made", e->name);
    if (!set_owner(u, p->folder, p->name, e, err))
        return false;
    return (fchmodat(p->folder, p->name, e->mode, 0) == 0 &&
            utimensat(p->folder, p->name, times, AT_SYMLINK_NOFOLLOW) == 0) ||
           error_errno(err, "%.200s: its mode and time", e->name);
}

static bool make_symbolic_link(struct unpacking *u, const struct place *p,
                               const struct tar_entry *e, struct error *err)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, e->mtime};
    if (symlinkat(e->link, p->folder, p->name) != 0)
        return error_errno(err, "%.200s: the symbolic link can't be made", e->name);
    return set_owner(u, p->folder, p->name, e, err) &&
           (utimensat(p->folder, p->name, times, AT_SYMLINK_NOFOLLOW) == 0 ||
            error_errno(err, "%.200s: its time", e->name));
}

/* ------------------------------------------------------------------------------------------- *
 * The layer
 * ------------------------------------------------------------------------------------------- */

static bool make_entry(struct unpacking *u, const struct place *p, const struct tar_entry *e,
                       bool replaces_whiteout, struct error *err)
{
    switch (e->type) {
    case TAR_FILE: return make_file(u, p, e, err);
    case TAR_HARD_LINK: return make_hard_link(u, p, e, err);
    case TAR_SYMBOLIC_LINK: return make_symbolic_link(u, p, e, err);
    case TAR_FOLDER: return make_folder(u, p, e, replaces_whiteout, err);
    case TAR_CHARACTER:
    case TAR_BLOCK:
    case TAR_FIFO: return make_special(u, p, e, err);
    case TAR_OTHER: break;
    }
    return true;
}

/* An entry takes the place of what is there, but a folder joins a folder, and a hard link to
 * itself is there already. */
static bool take_place(struct unpacking *u, char *path, const struct tar_entry *e,
                       struct error *err)
{
    struct place p;
    struct stat st;
    bool replaces_whiteout = false;
    if (!find_place(u, path, true, &p, err))
        return false;
    if (fstatat(p.folder, p.name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        char target[TAR_PATH_MAX + 1];
        if (e->type == TAR_HARD_LINK && layer_path(e->link, target, err) &&
            strcmp(target, path) == 0)
            return true;
        replaces_whiteout = u->how->form == LAYER_OVERLAY && is_whiteout(&st);
        if (!(e->type == TAR_FOLDER && S_ISDIR(st.st_mode)) &&
            !(clear_place(u, &p, err) && find_place(u, path, true, &p, err)))
            return false;
    }
    return make_entry(u, &p, e, replaces_whiteout, err);
}

/* aufs keeps its own files in folders whose names are marks. */
static bool in_marked_folder(const char *path)
{
    const char *last = strrchr(path, '/');
    for (const char *p = path; last && p < last; p += strcspn(p, "/") + 1)
        if (strncmp(p, ".wh.", 4) == 0)
            return true;
    return false;
}

static bool take_entry(struct unpacking *u, const struct tar_entry *e, struct error *err)
{
    char path[TAR_PATH_MAX + 1];
    if (e->type == TAR_OTHER)
        return true;
    if (!layer_path(e->name, path, err))
        return false;
    if (in_marked_folder(path))
        return true;
    const char *slash = strrchr(path, '/');
    if (strncmp(slash ? slash + 1 : path, ".wh.", 4) == 0)
        return take_whiteout(u, path, err);
    if (u->how->form == LAYER_FLAT_REMOVE)
        return true;
    if (*path)
        return take_place(u, path, e, err);
    /* The root itself. */
    if (e->type != TAR_FOLDER)
        return error_set(err, "%.200s: the root can be a folder only; the layer is damaged",
                         e->name);
    return set_owner(u, u->root, "", e, err) && set_xattrs(u, u->root, e, err) &&
           remember(u, "", e, err);
}

/* In reverse: a folder comes before what is in it, and may be one that we can't search. */
static bool finish_folders(struct unpacking *u, struct error *err)
{
    for (size_t i = u->later_count; i-- > 0;) {
        const struct later *l = &u->later[i];
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, l->mtime};
        int fd =
            tree_open(u->root, *l->path ? l->path : "/", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
        if (fd < 0)
            continue; /* something else took its place, or it was listed twice */
        bool ok = fchmod(fd, l->mode) == 0 && futimens(fd, times) == 0;
        if (!ok)
            error_errno(err, "%.200s: its mode and time", l->path);
        close(fd);
        if (!ok)
            return false;
    }
    return true;
}

/* An empty file takes something, too. */
static bool make_room(const struct unpacking *u, struct error *err)
{
    enum { INODE = 512 };
    return u->how->form == LAYER_FLAT_REMOVE || room_take(u->how->room, INODE, err);
}

bool layer_unpack(struct tar *t, int root, const struct layer_how *how, struct error *err)
{
    struct unpacking *u = malloc(sizeof *u);
    if (!u)
        return error_set(err, "layer: no memory left to unpack it");
    *u = (struct unpacking){.tar = t, .root = root, .how = how, .folder = -1};
    const struct tar_entry *e = NULL;
    bool ok;
    while ((ok = tar_next(t, &e, err)) && e && (ok = make_room(u, err) && take_entry(u, e, err)))
        continue;
    ok = ok && finish_folders(u, err);
    forget_folder(u);
    for (size_t i = 0; i < u->later_count; i++)
        free(u->later[i].path);
    free(u->later);
    free(u);
    return ok;
}

#include "container/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As the kernel's own limit. */
enum { MAX_LINKS = 40 };

static int open_in(int root, const char *path, int flags, unsigned resolve)
{
    struct open_how how = {
        .flags = (unsigned)flags | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve,
    };
    int fd;
    /* EAGAIN: something was renamed or mounted meanwhile, so ".." could not be trusted. */
    for (int tries = 0; tries < 128; tries++) {
        fd = (int)syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    return fd;
}

int path_open(int root, const char *path, int flags)
{
    return open_in(root, *path ? path : "/", flags, 0);
}

/* A walk from the root: done holds no links, rest is still to be walked. */
struct walk {
    int root;
    char done[PATH_MAX], rest[PATH_MAX];
    unsigned links;
};

/* Takes the first component of what is left; false: there is none. */
static bool next_component(struct walk *w, char *name, bool *last)
{
    const char *at = w->rest + strspn(w->rest, "/");
    size_t length = strcspn(at, "/");
    if (length == 0 || length > NAME_MAX)
        return false;
    memcpy(name, at, length);
    name[length] = 0;
    at += length;
    at += strspn(at, "/");
    *last = !*at;
    memmove(w->rest, at, strlen(at) + 1);
    return true;
}

static bool push(struct walk *w, const char *name)
{
    size_t used = strlen(w->done);
    int n = snprintf(w->done + used, sizeof w->done - used, "/%s", name);
    if (n < 0 || (size_t)n >= sizeof w->done - used) {
        errno = ENAMETOOLONG;
        return false;
    }
    return true;
}

static void pop(struct walk *w)
{
    char *slash = strrchr(w->done, '/');
    if (slash)
        *slash = 0;
}

/* Replaces the link that was just come upon by where it leads. */
static bool follow(struct walk *w, int link)
{
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t n = readlinkat(link, "", target, sizeof target - 1);
    if (n < 0)
        return false;
    target[n] = 0;
    if (++w->links > MAX_LINKS) {
        errno = ELOOP;
        return false;
    }
    memcpy(rest, w->rest, sizeof rest);
    int length = snprintf(w->rest, sizeof w->rest, "%s/%s", target, rest);
    if (length < 0 || (size_t)length >= sizeof w->rest) {
        errno = ENAMETOOLONG;
        return false;
    }
    if (target[0] == '/')
        w->done[0] = 0;
    return true;
}

static int open_done(const struct walk *w, int flags)
{
    return open_in(w->root, w->done[0] ? w->done : "/", flags, RESOLVE_NO_SYMLINKS);
}

static bool make_here(struct walk *w, const char *name, enum path_kind kind, mode_t mode)
{
    int parent = open_done(w, O_PATH | O_DIRECTORY);
    if (parent < 0)
        return false;
    bool made;
    if (kind == PATH_DIRECTORY) {
        made = mkdirat(parent, name, mode) == 0 || errno == EEXIST;
    } else {
        int fd = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDONLY, mode);
        made = fd >= 0 || errno == EEXIST;
        if (fd >= 0)
            close(fd);
    }
    int saved = errno;
    close(parent);
    errno = saved;
    return made;
}

/* One component: enters it, follows it, or makes it. */
static bool step(struct walk *w, const char *name, enum path_kind kind, mode_t mode)
{
    if (strcmp(name, ".") == 0)
        return true;
    if (strcmp(name, "..") == 0) {
        pop(w);
        return true;
    }
    if (!push(w, name))
        return false;
    int fd = open_in(w->root, w->done, O_PATH | O_NOFOLLOW, 0);
    if (fd < 0) {
        if (errno != ENOENT)
            return false;
        pop(w);
        return make_here(w, name, kind, mode) && push(w, name);
    }
    struct stat st;
    bool ok = fstat(fd, &st) == 0;
    if (ok && S_ISLNK(st.st_mode)) {
        pop(w);
        ok = follow(w, fd);
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

static bool begin(struct walk *w, int root, const char *path)
{
    w->root = root;
    w->done[0] = 0;
    w->links = 0;
    if (strlen(path) >= sizeof w->rest) {
        errno = ENAMETOOLONG;
        return false;
    }
    strcpy(w->rest, path);
    return true;
}

int path_make(int root, const char *path, enum path_kind kind, mode_t mode)
{
    int fd = path_open(root, path, O_PATH);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    struct walk w;
    char name[NAME_MAX + 1];
    bool last;
    if (!begin(&w, root, path))
        return -1;
    while (next_component(&w, name, &last))
        if (!step(&w, name, last ? kind : PATH_DIRECTORY, last ? mode : 0755))
            return -1;
    return open_done(&w, O_PATH);
}

int path_make_parent(int root, const char *path, char *name, size_t size)
{
    char parent[PATH_MAX];
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (start >= sizeof parent || length - start >= size || length == start) {
        errno = EINVAL;
        return -1;
    }
    memcpy(name, path + start, length - start);
    name[length - start] = 0;
    memcpy(parent, path, start);
    parent[start] = 0;
    if (strcmp(name, "..") == 0 || strcmp(name, ".") == 0) {
        errno = EINVAL;
        return -1;
    }
    return path_make(root, parent, PATH_DIRECTORY, 0755);
}

struct fd_path fd_path(int fd)
{
    struct fd_path p;
    snprintf(p.text, sizeof p.text, "/proc/self/fd/%d", fd);
    return p;
}

bool path_make_host(const char *path, mode_t mode, struct error *err)
{
    char partial[PATH_MAX];
    if (mkdir(path, mode) == 0 || errno == EEXIST)
        return true;
    size_t length = strlen(path);
    if (length >= sizeof partial)
        return error_set(err, "%.60s...: path too long; choose a shorter one", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0)
            continue;
        memcpy(partial, path, i);
        partial[i] = 0;
        if (mkdir(partial, i == length ? mode : 0755) < 0 && errno != EEXIST)
            return error_errno(err, "%s: can't be made", partial);
    }
    return true;
}

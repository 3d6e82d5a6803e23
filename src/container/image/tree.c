#include "container/image/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* openat2 says EAGAIN when something was renamed while it looked: a few tries, then it is a fault.
 */
enum { RESOLVE_TRIES = 64 };

/* Folders nested deeper than this are moved up before they are removed: each level holds a
 * descriptor open. */
enum { REMOVE_DEPTH = 32 };

/* As the kernel: no more links in one name. */
enum { LINKS_MAX = 40 };

int tree_open(int root, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned)(flags | O_CLOEXEC),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;
    for (int i = 0; i < RESOLVE_TRIES; i++) {
        fd = syscall(SYS_openat2, root, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return (int)fd;
}

/* ------------------------------------------------------------------------------------------- *
 * Making folders
 * ------------------------------------------------------------------------------------------- */

static int make_folders(int root, const char *path, unsigned links);

/* Where a link that leads to nothing yet leads, made: path[:name_at] is its folder, path[:name_end]
 * the link itself. */
static int follow_dangling(int root, int at, const char *path, size_t name_at, size_t name_end,
                           unsigned links)
{
    char name[NAME_MAX + 1], target[PATH_MAX], joined[PATH_MAX];
    snprintf(name, sizeof name, "%.*s", (int)(name_end - name_at), path + name_at);
    ssize_t n = readlinkat(at, name, target, sizeof target - 1);
    if (n < 0)
        return -1;
    target[n] = 0;
    errno = ELOOP;
    if (links == 0)
        return -1;
    errno = ENAMETOOLONG;
    if (snprintf(joined, sizeof joined, "%.*s/%s", *target == '/' ? 0 : (int)name_at, path,
                 target) >= (int)sizeof joined)
        return -1;
    return make_folders(root, joined, links - 1);
}

/* Part by part, each resolved from the root by the kernel: links and `..` mean what they mean to a
 * process in there. */
static int make_folders(int root, const char *path, unsigned links)
{
    int at = tree_open(root, "/", O_PATH | O_DIRECTORY, 0);
    char sofar[PATH_MAX];
    size_t begin = 0, end = 0;
    while (at >= 0 && path[begin = end + strspn(path + end, "/")]) {
        end = begin + strcspn(path + begin, "/");
        memcpy(sofar, path, end);
        sofar[end] = 0;
        int next = -1;
        if (end - begin > NAME_MAX)
            errno = ENAMETOOLONG;
        else if (mkdirat(at, sofar + begin, 0755) == 0 || errno == EEXIST)
            next = tree_open(root, sofar, O_PATH | O_DIRECTORY, 0);
        if (next < 0 && errno == ENOENT)
            next = follow_dangling(root, at, path, begin, end, links);
        int saved = errno;
        close(at);
        errno = saved;
        at = next;
    }
    return at;
}

int tree_make_folders(int root, const char *path, struct error *err)
{
    int at = tree_open(root, path, O_PATH | O_DIRECTORY, 0);
    if (at < 0 && errno == ENOENT && strlen(path) < PATH_MAX)
        at = make_folders(root, path, LINKS_MAX);
    if (at < 0)
        error_errno(err, "%.200s: its folders can't be made", path);
    return at;
}

/* ------------------------------------------------------------------------------------------- *
 * Removing
 * ------------------------------------------------------------------------------------------- */

struct removal {
    int top;         /* where folders that are nested too deep are moved */
    unsigned lifted; /* how many were; part of their new names */
    struct error *err;
};

static bool remove_entry(struct removal *r, int folder, const char *name, unsigned depth);

static bool remove_content(struct removal *r, int fd, unsigned depth)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        close(fd);
        return error_errno(r->err, "a folder can't be listed");
    }
    bool ok = true;
    const struct dirent *e;
    while (ok && (e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            ok = remove_entry(r, dirfd(dir), e->d_name, depth + 1);
    closedir(dir);
    return ok;
}

static bool lift(struct removal *r, int folder, const char *name)
{
    char lifted[40];
    do
        snprintf(lifted, sizeof lifted, ".lifted-%u", r->lifted++);
    while (renameat2(folder, name, r->top, lifted, RENAME_NOREPLACE) != 0 && errno == EEXIST);
    return faccessat(r->top, lifted, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           error_errno(r->err, "%.100s: it can't be moved up to be removed", name);
}

static bool remove_entry(struct removal *r, int folder, const char *name, unsigned depth)
{
    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR && errno != EPERM)
        return error_errno(r->err, "%.100s: it can't be removed", name);
    if (unlinkat(folder, name, AT_REMOVEDIR) == 0)
        return true;
    if (depth > REMOVE_DEPTH)
        return lift(r, folder, name);
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(folder, name, 0700, 0) == 0)
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(r->err, "%.100s: it can't be removed", name);
    fchmod(fd, 0700); /* not root: what is inside may be removed only from a folder one may write */
    if (!remove_content(r, fd, depth))
        return false;
    if (unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
        return true;
    return error_errno(r->err, "%.100s: it can't be removed", name);
}

bool tree_remove_content(int folder, struct error *err)
{
    struct removal r = {.top = folder, .err = err};
    unsigned before;
    bool ok;
    do { /* until nothing more was lifted */
        before = r.lifted;
        int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ok = fd >= 0 ? remove_content(&r, fd, 0) : error_errno(err, "a folder can't be listed");
    } while (ok && r.lifted != before);
    return ok;
}

bool tree_remove(int folder, const char *name, struct error *err)
{
    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
        return true;
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == EACCES && fchmodat(folder, name, 0700, 0) == 0)
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_errno(err, "%.100s: it can't be removed", name);
    fchmod(fd, 0700);
    bool ok = tree_remove_content(fd, err);
    close(fd);
    if (!ok)
        return false;
    return unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT ||
           error_errno(err, "%.100s: it can't be removed", name);
}

/* ------------------------------------------------------------------------------------------- *
 * Listing
 * ------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool tree_list(int folder, const char *prefix, struct strings *names, struct error *err)
{
    int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        if (fd >= 0)
            close(fd);
        return error_errno(err, "a folder can't be listed");
    }
    bool ok = true;
    size_t n = strlen(prefix);
    const struct dirent *e;
    while (ok && (e = readdir(dir)))
        if (n ? strncmp(e->d_name, prefix, n) == 0 : e->d_name[0] != '.')
            ok = strings_add(names, e->d_name, err);
    closedir(dir);
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, by_name);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * Small files
 * ------------------------------------------------------------------------------------------- */

char *tree_read_all(int fd, size_t most, size_t *size, const char *what, struct error *err)
{
    size_t capacity = 4096, n = 0;
    char *data = malloc(capacity);
    while (data) {
        ssize_t got = read(fd, data + n, capacity - 1 - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error_errno(err, "%.200s", what);
            break;
        }
        if (got == 0) {
            data[n] = 0;
            *size = n;
            return data;
        }
        n += (size_t)got;
        if (n > most) {
            error_set(err, "%.200s: larger than %zu bytes; that is not what it should be", what,
                      most);
            break;
        }
        if (n + 1 < capacity)
            continue;
        char *more = realloc(data, capacity * 2);
        if (!more) {
            error_set(err, "%.200s: no memory left for it", what);
            break;
        }
        data = more;
        capacity *= 2;
    }
    if (!data)
        error_set(err, "%.200s: no memory left for it", what);
    free(data);
    return NULL;
}

char *tree_read(int root, const char *path, size_t most, size_t *size, const char *what,
                struct error *err)
{
    /* Non-blocking: a FIFO in this place must not hold us up. */
    int fd = tree_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    struct stat st;
    if (fd < 0) {
        error_errno(err, "%.200s", what);
        return NULL;
    }
    char *data = NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        error_set(err, "%.200s: not a regular file; nothing else is read", what);
    else
        data = tree_read_all(fd, most, size, what, err);
    close(fd);
    return data;
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

bool tree_write(int folder, const char *name, const void *data, size_t size, mode_t mode,
                struct error *err)
{
    char temporary[NAME_MAX + 1];
    if (snprintf(temporary, sizeof temporary, ".%s.%d", name, (int)getpid()) >=
        (int)sizeof temporary)
        return error_set(err, "%.60s: the name is too long; use a shorter one", name);
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return error_errno(err, "%.100s: it can't be written", name);
    bool ok = write_all(fd, data, size);
    if (!ok)
        error_errno(err, "%.100s: it can't be written", name);
    close(fd);
    if (ok && renameat(folder, temporary, folder, name) != 0)
        ok = error_errno(err, "%.100s: it can't be put in place", name);
    if (!ok)
        unlinkat(folder, temporary, 0);
    return ok;
}

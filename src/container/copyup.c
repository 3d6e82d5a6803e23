/* What a tmpfs covers, copied into it (the option tmpcopyup). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/mounts.h"

/* Deeper trees belong to no image. */
enum { MAX_DEPTH = 64 };

static bool copy_tree(int from, int to, unsigned depth);

static bool copy_file(int from, int to, const char *name, const struct stat *st)
{
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    int out = in < 0 ? -1
                     : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                              st->st_mode & 07777);
    ssize_t n = out < 0 ? -1 : 1;
    while (n > 0)
        n = sendfile(out, in, NULL, 1 << 20);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return n == 0;
}

static bool copy_directory(int from, int to, const char *name, const struct stat *st,
                           unsigned depth)
{
    if (mkdirat(to, name, st->st_mode & 07777) < 0)
        return false;
    int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int out = in < 0 ? -1 : openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    bool ok = out >= 0 && copy_tree(in, out, depth + 1);
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return ok;
}

static bool copy_link(int from, int to, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);
    if (n < 0)
        return false;
    target[n] = 0;
    return symlinkat(target, to, name) == 0;
}

static bool copy_entry(int from, int to, const char *name, unsigned depth)
{
    struct stat st;
    bool ok;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    if (S_ISDIR(st.st_mode))
        ok = copy_directory(from, to, name, &st, depth);
    else if (S_ISREG(st.st_mode))
        ok = copy_file(from, to, name, &st);
    else if (S_ISLNK(st.st_mode))
        ok = copy_link(from, to, name);
    else
        return true; /* sockets, pipes and devices of an image mean nothing here */
    if (!ok)
        return false;
    if (fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != EPERM &&
        errno != EINVAL)
        return false;
    return S_ISLNK(st.st_mode) || fchmodat(to, name, st.st_mode & 07777, 0) == 0;
}

static bool copy_tree(int from, int to, unsigned depth)
{
    int fd = depth > MAX_DEPTH ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 0);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder) {
        if (fd >= 0)
            close(fd);
        if (depth > MAX_DEPTH)
            errno = ELOOP;
        return false;
    }
    bool ok = true;
    struct dirent *entry;
    while (ok && (entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            ok = copy_entry(from, to, entry->d_name, depth);
    closedir(folder);
    return ok;
}

bool mount_copy_up(int from, int to)
{
    return copy_tree(from, to, 0);
}

#include "container/front/front.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/front/rootless.h"
#include "container/image/tree.h"

/* ------------------------------------------------------------------------------------------- *
 * The state folder
 * ------------------------------------------------------------------------------------------- */

static bool default_root(char *path, size_t size, bool rootless, struct error *err)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    int n;
    if (!rootless)
        n = snprintf(path, size, "/var/lib/doppel");
    else if (data && *data == '/')
        n = snprintf(path, size, "%s/doppel", data);
    else if (home && *home == '/')
        n = snprintf(path, size, "%s/.local/share/doppel", home);
    else
        return error_set(err, "state folder: neither HOME nor XDG_DATA_HOME is set; name one with "
                              "--root DIR");
    return (size_t)n < size || error_set(err, "state folder: its name is too long; use --root DIR");
}

/* The OCI runtime stands beside us, or where the build puts it, or in PATH. */
static void default_runtime(char *path, size_t size)
{
    static const char *const beside[] = {"doppel-oci", "../oci/doppel-oci"};
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash = n > 0 ? memrchr(self, '/', (size_t)n) : NULL;
    for (size_t i = 0; slash && i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(path, size, "%.*s/%s", (int)(slash - self), self, beside[i]);
        if (access(path, X_OK) == 0)
            return;
    }
    snprintf(path, size, "doppel-oci");
}

static bool make_root(const char *path, struct error *err)
{
    char part[PATH_MAX];
    for (const char *p = strchr(path + 1, '/');; p = strchr(p + 1, '/')) {
        size_t n = p ? (size_t)(p - path) : strlen(path);
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdir(part, p ? 0755 : 0700) != 0 && errno != EEXIST)
            return error_errno(err, "%.200s: the state folder can't be made", part);
        if (!p)
            return true;
    }
}

bool front_open(struct front *f, const char *root, const char *runtime, struct error *err)
{
    *f = (struct front){.fd = -1, .containers = -1, .rootless = rootless_is()};
    char path[PATH_MAX];
    if (!root && !default_root(path, sizeof path, f->rootless, err))
        return false;
    if (root && root[0] != '/') {
        char cwd[PATH_MAX];
        if (!getcwd(cwd, sizeof cwd) ||
            snprintf(path, sizeof path, "%s/%s", cwd, root) >= (int)sizeof path)
            return error_set(err, "--root %.100s: its name is too long; use a shorter one", root);
    } else if (root && snprintf(path, sizeof path, "%s", root) >= (int)sizeof path) {
        return error_set(err, "--root %.100s: its name is too long; use a shorter one", root);
    }
    if (!make_root(path, err))
        return false;
    char real[PATH_MAX];
    if (!realpath(path, real))
        return error_errno(err, "%.200s: the state folder", path);
    if (snprintf(f->root, sizeof f->root, "%s", real) >= (int)sizeof f->root)
        return error_set(err, "%.60s...: the state folder's name is too long; use --root DIR",
                         real);
    f->fd = open(f->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->fd < 0 || (mkdirat(f->fd, "containers", 0700) != 0 && errno != EEXIST))
        return error_errno(err, "%.200s: the state folder can't be used", f->root);
    f->containers = openat(f->fd, "containers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->containers < 0)
        return error_errno(err, "%.200s: the state folder can't be used", f->root);
    if (runtime)
        snprintf(f->runtime, sizeof f->runtime, "%s", runtime);
    else
        default_runtime(f->runtime, sizeof f->runtime);
    return true;
}

void front_close(struct front *f)
{
    if (f->containers >= 0)
        close(f->containers);
    if (f->fd >= 0)
        close(f->fd);
    f->fd = f->containers = -1;
}

bool front_names(const struct front *f, struct strings *names, struct error *err)
{
    return tree_list(f->containers, "", names, err);
}

int front_signal(const char *name)
{
    if (isdigit((unsigned char)*name)) {
        char *end;
        long n = strtol(name, &end, 10);
        return *end || n < 1 || n >= NSIG ? 0 : (int)n;
    }
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    if (strncmp(name, "RTMIN", 5) == 0) {
        long n = name[5] == '+' ? strtol(name + 6, NULL, 10) : 0;
        return n >= 0 && SIGRTMIN + n <= SIGRTMAX ? SIGRTMIN + (int)n : 0;
    }
    for (int i = 1; i < NSIG; i++) {
        const char *abbreviation = sigabbrev_np(i);
        if (abbreviation && strcmp(abbreviation, name) == 0)
            return i;
    }
    return 0;
}

#include "container/idmap.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/wait.h>
#include <unistd.h>

#include "container/process.h"

/* The kernel takes at most 340 lines. */
enum { MAX_MAPS = 340, LINE = 36 };

static bool write_file(pid_t pid, const char *name, const char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, size) == (ssize_t)size;
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

static bool write_maps(pid_t pid, const char *name, const struct id_map *maps, size_t count)
{
    char text[MAX_MAPS * LINE];
    size_t used = 0;
    if (count > MAX_MAPS) {
        errno = E2BIG;
        return false;
    }
    for (size_t i = 0; i < count; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%u %u %u\n", maps[i].inside,
                                 maps[i].outside, maps[i].length);
    return write_file(pid, name, text, used);
}

/* newuidmap PID INSIDE OUTSIDE LENGTH ...: set-uid root, it gives out what /etc/subuid grants. */
static bool run_helper(const char *helper, pid_t pid, const struct id_map *maps, size_t count,
                       struct error *err)
{
    char **args = calloc(3 + 3 * count, sizeof *args), *texts = calloc(1 + 3 * count, 12);
    bool ok = args && texts && count <= MAX_MAPS;
    if (!ok)
        error_set(err, "%s: too many mappings; use fewer", helper);
    size_t n = 0;
    if (ok) {
        args[n++] = (char *)(uintptr_t)helper;
        args[n] = texts;
        snprintf(args[n++], 12, "%d", (int)pid);
        for (size_t i = 0; i < count; i++) {
            const uint32_t values[3] = {maps[i].inside, maps[i].outside, maps[i].length};
            for (int k = 0; k < 3; k++, n++) {
                args[n] = texts + 12 * (n - 1);
                snprintf(args[n], 12, "%u", values[k]);
            }
        }
        int status = process_run(args, err);
        ok = status == 0;
        if (!ok && err->status == EXIT_STATUS_OK)
            error_set(err,
                      "linux.uidMappings: %s refused them; the administrator grants ids in "
                      "/etc/subuid and /etc/subgid",
                      helper);
    }
    free(texts);
    free(args);
    return ok;
}

/* Linux 5.12 and later: files with capabilities of the parent's root would become the child's. */
static bool may_map_root(const struct id_maps *maps)
{
    cap_flag_value_t has = CAP_SET;
    cap_t caps = cap_get_proc();
    if (caps && cap_get_flag(caps, CAP_SETFCAP, CAP_EFFECTIVE, &has) < 0)
        has = CAP_SET;
    cap_free(caps);
    for (size_t i = 0; i < maps->uid_count; i++)
        if (maps->uids[i].outside == 0)
            return has == CAP_SET;
    return true;
}

bool idmap_write(const struct id_maps *maps, pid_t pid, struct error *err)
{
    bool groups_denied = false;
    if (write_maps(pid, "uid_map", maps->uids, maps->uid_count)) {
        if (write_maps(pid, "gid_map", maps->gids, maps->gid_count))
            return true;
        /* Without CAP_SETGID one may map oneself, once setgroups() is given up. */
        groups_denied = write_file(pid, "setgroups", "deny", 4);
        if (groups_denied && write_maps(pid, "gid_map", maps->gids, maps->gid_count))
            return true;
    } else if (errno != EPERM) {
        return error_errno(err, "config.json: linux.uidMappings: refused by the kernel");
    } else if (geteuid() == 0 && !may_map_root(maps)) {
        return error_set(err, "config.json: linux.uidMappings: to map root CAP_SETFCAP is missing; "
                              "who started this process can grant it");
    } else if (!run_helper("newuidmap", pid, maps->uids, maps->uid_count, err)) {
        return false;
    }
    if (errno != EPERM && errno != ENOENT)
        return error_errno(err, "config.json: linux.gidMappings: refused by the kernel");
    return run_helper("newgidmap", pid, maps->gids, maps->gid_count, err);
}

/* The first process of the namespace does nothing but wait for its end. */
int idmap_namespace(const struct id_maps *maps, struct error *err)
{
    char path[64];
    pid_t pid = process_clone(CLONE_NEWUSER, -1, NULL);
    if (pid == 0)
        for (;;)
            pause();
    if (pid < 0) {
        error_errno(err, "user namespace: can't be made");
        return -1;
    }
    int fd = -1;
    if (idmap_write(maps, pid, err)) {
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            error_errno(err, "%s: can't be opened", path);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return fd;
}

bool idmap_has(const struct id_map *maps, size_t count, uint32_t inside)
{
    for (size_t i = 0; i < count; i++)
        if (inside >= maps[i].inside && inside - maps[i].inside < maps[i].length)
            return true;
    return false;
}

bool idmap_is_initial(void)
{
    unsigned inside = 1, outside = 1, length = 0;
    FILE *file = geteuid() == 0 ? fopen("/proc/self/uid_map", "re") : NULL;
    bool whole = file && fscanf(file, "%u %u %u", &inside, &outside, &length) == 3 && inside == 0 &&
                 outside == 0 && length == UINT32_MAX;
    if (file)
        fclose(file);
    return whole;
}

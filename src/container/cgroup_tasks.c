/* The processes in a container's control groups: listed, signalled, frozen. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/cgroup_tree.h"

struct pid_list {
    pid_t *pids;
    size_t count, room;
};

static bool add_pid(struct pid_list *list, pid_t pid)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        pid_t *more = realloc(list->pids, room * sizeof *more);
        if (!more)
            return false;
        list->pids = more;
        list->room = room;
    }
    list->pids[list->count++] = pid;
    return true;
}

static bool list_folder(struct pid_list *list, int folder)
{
    int fd = openat(folder, "cgroup.procs", O_RDONLY | O_CLOEXEC), pid;
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    bool ok = true;
    while (file && ok && fscanf(file, "%d", &pid) == 1)
        ok = pid <= 0 || add_pid(list, pid);
    if (file)
        fclose(file);
    else if (fd >= 0)
        close(fd);
    return ok;
}

static bool list_tree(struct pid_list *list, const char *folder)
{
    struct cgroup_tree tree;
    bool ok = true;
    if (!cgroup_tree_read(&tree, folder))
        return errno != ENOMEM;
    for (size_t i = 0; i < tree.count && ok; i++) {
        int fd = cgroup_tree_open(&tree, i);
        if (fd < 0)
            continue; /* it has gone meanwhile */
        ok = list_folder(list, fd);
        close(fd);
    }
    cgroup_tree_free(&tree);
    return ok;
}

/* Any hierarchy will do that only a container of ours is in; version 2's lets the container's own
 * nested groups be seen, too. */
static const struct cgroup_hierarchy *best(const struct cgroups *g)
{
    const struct cgroup_hierarchy *h = cgroups_unified(g);
    for (size_t i = 0; i < g->count && !h; i++)
        if (g->list[i].folder)
            h = &g->list[i];
    return h;
}

bool cgroups_pids(const struct cgroups *g, pid_t **pids, size_t *count, struct error *err)
{
    struct pid_list list = {0};
    const struct cgroup_hierarchy *h = best(g);
    if (h && !list_tree(&list, h->folder)) {
        free(list.pids);
        return error_set(err, "cgroups: no memory; free some");
    }
    *pids = list.pids;
    *count = list.count;
    return true;
}

bool cgroups_kill(const struct cgroups *g, int signal, struct error *err)
{
    if (signal == SIGKILL && cgroup_write(cgroups_unified(g), "cgroup.kill", "1"))
        return true;
    /* Those that fork while we look are found on the next round. */
    for (int round = 0; round < (signal == SIGKILL ? 100 : 1); round++) {
        pid_t *pids = NULL;
        size_t count = 0;
        if (!cgroups_pids(g, &pids, &count, err))
            return false;
        for (size_t i = 0; i < count; i++)
            kill(pids[i], signal);
        free(pids);
        if (count == 0)
            break;
        if (signal == SIGKILL)
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    return true;
}

static bool wait_for(const struct cgroup_hierarchy *h, const char *file, const char *text)
{
    char now[256];
    for (int tries = 0; tries < 1000; tries++) {
        if (cgroup_read(h, file, now, sizeof now) && strstr(now, text))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = tries < 50 ? 200000 : 5000000}, NULL);
    }
    errno = ETIMEDOUT;
    return false;
}

bool cgroups_freeze(const struct cgroups *g, bool freeze, struct error *err)
{
    const struct cgroup_hierarchy *v2 = cgroups_unified(g);
    const struct cgroup_hierarchy *v1 = cgroups_controller(g, "freezer");
    char text[64];
    if (v1 && !v1->unified) {
        const char *word = freeze ? "FROZEN" : "THAWED";
        if (cgroup_write(v1, "freezer.state", word) && wait_for(v1, "freezer.state", word))
            return true;
    } else if (cgroup_read(v2, "cgroup.freeze", text, sizeof text)) {
        if (cgroup_write(v2, "cgroup.freeze", freeze ? "1" : "0") &&
            wait_for(v2, "cgroup.events", freeze ? "frozen 1" : "frozen 0"))
            return true;
    } else {
        return error_set(err, "freezer: this container has no cgroup to freeze it by; run it where "
                              "cgroups can be written");
    }
    return error_errno(err, freeze ? "pause: it does not freeze" : "resume: it does not thaw");
}

bool cgroups_frozen(const struct cgroups *g)
{
    const struct cgroup_hierarchy *v1 = cgroups_controller(g, "freezer");
    char text[64];
    if (v1 && !v1->unified)
        return cgroup_read(v1, "freezer.state", text, sizeof text) &&
               strncmp(text, "THAWED", 6) != 0;
    return cgroup_read(cgroups_unified(g), "cgroup.freeze", text, sizeof text) && text[0] == '1';
}

#include "container/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Version 2: memory.events counts, and changes of it are told as those of a file. */
static unsigned long long count(const struct oom_watch *w)
{
    char text[512];
    int fd = open(w->file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = 0;
    const char *at = strstr(text, "oom_kill ");
    return at ? strtoull(at + strlen("oom_kill "), NULL, 10) : w->seen;
}

static bool watch_file(struct oom_watch *w)
{
    w->v2 = true;
    w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->fd < 0 || inotify_add_watch(w->fd, w->file, IN_MODIFY) < 0)
        return false;
    w->seen = count(w);
    return true;
}

/* Version 1: an eventfd that is entered for memory.oom_control. It also counts the group's end. */
static bool enter_event(struct oom_watch *w, const struct cgroup_hierarchy *h)
{
    char line[48];
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int control = open(w->file, O_RDONLY | O_CLOEXEC);
    snprintf(line, sizeof line, "%d %d", w->fd, control);
    bool ok = w->fd >= 0 && control >= 0 && cgroup_write(h, "cgroup.event_control", line);
    int saved = errno;
    if (control >= 0)
        close(control);
    errno = saved;
    return ok;
}

bool oom_open(struct oom_watch *w, const struct cgroups *g, struct error *err)
{
    const struct cgroup_hierarchy *h = cgroups_controller(g, "memory");
    *w = (struct oom_watch){.fd = -1};
    if (!h || !h->folder)
        return true;
    snprintf(w->file, sizeof w->file, "%s/%s", h->folder,
             h->unified ? "memory.events" : "memory.oom_control");
    if (access(w->file, F_OK) < 0 && errno == ENOENT)
        return true; /* no memory controller in this group */
    if (h->unified ? watch_file(w) : enter_event(w, h))
        return true;
    error_errno(err, "%s: can't be watched", w->file);
    oom_close(w);
    return false;
}

unsigned long long oom_take(struct oom_watch *w)
{
    char drop[4096];
    uint64_t times = 0;
    if (!w->v2)
        return read(w->fd, &times, sizeof times) == sizeof times && access(w->file, F_OK) == 0
                   ? times
                   : 0;
    while (read(w->fd, drop, sizeof drop) > 0)
        ;
    unsigned long long before = w->seen;
    w->seen = count(w);
    return w->seen - before;
}

void oom_close(struct oom_watch *w)
{
    if (w->fd >= 0)
        close(w->fd);
    w->fd = -1;
}

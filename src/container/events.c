/* What happens to a container while it runs: statistics now and then, and that its memory ran out.
 */
#include <errno.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#include "container/container.h"
#include "container/oom.h"
#include "container/process.h"
#include "container/state.h"

struct watch {
    const struct container_watcher *watcher;
    struct state state;
    struct oom_watch oom;
    int pidfd;
    int64_t next; /* when statistics are due: ns, monotonic */
};

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool begin(struct watch *w, const char *id, const struct container_options *o,
                  struct error *err)
{
    struct state *s = &w->state;
    w->oom.fd = w->pidfd = -1;
    if (!state_load(s, o->root, id, err))
        return false;
    w->pidfd = s->pid > 0 ? pidfd_open(s->pid, 0) : -1;
    if (w->pidfd < 0 || process_start_time(s->pid) != s->start_time)
        return error_set(err, "container %s: is stopped; only a running one has statistics", id);
    w->next = now();
    return oom_open(&w->oom, &s->cgroups, err);
}

static bool tell_statistics(struct watch *w, struct error *err)
{
    json_t *stats = cgroups_stats(&w->state.cgroups);
    bool ok = w->watcher->tell(w->watcher->user, "stats", stats, err);
    json_decref(stats);
    /* Times that were missed are not made up for. */
    w->next += w->watcher->interval;
    if (w->next < now())
        w->next = now() + w->watcher->interval;
    return ok;
}

static bool tell_oom(struct watch *w, struct error *err)
{
    bool ok = true;
    for (unsigned long long n = oom_take(&w->oom); n > 0 && ok; n--)
        ok = w->watcher->tell(w->watcher->user, "oom", NULL, err);
    return ok;
}

/* Until the container's end, which is told by its first process's. */
static bool attend(struct watch *w, struct error *err)
{
    struct pollfd fds[] = {{w->pidfd, POLLIN, 0}, {w->oom.fd, POLLIN, 0}};
    for (;;) {
        int64_t left = w->next - now();
        struct timespec wait = {left / 1000000000, left % 1000000000};
        if (left <= 0 && !tell_statistics(w, err))
            return false;
        if (left <= 0)
            continue;
        if (ppoll(fds, 2, &wait, NULL) < 0 && errno != EINTR)
            return error_errno(err, "events: can't be waited for");
        if ((fds[1].revents & POLLIN) && !tell_oom(w, err))
            return false;
        if (fds[0].revents)
            return true;
    }
}

bool container_watch(const char *id, const struct container_options *o,
                     const struct container_watcher *watcher, struct error *err)
{
    struct watch w = {.watcher = watcher};
    bool ok = begin(&w, id, o, err) && attend(&w, err);
    oom_close(&w.oom);
    if (w.pidfd >= 0)
        close(w.pidfd);
    state_free(&w.state);
    return ok;
}

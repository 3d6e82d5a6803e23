/*
 * Ending containers and removing what is left of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "container/front/record.h"
#include "container/front/rootless.h"
#include "container/front/runtime.h"
#include "container/image/tree.h"

/* How long a monitor may take to write down how a killed container ended. */
enum { MONITOR_MS = 30000 };

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Whether the process of the descriptor (-1: gone already) ends within that time. */
static bool wait_for_end(int process, uint64_t ms)
{
    uint64_t end = now_ms() + ms, now;
    struct pollfd p = {process, POLLIN, 0};
    if (process < 0)
        return true;
    while ((now = now_ms()) <= end) {
        int n = poll(&p, 1, (int)(end - now));
        if (n > 0)
            return true;
        if (n < 0 && errno != EINTR)
            return false;
    }
    return false;
}

static bool send(const struct front_record *r, int process, int signal, struct error *err)
{
    if (process < 0 || syscall(SYS_pidfd_send_signal, process, signal, NULL, 0) == 0 ||
        errno == ESRCH)
        return true;
    return error_errno(err, "%s: it can't be sent %s", r->name, sigabbrev_np(signal));
}

static bool stop_processes(const struct front_record *r, int signal, unsigned seconds,
                           struct error *err)
{
    int init = record_process_open(&r->init), monitor = record_process_open(&r->monitor);
    bool ok = send(r, init, signal, err);
    if (ok && !wait_for_end(init, (uint64_t)seconds * 1000))
        ok = send(r, init, SIGKILL, err) &&
             (wait_for_end(init, MONITOR_MS) ||
              error_set(err, "%s: SIGKILL did not end it; see its processes' state in /proc",
                        r->name));
    if (ok && !wait_for_end(monitor, MONITOR_MS))
        ok = error_set(err, "%s: its monitor (process %d) does not end; end it and try again",
                       r->name, (int)r->monitor.pid);
    if (init >= 0)
        close(init);
    if (monitor >= 0)
        close(monitor);
    return ok;
}

struct stop {
    int signal; /* 0: the container's own */
    unsigned seconds;
    bool force;
};

static bool stop(const struct front *f, const char *name, const void *how, struct error *err)
{
    const struct stop *s = how;
    struct front_record r;
    if (!record_load(f, name, &r, err))
        return false;
    bool ok = r.state == RECORD_EXITED ||
              stop_processes(&r, s->signal ? s->signal : r.stop_signal, s->seconds, err);
    record_free(&r);
    return ok;
}

bool front_stop(const struct front *f, const char *name, int signal, unsigned seconds,
                struct error *err)
{
    struct stop s = {.signal = signal, .seconds = seconds};
    return rootless_do(f, name, stop, &s, err);
}

static bool send_one(const struct front *f, const char *name, const void *how, struct error *err)
{
    const struct stop *s = how;
    struct front_record r;
    if (!record_load(f, name, &r, err))
        return false;
    int init = record_process_open(&r.init);
    bool ok = init >= 0 ? send(&r, init, s->signal, err)
                        : error_set(err, "%s: it does not run; see `doppel container ps`", name);
    if (init >= 0)
        close(init);
    record_free(&r);
    return ok;
}

bool front_kill(const struct front *f, const char *name, int signal, struct error *err)
{
    struct stop s = {.signal = signal};
    return rootless_do(f, name, send_one, &s, err);
}

/* Its monitor was killed, or the machine went down: what the runtime still keeps of it. */
static void remove_runtime_state(const struct front *f, const char *name, int folder)
{
    struct error quiet = {0};
    struct runtime_call call = {f, folder, {"delete", "--force", name}, {-1, -1, -1}};
    if (faccessat(folder, "config.json", F_OK, 0) == 0)
        runtime_run(&call, &quiet);
}

static bool remove_one(const struct front *f, const char *name, const void *how, struct error *err)
{
    bool force = ((const struct stop *)how)->force;
    struct front_record r;
    struct error quiet = {0};
    int folder = record_folder(f, name, err);
    if (folder < 0)
        return false;
    bool known = record_load(f, name, &r, &quiet), ok = true;
    if (known && r.state != RECORD_EXITED)
        ok = force ? stop_processes(&r, SIGKILL, 0, err)
                   : error_set(err, "%s: it runs; stop it first, or use --force", name);
    else if (!known && !force)
        ok = error_set(err, "%s", quiet.text);
    /* Also where stopping it was not heard by its monitor. */
    if (ok && (!known || r.lost || r.state != RECORD_EXITED))
        remove_runtime_state(f, name, folder);
    if (known)
        record_free(&r);
    close(folder);
    return ok && tree_remove(f->containers, name, err);
}

bool front_remove(const struct front *f, const char *name, bool force, struct error *err)
{
    struct stop s = {.force = force};
    return rootless_do(f, name, remove_one, &s, err);
}

#include "cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/bits.h"

static const int taken[] = {SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGCONT};

static void taken_set(sigset_t *set)
{
    sigemptyset(set);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        struct sigaction action;
        if (sigaction(taken[i], NULL, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(set, taken[i]);
    }
}

bool signals_take(struct signals *s, struct error *err)
{
    sigset_t set;
    taken_set(&set);
    s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->fd < 0)
        return error_set(err, "signals: no descriptor, %s; raise the limit on open files",
                         strerror(errno));
    sigprocmask(SIG_BLOCK, &set, NULL);
    return true;
}

static void ready(void *ctx, unsigned events)
{
    struct signals *s = ctx;
    struct signalfd_siginfo info;
    (void)events;
    while (read(s->fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGTSTP)
            s->suspend(s->ctx);
        else if (info.ssi_signo == SIGCONT)
            s->continued(s->ctx);
        else
            s->end(s->ctx);
    }
}

bool signals_watch(struct signals *s, struct loop *loop, struct error *err)
{
    return loop_watch(loop, s->fd, LOOP_READ, ready, s, err) != NULL;
}

void signals_release(struct signals *s)
{
    sigset_t set;
    struct signalfd_siginfo info;
    if (s->fd < 0)
        return;
    /* What came too late to end the run must not end us in the middle of the farewell. */
    while (read(s->fd, &info, sizeof info) == sizeof info)
        ;
    close(s->fd);
    s->fd = -1;
    taken_set(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

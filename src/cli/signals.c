#include "cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/thread.h"

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

/* Ends the thread's wait. */
static int over_signal(void)
{
    return SIGRTMIN + 4;
}

static void *wait_for_signals(void *signals)
{
    struct signals *s = signals;
    sigset_t set = s->set;
    sigaddset(&set, over_signal());
    while (!atomic_load(&s->over)) {
        int number = sigwaitinfo(&set, NULL);
        uint8_t byte = (uint8_t)number;
        /* A full pipe has more than anyone reads. */
        if (number > 0 && number != over_signal() && write(s->into, &byte, 1) < 0 &&
            errno != EAGAIN)
            break;
    }
    return NULL;
}

static bool no_descriptor(struct error *err)
{
    return error_set(err, "signals: no descriptor, %s; raise the limit on open files",
                     strerror(errno));
}

bool signals_take(struct signals *s, struct error *err)
{
    int ends[2];
    sigset_t also;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return no_descriptor(err);
    s->fd = ends[0];
    s->into = ends[1];
    atomic_store(&s->over, false);
    taken_set(&s->set);
    also = s->set;
    sigaddset(&also, over_signal());
    sigprocmask(SIG_BLOCK, &also, NULL);
    if (thread_start(&s->thread, "signals", wait_for_signals, s, err))
        return true;
    sigprocmask(SIG_UNBLOCK, &also, NULL);
    close(s->fd);
    close(s->into);
    s->fd = -1;
    return false;
}

static void ready(void *ctx, unsigned events)
{
    struct signals *s = ctx;
    uint8_t number;
    (void)events;
    while (read(s->fd, &number, 1) == 1) {
        if (number == SIGTSTP)
            s->suspend(s->ctx);
        else if (number == SIGCONT)
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
    static const struct timespec at_once;
    if (s->fd < 0)
        return;
    atomic_store(&s->over, true);
    pthread_kill(s->thread, over_signal());
    pthread_join(s->thread, NULL);
    /* What came too late to end the run must not end us in the middle of the farewell. */
    while (sigtimedwait(&s->set, NULL, &at_once) > 0)
        ;
    close(s->fd);
    close(s->into);
    s->fd = -1;
    sigprocmask(SIG_UNBLOCK, &s->set, NULL);
}

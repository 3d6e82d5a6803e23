#include "base/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct loop_watch {
    struct loop *loop;
    struct loop_watch *next;
    int fd;
    unsigned wanted;
    bool always; /* epoll takes no regular files: they are always ready */
    bool dead;   /* freed at the end of the round: its events may still be in the batch */
    void (*ready)(void *ctx, unsigned events);
    void *ctx;
};

struct loop_task {
    struct loop *loop;
    struct loop_task *next;
    atomic_bool asked;
    bool dead;
    void (*run)(void *ctx);
    void *ctx;
};

struct loop {
    int epoll, wake;
    struct loop_watch *watches;
    struct loop_task *tasks;
    bool some_dead;
};

uint64_t loop_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

struct loop *loop_create(struct error *err)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l) {
        error_errno(err, "event loop");
        return NULL;
    }
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event e = {.events = EPOLLIN}; /* no pointer: the wake-up itself */
    if (l->epoll < 0 || l->wake < 0 || epoll_ctl(l->epoll, EPOLL_CTL_ADD, l->wake, &e) != 0) {
        error_errno(err, "event loop");
        loop_destroy(l);
        return NULL;
    }
    return l;
}

/* Frees the watches and tasks that are dead, or all of them. */
static void sweep(struct loop *l, bool all)
{
    for (struct loop_watch **at = &l->watches, *w; (w = *at);) {
        if (w->dead || all) {
            *at = w->next;
            free(w);
        } else {
            at = &w->next;
        }
    }
    for (struct loop_task **at = &l->tasks, *t; (t = *at);) {
        if (t->dead || all) {
            *at = t->next;
            free(t);
        } else {
            at = &t->next;
        }
    }
    l->some_dead = false;
}

void loop_destroy(struct loop *l)
{
    if (!l)
        return;
    sweep(l, true);
    if (l->epoll >= 0)
        close(l->epoll);
    if (l->wake >= 0)
        close(l->wake);
    free(l);
}

/* ---- watches ---- */

static uint32_t epoll_events(unsigned wanted)
{
    return (wanted & LOOP_READ ? EPOLLIN : 0u) | (wanted & LOOP_WRITE ? EPOLLOUT : 0u);
}

/* A watch that wants nothing is taken out of the set: a hang-up would be told all the same, round
 * after round. */
static bool epoll_set(struct loop_watch *w, unsigned wanted)
{
    struct epoll_event e = {.events = epoll_events(wanted), .data.ptr = w};
    int op = !w->wanted ? EPOLL_CTL_ADD : !wanted ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    return epoll_ctl(w->loop->epoll, op, w->fd, &e) == 0;
}

struct loop_watch *loop_watch(struct loop *l, int fd, unsigned wanted,
                              void (*ready)(void *ctx, unsigned events), void *ctx,
                              struct error *err)
{
    struct loop_watch *w = calloc(1, sizeof *w);
    if (!w) {
        error_errno(err, "event loop");
        return NULL;
    }
    *w = (struct loop_watch){.loop = l, .fd = fd, .ready = ready, .ctx = ctx};
    /* Whether epoll takes it shows only when it is added. */
    struct epoll_event e = {.events = epoll_events(wanted), .data.ptr = w};
    if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &e) == 0) {
        if (!wanted)
            epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, &e);
    } else if (errno == EPERM) {
        w->always = true;
    } else {
        error_errno(err, "event loop: descriptor %d", fd);
        free(w);
        return NULL;
    }
    w->wanted = wanted;
    w->next = l->watches;
    l->watches = w;
    return w;
}

void loop_want(struct loop_watch *w, unsigned wanted)
{
    if (w->wanted == wanted || w->dead)
        return;
    if (!w->always)
        epoll_set(w, wanted);
    w->wanted = wanted;
}

void loop_unwatch(struct loop_watch *w)
{
    if (!w)
        return;
    loop_want(w, 0);
    w->dead = true;
    w->loop->some_dead = true;
}

static void watch_ready(struct loop_watch *w, unsigned events)
{
    events &= w->wanted;
    if (events && !w->dead)
        w->ready(w->ctx, events);
}

/* ---- tasks ---- */

struct loop_task *loop_task(struct loop *l, void (*run)(void *ctx), void *ctx, struct error *err)
{
    struct loop_task *t = calloc(1, sizeof *t);
    if (!t) {
        error_errno(err, "event loop");
        return NULL;
    }
    *t = (struct loop_task){.loop = l, .run = run, .ctx = ctx, .next = l->tasks};
    l->tasks = t;
    return t;
}

void loop_ask(struct loop_task *t)
{
    if (!atomic_exchange(&t->asked, true))
        loop_wake(t->loop);
}

void loop_task_free(struct loop_task *t)
{
    if (!t)
        return;
    t->dead = true;
    t->loop->some_dead = true;
}

void loop_wake(struct loop *l)
{
    int saved = errno;
    uint64_t one = 1;
    /* EAGAIN means the counter is full: the loop will wake as it is. */
    ssize_t n = write(l->wake, &one, sizeof one);
    (void)n;
    errno = saved;
}

/* ---- a round ---- */

static bool some_always(const struct loop *l)
{
    for (const struct loop_watch *w = l->watches; w; w = w->next)
        if (w->always && w->wanted && !w->dead)
            return true;
    return false;
}

/* Waits until something is ready or the deadline has come. The epoll descriptor is itself polled:
 * that takes nanoseconds, on any kernel. */
static void wait_ready(struct loop *l, uint64_t deadline_ns)
{
    struct pollfd p = {.fd = l->epoll, .events = POLLIN};
    struct timespec t = {0}, *timeout = &t;
    if (some_always(l)) {
        /* no waiting */
    } else if (deadline_ns == LOOP_NEVER) {
        timeout = NULL;
    } else {
        uint64_t now = loop_now();
        uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
        t.tv_sec = (time_t)(left / 1000000000);
        t.tv_nsec = (long)(left % 1000000000);
    }
    ppoll(&p, 1, timeout, NULL); /* EINTR: a round that found nothing */
}

static void serve_watches(struct loop *l)
{
    struct epoll_event events[16];
    int n = epoll_wait(l->epoll, events, 16, 0);
    for (int i = 0; i < n; i++) {
        struct loop_watch *w = events[i].data.ptr;
        uint32_t e = events[i].events;
        if (!w) {
            uint64_t count;
            ssize_t got = read(l->wake, &count, sizeof count);
            (void)got;
            continue;
        }
        unsigned both = e & (EPOLLERR | EPOLLHUP) ? LOOP_READ | LOOP_WRITE : 0u;
        watch_ready(w, both | (e & EPOLLIN ? LOOP_READ : 0u) | (e & EPOLLOUT ? LOOP_WRITE : 0u));
    }
    for (struct loop_watch *w = l->watches; w; w = w->next)
        if (w->always)
            watch_ready(w, LOOP_READ | LOOP_WRITE);
}

void loop_round(struct loop *l, uint64_t deadline_ns)
{
    wait_ready(l, deadline_ns);
    serve_watches(l);
    for (struct loop_task *t = l->tasks; t; t = t->next)
        if (atomic_exchange(&t->asked, false) && !t->dead)
            t->run(t->ctx);
    if (l->some_dead)
        sweep(l, false);
}

/* The event loop: descriptors, deadlines, tasks asked for by other threads. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/thread.h"
#include "test.h"

struct seen {
    unsigned calls, events;
    struct loop_watch *watch;
    bool unwatch;
};

static void note(void *ctx, unsigned events)
{
    struct seen *s = ctx;
    s->calls++;
    s->events |= events;
    if (s->unwatch)
        loop_unwatch(s->watch);
}

TEST(a_readable_descriptor_is_told_while_it_is_wanted)
{
    struct loop *l = loop_create(NULL);
    int p[2];
    CHECK(pipe(p) == 0);
    struct seen s = {0};
    s.watch = loop_watch(l, p[0], LOOP_READ, note, &s, NULL);
    loop_round(l, 0);
    CHECK_EQ(s.calls, 0);
    CHECK(write(p[1], "x", 1) == 1);
    loop_round(l, LOOP_NEVER);
    loop_round(l, LOOP_NEVER);
    CHECK_EQ(s.calls, 2); /* level triggered */
    CHECK_EQ(s.events, LOOP_READ);
    loop_want(s.watch, 0);
    loop_round(l, 0);
    CHECK_EQ(s.calls, 2);
    loop_want(s.watch, LOOP_READ);
    loop_round(l, LOOP_NEVER);
    CHECK_EQ(s.calls, 3);
    loop_destroy(l);
    close(p[0]);
    close(p[1]);
}

TEST(a_hang_up_of_a_watch_that_wants_nothing_does_not_spin)
{
    struct loop *l = loop_create(NULL);
    int p[2];
    CHECK(pipe(p) == 0);
    struct seen s = {0};
    s.watch = loop_watch(l, p[0], LOOP_READ, note, &s, NULL);
    close(p[1]);
    loop_round(l, LOOP_NEVER);
    CHECK_EQ(s.calls, 1);
    loop_want(s.watch, 0);
    loop_round(l, loop_now() + 1000000); /* would never be reached by a loop that is woken */
    CHECK_EQ(s.calls, 1);
    loop_destroy(l);
    close(p[0]);
}

TEST(a_watch_may_remove_itself)
{
    struct loop *l = loop_create(NULL);
    int p[2];
    CHECK(pipe(p) == 0);
    CHECK(write(p[1], "x", 1) == 1);
    struct seen s = {.unwatch = true};
    s.watch = loop_watch(l, p[0], LOOP_READ, note, &s, NULL);
    loop_round(l, LOOP_NEVER);
    loop_round(l, 0);
    CHECK_EQ(s.calls, 1);
    loop_destroy(l);
    close(p[0]);
    close(p[1]);
}

TEST(a_regular_file_is_always_ready)
{
    struct loop *l = loop_create(NULL);
    char name[] = "/tmp/doppel-loop-XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    unlink(name);
    struct seen s = {0};
    s.watch = loop_watch(l, fd, LOOP_READ, note, &s, NULL);
    CHECK(s.watch != NULL);
    loop_round(l, LOOP_NEVER);
    CHECK_EQ(s.calls, 1);
    loop_want(s.watch, 0);
    loop_round(l, 0);
    CHECK_EQ(s.calls, 1);
    loop_destroy(l);
    close(fd);
}

static void count(void *ctx)
{
    ++*(unsigned *)ctx;
}

static void *ask(void *ctx)
{
    loop_ask(ctx);
    return NULL;
}

TEST(another_thread_can_ask_for_a_task)
{
    struct loop *l = loop_create(NULL);
    unsigned runs = 0;
    struct loop_task *t = loop_task(l, count, &runs, NULL);
    pthread_t thread;
    CHECK(thread_start(&thread, "asker", ask, t, NULL));
    while (!runs)
        loop_round(l, LOOP_NEVER);
    pthread_join(thread, NULL);
    loop_round(l, 0);
    CHECK_EQ(runs, 1);
    loop_task_free(t);
    loop_ask(t); /* until the round's end it is still there, and no longer run */
    loop_round(l, 0);
    CHECK_EQ(runs, 1);
    loop_destroy(l);
}

static void *mask(void *ctx)
{
    pthread_sigmask(SIG_SETMASK, NULL, ctx);
    return NULL;
}

TEST(a_thread_takes_no_signals_but_its_own_faults)
{
    sigset_t s;
    sigemptyset(&s);
    pthread_t thread;
    CHECK(thread_start(&thread, "masked", mask, &s, NULL));
    pthread_join(thread, NULL);
    CHECK(sigismember(&s, SIGTERM));
    CHECK(sigismember(&s, SIGINT));
    CHECK(!sigismember(&s, SIGSEGV));
    pthread_sigmask(SIG_SETMASK, NULL, &s);
    CHECK(!sigismember(&s, SIGTERM));
}

TESTS(T(a_readable_descriptor_is_told_while_it_is_wanted),
      T(a_hang_up_of_a_watch_that_wants_nothing_does_not_spin), T(a_watch_may_remove_itself),
      T(a_regular_file_is_always_ready), T(another_thread_can_ask_for_a_task),
      T(a_thread_takes_no_signals_but_its_own_faults))

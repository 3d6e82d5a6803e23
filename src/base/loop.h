/*
 * The event loop: one thread waits for file descriptors, for a deadline, and for other threads that
 * ask it to do something (epoll and an eventfd).
 *
 * Watches and tasks are made and removed on the loop's own thread or before it runs; asking is for
 * any thread, and loop_wake() for signal handlers as well.
 */
#ifndef DOPPEL_BASE_LOOP_H
#define DOPPEL_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct loop;
struct loop_watch;
struct loop_task;

enum { LOOP_READ = 1u << 0, LOOP_WRITE = 1u << 1 }; /* an error or hang-up shows as either */
#define LOOP_NEVER UINT64_MAX

struct loop *loop_create(struct error *err);
void loop_destroy(struct loop *l); /* with the watches and tasks left on it */

/* Calls ready(ctx, events) on the loop's thread while fd is ready for what is wanted (level
 * triggered). Regular files are always ready. The descriptor stays the caller's. NULL: failed. */
struct loop_watch *loop_watch(struct loop *l, int fd, unsigned wanted,
                              void (*ready)(void *ctx, unsigned events), void *ctx,
                              struct error *err);
void loop_want(struct loop_watch *w, unsigned wanted); /* 0: nothing for now */
void loop_unwatch(struct loop_watch *w); /* may be called in its own ready(); NULL is fine */

/* Something other threads can ask for: run(ctx) is called on the loop's thread once or more after
 * loop_ask(). */
struct loop_task *loop_task(struct loop *l, void (*run)(void *ctx), void *ctx, struct error *err);
void loop_ask(struct loop_task *t); /* any thread */
void loop_task_free(struct loop_task *t);

/* Waits for something and serves it: returns after one round, or when deadline_ns on
 * CLOCK_MONOTONIC has come (LOOP_NEVER: none), or after loop_wake(). */
void loop_round(struct loop *l, uint64_t deadline_ns);
void loop_wake(struct loop *l); /* any thread, or a signal handler */

/* CLOCK_MONOTONIC now, in nanoseconds. */
uint64_t loop_now(void);

#endif

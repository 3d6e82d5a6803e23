/*
 * The console: what is at the other end of the guest's first serial line.
 *
 * A backend (a terminal, a file, a socket, nothing) is a struct console whose functions the machine
 * calls. Three promises hold it together:
 *   - the guest never waits for it: transmit() takes what it can keep and drops the rest;
 *   - input is never lost: the backend keeps what the guest's line has no room for, and is told by
 *     wanted() when there is room again (so a pipe is read no faster than the guest reads);
 *   - the end of input ends nothing.
 *
 * console_fds serves every backend that is a pair of file descriptors; it is what cli/ builds the
 * backends of --console from.
 */
#ifndef DOPPEL_MACHINE_CONSOLE_H
#define DOPPEL_MACHINE_CONSOLE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct console;

/* The guest's side of the line, given to start(). */
struct console_line {
    /* Takes up to n bytes of input, returns how many; 0: no room now, wanted() will be called. Only
     * from the loop's thread, with no lock held. */
    size_t (*receive)(void *ctx, const uint8_t *bytes, size_t n);
    void *ctx;
};

struct console {
    /* Called once before the guest runs: the console may watch its descriptors on the loop. */
    bool (*start)(struct console *c, struct loop *loop, const struct console_line *line,
                  struct error *err);
    /* The guest sent bytes. Under the machine's lock, from any thread; must not wait. */
    void (*transmit)(struct console *c, const uint8_t *bytes, size_t n);
    /* The guest's line has room again. From the loop's thread. */
    void (*wanted)(struct console *c);
    /* The guest is gone: what is still held is written out as far as that goes without waiting long
     * (a tenth of a second), and the loop is left alone from now on. */
    void (*stop)(struct console *c);
};

/* A console that shows nothing and says nothing. */
extern const struct console console_null;

enum { CONSOLE_BUFFER = 1 << 20, CONSOLE_INPUT = 4096 };

/* A console on file descriptors. Fill it by console_fds_init(); in and out may be the same, and -1
 * for none. They stay the caller's to close (after machine_destroy()). The program must ignore
 * SIGPIPE. */
struct console_fds {
    struct console console; /* what machine_config.console points to */

    /* Looks at n bytes that came in and keeps those that are the guest's, in place; returns how
     * many it kept. From the loop's thread. (The terminal's escape keys.) With a filter, input is
     * read even while the guest takes none, so that it sees every key; what the guest has not taken
     * by then, beyond CONSOLE_INPUT bytes, is lost. NULL: all bytes are the guest's. */
    size_t (*filter)(void *ctx, uint8_t *bytes, size_t n);
    /* Input ended or failed (a client of a socket went away). NULL: nothing happens. From the
     * loop's thread; may call console_fds_attach(). */
    void (*closed)(void *ctx);
    void *ctx;

    /* own */
    struct loop *loop;
    struct console_line line;
    int in, out; /* out is ours: opened anew or duplicated, so that it can be non-blocking without
                    changing the terminal's mode for others */
    bool out_socket;
    struct loop_watch *in_watch, *out_watch;
    struct loop_task *flush;
    uint8_t input[CONSOLE_INPUT]; /* what the guest had no room for */
    size_t input_count;

    pthread_mutex_t lock; /* of what follows */
    size_t head, count;
    uint64_t dropped; /* bytes of output that nobody took in time */
    uint8_t buffer[CONSOLE_BUFFER];
};

void console_fds_init(struct console_fds *c, int in, int out);
/* Puts other descriptors in place (a socket's next client), or none (-1). From the loop's thread,
 * or before the machine runs. Output held back goes to the new one. */
void console_fds_attach(struct console_fds *c, int in, int out);
void console_fds_destroy(struct console_fds *c);

#endif

/*
 * The user's terminal: raw while the guest has it, put back whatever happens.
 *
 * A second process, the guard, holds the terminal and waits for this one to be gone; it puts back
 * what was not put back in order. So a crash or a SIGKILL leaves no raw terminal either, and no
 * signal handler is needed that would have to know of a terminal.
 */
#ifndef DOPPEL_CLI_TERMINAL_H
#define DOPPEL_CLI_TERMINAL_H

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>

#include "base/error.h"

struct terminal {
    int fd; /* -1: not a terminal, and nothing below is used */
    struct termios saved, raw;
    int guard_pipe;
    pid_t guard;
};

/* Takes fd if it is a terminal. Before any thread is started. */
bool terminal_open(struct terminal *t, int fd, struct error *err);
/* Raw, but only while we are in the terminal's foreground: elsewhere it is others'. */
void terminal_raw(struct terminal *t);
void terminal_restore(struct terminal *t);
/* Puts it back and lets go of it. */
void terminal_close(struct terminal *t);

/* Writes a text for the person at the terminal, with the line ends that a raw one needs. */
void terminal_say(const struct terminal *t, const char *text);

#endif

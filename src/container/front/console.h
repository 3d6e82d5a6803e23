/*
 * A container's terminal: the runtime makes it inside the container and sends us its master side
 * over a socket; here it is joined to the terminal that we run on, if any.
 */
#ifndef DOPPEL_CONTAINER_FRONT_CONSOLE_H
#define DOPPEL_CONTAINER_FRONT_CONSOLE_H

#include <termios.h>

#include "container/front/front.h"

struct console {
    int socket; /* where the runtime connects to; -1: none */
    int master; /* -1: not there yet */
    char folder[64], path[80];
    int terminal; /* ours, in raw mode; -1: none */
    struct termios before;
};

#define CONSOLE_NONE                                                                               \
    {                                                                                              \
        .socket = -1, .master = -1, .terminal = -1                                                 \
    }

/* Makes the socket that console->path names. */
bool console_listen(struct console *c, struct error *err);

/* Takes the master from the runtime, which has ended well by now. */
bool console_accept(struct console *c, struct error *err);

/* Makes the terminal fd raw, with its size given to the container. Not a terminal: nothing. */
void console_join(struct console *c, int fd);
void console_resize(const struct console *c);

/* Puts the terminal back and closes everything. */
void console_close(struct console *c);

#endif

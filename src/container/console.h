/*
 * Terminals: made inside the container, their master handed out over a Unix socket or relayed to
 * the terminal that we stand on.
 */
#ifndef DOPPEL_CONTAINER_CONSOLE_H
#define DOPPEL_CONTAINER_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* In the container: a new terminal of its /dev/pts becomes our standard streams and controlling
 * terminal, and with bind also /dev/console. Returns the master; -1: err is set. */
int console_make(uint16_t rows, uint16_t columns, bool bind, uid_t owner, struct error *err);

/* Connects to a socket by path. -1: err is set. */
int console_connect(const char *path, struct error *err);
/* Hands the master over, as runc's protocol has it. */
bool console_send(int socket, int master, struct error *err);

/* Passes bytes between our terminal and the master, and signals to pid, until pid has ended. Its
 * exit status. master -1: no terminal, signals only. SIGCHLD and the rest must be blocked. */
int console_relay(int master, pid_t pid);
/* Blocks the signals that the relay takes; before the process is made. */
void console_block_signals(void);

#endif

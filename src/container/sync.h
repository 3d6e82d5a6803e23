/*
 * What the runtime and the container's first process say to each other while one makes the other:
 * short messages on a socket pair, each perhaps with a descriptor. The end of the stream without an
 * error means that the process has become the user's program.
 */
#ifndef DOPPEL_CONTAINER_SYNC_H
#define DOPPEL_CONTAINER_SYNC_H

#include <stdbool.h>

#include "base/error.h"

enum sync_kind {
    SYNC_END = 0, /* the other side has gone */
    SYNC_GO,      /* both ways: go on */
    SYNC_PID,     /* from a process between: the number of the one that matters */
    SYNC_HOOKS,   /* the namespaces are there: run the hooks that see them from outside */
    SYNC_CONSOLE, /* with the terminal's master */
    SYNC_READY,   /* all is set up but for the last steps before execve() */
    SYNC_ERROR,
};

struct sync_message {
    enum sync_kind kind;
    int number;
    int fd; /* received: the receiver's; -1: none */
    char text[512];
};

bool sync_pair(int pair[2], struct error *err);
bool sync_send(int socket, enum sync_kind kind, int number, int fd, const char *text);
/* Waits for a message. Failure is told as SYNC_END. */
void sync_receive(int socket, struct sync_message *m);
/* Waits for SYNC_GO; false: the other side has gone. */
bool sync_wait(int socket);

#endif

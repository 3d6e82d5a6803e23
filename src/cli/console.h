/*
 * --console: what is at the other end of the guest's first serial line.
 */
#ifndef DOPPEL_CLI_CONSOLE_H
#define DOPPEL_CLI_CONSOLE_H

#include "base/error.h"
#include "machine/console.h"

enum console_kind { CONSOLE_STDIO, CONSOLE_NULL, CONSOLE_FILE, CONSOLE_UNIX, CONSOLE_PTY };

struct cli_console {
    enum console_kind kind;
    const char *path; /* of FILE and UNIX */
    struct console_fds fds;
    int fd;          /* the file, the pty's master, or the socket that listens; -1: none */
    int client;      /* of the socket, or -1 */
    int pty_slave;   /* kept open so that the master does not hang up; or -1 */
    bool has_socket; /* path is ours to remove */
    struct loop *loop;
    struct loop_watch *accepting;
};

/* Understands the option's value. */
bool cli_console_parse(struct cli_console *c, const char *value, struct error *err);
/* Opens what it says. */
bool cli_console_open(struct cli_console *c, struct error *err);
/* To be called between the machine's creation and its run. */
bool cli_console_watch(struct cli_console *c, struct loop *loop, struct error *err);
/* After the machine is destroyed. */
void cli_console_close(struct cli_console *c);

/* For machine_config; NULL: none. */
struct console *cli_console_get(struct cli_console *c);

#endif

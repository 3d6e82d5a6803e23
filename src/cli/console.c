#include "cli/console.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "base/bits.h"

bool cli_console_parse(struct cli_console *c, const char *value, struct error *err)
{
    static const struct {
        const char *name;
        enum console_kind kind;
        bool has_path;
    } kinds[] = {
        {"stdio", CONSOLE_STDIO, false}, {"null", CONSOLE_NULL, false},
        {"file:", CONSOLE_FILE, true},   {"unix:", CONSOLE_UNIX, true},
        {"pty", CONSOLE_PTY, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        size_t n = strlen(kinds[i].name);
        if (kinds[i].has_path ? strncmp(value, kinds[i].name, n) == 0 && value[n]
                              : strcmp(value, kinds[i].name) == 0) {
            c->kind = kinds[i].kind;
            c->path = kinds[i].has_path ? value + n : NULL;
            return true;
        }
    }
    return error_usage(err,
                       "--console %s: there is no such console; use stdio, null, file:PATH, "
                       "unix:PATH or pty",
                       value);
}

static bool open_file(struct cli_console *c, struct error *err)
{
    c->fd = open(c->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK, 0666);
    if (c->fd < 0)
        return error_set(err, "--console file:%s: %s; name a file that can be written", c->path,
                         strerror(errno));
    console_fds_init(&c->fds, -1, c->fd);
    return true;
}

/* A socket that a former run left behind is replaced; anything else of that name is not ours. */
static bool open_unix(struct cli_console *c, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    if (strlen(c->path) >= sizeof address.sun_path)
        return error_usage(err,
                           "--console unix:%s: the path is too long for a socket; use a "
                           "shorter one",
                           c->path);
    memcpy(address.sun_path, c->path, strlen(c->path) + 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        return error_set(err, "--console unix:%s: %s; use another console", c->path,
                         strerror(errno));
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) == 0)
        return error_set(err, "--console unix:%s: another program listens there; use another path",
                         c->path);
    if (errno == ECONNREFUSED && lstat(c->path, &st) == 0 && S_ISSOCK(st.st_mode))
        unlink(c->path);
    if (bind(c->fd, (struct sockaddr *)&address, sizeof address) != 0)
        return error_set(err, "--console unix:%s: %s; use another path", c->path, strerror(errno));
    c->has_socket = true;
    if (listen(c->fd, 1) != 0)
        return error_set(err, "--console unix:%s: %s; use another console", c->path,
                         strerror(errno));
    console_fds_init(&c->fds, -1, -1);
    return true;
}

static bool open_pty(struct cli_console *c, struct error *err)
{
    struct termios modes;
    char name[64];
    c->fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (c->fd < 0 || grantpt(c->fd) != 0 || unlockpt(c->fd) != 0 ||
        ptsname_r(c->fd, name, sizeof name) != 0)
        return error_set(err, "--console pty: no pseudo-terminal, %s; use another console",
                         strerror(errno));
    c->pty_slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (c->pty_slave < 0 || tcgetattr(c->pty_slave, &modes) != 0)
        return error_set(err, "--console pty: %s, %s; use another console", name, strerror(errno));
    cfmakeraw(&modes);
    tcsetattr(c->pty_slave, TCSANOW, &modes);
    fprintf(stderr, "doppel: the console is at %s\n", name);
    console_fds_init(&c->fds, c->fd, c->fd);
    return true;
}

bool cli_console_open(struct cli_console *c, struct error *err)
{
    c->fd = c->client = c->pty_slave = -1;
    switch (c->kind) {
    case CONSOLE_STDIO: console_fds_init(&c->fds, STDIN_FILENO, STDOUT_FILENO); return true;
    case CONSOLE_FILE: return open_file(c, err);
    case CONSOLE_UNIX: return open_unix(c, err);
    case CONSOLE_PTY: return open_pty(c, err);
    case CONSOLE_NULL: break;
    }
    return true;
}

/* One client at a time; the next one waits in the queue. */
static void accept_client(void *ctx, unsigned events)
{
    struct cli_console *c = ctx;
    (void)events;
    int client = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0)
        return;
    c->client = client;
    loop_want(c->accepting, 0);
    console_fds_attach(&c->fds, client, client);
}

static void client_gone(void *ctx)
{
    struct cli_console *c = ctx;
    console_fds_attach(&c->fds, -1, -1);
    close(c->client);
    c->client = -1;
    loop_want(c->accepting, LOOP_READ);
}

bool cli_console_watch(struct cli_console *c, struct loop *loop, struct error *err)
{
    if (c->kind != CONSOLE_UNIX)
        return true;
    c->fds.closed = client_gone;
    c->fds.ctx = c;
    c->accepting = loop_watch(loop, c->fd, LOOP_READ, accept_client, c, err);
    return c->accepting != NULL;
}

void cli_console_close(struct cli_console *c)
{
    if (c->kind != CONSOLE_NULL && c->fds.console.start)
        console_fds_destroy(&c->fds);
    const int fds[] = {c->fd, c->client, c->pty_slave};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (c->has_socket)
        unlink(c->path);
}

struct console *cli_console_get(struct cli_console *c)
{
    return c->kind == CONSOLE_NULL ? NULL : &c->fds.console;
}

#include "container/front/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* The runtime has ended before we look, so what it sent is there already; this bounds a runtime
 * that sent nothing. */
enum { ACCEPT_MS = 10000 };

bool console_listen(struct console *c, struct error *err)
{
    /* Not in the state folder: a socket's name has 107 characters at most. */
    static const char *const places[] = {"/run/doppel-XXXXXX", "/tmp/doppel-XXXXXX"};
    bool made = false;
    for (size_t i = 0; !made && i < 2; i++) {
        snprintf(c->folder, sizeof c->folder, "%s", places[i]);
        made = mkdtemp(c->folder) != NULL;
    }
    if (!made) {
        c->folder[0] = 0;
        return error_errno(err, "--tty: no folder for the terminal's socket in /run or /tmp");
    }
    snprintf(c->path, sizeof c->path, "%s/console", c->folder);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    memcpy(a.sun_path, c->path, strlen(c->path) + 1);
    c->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->socket < 0 || bind(c->socket, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(c->socket, 1) != 0)
        return error_errno(err, "--tty: %s", c->path);
    return true;
}

static int receive_descriptor(int connection)
{
    char byte[256];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec v = {byte, sizeof byte};
    struct msghdr m = {.msg_iov = &v,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof control.bytes};
    int fd = -1;
    if (recvmsg(connection, &m, MSG_CMSG_CLOEXEC) < 0)
        return -1;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS &&
        h->cmsg_len >= CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(h), sizeof fd);
    return fd;
}

bool console_accept(struct console *c, struct error *err)
{
    struct pollfd p = {c->socket, POLLIN, 0};
    int connection = poll(&p, 1, ACCEPT_MS) > 0 ? accept4(c->socket, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (connection >= 0) {
        c->master = receive_descriptor(connection);
        close(connection);
    }
    return c->master >= 0 ||
           error_set(err, "--tty: the OCI runtime sent no terminal; use another one, or none");
}

void console_resize(const struct console *c)
{
    struct winsize size;
    if (c->terminal >= 0 && c->master >= 0 && ioctl(c->terminal, TIOCGWINSZ, &size) == 0)
        ioctl(c->master, TIOCSWINSZ, &size);
}

void console_join(struct console *c, int fd)
{
    if (tcgetattr(fd, &c->before) != 0)
        return;
    struct termios raw = c->before;
    cfmakeraw(&raw);
    if (tcsetattr(fd, TCSANOW, &raw) == 0)
        c->terminal = fd;
    console_resize(c);
}

void console_close(struct console *c)
{
    if (c->terminal >= 0)
        tcsetattr(c->terminal, TCSADRAIN, &c->before);
    if (c->master >= 0)
        close(c->master);
    if (c->socket >= 0)
        close(c->socket);
    if (c->folder[0]) {
        unlink(c->path);
        rmdir(c->folder);
    }
    *c = (struct console)CONSOLE_NONE;
}

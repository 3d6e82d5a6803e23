#include "cli/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool same_modes(const struct termios *a, const struct termios *b)
{
    return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
           a->c_lflag == b->c_lflag;
}

/* The guard's life: waits for the pipe's other end to be closed by our death. In a session of its
 * own no signal for our process group reaches it. It puts the terminal back only if it still is as
 * we made it: a shell may have taken it over already. */
static void guard(int fd, int pipe_end, const struct termios *saved, const struct termios *raw)
{
    struct termios now;
    char byte;
    setsid();
    ssize_t n;
    do
        n = read(pipe_end, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 0 && tcgetattr(fd, &now) == 0 && same_modes(&now, raw))
        tcsetattr(fd, TCSANOW, saved);
    _exit(0);
}

/* The guard keeps the terminal and the pipe open and nothing else. */
static void become_guard(const struct terminal *t, int pipe_end)
{
    enum { TERMINAL = 3, PIPE = 4, FREE = 10 };
    int terminal = fcntl(t->fd, F_DUPFD, FREE), end = fcntl(pipe_end, F_DUPFD, FREE);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    if (terminal < 0 || end < 0 || dup2(terminal, TERMINAL) < 0 || dup2(end, PIPE) < 0)
        _exit(1);
    close_range(0, 2, 0);
    close_range(PIPE + 1, ~0u, 0);
    guard(TERMINAL, PIPE, &t->saved, &t->raw);
}

bool terminal_open(struct terminal *t, int fd, struct error *err)
{
    int ends[2];
    *t = (struct terminal){.fd = -1, .guard_pipe = -1};
    if (tcgetattr(fd, &t->saved) != 0)
        return true;
    t->raw = t->saved;
    cfmakeraw(&t->raw);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(err, "terminal: no pipe, %s; raise the limit on open files",
                         strerror(errno));
    t->fd = fd;
    t->guard_pipe = ends[1];
    t->guard = fork();
    if (t->guard == 0) {
        close(ends[1]);
        become_guard(t, ends[0]);
    }
    close(ends[0]);
    if (t->guard < 0) {
        close(ends[1]);
        t->fd = -1;
        return error_set(err, "terminal: no process, %s; raise the limit on processes",
                         strerror(errno));
    }
    return true;
}

void terminal_raw(struct terminal *t)
{
    if (t->fd >= 0 && tcgetpgrp(t->fd) == getpgrp())
        tcsetattr(t->fd, TCSADRAIN, &t->raw);
}

void terminal_restore(struct terminal *t)
{
    struct termios now;
    if (t->fd >= 0 && tcgetattr(t->fd, &now) == 0 && same_modes(&now, &t->raw))
        tcsetattr(t->fd, TCSANOW, &t->saved);
}

void terminal_close(struct terminal *t)
{
    if (t->fd < 0)
        return;
    terminal_restore(t);
    close(t->guard_pipe);
    while (waitpid(t->guard, NULL, 0) < 0 && errno == EINTR)
        ;
    t->fd = -1;
}

void terminal_say(const struct terminal *t, const char *text)
{
    if (t->fd < 0)
        return;
    for (const char *line = text; *line;) {
        size_t n = strcspn(line, "\n");
        if (write(t->fd, line, n) < 0 || (line[n] && write(t->fd, "\r\n", 2) < 0))
            return;
        line += n + (line[n] != 0);
    }
}

#include "container/front/network.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY, HOLD, ENDS };

/* Its descriptors keep their numbers, which its arguments name. The host's own loopback device is
 * out of reach: services there trust whoever reaches them. */
static void __attribute__((noreturn)) become(pid_t init, int ready, int exit_with, pid_t parent)
{
    char ready_fd[32], exit_fd[32], pid[16];
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(1);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    snprintf(ready_fd, sizeof ready_fd, "--ready-fd=%d", ready);
    snprintf(exit_fd, sizeof exit_fd, "--exit-fd=%d", exit_with);
    snprintf(pid, sizeof pid, "%d", (int)init);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && null >= 0; i++)
        dup2(null, i);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    fcntl(ready, F_SETFD, 0);
    fcntl(exit_with, F_SETFD, 0);
    execlp("slirp4netns", "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback",
           ready_fd, exit_fd, pid, "tap0", (char *)NULL);
    _exit(errno == ENOENT ? 127 : 126);
}

static bool explain(pid_t child, struct error *err)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return error_set(err, "--network user: there is no slirp4netns; install it (Debian: "
                              "slirp4netns), or use --network host or none");
    return error_set(err, "--network user: slirp4netns ended with status %d; it needs /dev/net/tun",
                     WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

bool network_start(pid_t init, int *hold, struct error *err)
{
    int ready[ENDS] = {-1, -1}, held[ENDS] = {-1, -1};
    char byte;
    pid_t parent = getpid(), child = -1;
    if (pipe2(ready, O_CLOEXEC) == 0 && pipe2(held, O_CLOEXEC) == 0)
        child = fork();
    if (child == 0)
        become(init, ready[1], held[0], parent);
    bool made = child > 0;
    if (!made)
        error_errno(err, "--network user");
    if (ready[1] >= 0)
        close(ready[1]);
    ssize_t n = -1;
    while (made && (n = read(ready[0], &byte, 1)) < 0 && errno == EINTR)
        ;
    bool ok = made && (n == 1 || explain(child, err));
    if (ready[0] >= 0)
        close(ready[0]);
    if (held[0] >= 0)
        close(held[0]);
    if (ok)
        *hold = held[1];
    else if (held[1] >= 0)
        close(held[1]);
    return ok;
}

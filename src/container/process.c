#include "container/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Where a filter says that there is no clone3(), as container engines' do for programs that know an
 * older call, too. That one takes no cgroup, so the child goes there itself. */
static pid_t clone_the_old_way(uint64_t flags, int cgroup, int *pidfd)
{
    unsigned long all =
        (unsigned long)flags | (pidfd ? CLONE_PIDFD : 0) | (flags & CLONE_PARENT ? 0 : SIGCHLD);
    pid_t pid = (pid_t)syscall(SYS_clone, all, NULL, pidfd, NULL, 0);
    if (pid != 0 || cgroup < 0)
        return pid;
    int fd = openat(cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "0", 1) != 1)
        _exit(1);
    close(fd);
    return 0;
}

pid_t process_clone(uint64_t flags, int cgroup, int *pidfd)
{
    struct clone_args args = {
        .flags = flags | (pidfd ? CLONE_PIDFD : 0),
        .pidfd = (uint64_t)(uintptr_t)pidfd,
        .exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD,
    };
    if (cgroup >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup;
    }
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    return pid < 0 && errno == ENOSYS ? clone_the_old_way(flags, cgroup, pidfd) : pid;
}

int process_run(char *const *args, struct error *err)
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (int fd = 0; fd <= 2; fd++)
        posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    int failed = posix_spawnp(&pid, args[0], &actions, NULL, args, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        error_set(err, "%s: can't be run: %s; install it (Debian: uidmap)", args[0],
                  strerror(failed));
        return -1;
    }
    return process_wait(pid);
}

uint64_t process_start_time(pid_t pid)
{
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n < 0 ? 0 : n] = 0;
    /* The name is in parentheses and may hold anything; the state is field 3, the time 22. */
    char *at = strrchr(text, ')');
    if (!at || at[1] != ' ' || at[2] == 'Z' || at[2] == 'X')
        return 0;
    at += 2;
    for (int field = 3; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

int process_wait(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return 255;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

#include "container/hooks.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "container/process.h"

/* What a hook inherits is the state and our two outputs. */
static _Noreturn void become(const struct hook_config *h, int input)
{
    char *only_path[] = {(char *)(uintptr_t)h->path, NULL}, *no_env[] = {NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    if (dup2(input, STDIN_FILENO) >= 0 && close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0)
        execve(h->path, h->arg_count ? h->args : only_path, h->env_count ? h->env : no_env);
    _exit(127);
}

/* Waits up to the hook's time, then ends it. */
static bool in_time(pid_t pid, int pidfd, unsigned seconds)
{
    struct pollfd ended = {pidfd, POLLIN, 0};
    int ready;
    do
        ready = poll(&ended, 1, seconds ? (int)seconds * 1000 : -1);
    while (ready < 0 && errno == EINTR);
    if (ready == 0)
        kill(pid, SIGKILL);
    return ready != 0;
}

static bool run(const struct hook_config *h, const char *kind, int input, struct error *err)
{
    int pidfd = -1;
    lseek(input, 0, SEEK_SET);
    pid_t pid = process_clone(0, -1, &pidfd);
    if (pid < 0)
        return error_errno(err, "hook %s: can't be started", h->path);
    if (pid == 0)
        become(h, input);
    bool timely = in_time(pid, pidfd, h->timeout);
    int status = process_wait(pid);
    close(pidfd);
    if (!timely)
        return error_set(err, "hooks.%s: %s took longer than its %u s; see why", kind, h->path,
                         h->timeout);
    if (status == 127)
        return error_set(err, "hooks.%s: %s can't be run; is it there?", kind, h->path);
    return status == 0 ||
           error_set(err, "hooks.%s: %s ended with %d; see its output", kind, h->path, status);
}

bool hooks_run(const struct hook_list *hooks, const char *kind, json_t *state, struct error *err)
{
    if (hooks->count == 0)
        return true;
    char *text = json_dumps(state, JSON_COMPACT);
    int input = memfd_create("state", MFD_CLOEXEC);
    bool ok = text && input >= 0 && write(input, text, strlen(text)) == (ssize_t)strlen(text);
    if (!ok)
        error_errno(err, "hooks.%s: no memory for their input", kind);
    for (size_t i = 0; i < hooks->count && ok; i++)
        ok = run(&hooks->hooks[i], kind, input, err);
    if (input >= 0)
        close(input);
    free(text);
    return ok;
}

#include "container/front/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "container/image/tree.h"

enum { LOG_MAX = 1 << 20 };

struct command_line {
    const char *args[RUNTIME_ARGS_MAX + 8];
    char root[PATH_MAX + 8], log[PATH_MAX + 80];
};

static void build(const struct runtime_call *call, struct command_line *c, const char *log)
{
    size_t n = 0;
    c->args[n++] = call->front->runtime;
    c->args[n++] = "--root";
    snprintf(c->root, sizeof c->root, "%s/run", call->front->root);
    c->args[n++] = c->root;
    if (log) {
        c->args[n++] = "--log";
        c->args[n++] = log;
        c->args[n++] = "--log-format";
        c->args[n++] = "json";
    }
    for (size_t i = 0; call->args[i]; i++)
        c->args[n++] = call->args[i];
    c->args[n] = NULL;
}

/* What the child is left with: no signal blocked, its three files, the program. */
static void __attribute__((noreturn))
child(const struct runtime_call *call, struct command_line *c, pid_t parent)
{
    /* Who is killed must not leave a runtime that goes on making what nobody knows of. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(1);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), fds[3];
    /* First out of the way of 0 to 2, then in their places. */
    for (int i = 0; i < 3; i++)
        fds[i] = fcntl(call->fds[i] >= 0 ? call->fds[i] : null, F_DUPFD_CLOEXEC, 3);
    for (int i = 0; i < 3; i++)
        dup2(fds[i], i);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC); /* what our own caller left open is not for it */
    execvp(c->args[0], (char *const *)c->args);
    _exit(errno == ENOENT ? 127 : 126);
}

/* The message of the last error in a runtime's log: one JSON object a line. */
static bool last_error(const char *text, char *message, size_t size)
{
    bool found = false;
    while (*text) {
        size_t n = strcspn(text, "\n");
        json_t *line = json_loadb(text, n, 0, NULL);
        const char *level = json_string_value(json_object_get(line, "level"));
        const char *msg = json_string_value(json_object_get(line, "msg"));
        if (msg && (!level || strcmp(level, "error") == 0 || strcmp(level, "fatal") == 0)) {
            snprintf(message, size, "%s", msg);
            found = true;
        }
        json_decref(line);
        text += n + (text[n] == '\n');
    }
    for (char *p = message; found && *p; p++)
        if (*p == '\n')
            *p = ' ';
    return found;
}

static bool explain(const struct runtime_call *call, int status, struct error *err)
{
    char message[400];
    struct error quiet = {0};
    size_t size;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code == 126 || code == 127)
        return error_set(err,
                         "%.200s: the OCI runtime can't be run; name one with --runtime PROGRAM",
                         call->front->runtime);
    char *log = tree_read(call->folder, "runtime.log", LOG_MAX, &size, "runtime.log", &quiet);
    bool found = log && last_error(log, message, sizeof message);
    free(log);
    if (found)
        return error_set(err, "%s", message);
    return error_set(err, "%.200s %s: ended with status %d without saying why",
                     call->front->runtime, call->args[0], code);
}

bool runtime_run(const struct runtime_call *call, struct error *err)
{
    struct command_line c;
    char log[64];
    snprintf(log, sizeof log, "/proc/%d/fd/%d/runtime.log", (int)getpid(), call->folder);
    unlinkat(call->folder, "runtime.log", 0);
    build(call, &c, log);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0)
        return error_errno(err, "%.200s: it can't be run", call->front->runtime);
    if (pid == 0)
        child(call, &c, parent);
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return error_errno(err, "%.200s", call->front->runtime);
    return status == 0 || explain(call, status, err);
}

bool runtime_become(const struct runtime_call *call, int kept, struct error *err)
{
    struct command_line c;
    build(call, &c, NULL);
    signal(SIGPIPE, SIG_DFL);
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    fcntl(kept, F_SETFD, 0);
    execvp(c.args[0], (char *const *)c.args);
    return error_errno(err, "%.200s: the OCI runtime can't be run; name one with --runtime PROGRAM",
                       call->front->runtime);
}

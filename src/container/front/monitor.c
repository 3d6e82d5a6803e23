#include "container/front/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/front/console.h"
#include "container/front/log.h"
#include "container/front/network.h"
#include "container/front/runtime.h"
#include "container/image/tree.h"

enum { OUT, ERR, STREAMS, PATIENCE = 3 };

/* What a foreground container is told of; SIGCHLD and SIGWINCH are ours. */
static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM};

struct run {
    struct monitor *m;
    struct console console;
    int signals;         /* signalfd */
    int output[STREAMS]; /* read sides; -1: at their end */
    int input;           /* our terminal, while it is passed on */
    int network;         /* closed when the network is to end */
    unsigned asked;      /* how often we were asked to end it */
    bool ended;
    int status; /* of waitpid() */
    sigset_t before;
};

/* ------------------------------------------------------------------------------------------- *
 * Making it
 * ------------------------------------------------------------------------------------------- */

static bool take_signals(struct run *r, struct error *err)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGWINCH);
    for (size_t i = 0; i < ARRAY_LEN(forwarded); i++)
        sigaddset(&wanted, forwarded[i]);
    sigprocmask(SIG_BLOCK, &wanted, &r->before);
    r->signals = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    return r->signals >= 0 || error_errno(err, "signals");
}

static bool read_pid(struct monitor *m, struct error *err)
{
    size_t size;
    char *text = tree_read(m->folder, "init.pid", 64, &size, "init.pid", err);
    if (!text)
        return false;
    m->record->init = record_process((pid_t)strtol(text, NULL, 10));
    free(text);
    return m->record->init.pid ||
           error_set(err, "%s: it ended before it was started; see its log", m->record->name);
}

static void remove_state(struct monitor *m)
{
    struct error quiet = {0};
    struct runtime_call call = {
        m->front, m->folder, {"delete", "--force", m->record->name}, {-1, -1, -1}};
    runtime_run(&call, &quiet);
}

/* The container's first process becomes our child when the runtime that made it ends. */
static bool create(struct run *r, struct error *err)
{
    struct monitor *m = r->m;
    int to[STREAMS] = {-1, -1};
    char bundle[64], pid_file[80];
    snprintf(bundle, sizeof bundle, "/proc/%d/fd/%d", (int)getpid(), m->folder);
    snprintf(pid_file, sizeof pid_file, "%s/init.pid", bundle);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/containers/%s", m->front->root, m->record->name);
    struct runtime_call call = {
        m->front, m->folder, {"create", "--bundle", path, "--pid-file", pid_file}, {-1, -1, -1}};
    size_t n = 5;
    if (m->record->tty) {
        if (!console_listen(&r->console, err))
            return false;
        call.args[n++] = "--console-socket";
        call.args[n++] = r->console.path;
    } else {
        for (int i = 0; i < STREAMS; i++) {
            int ends[2];
            if (pipe2(ends, O_CLOEXEC) != 0)
                return error_errno(err, "%s: its output", m->record->name);
            r->output[i] = ends[0];
            to[i] = call.fds[1 + i] = ends[1];
        }
        call.fds[0] = m->foreground ? STDIN_FILENO : -1;
    }
    call.args[n] = m->record->name;
    bool ok = runtime_run(&call, err);
    for (int i = 0; i < STREAMS; i++)
        if (to[i] >= 0)
            close(to[i]);
    if (!ok)
        return false;
    ok = read_pid(m, err) && (!m->record->tty || console_accept(&r->console, err));
    if (!ok)
        remove_state(m);
    return ok;
}

static bool start(struct run *r, struct error *err)
{
    struct monitor *m = r->m;
    struct runtime_call call = {m->front, m->folder, {"start", m->record->name}, {-1, -1, -1}};
    m->record->state = RECORD_RUNNING;
    if ((!m->network || network_start(m->record->init.pid, &r->network, err)) &&
        record_save(m->folder, m->record, err) && runtime_run(&call, err))
        return true;
    remove_state(m);
    return false;
}

/* ------------------------------------------------------------------------------------------- *
 * While it runs
 * ------------------------------------------------------------------------------------------- */

/* What our own reader does not take is lost to it, not to the log. */
static void pass_on(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        data += n;
        size -= (size_t)n;
    }
}

static bool take_output(struct run *r, int *fd, int stream)
{
    char data[32 << 10];
    ssize_t n = read(*fd, data, sizeof data);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    if (n <= 0) { /* a terminal's end is EIO */
        close(*fd);
        *fd = -1;
        return false;
    }
    log_append(r->m->log, stream == OUT ? "stdout" : "stderr", data, (size_t)n);
    if (r->m->foreground)
        pass_on(stream == OUT ? STDOUT_FILENO : STDERR_FILENO, data, (size_t)n);
    return true;
}

static void take_input(struct run *r)
{
    char data[4096];
    ssize_t n = read(r->input, data, sizeof data);
    if (n > 0)
        pass_on(r->console.master, data, (size_t)n);
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        r->input = -1;
}

static void reap(struct run *r)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == r->m->record->init.pid) {
            r->ended = true;
            r->status = status;
        }
}

/* The first process of a PID namespace is not ended by signals it does not handle: who asks a
 * third time means it. */
static void forward(struct run *r, int signal)
{
    bool end = signal == SIGTERM || signal == SIGINT || signal == SIGHUP || signal == SIGQUIT;
    r->asked += end;
    if (!r->ended)
        kill(r->m->record->init.pid, end && r->asked >= PATIENCE ? SIGKILL : signal);
}

static void take_signal(struct run *r)
{
    struct signalfd_siginfo info;
    while (read(r->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGCHLD)
            reap(r);
        else if (info.ssi_signo == SIGWINCH)
            console_resize(&r->console);
        else
            forward(r, (int)info.ssi_signo);
    }
}

/* Until it has ended and its output is read. Its other processes end with the first one, unless it
 * shares the host's PID namespace. */
static void watch(struct run *r)
{
    reap(r); /* it may have ended already */
    while (!r->ended || r->output[OUT] >= 0 || r->output[ERR] >= 0 || r->console.master >= 0) {
        struct pollfd p[] = {{r->signals, POLLIN, 0},
                             {r->output[OUT], POLLIN, 0},
                             {r->output[ERR], POLLIN, 0},
                             {r->console.master, POLLIN, 0},
                             {r->console.master >= 0 ? r->input : -1, POLLIN, 0}};
        if (poll(p, ARRAY_LEN(p), -1) < 0)
            continue;
        if (p[0].revents)
            take_signal(r);
        if (p[1].revents)
            take_output(r, &r->output[OUT], OUT);
        if (p[2].revents)
            take_output(r, &r->output[ERR], ERR);
        if (p[3].revents)
            take_output(r, &r->console.master, OUT);
        if (p[4].revents && r->console.master >= 0)
            take_input(r);
    }
}

static void write_end(struct run *r)
{
    struct front_record *record = r->m->record;
    struct error quiet = {0};
    record->state = RECORD_EXITED;
    record->ended = time(NULL);
    record->exit_status = WIFEXITED(r->status) ? WEXITSTATUS(r->status) : 128 + WTERMSIG(r->status);
    record->init = (struct record_process){0};
    record_save(r->m->folder, record, &quiet);
}

static void release(struct run *r)
{
    console_close(&r->console);
    for (int i = 0; i < STREAMS; i++)
        if (r->output[i] >= 0)
            close(r->output[i]);
    if (r->signals >= 0)
        close(r->signals);
    if (r->network >= 0)
        close(r->network);
    sigprocmask(SIG_SETMASK, &r->before, NULL);
}

bool monitor_run(struct monitor *m, void (*started)(void *ctx), void *ctx, struct error *err)
{
    struct run r = {.m = m,
                    .console = CONSOLE_NONE,
                    .signals = -1,
                    .output = {-1, -1},
                    .input = -1,
                    .network = -1};
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    bool ok = take_signals(&r, err) && create(&r, err);
    if (ok && m->record->tty && m->foreground) {
        r.input = STDIN_FILENO;
        console_join(&r.console, STDIN_FILENO);
    }
    ok = ok && start(&r, err);
    if (ok) {
        started(ctx);
        watch(&r);
        remove_state(m);
        write_end(&r);
    }
    release(&r);
    return ok;
}

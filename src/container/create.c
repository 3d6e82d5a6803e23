/* create and run: from a bundle to a process that waits for `start`, or goes on at once. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/console.h"
#include "container/hooks.h"
#include "container/idmap.h"
#include "container/init.h"
#include "container/internal.h"
#include "container/path.h"
#include "container/process.h"
#include "container/state.h"
#include "container/sync.h"

/* A container in the making. */
struct making {
    struct config config;
    struct state state;
    struct cgroup_plan resources;
    struct seccomp_filter filter;
    struct init init;
    const struct container_options *options;
    int bundle;  /* its folder */
    int sync;    /* our end */
    int console; /* the socket for the terminal; -1: none */
    int master;  /* the terminal itself, when we keep it; -1 */
    bool waits;  /* for `start` */
    bool rootless;
    bool alone; /* run: nothing is to be done between its start and its end, so we sleep through */
    pid_t pid;
};

/* ---- before the process ---- */

static char *absolute(const char *folder, const char *path, struct error *err)
{
    char *joined = NULL, *real = NULL;
    if (asprintf(&joined, "%s%s%s", path[0] == '/' ? "" : folder, path[0] == '/' ? "" : "/",
                 path) >= 0)
        real = realpath(joined, NULL);
    if (!real)
        error_errno(err, "config.json: root.path: %s", joined ? joined : path);
    free(joined);
    return real;
}

static bool open_bundle(struct making *m, struct error *err)
{
    char path[PATH_MAX];
    const char *bundle = m->options->bundle ? m->options->bundle : ".";
    char *real = realpath(bundle, NULL);
    if (!real)
        return error_errno(err, "bundle %s", bundle);
    m->state.bundle = real;
    snprintf(path, sizeof path, "%s/config.json", real);
    m->bundle = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (m->bundle < 0)
        return error_errno(err, "bundle %s", bundle);
    return config_load(&m->config, path, err);
}

static bool check_root(struct making *m, struct error *err)
{
    struct stat st;
    m->state.rootfs = absolute(m->state.bundle, m->config.rootfs, err);
    if (!m->state.rootfs)
        return false;
    if (stat(m->state.rootfs, &st) < 0 || !S_ISDIR(st.st_mode))
        return error_set(err, "config.json: root.path: %s is no folder; correct it",
                         m->state.rootfs);
    if (strcmp(m->state.rootfs, "/") == 0)
        return error_set(err, "config.json: root.path: is the host's own root; name another");
    return true;
}

static bool check_console(struct making *m, struct error *err)
{
    bool terminal = m->config.process.terminal;
    const char *socket = m->options->console_socket;
    bool detached = m->waits || m->options->detach;
    if (socket && !terminal)
        return error_set(err, "--console-socket: process.terminal is false; leave the socket out");
    if (terminal && detached && !socket)
        return error_set(err, "config.json: process.terminal: without --console-socket nobody "
                              "would have the terminal; give one");
    if (socket && (m->console = console_connect(socket, err)) < 0)
        return false;
    return true;
}

static bool open_namespaces(struct making *m, struct error *err)
{
    const struct config *c = &m->config;
    for (size_t i = 0; i < NAMESPACE_KINDS; i++)
        m->init.namespaces[i] = -1;
    for (size_t i = 0; i < c->namespace_count; i++) {
        const char *path = c->namespaces[i].path;
        if (path && (m->init.namespaces[i] = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            return error_errno(err, "config.json: linux.namespaces[%zu].path: %s", i, path);
    }
    return true;
}

static bool read_bundle(struct making *m, struct error *err)
{
    struct config *c = &m->config;
    return open_bundle(m, err) && check_root(m, err) && check_console(m, err) &&
           open_namespaces(m, err) && mounts_plan(c, m->state.bundle, &m->init.plans, err) &&
           seccomp_compile(&c->seccomp, &c->arena, &m->filter, err) &&
           (!m->filter.listener_path ||
            (m->init.agent = console_connect(m->filter.listener_path, err)) >= 0);
}

/* Where `start` will knock. Bound through the folder's descriptor: paths of sockets are short. */
static bool listen_for_start(struct making *m, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int folder = open(m->state.folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/start.sock", folder);
    bool ok = folder >= 0 && fd >= 0 &&
              bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
    if (!ok)
        error_errno(err, "%s/start.sock: can't be made", m->state.folder);
    if (folder >= 0)
        close(folder);
    m->init.start = fd;
    return ok;
}

/* Later commands need the configuration as it was, whatever becomes of the bundle. */
static bool keep_config(const struct making *m, struct error *err)
{
    char path[PATH_MAX];
    int from = openat(m->bundle, "config.json", O_RDONLY | O_CLOEXEC);
    int to = open(state_file(&m->state, "config.json", path, sizeof path),
                  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = from >= 0 && to >= 0;
    char buffer[16384];
    ssize_t n;
    while (ok && (n = read(from, buffer, sizeof buffer)) != 0)
        ok = n > 0 && write(to, buffer, (size_t)n) == n;
    if (!ok)
        error_errno(err, "%s: can't be written", path);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return ok;
}

static bool needs_cgroups(const struct making *m)
{
    return m->resources.count > 0;
}

static bool choose_cgroups(struct making *m, const char *id, struct error *err)
{
    const char *path = m->config.cgroups_path;
    struct scope *scope = &m->state.scope;
    if (!m->options->systemd_cgroup)
        return cgroups_choose(&m->state.cgroups, path, id, err);
    return scope_parse(scope, path, id, m->rootless, err) &&
           scope_start(scope, &m->resources, err) &&
           cgroups_choose(&m->state.cgroups, scope->path, id, err);
}

/* The cgroups have their limits before anyone is in them. The process needs that of the rules for
 * devices, which allow it none while they are being written. */
static bool make_cgroups(struct making *m, struct error *err)
{
    struct cgroups *g = &m->state.cgroups;
    return cgroups_make(g, m->rootless || !needs_cgroups(m), err) &&
           cgroup_plan_apply(&m->resources, g, m->rootless, err) &&
           cgroups_open(g, &m->init.doors, err);
}

static bool prepare(struct making *m, const char *id, struct error *err)
{
    struct config *c = &m->config;
    char *bundle = m->state.bundle, *rootfs = m->state.rootfs;
    m->state.bundle = m->state.rootfs = NULL;
    bool made = state_make(&m->state, m->options->root, id, err);
    m->state.bundle = bundle;
    m->state.rootfs = rootfs;
    if (!made)
        return false;
    m->state.version = strdup(c->version);
    m->state.annotations = json_incref(c->annotations);
    if (!cgroups_find(&m->state.cgroups, err) ||
        !cgroup_plan_read(&c->resources, cgroups_are_v2(&m->state.cgroups), &c->arena,
                          &m->resources, err) ||
        !choose_cgroups(m, id, err))
        return false;
    return state_save(&m->state, err) && keep_config(m, err) && make_cgroups(m, err) &&
           (!m->waits || listen_for_start(m, err));
}

/* ---- the process ---- */

static int first_pid_namespace(const struct making *m)
{
    for (size_t i = 0; i < m->config.namespace_count; i++)
        if (m->config.namespaces[i].flag == CLONE_NEWPID)
            return m->init.namespaces[i];
    return -1;
}

static bool clone_error(const struct making *m, struct error *err)
{
    if (errno == EPERM && (config_new_namespaces(&m->config) & CLONE_NEWUSER))
        return error_set(err, "namespaces: refused: new user namespaces are not allowed here; the "
                              "administrator can allow them (sysctl, or the seccomp profile of the "
                              "container that this is)");
    if (errno == EPERM)
        return error_set(err, "namespaces: refused: CAP_SYS_ADMIN is missing; who started this "
                              "process can grant it, or a user namespace in linux.namespaces does "
                              "without it");
    if (errno == ENOSPC)
        return error_set(err, "namespaces: refused: their number is limited here; the "
                              "administrator can raise the limits in /proc/sys/user");
    return error_errno(err, "namespaces: can't be made");
}

static pid_t clone_into_cgroups(const struct making *m, uint64_t flags)
{
    pid_t pid = process_clone(flags, m->init.doors.unified, NULL);
    /* Not everyone who may make the folder may also enter it from here. */
    if (pid < 0 && m->init.doors.unified >= 0 && (errno == EACCES || errno == EPERM) &&
        !needs_cgroups(m))
        pid = process_clone(flags, -1, NULL);
    return pid;
}

/* Where the user namespace is someone's, the others are to be its, and joining it takes a process
 * of its own; and who lets his children into a pid namespace may not be allowed to take that back.
 * That process makes the container's as its sibling, and tells its number. */
static _Noreturn void between(struct making *m, uint64_t flags, int tell)
{
    struct error err = {0};
    int pid_namespace = first_pid_namespace(m);
    pid_t pid = -1;
    if (init_join_namespaces(&m->init, true, &err)) {
        if (pid_namespace >= 0 && setns(pid_namespace, CLONE_NEWPID) < 0)
            error_errno(&err, "pid namespace: can't be joined");
        else
            pid = clone_into_cgroups(m, flags | CLONE_PARENT);
    }
    if (pid == 0) {
        close(tell);
        init_main(&m->init);
    }
    if (pid < 0 && err.status == EXIT_STATUS_OK)
        clone_error(m, &err);
    if (pid < 0)
        sync_send(tell, SYNC_ERROR, 1, -1, err.text);
    else
        sync_send(tell, SYNC_PID, (int)pid, -1, NULL);
    _exit(0);
}

static bool start_between(struct making *m, uint64_t flags, struct error *err)
{
    /* A pair of its own: what the container's process says may be there sooner. */
    int pair[2];
    struct sync_message message;
    if (!sync_pair(pair, err))
        return false;
    pid_t pid = process_clone(0, -1, NULL);
    if (pid == 0)
        between(m, flags, pair[1]);
    bool made = pid > 0 || clone_error(m, err);
    close(m->init.sync);
    close(pair[1]);
    if (made)
        sync_receive(pair[0], &message);
    close(pair[0]);
    if (!made)
        return false;
    process_wait(pid);
    if (message.kind != SYNC_PID)
        return error_set(err, "%s",
                         message.kind == SYNC_ERROR ? message.text : "namespaces: can't be joined");
    m->pid = (pid_t)message.number;
    return true;
}

static bool start_directly(struct making *m, uint64_t flags, struct error *err)
{
    m->pid = clone_into_cgroups(m, flags);
    if (m->pid == 0)
        init_main(&m->init);
    bool ok = m->pid > 0 || clone_error(m, err);
    close(m->init.sync);
    return ok;
}

/* Every time that the two wait for one another costs a switch of processes, which a busy host makes
 * dear; so where the process needs nothing of us it is told to go on before it asks. */
static bool needs_us(const struct making *m)
{
    bool hooks = false;
    for (int kind = 0; kind <= HOOK_START_CONTAINER; kind++)
        hooks |= m->config.hooks[kind].count > 0;
    return m->waits || hooks || m->filter.notifies || m->state.scope.holder > 0;
}

static bool start_process(struct making *m, struct error *err)
{
    int pair[2];
    /* The two that init makes itself, in their time. */
    uint64_t flags =
        (uint64_t)config_new_namespaces(&m->config) & ~(uint64_t)(CLONE_NEWCGROUP | CLONE_NEWTIME);
    const struct namespace_config *user = config_namespace(&m->config, CLONE_NEWUSER);
    /* In a pid namespace that others are in they would see the process before it is the user's. An
     * ordinary user's runtime needs to be looked into by itself, to write the maps. */
    if (geteuid() == 0)
        prctl(PR_SET_DUMPABLE, 0);
    if (!sync_pair(pair, err))
        return false;
    m->sync = pair[0];
    m->init.sync = pair[1];
    m->init.config = &m->config;
    m->init.process = &m->config.process;
    m->init.options = m->options;
    m->init.filter = &m->filter;
    m->init.cgroups = &m->state.cgroups;
    m->init.bundle = m->state.bundle;
    m->init.rootfs = m->state.rootfs;
    m->init.id = m->state.id;
    m->init.state = state_json(&m->state, CONTAINER_CREATING);
    json_object_set_new(m->init.state, "status", json_string(m->waits ? "created" : "creating"));
    m->init.early = !needs_us(m);
    m->alone = m->init.early && !m->options->detach && !m->config.process.terminal &&
               !m->config.hooks[HOOK_POSTSTART].count;
    bool joins = (user && user->path) || first_pid_namespace(m) >= 0;
    bool ok = joins ? start_between(m, flags, err) : start_directly(m, flags, err);
    m->init.sync = -1;
    if (!ok)
        return false;
    if (!user || user->path)
        return true;
    return idmap_write(&m->config.maps, m->pid, err) &&
           (sync_send(m->sync, SYNC_GO, 0, -1, NULL) ||
            error_set(err, "container: it ended early"));
}

/* ---- with the process ---- */

static bool record(struct making *m, struct error *err)
{
    m->state.pid = m->pid;
    m->state.start_time = process_start_time(m->pid);
    if (!state_save_process(&m->state, err))
        return false;
    return !m->options->pid_file || container_write_pid(m->options->pid_file, m->pid, err);
}

static bool serve_hooks(struct making *m, struct error *err)
{
    const struct hook_list *hooks = m->config.hooks;
    json_object_set_new(m->init.state, "pid", json_integer(m->pid));
    return hooks_run(&hooks[HOOK_PRESTART], "prestart", m->init.state, err) &&
           hooks_run(&hooks[HOOK_CREATE_RUNTIME], "createRuntime", m->init.state, err) &&
           (sync_send(m->sync, SYNC_GO, (int)m->pid, -1, NULL) ||
            error_set(err, "container: it ended early"));
}

static bool take_console(struct making *m, int master, struct error *err)
{
    if (m->console < 0) {
        m->master = master;
        return true;
    }
    bool ok = console_send(m->console, master, err);
    close(master);
    return ok;
}

/* Until it is set up. */
static bool accompany(struct making *m, struct error *err)
{
    struct sync_message message;
    for (;;) {
        sync_receive(m->sync, &message);
        switch (message.kind) {
        case SYNC_READY: return true;
        case SYNC_HOOKS:
            if (!serve_hooks(m, err))
                return false;
            break;
        case SYNC_CONSOLE:
            if (!take_console(m, message.fd, err))
                return false;
            break;
        case SYNC_ERROR: return error_set(err, "%s", message.text);
        default:
            return m->init.early ||
                   error_set(err, "container: its first process ended early; see dmesg");
        }
    }
}

/* If it has gone already then what it has to say about that is still to be read. */
static bool go_early(const struct making *m)
{
    if (m->init.early)
        sync_send(m->sync, SYNC_GO, 0, -1, NULL);
    return true;
}

static bool set_up(struct making *m, struct error *err)
{
    return start_process(m, err) && record(m, err) && go_early(m) &&
           (m->alone || accompany(m, err));
}

/* After GO the process says nothing more, unless it fails. */
static bool let_go(struct making *m, struct error *err)
{
    struct sync_message message;
    if (m->init.early)
        return true;
    scope_release(&m->state.scope);
    bool gone = !sync_send(m->sync, SYNC_GO, 0, -1, NULL);
    if (m->waits && !gone)
        return true;
    /* What a process said before it went is still to be read. */
    sync_receive(m->sync, &message);
    if (message.kind == SYNC_ERROR)
        return error_set(err, "%s", message.text);
    return !gone || error_set(err, "container: its first process ended early; see dmesg");
}

static void undo(struct making *m)
{
    struct error ignored;
    if (m->pid > 0) {
        kill(m->pid, SIGKILL);
        process_wait(m->pid);
    }
    scope_release(&m->state.scope);
    if (!m->state.folder)
        return;
    cgroups_kill(&m->state.cgroups, SIGKILL, &ignored);
    scope_stop(&m->state.scope);
    cgroups_remove(&m->state.cgroups, &ignored);
    state_remove(&m->state, &ignored);
}

static void begin(struct making *m, const struct container_options *o, bool waits)
{
    memset(m, 0, sizeof *m);
    m->options = o;
    m->waits = waits;
    m->rootless = container_is_rootless(o);
    m->sync = m->console = m->master = -1;
    m->init.sync = m->init.start = m->init.agent = m->bundle = -1;
    m->init.doors.unified = -1;
}

static void finish(struct making *m)
{
    const int fds[] = {m->sync, m->console, m->master, m->init.start, m->init.agent, m->bundle};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    for (size_t i = 0; i < m->config.namespace_count; i++)
        if (m->init.namespaces[i] >= 0)
            close(m->init.namespaces[i]);
    for (size_t i = 0; i < m->init.plans.count && m->init.plans.plans; i++)
        if (m->init.plans.plans[i].tree >= 0)
            close(m->init.plans.plans[i].tree);
    cgroups_close(&m->init.doors);
    json_decref(m->init.state);
    state_free(&m->state);
    config_free(&m->config);
}

/* Where the kernel's own reason is all that is known, who can do something about it. */
static void explain(struct error *err)
{
    static const struct {
        int reason;
        const char *advice;
    } table[] = {
        {ENOSYS, "this takes Linux 5.12, and in a container a seccomp profile that allows openat2 "
                 "and the mount calls: who runs that container can change it"},
        {EPERM, "a right is missing, or in a container its seccomp profile forbids the call: who "
                "started this process can allow it"},
    };
    size_t used = strlen(err->text);
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const char *reason = strerror(table[i].reason);
        size_t length = strlen(reason);
        if (used >= length && strcmp(err->text + used - length, reason) == 0)
            snprintf(err->text + used, sizeof err->text - used, "; %s", table[i].advice);
    }
}

static bool make(struct making *m, const char *id, struct error *err)
{
    if (!state_id_valid(id, err) || !read_bundle(m, err))
        return false;
    if (prepare(m, id, err) && set_up(m, err) && let_go(m, err))
        return true;
    undo(m);
    return false;
}

bool container_create(const char *id, const struct container_options *o, struct error *err)
{
    struct making m;
    begin(&m, o, true);
    bool ok = make(&m, id, err);
    if (!ok)
        explain(err);
    finish(&m);
    return ok;
}

/* Whether it failed before it became the user's program; it has ended. */
static bool check_alone(struct making *m, struct error *err)
{
    struct sync_message message;
    m->pid = 0;
    if (!m->alone)
        return true;
    sync_receive(m->sync, &message);
    if (message.kind != SYNC_ERROR)
        return true;
    undo(m);
    return error_set(err, "%s", message.text);
}

static bool attend(struct making *m, int *status, struct error *err)
{
    *status = console_relay(m->master, m->pid);
    return check_alone(m, err) &&
           (m->options->keep || container_clean_up(&m->state, &m->config, err));
}

bool container_run(const char *id, const struct container_options *o, int *status,
                   struct error *err)
{
    struct making m;
    sigset_t before;
    begin(&m, o, false);
    sigprocmask(SIG_BLOCK, NULL, &before);
    if (!o->detach)
        console_block_signals();
    bool ok = make(&m, id, err);
    if (ok) {
        json_object_set_new(m.init.state, "pid", json_integer(m.pid));
        json_object_set_new(m.init.state, "status", json_string("running"));
        ok = hooks_run(&m.config.hooks[HOOK_POSTSTART], "poststart", m.init.state, err);
        if (!ok)
            undo(&m);
    }
    *status = 0;
    if (ok && !o->detach)
        ok = attend(&m, status, err);
    if (!ok)
        explain(err);
    sigprocmask(SIG_SETMASK, &before, NULL);
    finish(&m);
    return ok;
}

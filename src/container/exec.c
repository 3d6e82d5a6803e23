/* exec: one more process in a container that is there. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/console.h"
#include "container/identity.h"
#include "container/init.h"
#include "container/internal.h"
#include "container/process.h"
#include "container/sync.h"

struct joining {
    struct state state;
    struct config config;
    json_t *process_json; /* of --process */
    struct process_config process;
    struct seccomp_filter filter;
    struct init init;
    const struct container_options *options;
    int target; /* a pidfd of the container's first process */
    int sync, console, master;
    pid_t pid;
};

/* ---- what to run ---- */

static bool take_user(struct process_config *p, const char *text, struct error *err)
{
    unsigned uid, gid = 0;
    char rest;
    int n = sscanf(text, "%u:%u%c", &uid, &gid, &rest);
    if (n < 1 || n > 2 || (n == 1 && strchr(text, ':')))
        return error_usage(err, "--user %s: must be UID or UID:GID; correct it", text);
    p->uid = uid;
    if (n == 2)
        p->gid = gid;
    return true;
}

static bool take_capabilities(struct process_config *p, const struct container_exec *x,
                              struct error *err)
{
    for (size_t i = 0; i < x->cap_count; i++) {
        cap_value_t value;
        if (cap_from_name(x->caps[i], &value) != 0)
            return error_usage(err, "--cap %s: is no capability; see capabilities(7)", x->caps[i]);
        p->capabilities.present = true;
        p->capabilities.bounding |= BIT(value);
        p->capabilities.permitted |= BIT(value);
        p->capabilities.effective |= BIT(value);
    }
    return true;
}

static bool add_env(struct joining *j, const struct container_exec *x, struct error *err)
{
    struct process_config *p = &j->process;
    char **env = arena_array(&j->config.arena, p->env_count + x->env_count + 1, sizeof *env, err);
    if (!env)
        return false;
    size_t n = 0;
    /* The later of two wins. */
    for (size_t i = 0; i < p->env_count; i++) {
        size_t name = strcspn(p->env[i], "=") + 1;
        bool replaced = false;
        for (size_t k = 0; k < x->env_count; k++)
            replaced |= strncmp(p->env[i], x->env[k], name) == 0;
        if (!replaced)
            env[n++] = p->env[i];
    }
    for (size_t k = 0; k < x->env_count; k++)
        env[n++] = x->env[k];
    p->env = env;
    p->env_count = n;
    return true;
}

static bool choose_process(struct joining *j, const struct container_exec *x, struct error *err)
{
    struct process_config *p = &j->process;
    if (x->process) {
        j->process_json = field_load(x->process, "process", err);
        struct field at = {.json = j->process_json, .name = "process"};
        return j->process_json && config_process(p, &at, &j->config.arena, err);
    }
    *p = j->config.process;
    p->terminal = x->terminal;
    p->args = x->args;
    p->arg_count = x->arg_count;
    p->cwd = x->cwd ? x->cwd : p->cwd;
    p->no_new_privileges |= x->no_new_privileges;
    p->apparmor_profile = x->apparmor ? x->apparmor : p->apparmor_profile;
    if (x->group_count) {
        p->groups = x->groups;
        p->group_count = x->group_count;
    }
    if (p->cwd[0] != '/')
        return error_usage(err, "--cwd %s: must be absolute; correct it", p->cwd);
    return (!x->user || take_user(p, x->user, err)) && take_capabilities(p, x, err) &&
           add_env(j, x, err);
}

static bool check_status(struct joining *j, const struct container_exec *x, struct error *err)
{
    enum container_status status = state_status(&j->state);
    if (status == CONTAINER_PAUSED && !x->ignore_paused)
        return error_set(err, "container %s: is paused; resume it first", j->state.id);
    if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
        return error_set(err, "container %s: cannot exec in a container that is %s; start it first",
                         j->state.id, container_status_name(status));
    j->target = pidfd_open(j->state.pid, 0);
    return j->target >= 0 || error_errno(err, "container %s", j->state.id);
}

static bool prepare(struct joining *j, const char *id, const struct container_exec *x,
                    struct error *err)
{
    char path[PATH_MAX];
    if (!state_load(&j->state, j->options->root, id, err) || !check_status(j, x, err) ||
        !config_load(&j->config, state_file(&j->state, "config.json", path, sizeof path), err) ||
        !choose_process(j, x, err))
        return false;
    bool terminal = j->process.terminal;
    if (terminal && j->options->detach && !j->options->console_socket)
        return error_set(err, "exec: a terminal needs --console-socket when detached; give one");
    if (terminal && j->options->console_socket &&
        (j->console = console_connect(j->options->console_socket, err)) < 0)
        return false;
    return seccomp_compile(&j->config.seccomp, &j->config.arena, &j->filter, err) &&
           (!j->filter.listener_path ||
            (j->init.agent = console_connect(j->filter.listener_path, err)) >= 0) &&
           cgroups_open(&j->state.cgroups, &j->init.doors, err);
}

/* ---- the process ---- */

static int all_namespaces(const struct config *c)
{
    int flags = 0;
    for (size_t i = 0; i < c->namespace_count; i++)
        flags |= c->namespaces[i].flag;
    return flags;
}

/* The process that joins is not the one that runs the program: a pid namespace is for children.
 * From the moment it is inside it can be seen from inside, so nobody there may look at its memory
 * or descriptors: it is not dumpable. */
static _Noreturn void between(struct joining *j)
{
    struct error err = {0};
    struct init *in = &j->init;
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), label = -1;
    bool ok = cgroups_enter(&in->doors, &err) && identity_limits(in->process, &err);
    prctl(PR_SET_DUMPABLE, 0);
    if (ok && setns(j->target, all_namespaces(&j->config)) < 0)
        ok = error_errno(&err, "container %s: its namespaces can't be joined", in->id);
    pid_t pid = ok ? process_clone(CLONE_PARENT, in->doors.unified, NULL) : -1;
    if (ok && pid < 0) /* its cgroup may have got children, and takes no processes then */
        pid = process_clone(CLONE_PARENT, -1, NULL);
    if (pid == 0) {
        prctl(PR_SET_DUMPABLE, 0);
        if (!identity_open_label(in->process, proc, &label, &err)) {
            sync_send(in->sync, SYNC_ERROR, 1, -1, err.text);
            _exit(1);
        }
        if (proc >= 0)
            close(proc);
        init_join(in, label);
    }
    if (ok && pid < 0)
        error_errno(&err, "container %s: no process can be made", in->id);
    if (pid < 0)
        sync_send(in->sync, SYNC_ERROR, 1, -1, err.text);
    else
        sync_send(in->sync, SYNC_PID, (int)pid, -1, NULL);
    _exit(0);
}

static bool start_process(struct joining *j, struct error *err)
{
    int pair[2];
    if (!sync_pair(pair, err))
        return false;
    j->sync = pair[0];
    j->init.sync = pair[1];
    j->init.id = j->state.id;
    j->init.config = &j->config;
    j->init.process = &j->process;
    j->init.options = j->options;
    j->init.filter = &j->filter;
    j->init.start = -1;
    j->init.state = state_json(&j->state, CONTAINER_RUNNING);
    pid_t pid = process_clone(0, -1, NULL);
    if (pid == 0)
        between(j);
    close(pair[1]);
    j->init.sync = -1;
    if (pid < 0)
        return error_errno(err, "exec: no process can be made");
    process_wait(pid);
    return true;
}

static bool take_console(struct joining *j, int master, struct error *err)
{
    if (j->console < 0) {
        j->master = master;
        return true;
    }
    bool ok = console_send(j->console, master, err);
    close(master);
    return ok;
}

/* Its number may come after what the process itself has to say. */
static bool accompany(struct joining *j, struct error *err)
{
    struct sync_message m;
    for (bool ready = false; !ready || j->pid == 0;) {
        sync_receive(j->sync, &m);
        switch (m.kind) {
        case SYNC_PID: j->pid = (pid_t)m.number; break;
        case SYNC_READY: ready = true; break;
        case SYNC_CONSOLE:
            if (!take_console(j, m.fd, err))
                return false;
            break;
        case SYNC_ERROR: return error_set(err, "%s", m.text);
        default: return error_set(err, "exec: the process ended early; see dmesg");
        }
    }
    return true;
}

static bool let_go(struct joining *j, struct error *err)
{
    struct sync_message m;
    if (j->options->pid_file && !container_write_pid(j->options->pid_file, j->pid, err))
        return false;
    if (!sync_send(j->sync, SYNC_GO, 0, -1, NULL))
        return error_set(err, "exec: the process ended early; see dmesg");
    sync_receive(j->sync, &m);
    return m.kind != SYNC_ERROR || error_set(err, "%s", m.text);
}

static void finish(struct joining *j)
{
    const int fds[] = {j->target, j->sync, j->console, j->master, j->init.agent};
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    cgroups_close(&j->init.doors);
    json_decref(j->init.state);
    json_decref(j->process_json);
    state_free(&j->state);
    config_free(&j->config);
}

bool container_exec(const char *id, const struct container_options *o,
                    const struct container_exec *x, int *status, struct error *err)
{
    struct joining j = {.options = o,
                        .target = -1,
                        .sync = -1,
                        .console = -1,
                        .master = -1,
                        .init = {.agent = -1, .start = -1, .sync = -1, .doors = {.unified = -1}}};
    sigset_t before;
    sigprocmask(SIG_BLOCK, NULL, &before);
    if (!o->detach)
        console_block_signals();
    bool ok =
        prepare(&j, id, x, err) && start_process(&j, err) && accompany(&j, err) && let_go(&j, err);
    if (!ok && j.pid > 0) {
        kill(j.pid, SIGKILL);
        process_wait(j.pid);
    }
    *status = 0;
    if (ok && !o->detach)
        *status = console_relay(j.master, j.pid);
    sigprocmask(SIG_SETMASK, &before, NULL);
    finish(&j);
    return ok;
}

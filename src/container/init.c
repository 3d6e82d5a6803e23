#include "container/init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "container/console.h"
#include "container/hooks.h"
#include "container/identity.h"
#include "container/idmap.h"
#include "container/path.h"
#include "container/rootfs.h"
#include "container/sync.h"

/* ---- namespaces ---- */

bool init_join_namespaces(const struct init *in, bool user, struct error *err)
{
    const struct config *c = in->config;
    for (size_t i = 0; i < c->namespace_count; i++) {
        const struct namespace_config *n = &c->namespaces[i];
        if (in->namespaces[i] < 0 || (n->flag == CLONE_NEWUSER) != user)
            continue;
        if (setns(in->namespaces[i], n->flag) == 0)
            continue;
        if (errno == EPERM)
            return error_set(
                err,
                "config.json: linux.namespaces[%zu]: %s can't be joined: CAP_SYS_ADMIN "
                "over it is missing; its owner can grant it",
                i, n->path);
        return error_errno(err, "config.json: linux.namespaces[%zu]: %s can't be joined", i,
                           n->path);
    }
    return true;
}

static bool write_offsets(const struct config *c, struct error *err)
{
    char text[128] = "";
    int n = 0;
    if (c->monotonic.present)
        n += snprintf(text, sizeof text, "monotonic %lld %u\n", (long long)c->monotonic.seconds,
                      c->monotonic.nanoseconds);
    if (c->boottime.present)
        n += snprintf(text + n, sizeof text - (size_t)n, "boottime %lld %u\n",
                      (long long)c->boottime.seconds, c->boottime.nanoseconds);
    if (n == 0)
        return true;
    int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (!ok)
        error_errno(err, "config.json: linux.timeOffsets: can't be set");
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Those that clone3() can't make the right way: a cgroup namespace begins where we are, so after we
 * have moved; a time namespace takes its offsets before anyone is in it, and execve() enters it. */
static bool late_namespaces(const struct config *c, struct error *err)
{
    int new = config_new_namespaces(c);
    if ((new &CLONE_NEWCGROUP) && unshare(CLONE_NEWCGROUP) < 0)
        return error_errno(err, "cgroup namespace: can't be made");
    if ((new &CLONE_NEWTIME) && unshare(CLONE_NEWTIME) < 0)
        return error_errno(err, "time namespace: can't be made");
    return write_offsets(c, err);
}

/* A new network namespace has a loopback device that is off; without CAP_NET_ADMIN it stays so. */
static bool start_loopback(const struct config *c, struct error *err)
{
    struct ifreq request = {.ifr_name = "lo"};
    if (!(config_new_namespaces(c) & CLONE_NEWNET))
        return true;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && ioctl(fd, SIOCGIFFLAGS, &request) == 0;
    request.ifr_flags |= IFF_UP;
    ok = ok && (ioctl(fd, SIOCSIFFLAGS, &request) == 0 || errno == EPERM);
    if (!ok)
        error_errno(err, "network namespace: its loopback device can't be switched on");
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool set_names(const struct config *c, struct error *err)
{
    if (c->hostname && *c->hostname && sethostname(c->hostname, strlen(c->hostname)) < 0)
        return error_errno(err, "config.json: hostname: can't be set");
    if (c->domainname && *c->domainname && setdomainname(c->domainname, strlen(c->domainname)) < 0)
        return error_errno(err, "config.json: domainname: can't be set");
    return true;
}

/* Through the host's /proc, which the container has had no hand in; the values that are seen there
 * are those of the namespaces of whoever looks. */
static bool set_sysctls(const struct config *c, struct error *err)
{
    for (size_t i = 0; i < c->sysctl_count; i++) {
        const struct sysctl_config *s = &c->sysctls[i];
        char path[PATH_MAX];
        int n = snprintf(path, sizeof path, "/proc/sys/%s", s->name);
        /* Names with dots may have slashes where a component has a dot in it. */
        bool slashes =
            strchr(s->name, '/') != NULL && strchr(s->name, '/') < strchrnul(s->name, '.');
        for (char *at = path + 10; *at && !slashes; at++)
            *at = *at == '.' ? '/' : *at == '/' ? '.' : *at;
        size_t length = strlen(s->value);
        int fd = n < (int)sizeof path ? open(path, O_WRONLY | O_CLOEXEC) : -1;
        bool ok = fd >= 0 && write(fd, s->value, length) == (ssize_t)length;
        if (!ok)
            error_errno(err, "config.json: linux.sysctl.%s: can't be set", s->name);
        if (fd >= 0)
            close(fd);
        if (!ok)
            return false;
    }
    return true;
}

/* From here on we are the user namespace's root, where it has one: files that we make are to have
 * an owner there. */
static bool become_root(const struct config *c, struct error *err)
{
    if (!config_namespace(c, CLONE_NEWUSER))
        return true;
    prctl(PR_SET_KEEPCAPS, 1);
    bool ok = (setresgid(0, 0, 0) == 0 || errno == EINVAL) &&
              (setresuid(0, 0, 0) == 0 || errno == EINVAL);
    return ok || error_errno(err, "user namespace: its root can't be taken");
}

/* ---- the last steps ---- */

static const char *find_env(char *const *env, const char *name)
{
    size_t length = strlen(name);
    for (; *env; env++)
        if (strncmp(*env, name, length) == 0 && (*env)[length] == '=')
            return *env + length + 1;
    return NULL;
}

/* As a shell would find it; path receives it. */
static bool find_program(const struct process_config *p, char *path, size_t size, struct error *err)
{
    const char *name = p->args[0], *places = find_env(p->env, "PATH");
    struct stat st;
    int why = ENOENT;
    if (strchr(name, '/')) {
        snprintf(path, size, "%s", name);
        if (stat(path, &st) < 0)
            return error_set(err, "config.json: process.args[0]: exec: \"%s\": %s", name,
                             errno == ENOENT ? "no such file or directory" : strerror(errno));
        return (!S_ISDIR(st.st_mode) && access(path, X_OK) == 0) ||
               error_set(err, "config.json: process.args[0]: exec: \"%s\": permission denied",
                         name);
    }
    for (const char *at = places ? places : "/usr/local/bin:/usr/bin:/bin"; at;) {
        const char *end = strchrnul(at, ':');
        snprintf(path, size, "%.*s%s%s", (int)(end - at), at, end > at ? "/" : "./", name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            if (access(path, X_OK) == 0)
                return true;
            why = EACCES;
        }
        at = *end ? end + 1 : NULL;
    }
    return error_set(err, "config.json: process.args[0]: exec: \"%s\": %s", name,
                     why == ENOENT ? "executable file not found in $PATH" : "permission denied");
}

/* HOME as the container's /etc/passwd has it, for those who left it out. */
static char *home_variable(struct arena *arena, uid_t uid, struct error *err)
{
    char line[1024], home[512] = "/";
    FILE *file = fopen("/etc/passwd", "re");
    while (file && fgets(line, sizeof line, file)) {
        unsigned id;
        char folder[512];
        if (sscanf(line, "%*[^:]:%*[^:]:%u:%*u:%*[^:]:%511[^:\n]", &id, folder) == 2 && id == uid) {
            snprintf(home, sizeof home, "%s", folder);
            break;
        }
    }
    if (file)
        fclose(file);
    return arena_printf(arena, err, "HOME=%s", home);
}

static char **environment(const struct init *in, struct error *err)
{
    const struct process_config *p = in->process;
    if (find_env(p->env, "HOME"))
        return p->env;
    char **env = arena_array(&in->config->arena, p->env_count + 2, sizeof *env, err);
    if (!env)
        return NULL;
    memcpy(env, p->env, p->env_count * sizeof *env);
    env[p->env_count] = home_variable(&in->config->arena, p->uid, err);
    return env[p->env_count] ? env : NULL;
}

/* A working folder that is reached through a descriptor of the host's would be outside the root:
 * then the kernel gives it no absolute path. */
static bool enter_folder(const char *cwd, struct error *err)
{
    char now[PATH_MAX];
    if (chdir(cwd) < 0) {
        int made = errno == ENOENT ? path_make_host(cwd, 0755, err) : false;
        if (!made || chdir(cwd) < 0)
            return error_errno(err, "config.json: process.cwd: %s", cwd);
    }
    if (syscall(SYS_getcwd, now, sizeof now) < 0 || now[0] != '/')
        return error_set(err,
                         "config.json: process.cwd: %s is outside the container's root; "
                         "choose a folder inside",
                         cwd);
    return true;
}

static bool make_console(const struct init *in, bool bind, struct error *err)
{
    const struct process_config *p = in->process;
    if (!p->terminal)
        return true;
    int master = console_make(p->rows, p->columns, bind, p->uid, err);
    if (master < 0)
        return false;
    bool ok = sync_send(in->sync, SYNC_CONSOLE, 0, master, NULL);
    close(master);
    return ok || error_set(err, "terminal: can't be handed over");
}

static bool new_keyring(const struct init *in, struct error *err)
{
    char name[300];
    if (in->options->no_new_keyring)
        return true;
    snprintf(name, sizeof name, "_ses.%s", in->id);
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) >= 0 || errno == ENOSYS ||
        errno == EPERM || errno == EDQUOT)
        return true;
    return error_errno(err, "session keyring: can't be made; --no-new-keyring does without");
}

static bool install_filter(const struct init *in, struct error *err)
{
    int listener;
    if (!seccomp_install(in->filter, &listener, err))
        return false;
    if (listener < 0)
        return true;
    json_t *state = json_pack("{s:s,s:[s],s:i,s:s*,s:O}", "ociVersion", "1.1.0", "fds", "seccompFd",
                              "pid", (int)json_integer_value(json_object_get(in->state, "pid")),
                              "metadata", in->filter->listener_metadata, "state", in->state);
    char *text = json_dumps(state, JSON_COMPACT);
    bool ok = text ? seccomp_send_listener(in->agent, listener, text, err)
                   : error_set(err, "seccomp: no memory; free some");
    close(listener);
    free(text);
    json_decref(state);
    return ok;
}

/* A filter may forbid what is still to be done, so it comes last; but without no_new_privs it takes
 * CAP_SYS_ADMIN, which goes with the user. */
static bool become_user(const struct init *in, int label, struct error *err)
{
    bool early = in->filter->present && !in->process->no_new_privileges;
    return (!early || install_filter(in, err)) && identity_become(in->process, err) &&
           identity_write_label(in->process, label, err) && (early || install_filter(in, err));
}

/* From now on nothing of the host is left to inherit but what was asked for. */
static bool close_descriptors(const struct init *in, struct error *err)
{
    unsigned first = 3 + in->options->preserve_fds;
    return close_range(first, ~0u, CLOSE_RANGE_CLOEXEC) == 0 ||
           error_errno(err, "descriptors: can't be closed");
}

static void reset_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number <= SIGRTMAX; number++)
        if (number != SIGKILL && number != SIGSTOP)
            signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void fail(int socket, const struct error *err)
{
    sync_send(socket, SYNC_ERROR, (int)err->status, -1, err->text);
    _exit(1);
}

static _Noreturn void become_program(const struct init *in, const char *path, char **env, int label,
                                     int socket)
{
    struct error err = {0};
    if (become_user(in, label, &err)) {
        reset_signals();
        execve(path, in->process->args, env);
        error_errno(&err, "config.json: process.args[0]: exec: \"%s\"", in->process->args[0]);
    }
    fail(socket, &err);
}

/* ---- the first process ---- */

static bool set_up_namespaces(struct init *in, struct error *err)
{
    struct config *c = in->config;
    const struct namespace_config *user = config_namespace(c, CLONE_NEWUSER);
    if (user && !user->path && !sync_wait(in->sync))
        return error_set(err, "user namespace: its maps were not written");
    if (!init_join_namespaces(in, false, err) || !cgroups_enter(&in->doors, err))
        return false;
    cgroups_close(&in->doors);
    setsid();
    return late_namespaces(c, err) && start_loopback(c, err) && identity_limits(in->process, err);
}

static bool run_hooks(struct init *in, int root, struct error *err)
{
    struct sync_message m;
    const struct hook_list *hooks = in->config->hooks;
    bool any = false;
    for (int kind = 0; kind <= HOOK_START_CONTAINER; kind++)
        any |= hooks[kind].count > 0;
    if (!any && !in->filter->notifies)
        return true;
    if (!sync_send(in->sync, SYNC_HOOKS, 0, -1, NULL))
        return error_set(err, "hooks: the runtime has gone");
    sync_receive(in->sync, &m);
    if (m.kind != SYNC_GO)
        return error_set(err, "hooks: the runtime has gone");
    json_object_set_new(in->state, "pid", json_integer(m.number));
    (void)root;
    return hooks_run(&hooks[HOOK_CREATE_CONTAINER], "createContainer", in->state, err);
}

static bool set_up_root(struct init *in, struct error *err)
{
    struct config *c = in->config;
    const struct namespace_config *mount = config_namespace(c, CLONE_NEWNS);
    if (mount->path) /* it is as its maker wants it */
        return become_root(c, err) && set_names(c, err) && set_sysctls(c, err) &&
               run_hooks(in, -1, err) &&
               ((chroot(in->rootfs) == 0 && chdir("/") == 0) ||
                error_errno(err, "config.json: root.path: can't be entered"));
    if (!mounts_take_trees(&in->plans, in->bundle, err))
        return false;
    int root = rootfs_open(in->rootfs, err);
    if (root < 0)
        return false;
    bool ok = become_root(c, err) && set_names(c, err) && set_sysctls(c, err) &&
              rootfs_fill(c, &in->plans, in->cgroups, root, err) && run_hooks(in, root, err) &&
              rootfs_restrict(c, root, err) && rootfs_pivot(c, root, in->options->no_pivot, err);
    close(root);
    return ok;
}

/* Waits for `start`; returns the connection on which it waits for us. */
static int await_start(struct init *in)
{
    int connection;
    close(in->sync);
    do
        connection = accept4(in->start, NULL, NULL, SOCK_CLOEXEC);
    while (connection < 0 && errno == EINTR);
    if (connection < 0)
        _exit(1);
    close(in->start);
    return connection;
}

_Noreturn void init_main(struct init *in)
{
    struct error err = {0};
    char path[PATH_MAX];
    char **env = NULL;
    int label = -1;
    int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    prctl(PR_SET_NAME, "doppel:init");
    bool ok = set_up_namespaces(in, &err) && identity_open_label(in->process, proc, &label, &err) &&
              set_up_root(in, &err) && make_console(in, true, &err) &&
              enter_folder(in->process->cwd, &err) && new_keyring(in, &err) &&
              find_program(in->process, path, sizeof path, &err) &&
              (env = environment(in, &err)) != NULL && close_descriptors(in, &err);
    if (ok && in->config->has_personality && personality(in->config->personality) < 0)
        ok = error_errno(&err, "config.json: linux.personality: can't be set");
    if (proc >= 0)
        close(proc);
    if (!ok || (!in->early && !sync_send(in->sync, SYNC_READY, 0, -1, NULL)))
        fail(in->sync, &err);
    if (!sync_wait(in->sync))
        _exit(1); /* the runtime was killed: nobody knows of us */
    int socket = in->start >= 0 ? await_start(in) : in->sync;
    if (!hooks_run(&in->config->hooks[HOOK_START_CONTAINER], "startContainer", in->state, &err))
        fail(socket, &err);
    become_program(in, path, env, label, socket);
}

_Noreturn void init_join(struct init *in, int label)
{
    struct error err = {0};
    char path[PATH_MAX];
    char **env = NULL;
    setsid();
    bool ok = become_root(in->config, &err) && make_console(in, false, &err) &&
              enter_folder(in->process->cwd, &err) && new_keyring(in, &err) &&
              find_program(in->process, path, sizeof path, &err) &&
              (env = environment(in, &err)) != NULL && close_descriptors(in, &err);
    if (!ok || !sync_send(in->sync, SYNC_READY, 0, -1, NULL))
        fail(in->sync, &err);
    if (!sync_wait(in->sync))
        _exit(1);
    become_program(in, path, env, label, in->sync);
}

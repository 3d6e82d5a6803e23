/* What is done with a container that is there: start, state, kill, delete, pause, update. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "container/hooks.h"
#include "container/idmap.h"
#include "container/internal.h"
#include "container/path.h"
#include "container/process.h"
#include "container/sync.h"

const char *container_default_root(char *buffer, size_t size)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    if (geteuid() == 0 && !(getenv("ROOTLESS") || (runtime && access("/run", W_OK) < 0)))
        snprintf(buffer, size, "/run/doppel-oci");
    else if (runtime && *runtime)
        snprintf(buffer, size, "%s/doppel-oci", runtime);
    else
        snprintf(buffer, size, "/tmp/doppel-oci-%u", (unsigned)geteuid());
    return buffer;
}

bool container_is_rootless(const struct container_options *o)
{
    return o->rootless < 0 ? !idmap_is_initial() : o->rootless != 0;
}

bool container_write_pid(const char *path, pid_t pid, struct error *err)
{
    char temporary[PATH_MAX], text[16];
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    snprintf(temporary, sizeof temporary, "%.*s.%s", folder, path, path + folder);
    int n = snprintf(text, sizeof text, "%d", (int)pid);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n && rename(temporary, path) == 0;
    if (!ok)
        error_errno(err, "--pid-file: %s", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* The configuration as it was when the container was made; NULL in json: none is left. */
static void load_config(const struct state *s, struct config *config)
{
    struct error ignored = {0};
    char path[PATH_MAX];
    if (!config_load(config, state_file(s, "config.json", path, sizeof path), &ignored))
        config_free(config);
}

/* ---- start ---- */

static int knock(const struct state *s, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char from[PATH_MAX], to[PATH_MAX];
    state_file(s, "start.sock", from, sizeof from);
    state_file(s, "starting", to, sizeof to);
    /* Whoever renames it is the one who starts it. */
    if (rename(from, to) < 0) {
        error_set(err, "container %s: is being started by another; nothing is left to do", s->id);
        return -1;
    }
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    int pin = open(to, O_PATH | O_CLOEXEC);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", pin);
    bool ok = fd >= 0 && pin >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (!ok)
        error_errno(err, "container %s: does not answer", s->id);
    unlink(to);
    if (pin >= 0)
        close(pin);
    if (!ok && fd >= 0)
        close(fd);
    return ok ? fd : -1;
}

static bool start(struct state *s, struct error *err)
{
    struct sync_message m;
    struct config config;
    enum container_status status = state_status(s);
    if (status != CONTAINER_CREATED)
        return error_set(err, "container %s: cannot be started: it is %s, not created", s->id,
                         container_status_name(status));
    int fd = knock(s, err);
    if (fd < 0)
        return false;
    sync_receive(fd, &m);
    close(fd);
    if (m.kind == SYNC_ERROR)
        return error_set(err, "%s", m.text);
    load_config(s, &config);
    json_t *json = state_json(s, CONTAINER_RUNNING);
    bool ok = hooks_run(&config.hooks[HOOK_POSTSTART], "poststart", json, err);
    json_decref(json);
    config_free(&config);
    return ok;
}

bool container_start(const char *id, const struct container_options *o, struct error *err)
{
    struct state s;
    bool ok = state_load(&s, o->root, id, err) && start(&s, err);
    state_free(&s);
    return ok;
}

/* ---- state, list ---- */

json_t *container_state(const char *id, const struct container_options *o, struct error *err)
{
    struct state s;
    json_t *json = NULL;
    if (state_load(&s, o->root, id, err)) {
        enum container_status status = state_status(&s);
        json = state_json(&s, status);
        if (status == CONTAINER_STOPPED)
            json_object_set_new(json, "pid", json_integer(0));
        if (s.rootfs)
            json_object_set_new(json, "rootfs", json_string(s.rootfs));
        if (s.created)
            json_object_set_new(json, "created", json_string(s.created));
        json_object_set_new(json, "owner", json_string(""));
    }
    state_free(&s);
    return json;
}

json_t *container_list(const struct container_options *o, struct error *err)
{
    json_t *list = json_array();
    DIR *folder = opendir(o->root);
    struct dirent *entry;
    if (!folder) {
        if (errno == ENOENT)
            return list;
        error_errno(err, "%s: can't be read", o->root);
        json_decref(list);
        return NULL;
    }
    while ((entry = readdir(folder))) {
        struct error ignored = {0};
        if (entry->d_name[0] == '.' || !state_id_valid(entry->d_name, &ignored))
            continue;
        json_t *one = container_state(entry->d_name, o, &ignored);
        if (one)
            json_array_append_new(list, one);
    }
    closedir(folder);
    return list;
}

/* ---- kill, delete ---- */

/* Signals that process and no other, even if its number has been given to another by now. */
static bool signal_process(const struct state *s, int signal, struct error *err)
{
    int pidfd = s->pid > 0 ? pidfd_open(s->pid, 0) : -1;
    bool same = pidfd >= 0 && process_start_time(s->pid) == s->start_time;
    bool ok = same && pidfd_send_signal(pidfd, signal, NULL, 0) == 0;
    if (!same)
        error_set(err, "container %s: container not running", s->id);
    else if (!ok)
        error_errno(err, "container %s: can't be signalled", s->id);
    if (pidfd >= 0)
        close(pidfd);
    return ok;
}

static void thaw(const struct state *s)
{
    struct error ignored;
    if (cgroups_frozen(&s->cgroups))
        cgroups_freeze(&s->cgroups, false, &ignored);
}

bool container_kill(const char *id, const struct container_options *o, int signal, bool all,
                    struct error *err)
{
    struct state s;
    bool ok = state_load(&s, o->root, id, err);
    if (ok && all) {
        ok = cgroups_kill(&s.cgroups, signal, err);
    } else if (ok) {
        ok = signal_process(&s, signal, err);
        /* Without a pid namespace its end does not take the others along. */
        struct config config;
        load_config(&s, &config);
        const struct namespace_config *pids =
            config.json ? config_namespace(&config, CLONE_NEWPID) : NULL;
        if (ok && signal == SIGKILL && (!pids || pids->path))
            ok = cgroups_kill(&s.cgroups, signal, err);
        config_free(&config);
    }
    if (ok && signal == SIGKILL) /* the frozen do not even die */
        thaw(&s);
    state_free(&s);
    return ok;
}

bool container_clean_up(struct state *s, const struct config *config, struct error *err)
{
    struct error first = {0};
    struct config loaded = {0};
    scope_stop(&s->scope);
    /* As a rule its first process took all others along; who is left holds the folders. */
    if (!cgroups_try_remove(&s->cgroups)) {
        cgroups_kill(&s->cgroups, SIGKILL, &first);
        first = (struct error){0};
        cgroups_remove(&s->cgroups, &first);
    }
    if (!config) {
        load_config(s, &loaded);
        config = &loaded;
    }
    json_t *json = state_json(s, CONTAINER_STOPPED);
    char path[PATH_MAX];
    unlink(state_file(s, "starting", path, sizeof path));
    bool ok = state_remove(s, err);
    /* As the specification says, what they return changes nothing. */
    struct error ignored = {0};
    hooks_run(&config->hooks[HOOK_POSTSTOP], "poststop", json, &ignored);
    json_decref(json);
    config_free(&loaded);
    if (ok && first.status != EXIT_STATUS_OK) {
        *err = first;
        ok = false;
    }
    return ok;
}

/* Ends it, and waits for that: whoever deletes does not want to see it again. */
static void end_process(const struct state *s)
{
    struct error ignored = {0};
    thaw(s);
    if (!signal_process(s, SIGKILL, &ignored))
        return;
    for (int tries = 0; tries < 1000 && process_start_time(s->pid) == s->start_time; tries++)
        nanosleep(&(struct timespec){.tv_nsec = tries < 50 ? 200000 : 5000000}, NULL);
}

static bool delete (struct state *s, bool force, struct error *err)
{
    enum container_status status = state_status(s);
    if (status != CONTAINER_STOPPED && !force) {
        /* A created one has run nothing yet; it may go without force, as with other runtimes. */
        if (status != CONTAINER_CREATED)
            return error_set(err, "container %s: is %s; stop it first, or use --force", s->id,
                             container_status_name(status));
    }
    if (status != CONTAINER_STOPPED)
        end_process(s);
    return container_clean_up(s, NULL, err);
}

bool container_delete(const char *id, const struct container_options *o, bool force,
                      struct error *err)
{
    struct state s;
    bool ok = state_load(&s, o->root, id, err);
    if (!ok && force && s.folder && access(s.folder, F_OK) < 0) {
        err->status = EXIT_STATUS_OK; /* that there is none is what was wanted */
        ok = true;
    } else if (ok || (force && s.folder)) {
        ok = delete (&s, force, err);
    }
    state_free(&s);
    return ok;
}

/* ---- the rest ---- */

bool container_freeze(const char *id, const struct container_options *o, bool freeze,
                      struct error *err)
{
    struct state s;
    bool ok = state_load(&s, o->root, id, err);
    if (ok) {
        enum container_status status = state_status(&s);
        bool fits = freeze ? status == CONTAINER_RUNNING || status == CONTAINER_CREATED
                           : status == CONTAINER_PAUSED;
        ok = fits ? cgroups_freeze(&s.cgroups, freeze, err)
                  : error_set(err, "container %s: is %s; only a %s one can be %s", id,
                              container_status_name(status), freeze ? "running" : "paused",
                              freeze ? "paused" : "resumed");
    }
    state_free(&s);
    return ok;
}

bool container_update(const char *id, const struct container_options *o, json_t *resources,
                      struct error *err)
{
    struct state s;
    struct arena arena = {0};
    struct cgroup_plan plan = {0};
    struct field at = {.json = resources, .name = "resources"};
    bool ok = state_load(&s, o->root, id, err);
    if (ok && state_status(&s) == CONTAINER_STOPPED)
        ok = error_set(err, "container %s: is stopped; only a running one can be updated", id);
    ok = ok && cgroup_plan_read(&at, cgroups_are_v2(&s.cgroups), &arena, &plan, err) &&
         cgroup_plan_apply(&plan, &s.cgroups, container_is_rootless(o), err) &&
         scope_update(&s.scope, &plan, err);
    arena_free(&arena);
    state_free(&s);
    return ok;
}

json_t *container_stats(const char *id, const struct container_options *o, struct error *err)
{
    struct state s;
    json_t *json = NULL;
    if (state_load(&s, o->root, id, err)) {
        if (state_status(&s) == CONTAINER_STOPPED)
            error_set(err, "container %s: is stopped; only a running one has statistics", id);
        else
            json = cgroups_stats(&s.cgroups);
    }
    state_free(&s);
    return json;
}

json_t *container_processes(const char *id, const struct container_options *o, struct error *err)
{
    struct state s;
    pid_t *pids = NULL;
    size_t count = 0;
    json_t *list = NULL;
    if (state_load(&s, o->root, id, err) && cgroups_pids(&s.cgroups, &pids, &count, err)) {
        list = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(list, json_integer(pids[i]));
    }
    free(pids);
    state_free(&s);
    return list;
}

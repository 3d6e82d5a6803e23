/*
 * doppel container run: from what was asked for to a monitor with a bundle.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "container/front/bundle.h"
#include "container/front/monitor.h"
#include "container/front/root.h"
#include "container/front/rootless.h"
#include "container/image/tree.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct run {
    const struct front *f;
    const struct front_options *o;
    struct front_record record;
    struct root root;
    struct strings args;
    int folder;
    struct log_file log;
    int tell; /* detached: where the one who waits learns that it runs; -1 */
};

/* ------------------------------------------------------------------------------------------- *
 * Its name and folder
 * ------------------------------------------------------------------------------------------- */

static bool name_valid(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    size_t n = strlen(name);
    return n > 0 && n <= FRONT_NAME_MAX && strchr(letters, name[0]) &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == n;
}

static bool make_folder(struct run *r, struct error *err)
{
    char *name = r->record.name;
    if (r->o->name && !name_valid(r->o->name))
        return error_usage(err,
                           "--name %.80s: not a name; use 1 to %d of A-Z a-z 0-9 _ . - and "
                           "begin with a letter or digit",
                           r->o->name, FRONT_NAME_MAX);
    if (r->o->name) {
        snprintf(name, FRONT_NAME_MAX + 1, "%s", r->o->name);
    } else {
        uint8_t random[6];
        if (getrandom(random, sizeof random, 0) != sizeof random)
            return error_errno(err, "random numbers");
        for (size_t i = 0; i < sizeof random; i++)
            snprintf(name + 2 * i, 3, "%02x", random[i]);
    }
    if (mkdirat(r->f->containers, name, 0700) != 0) {
        bool taken = errno == EEXIST;
        if (taken)
            error_set(err,
                      "%s: there is a container of that name; use another, or remove it with "
                      "`doppel container rm %s`",
                      name, name);
        else
            error_errno(err, "%s: its folder can't be made", name);
        name[0] = 0; /* so that nobody removes it as ours */
        return false;
    }
    r->folder = openat(r->f->containers, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (r->folder >= 0 && log_open(&r->log, r->folder, r->o->log_limit)) ||
           error_errno(err, "%s: its folder", name);
}

/* ------------------------------------------------------------------------------------------- *
 * What it runs
 * ------------------------------------------------------------------------------------------- */

static bool choose_args(struct run *r, struct error *err)
{
    const struct front_options *o = r->o;
    const struct image_config *c = &r->root.config;
    bool ok = true;
    if (o->entrypoint)
        ok = !*o->entrypoint || strings_add(&r->args, o->entrypoint, err);
    else
        ok = strings_copy(&r->args, &c->entrypoint, err);
    for (char **a = o->command; ok && *a; a++)
        ok = strings_add(&r->args, *a, err);
    if (ok && !*o->command && !o->entrypoint)
        ok = strings_copy(&r->args, &c->command, err);
    if (ok && r->args.count == 0)
        return error_usage(err, "command: missing, and the image names none; write it behind --");
    return ok;
}

static bool choose_env(struct run *r, struct error *err)
{
    struct strings *env = &r->record.env;
    bool ok = strings_copy(env, &r->root.config.env, err);
    if (ok && !bundle_env_has(env, "PATH"))
        ok = strings_add(env, DEFAULT_PATH, err);
    if (ok && r->record.tty && !bundle_env_has(env, "TERM")) {
        char term[80];
        snprintf(term, sizeof term, "TERM=%.64s", getenv("TERM") ? getenv("TERM") : "xterm");
        ok = strings_add(env, term, err);
    }
    for (unsigned i = 0; ok && i < r->o->env.count; i++) {
        const char *item = r->o->env.items[i], *value;
        char *inherited = NULL;
        if (strchr(item, '='))
            ok = bundle_env_set(env, item, err);
        else if ((value = getenv(item)) && asprintf(&inherited, "%s=%s", item, value) >= 0)
            ok = bundle_env_set(env, inherited, err);
        free(inherited);
    }
    return ok;
}

static char *join(const struct strings *args)
{
    size_t n = 1;
    for (unsigned i = 0; i < args->count; i++)
        n += strlen(args->items[i]) + 1;
    char *text = calloc(n, 1), *p = text;
    for (unsigned i = 0; text && i < args->count; i++)
        p += sprintf(p, "%s%s", i ? " " : "", args->items[i]);
    return text;
}

static const char *first_of(const char *a, const char *b, const char *c)
{
    return a && *a ? a : b && *b ? b : c;
}

static bool fill_record(struct run *r, struct error *err)
{
    struct front_record *record = &r->record;
    const struct image_config *c = &r->root.config;
    bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && !r->o->detach;
    record->tty = r->o->tty == FRONT_TTY_YES || (r->o->tty == FRONT_TTY_AUTO && terminal);
    record->remove = r->o->remove;
    record->created = time(NULL);
    record->stop_signal = c->stop_signal ? front_signal(c->stop_signal) : SIGTERM;
    if (!record->stop_signal)
        record->stop_signal = SIGTERM;
    if (!choose_args(r, err) || !choose_env(r, err) ||
        !strings_copy(&record->layers, &r->root.layers, err))
        return false;
    record->image = strdup(r->o->image);
    record->command = join(&r->args);
    record->user = strdup(first_of(r->o->user, c->user, ""));
    record->cwd = strdup(first_of(r->o->workdir, c->workdir, "/"));
    if (!record->image || !record->command || !record->user || !record->cwd)
        return error_set(err, "%s: no memory left for its record", record->name);
    if (record->cwd[0] != '/')
        return error_usage(err, "--workdir %.200s: not absolute; begin it with /", record->cwd);
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * The monitor
 * ------------------------------------------------------------------------------------------- */

static bool write_bundle(struct run *r, struct error *err)
{
    struct bundle b = {
        .name = r->record.name,
        .rootfs = r->root.path,
        .args = r->args.items,
        .env = &r->record.env,
        .cwd = r->record.cwd,
        .hostname = r->o->hostname ? r->o->hostname : r->record.name,
        .tty = r->record.tty,
        .read_only = r->o->read_only,
        .rootless = r->f->rootless,
        .bind_resolver = r->root.is_image,
        .options = r->o,
    };
    int root = open(r->root.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_errno(err, "%.200s", r->root.path);
    bool ok = user_find(root, r->record.user, &b.user, err);
    if (ok && !rootless_has_ids(b.user.uid, b.user.gid))
        ok = error_set(err,
                       "--user %.80s: user %u or group %u is not among ours; use --user 0, or "
                       "have the administrator grant more in /etc/subuid and /etc/subgid",
                       r->record.user, b.user.uid, b.user.gid);
    if (ok && !rootless_may_set_groups())
        b.user.group_count = 0;
    if (ok && r->root.is_image) {
        int cwd = tree_make_folders(root, r->record.cwd, err);
        ok = cwd >= 0;
        if (ok)
            close(cwd);
    }
    close(root);
    char home[300];
    snprintf(home, sizeof home, "HOME=%s", b.user.home);
    if (ok && !bundle_env_has(&r->record.env, "HOME"))
        ok = strings_add(&r->record.env, home, err);
    return ok && bundle_write(r->folder, &b, err);
}

static void say_started(void *ctx)
{
    struct run *r = ctx;
    if (r->tell >= 0) {
        if (write(r->tell, "+", 1) != 1)
            return;
        close(r->tell);
        r->tell = -1;
    }
}

/* The process that stays: foreground, ours; detached, a child. */
static bool be_monitor(struct run *r, struct error *err)
{
    struct monitor m = {r->f,    &r->record,    r->folder,
                        &r->log, !r->o->detach, strcmp(r->o->network, "user") == 0};
    r->record.monitor = record_process(getpid());
    if (!root_mount(&r->root, r->f, r->record.name, r->folder, err) || !write_bundle(r, err) ||
        !record_save(r->folder, &r->record, err))
        return false;
    root_recorded(&r->root);
    if (r->o->detach && chdir("/") != 0) /* it would hold the caller's file system */
        return error_errno(err, "/");
    return monitor_run(&m, say_started, r, err);
}

static void clean_up(struct run *r, bool ran)
{
    struct error quiet = {0};
    root_unmount(&r->root);
    if (r->record.name[0] && (!ran || r->o->remove))
        tree_remove(r->f->containers, r->record.name, &quiet);
}

static void free_run(struct run *r)
{
    root_free(&r->root);
    record_free(&r->record);
    strings_free(&r->args);
    if (r->folder >= 0)
        close(r->folder);
    log_close(&r->log);
}

/* In the child: no terminal, nothing of the caller's held open. */
static bool detach_files(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || setsid() < 0)
        return false;
    for (int i = 0; i < 3; i++)
        if (dup2(null, i) < 0)
            return false;
    return true;
}

static void __attribute__((noreturn)) detached(struct run *r, int tell)
{
    struct error err = {0};
    r->tell = tell;
    bool ok = detach_files() ? be_monitor(r, &err) : error_errno(&err, "%s", r->record.name);
    clean_up(r, ok);
    if (!ok && r->tell >= 0)
        if (write(r->tell, err.text, strlen(err.text)) < 0)
            _exit(1);
    _exit(!ok);
}

/* Waits until the child says "+", or why not. */
static bool wait_for_start(struct run *r, int from, pid_t child, struct error *err)
{
    size_t size;
    char *text = tree_read_all(from, sizeof err->text, &size, r->record.name, err);
    bool ok = text && strcmp(text, "+") == 0;
    if (text && !ok) {
        waitpid(child, NULL, 0);
        if (size)
            error_set(err, "%s", text);
        else
            error_set(err, "%s: its monitor ended; see the kernel's log for why", r->record.name);
    }
    free(text);
    return ok;
}

static bool run_detached(struct run *r, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_errno(err, "%s", r->record.name);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        detached(r, ends[1]);
    }
    close(ends[1]);
    bool ok = child > 0 ? wait_for_start(r, ends[0], child, err)
                        : error_errno(err, "%s: no process for it", r->record.name);
    close(ends[0]);
    if (child < 0)
        clean_up(r, false);
    return ok;
}

bool front_run(const struct front *f, const struct front_options *o, char name[FRONT_NAME_MAX + 1],
               int *status, struct error *err)
{
    struct run r = {.f = f, .o = o, .folder = -1, .log.fd = -1, .tell = -1, .root = ROOT_NONE};
    bool ok = root_prepare(&r.root, f, o, err) && make_folder(&r, err) && fill_record(&r, err);
    if (ok && o->detach) {
        ok = run_detached(&r, err);
    } else {
        ok = ok && be_monitor(&r, err);
        clean_up(&r, ok);
    }
    snprintf(name, FRONT_NAME_MAX + 1, "%s", r.record.name);
    *status = r.record.exit_status;
    free_run(&r);
    return ok;
}

/*
 * doppel container exec: another process in a container that runs.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "container/front/bundle.h"
#include "container/front/record.h"
#include "container/front/rootless.h"
#include "container/front/runtime.h"

static bool exec_env(struct front_record *r, const struct front_options *o, struct error *err)
{
    for (unsigned i = 0; i < o->env.count; i++)
        if (strchr(o->env.items[i], '=') && !bundle_env_set(&r->env, o->env.items[i], err))
            return false;
    return true;
}

/* The user as the container's files name it now. */
static bool exec_user(const struct front_record *r, const struct front_options *o, struct user *u,
                      struct error *err)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/root", (int)r->init.pid);
    int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        return error_errno(err, "%s: its file system", r->name);
    bool ok = user_find(root, o->user ? o->user : r->user, u, err);
    close(root);
    return ok;
}

/* The file that describes the process, without a name: nothing to clean up. */
static int process_file(const struct bundle *b, struct error *err)
{
    json_t *process = bundle_process(b, err);
    char *text = process ? json_dumps(process, 0) : NULL;
    json_decref(process);
    if (!text)
        return -1;
    int fd = memfd_create("process", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
        error_errno(err, "%s: a file for its process", b->name);
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    free(text);
    return fd;
}

static bool become(const struct front *f, struct front_record *r, const struct front_options *o,
                   struct error *err)
{
    struct bundle b = {
        .name = r->name,
        .args = o->command,
        .env = &r->env,
        .cwd = o->workdir ? o->workdir : r->cwd,
        .tty = o->tty == FRONT_TTY_YES ||
               (o->tty == FRONT_TTY_AUTO && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)),
        .options = o,
    };
    if (!exec_env(r, o, err) || !exec_user(r, o, &b.user, err))
        return false;
    if (!rootless_may_set_groups())
        b.user.group_count = 0;
    int fd = process_file(&b, err);
    if (fd < 0)
        return false;
    char path[40];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct runtime_call call = {f, -1, {"exec", "--process", path, r->name}, {-1, -1, -1}};
    return runtime_become(&call, fd, err);
}

bool front_exec(const struct front *f, const char *name, const struct front_options *o,
                struct error *err)
{
    struct front_record r;
    if (!record_load(f, name, &r, err))
        return false;
    bool ok = record_process_alive(&r.init) && r.state == RECORD_RUNNING;
    if (!ok)
        error_set(err, "%s: it does not run; start one with `doppel container run`", name);
    ok = ok && rootless_join(f, &r, err) && become(f, &r, o, err);
    record_free(&r);
    return ok;
}

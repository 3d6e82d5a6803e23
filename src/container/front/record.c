#include "container/front/record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/image/tree.h"

enum { RECORD_MAX = 4 << 20 };

static const char *const states[] = {"created", "running", "exited"};

const char *record_state_name(enum record_state s)
{
    return states[s];
}

/* ------------------------------------------------------------------------------------------- *
 * Processes
 * ------------------------------------------------------------------------------------------- */

static struct record_process look(pid_t pid, char *state)
{
    struct record_process p = {0};
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return p;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return p;
    text[n] = 0;
    /* Field 22 (proc(5)); the second one, the name, may hold anything but ends at the last ')'. */
    const char *field = strrchr(text, ')');
    *state = field && field[1] ? field[2] : 0;
    for (int i = 2; field && i < 22; i++)
        field = strchr(field + 1, ' ');
    if (!field)
        return p;
    p.pid = pid;
    p.start = strtoull(field + 1, NULL, 10);
    return p;
}

struct record_process record_process(pid_t pid)
{
    char state;
    return look(pid, &state);
}

bool record_process_alive(const struct record_process *p)
{
    char state = 0;
    struct record_process now = look(p->pid, &state);
    /* One that nobody has waited for yet has ended all the same. */
    return p->pid && now.pid && now.start == p->start && state != 'Z' && state != 'X';
}

int record_process_open(const struct record_process *p)
{
    int fd = p->pid ? (int)syscall(SYS_pidfd_open, p->pid, 0) : -1;
    if (fd >= 0 && !record_process_alive(p)) { /* the number was taken again before we had it */
        close(fd);
        fd = -1;
    }
    return fd;
}

/* ------------------------------------------------------------------------------------------- *
 * The file
 * ------------------------------------------------------------------------------------------- */

static json_t *list_to_json(const struct strings *l)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < l->count; i++)
        json_array_append_new(array, json_string_nocheck(l->items[i]));
    return array;
}

static json_t *process_to_json(const struct record_process *p)
{
    return json_pack("{s:I, s:I}", "pid", (json_int_t)p->pid, "start", (json_int_t)p->start);
}

static json_t *to_json(const struct front_record *r)
{
    return json_pack(
        "{s:s, s:s, s:s, s:s?, s:s?, s:o, s:o, s:I, s:I, s:i, s:i, s:b, s:b, s:s, s:o, s:o, s:s}",
        "name", r->name, "image", r->image, "command", r->command, "user", r->user, "cwd", r->cwd,
        "env", list_to_json(&r->env), "layers", list_to_json(&r->layers), "created",
        (json_int_t)r->created, "ended", (json_int_t)r->ended, "stop_signal", r->stop_signal,
        "exit_status", r->exit_status, "tty", r->tty, "remove", r->remove, "state",
        states[r->state], "init", process_to_json(&r->init), "monitor",
        process_to_json(&r->monitor), "error", r->error);
}

bool record_save(int folder, const struct front_record *r, struct error *err)
{
    json_t *json = to_json(r);
    char *text = json ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    if (!text)
        return error_set(err,
                         "%s: its record can't be put in JSON; names and commands in a record "
                         "are UTF-8",
                         r->name);
    bool ok = tree_write(folder, "record.json", text, strlen(text), 0600, err);
    free(text);
    return ok;
}

static bool list_from_json(struct strings *l, json_t *array, struct error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(array, i,
                       item) if (!strings_add(l, json_string_value(item), err)) return false;
    return true;
}

static char *copy_string(json_t *json)
{
    return json_is_string(json) ? strdup(json_string_value(json)) : NULL;
}

static bool process_from_json(struct record_process *p, json_t *json)
{
    p->pid = (pid_t)json_integer_value(json_object_get(json, "pid"));
    p->start = (uint64_t)json_integer_value(json_object_get(json, "start"));
    return true;
}

static bool from_json(struct front_record *r, json_t *json, struct error *err)
{
    const char *name = NULL, *state = NULL, *error = NULL;
    json_int_t created, ended;
    int tty, removed;
    if (json_unpack(json, "{s:s, s:I, s:I, s:i, s:i, s:b, s:b, s:s, s:s}", "name", &name, "created",
                    &created, "ended", &ended, "stop_signal", &r->stop_signal, "exit_status",
                    &r->exit_status, "tty", &tty, "remove", &removed, "state", &state, "error",
                    &error) != 0)
        return error_set(err, "%s: its record is damaged; remove it with `rm --force`", r->name);
    r->created = created;
    r->ended = ended;
    r->tty = tty;
    r->remove = removed;
    snprintf(r->error, sizeof r->error, "%s", error);
    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        if (strcmp(states[i], state) == 0)
            r->state = (enum record_state)i;
    r->image = copy_string(json_object_get(json, "image"));
    r->command = copy_string(json_object_get(json, "command"));
    r->user = copy_string(json_object_get(json, "user"));
    r->cwd = copy_string(json_object_get(json, "cwd"));
    process_from_json(&r->init, json_object_get(json, "init"));
    process_from_json(&r->monitor, json_object_get(json, "monitor"));
    return list_from_json(&r->env, json_object_get(json, "env"), err) &&
           list_from_json(&r->layers, json_object_get(json, "layers"), err);
}

int record_folder(const struct front *f, const char *name, struct error *err)
{
    int fd = -1;
    if (*name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
        fd = openat(f->containers, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        error_set(err, "%.80s: there is no such container; see `doppel container ps --all`", name);
    return fd;
}

bool record_load(const struct front *f, const char *name, struct front_record *r, struct error *err)
{
    *r = (struct front_record){0};
    int folder = record_folder(f, name, err);
    if (folder < 0)
        return false;
    size_t size;
    snprintf(r->name, sizeof r->name, "%s", name);
    char *text = tree_read(folder, "record.json", RECORD_MAX, &size, name, err);
    close(folder);
    if (!text)
        return false;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    bool ok = from_json(r, json, err);
    json_decref(json);
    if (!ok) {
        record_free(r);
        return false;
    }
    /* Its monitor was killed: nobody wrote down how it ended. */
    if (r->state != RECORD_EXITED && !record_process_alive(&r->init) &&
        !record_process_alive(&r->monitor)) {
        r->state = RECORD_EXITED;
        r->exit_status = 255;
        r->lost = true;
    }
    return true;
}

void record_free(struct front_record *r)
{
    free(r->image);
    free(r->command);
    free(r->user);
    free(r->cwd);
    strings_free(&r->env);
    strings_free(&r->layers);
    *r = (struct front_record){0};
}

#include "container/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "container/field.h"
#include "container/path.h"
#include "container/process.h"

const char *container_status_name(enum container_status status)
{
    static const char *const names[] = {"creating", "created", "running", "paused", "stopped"};
    return names[status];
}

bool state_id_valid(const char *id, struct error *err)
{
    size_t length = strlen(id);
    for (const char *c = id; *c; c++)
        if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9') &&
            !strchr("_+-.", *c))
            length = 0;
    if (length == 0 || length > 255 || strcmp(id, ".") == 0 || strcmp(id, "..") == 0)
        return error_set(err, "container id: up to 255 letters, digits and _+-. are allowed; "
                              "choose another");
    return true;
}

const char *state_file(const struct state *s, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", s->folder, name);
    return path;
}

static bool begin(struct state *s, const char *root, const char *id, struct error *err)
{
    memset(s, 0, sizeof *s);
    if (!state_id_valid(id, err))
        return false;
    s->id = strdup(id);
    if (asprintf(&s->folder, "%s/%s", root, id) < 0)
        s->folder = NULL;
    return (s->id && s->folder) || error_set(err, "state: no memory; free some");
}

static char *now_text(void)
{
    struct timespec now;
    struct tm tm;
    char text[64], *out = NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    return asprintf(&out, "%s.%09ldZ", text, now.tv_nsec) < 0 ? NULL : out;
}

bool state_make(struct state *s, const char *root, const char *id, struct error *err)
{
    if (!begin(s, root, id, err))
        return false;
    int made = mkdir(s->folder, 0711);
    if (made < 0 && errno == ENOENT) {
        if (!path_make_host(root, 0711, err))
            return false;
        made = mkdir(s->folder, 0711);
    }
    if (made < 0 && errno == EEXIST)
        error_set(err, "container %s: there is one with this id already; choose another", id);
    else if (made < 0)
        error_errno(err, "%s: can't be made; --root chooses another place", s->folder);
    if (made < 0) {
        free(s->folder);
        s->folder = NULL; /* not ours to remove */
        return false;
    }
    s->owner = geteuid();
    s->created = now_text();
    return s->created || error_set(err, "state: no memory; free some");
}

static bool write_new(const char *path, const char *text, size_t length, struct error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text, length) == (ssize_t)length;
    if (!ok)
        error_errno(err, "%s: can't be written", path);
    if (fd >= 0)
        close(fd);
    return ok;
}

bool state_save(const struct state *s, struct error *err)
{
    char path[PATH_MAX];
    const char *unit = s->scope.unit[0] ? s->scope.unit : NULL;
    json_t *json =
        json_pack("{s:s,s:s*,s:s*,s:s*,s:s,s:i,s:o,s:O*,s:s*,s:b}", "id", s->id, "bundle",
                  s->bundle, "rootfs", s->rootfs, "ociVersion", s->version, "created", s->created,
                  "owner", (int)s->owner, "cgroups", cgroups_save(&s->cgroups), "annotations",
                  s->annotations, "scope", unit, "user", (int)s->scope.user);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!text)
        return error_set(err, "state: no memory; free some");
    state_file(s, "state.json", path, sizeof path);
    bool ok = write_new(path, text, strlen(text), err);
    free(text);
    return ok;
}

bool state_save_process(const struct state *s, struct error *err)
{
    char path[PATH_MAX], temporary[PATH_MAX], text[64];
    int n =
        snprintf(text, sizeof text, "%d %llu\n", (int)s->pid, (unsigned long long)s->start_time);
    state_file(s, "process", path, sizeof path);
    state_file(s, ".process", temporary, sizeof temporary);
    if (!write_new(temporary, text, (size_t)n, err))
        return false;
    return rename(temporary, path) == 0 || error_errno(err, "%s: can't be written", path);
}

static void load_process(struct state *s)
{
    char path[PATH_MAX];
    FILE *file = fopen(state_file(s, "process", path, sizeof path), "re");
    int pid = 0;
    unsigned long long start_time = 0;
    if (file && fscanf(file, "%d %llu", &pid, &start_time) == 2) {
        s->pid = (pid_t)pid;
        s->start_time = start_time;
    }
    if (file)
        fclose(file);
}

static char *copy_string(json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text ? strdup(text) : NULL;
}

bool state_load(struct state *s, const char *root, const char *id, struct error *err)
{
    char path[PATH_MAX];
    if (!begin(s, root, id, err))
        return false;
    if (access(s->folder, F_OK) < 0) {
        if (errno == ENOENT)
            return error_set(err, "container %s does not exist; `list` names those that do", id);
        return error_errno(err, "%s: can't be looked at", s->folder);
    }
    state_file(s, "state.json", path, sizeof path);
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return true; /* whoever made the folder was killed right then */
    json_t *json = field_load(path, "state.json", err);
    if (!json)
        return false;
    s->bundle = copy_string(json, "bundle");
    s->rootfs = copy_string(json, "rootfs");
    s->version = copy_string(json, "ociVersion");
    s->created = copy_string(json, "created");
    load_process(s);
    s->owner = (uid_t)json_integer_value(json_object_get(json, "owner"));
    s->annotations = json_incref(json_object_get(json, "annotations"));
    const char *unit = json_string_value(json_object_get(json, "scope"));
    snprintf(s->scope.unit, sizeof s->scope.unit, "%s", unit ? unit : "");
    s->scope.user = json_is_true(json_object_get(json, "user"));
    bool ok = cgroups_restore(&s->cgroups, json_object_get(json, "cgroups"), err);
    json_decref(json);
    return ok;
}

bool state_remove(const struct state *s, struct error *err)
{
    static const char *const names[] = {"start.sock", "starting", "config.json",
                                        ".process",   "process",  "state.json"};
    char path[PATH_MAX];
    if (!s->folder)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(state_file(s, names[i], path, sizeof path));
    return rmdir(s->folder) == 0 || errno == ENOENT ||
           error_errno(err, "%s: can't be removed", s->folder);
}

void state_free(struct state *s)
{
    free(s->folder);
    free(s->id);
    free(s->bundle);
    free(s->rootfs);
    free(s->version);
    free(s->created);
    json_decref(s->annotations);
    cgroups_free(&s->cgroups);
    memset(s, 0, sizeof *s);
}

enum container_status state_status(const struct state *s)
{
    char path[PATH_MAX];
    if (s->pid == 0)
        return s->bundle ? CONTAINER_CREATING : CONTAINER_STOPPED;
    if (process_start_time(s->pid) != s->start_time || s->start_time == 0)
        return CONTAINER_STOPPED;
    if (cgroups_frozen(&s->cgroups))
        return CONTAINER_PAUSED;
    if (access(state_file(s, "start.sock", path, sizeof path), F_OK) == 0)
        return CONTAINER_CREATED;
    return CONTAINER_RUNNING;
}

json_t *state_json(const struct state *s, enum container_status status)
{
    json_t *json =
        json_pack("{s:s,s:s,s:s,s:s*}", "ociVersion", s->version ? s->version : "1.1.0", "id",
                  s->id, "status", container_status_name(status), "bundle", s->bundle);
    /* A stopped container's number may be another process's by now. */
    if (status != CONTAINER_STOPPED && s->pid)
        json_object_set_new(json, "pid", json_integer(s->pid));
    if (s->annotations)
        json_object_set(json, "annotations", s->annotations);
    return json;
}

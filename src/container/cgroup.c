/* Where the hierarchies are, and a container's folders in them. */
#include "container/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "container/cgroup_tree.h"

/* ---- finding ---- */

static char *read_whole(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return NULL;
    if (getdelim(&text, &size, 0, file) < 0 && text)
        text[0] = 0;
    fclose(file);
    return text;
}

/* The controllers of a version 1 mount are among its file system's options. */
static void read_controllers(const char *options, char *out, size_t size)
{
    static const char *const not_controllers[] = {"rw",           "ro",
                                                  "xattr",        "clone_children",
                                                  "noprefix",     "cpuset_v2_mode",
                                                  "favordynmods", "nofavordynmods"};
    size_t used = 0;
    out[0] = 0;
    for (const char *at = options; *at;) {
        size_t length = strcspn(at, ",\n");
        bool is_controller = strncmp(at, "release_agent=", 14) != 0;
        for (size_t i = 0; i < sizeof not_controllers / sizeof *not_controllers; i++)
            if (strlen(not_controllers[i]) == length && !strncmp(at, not_controllers[i], length))
                is_controller = false;
        if (is_controller && used + length + 2 < size)
            used += (size_t)snprintf(out + used, size - used, "%s%.*s", used ? "," : "",
                                     (int)length, at);
        at += length;
        at += *at == ',' || *at == '\n';
    }
}

/* A line of mountinfo: ID PARENT MAJOR:MINOR ROOT MOUNT OPTIONS TAGS... - TYPE SOURCE OPTIONS. */
static bool add_mount(struct cgroups *g, char *line, char **root)
{
    char *dash = strstr(line, " - cgroup");
    if (!dash || g->count == CGROUP_MAX_HIERARCHIES)
        return false;
    char *save = NULL, *words[6];
    *dash = 0;
    for (int i = 0; i < 6; i++)
        if (!(words[i] = strtok_r(i ? NULL : line, " ", &save)))
            return false;
    char *type = strtok_r(dash + 3, " ", &save);
    strtok_r(NULL, " ", &save);
    char *options = strtok_r(NULL, " ", &save);
    struct cgroup_hierarchy *h = &g->list[g->count];
    memset(h, 0, sizeof *h);
    h->unified = type && strcmp(type, "cgroup2") == 0;
    if (!options || strlen(words[4]) >= sizeof h->mount)
        return false;
    strcpy(h->mount, words[4]);
    if (!h->unified)
        read_controllers(options, h->controllers, sizeof h->controllers);
    for (size_t i = 0; i < g->count; i++) /* mounted twice: the first will do */
        if (g->list[i].unified == h->unified && strcmp(g->list[i].controllers, h->controllers) == 0)
            return false;
    *root = words[3];
    return true;
}

/* Our own folder: /proc/self/cgroup says where from the hierarchy's root, the mount may show only
 * a part of it. */
static char *own_folder(const char *self, const struct cgroup_hierarchy *h, const char *root)
{
    for (const char *line = self; line && *line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *names = strchr(line, ':');
        const char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            break;
        size_t length = (size_t)(path - names - 1);
        if (length != strlen(h->controllers) || strncmp(names + 1, h->controllers, length) != 0)
            continue;
        path++;
        size_t skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
        if (strncmp(path, root, skip) != 0 || strncmp(path, "/..", 3) == 0)
            return strdup("");
        path += skip;
        size_t end = strcspn(path, "\n");
        while (end > 0 && path[end - 1] == '/')
            end--;
        return strndup(path, end);
    }
    return strdup("");
}

bool cgroups_find(struct cgroups *g, struct error *err)
{
    g->count = 0;
    char *mounts = read_whole("/proc/self/mountinfo"), *self = read_whole("/proc/self/cgroup");
    if (!mounts || !self) {
        free(mounts);
        free(self);
        return error_set(err, "/proc: can't be read; mount it");
    }
    char *save = NULL, *root = NULL;
    bool ok = true;
    for (char *line = strtok_r(mounts, "\n", &save); line && ok; line = strtok_r(NULL, "\n", &save))
        if (add_mount(g, line, &root)) {
            struct cgroup_hierarchy *h = &g->list[g->count++];
            h->own = own_folder(self, h, root);
            ok = h->own != NULL;
        }
    free(mounts);
    free(self);
    return ok || error_set(err, "cgroups: no memory; free some");
}

void cgroups_free(struct cgroups *g)
{
    for (size_t i = 0; i < g->count; i++) {
        free(g->list[i].own);
        free(g->list[i].folder);
    }
    g->count = 0;
}

bool cgroups_are_v2(const struct cgroups *g)
{
    return g->count == 1 && g->list[0].unified;
}

/* ---- choosing ---- */

bool cgroups_choose(struct cgroups *g, const char *path, const char *id, struct error *err)
{
    if (!path || !*path)
        path = id;
    if (strlen(path) > 2000)
        return error_set(err, "config.json: linux.cgroupsPath: too long; shorten it");
    for (const char *at = path; (at = strstr(at, "..")); at += 2)
        if ((at == path || at[-1] == '/') && (at[2] == '/' || !at[2]))
            return error_set(err, "config.json: linux.cgroupsPath: has \"..\" in it; remove it");
    for (size_t i = 0; i < g->count; i++) {
        struct cgroup_hierarchy *h = &g->list[i];
        const char *own = path[0] == '/' ? "" : h->own;
        if (asprintf(&h->folder, "%s%s%s%s", h->mount, own, path[0] == '/' ? "" : "/", path) < 0) {
            h->folder = NULL;
            return error_set(err, "cgroups: no memory; free some");
        }
    }
    return true;
}

/* ---- making ---- */

static bool read_file(const char *folder, const char *file, char *text, size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    int saved = errno;
    close(fd);
    errno = saved;
    text[n < 0 ? 0 : n] = 0;
    return n >= 0;
}

static bool write_file(const char *folder, const char *file, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    int saved = errno;
    close(fd);
    errno = saved;
    return ok;
}

bool cgroup_read(const struct cgroup_hierarchy *h, const char *file, char *text, size_t size)
{
    text[0] = 0;
    return h && h->folder && read_file(h->folder, file, text, size);
}

bool cgroup_write(const struct cgroup_hierarchy *h, const char *file, const char *text)
{
    return h && h->folder && write_file(h->folder, file, text);
}

/* A new cpuset of version 1 is empty, and takes no tasks until it has processors and memory. */
static void fill_cpuset(const char *parent, const char *folder)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    char text[4096];
    for (int i = 0; i < 2; i++)
        if (read_file(folder, files[i], text, sizeof text) && (!text[0] || text[0] == '\n') &&
            read_file(parent, files[i], text, sizeof text))
            write_file(folder, files[i], text);
}

static bool has_word(const char *list, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || strchr(", ", at[-1])) && (!at[length] || strchr(", \n", at[length])))
            return true;
    return false;
}

/* In version 2 a folder has the controllers that those above pass down. To say again what is so
 * already makes the kernel wait until all cgroups that were removed a moment ago are gone. */
static void pass_down(const char *folder)
{
    char text[512], already[512], *save = NULL;
    if (!read_file(folder, "cgroup.controllers", text, sizeof text) ||
        !read_file(folder, "cgroup.subtree_control", already, sizeof already))
        return;
    for (char *name = strtok_r(text, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
        char word[64];
        if (has_word(already, name))
            continue;
        snprintf(word, sizeof word, "+%s", name);
        write_file(folder, "cgroup.subtree_control", word);
    }
}

static bool make_folder(const struct cgroup_hierarchy *h)
{
    char parent[PATH_MAX], path[PATH_MAX];
    size_t start = strlen(h->mount), length = strlen(h->folder);
    bool cpuset = strstr(h->controllers, "cpuset") != NULL;
    if (!h->unified && !cpuset && (mkdir(h->folder, 0755) == 0 || errno == EEXIST))
        return true;
    if (length >= sizeof path)
        return false;
    snprintf(parent, sizeof parent, "%s", h->mount);
    for (size_t i = start + 1; i <= length; i++) {
        if (h->folder[i] != '/' && h->folder[i] != 0)
            continue;
        memcpy(path, h->folder, i);
        path[i] = 0;
        if (h->unified)
            pass_down(parent);
        if (mkdir(path, 0755) < 0 && errno != EEXIST)
            return false;
        if (cpuset)
            fill_cpuset(parent, path);
        memcpy(parent, path, i + 1);
    }
    return true;
}

bool cgroups_make(struct cgroups *g, bool may_fail, struct error *err)
{
    for (size_t i = 0; i < g->count; i++) {
        struct cgroup_hierarchy *h = &g->list[i];
        if (make_folder(h))
            continue;
        bool refused = errno == EACCES || errno == EPERM || errno == EROFS;
        if (!refused || !may_fail)
            return error_errno(err, "cgroup %s: can't be made", h->folder);
        free(h->folder);
        h->folder = NULL;
    }
    return true;
}

/* ---- entering ---- */

bool cgroups_open(const struct cgroups *g, struct cgroup_doors *doors, struct error *err)
{
    char path[PATH_MAX];
    doors->unified = -1;
    doors->count = 0;
    for (size_t i = 0; i < g->count; i++) {
        const struct cgroup_hierarchy *h = &g->list[i];
        if (!h->folder)
            continue;
        int fd;
        if (h->unified) {
            fd = doors->unified = open(h->folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
        } else {
            snprintf(path, sizeof path, "%s/tasks", h->folder);
            fd = open(path, O_WRONLY | O_CLOEXEC);
            if (fd >= 0)
                doors->tasks[doors->count++] = fd;
        }
        if (fd < 0) {
            error_errno(err, "cgroup %s: can't be opened", h->folder);
            cgroups_close(doors);
            return false;
        }
    }
    return true;
}

/* The caller has one thread. To write 0 to the list of tasks moves just that thread, for which the
 * kernel need not wait until every processor has seen that a whole process is on the move: that
 * wait is milliseconds, per container. */
bool cgroups_enter(const struct cgroup_doors *doors, struct error *err)
{
    for (size_t i = 0; i < doors->count; i++)
        if (write(doors->tasks[i], "0", 1) != 1)
            return error_errno(err, "cgroup: can't be entered");
    return true;
}

void cgroups_close(struct cgroup_doors *doors)
{
    if (doors->unified >= 0)
        close(doors->unified);
    for (size_t i = 0; i < doors->count; i++)
        close(doors->tasks[i]);
    doors->unified = -1;
    doors->count = 0;
}

/* ---- removing ---- */

/* From the innermost outwards. */
static bool remove_tree(const char *folder)
{
    struct cgroup_tree tree;
    bool ok = true;
    if (!cgroup_tree_read(&tree, folder))
        return errno == ENOENT;
    for (size_t i = tree.count; i-- > 1;) {
        int parent = cgroup_tree_open(&tree, tree.nodes[i].parent);
        ok = ok && ((parent >= 0 && unlinkat(parent, tree.nodes[i].name, AT_REMOVEDIR) == 0) ||
                    errno == ENOENT);
        if (parent >= 0)
            close(parent);
    }
    cgroup_tree_free(&tree);
    if (!ok)
        errno = EBUSY;
    return ok && (rmdir(folder) == 0 || errno == ENOENT);
}

static bool remove_folder(const char *folder)
{
    if (rmdir(folder) == 0 || errno == ENOENT)
        return true;
    return (errno == EBUSY || errno == ENOTEMPTY) && remove_tree(folder);
}

bool cgroups_try_remove(const struct cgroups *g)
{
    bool ok = true;
    for (size_t i = 0; i < g->count; i++)
        if (g->list[i].folder)
            ok = remove_folder(g->list[i].folder) && ok;
    return ok;
}

bool cgroups_remove(struct cgroups *g, struct error *err)
{
    bool ok = true;
    for (size_t i = 0; i < g->count; i++) {
        struct cgroup_hierarchy *h = &g->list[i];
        if (!h->folder)
            continue;
        bool removed = false;
        /* Processes that were killed hold their folder until they are gone: up to 5 s. */
        for (int tries = 0; tries < 200 && !removed; tries++) {
            removed = remove_folder(h->folder);
            if (!removed && errno != EBUSY && errno != ENOTEMPTY)
                break;
            if (!removed)
                nanosleep(&(struct timespec){.tv_nsec = tries < 20 ? 1000000 : 25000000}, NULL);
        }
        if (!removed)
            ok = error_errno(err, "cgroup %s: can't be removed", h->folder);
    }
    return ok;
}

/* ---- looking up, saving ---- */

const struct cgroup_hierarchy *cgroups_unified(const struct cgroups *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->list[i].unified && g->list[i].folder)
            return &g->list[i];
    return NULL;
}

const struct cgroup_hierarchy *cgroups_controller(const struct cgroups *g, const char *name)
{
    for (size_t i = 0; i < g->count; i++)
        if (!g->list[i].unified && g->list[i].folder && has_word(g->list[i].controllers, name))
            return &g->list[i];
    return cgroups_unified(g);
}

json_t *cgroups_save(const struct cgroups *g)
{
    json_t *all = json_array();
    for (size_t i = 0; i < g->count; i++)
        if (g->list[i].folder)
            json_array_append_new(all, json_pack("{s:b,s:s,s:s}", "unified", g->list[i].unified,
                                                 "controllers", g->list[i].controllers, "folder",
                                                 g->list[i].folder));
    return all;
}

bool cgroups_restore(struct cgroups *g, json_t *saved, struct error *err)
{
    size_t i;
    json_t *one;
    g->count = 0;
    json_array_foreach(saved, i, one)
    {
        int unified = 0;
        const char *controllers = "", *folder = NULL;
        struct cgroup_hierarchy *h = &g->list[g->count];
        if (g->count == CGROUP_MAX_HIERARCHIES ||
            json_unpack(one, "{s:b,s:s,s:s}", "unified", &unified, "controllers", &controllers,
                        "folder", &folder) < 0)
            return error_set(err, "state.json: cgroups: not of our making; remove the container");
        /* The state names all that were to be made; a rootless container does without some. */
        if (access(folder, F_OK) < 0 && errno == ENOENT)
            continue;
        memset(h, 0, sizeof *h);
        h->unified = unified;
        snprintf(h->controllers, sizeof h->controllers, "%s", controllers);
        h->folder = strdup(folder);
        if (!h->folder)
            return error_set(err, "cgroups: no memory; free some");
        g->count++;
    }
    return true;
}

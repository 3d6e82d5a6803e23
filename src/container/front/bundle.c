#include "container/front/bundle.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/front/network.h"
#include "container/image/tree.h"

/* What programs that expect to be root need, and nothing that reaches the host. */
static const char *const default_capabilities[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE",     "CAP_FOWNER",     "CAP_FSETID",
    "CAP_KILL",    "CAP_NET_BIND_SERVICE", "CAP_SETFCAP",    "CAP_SETGID",
    "CAP_SETPCAP", "CAP_SETUID",           "CAP_SYS_CHROOT",
};

static const char *const masked_paths[] = {
    "/proc/acpi",          "/proc/asound",     "/proc/kcore",       "/proc/keys",
    "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
    "/proc/scsi",          "/sys/firmware",    "/sys/dev/block",
};

static const char *const read_only_paths[] = {
    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static json_t *array_of(const char *const *items, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(array, json_string(items[i]));
    return array;
}

/* ------------------------------------------------------------------------------------------- *
 * The environment
 * ------------------------------------------------------------------------------------------- */

static int env_find(const struct strings *env, const char *item, size_t key)
{
    for (unsigned i = 0; i < env->count; i++)
        if (strncmp(env->items[i], item, key) == 0 && env->items[i][key] == '=')
            return (int)i;
    return -1;
}

bool bundle_env_has(const struct strings *env, const char *key)
{
    return env_find(env, key, strlen(key)) >= 0;
}

bool bundle_env_set(struct strings *env, const char *item, struct error *err)
{
    int at = env_find(env, item, strcspn(item, "="));
    if (at < 0)
        return strings_add(env, item, err);
    char *copy = strdup(item);
    if (!copy)
        return error_set(err, "%.100s: no memory left for it", item);
    free(env->items[at]);
    env->items[at] = copy;
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * process
 * ------------------------------------------------------------------------------------------- */

/* "net_admin", "NET_ADMIN" and "CAP_NET_ADMIN" are one. */
static bool same_capability(const char *full, const char *given)
{
    if (strncasecmp(given, "CAP_", 4) == 0)
        given += 4;
    return strcasecmp(full + 4, given) == 0;
}

static bool listed(const struct strings *l, const char *capability)
{
    for (unsigned i = 0; l && i < l->count; i++)
        if (strcasecmp(l->items[i], "all") == 0 || same_capability(capability, l->items[i]))
            return true;
    return false;
}

static void add_capability(json_t *to, const char *given)
{
    char name[40] = "CAP_";
    size_t n = 4;
    if (strncasecmp(given, "CAP_", 4) == 0)
        given += 4;
    for (; *given && n < sizeof name - 1; given++)
        name[n++] = (char)(*given >= 'a' && *given <= 'z' ? *given - 'a' + 'A' : *given);
    json_array_append_new(to, json_string(name));
}

static json_t *capabilities(const struct bundle *b)
{
    const struct front_options *o = b->options;
    json_t *set = json_array();
    for (size_t i = 0; i < ARRAY_LEN(default_capabilities); i++)
        if (!listed(&o->cap_drop, default_capabilities[i]) &&
            !listed(&o->cap_add, default_capabilities[i]))
            json_array_append_new(set, json_string(default_capabilities[i]));
    for (unsigned i = 0; i < o->cap_add.count; i++)
        add_capability(set, o->cap_add.items[i]);
    /* Another user than root has none, but its set-user-ID programs can have these. */
    if (b->user.uid == 0)
        return json_pack("{s:O, s:O, s:o}", "bounding", set, "effective", set, "permitted", set);
    return json_pack("{s:o, s:[], s:[]}", "bounding", set, "effective", "permitted");
}

json_t *bundle_process(const struct bundle *b, struct error *err)
{
    json_t *args = json_array(), *env = json_array(), *gids = json_array();
    bool ok = true;
    for (char **a = b->args; *a; a++)
        ok &= json_array_append_new(args, json_string(*a)) == 0;
    for (unsigned i = 0; i < b->env->count; i++)
        ok &= json_array_append_new(env, json_string(b->env->items[i])) == 0;
    for (unsigned i = 0; i < b->user.group_count; i++)
        ok &= json_array_append_new(gids, json_integer(b->user.groups[i])) == 0;
    json_t *process = json_pack(
        "{s:b, s:{s:I, s:I, s:o}, s:o, s:o, s:s, s:o, s:b}", "terminal", b->tty, "user", "uid",
        (json_int_t)b->user.uid, "gid", (json_int_t)b->user.gid, "additionalGids", gids, "args",
        args, "env", env, "cwd", b->cwd, "capabilities", capabilities(b), "noNewPrivileges", 0);
    if (!ok || !process) {
        json_decref(process);
        error_set(err, "command: it, its environment or its folder is not UTF-8, which OCI "
                       "runtimes need; write it in UTF-8");
        return NULL;
    }
    return process;
}

/* ------------------------------------------------------------------------------------------- *
 * mounts
 * ------------------------------------------------------------------------------------------- */

/* In the bundle's folder, where relative sources of mounts are looked for. */
#define BUNDLE_RESOLVER "resolv.conf"

struct mount_row {
    const char *to, *type, *source, *options; /* options: separated by commas */
};

static const struct mount_row default_mounts[] = {
    {"/proc", "proc", "proc", "nosuid,noexec,nodev"},
    {"/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"},
    {"/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"},
    {"/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"},
};

static void add_mount(json_t *mounts, const struct mount_row *m)
{
    json_t *options = json_array();
    for (const char *p = m->options; *p;) {
        size_t n = strcspn(p, ",");
        json_array_append_new(options, json_stringn(p, n));
        p += n + (p[n] == ',');
    }
    json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:o}", "destination", m->to, "type",
                                            m->type, "source", m->source, "options", options));
}

/* SRC:DST[:ro|rw]. DST is resolved in the container by the runtime. */
static bool add_volume(json_t *mounts, const char *volume, struct error *err)
{
    const char *to = strchr(volume, ':');
    const char *mode = to ? strchr(to + 1, ':') : NULL;
    if (!to || to == volume || to[1] != '/')
        return error_usage(err,
                           "--volume %.200s: not of the form SRC:DST[:ro], DST being an "
                           "absolute path; write --volume /data:/data",
                           volume);
    if (mode && strcmp(mode, ":ro") != 0 && strcmp(mode, ":rw") != 0)
        return error_usage(err, "--volume %.200s: %s is neither ro nor rw; use one of them", volume,
                           mode + 1);
    char source[PATH_MAX], given[PATH_MAX], target[PATH_MAX];
    snprintf(given, sizeof given, "%.*s", (int)(to - volume), volume);
    snprintf(target, sizeof target, "%.*s", mode ? (int)(mode - to - 1) : (int)strlen(to + 1),
             to + 1);
    if (!realpath(given, source))
        return error_errno(err, "--volume %.200s", given);
    add_mount(mounts, &(struct mount_row){target, "bind", source,
                                          mode && mode[2] == 'o' ? "rbind,rprivate,ro"
                                                                 : "rbind,rprivate,rw"});
    return true;
}

static json_t *mounts(const struct bundle *b, struct error *err)
{
    json_t *all = json_array();
    bool host_network = strcmp(b->options->network, "host") == 0;
    for (size_t i = 0; i < ARRAY_LEN(default_mounts); i++)
        add_mount(all, &default_mounts[i]);
    /* One user's namespace maps no tty group (5). */
    add_mount(all, &(struct mount_row){"/dev/pts", "devpts", "devpts",
                                       b->rootless ? "nosuid,noexec,newinstance,ptmxmode=0666,"
                                                     "mode=0620"
                                                   : "nosuid,noexec,newinstance,ptmxmode=0666,"
                                                     "mode=0620,gid=5"});
    /* sysfs belongs to a network namespace: without owning one it can only be bound. */
    if (b->rootless && host_network)
        add_mount(all, &(struct mount_row){"/sys", "bind", "/sys", "rbind,nosuid,noexec,nodev,ro"});
    else
        add_mount(all, &(struct mount_row){"/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"});
    if (!b->rootless)
        add_mount(all, &(struct mount_row){"/sys/fs/cgroup", "cgroup", "cgroup",
                                           "nosuid,noexec,nodev,relatime,ro"});
    if (b->bind_resolver && strcmp(b->options->network, "user") == 0)
        add_mount(all, &(struct mount_row){"/etc/resolv.conf", "bind", BUNDLE_RESOLVER,
                                           "bind,rprivate,ro"});
    static const char *const resolver[] = {"/etc/resolv.conf", "/etc/hosts"};
    struct stat st;
    for (size_t i = 0; b->bind_resolver && host_network && i < ARRAY_LEN(resolver); i++)
        if (stat(resolver[i], &st) == 0 && S_ISREG(st.st_mode))
            add_mount(all,
                      &(struct mount_row){resolver[i], "bind", resolver[i], "bind,rprivate,ro"});
    for (unsigned i = 0; i < b->options->volumes.count; i++)
        if (!add_volume(all, b->options->volumes.items[i], err)) {
            json_decref(all);
            return NULL;
        }
    return all;
}

/* ------------------------------------------------------------------------------------------- *
 * linux
 * ------------------------------------------------------------------------------------------- */

static json_t *resources(const struct front_options *o)
{
    json_t *r = json_object();
    /* Swap would only hide that the limit is reached. */
    if (o->memory)
        json_object_set_new(
            r, "memory",
            json_pack("{s:I, s:I}", "limit", (json_int_t)o->memory, "swap", (json_int_t)o->memory));
    if (o->cpu_quota)
        json_object_set_new(r, "cpu",
                            json_pack("{s:I, s:I}", "quota", (json_int_t)o->cpu_quota, "period",
                                      (json_int_t)100000));
    if (o->pids)
        json_object_set_new(r, "pids", json_pack("{s:I}", "limit", (json_int_t)o->pids));
    json_object_set_new(r, "devices", json_pack("[{s:b, s:s}]", "allow", 0, "access", "rwm"));
    return r;
}

static json_t *linux_part(const struct bundle *b)
{
    json_t *namespaces = json_pack("[{s:s},{s:s},{s:s},{s:s}]", "type", "pid", "type", "ipc",
                                   "type", "uts", "type", "mount");
    if (strcmp(b->options->network, "host") != 0)
        json_array_append_new(namespaces, json_pack("{s:s}", "type", "network"));
    if (!b->rootless)
        json_array_append_new(namespaces, json_pack("{s:s}", "type", "cgroup"));
    json_t *part = json_pack("{s:o, s:o, s:o, s:o}", "namespaces", namespaces, "maskedPaths",
                             array_of(masked_paths, ARRAY_LEN(masked_paths)), "readonlyPaths",
                             array_of(read_only_paths, ARRAY_LEN(read_only_paths)), "seccomp",
                             bundle_seccomp());
    bool limits = b->options->memory || b->options->cpu_quota || b->options->pids;
    if (!b->rootless || limits) {
        /* Another state folder may have a container of the same name. */
        char path[FRONT_NAME_MAX + 32];
        uint32_t random = 0;
        if (getrandom(&random, sizeof random, 0) != sizeof random)
            random = (uint32_t)getpid();
        snprintf(path, sizeof path, "/doppel-%s-%08x", b->name, random);
        json_object_set_new(part, "cgroupsPath", json_string(path));
        json_object_set_new(part, "resources", resources(b->options));
    }
    return part;
}

bool bundle_write(int folder, const struct bundle *b, struct error *err)
{
    static const char resolver[] = "nameserver " NETWORK_NAMESERVER "\n";
    if (strcmp(b->options->network, "user") == 0 &&
        !tree_write(folder, BUNDLE_RESOLVER, resolver, strlen(resolver), 0644, err))
        return false;
    json_t *process = bundle_process(b, err);
    json_t *all_mounts = process ? mounts(b, err) : NULL;
    if (!process || !all_mounts) {
        json_decref(process);
        return false;
    }
    json_t *config =
        json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", "1.0.2", "process",
                  process, "root", "path", b->rootfs, "readonly", b->read_only, "hostname",
                  b->hostname, "mounts", all_mounts, "linux", linux_part(b));
    char *text = config ? json_dumps(config, JSON_INDENT(1)) : NULL;
    json_decref(config);
    if (!text)
        return error_set(err,
                         "%s: its configuration can't be put in JSON; write names and folders "
                         "in UTF-8",
                         b->name);
    bool ok = tree_write(folder, "config.json", text, strlen(text), 0600, err);
    free(text);
    return ok;
}

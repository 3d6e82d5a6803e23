#include "container/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/idmap.h"
#include "container/path.h"

#ifndef PROC_SUPER_MAGIC
#define PROC_SUPER_MAGIC 0x9fa0
#endif

/* ---- options ---- */

enum option_effect {
    SETS,        /* a flag of the mount */
    CLEARS,      /* the same, off */
    SETS_ALL,    /* a flag of the mount and all under it */
    CLEARS_ALL,  /* the same, off */
    FILE_SYSTEM, /* a flag of the file system */
    UNSETS,      /* the same, off */
    PROPAGATES,
    BINDS,
    COPIES_UP,
    MAPS_IDS,
    NOTHING,
};

struct option {
    const char *name;
    enum option_effect effect;
    uint64_t attribute;  /* MOUNT_ATTR_*, for bind mounts */
    unsigned long flags; /* MS_*, for mount(2) */
};

static const struct option known[] = {
    {"async", UNSETS, 0, MS_SYNCHRONOUS},
    {"atime", CLEARS, MOUNT_ATTR_NOATIME, MS_NOATIME},
    {"bind", BINDS, 0, MS_BIND},
    {"defaults", NOTHING, 0, 0},
    {"dev", CLEARS, MOUNT_ATTR_NODEV, MS_NODEV},
    {"diratime", CLEARS, MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
    {"dirsync", FILE_SYSTEM, 0, MS_DIRSYNC},
    {"exec", CLEARS, MOUNT_ATTR_NOEXEC, MS_NOEXEC},
    {"idmap", MAPS_IDS, 0, 0},
    {"iversion", FILE_SYSTEM, 0, MS_I_VERSION},
    {"lazytime", FILE_SYSTEM, 0, MS_LAZYTIME},
    {"loud", UNSETS, 0, MS_SILENT},
    {"mand", FILE_SYSTEM, 0, MS_MANDLOCK},
    {"noatime", SETS, MOUNT_ATTR_NOATIME, MS_NOATIME},
    {"nodev", SETS, MOUNT_ATTR_NODEV, MS_NODEV},
    {"nodiratime", SETS, MOUNT_ATTR_NODIRATIME, MS_NODIRATIME},
    {"noexec", SETS, MOUNT_ATTR_NOEXEC, MS_NOEXEC},
    {"noiversion", UNSETS, 0, MS_I_VERSION},
    {"nolazytime", UNSETS, 0, MS_LAZYTIME},
    {"nomand", UNSETS, 0, MS_MANDLOCK},
    {"norelatime", CLEARS, 0, MS_RELATIME},
    {"nostrictatime", CLEARS, 0, MS_STRICTATIME},
    {"nosuid", SETS, MOUNT_ATTR_NOSUID, MS_NOSUID},
    {"nosymfollow", SETS, MOUNT_ATTR_NOSYMFOLLOW, 256 /* MS_NOSYMFOLLOW */},
    {"private", PROPAGATES, 0, MS_PRIVATE},
    {"ratime", CLEARS_ALL, MOUNT_ATTR_NOATIME, 0},
    {"rbind", BINDS, 0, MS_BIND | MS_REC},
    {"rdev", CLEARS_ALL, MOUNT_ATTR_NODEV, 0},
    {"rdiratime", CLEARS_ALL, MOUNT_ATTR_NODIRATIME, 0},
    {"relatime", SETS, MOUNT_ATTR_RELATIME, MS_RELATIME},
    {"remount", FILE_SYSTEM, 0, MS_REMOUNT},
    {"rexec", CLEARS_ALL, MOUNT_ATTR_NOEXEC, 0},
    {"ridmap", MAPS_IDS, 0, MS_REC},
    {"rnoatime", SETS_ALL, MOUNT_ATTR_NOATIME, 0},
    {"rnodev", SETS_ALL, MOUNT_ATTR_NODEV, 0},
    {"rnodiratime", SETS_ALL, MOUNT_ATTR_NODIRATIME, 0},
    {"rnoexec", SETS_ALL, MOUNT_ATTR_NOEXEC, 0},
    {"rnorelatime", NOTHING, 0, 0},
    {"rnostrictatime", NOTHING, 0, 0},
    {"rnosuid", SETS_ALL, MOUNT_ATTR_NOSUID, 0},
    {"rnosymfollow", SETS_ALL, MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"ro", SETS, MOUNT_ATTR_RDONLY, MS_RDONLY},
    {"rprivate", PROPAGATES, 0, MS_PRIVATE | MS_REC},
    {"rrelatime", SETS_ALL, MOUNT_ATTR_RELATIME, 0},
    {"rro", SETS_ALL, MOUNT_ATTR_RDONLY, 0},
    {"rrw", CLEARS_ALL, MOUNT_ATTR_RDONLY, 0},
    {"rshared", PROPAGATES, 0, MS_SHARED | MS_REC},
    {"rslave", PROPAGATES, 0, MS_SLAVE | MS_REC},
    {"rstrictatime", SETS_ALL, MOUNT_ATTR_STRICTATIME, 0},
    {"rsuid", CLEARS_ALL, MOUNT_ATTR_NOSUID, 0},
    {"rsymfollow", CLEARS_ALL, MOUNT_ATTR_NOSYMFOLLOW, 0},
    {"runbindable", PROPAGATES, 0, MS_UNBINDABLE | MS_REC},
    {"rw", CLEARS, MOUNT_ATTR_RDONLY, MS_RDONLY},
    {"shared", PROPAGATES, 0, MS_SHARED},
    {"silent", FILE_SYSTEM, 0, MS_SILENT},
    {"slave", PROPAGATES, 0, MS_SLAVE},
    {"strictatime", SETS, MOUNT_ATTR_STRICTATIME, MS_STRICTATIME},
    {"suid", CLEARS, MOUNT_ATTR_NOSUID, MS_NOSUID},
    {"symfollow", CLEARS, MOUNT_ATTR_NOSYMFOLLOW, 256 /* MS_NOSYMFOLLOW */},
    {"sync", FILE_SYSTEM, 0, MS_SYNCHRONOUS},
    {"tmpcopyup", COPIES_UP, 0, 0},
    {"unbindable", PROPAGATES, 0, MS_UNBINDABLE},
};

const char *mount_option_name(size_t index)
{
    return index < ARRAY_LEN(known) ? known[index].name : NULL;
}

/* Access times are a small number within the attributes, not flags of their own. */
static void set_attribute(uint64_t *set, uint64_t *clear, uint64_t attribute, bool on)
{
    bool is_time = attribute == MOUNT_ATTR_NOATIME || attribute == MOUNT_ATTR_STRICTATIME ||
                   attribute == MOUNT_ATTR_RELATIME;
    if (is_time) {
        *clear |= MOUNT_ATTR__ATIME;
        *set = (*set & ~(uint64_t)MOUNT_ATTR__ATIME) | (on ? attribute : MOUNT_ATTR_RELATIME);
        return;
    }
    *set = on ? *set | attribute : *set & ~attribute;
    *clear = on ? *clear & ~attribute : *clear | attribute;
}

static void apply_option(struct mount_options *to, const struct option *o)
{
    switch (o->effect) {
    case SETS:
        to->flags |= o->flags;
        set_attribute(&to->set, &to->clear, o->attribute, true);
        break;
    case CLEARS:
        to->flags &= ~o->flags;
        if (o->attribute)
            set_attribute(&to->set, &to->clear, o->attribute, false);
        break;
    case SETS_ALL:
        set_attribute(&to->recursive_set, &to->recursive_clear, o->attribute, true);
        break;
    case CLEARS_ALL:
        set_attribute(&to->recursive_set, &to->recursive_clear, o->attribute, false);
        break;
    case FILE_SYSTEM: to->flags |= o->flags; break;
    case UNSETS: to->flags &= ~o->flags; break;
    case PROPAGATES:
        to->propagation = o->flags & ~(unsigned long)MS_REC;
        to->propagation_recursive = o->flags & MS_REC;
        break;
    case BINDS:
        to->bind = true;
        to->recursive = o->flags & MS_REC;
        break;
    case COPIES_UP: to->copy_up = true; break;
    case MAPS_IDS:
        to->idmap = true;
        to->idmap_recursive = o->flags & MS_REC;
        break;
    case NOTHING: break;
    }
}

static int compare_option(const void *name, const void *option)
{
    return strcmp(name, ((const struct option *)option)->name);
}

bool mount_options_read(const struct mount_config *m, struct arena *arena,
                        struct mount_options *out, struct error *err)
{
    size_t room = 1;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < m->option_count; i++)
        room += strlen(m->options[i]) + 1;
    out->data = arena_array(arena, room, 1, err);
    if (!out->data)
        return false;
    char *end = out->data;
    for (size_t i = 0; i < m->option_count; i++) {
        const char *name = m->options[i];
        const struct option *o =
            bsearch(name, known, ARRAY_LEN(known), sizeof known[0], compare_option);
        if (o)
            apply_option(out, o);
        else if (*name)
            end += sprintf(end, "%s%s", end == out->data ? "" : ",", name);
    }
    if (m->type && strcmp(m->type, "bind") == 0)
        out->bind = true;
    if (m->maps.uid_count)
        out->idmap = true;
    if (out->bind && *out->data && !strchr(out->data, '=') && !out->copy_up)
        return field_error(&m->at, err, "option %.60s is unknown for a bind mount; remove it",
                           out->data);
    if (out->idmap && !out->bind)
        return field_error(&m->at, err, "only bind mounts can map ids; remove the mappings");
    if (out->idmap && !m->maps.uid_count)
        return field_error(&m->at, err, "idmap needs uidMappings and gidMappings; add them");
    return true;
}

/* ---- plans ---- */

/* By path: a descriptor from before the mount namespace was made leads to another one's mounts. */
static bool take_tree(struct mount_plan *p, const char *bundle, struct error *err)
{
    const struct mount_config *m = p->config;
    char path[PATH_MAX];
    if (!m->source)
        return field_error(&m->at, err, "a bind mount needs a source; add one");
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    bool absolute = m->source[0] == '/';
    int n = snprintf(path, sizeof path, "%s%s%s", absolute ? "" : bundle, absolute ? "" : "/",
                     m->source);
    errno = ENAMETOOLONG;
    if (n >= 0 && (size_t)n < sizeof path)
        p->tree = open_tree(AT_FDCWD, path, flags | (p->options.recursive ? AT_RECURSIVE : 0));
    if (p->tree >= 0)
        return true;
    if (errno == EPERM)
        return field_error(&m->at, err,
                           "%.100s can't be bound: CAP_SYS_ADMIN is missing; who started this "
                           "process can grant it",
                           m->source);
    return field_error(&m->at, err, "source %.150s: %s; correct it", m->source, strerror(errno));
}

static bool map_tree(const struct mount_plan *p, struct error *err)
{
    int user = idmap_namespace(&p->config->maps, err);
    if (user < 0)
        return false;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)user};
    unsigned recursive = p->options.idmap_recursive ? AT_RECURSIVE : 0;
    bool ok = mount_setattr(p->tree, "", AT_EMPTY_PATH | recursive, &attr, sizeof attr) == 0;
    int saved = errno;
    close(user);
    if (!ok)
        return field_error(&p->config->at, err, "ids can't be mapped there: %s", strerror(saved));
    return true;
}

bool mounts_plan(struct config *c, const char *bundle, struct mount_plans *plans, struct error *err)
{
    plans->count = c->mount_count;
    plans->plans = arena_array(&c->arena, c->mount_count, sizeof *plans->plans, err);
    if (!plans->plans)
        return false;
    for (size_t i = 0; i < plans->count; i++) {
        struct mount_plan *p = &plans->plans[i];
        p->config = &c->mounts[i];
        p->tree = -1;
        if (!mount_options_read(p->config, &c->arena, &p->options, err))
            return false;
        if (p->options.idmap && (!take_tree(p, bundle, err) || !map_tree(p, err)))
            return false;
    }
    return true;
}

bool mounts_take_trees(struct mount_plans *plans, const char *bundle, struct error *err)
{
    for (size_t i = 0; i < plans->count; i++) {
        struct mount_plan *p = &plans->plans[i];
        if (p->options.bind && p->tree < 0 && !(p->options.flags & MS_REMOUNT) &&
            !take_tree(p, bundle, err))
            return false;
    }
    return true;
}

/* ---- mounting ---- */

static bool mount_error(const struct mount_plan *p, struct error *err)
{
    const struct mount_config *m = p->config;
    const char *type = p->options.bind ? "bind" : m->type ? m->type : "?";
    if (errno != EPERM)
        return field_error(&m->at, err, "%s on %.150s: %s", type, m->destination, strerror(errno));
    if (strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0)
        return field_error(&m->at, err,
                           "%s on %.100s is refused: the kernel allows a new one only where the "
                           "present one is whole, and here parts of it are hidden, as in a "
                           "container; who runs that container can unmask them",
                           type, m->destination);
    return field_error(&m->at, err,
                       "%s on %.100s is refused: CAP_SYS_ADMIN over this mount is missing; who "
                       "started this process can grant it",
                       type, m->destination);
}

static bool change_attributes(int fd, const struct mount_options *o)
{
    struct mount_attr top = {.attr_set = o->set, .attr_clr = o->clear};
    struct mount_attr all = {.attr_set = o->recursive_set, .attr_clr = o->recursive_clear};
    if ((top.attr_set || top.attr_clr) &&
        mount_setattr(fd, "", AT_EMPTY_PATH, &top, sizeof top) < 0)
        return false;
    return !(all.attr_set || all.attr_clr) ||
           mount_setattr(fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &all, sizeof all) == 0;
}

static bool change_propagation(int fd, unsigned long propagation, bool recursive)
{
    struct mount_attr attr = {.propagation = propagation};
    return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
                         sizeof attr) == 0;
}

static bool is_directory(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* Nothing may be put over /proc but a proc: what we, and others, write there must reach the kernel.
 * The few files that stand for themselves (as those of a user-space file system) are fine. */
static bool check_target(const struct mount_plan *p, int target, struct error *err)
{
    static const char *const allowed[] = {
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/meminfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/uptime",
        "/proc/loadavg",
        "/proc/slabinfo",
        "/proc/net/dev",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/sys/crypto/fips_enabled",
    };
    struct statfs fs;
    const struct mount_config *m = p->config;
    if (fstatfs(target, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
        if (strcmp(allowed[i], m->destination) == 0)
            return true;
    if (strcmp(m->destination, "/proc") == 0 && m->type && strcmp(m->type, "proc") == 0)
        return true;
    /* A directory or file of proc bound over itself hides nothing. */
    if (p->options.bind && p->tree >= 0 && fstatfs(p->tree, &fs) == 0 &&
        fs.f_type == PROC_SUPER_MAGIC)
        return true;
    return field_error(&m->at, err, "%.100s is inside proc; mount it elsewhere", m->destination);
}

static int open_target(const struct mount_plan *p, int root, enum path_kind kind, struct error *err)
{
    int target = path_make(root, p->config->destination, kind, kind == PATH_FILE ? 0644 : 0755);
    if (target < 0)
        field_error(&p->config->at, err, "destination %.150s: %s", p->config->destination,
                    strerror(errno));
    return target;
}

static bool remount(const struct mount_plan *p, int root, struct error *err)
{
    int target = path_open(root, p->config->destination, O_PATH);
    bool ok = target >= 0 && change_attributes(target, &p->options);
    if (ok && p->options.propagation)
        ok = change_propagation(target, p->options.propagation, p->options.propagation_recursive);
    if (!ok)
        mount_error(p, err);
    if (target >= 0)
        close(target);
    return ok;
}

static bool do_bind(struct mount_plan *p, int root, struct error *err)
{
    const struct mount_options *o = &p->options;
    int target = open_target(p, root, is_directory(p->tree) ? PATH_DIRECTORY : PATH_FILE, err);
    if (target < 0)
        return false;
    /* The tree is still a peer of the host's mounts; unless that is wanted it only receives. */
    unsigned long propagation = o->propagation ? o->propagation : MS_SLAVE;
    bool recursive = o->propagation ? o->propagation_recursive : true;
    bool ok = check_target(p, target, err);
    if (ok &&
        !(change_attributes(p->tree, o) && change_propagation(p->tree, propagation, recursive) &&
          move_mount(p->tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) ==
              0))
        ok = mount_error(p, err);
    close(target);
    close(p->tree);
    p->tree = -1;
    return ok;
}

/* The same mount, through a descriptor inside it. */
static bool finish(const struct mount_plan *p, int root, struct error *err)
{
    const struct mount_options *o = &p->options;
    if (!o->propagation && !o->recursive_set && !o->recursive_clear)
        return true;
    int fd = path_open(root, p->config->destination, O_PATH);
    struct mount_options only_recursive = *o;
    only_recursive.set = only_recursive.clear = 0;
    bool ok = fd >= 0 && change_attributes(fd, &only_recursive) &&
              (!o->propagation || change_propagation(fd, o->propagation, o->propagation_recursive));
    if (!ok)
        mount_error(p, err);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool copy_up(const struct mount_plan *p, int root, int covered, struct error *err)
{
    int fd = path_open(root, p->config->destination, O_RDONLY | O_DIRECTORY);
    bool ok = fd >= 0 && mount_copy_up(covered, fd);
    if (!ok)
        field_error(&p->config->at, err, "%.150s can't be copied up: %s", p->config->destination,
                    strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}

/* A tmpfs takes the permissions of what it covers, unless they are said. */
static const char *file_system_data(struct config *c, const struct mount_plan *p, int target,
                                    struct error *err)
{
    const char *data = p->options.data, *type = p->config->type;
    struct stat st;
    if (strcmp(type, "tmpfs") == 0 && !strstr(data, "mode=") && fstat(target, &st) == 0)
        data =
            arena_printf(&c->arena, err, "%s%smode=%o", data, *data ? "," : "", st.st_mode & 07777);
    if (data && c->mount_label && *c->mount_label && strcmp(type, "proc") != 0 &&
        strcmp(type, "sysfs") != 0 && strcmp(type, "mqueue") != 0)
        data = arena_printf(&c->arena, err, "%s%scontext=\"%s\"", data, *data ? "," : "",
                            c->mount_label);
    return data;
}

static bool do_file_system(struct config *c, struct mount_plan *p, int root, struct error *err)
{
    const struct mount_config *m = p->config;
    if (!m->type || !*m->type)
        return field_error(&m->at, err, "has no type; add one");
    int target = open_target(p, root, PATH_DIRECTORY, err);
    if (target < 0)
        return false;
    const char *data = file_system_data(c, p, target, err);
    int covered = p->options.copy_up ? path_open(root, m->destination, O_RDONLY | O_DIRECTORY) : -1;
    bool ok = data && check_target(p, target, err);
    if (ok && mount(m->source ? m->source : m->type, fd_path(target).text, m->type,
                    p->options.flags, *data ? data : NULL) < 0) {
        bool unlabelled = errno == EINVAL && strcmp(data, p->options.data) != 0;
        ok = (unlabelled && mount(m->source ? m->source : m->type, fd_path(target).text, m->type,
                                  p->options.flags, p->options.data) == 0) ||
             mount_error(p, err);
    }
    ok = ok && finish(p, root, err) && (covered < 0 || copy_up(p, root, covered, err));
    if (covered >= 0)
        close(covered);
    close(target);
    return ok;
}

bool mounts_do(struct config *c, struct mount_plans *plans, const struct cgroups *g, int root,
               struct error *err)
{
    const struct namespace_config *cgroup = config_namespace(c, CLONE_NEWCGROUP);
    for (size_t i = 0; i < plans->count; i++) {
        struct mount_plan *p = &plans->plans[i];
        const char *type = p->config->type ? p->config->type : "";
        bool ok;
        if (p->options.bind)
            ok = p->options.flags & MS_REMOUNT ? remount(p, root, err) : do_bind(p, root, err);
        else if (strcmp(type, "cgroup") == 0)
            ok = mount_cgroups(p, g, root, cgroup != NULL, err) && finish(p, root, err);
        else
            ok = do_file_system(c, p, root, err);
        if (!ok)
            return false;
    }
    return true;
}

bool mount_read_only(int fd)
{
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_RECURSIVE;
    int tree = open_tree(fd, "", flags);
    if (tree < 0)
        return false;
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    bool ok = mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) == 0 &&
              move_mount(tree, "", fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0;
    int saved = errno;
    close(tree);
    errno = saved;
    return ok;
}

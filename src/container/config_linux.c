/* The linux object of config.json. */
#include <linux/sched.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/bits.h"
#include "container/config.h"

static const struct {
    const char *name;
    int flag;
} namespace_types[NAMESPACE_KINDS] = {
    {"user", CLONE_NEWUSER},     {"mount", CLONE_NEWNS},  {"pid", CLONE_NEWPID},
    {"network", CLONE_NEWNET},   {"ipc", CLONE_NEWIPC},   {"uts", CLONE_NEWUTS},
    {"cgroup", CLONE_NEWCGROUP}, {"time", CLONE_NEWTIME},
};

static bool read_namespace(struct config *c, const struct field *at, struct error *err)
{
    const char *type = NULL, *path = NULL;
    if (!field_string(at, "type", &type, err) || !field_string(at, "path", &path, err))
        return false;
    if (!type)
        return field_error(at, err, "has no type; add one");
    size_t k = 0;
    while (k < NAMESPACE_KINDS && strcmp(namespace_types[k].name, type) != 0)
        k++;
    if (k == NAMESPACE_KINDS)
        return field_error(at, err, "type %.40s is no kind of namespace; correct it", type);
    if (config_namespace(c, namespace_types[k].flag))
        return field_error(at, err, "there are two of type %s; remove one", type);
    if (path && !*path)
        path = NULL;
    if (path && path[0] != '/')
        return field_error(at, err, "path must be absolute; correct it");
    c->namespaces[c->namespace_count++] =
        (struct namespace_config){namespace_types[k].flag, namespace_types[k].name, path};
    return true;
}

static bool read_namespaces(struct config *c, struct error *err)
{
    struct field list, item;
    if (!field_member(&c->linux_part, "namespaces", FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++)
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) || !read_namespace(c, &item, err))
            return false;
    if (!config_namespace(c, CLONE_NEWNS))
        return field_error(&list, err, "has no mount namespace; a container needs one");
    return true;
}

static bool read_id_map(const struct field *in, const char *name, struct arena *arena,
                        struct id_map **out, size_t *count, struct error *err)
{
    struct field list, item;
    if (!field_member(in, name, FIELD_ARRAY, &list, err))
        return false;
    size_t n = field_count(&list);
    struct id_map *maps = arena_array(arena, n, sizeof *maps, err);
    if (!maps)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint64_t inside = 0, outside = 0, length = 0;
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !field_unsigned(&item, "containerID", UINT32_MAX, &inside, NULL, err) ||
            !field_unsigned(&item, "hostID", UINT32_MAX, &outside, NULL, err) ||
            !field_unsigned(&item, "size", UINT32_MAX, &length, NULL, err))
            return false;
        if (length == 0 || inside + length > UINT32_MAX || outside + length > UINT32_MAX)
            return field_error(&item, err, "is empty or ends above 2^32 - 1; correct its size");
        maps[i] = (struct id_map){(uint32_t)inside, (uint32_t)outside, (uint32_t)length};
    }
    *out = maps;
    *count = n;
    return true;
}

bool config_id_maps(const struct field *in, const char *uids, const char *gids, struct arena *arena,
                    struct id_maps *maps, struct error *err)
{
    if (!read_id_map(in, uids, arena, &maps->uids, &maps->uid_count, err) ||
        !read_id_map(in, gids, arena, &maps->gids, &maps->gid_count, err))
        return false;
    if (!maps->uid_count != !maps->gid_count)
        return field_error(in, err, "has only one of %s and %s; add the other", uids, gids);
    return true;
}

static bool check_maps(struct config *c, struct error *err)
{
    const struct namespace_config *user = config_namespace(c, CLONE_NEWUSER);
    struct field at;
    if (!config_id_maps(&c->linux_part, "uidMappings", "gidMappings", &c->arena, &c->maps, err) ||
        !field_member(&c->linux_part, "uidMappings", FIELD_ARRAY, &at, err))
        return false;
    if (c->maps.uid_count && (!user || user->path))
        return field_error(&at, err,
                           "needs a new user namespace; add one to linux.namespaces, or remove it");
    if (user && !user->path && !c->maps.uid_count)
        return field_error(&at, err, "missing, though there is a new user namespace; add mappings");
    return true;
}

static bool read_offset(const struct field *in, const char *name, struct time_offset *out,
                        struct error *err)
{
    struct field part;
    uint64_t nanoseconds = 0;
    if (!field_member(in, name, FIELD_OBJECT, &part, err) ||
        !field_signed(&part, "secs", INT64_MIN, INT64_MAX, &out->seconds, NULL, err) ||
        !field_unsigned(&part, "nanosecs", 999999999, &nanoseconds, NULL, err))
        return false;
    out->present = part.json != NULL;
    out->nanoseconds = (uint32_t)nanoseconds;
    return true;
}

static bool read_time_offsets(struct config *c, struct error *err)
{
    const struct namespace_config *time = config_namespace(c, CLONE_NEWTIME);
    struct field part;
    if (!field_member(&c->linux_part, "timeOffsets", FIELD_OBJECT, &part, err) ||
        !read_offset(&part, "monotonic", &c->monotonic, err) ||
        !read_offset(&part, "boottime", &c->boottime, err))
        return false;
    if (part.json && json_object_size(part.json) && (!time || time->path))
        return field_error(&part, err, "needs a new time namespace; add one to linux.namespaces");
    return true;
}

static bool read_device(struct device_config *d, const struct field *at, struct error *err)
{
    const char *type = NULL;
    int64_t major = 0, minor = 0;
    uint64_t mode = 0666, uid = 0, gid = 0;
    bool has_major, has_minor;
    if (!field_string(at, "path", &d->path, err) || !field_string(at, "type", &type, err) ||
        !field_signed(at, "major", 0, 0xfff, &major, &has_major, err) ||
        !field_signed(at, "minor", 0, 0xfffff, &minor, &has_minor, err) ||
        !field_unsigned(at, "fileMode", 0xffff, &mode, NULL, err) ||
        !field_unsigned(at, "uid", UINT32_MAX - 1, &uid, NULL, err) ||
        !field_unsigned(at, "gid", UINT32_MAX - 1, &gid, NULL, err))
        return false;
    if (!d->path || d->path[0] != '/')
        return field_error(at, err, "has no absolute path; add one");
    if (!type || strlen(type) != 1 || !strchr("cubp", type[0]))
        return field_error(at, err, "type must be c, u, b or p; correct it");
    if (type[0] != 'p' && (!has_major || !has_minor))
        return field_error(at, err, "needs major and minor; add what is missing");
    mode_t kind = type[0] == 'b' ? S_IFBLK : type[0] == 'p' ? S_IFIFO : S_IFCHR;
    d->mode = kind | ((mode_t)mode & 07777);
    d->number = makedev((unsigned)major, (unsigned)minor);
    d->uid = (uint32_t)uid;
    d->gid = (uint32_t)gid;
    return true;
}

static bool read_devices(struct config *c, struct error *err)
{
    struct field list, item;
    if (!field_member(&c->linux_part, "devices", FIELD_ARRAY, &list, err))
        return false;
    c->device_count = field_count(&list);
    c->devices = arena_array(&c->arena, c->device_count, sizeof *c->devices, err);
    if (!c->devices)
        return false;
    for (size_t i = 0; i < c->device_count; i++)
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !read_device(&c->devices[i], &item, err))
            return false;
    return true;
}

/* A sysctl belongs to a namespace; without a namespace of its own a container would set the
 * host's. */
static bool check_sysctl(const struct config *c, const struct field *at, const char *name,
                         struct error *err)
{
    static const struct {
        const char *prefix;
        int flag;
        const char *kind;
    } owners[] = {
        {"net.", CLONE_NEWNET, "network"},        {"kernel.msg", CLONE_NEWIPC, "ipc"},
        {"kernel.sem", CLONE_NEWIPC, "ipc"},      {"kernel.shm", CLONE_NEWIPC, "ipc"},
        {"fs.mqueue.", CLONE_NEWIPC, "ipc"},      {"kernel.domainname", CLONE_NEWUTS, "uts"},
        {"kernel.hostname", CLONE_NEWUTS, "uts"}, {"user.", CLONE_NEWUSER, "user"},
    };
    if (strstr(name, "..") || strchr(name, '\\') || name[0] == '.' || name[0] == '/')
        return field_error(at, err, "is no name of a sysctl; correct it");
    for (size_t i = 0; i < ARRAY_LEN(owners); i++) {
        size_t length = strlen(owners[i].prefix);
        bool same = true;
        /* Both "net.ipv4" and "net/ipv4" are in use. */
        for (size_t k = 0; k < length && same; k++)
            same = name[k] == owners[i].prefix[k] || (name[k] == '/' && owners[i].prefix[k] == '.');
        if (!same)
            continue;
        if (config_namespace(c, owners[i].flag))
            return true;
        return field_error(at, err, "would be the host's; add a %s namespace to linux.namespaces",
                           owners[i].kind);
    }
    return field_error(at, err, "belongs to no namespace: it would be the host's; set it there");
}

static bool read_sysctls(struct config *c, struct error *err)
{
    struct field all;
    const char *name;
    json_t *value;
    size_t n = 0;
    if (!field_member(&c->linux_part, "sysctl", FIELD_OBJECT, &all, err))
        return false;
    c->sysctls = arena_array(&c->arena, json_object_size(all.json), sizeof *c->sysctls, err);
    if (!c->sysctls)
        return false;
    json_object_foreach(all.json, name, value)
    {
        struct field one = {.json = value, .up = &all, .name = name};
        if (!field_as_string(&one, &c->sysctls[n].value, err) || !check_sysctl(c, &one, name, err))
            return false;
        c->sysctls[n++].name = name;
    }
    c->sysctl_count = n;
    return true;
}

static bool read_propagation(struct config *c, struct error *err)
{
    static const struct {
        const char *name;
        unsigned long flags;
    } words[] = {
        {"private", MS_PRIVATE},       {"rprivate", MS_REC | MS_PRIVATE},
        {"slave", MS_SLAVE},           {"rslave", MS_REC | MS_SLAVE},
        {"shared", MS_SHARED},         {"rshared", MS_REC | MS_SHARED},
        {"unbindable", MS_UNBINDABLE}, {"runbindable", MS_REC | MS_UNBINDABLE},
    };
    struct field f;
    if (!field_member(&c->linux_part, "rootfsPropagation", FIELD_STRING, &f, err))
        return false;
    const char *word = f.json ? json_string_value(f.json) : "";
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i].name, word) == 0) {
            c->rootfs_propagation = words[i].flags;
            return true;
        }
    return !*word || field_error(&f, err, "%.40s is no kind of propagation; correct it", word);
}

static bool read_personality(struct config *c, struct error *err)
{
    struct field part, flags;
    const char *domain = NULL;
    if (!field_member(&c->linux_part, "personality", FIELD_OBJECT, &part, err) ||
        !field_string(&part, "domain", &domain, err) ||
        !field_member(&part, "flags", FIELD_ARRAY, &flags, err))
        return false;
    if (!part.json)
        return true;
    if (field_count(&flags))
        return field_error(&flags, err, "none is defined by the specification; remove them");
    if (domain && strcmp(domain, "LINUX") == 0)
        c->personality = PER_LINUX;
    else if (domain && strcmp(domain, "LINUX32") == 0)
        c->personality = PER_LINUX32;
    else
        return field_error(&part, err, "domain must be LINUX or LINUX32; correct it");
    c->has_personality = true;
    return true;
}

static bool refuse_rdt(struct config *c, struct error *err)
{
    struct field rdt;
    if (!field_member(&c->linux_part, "intelRdt", FIELD_OBJECT, &rdt, err))
        return false;
    if (rdt.json && json_object_size(rdt.json))
        return field_error(&rdt, err, "cache allocation is not supported; remove it");
    return true;
}

bool config_linux(struct config *c, struct error *err)
{
    if (!field_member(&c->top, "linux", FIELD_OBJECT, &c->linux_part, err))
        return false;
    if (!c->linux_part.json)
        return field_error(&c->linux_part, err, "missing; a container needs namespaces");
    const struct field *in = &c->linux_part;
    return read_namespaces(c, err) && check_maps(c, err) && read_time_offsets(c, err) &&
           read_devices(c, err) && field_string(in, "cgroupsPath", &c->cgroups_path, err) &&
           field_member(in, "resources", FIELD_OBJECT, &c->resources, err) &&
           field_member(in, "seccomp", FIELD_OBJECT, &c->seccomp, err) && read_sysctls(c, err) &&
           read_propagation(c, err) &&
           field_strings(in, "maskedPaths", &c->arena, &c->masked_paths, &c->masked_count, err) &&
           field_strings(in, "readonlyPaths", &c->arena, &c->readonly_paths, &c->readonly_count,
                         err) &&
           field_string(in, "mountLabel", &c->mount_label, err) && read_personality(c, err) &&
           refuse_rdt(c, err);
}

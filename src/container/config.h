/*
 * config.json of an OCI bundle (runtime specification 1.1), read into structs and checked: what
 * comes out of here needs no further looking at for form. Strings belong to the document, arrays to
 * the arena; both live until config_free().
 */
#ifndef DOPPEL_CONTAINER_CONFIG_H
#define DOPPEL_CONTAINER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "container/arena.h"
#include "container/field.h"

struct rlimit_config {
    const char *name;
    int resource;
    struct rlimit limit;
};

struct capability_config {
    bool present;
    uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct process_config {
    bool present;
    bool terminal;
    uint16_t rows, columns;
    uint32_t uid, gid;
    bool has_umask;
    mode_t umask;
    uint32_t *groups;
    size_t group_count;
    char **args; /* NULL behind the last */
    size_t arg_count;
    char **env;
    size_t env_count;
    const char *cwd;
    struct capability_config capabilities;
    struct rlimit_config *rlimits;
    size_t rlimit_count;
    bool no_new_privileges;
    const char *apparmor_profile;
    const char *selinux_label;
    bool has_oom_score;
    int oom_score;
    bool has_io_priority;
    int io_priority; /* as ioprio_set() takes it */
    bool has_scheduler;
    uint32_t scheduler_policy;
    int32_t scheduler_nice;
    uint32_t scheduler_priority;
    uint64_t scheduler_flags, scheduler_runtime, scheduler_deadline, scheduler_period;
};

struct id_map {
    uint32_t inside, outside, length;
};

struct id_maps {
    struct id_map *uids, *gids;
    size_t uid_count, gid_count;
};

struct mount_config {
    const char *destination; /* absolute, or taken from the root */
    const char *type;        /* may be NULL */
    const char *source;      /* may be NULL */
    char **options;
    size_t option_count;
    struct id_maps maps; /* an idmapped mount's */
    struct field at;     /* for errors; its chain is in the arena */
};

struct hook_config {
    const char *path;
    char **args;
    size_t arg_count;
    char **env;
    size_t env_count;
    unsigned timeout; /* in seconds; 0: none */
};

/* In the specification's order of a container's life. */
enum hook_kind {
    HOOK_PRESTART,
    HOOK_CREATE_RUNTIME,
    HOOK_CREATE_CONTAINER,
    HOOK_START_CONTAINER,
    HOOK_POSTSTART,
    HOOK_POSTSTOP,
    HOOK_KINDS,
};

struct hook_list {
    struct hook_config *hooks;
    size_t count;
};

struct namespace_config {
    int flag;         /* CLONE_NEW* */
    const char *name; /* the specification's word */
    const char *path; /* NULL: a new one */
};

enum { NAMESPACE_KINDS = 8 };

struct device_config {
    const char *path;
    mode_t mode; /* S_IFCHR, S_IFBLK or S_IFIFO, and the permissions */
    dev_t number;
    uint32_t uid, gid;
};

struct sysctl_config {
    const char *name, *value;
};

struct time_offset {
    bool present;
    int64_t seconds;
    uint32_t nanoseconds;
};

struct config {
    struct arena arena;
    json_t *json;
    struct field top;
    const char *version;
    const char *rootfs; /* as written: absolute, or from the bundle */
    bool rootfs_readonly;
    const char *hostname, *domainname;
    struct process_config process;
    struct mount_config *mounts;
    size_t mount_count;
    struct hook_list hooks[HOOK_KINDS];

    struct namespace_config namespaces[NAMESPACE_KINDS];
    size_t namespace_count;
    struct id_maps maps; /* the user namespace's */
    struct time_offset monotonic, boottime;
    struct device_config *devices;
    size_t device_count;
    const char *cgroups_path; /* NULL: ours to choose */
    struct field linux_part, resources, seccomp;
    struct sysctl_config *sysctls;
    size_t sysctl_count;
    unsigned long rootfs_propagation; /* MS_*; 0: as by default */
    char **masked_paths, **readonly_paths;
    size_t masked_count, readonly_count;
    const char *mount_label;
    bool has_personality;
    unsigned long personality;
    json_t *annotations; /* may be NULL */
};

/* Reads and checks bundle's config.json. Free with config_free() also when it failed. */
bool config_load(struct config *c, const char *path, struct error *err);
/* The same from a document that is taken over. */
bool config_take(struct config *c, json_t *json, struct error *err);
void config_free(struct config *c);

/* The process object alone, as `exec --process` takes it. */
bool config_process(struct process_config *p, const struct field *at, struct arena *arena,
                    struct error *err);
bool config_linux(struct config *c, struct error *err);
bool config_id_maps(const struct field *in, const char *uids, const char *gids, struct arena *arena,
                    struct id_maps *maps, struct error *err);

/* The namespace with that flag, or NULL. */
const struct namespace_config *config_namespace(const struct config *c, int flag);
/* The flags of the namespaces that are to be new. */
int config_new_namespaces(const struct config *c);

#endif

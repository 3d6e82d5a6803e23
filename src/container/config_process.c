/* The process object: of config.json, and of what `exec --process` is given. */
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/capability.h>

#include "base/bits.h"
#include "container/config.h"

static const struct {
    const char *name;
    int resource;
} rlimits[] = {
    {"RLIMIT_AS", RLIMIT_AS},
    {"RLIMIT_CORE", RLIMIT_CORE},
    {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},
    {"RLIMIT_FSIZE", RLIMIT_FSIZE},
    {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
    {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE},
    {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},
    {"RLIMIT_NPROC", RLIMIT_NPROC},
    {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
    {"RLIMIT_RTTIME", RLIMIT_RTTIME},
    {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK},
};

static bool read_rlimit(struct rlimit_config *r, const struct field *at, struct error *err)
{
    uint64_t soft = 0, hard = 0;
    bool has_soft, has_hard;
    r->name = NULL;
    if (!field_string(at, "type", &r->name, err) ||
        !field_unsigned(at, "soft", UINT64_MAX, &soft, &has_soft, err) ||
        !field_unsigned(at, "hard", UINT64_MAX, &hard, &has_hard, err))
        return false;
    if (!r->name || !has_soft || !has_hard)
        return field_error(at, err, "needs type, soft and hard; add what is missing");
    if (soft > hard)
        return field_error(at, err, "soft is above hard; lower it");
    r->limit = (struct rlimit){soft, hard};
    for (size_t i = 0; i < ARRAY_LEN(rlimits); i++)
        if (strcmp(rlimits[i].name, r->name) == 0) {
            r->resource = rlimits[i].resource;
            return true;
        }
    return field_error(at, err, "%.40s is no resource limit; see getrlimit(2)", r->name);
}

static bool read_rlimits(struct process_config *p, const struct field *in, struct arena *arena,
                         struct error *err)
{
    struct field list, item;
    if (!field_member(in, "rlimits", FIELD_ARRAY, &list, err))
        return false;
    p->rlimit_count = field_count(&list);
    p->rlimits = arena_array(arena, p->rlimit_count, sizeof *p->rlimits, err);
    if (!p->rlimits)
        return false;
    for (size_t i = 0; i < p->rlimit_count; i++) {
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !read_rlimit(&p->rlimits[i], &item, err))
            return false;
        for (size_t k = 0; k < i; k++)
            if (p->rlimits[k].resource == p->rlimits[i].resource)
                return field_error(&item, err, "%s is there twice; remove one", p->rlimits[i].name);
    }
    return true;
}

static bool read_set(const struct field *in, const char *name, uint64_t *set, struct error *err)
{
    struct field list, item;
    if (!field_member(in, name, FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++) {
        const char *text;
        cap_value_t value;
        if (!field_item(&list, i, FIELD_STRING, &item, err) || !field_as_string(&item, &text, err))
            return false;
        /* The library also takes numbers and lower case; the specification has neither. */
        if (strncmp(text, "CAP_", 4) != 0 || cap_from_name(text, &value) != 0 || value > 63)
            return field_error(&item, err, "%.40s is no capability; see capabilities(7)", text);
        *set |= BIT(value);
    }
    return true;
}

static bool read_capabilities(struct capability_config *c, const struct field *in,
                              struct error *err)
{
    struct field sets;
    if (!field_member(in, "capabilities", FIELD_OBJECT, &sets, err))
        return false;
    c->present = sets.json != NULL;
    return read_set(&sets, "bounding", &c->bounding, err) &&
           read_set(&sets, "effective", &c->effective, err) &&
           read_set(&sets, "inheritable", &c->inheritable, err) &&
           read_set(&sets, "permitted", &c->permitted, err) &&
           read_set(&sets, "ambient", &c->ambient, err);
}

static bool read_user(struct process_config *p, const struct field *in, struct arena *arena,
                      struct error *err)
{
    struct field user;
    uint64_t uid = 0, gid = 0, umask = 0;
    if (!field_member(in, "user", FIELD_OBJECT, &user, err) ||
        !field_unsigned(&user, "uid", UINT32_MAX - 1, &uid, NULL, err) ||
        !field_unsigned(&user, "gid", UINT32_MAX - 1, &gid, NULL, err) ||
        !field_unsigned(&user, "umask", 0777, &umask, &p->has_umask, err) ||
        !field_ids(&user, "additionalGids", arena, &p->groups, &p->group_count, err))
        return false;
    p->uid = (uint32_t)uid;
    p->gid = (uint32_t)gid;
    p->umask = (mode_t)umask;
    return true;
}

static bool read_console(struct process_config *p, const struct field *in, struct error *err)
{
    struct field size;
    uint64_t rows = 0, columns = 0;
    if (!field_boolean(in, "terminal", &p->terminal, err) ||
        !field_member(in, "consoleSize", FIELD_OBJECT, &size, err) ||
        !field_unsigned(&size, "height", UINT16_MAX, &rows, NULL, err) ||
        !field_unsigned(&size, "width", UINT16_MAX, &columns, NULL, err))
        return false;
    p->rows = (uint16_t)rows;
    p->columns = (uint16_t)columns;
    return true;
}

static bool find_word(const struct field *in, const char *name, const struct field_word *words,
                      size_t count, uint64_t *out, bool *present, struct error *err)
{
    struct field f;
    if (!field_member(in, name, FIELD_STRING, &f, err))
        return false;
    *present = f.json != NULL;
    if (!f.json)
        return true;
    for (size_t i = 0; i < count; i++)
        if (strcmp(words[i].name, json_string_value(f.json)) == 0) {
            *out = words[i].value;
            return true;
        }
    return field_error(&f, err, "%.40s is unknown; correct it", json_string_value(f.json));
}

static bool read_io_priority(struct process_config *p, const struct field *in, struct error *err)
{
    static const struct field_word classes[] = {{"IOPRIO_CLASS_RT", IOPRIO_CLASS_RT},
                                                {"IOPRIO_CLASS_BE", IOPRIO_CLASS_BE},
                                                {"IOPRIO_CLASS_IDLE", IOPRIO_CLASS_IDLE}};
    struct field part;
    uint64_t class = 0, priority = 0;
    if (!field_member(in, "ioPriority", FIELD_OBJECT, &part, err) ||
        !find_word(&part, "class", classes, ARRAY_LEN(classes), &class, &p->has_io_priority, err) ||
        !field_unsigned(&part, "priority", 7, &priority, NULL, err))
        return false;
    p->io_priority = (int)IOPRIO_PRIO_VALUE(class, priority);
    return true;
}

static bool read_scheduler(struct process_config *p, const struct field *in, struct error *err)
{
    static const struct field_word policies[] = {
        {"SCHED_OTHER", SCHED_NORMAL}, {"SCHED_FIFO", SCHED_FIFO},
        {"SCHED_RR", SCHED_RR},        {"SCHED_BATCH", SCHED_BATCH},
        {"SCHED_IDLE", SCHED_IDLE},    {"SCHED_DEADLINE", SCHED_DEADLINE},
    };
    static const struct field_word flags[] = {
        {"SCHED_FLAG_RESET_ON_FORK", SCHED_FLAG_RESET_ON_FORK},
        {"SCHED_FLAG_RECLAIM", SCHED_FLAG_RECLAIM},
        {"SCHED_FLAG_DL_OVERRUN", SCHED_FLAG_DL_OVERRUN},
        {"SCHED_FLAG_KEEP_POLICY", SCHED_FLAG_KEEP_POLICY},
        {"SCHED_FLAG_KEEP_PARAMS", SCHED_FLAG_KEEP_PARAMS},
        {"SCHED_FLAG_UTIL_CLAMP_MIN", SCHED_FLAG_UTIL_CLAMP_MIN},
        {"SCHED_FLAG_UTIL_CLAMP_MAX", SCHED_FLAG_UTIL_CLAMP_MAX},
    };
    struct field part;
    uint64_t policy = 0, priority = 0;
    int64_t nice = 0;
    if (!field_member(in, "scheduler", FIELD_OBJECT, &part, err) ||
        !find_word(&part, "policy", policies, ARRAY_LEN(policies), &policy, &p->has_scheduler,
                   err) ||
        !field_signed(&part, "nice", -20, 19, &nice, NULL, err) ||
        !field_unsigned(&part, "priority", 99, &priority, NULL, err) ||
        !field_unsigned(&part, "runtime", UINT64_MAX, &p->scheduler_runtime, NULL, err) ||
        !field_unsigned(&part, "deadline", UINT64_MAX, &p->scheduler_deadline, NULL, err) ||
        !field_unsigned(&part, "period", UINT64_MAX, &p->scheduler_period, NULL, err) ||
        !field_flags(&part, "flags", flags, ARRAY_LEN(flags), "see sched_setattr(2)",
                     &p->scheduler_flags, err))
        return false;
    p->scheduler_policy = (uint32_t)policy;
    p->scheduler_nice = (int32_t)nice;
    p->scheduler_priority = (uint32_t)priority;
    return true;
}

bool config_process(struct process_config *p, const struct field *at, struct arena *arena,
                    struct error *err)
{
    int64_t score = 0;
    memset(p, 0, sizeof *p);
    p->present = true;
    if (!read_console(p, at, err) || !read_user(p, at, arena, err) ||
        !field_strings(at, "args", arena, &p->args, &p->arg_count, err) ||
        !field_strings(at, "env", arena, &p->env, &p->env_count, err) ||
        !field_string(at, "cwd", &p->cwd, err) || !read_capabilities(&p->capabilities, at, err) ||
        !read_rlimits(p, at, arena, err) ||
        !field_boolean(at, "noNewPrivileges", &p->no_new_privileges, err) ||
        !field_string(at, "apparmorProfile", &p->apparmor_profile, err) ||
        !field_string(at, "selinuxLabel", &p->selinux_label, err) ||
        !field_signed(at, "oomScoreAdj", -1000, 1000, &score, &p->has_oom_score, err) ||
        !read_io_priority(p, at, err) || !read_scheduler(p, at, err))
        return false;
    p->oom_score = (int)score;
    struct field f;
    if (p->arg_count == 0 || !*p->args[0])
        return field_member(at, "args", FIELD_ARRAY, &f, err) &&
               field_error(&f, err, "is empty; say what is to be run");
    if (!p->cwd || p->cwd[0] != '/')
        return field_member(at, "cwd", FIELD_STRING, &f, err) &&
               field_error(&f, err, "must be an absolute path; correct it");
    return true;
}

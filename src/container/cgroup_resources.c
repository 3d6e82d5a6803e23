/* linux.resources: read into a list of files and values, for version 1 or 2; then written. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/cgroup.h"

struct reader {
    struct cgroup_plan *plan;
    struct arena *arena;
    bool v2;
};

static bool add(struct reader *r, const struct field *at, const char *controller, const char *file,
                const char *value, bool optional, struct error *err)
{
    struct cgroup_plan *p = r->plan;
    if (!value)
        return false;
    if (p->count == p->room) {
        size_t room = p->room ? p->room * 2 : 32;
        struct cgroup_setting *more = arena_array(r->arena, room, sizeof *more, err);
        if (!more)
            return false;
        if (p->count)
            memcpy(more, p->settings, p->count * sizeof *more);
        p->settings = more;
        p->room = room;
    }
    struct cgroup_setting *s = &p->settings[p->count++];
    snprintf(s->controller, sizeof s->controller, "%s", controller);
    snprintf(s->file, sizeof s->file, "%s", file);
    s->value = (char *)(uintptr_t)value;
    s->at = *at;
    s->optional = optional;
    return true;
}

/* ---- plain numbers ---- */

enum conversion {
    NUMBER,
    LIMIT,     /* negative: "max" in version 2, -1 in version 1 */
    WEIGHT,    /* shares 2 to 262144 to weights 1 to 10000 */
    IO_WEIGHT, /* 10 to 1000 to 1 to 10000 */
    COUNT,     /* not positive: "max" in both */
};

struct number_row {
    const char *object, *name;
    const char *controller, *v1, *v2; /* NULL: nothing to write there */
    enum conversion conversion;
    int64_t min;
    bool optional;
};

static const struct number_row numbers[] = {
    {"memory", "swap", "memory", "memory.memsw.limit_in_bytes", NULL, LIMIT, -1, true},
    {"memory", "limit", "memory", "memory.limit_in_bytes", "memory.max", LIMIT, -1, false},
    {"memory", "reservation", "memory", "memory.soft_limit_in_bytes", "memory.low", LIMIT, -1,
     false},
    {"memory", "kernelTCP", "memory", "memory.kmem.tcp.limit_in_bytes", NULL, LIMIT, -1, true},
    {"memory", "swappiness", "memory", "memory.swappiness", NULL, NUMBER, 0, false},
    {"cpu", "shares", "cpu", "cpu.shares", "cpu.weight", WEIGHT, 0, false},
    {"cpu", "burst", "cpu", "cpu.cfs_burst_us", "cpu.max.burst", NUMBER, 0, false},
    {"cpu", "realtimePeriod", "cpu", "cpu.rt_period_us", NULL, NUMBER, 0, false},
    {"cpu", "realtimeRuntime", "cpu", "cpu.rt_runtime_us", NULL, NUMBER, -1, false},
    {"cpu", "idle", "cpu", "cpu.idle", "cpu.idle", NUMBER, 0, false},
    {"pids", "limit", "pids", "pids.max", "pids.max", COUNT, INT64_MIN, false},
    {"blockIO", "weight", "blkio", "blkio.bfq.weight", "io.weight", IO_WEIGHT, 0, true},
    {"blockIO", "leafWeight", "blkio", "blkio.leaf_weight", NULL, NUMBER, 0, true},
    {"network", "classID", "net_cls", "net_cls.classid", NULL, NUMBER, 0, false},
};

static const char *convert(struct reader *r, const struct number_row *row, int64_t n,
                           struct error *err)
{
    if (r->v2 && row->conversion == WEIGHT)
        n = n < 2 ? 1 : n > 262144 ? 10000 : 1 + (n - 2) * 9999 / 262142;
    if (r->v2 && row->conversion == IO_WEIGHT)
        n = n < 10 ? 1 : n > 1000 ? 10000 : 1 + (n - 10) * 9999 / 990;
    if ((row->conversion == COUNT && n <= 0) || (r->v2 && row->conversion == LIMIT && n < 0))
        return arena_printf(r->arena, err, "max");
    return arena_printf(r->arena, err, "%lld", (long long)n);
}

static bool read_numbers(struct reader *r, const struct field *in, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        const struct number_row *row = &numbers[i];
        struct field object, at;
        int64_t n = 0;
        bool present;
        if (!field_member(in, row->object, FIELD_OBJECT, &object, err) ||
            !field_signed(&object, row->name, row->min, INT64_MAX, &n, &present, err))
            return false;
        const char *file = r->v2 ? row->v2 : row->v1;
        /* A count of shares of 0 means that nothing is said. */
        if (!present || !file || (n == 0 && row->conversion >= WEIGHT && row->conversion != COUNT))
            continue;
        if (n == 0 && row->conversion == LIMIT)
            continue;
        at = (struct field){.up = in,
                            .name = arena_printf(r->arena, err, "%s.%s", row->object, row->name)};
        if (!at.name)
            return false;
        if (!add(r, &at, row->controller, file, convert(r, row, n, err), row->optional, err))
            return false;
    }
    return true;
}

/* ---- what needs more than one number ---- */

/* In version 2 swap is counted alone, in the configuration together with memory. */
static bool read_swap(struct reader *r, const struct field *in, struct error *err)
{
    struct field memory;
    int64_t limit = 0, swap = 0;
    bool has_limit, has_swap, no_killer = false;
    if (!field_member(in, "memory", FIELD_OBJECT, &memory, err) ||
        !field_signed(&memory, "limit", -1, INT64_MAX, &limit, &has_limit, err) ||
        !field_signed(&memory, "swap", -1, INT64_MAX, &swap, &has_swap, err) ||
        !field_boolean(&memory, "disableOOMKiller", &no_killer, err))
        return false;
    if (has_swap && swap > 0 && limit > 0 && swap < limit)
        return field_error(&memory, err,
                           "swap counts memory too, so it can't be below limit; "
                           "raise it");
    if (!r->v2)
        return !no_killer || add(r, &memory, "memory", "memory.oom_control", "1", false, err);
    if (!has_swap || swap == 0)
        return true;
    if (swap > 0 && limit <= 0)
        return field_error(&memory, err, "swap needs a limit, too; add one");
    const char *value = swap < 0 ? arena_printf(r->arena, err, "max")
                                 : arena_printf(r->arena, err, "%lld", (long long)(swap - limit));
    return add(r, &memory, "memory", "memory.swap.max", value, true, err);
}

static bool read_quota(struct reader *r, const struct field *in, struct error *err)
{
    struct field cpu;
    int64_t quota = 0;
    uint64_t period = 0;
    bool has_quota, has_period;
    if (!field_member(in, "cpu", FIELD_OBJECT, &cpu, err) ||
        !field_signed(&cpu, "quota", INT64_MIN, INT64_MAX, &quota, &has_quota, err) ||
        !field_unsigned(&cpu, "period", INT64_MAX, &period, &has_period, err))
        return false;
    has_quota = has_quota && quota != 0;
    has_period = has_period && period != 0;
    if (!r->v2) {
        const char *file = "cpu.cfs_period_us";
        if (has_period &&
            !add(r, &cpu, "cpu", file,
                 arena_printf(r->arena, err, "%llu", (unsigned long long)period), false, err))
            return false;
        return !has_quota || add(r, &cpu, "cpu", "cpu.cfs_quota_us",
                                 arena_printf(r->arena, err, "%lld", (long long)quota), false, err);
    }
    if (!has_quota && !has_period)
        return true;
    unsigned long long cycle = has_period ? period : 100000;
    const char *value = quota > 0
                            ? arena_printf(r->arena, err, "%lld %llu", (long long)quota, cycle)
                            : arena_printf(r->arena, err, "max %llu", cycle);
    return add(r, &cpu, "cpu", "cpu.max", value, false, err);
}

static bool read_cpusets(struct reader *r, const struct field *in, struct error *err)
{
    static const char *const names[][3] = {{"cpus", "cpuset.cpus", "cpu.cpus"},
                                           {"mems", "cpuset.mems", "cpu.mems"}};
    struct field cpu;
    if (!field_member(in, "cpu", FIELD_OBJECT, &cpu, err))
        return false;
    for (int i = 0; i < 2; i++) {
        const char *value = NULL;
        if (!field_string(&cpu, names[i][0], &value, err))
            return false;
        struct field at = {.json = cpu.json, .up = in, .name = names[i][2]};
        if (value && *value && !add(r, &at, "cpuset", names[i][1], value, false, err))
            return false;
    }
    return true;
}

static bool read_throttles(struct reader *r, const struct field *in, struct error *err)
{
    static const struct {
        const char *name, *v1, *v2;
    } kinds[] = {
        {"throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"},
        {"throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"},
        {"throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"},
        {"throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"},
        {"weightDevice", "blkio.bfq.weight_device", NULL},
    };
    struct field io, list, item;
    if (!field_member(in, "blockIO", FIELD_OBJECT, &io, err))
        return false;
    for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
        if (!field_member(&io, kinds[k].name, FIELD_ARRAY, &list, err))
            return false;
        for (size_t i = 0; i < field_count(&list); i++) {
            uint64_t major = 0, minor = 0, rate = 0;
            if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
                !field_unsigned(&item, "major", 0xfff, &major, NULL, err) ||
                !field_unsigned(&item, "minor", 0xfffff, &minor, NULL, err) ||
                !field_unsigned(&item, k == 4 ? "weight" : "rate", INT64_MAX, &rate, NULL, err))
                return false;
            const char *file = r->v2 ? (kinds[k].v2 ? "io.max" : "io.bfq.weight") : kinds[k].v1;
            const char *key = r->v2 && kinds[k].v2 ? kinds[k].v2 : "";
            const char *value =
                arena_printf(r->arena, err, "%u:%u %s%s%llu", (unsigned)major, (unsigned)minor, key,
                             *key ? "=" : "", (unsigned long long)rate);
            if (!add(r, &io, r->v2 ? "io" : "blkio", file, value, k == 4, err))
                return false;
        }
    }
    return true;
}

static bool read_hugepages(struct reader *r, const struct field *in, struct error *err)
{
    struct field list, item;
    if (!field_member(in, "hugepageLimits", FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++) {
        const char *size = NULL;
        uint64_t limit = 0;
        char file[64];
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !field_string(&item, "pageSize", &size, err) ||
            !field_unsigned(&item, "limit", UINT64_MAX, &limit, NULL, err))
            return false;
        if (!size || strlen(size) > 8 || strpbrk(size, "/."))
            return field_error(&item, err, "pageSize must be a size as \"2MB\"; correct it");
        snprintf(file, sizeof file, "hugetlb.%s.%s", size, r->v2 ? "max" : "limit_in_bytes");
        if (!add(r, &list, "hugetlb", file,
                 arena_printf(r->arena, err, "%llu", (unsigned long long)limit), false, err))
            return false;
    }
    return true;
}

static bool read_network(struct reader *r, const struct field *in, struct error *err)
{
    struct field network, list, item;
    if (!field_member(in, "network", FIELD_OBJECT, &network, err) ||
        !field_member(&network, "priorities", FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++) {
        const char *name = "";
        uint64_t priority = 0;
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !field_string(&item, "name", &name, err) ||
            !field_unsigned(&item, "priority", UINT32_MAX, &priority, NULL, err))
            return false;
        if (!r->v2 &&
            !add(r, &network, "net_prio", "net_prio.ifpriomap",
                 arena_printf(r->arena, err, "%s %u", name, (unsigned)priority), false, err))
            return false;
    }
    return true;
}

static bool read_rdma(struct reader *r, const struct field *in, struct error *err)
{
    struct field all;
    const char *name;
    json_t *value;
    if (!field_member(in, "rdma", FIELD_OBJECT, &all, err))
        return false;
    json_object_foreach(all.json, name, value)
    {
        struct field one = {.json = value, .up = &all, .name = name};
        uint64_t handles = 0, objects = 0;
        bool has_handles, has_objects;
        if (!json_is_object(value))
            return field_error(&one, err, "must be an object; correct it");
        if (!field_unsigned(&one, "hcaHandles", UINT32_MAX, &handles, &has_handles, err) ||
            !field_unsigned(&one, "hcaObjects", UINT32_MAX, &objects, &has_objects, err))
            return false;
        char h[32] = "", o[32] = "";
        if (has_handles)
            snprintf(h, sizeof h, " hca_handle=%u", (unsigned)handles);
        if (has_objects)
            snprintf(o, sizeof o, " hca_object=%u", (unsigned)objects);
        if (!add(r, &all, "rdma", "rdma.max", arena_printf(r->arena, err, "%s%s%s", name, h, o),
                 false, err))
            return false;
    }
    return true;
}

static bool read_unified(struct reader *r, const struct field *in, struct error *err)
{
    struct field all;
    const char *name;
    json_t *value;
    if (!field_member(in, "unified", FIELD_OBJECT, &all, err))
        return false;
    json_object_foreach(all.json, name, value)
    {
        struct field one = {.json = value, .up = &all, .name = name};
        const char *text;
        if (!field_as_string(&one, &text, err))
            return false;
        if (strchr(name, '/') || !strchr(name, '.') || strlen(name) > 60)
            return field_error(&one, err, "is no file of a cgroup; correct it");
        if (!r->v2)
            return field_error(&one, err,
                               "needs cgroup version 2, and this host's controllers "
                               "are version 1's; use the other fields");
        if (!add(r, &all, "", name, text, false, err))
            return false;
    }
    return true;
}

/* ---- devices ---- */

static bool read_rule(const struct field *at, struct device_rule *d, struct error *err)
{
    const char *type = "a", *access = "rwm";
    d->major = d->minor = -1;
    if (!field_boolean(at, "allow", &d->allow, err) || !field_string(at, "type", &type, err) ||
        !field_string(at, "access", &access, err) ||
        !field_signed(at, "major", -1, 0xfff, &d->major, NULL, err) ||
        !field_signed(at, "minor", -1, 0xfffff, &d->minor, NULL, err))
        return false;
    if (!*type)
        type = "a";
    if (strlen(type) != 1 || !strchr("abc", type[0]))
        return field_error(at, err, "type must be a, b or c; correct it");
    d->type = type[0];
    for (const char *c = access; *c; c++) {
        if (!strchr("rwm", *c))
            return field_error(at, err, "access is made of r, w and m; correct it");
        d->read |= *c == 'r';
        d->write |= *c == 'w';
        d->mknod |= *c == 'm';
    }
    return true;
}

/* What every container may use, whatever the configuration says before: the devices that the
 * specification supplies, terminals, and the making of nodes (which by itself opens nothing). */
static const struct device_rule always[] = {
    {true, 'c', -1, -1, false, false, true}, {true, 'b', -1, -1, false, false, true},
    {true, 'c', 1, 3, true, true, true},     {true, 'c', 1, 5, true, true, true},
    {true, 'c', 1, 7, true, true, true},     {true, 'c', 1, 8, true, true, true},
    {true, 'c', 1, 9, true, true, true},     {true, 'c', 5, 0, true, true, true},
    {true, 'c', 5, 1, true, true, true},     {true, 'c', 5, 2, true, true, true},
    {true, 'c', 136, -1, true, true, true},
};

static bool add_rule(struct reader *r, const struct device_rule *d, const struct field *at,
                     struct error *err)
{
    char major[24] = "*", minor[24] = "*";
    if (r->v2)
        return true;
    /* Version 1 takes "a" only for everything at once. */
    if (d->major >= 0)
        snprintf(major, sizeof major, "%lld", (long long)d->major);
    if (d->minor >= 0)
        snprintf(minor, sizeof minor, "%lld", (long long)d->minor);
    return add(r, at, "devices", d->allow ? "devices.allow" : "devices.deny",
               d->type == 'a' && d->major < 0 && d->minor < 0
                   ? arena_printf(r->arena, err, "a")
                   : arena_printf(r->arena, err, "%c %s:%s %s%s%s", d->type, major, minor,
                                  d->read ? "r" : "", d->write ? "w" : "", d->mknod ? "m" : ""),
               false, err);
}

static bool read_devices(struct reader *r, const struct field *in, struct error *err)
{
    struct field list, item;
    if (!field_member(in, "devices", FIELD_ARRAY, &list, err))
        return false;
    size_t n = field_count(&list);
    if (n == 0)
        return true;
    struct cgroup_plan *p = r->plan;
    p->devices = arena_array(r->arena, n + ARRAY_LEN(always), sizeof *p->devices, err);
    if (!p->devices)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!field_item(&list, i, FIELD_OBJECT, &item, err) ||
            !read_rule(&item, &p->devices[i], err))
            return false;
    memcpy(p->devices + n, always, sizeof always);
    p->device_count = n + ARRAY_LEN(always);
    for (size_t i = 0; i < p->device_count; i++)
        if (!add_rule(r, &p->devices[i], &list, err))
            return false;
    return true;
}

bool cgroup_plan_read(const struct field *resources, bool v2, struct arena *arena,
                      struct cgroup_plan *plan, struct error *err)
{
    struct reader r = {plan, arena, v2};
    memset(plan, 0, sizeof *plan);
    if (!resources->json)
        return true;
    return read_devices(&r, resources, err) && read_numbers(&r, resources, err) &&
           read_swap(&r, resources, err) && read_quota(&r, resources, err) &&
           read_cpusets(&r, resources, err) && read_throttles(&r, resources, err) &&
           read_hugepages(&r, resources, err) && read_network(&r, resources, err) &&
           read_rdma(&r, resources, err) && read_unified(&r, resources, err);
}

/* ---- writing ---- */

static bool has_file(const struct cgroup_hierarchy *h, const char *file)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", h->folder, file);
    return stat(path, &st) == 0;
}

/* The file that was written last: rules for devices are many, and go to the same one. */
struct open_file {
    const struct cgroup_hierarchy *hierarchy;
    char name[64];
    int fd; /* -1: none */
};

static void close_file(struct open_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

static bool open_file(struct open_file *f, const struct cgroup_hierarchy *h, const char *name)
{
    char path[PATH_MAX];
    if (f->fd >= 0 && f->hierarchy == h && strcmp(f->name, name) == 0)
        return true;
    close_file(f);
    f->hierarchy = h;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(path, sizeof path, "%s/%s", h->folder, name);
    f->fd = open(path, O_WRONLY | O_CLOEXEC);
    return f->fd >= 0;
}

static bool apply(struct open_file *f, const struct cgroup_setting *s, const struct cgroups *g,
                  struct error *err)
{
    const struct cgroup_hierarchy *h =
        s->controller[0] ? cgroups_controller(g, s->controller) : cgroups_unified(g);
    size_t length = strlen(s->value);
    errno = ENOENT;
    if (h && h->folder && open_file(f, h, s->file) &&
        pwrite(f->fd, s->value, length, 0) == (ssize_t)length)
        return true;
    int why = errno;
    if (!h || !h->folder || !has_file(h, s->file))
        return s->optional || field_error(&s->at, err,
                                          "this host offers no %s to this container; leave it out, "
                                          "or have the administrator delegate the controller",
                                          s->file);
    return field_error(&s->at, err, "%s does not take %.60s: %s", s->file, s->value, strerror(why));
}

/* Settings that depend on one another (a limit must not pass the one on memory and swap) go in the
 * one order when they rise and in the other when they fall: what fails is tried again at the end.
 */
bool cgroup_plan_apply(const struct cgroup_plan *plan, const struct cgroups *g,
                       bool devices_may_fail, struct error *err)
{
    bool *again = calloc(plan->count + 1, sizeof *again), ok = true;
    if (!again)
        return error_set(err, "cgroups: no memory; free some");
    struct open_file file = {.fd = -1};
    for (size_t i = 0; i < plan->count; i++) {
        struct error ignored = {0};
        again[i] = !apply(&file, &plan->settings[i], g, &ignored);
    }
    for (size_t i = 0; i < plan->count && ok; i++)
        if (again[i] && !(devices_may_fail && strcmp(plan->settings[i].controller, "devices") == 0))
            ok = apply(&file, &plan->settings[i], g, err);
    close_file(&file);
    free(again);
    if (!ok)
        return false;
    if (!plan->device_count || !cgroups_are_v2(g))
        return true;
    struct error why = {0};
    ok = cgroup_devices_apply(plan->devices, plan->device_count, g, &why) || devices_may_fail;
    if (!ok)
        *err = why;
    return ok;
}

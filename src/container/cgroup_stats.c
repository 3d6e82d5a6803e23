/* What a container has used, in the form that `events` of other runtimes has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "container/cgroup.h"

static json_int_t number_in(const struct cgroups *g, const char *controller, const char *file)
{
    char text[64];
    if (!cgroup_read(cgroups_controller(g, controller), file, text, sizeof text))
        return 0;
    unsigned long long n = strtoull(text, NULL, 10);
    return n > INT64_MAX ? INT64_MAX : (json_int_t)n;
}

/* "key value" lines; all of them as an object. */
static json_t *lines_in(const struct cgroups *g, const char *controller, const char *file)
{
    char text[8192], *save = NULL, key[64];
    json_t *all = json_object();
    if (!cgroup_read(cgroups_controller(g, controller), file, text, sizeof text))
        return all;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        unsigned long long n;
        if (sscanf(line, "%63s %llu", key, &n) == 2)
            json_object_set_new(all, key, json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n));
    }
    return all;
}

static json_int_t line_of(json_t *lines, const char *key)
{
    return json_integer_value(json_object_get(lines, key));
}

static json_t *cpu_v1(const struct cgroups *g)
{
    json_t *throttling = lines_in(g, "cpu", "cpu.stat"), *per_cpu = json_array();
    char text[8192], *save = NULL;
    if (cgroup_read(cgroups_controller(g, "cpuacct"), "cpuacct.usage_percpu", text, sizeof text))
        for (char *word = strtok_r(text, " \n", &save); word; word = strtok_r(NULL, " \n", &save))
            json_array_append_new(per_cpu, json_integer(strtoll(word, NULL, 10)));
    json_t *json = json_pack("{s:{s:I,s:o,s:I,s:I},s:{s:I,s:I,s:I}}", "usage", "total",
                             number_in(g, "cpuacct", "cpuacct.usage"), "percpu", per_cpu, "kernel",
                             number_in(g, "cpuacct", "cpuacct.usage_sys"), "user",
                             number_in(g, "cpuacct", "cpuacct.usage_user"), "throttling", "periods",
                             line_of(throttling, "nr_periods"), "throttledPeriods",
                             line_of(throttling, "nr_throttled"), "throttledTime",
                             line_of(throttling, "throttled_time"));
    json_decref(throttling);
    return json;
}

static json_t *cpu_v2(const struct cgroups *g)
{
    json_t *stat = lines_in(g, "cpu", "cpu.stat");
    json_t *json = json_pack(
        "{s:{s:I,s:I,s:I},s:{s:I,s:I,s:I}}", "usage", "total", line_of(stat, "usage_usec") * 1000,
        "kernel", line_of(stat, "system_usec") * 1000, "user", line_of(stat, "user_usec") * 1000,
        "throttling", "periods", line_of(stat, "nr_periods"), "throttledPeriods",
        line_of(stat, "nr_throttled"), "throttledTime", line_of(stat, "throttled_usec") * 1000);
    json_decref(stat);
    return json;
}

static json_t *memory_v1(const struct cgroups *g)
{
    json_t *raw = lines_in(g, "memory", "memory.stat");
    return json_pack("{s:{s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I,s:I},s:I,s:o}", "usage", "usage",
                     number_in(g, "memory", "memory.usage_in_bytes"), "max",
                     number_in(g, "memory", "memory.max_usage_in_bytes"), "failcnt",
                     number_in(g, "memory", "memory.failcnt"), "limit",
                     number_in(g, "memory", "memory.limit_in_bytes"), "swap", "usage",
                     number_in(g, "memory", "memory.memsw.usage_in_bytes"), "max",
                     number_in(g, "memory", "memory.memsw.max_usage_in_bytes"), "failcnt",
                     number_in(g, "memory", "memory.memsw.failcnt"), "limit",
                     number_in(g, "memory", "memory.memsw.limit_in_bytes"), "cache",
                     line_of(raw, "cache"), "raw", raw);
}

static json_t *memory_v2(const struct cgroups *g)
{
    json_t *raw = lines_in(g, "memory", "memory.stat");
    return json_pack(
        "{s:{s:I,s:I,s:I},s:{s:I,s:I},s:I,s:o}", "usage", "usage",
        number_in(g, "memory", "memory.current"), "max", number_in(g, "memory", "memory.peak"),
        "limit", number_in(g, "memory", "memory.max"), "swap", "usage",
        number_in(g, "memory", "memory.swap.current"), "limit",
        number_in(g, "memory", "memory.swap.max"), "cache", line_of(raw, "file"), "raw", raw);
}

json_t *cgroups_stats(const struct cgroups *g)
{
    bool v2 = cgroups_are_v2(g);
    return json_pack("{s:o,s:o,s:{s:I,s:I},s:{}}", "cpu", v2 ? cpu_v2(g) : cpu_v1(g), "memory",
                     v2 ? memory_v2(g) : memory_v1(g), "pids", "current",
                     number_in(g, "pids", "pids.current"), "limit",
                     number_in(g, "pids", "pids.max"), "blkio");
}

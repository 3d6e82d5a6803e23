#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "oci/command.h"

static bool print(void *id, const char *type, json_t *data, struct error *err)
{
    return print_json(json_pack("{s:s,s:s,s:O*}", "type", type, "id", id, "data", data),
                      JSON_COMPACT, err) &&
           (fflush(stdout) == 0 || error_set(err, "standard output: can't be written"));
}

static bool print_once(const char *id, const struct container_options *o, struct error *err)
{
    json_t *stats = container_stats(id, o, err);
    bool ok = stats && print((void *)(uintptr_t)id, "stats", stats, err);
    json_decref(stats);
    return ok;
}

/* "5s", "500ms", "1m" or a number of seconds. */
static bool read_interval(const char *text, int64_t *out, struct error *err)
{
    static const struct {
        const char *unit;
        long long nanoseconds;
    } units[] = {{"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}, {"", 1000000000}};
    long long n = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && n < 1000000; at++)
        n = n * 10 + (*at - '0');
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (n > 0 && strcmp(units[i].unit, at) == 0) {
            *out = n * units[i].nanoseconds;
            return true;
        }
    return error_usage(err, "--interval %s: must be a time as 5s; correct it", text);
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const char *interval = "5s";
    bool once = false;
    struct container_watcher watcher = {.tell = print};
    const struct option_row rows[] = {{"interval", 0, OPTION_STRING, &interval},
                                      {"stats", 0, OPTION_FLAG, &once}};
    const char *id = options_id(argc, argv, rows, ARRAY_LEN(rows), err);
    if (!id || !read_interval(interval, &watcher.interval, err))
        return false;
    watcher.user = (void *)(uintptr_t)id;
    return once ? print_once(id, o, err) : container_watch(id, o, &watcher, err);
}

const struct command command_events = {
    .name = "events",
    .usage = "[--stats] [--interval TIME] ID",
    .summary = "writes as JSON what a container uses, and when its memory runs out",
    .run = run,
};

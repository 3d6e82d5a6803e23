#include <string.h>
#include <time.h>

#include "base/bits.h"
#include "oci/command.h"

static bool print_once(const char *id, const struct container_options *o, struct error *err)
{
    json_t *stats = container_stats(id, o, err);
    return stats && print_json(json_pack("{s:s,s:s,s:o}", "type", "stats", "id", id, "data", stats),
                               JSON_COMPACT, err);
}

/* "5s", "500ms", "1m" or a number of seconds. */
static bool read_interval(const char *text, struct timespec *out, struct error *err)
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
            n *= units[i].nanoseconds;
            *out = (struct timespec){n / 1000000000, n % 1000000000};
            return true;
        }
    return error_usage(err, "--interval %s: must be a time as 5s; correct it", text);
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const char *interval = "5s";
    bool once = false;
    struct timespec pause;
    const struct option_row rows[] = {{"interval", 0, OPTION_STRING, &interval},
                                      {"stats", 0, OPTION_FLAG, &once}};
    const char *id = options_id(argc, argv, rows, ARRAY_LEN(rows), err);
    if (!id || !read_interval(interval, &pause, err))
        return false;
    while (print_once(id, o, err)) {
        if (once)
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

const struct command command_events = {
    .name = "events",
    .usage = "[--stats] [--interval TIME] ID",
    .summary = "writes what a container uses as JSON, once or again and again",
    .run = run,
};

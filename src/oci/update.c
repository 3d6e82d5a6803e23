#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "container/field.h"
#include "oci/command.h"

/* An option that sets one number or text of the resources. */
struct setting {
    const char *option, *object, *name;
    bool is_text;
    const char *value;
};

static bool read_value(const struct setting *s, json_t **out, struct error *err)
{
    char *end;
    if (s->is_text) {
        *out = json_string(s->value);
        return *out || error_usage(err, "--%s: is no text; correct it", s->option);
    }
    errno = 0;
    long long n = strtoll(s->value, &end, 10);
    static const char units[] = "bkmgt";
    const char *unit = *end ? strchr(units, *end | 0x20) : NULL;
    if (unit && end[1] == 0 && strcmp(s->object, "memory") == 0) {
        for (long k = unit - units; k > 0 && !errno; k--)
            if (__builtin_mul_overflow(n, 1024, &n))
                errno = ERANGE;
        end++;
    }
    if (errno || *end || end == s->value)
        return error_usage(err, "--%s %s: must be a number; correct it", s->option, s->value);
    *out = json_integer(n);
    return true;
}

static bool apply(json_t *resources, const struct setting *s, struct error *err)
{
    json_t *object = json_object_get(resources, s->object), *value = NULL;
    if (!read_value(s, &value, err))
        return false;
    if (!object) {
        object = json_object();
        json_object_set_new(resources, s->object, object);
    }
    return json_object_set_new(object, s->name, value) == 0 ||
           error_set(err, "--%s: no memory; free some", s->option);
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    struct setting settings[] = {
        {"blkio-weight", "blockIO", "weight", false, NULL},
        {"cpu-burst", "cpu", "burst", false, NULL},
        {"cpu-idle", "cpu", "idle", false, NULL},
        {"cpu-period", "cpu", "period", false, NULL},
        {"cpu-quota", "cpu", "quota", false, NULL},
        {"cpu-rt-period", "cpu", "realtimePeriod", false, NULL},
        {"cpu-rt-runtime", "cpu", "realtimeRuntime", false, NULL},
        {"cpu-share", "cpu", "shares", false, NULL},
        {"cpuset-cpus", "cpu", "cpus", true, NULL},
        {"cpuset-mems", "cpu", "mems", true, NULL},
        {"memory", "memory", "limit", false, NULL},
        {"memory-reservation", "memory", "reservation", false, NULL},
        {"memory-swap", "memory", "swap", false, NULL},
        {"pids-limit", "pids", "limit", false, NULL},
    };
    const char *file = NULL;
    struct option_row rows[ARRAY_LEN(settings) + 3] = {
        {"resources", 'r', OPTION_STRING, &file},
        {"kernel-memory", 0, OPTION_IGNORED, NULL},
        {"kernel-memory-tcp", 0, OPTION_IGNORED, NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(settings); i++)
        rows[i + 3] = (struct option_row){settings[i].option, 0, OPTION_STRING, &settings[i].value};
    const char *id = options_id(argc, argv, rows, ARRAY_LEN(rows), err);
    json_t *resources = !id ? NULL : file ? field_load(file, "resources", err) : json_object();
    bool ok = resources != NULL;
    for (size_t i = 0; i < ARRAY_LEN(settings) && ok; i++)
        if (settings[i].value)
            ok = apply(resources, &settings[i], err);
    ok = ok && container_update(id, o, resources, err);
    json_decref(resources);
    return ok;
}

const struct command command_update = {
    .name = "update",
    .usage = "[--resources FILE] [--memory BYTES] [--cpu-quota USEC] [--pids-limit N] ... ID",
    .summary = "changes what a container may use",
    .run = run,
};

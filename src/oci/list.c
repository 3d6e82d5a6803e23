#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "oci/command.h"

static const char *text_of(json_t *one, const char *name)
{
    const char *text = json_string_value(json_object_get(one, name));
    return text ? text : "";
}

static void print_table(json_t *list)
{
    printf("%-28s %-8s %-9s %-32s %s\n", "ID", "PID", "STATUS", "CREATED", "BUNDLE");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *one = json_array_get(list, i);
        printf("%-28s %-8d %-9s %-32s %s\n", text_of(one, "id"),
               (int)json_integer_value(json_object_get(one, "pid")), text_of(one, "status"),
               text_of(one, "created"), text_of(one, "bundle"));
    }
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const char *format = "table";
    bool quiet = false;
    const struct option_row rows[] = {{"format", 'f', OPTION_STRING, &format},
                                      {"quiet", 'q', OPTION_FLAG, &quiet}};
    int at = options_parse(argc, argv, rows, ARRAY_LEN(rows), err);
    if (at < 0)
        return false;
    if (at != argc)
        return error_usage(err, "list: takes no arguments; leave out %s", argv[at]);
    bool is_json = strcmp(format, "json") == 0;
    if (!is_json && strcmp(format, "table") != 0)
        return error_usage(err, "--format %s: must be table or json; correct it", format);
    json_t *list = container_list(o, err);
    if (!list)
        return false;
    if (is_json)
        return print_json(list, JSON_COMPACT, err);
    if (quiet) {
        for (size_t i = 0; i < json_array_size(list); i++)
            puts(text_of(json_array_get(list, i), "id"));
    } else {
        print_table(list);
    }
    json_decref(list);
    return true;
}

const struct command command_list = {
    .name = "list",
    .usage = "[--format table|json] [--quiet]",
    .summary = "names the containers below --root",
    .run = run,
};

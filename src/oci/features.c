#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    int at = options_parse(argc, argv, NULL, 0, err);
    if (at < 0)
        return false;
    if (at != argc)
        return error_usage(err, "features: takes no arguments; leave out %s", argv[at]);
    return print_json(container_features(), JSON_INDENT(2), err);
}

const struct command command_features = {
    .name = "features",
    .usage = "",
    .summary = "says as JSON what this runtime can do",
    .run = run,
};

#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const char *id = options_id(argc, argv, NULL, 0, err);
    return id && container_start(id, o, err);
}

const struct command command_start = {
    .name = "start",
    .usage = "ID",
    .summary = "lets a created container run its program",
    .run = run,
};

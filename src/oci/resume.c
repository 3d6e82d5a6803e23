#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const char *id = options_id(argc, argv, NULL, 0, err);
    return id && container_freeze(id, o, false, err);
}

const struct command command_resume = {
    .name = "resume",
    .usage = "ID",
    .summary = "thaws what pause froze",
    .run = run,
};

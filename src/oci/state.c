#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const char *id = options_id(argc, argv, NULL, 0, err);
    json_t *json = id ? container_state(id, o, err) : NULL;
    return json && print_json(json, JSON_INDENT(2), err);
}

const struct command command_state = {
    .name = "state",
    .usage = "ID",
    .summary = "writes a container's state as JSON",
    .run = run,
};

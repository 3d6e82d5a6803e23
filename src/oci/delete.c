#include "base/bits.h"
#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    bool force = false;
    const struct option_row rows[] = {{"force", 'f', OPTION_FLAG, &force}};
    const char *id = options_id(argc, argv, rows, ARRAY_LEN(rows), err);
    return id && container_delete(id, o, force, err);
}

const struct command command_delete = {
    .name = "delete",
    .usage = "[--force] ID",
    .summary = "removes a stopped container; with --force any",
    .run = run,
};

#include "base/bits.h"
#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    const struct option_row rows[] = {
        {"bundle", 'b', OPTION_STRING, &o->bundle},
        {"console-socket", 0, OPTION_STRING, &o->console_socket},
        {"pid-file", 0, OPTION_STRING, &o->pid_file},
        {"preserve-fds", 0, OPTION_NUMBER, &o->preserve_fds},
        {"no-pivot", 0, OPTION_FLAG, &o->no_pivot},
        {"no-new-keyring", 0, OPTION_FLAG, &o->no_new_keyring},
        {"detach", 'd', OPTION_FLAG, &o->detach},
        {"keep", 0, OPTION_FLAG, &o->keep},
    };
    const char *id = options_id(argc, argv, rows, ARRAY_LEN(rows), err);
    return id && container_run(id, o, status, err);
}

const struct command command_run = {
    .name = "run",
    .usage = "[--detach] [--keep] [options of create] ID",
    .summary = "creates and starts a container, waits for its end and deletes it",
    .run = run,
    .enters = true,
};

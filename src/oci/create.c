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
    };
    const char *id = options_id(argc, argv, rows, ARRAY_LEN(rows), err);
    return id && container_create(id, o, err);
}

const struct command command_create = {
    .name = "create",
    .usage = "[--bundle DIR] [--console-socket PATH] [--pid-file FILE] [--preserve-fds N]\n"
             "            [--no-pivot] [--no-new-keyring] ID",
    .summary = "makes a container of a bundle; its process waits for start",
    .run = run,
    .enters = true,
};

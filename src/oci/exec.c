#include <stdlib.h>

#include "base/bits.h"
#include "oci/command.h"

static bool read_groups(const struct string_list *list, struct container_exec *x, struct error *err)
{
    x->groups = calloc(list->count + 1, sizeof *x->groups);
    if (!x->groups)
        return error_set(err, "--additional-gids: no memory; free some");
    for (size_t i = 0; i < list->count; i++) {
        char *end;
        unsigned long id = strtoul(list->strings[i], &end, 10);
        if (*end || end == list->strings[i] || id >= 0xffffffff)
            return error_usage(err, "--additional-gids %s: must be a number; correct it",
                               list->strings[i]);
        x->groups[x->group_count++] = (unsigned)id;
    }
    return true;
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    struct container_exec x = {0};
    struct string_list env = {0}, caps = {0}, groups = {0};
    const struct option_row rows[] = {
        {"process", 'p', OPTION_STRING, &x.process},
        {"console-socket", 0, OPTION_STRING, &o->console_socket},
        {"pid-file", 0, OPTION_STRING, &o->pid_file},
        {"preserve-fds", 0, OPTION_NUMBER, &o->preserve_fds},
        {"detach", 'd', OPTION_FLAG, &o->detach},
        {"tty", 't', OPTION_FLAG, &x.terminal},
        {"cwd", 0, OPTION_STRING, &x.cwd},
        {"env", 'e', OPTION_LIST, &env},
        {"user", 'u', OPTION_STRING, &x.user},
        {"additional-gids", 'g', OPTION_LIST, &groups},
        {"cap", 'c', OPTION_LIST, &caps},
        {"no-new-privs", 0, OPTION_FLAG, &x.no_new_privileges},
        {"apparmor", 0, OPTION_STRING, &x.apparmor},
        {"ignore-paused", 0, OPTION_FLAG, &x.ignore_paused},
        {"process-label", 0, OPTION_IGNORED, NULL},
        {"cgroup", 0, OPTION_IGNORED, NULL},
    };
    int at = options_parse(argc, argv, rows, ARRAY_LEN(rows), err);
    bool ok = at >= 0;
    if (ok && at >= argc)
        ok = error_usage(err, "exec: needs the container's id; see doppel-oci --help");
    if (ok && !x.process && at + 1 >= argc)
        ok = error_usage(err, "exec: needs a command or --process; see doppel-oci --help");
    if (ok && read_groups(&groups, &x, err)) {
        x.env = env.strings;
        x.env_count = env.count;
        x.caps = caps.strings;
        x.cap_count = caps.count;
        x.args = argv + at + 1;
        x.arg_count = (size_t)(argc - at - 1);
        ok = container_exec(argv[at], o, &x, status, err);
    } else {
        ok = false;
    }
    free(x.groups);
    free(env.strings);
    free(caps.strings);
    free(groups.strings);
    return ok;
}

const struct command command_exec = {
    .name = "exec",
    .usage =
        "[--process FILE] [--tty] [--detach] [--console-socket PATH] [--pid-file FILE]\n"
        "            [--cwd DIR] [--env NAME=VALUE]... [--user UID[:GID]] [--cap CAP]...\n"
        "            [--additional-gids GID]... [--no-new-privs] [--ignore-paused] ID COMMAND...",
    .summary = "runs one more process in a container",
    .run = run,
    .enters = true,
};

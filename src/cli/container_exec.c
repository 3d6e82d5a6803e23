/*
 * doppel container exec
 */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "cli/container.h"

struct exec {
    struct container_common common; /* first */
    struct front_options options;
};

static bool set_tty(void *ctx, const char *value, struct error *err)
{
    return container_tty(value, &((struct exec *)ctx)->options.tty, err);
}

#define AT(field) offsetof(struct exec, options.field), NULL
static const struct container_option options[] = {
    {"env", 'e', OPTION_LIST, AT(env)},
    {"tty", 't', OPTION_CUSTOM, 0, set_tty},
    {"user", 'u', OPTION_STRING, AT(user)},
    {"workdir", 'w', OPTION_STRING, AT(workdir)},
};

static int run(int argc, char **argv, struct error *err)
{
    struct exec e = {0};
    struct front f = {.fd = -1, .containers = -1};
    int at = container_options(&container_exec, options, ARRAY_LEN(options), &e, argc, argv, err);
    if (at >= 0 && e.common.help) {
        fputs(container_exec.help, stdout);
    } else if (at >= 0) {
        const char *name = at < argc ? argv[at++] : NULL;
        at += at < argc && strcmp(argv[at], "--") == 0;
        e.options.command = argv + at;
        if (!name || at >= argc)
            error_usage(err, "container exec: it needs a container's name and a command; see "
                             "`doppel container exec --help`");
        else if (container_front(&f, &e.common, false, err))
            front_exec(&f, name, &e.options, err);
    }
    front_close(&f);
    strings_free(&e.options.env);
    return EXIT_STATUS_OK; /* with err, its status */
}

const struct command container_exec = {
    .name = "exec",
    .summary = "run another command in a container",
    .help = "doppel container exec [OPTIONS] NAME [--] COMMAND...\n"
            "\n"
            "  -e, --env KEY=VALUE      set a variable; repeatable\n"
            "  -t, --tty yes|no|auto    a terminal; auto, the default: when we run on one\n"
            "  -u, --user USER[:GROUP]  in place of the container's\n"
            "  -w, --workdir DIR        in place of the container's\n"
            "\n"
            "The exit status is the command's.\n",
    .run = run,
};

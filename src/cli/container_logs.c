/*
 * doppel container logs
 */
#include <stdio.h>

#include "base/bits.h"
#include "cli/container.h"

struct logs {
    struct container_common common; /* first */
    struct front_logs how;
};

static bool set_tail(void *ctx, const char *value, struct error *err)
{
    struct front_logs *how = &((struct logs *)ctx)->how;
    how->tail = true;
    return container_number("tail", value, 0, UINT32_MAX, &how->lines, err);
}

static const struct container_option options[] = {
    {"follow", 'f', OPTION_FLAG, offsetof(struct logs, how.follow), NULL},
    {"tail", 'n', OPTION_CUSTOM, 0, set_tail},
    {"timestamps", 't', OPTION_FLAG, offsetof(struct logs, how.timestamps), NULL},
};

static int run(int argc, char **argv, struct error *err)
{
    struct logs l = {0};
    struct front f = {.fd = -1, .containers = -1};
    int at = container_options(&container_logs, options, ARRAY_LEN(options), &l, argc, argv, err);
    if (at >= 0 && l.common.help)
        fputs(container_logs.help, stdout);
    else if (at >= 0 && at + 1 != argc)
        error_usage(err, "container logs: it takes one container's name; see "
                         "`doppel container ps --all`");
    else if (at >= 0 && container_front(&f, &l.common, false, err))
        front_logs(&f, argv[at], &l.how, stdout, stderr, err);
    front_close(&f);
    return EXIT_STATUS_OK; /* with err, its status */
}

const struct command container_logs = {
    .name = "logs",
    .summary = "print what a container has written",
    .help = "doppel container logs [OPTIONS] NAME\n"
            "\n"
            "Its standard output on ours, its standard error on ours.\n"
            "\n"
            "  -f, --follow      go on until it ends\n"
            "  -n, --tail N      only the last N lines\n"
            "  -t, --timestamps  each line with its time\n",
    .run = run,
};

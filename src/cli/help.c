/*
 * doppel help [COMMAND]
 */
#include <stdio.h>

#include "cli/command.h"

static void list_commands(void)
{
    printf("doppel runs virtual machines, with or without virtualization hardware.\n\n"
           "Commands:\n");
    const struct command *c;
    for (unsigned i = 0; (c = command_at(i)); i++)
        printf("  %-10s %s\n", c->name, c->summary);
    printf("\n`doppel help COMMAND` says more; `doppel --version` says which version this is.\n");
}

static int run(int argc, char **argv, struct error *err)
{
    if (argc > 2) {
        error_usage(err, "%s: one command at a time; see `doppel help`", argv[2]);
        return err->status;
    }
    if (argc < 2) {
        list_commands();
        return EXIT_STATUS_OK;
    }
    const struct command *c = command_find(argv[1]);
    if (!c) {
        error_usage(err, "help: there is no command %s; see `doppel help`", argv[1]);
        return err->status;
    }
    fputs(c->help, stdout);
    return EXIT_STATUS_OK;
}

const struct command command_help = {
    .name = "help",
    .summary = "say what a command does",
    .help = "doppel help [COMMAND]\n\nLists the commands, or says what one does.\n",
    .run = run,
};

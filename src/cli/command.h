/*
 * A command of doppel: one file each.
 */
#ifndef DOPPEL_CLI_COMMAND_H
#define DOPPEL_CLI_COMMAND_H

#include "base/error.h"

struct command {
    const char *name;
    const char *summary; /* one line */
    const char *help;    /* what `doppel help NAME` prints */
    /* argv[0] is the command's name. Returns the exit status; on failure err has the sentence
     * (err->status is the exit status then). */
    int (*run)(int argc, char **argv, struct error *err);
};

extern const struct command command_container, command_run, command_verify, command_engines,
    command_help;

/* The command of that index, or NULL behind the last; and of that name, or NULL. */
const struct command *command_at(unsigned index);
const struct command *command_find(const char *name);

#endif

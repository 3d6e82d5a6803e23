/*
 * Options on a command line: --name, --name VALUE or --name=VALUE.
 */
#ifndef DOPPEL_CLI_OPTION_H
#define DOPPEL_CLI_OPTION_H

#include <stdbool.h>

#include "base/error.h"

struct option {
    char name[32];     /* without the dashes */
    const char *value; /* NULL: there was none */
};

/* Takes the option at argv[*i], and moves *i to its last word. takes_value says of a name whether
 * the next word is its value; command is whose help to look into. -h is --help. */
bool option_take(struct option *o, int argc, char **argv, int *i,
                 bool (*takes_value)(const char *name), const char *command, struct error *err);

#endif

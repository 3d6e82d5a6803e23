/*
 * doppel-oci's commands: one file each, listed in main.c.
 */
#ifndef DOPPEL_OCI_COMMAND_H
#define DOPPEL_OCI_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "container/container.h"

struct command {
    const char *name;
    const char *usage; /* what stands behind the name */
    const char *summary;
    /* argv[0] is the command's name. *status becomes doppel-oci's; it is 0 before. */
    bool (*run)(int argc, char **argv, struct container_options *o, int *status, struct error *err);
    bool enters; /* makes a process that is seen from inside a container: see seal.h */
};

extern const struct command command_create, command_delete, command_events, command_exec,
    command_features, command_kill, command_list, command_pause, command_ps, command_resume,
    command_run, command_spec, command_start, command_state, command_update;

/* ---- options ---- */

enum option_kind {
    OPTION_FLAG,    /* bool */
    OPTION_STRING,  /* const char * */
    OPTION_NUMBER,  /* unsigned */
    OPTION_LIST,    /* struct string_list */
    OPTION_IGNORED, /* takes a value, for which we have no use */
};

struct string_list {
    char **strings; /* into argv; room for all of it */
    size_t count;
};

struct option_row {
    const char *name; /* without the dashes */
    char letter;      /* 0: none */
    enum option_kind kind;
    void *to;
};

/* Takes the options in front of the first other argument (or behind "--"), whose index is returned.
 * -1: err is set. */
int options_parse(int argc, char **argv, const struct option_row *rows, size_t count,
                  struct error *err);
/* The same, for commands that take exactly one argument: the container's id. NULL: err. */
const char *options_id(int argc, char **argv, const struct option_row *rows, size_t count,
                       struct error *err);

/* Writes it to standard output, and drops the reference. */
bool print_json(json_t *json, size_t flags, struct error *err);

#endif

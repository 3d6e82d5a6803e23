/*
 * The commands of `doppel container`: one file each, with what they share.
 */
#ifndef DOPPEL_CLI_CONTAINER_H
#define DOPPEL_CLI_CONTAINER_H

#include "cli/command.h"
#include "container/front/front.h"

extern const struct command container_exec, container_images, container_kill, container_logs,
    container_prune, container_ps, container_rm, container_run, container_stop;

enum option_kind {
    OPTION_FLAG,   /* a bool */
    OPTION_STRING, /* a const char *; not empty */
    OPTION_LIST,   /* a struct strings, added to */
    OPTION_CUSTOM, /* set(ctx, value, err) takes it */
};

struct container_option {
    const char *name; /* without its -- */
    char letter;      /* of its short form; 0: none */
    enum option_kind kind;
    size_t offset; /* in ctx, but for OPTION_CUSTOM */
    bool (*set)(void *ctx, const char *value, struct error *err);
};

/* What every one of them takes. */
struct container_common {
    const char *root, *runtime;
    bool help;
};

/* Takes the options at the beginning of argv, up to the first word that is none or behind "--".
 * Returns that word's index, or -1. ctx begins with a struct container_common. */
int container_options(const struct command *command, const struct container_option *options,
                      size_t count, void *ctx, int argc, char **argv, struct error *err);

/* Opens the state folder; with `writing`, in the user's namespace when the user is not root. */
bool container_front(struct front *f, const struct container_common *c, bool writing,
                     struct error *err);

/* A number from least to most. */
bool container_number(const char *option, const char *text, uint64_t least, uint64_t most,
                      uint64_t *value, struct error *err);

/* What --tty says. */
bool container_tty(const char *value, enum front_tty *tty, struct error *err);

#endif

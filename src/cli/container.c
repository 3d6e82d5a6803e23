/*
 * doppel container: picks one of its commands.
 */
#include "cli/container.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "container/front/rootless.h"

static const struct command *const commands[] = {
    &container_run,  &container_ps, &container_logs,   &container_exec,  &container_stop,
    &container_kill, &container_rm, &container_images, &container_prune,
};

/* ------------------------------------------------------------------------------------------- *
 * Options
 * ------------------------------------------------------------------------------------------- */

static const struct container_option common[] = {
    {"root", 0, OPTION_STRING, offsetof(struct container_common, root), NULL},
    {"runtime", 0, OPTION_STRING, offsetof(struct container_common, runtime), NULL},
    {"help", 'h', OPTION_FLAG, offsetof(struct container_common, help), NULL},
};

static bool set(const struct container_option *o, void *ctx, const char *value, struct error *err)
{
    void *field = (char *)ctx + o->offset;
    switch (o->kind) {
    case OPTION_FLAG: *(bool *)field = true; return true;
    case OPTION_STRING:
        *(const char **)field = value;
        return *value || error_usage(err, "--%s: its value is empty; write one", o->name);
    case OPTION_LIST: return strings_add(field, value, err);
    case OPTION_CUSTOM: break;
    }
    return o->set(ctx, value, err);
}

static const struct container_option *find(const struct container_option *o, size_t count,
                                           const char *name, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        bool is_long = size > 2 && strlen(o[i].name) == size - 2 &&
                       memcmp(o[i].name, name + 2, size - 2) == 0 && name[1] == '-';
        bool is_short = size == 2 && o[i].letter && o[i].letter == name[1];
        if (is_long || is_short)
            return &o[i];
    }
    return NULL;
}

int container_options(const struct command *command, const struct container_option *options,
                      size_t count, void *ctx, int argc, char **argv, struct error *err)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        const char *text = argv[i];
        if (strcmp(text, "--") == 0)
            return i + 1;
        size_t n = strcspn(text, "=");
        const struct container_option *o = find(options, count, text, n);
        if (!o)
            o = find(common, ARRAY_LEN(common), text, n);
        const char *value = text[n] ? text + n + 1 : NULL;
        bool ok = o != NULL;
        if (!o)
            error_usage(err, "%.80s: there is no such option; see `doppel container %s --help`",
                        text, command->name);
        else if (o->kind == OPTION_FLAG && value)
            ok = error_usage(err, "--%s: it takes no value; write it alone", o->name);
        else if (o->kind != OPTION_FLAG && !value && i + 1 >= argc)
            ok = error_usage(err, "--%s: its value is missing; see `doppel container %s --help`",
                             o->name, command->name);
        else if (o->kind != OPTION_FLAG && !value)
            value = argv[++i];
        if (!ok || !set(o, ctx, value, err))
            return -1;
    }
    return i;
}

bool container_number(const char *option, const char *text, uint64_t least, uint64_t most,
                      uint64_t *value, struct error *err)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || *value < least || *value > most)
        return error_usage(err, "--%s %.40s: not a number from %llu to %llu; use one", option, text,
                           (unsigned long long)least, (unsigned long long)most);
    return true;
}

bool container_tty(const char *value, enum front_tty *tty, struct error *err)
{
    *tty = strcmp(value, "yes") == 0  ? FRONT_TTY_YES
           : strcmp(value, "no") == 0 ? FRONT_TTY_NO
                                      : FRONT_TTY_AUTO;
    return *tty != FRONT_TTY_AUTO || strcmp(value, "auto") == 0 ||
           error_usage(err, "--tty %.40s: neither yes, no nor auto; use one of them", value);
}

bool container_front(struct front *f, const struct container_common *c, bool writing,
                     struct error *err)
{
    return (!writing || rootless_enter(err)) && front_open(f, c->root, c->runtime, err);
}

/* ------------------------------------------------------------------------------------------- *
 * The command
 * ------------------------------------------------------------------------------------------- */

static const char help[] =
    "doppel container COMMAND [OPTIONS]\n"
    "\n"
    "Runs containers: from a folder with a root file system, an OCI image layout, or an archive\n"
    "of an image (docker save, podman save). `doppel container COMMAND --help` says more:\n"
    "\n"
    "  run IMAGE [-- COMMAND]   start one\n"
    "  ps                       list them\n"
    "  logs NAME                what one has written\n"
    "  exec NAME COMMAND        another command in one that runs\n"
    "  stop NAME                end one: SIGTERM, then SIGKILL\n"
    "  kill NAME                send a signal\n"
    "  rm NAME                  remove what is left of one\n"
    "  images                   the layers that are stored\n"
    "  prune                    remove layers that no container uses\n"
    "\n"
    "Each takes --root DIR (where everything is kept; /var/lib/doppel for root, and\n"
    "~/.local/share/doppel) and --runtime PROGRAM (an OCI runtime; doppel-oci).\n";

static int run(int argc, char **argv, struct error *err)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        error_usage(err, "container: its command is missing; see `doppel help container`");
        return err->status;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        fputs(help, stdout);
        return EXIT_STATUS_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0) {
            int status = commands[i]->run(argc - 1, argv + 1, err);
            return err->status != EXIT_STATUS_OK ? (int)err->status : status;
        }
    error_usage(err, "container %.40s: there is no such command; see `doppel help container`",
                name);
    return err->status;
}

const struct command command_container = {
    .name = "container",
    .summary = "run containers from folders and images",
    .help = help,
    .run = run,
};

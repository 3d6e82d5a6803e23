/*
 * doppel: picks the command, prints the one line of an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "cli/command.h"
#include "doppel/doppel.h"

static const struct command *const commands[] = {
    &command_run,       &command_verify,
#if DOPPEL_HAVE_CONTAINERS
    &command_container,
#endif
    &command_engines,   &command_help,
};

const struct command *command_at(unsigned index)
{
    return index < ARRAY_LEN(commands) ? commands[index] : NULL;
}

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* A descriptor from 0 to 2 that is closed would be given to the next file we open. */
static void open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
            return;
}

static int dispatch(int argc, char **argv, struct error *err)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    if (!name) {
        error_usage(err, "command: missing; see `doppel help`");
        return err->status;
    }
    if (strcmp(name, "--version") == 0) {
        printf("doppel %s\n", doppel_version());
        return EXIT_STATUS_OK;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        name = "help";
    const struct command *command = command_find(name);
    if (!command) {
        error_usage(err, "%s: there is no such command; see `doppel help`", name);
        return err->status;
    }
    return command->run(argc - 1, argv + 1, err);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    open_standard_descriptors();
    signal(SIGPIPE, SIG_IGN); /* who stops reading ends nothing; writes fail and are dropped */
    int status = dispatch(argc, argv, &err);
    if (err.status != EXIT_STATUS_OK)
        fprintf(stderr, "doppel: %s\n", err.text);
    if (fflush(stdout) != 0 && status == EXIT_STATUS_OK) {
        fprintf(stderr, "doppel: standard output: can't be written; make room for it\n");
        status = EXIT_STATUS_FAILURE;
    }
    return status;
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "oci/command.h"

static bool is_ours(json_t *pids, int pid)
{
    for (size_t i = 0; i < json_array_size(pids); i++)
        if (json_integer_value(json_array_get(pids, i)) == pid)
            return true;
    return false;
}

/* Which column holds the number: the one headed PID. */
static int pid_column(const char *header)
{
    char copy[4096], *save = NULL;
    int column = 0;
    snprintf(copy, sizeof copy, "%s", header);
    for (char *word = strtok_r(copy, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
        if (strcmp(word, "PID") == 0)
            return column;
        column++;
    }
    return -1;
}

static int pid_of(const char *line, int column)
{
    const char *at = line + strspn(line, " ");
    for (int i = 0; i < column; i++) {
        at += strcspn(at, " ");
        at += strspn(at, " ");
    }
    return atoi(at);
}

/* ps(1) shows all processes; those of the container are picked out. */
static bool print_table(json_t *pids, char **args, struct error *err)
{
    int fds[2];
    char line[4096];
    if (pipe(fds) < 0)
        return error_errno(err, "ps: no pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(fds[1], STDOUT_FILENO);
        close(fds[0]);
        close(fds[1]);
        execvp("ps", args);
        _exit(127);
    }
    close(fds[1]);
    FILE *lines = fdopen(fds[0], "r");
    int column = -2;
    while (lines && child > 0 && fgets(line, sizeof line, lines)) {
        if (column == -2)
            column = pid_column(line);
        else if (column < 0 || !is_ours(pids, pid_of(line, column)))
            continue;
        fputs(line, stdout);
    }
    if (lines)
        fclose(lines);
    return column >= 0 || error_set(err, "ps: prints no column PID; is procps installed?");
}

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    static char name[] = "ps", option[] = "-ef";
    char *standard[] = {name, option, NULL};
    const char *format = "table";
    const struct option_row rows[] = {{"format", 'f', OPTION_STRING, &format}};
    int at = options_parse(argc, argv, rows, ARRAY_LEN(rows), err);
    if (at < 0)
        return false;
    if (at >= argc)
        return error_usage(err, "ps: needs the container's id; see doppel-oci --help");
    json_t *pids = container_processes(argv[at], o, err);
    if (!pids)
        return false;
    if (strcmp(format, "json") == 0)
        return print_json(pids, JSON_COMPACT, err);
    char **args = standard;
    if (at + 1 < argc) {
        args = argv + at;
        args[0] = name;
    }
    bool ok = print_table(pids, args, err);
    json_decref(pids);
    return ok;
}

const struct command command_ps = {
    .name = "ps",
    .usage = "[--format table|json] ID [OPTIONS OF ps(1)]",
    .summary = "shows a container's processes",
    .run = run,
};

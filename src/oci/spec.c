#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/bits.h"
#include "oci/command.h"

static bool run(int argc, char **argv, struct container_options *o, int *status, struct error *err)
{
    bool rootless = false;
    char path[PATH_MAX];
    const struct option_row rows[] = {{"bundle", 'b', OPTION_STRING, &o->bundle},
                                      {"rootless", 0, OPTION_FLAG, &rootless}};
    int at = options_parse(argc, argv, rows, ARRAY_LEN(rows), err);
    if (at < 0)
        return false;
    if (at != argc)
        return error_usage(err, "spec: takes no arguments; leave out %s", argv[at]);
    snprintf(path, sizeof path, "%s/config.json", o->bundle ? o->bundle : ".");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_errno(err, "%s: can't be made", path);
    json_t *json = container_spec(rootless);
    bool ok = json && json_dumpfd(json, fd, JSON_INDENT(4)) == 0;
    json_decref(json);
    close(fd);
    return ok || error_set(err, "%s: can't be written; make room for it", path);
}

const struct command command_spec = {
    .name = "spec",
    .usage = "[--bundle DIR] [--rootless]",
    .summary = "writes a config.json to begin with",
    .run = run,
};

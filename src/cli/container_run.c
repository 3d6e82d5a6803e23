/*
 * doppel container run
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cli/container.h"

struct run {
    struct container_common common; /* first */
    struct front_options options;
};

/* ------------------------------------------------------------------------------------------- *
 * Options
 * ------------------------------------------------------------------------------------------- */

/* 512M, 2G; a plain number is in MiB, as for a virtual machine's. */
static bool read_size(const char *option, const char *value, uint64_t least, uint64_t *size,
                      struct error *err)
{
    static const char units[] = "KMGT";
    char *end;
    unsigned long long n = strtoull(value, &end, 10);
    const char *unit = *end ? strchr(units, *end & ~0x20) : &units[1];
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    bool ok = *value >= '0' && *value <= '9' && unit && (!*end || !end[1]) &&
              n <= (UINT64_C(1) << 62) >> shift && (uint64_t)n << shift >= least;
    if (ok)
        *size = (uint64_t)n << shift;
    return ok || error_usage(err, "--%s %.40s: not a size of %lluM or more; write 512M or 2G",
                             option, value, (unsigned long long)(least >> 20));
}

static bool set_memory(void *ctx, const char *value, struct error *err)
{
    return read_size("memory", value, 4 << 20, &((struct run *)ctx)->options.memory, err);
}

static bool set_log_limit(void *ctx, const char *value, struct error *err)
{
    return read_size("log-limit", value, 1 << 20, &((struct run *)ctx)->options.log_limit, err);
}

static bool set_unpack_limit(void *ctx, const char *value, struct error *err)
{
    return read_size("unpack-limit", value, 1 << 20, &((struct run *)ctx)->options.unpack_limit,
                     err);
}

/* 1.5: one and a half processors' time, in each 100 ms. */
static bool set_cpus(void *ctx, const char *value, struct error *err)
{
    char *end;
    double n = strtod(value, &end);
    if (*value < '0' || *value > '9' || *end || !(n >= 0.01 && n <= 4096))
        return error_usage(err, "--cpus %.40s: not a number from 0.01 to 4096; write 1.5", value);
    ((struct run *)ctx)->options.cpu_quota = (uint64_t)(n * 100000 + 0.5);
    return true;
}

static bool set_pids(void *ctx, const char *value, struct error *err)
{
    return container_number("pids", value, 1, 1 << 22, &((struct run *)ctx)->options.pids, err);
}

static bool set_network(void *ctx, const char *value, struct error *err)
{
    ((struct run *)ctx)->options.network = value;
    static const char *const networks[] = {"host", "none", "user"};
    for (size_t i = 0; i < ARRAY_LEN(networks); i++)
        if (strcmp(value, networks[i]) == 0)
            return true;
    return error_usage(err,
                       "--network %.40s: there is no such network; use host (the host's own), none "
                       "(only a loopback device) or user (its own, that leads out)",
                       value);
}

static bool set_tty(void *ctx, const char *value, struct error *err)
{
    return container_tty(value, &((struct run *)ctx)->options.tty, err);
}

#define AT(field) offsetof(struct run, options.field), NULL
static const struct container_option options[] = {
    {"cap-add", 0, OPTION_LIST, AT(cap_add)},
    {"cap-drop", 0, OPTION_LIST, AT(cap_drop)},
    {"copy", 0, OPTION_FLAG, AT(copy)},
    {"cpus", 0, OPTION_CUSTOM, 0, set_cpus},
    {"detach", 'd', OPTION_FLAG, AT(detach)},
    {"entrypoint", 0, OPTION_STRING, AT(entrypoint)},
    {"env", 'e', OPTION_LIST, AT(env)},
    {"hostname", 0, OPTION_STRING, AT(hostname)},
    {"image", 0, OPTION_STRING, AT(reference)},
    {"memory", 'm', OPTION_CUSTOM, 0, set_memory},
    {"log-limit", 0, OPTION_CUSTOM, 0, set_log_limit},
    {"name", 0, OPTION_STRING, AT(name)},
    {"network", 0, OPTION_CUSTOM, 0, set_network},
    {"pids", 0, OPTION_CUSTOM, 0, set_pids},
    {"read-only", 0, OPTION_FLAG, AT(read_only)},
    {"rm", 0, OPTION_FLAG, AT(remove)},
    {"tty", 't', OPTION_CUSTOM, 0, set_tty},
    {"unpack-limit", 0, OPTION_CUSTOM, 0, set_unpack_limit},
    {"user", 'u', OPTION_STRING, AT(user)},
    {"volume", 'v', OPTION_LIST, AT(volumes)},
    {"workdir", 'w', OPTION_STRING, AT(workdir)},
};

/* ------------------------------------------------------------------------------------------- *
 * The command
 * ------------------------------------------------------------------------------------------- */

static int start(struct run *r, struct error *err)
{
    struct front f = {.fd = -1, .containers = -1};
    char name[FRONT_NAME_MAX + 1];
    int status = EXIT_STATUS_FAILURE;
    if (container_front(&f, &r->common, true, err) &&
        front_run(&f, &r->options, name, &status, err) && r->options.detach) {
        printf("%s\n", name);
        status = EXIT_STATUS_OK;
    }
    front_close(&f);
    return status;
}

static int run(int argc, char **argv, struct error *err)
{
    struct run r = {.options = {.network = "host",
                                .log_limit = UINT64_C(64) << 20,
                                .unpack_limit = UINT64_C(32) << 30}};
    int status = EXIT_STATUS_OK;
    int at = container_options(&container_run, options, ARRAY_LEN(options), &r, argc, argv, err);
    if (at >= 0 && r.common.help) {
        fputs(container_run.help, stdout);
    } else if (at >= 0 && at >= argc) {
        error_usage(err, "container run: its image is missing; name a folder, an OCI image layout "
                         "or an image archive");
    } else if (at >= 0) {
        r.options.image = argv[at++];
        r.options.command = argv + at + (at < argc && strcmp(argv[at], "--") == 0);
        status = start(&r, err);
    }
    strings_free(&r.options.env);
    strings_free(&r.options.volumes);
    strings_free(&r.options.cap_add);
    strings_free(&r.options.cap_drop);
    return status;
}

const struct command container_run = {
    .name = "run",
    .summary = "start a container",
    .help =
        "doppel container run [OPTIONS] IMAGE [--] [COMMAND...]\n"
        "\n"
        "IMAGE is a folder that holds a root file system (used as it is: what the container\n"
        "writes stays in it), an OCI image layout, or an archive of an image as `docker save` and\n"
        "`podman save` write it. An image's layers are kept once, and never written to.\n"
        "Without a COMMAND the image's own is run.\n"
        "\n"
        "  --name NAME              what it is called; without it a random one\n"
        "  -d, --detach             print the name and return; see `doppel container logs`\n"
        "  --rm                     remove it when it has ended\n"
        "  --image REFERENCE        which image of an archive or layout that holds several\n"
        "  --entrypoint PROGRAM     in place of the image's\n"
        "  -e, --env KEY[=VALUE]    set a variable, or pass on ours; repeatable\n"
        "  -w, --workdir DIR        the folder it starts in\n"
        "  -u, --user USER[:GROUP]  names of its own /etc/passwd and /etc/group, or numbers\n"
        "  --hostname NAME\n"
        "  -t, --tty yes|no|auto    a terminal; auto, the default: when we run on one\n"
        "  -v, --volume SRC:DST[:ro]  a file or folder of the host; repeatable\n"
        "  --read-only              nothing of its root file system can be written\n"
        "  --network host|none|user host, the default: the host's own; none: only a loopback\n"
        "                           device; user: one of its own that leads out, by slirp4netns\n"
        "  -m, --memory SIZE        at most that much memory (512M, 2G), and no swap\n"
        "  --cpus N                 at most the time of so many processors (1.5)\n"
        "  --pids N                 at most so many processes and threads\n"
        "  --cap-add CAP, --cap-drop CAP   capabilities; `--cap-drop all` takes all; repeatable\n"
        "  --copy                   unpack an image for this container alone, without overlayfs\n"
        "  --log-limit SIZE         its output is kept up to that much (64M), the newest\n"
        "  --unpack-limit SIZE      an image may unpack to that much (32G)\n"
        "  --root DIR, --runtime PROGRAM   see `doppel help container`\n"
        "\n"
        "The exit status is the command's; 128 and the signal's number when a signal ended it.\n"
        "Where the container could not be run: 2 for a command line that can't be taken, and 1.\n",
    .run = run,
};

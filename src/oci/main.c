/*
 * doppel-oci: an OCI runtime. Global options, then a command.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "oci/command.h"
#include "oci/seal.h"

static const struct command *const commands[] = {
    &command_create, &command_delete, &command_events, &command_exec,  &command_features,
    &command_kill,   &command_list,   &command_pause,  &command_ps,    &command_resume,
    &command_run,    &command_spec,   &command_start,  &command_state, &command_update,
};

struct globals {
    const char *log, *log_format, *root, *rootless, *ignored;
    bool debug, systemd_cgroup, help, version;
};

/* A descriptor from 0 to 2 that is closed would be given to the next file we open. */
static void open_standard_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDWR) != fd)
            return;
}

static void print_help(void)
{
    puts("Usage: doppel-oci [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]\n\n"
         "An OCI runtime (specification 1.1). Commands:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %-9s %s\n            doppel-oci %s %s\n", commands[i]->name, commands[i]->summary,
               commands[i]->name, commands[i]->usage);
    puts("\nGlobal options:\n"
         "  --root DIR           where containers are known (/run/doppel-oci, or below\n"
         "                       $XDG_RUNTIME_DIR)\n"
         "  --log FILE           errors go there too\n"
         "  --log-format FORMAT  text or json\n"
         "  --systemd-cgroup     linux.cgroupsPath has the form slice:prefix:name\n"
         "  --rootless VALUE     true: do without cgroups and device rules where they are not\n"
         "                       allowed; false: fail then; auto: true but for the host's root\n"
         "  --debug, --version, --help");
}

static void print_version(void)
{
    printf("doppel-oci version %s\nspec: 1.1.0\n", DOPPEL_VERSION);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* One line in the log; callers such as containerd look for the last with level error. */
static void log_error(const struct globals *g, const char *text)
{
    char now[64];
    struct tm tm;
    time_t seconds = time(NULL);
    if (!g->log || !*g->log)
        return;
    int fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    gmtime_r(&seconds, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (g->log_format && strcmp(g->log_format, "json") == 0) {
        json_t *line = json_pack("{s:s,s:s,s:s}", "level", "error", "msg", text, "time", now);
        if (line)
            json_dumpfd(line, fd, JSON_COMPACT);
        json_decref(line);
        dprintf(fd, "\n");
    } else {
        dprintf(fd, "time=\"%s\" level=error msg=\"%s\"\n", now, text);
    }
    close(fd);
}

static bool check(const struct globals *g, struct container_options *o, struct error *err)
{
    if (g->log_format && strcmp(g->log_format, "text") != 0 && strcmp(g->log_format, "json") != 0)
        return error_usage(err, "--log-format %s: must be text or json; correct it", g->log_format);
    const char *rootless = g->rootless ? g->rootless : "auto";
    if (strcmp(rootless, "auto") == 0)
        o->rootless = -1;
    else if (strcmp(rootless, "true") == 0 || strcmp(rootless, "false") == 0)
        o->rootless = rootless[0] == 't';
    else
        return error_usage(err, "--rootless %s: must be true, false or auto; correct it", rootless);
    o->root = g->root;
    o->systemd_cgroup = g->systemd_cgroup;
    return true;
}

static bool dispatch(int argc, char **argv, struct globals *g, int *status, struct error *err)
{
    const struct option_row rows[] = {
        {"log", 0, OPTION_STRING, &g->log},
        {"log-format", 0, OPTION_STRING, &g->log_format},
        {"root", 0, OPTION_STRING, &g->root},
        {"rootless", 0, OPTION_STRING, &g->rootless},
        {"criu", 0, OPTION_IGNORED, NULL},
        {"debug", 0, OPTION_FLAG, &g->debug},
        {"systemd-cgroup", 0, OPTION_FLAG, &g->systemd_cgroup},
        {"help", 'h', OPTION_FLAG, &g->help},
        {"version", 'v', OPTION_FLAG, &g->version},
    };
    char root[256];
    struct container_options o = {0};
    int at = options_parse(argc, argv, rows, ARRAY_LEN(rows), err);
    if (at < 0)
        return false;
    if (g->version) {
        print_version();
        return true;
    }
    if (g->help || (at < argc && strcmp(argv[at], "help") == 0)) {
        print_help();
        return true;
    }
    if (!check(g, &o, err))
        return false;
    if (!o.root || !*o.root)
        o.root = container_default_root(root, sizeof root);
    if (at == argc)
        return error_usage(err, "command: missing; see doppel-oci --help");
    const struct command *command = find_command(argv[at]);
    if (!command)
        return error_usage(err, "%s: there is no such command; see doppel-oci --help", argv[at]);
    if (command->enters && !seal_ourselves(argv, err))
        return false;
    return command->run(argc - at, argv + at, &o, status, err);
}

int main(int argc, char **argv)
{
    struct globals g = {0};
    struct error err = {0};
    int status = 0;
    open_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    if (!dispatch(argc, argv, &g, &status, &err)) {
        fprintf(stderr, "doppel-oci: %s\n", err.text);
        log_error(&g, err.text);
        status = err.status == EXIT_STATUS_USAGE ? EXIT_STATUS_USAGE : EXIT_STATUS_FAILURE;
    }
    if (fflush(stdout) != 0 && status == 0) {
        fprintf(stderr, "doppel-oci: standard output: can't be written; make room for it\n");
        status = EXIT_STATUS_FAILURE;
    }
    return status;
}

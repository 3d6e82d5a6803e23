/*
 * doppel container stop, kill and rm: what is done to containers by name.
 */
#include <signal.h>
#include <stdio.h>

#include "base/bits.h"
#include "cli/container.h"

struct stop {
    struct container_common common; /* first */
    uint64_t seconds;
    int signal;
    bool force, all;
};

static bool set_time(void *ctx, const char *value, struct error *err)
{
    return container_number("time", value, 0, 86400, &((struct stop *)ctx)->seconds, err);
}

static bool set_signal(void *ctx, const char *value, struct error *err)
{
    int signal = ((struct stop *)ctx)->signal = front_signal(value);
    return signal || error_usage(err,
                                 "--signal %.40s: there is no such signal; use its name or "
                                 "number",
                                 value);
}

static const struct container_option stop_options[] = {
    {"signal", 's', OPTION_CUSTOM, 0, set_signal},
    {"time", 't', OPTION_CUSTOM, 0, set_time},
};

static const struct container_option kill_options[] = {
    {"signal", 's', OPTION_CUSTOM, 0, set_signal},
};

static const struct container_option rm_options[] = {
    {"all", 'a', OPTION_FLAG, offsetof(struct stop, all), NULL},
    {"force", 'f', OPTION_FLAG, offsetof(struct stop, force), NULL},
};

static bool stop_one(const struct front *f, const struct stop *s, const char *name,
                     struct error *err)
{
    return front_stop(f, name, s->signal, (unsigned)s->seconds, err);
}

static bool kill_one(const struct front *f, const struct stop *s, const char *name,
                     struct error *err)
{
    return front_kill(f, name, s->signal ? s->signal : SIGKILL, err);
}

static bool remove_one(const struct front *f, const struct stop *s, const char *name,
                       struct error *err)
{
    return front_remove(f, name, s->force, err);
}

/* To every one that is named; the first error is the one that is told. */
static bool each(const struct front *f, const struct stop *s, char **names,
                 bool (*act)(const struct front *, const struct stop *, const char *,
                             struct error *),
                 struct error *err)
{
    bool ok = true;
    for (; *names; names++) {
        struct error one = {0};
        if (act(f, s, *names, &one))
            printf("%s\n", *names);
        else if (ok)
            *err = one, ok = false;
    }
    return ok;
}

static int act(const struct command *command, const struct container_option *options, size_t count,
               int argc, char **argv,
               bool (*one)(const struct front *, const struct stop *, const char *, struct error *),
               struct error *err)
{
    struct stop s = {.seconds = 10};
    struct front f = {.fd = -1, .containers = -1};
    struct strings names = {0};
    int at = container_options(command, options, count, &s, argc, argv, err);
    if (at >= 0 && s.common.help) {
        fputs(command->help, stdout);
    } else if (at >= 0 && (at >= argc) != s.all) {
        error_usage(err,
                    "container %s: it takes containers' names; see `doppel container ps --all`",
                    command->name);
    } else if (at >= 0 && container_front(&f, &s.common, false, err)) {
        if (!s.all)
            each(&f, &s, argv + at, one, err);
        else if (front_names(&f, &names, err) && names.count)
            each(&f, &s, names.items, one, err);
    }
    strings_free(&names);
    front_close(&f);
    return EXIT_STATUS_OK; /* with err, its status */
}

static int run_stop(int argc, char **argv, struct error *err)
{
    return act(&container_stop, stop_options, ARRAY_LEN(stop_options), argc, argv, stop_one, err);
}

static int run_kill(int argc, char **argv, struct error *err)
{
    return act(&container_kill, kill_options, ARRAY_LEN(kill_options), argc, argv, kill_one, err);
}

static int run_rm(int argc, char **argv, struct error *err)
{
    return act(&container_rm, rm_options, ARRAY_LEN(rm_options), argc, argv, remove_one, err);
}

const struct command container_stop = {
    .name = "stop",
    .summary = "end a container",
    .help = "doppel container stop [OPTIONS] NAME...\n"
            "\n"
            "Sends SIGTERM, or what the image names, and SIGKILL when that did not end it.\n"
            "\n"
            "  -t, --time SECONDS   how long to wait before SIGKILL; 10\n"
            "  -s, --signal SIGNAL  in place of SIGTERM\n",
    .run = run_stop,
};

const struct command container_kill = {
    .name = "kill",
    .summary = "send a container a signal",
    .help = "doppel container kill [--signal SIGNAL] NAME...\n"
            "\n"
            "Sends SIGKILL, or another signal, to a container's first process.\n",
    .run = run_kill,
};

const struct command container_rm = {
    .name = "rm",
    .summary = "remove what is left of a container",
    .help = "doppel container rm [--force] NAME... | --all\n"
            "\n"
            "  -f, --force  end it first, with SIGKILL\n"
            "  -a, --all    every container\n",
    .run = run_rm,
};

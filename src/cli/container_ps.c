/*
 * doppel container ps
 */
#include <stdio.h>
#include <time.h>

#include "base/bits.h"
#include "cli/container.h"
#include "cli/json.h"
#include "container/front/record.h"

struct ps {
    struct container_common common; /* first */
    bool all, json, quiet;
};

static const struct container_option options[] = {
    {"all", 'a', OPTION_FLAG, offsetof(struct ps, all), NULL},
    {"json", 0, OPTION_FLAG, offsetof(struct ps, json), NULL},
    {"quiet", 'q', OPTION_FLAG, offsetof(struct ps, quiet), NULL},
};

static void describe(const struct front_record *r, char *text, size_t size)
{
    if (r->state == RECORD_EXITED)
        snprintf(text, size, "exited (%d)", r->exit_status);
    else
        snprintf(text, size, "%s", record_state_name(r->state));
}

static void print_text(const struct front_record *r)
{
    char state[32], created[32];
    struct tm local;
    time_t at = (time_t)r->created;
    describe(r, state, sizeof state);
    strftime(created, sizeof created, "%Y-%m-%d %H:%M:%S", localtime_r(&at, &local));
    printf("%-20s %-14s %7d  %s  %s: %s\n", r->name, state, (int)r->init.pid, created, r->image,
           r->command);
}

static void print_json(const struct front_record *r, bool first)
{
    printf("%s\n  {\"name\": ", first ? "" : ",");
    json_print_string(stdout, r->name);
    printf(", \"state\": \"%s\", \"pid\": %d, \"exit_status\": %d, \"created\": %lld, \"image\": ",
           record_state_name(r->state), (int)r->init.pid, r->exit_status, (long long)r->created);
    json_print_string(stdout, r->image);
    printf(", \"command\": ");
    json_print_string(stdout, r->command);
    printf("}");
}

static void print(const struct ps *ps, const struct front_record *r, bool first)
{
    if (ps->quiet)
        printf("%s\n", r->name);
    else if (ps->json)
        print_json(r, first);
    else
        print_text(r);
}

static bool list(const struct ps *ps, const struct front *f, struct error *err)
{
    struct strings names = {0};
    bool ok = front_names(f, &names, err), first = true;
    if (ok && ps->json && !ps->quiet)
        printf("[");
    else if (ok && !ps->quiet)
        printf("%-20s %-14s %7s  %-19s  %s\n", "NAME", "STATE", "PID", "CREATED", "COMMAND");
    for (unsigned i = 0; ok && i < names.count; i++) {
        struct front_record r;
        struct error gone = {0}; /* removed since it was listed, or just being made */
        if (!record_load(f, names.items[i], &r, &gone))
            continue;
        if (ps->all || r.state != RECORD_EXITED) {
            print(ps, &r, first);
            first = false;
        }
        record_free(&r);
    }
    if (ok && ps->json && !ps->quiet)
        printf("%s]\n", first ? "" : "\n");
    strings_free(&names);
    return ok;
}

static int run(int argc, char **argv, struct error *err)
{
    struct ps ps = {0};
    struct front f = {.fd = -1, .containers = -1};
    int at = container_options(&container_ps, options, ARRAY_LEN(options), &ps, argc, argv, err);
    if (at >= 0 && ps.common.help)
        fputs(container_ps.help, stdout);
    else if (at >= 0 && at < argc)
        error_usage(err, "%.80s: ps takes no name; see `doppel container ps --help`", argv[at]);
    else if (at >= 0 && container_front(&f, &ps.common, false, err))
        list(&ps, &f, err);
    front_close(&f);
    return EXIT_STATUS_OK; /* with err, its status */
}

const struct command container_ps = {
    .name = "ps",
    .summary = "list containers",
    .help = "doppel container ps [--all] [--json | --quiet]\n"
            "\n"
            "  -a, --all    also those that have ended\n"
            "  --json       as JSON\n"
            "  -q, --quiet  only the names\n",
    .run = run,
};

/*
 * doppel engines: what this host offers, and why.
 */
#include <stdio.h>
#include <string.h>

#include "cli/command.h"
#include "cli/json.h"
#include "lib/engines.h"

static void print_text(const struct engine *picked)
{
    const struct engine_entry *e;
    for (unsigned i = 0; (e = engine_entry_at(i)); i++) {
        char why[256] = "";
        bool usable = engine_entry_usable(e, why, sizeof why);
        bool advisable = usable && engine_entry_advisable(e, why, sizeof why);
        const char *state = !usable               ? "no"
                            : !advisable          ? "works, but auto passes it over"
                            : e->engine == picked ? "yes, auto picks it"
                                                  : "yes";
        printf("%-10s %s: %s\n%-10s %s\n", e->name, state, why, "", e->summary);
    }
}

static void print_json(const struct engine *picked)
{
    const struct engine_entry *e;
    printf("{\"auto\": ");
    json_print_string(stdout, picked ? picked->name : NULL);
    printf(", \"engines\": [");
    for (unsigned i = 0; (e = engine_entry_at(i)); i++) {
        char why[256] = "";
        bool usable = engine_entry_usable(e, why, sizeof why);
        bool advisable = usable && engine_entry_advisable(e, why, sizeof why);
        printf("%s\n  {\"name\": ", i ? "," : "");
        json_print_string(stdout, e->name);
        printf(", \"usable\": %s, \"advisable\": %s, \"why\": ", usable ? "true" : "false",
               advisable ? "true" : "false");
        json_print_string(stdout, why);
        printf(", \"summary\": ");
        json_print_string(stdout, e->summary);
        printf("}");
    }
    printf("\n]}\n");
}

static int run(int argc, char **argv, struct error *err)
{
    bool json = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(command_engines.help, stdout);
            return EXIT_STATUS_OK;
        }
        if (strcmp(argv[i], "--json") != 0) {
            error_usage(err, "%s: there is no such option; see `doppel help engines`", argv[i]);
            return err->status;
        }
        json = true;
    }
    const struct engine *picked = engine_pick("auto", NULL);
    if (json)
        print_json(picked);
    else
        print_text(picked);
    return EXIT_STATUS_OK;
}

const struct command command_engines = {
    .name = "engines",
    .summary = "what this host offers to run a guest with, and why",
    .help =
        "doppel engines [--json]\n"
        "\n"
        "Lists the engines, fastest first: whether each works on this host, why, and which one\n"
        "`doppel run --engine auto` picks.\n",
    .run = run,
};

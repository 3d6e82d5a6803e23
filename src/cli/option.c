#include "cli/option.h"

#include <string.h>

bool option_take(struct option *o, int argc, char **argv, int *i,
                 bool (*takes_value)(const char *name), const char *command, struct error *err)
{
    const char *text = argv[*i];
    if (strcmp(text, "-h") == 0)
        text = "--help";
    if (strncmp(text, "--", 2) != 0 || !text[2])
        return error_usage(err, "%s: not an option; see `doppel help %s`", text, command);
    size_t n = strcspn(text + 2, "=");
    if (n >= sizeof o->name)
        return error_usage(err, "%.40s: there is no such option; see `doppel help %s`", text,
                           command);
    memcpy(o->name, text + 2, n);
    o->name[n] = 0;
    o->value = text[2 + n] ? text + 3 + n : NULL;
    if (!o->value && takes_value(o->name) && *i + 1 < argc)
        o->value = argv[++*i];
    return true;
}

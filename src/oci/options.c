#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oci/command.h"

static const struct option_row *find(const char *argument, size_t length,
                                     const struct option_row *rows, size_t count)
{
    const char *name = argument + strspn(argument, "-");
    length -= (size_t)(name - argument);
    for (size_t i = 0; i < count; i++)
        if ((strlen(rows[i].name) == length && strncmp(rows[i].name, name, length) == 0) ||
            (length == 1 && rows[i].letter && rows[i].letter == *name))
            return &rows[i];
    return NULL;
}

static bool take_flag(const struct option_row *row, const char *value, struct error *err)
{
    bool yes = !value || strcmp(value, "true") == 0, no = value && strcmp(value, "false") == 0;
    if (!yes && !no)
        return error_usage(err, "--%s: must be true or false; correct it", row->name);
    *(bool *)row->to = yes;
    return true;
}

static bool take_number(const struct option_row *row, const char *value, struct error *err)
{
    char *end;
    errno = 0;
    unsigned long n = strtoul(value, &end, 10);
    if (errno || *end || end == value || n > 1u << 30)
        return error_usage(err, "--%s %s: must be a number; correct it", row->name, value);
    *(unsigned *)row->to = (unsigned)n;
    return true;
}

static bool take_string(const struct option_row *row, char *value, int argc, struct error *err)
{
    struct string_list *list = row->to;
    switch (row->kind) {
    case OPTION_STRING: *(const char **)row->to = value; return true;
    case OPTION_NUMBER: return take_number(row, value, err);
    case OPTION_LIST:
        if (!list->strings)
            list->strings = calloc((size_t)argc, sizeof *list->strings);
        if (!list->strings)
            return error_set(err, "--%s: no memory; free some", row->name);
        list->strings[list->count++] = value;
        return true;
    default: return true;
    }
}

int options_parse(int argc, char **argv, const struct option_row *rows, size_t count,
                  struct error *err)
{
    int i = 1;
    for (; i < argc; i++) {
        char *argument = argv[i];
        if (argument[0] != '-' || !argument[1])
            return i;
        if (strcmp(argument, "--") == 0)
            return i + 1;
        char *value = strchr(argument, '=');
        size_t length = value ? (size_t)(value - argument) : strlen(argument);
        const struct option_row *row = find(argument, length, rows, count);
        if (!row) {
            error_usage(err, "%s: there is no such option; see doppel-oci --help", argument);
            return -1;
        }
        value = value ? value + 1 : NULL;
        if (row->kind == OPTION_FLAG) {
            if (!take_flag(row, value, err))
                return -1;
            continue;
        }
        if (!value && ++i < argc)
            value = argv[i];
        if (!value) {
            error_usage(err, "--%s: its value is missing; add it", row->name);
            return -1;
        }
        if (!take_string(row, value, argc, err))
            return -1;
    }
    return i;
}

const char *options_id(int argc, char **argv, const struct option_row *rows, size_t count,
                       struct error *err)
{
    int at = options_parse(argc, argv, rows, count, err);
    if (at < 0)
        return NULL;
    if (at != argc - 1) {
        error_usage(err,
                    "%s: needs exactly one argument, the container's id; see doppel-oci "
                    "--help",
                    argv[0]);
        return NULL;
    }
    return argv[at];
}

bool print_json(json_t *json, size_t flags, struct error *err)
{
    char *text = json ? json_dumps(json, flags) : NULL;
    bool ok = text && puts(text) >= 0;
    free(text);
    json_decref(json);
    return ok || error_set(err, "standard output: can't be written; make room for it");
}

#include "container/field.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Larger documents are no configuration. */
enum { MAX_DOCUMENT = 16 << 20, MAX_NAME = 200 };

static bool parse_error(const char *what, const json_error_t *why, struct error *err)
{
    return error_set(err, "%s: line %d, column %d: %s; correct the JSON there", what, why->line,
                     why->column, why->text);
}

json_t *field_parse(const char *text, size_t size, const char *what, struct error *err)
{
    json_error_t why;
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    /* An unlimited rlimit is written as 2^64 - 1, which the library's signed integers do not hold.
     * As floating point it reads as 2^64, which the getters take for the same. */
    if (!json && json_error_code(&why) == json_error_numeric_overflow)
        json = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &why);
    if (!json) {
        parse_error(what, &why, err);
        return NULL;
    }
    if (!json_is_object(json)) {
        error_set(err, "%s: not a JSON object; write one", what);
        json_decref(json);
        return NULL;
    }
    return json;
}

static char *read_all(int fd, size_t *size, struct error *err, const char *path)
{
    struct stat st;
    size_t capacity =
        fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : (size_t)64 << 10;
    if (capacity > MAX_DOCUMENT)
        capacity = MAX_DOCUMENT;
    char *text = malloc(capacity);
    size_t used = 0;
    while (text) {
        if (used == capacity) {
            if (capacity >= MAX_DOCUMENT) {
                error_set(err, "%s: larger than 16 MiB; is it the right file?", path);
                break;
            }
            char *more = realloc(text, capacity *= 2);
            if (!more)
                break;
            text = more;
        }
        ssize_t n = read(fd, text + used, capacity - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            error_errno(err, "%s: can't be read", path);
            free(text);
            return NULL;
        }
        if (n == 0) {
            *size = used;
            return text;
        }
        used += (size_t)n;
    }
    if (err->status == EXIT_STATUS_OK)
        error_set(err, "%s: no memory to read it; free some", path);
    free(text);
    return NULL;
}

json_t *field_load(const char *path, const char *what, struct error *err)
{
    bool standard = strcmp(path, "-") == 0;
    int fd = standard ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error_errno(err, "%s: can't be opened", path);
        return NULL;
    }
    size_t size = 0;
    char *text = read_all(fd, &size, err, path);
    if (!standard)
        close(fd);
    if (!text)
        return NULL;
    json_t *json = field_parse(text, size, what, err);
    free(text);
    return json;
}

/* Where the field stands: "config.json: linux.namespaces[2].type". Names are the document's, so
 * they are cut and cleaned for the terminal. */
static void write_path(const struct field *at, char *text, size_t size)
{
    if (!at->up) {
        snprintf(text, size, "%s: ", at->name);
        return;
    }
    write_path(at->up, text, size);
    size_t used = strlen(text);
    if (!at->name) {
        if (used > 0 && text[used - 1] == ' ' && used > 1)
            used -= 1;
        snprintf(text + used, size - used, "[%zu]", at->index);
        return;
    }
    snprintf(text + used, size - used, "%s%.60s", at->up->up ? "." : "", at->name);
    for (char *c = text + used; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

bool field_error(const struct field *at, struct error *err, const char *format, ...)
{
    char path[MAX_NAME + 1], why[300];
    va_list ap;
    write_path(at, path, sizeof path);
    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    for (char *c = why; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
    return error_set(err, "%s: %s", path, why);
}

static bool is_type(const json_t *json, enum field_type type)
{
    switch (type) {
    case FIELD_OBJECT: return json_is_object(json);
    case FIELD_ARRAY: return json_is_array(json);
    case FIELD_STRING: return json_is_string(json);
    case FIELD_NUMBER: return json_is_number(json);
    case FIELD_BOOLEAN: return json_is_boolean(json);
    }
    return false;
}

static const char *const type_names[] = {"an object", "an array", "a string", "a number",
                                         "true or false"};

static bool check_type(struct field *out, enum field_type type, struct error *err)
{
    if (json_is_null(out->json)) {
        out->json = NULL;
        return true;
    }
    if (out->json && !is_type(out->json, type))
        return field_error(out, err, "must be %s; correct it", type_names[type]);
    return true;
}

bool field_member(const struct field *in, const char *name, enum field_type type, struct field *out,
                  struct error *err)
{
    *out = (struct field){
        .json = in->json ? json_object_get(in->json, name) : NULL, .up = in, .name = name};
    return check_type(out, type, err);
}

bool field_item(const struct field *in, size_t index, enum field_type type, struct field *out,
                struct error *err)
{
    *out = (struct field){.json = json_array_get(in->json, index), .up = in, .index = index};
    if (!check_type(out, type, err))
        return false;
    if (!out->json)
        return field_error(out, err, "is null; must be %s", type_names[type]);
    return true;
}

size_t field_count(const struct field *array)
{
    return array->json ? json_array_size(array->json) : 0;
}

bool field_as_string(const struct field *at, const char **out, struct error *err)
{
    *out = json_string_value(at->json);
    return *out || field_error(at, err, "must be a string; correct it");
}

bool field_string(const struct field *in, const char *name, const char **out, struct error *err)
{
    struct field f;
    if (!field_member(in, name, FIELD_STRING, &f, err))
        return false;
    if (f.json)
        *out = json_string_value(f.json);
    return true;
}

bool field_boolean(const struct field *in, const char *name, bool *out, struct error *err)
{
    struct field f;
    if (!field_member(in, name, FIELD_BOOLEAN, &f, err))
        return false;
    if (f.json)
        *out = json_is_true(f.json);
    return true;
}

bool field_as_unsigned(const struct field *at, uint64_t max, uint64_t *out, struct error *err)
{
    uint64_t value;
    if (json_is_integer(at->json)) {
        json_int_t n = json_integer_value(at->json);
        if (n < 0)
            return field_error(at, err, "is negative; must be 0 to %llu", (unsigned long long)max);
        value = (uint64_t)n;
    } else {
        double real = json_real_value(at->json);
        if (!(real >= 0 && real <= 0x1p64) || real != floor(real))
            return field_error(at, err, "must be a whole number from 0 to %llu",
                               (unsigned long long)max);
        value = real >= 0x1p64 ? UINT64_MAX : (uint64_t)real;
    }
    if (value > max)
        return field_error(at, err, "is too large; must be 0 to %llu", (unsigned long long)max);
    *out = value;
    return true;
}

bool field_unsigned(const struct field *in, const char *name, uint64_t max, uint64_t *out,
                    bool *present, struct error *err)
{
    struct field f;
    if (!field_member(in, name, FIELD_NUMBER, &f, err))
        return false;
    if (present)
        *present = f.json != NULL;
    return !f.json || field_as_unsigned(&f, max, out, err);
}

bool field_signed(const struct field *in, const char *name, int64_t min, int64_t max, int64_t *out,
                  bool *present, struct error *err)
{
    struct field f;
    if (!field_member(in, name, FIELD_NUMBER, &f, err))
        return false;
    if (present)
        *present = f.json != NULL;
    if (!f.json)
        return true;
    double real = json_number_value(f.json);
    int64_t value = 0;
    bool whole = json_is_integer(f.json) || (fabs(real) < 0x1p63 && real == floor(real));
    if (whole)
        value = json_is_integer(f.json) ? json_integer_value(f.json) : (int64_t)real;
    if (!whole || value < min || value > max)
        return field_error(&f, err, "must be a whole number from %lld to %lld", (long long)min,
                           (long long)max);
    *out = value;
    return true;
}

bool field_strings(const struct field *in, const char *name, struct arena *arena, char ***out,
                   size_t *count, struct error *err)
{
    struct field array, item;
    if (!field_member(in, name, FIELD_ARRAY, &array, err))
        return false;
    size_t n = field_count(&array);
    char **strings = arena_array(arena, n + 1, sizeof *strings, err);
    if (!strings)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!field_item(&array, i, FIELD_STRING, &item, err))
            return false;
        /* execve() and its like take char *const[]; nobody writes to these. */
        strings[i] = (char *)(uintptr_t)json_string_value(item.json);
    }
    *out = strings;
    *count = n;
    return true;
}

bool field_ids(const struct field *in, const char *name, struct arena *arena, uint32_t **out,
               size_t *count, struct error *err)
{
    struct field array, item;
    if (!field_member(in, name, FIELD_ARRAY, &array, err))
        return false;
    size_t n = field_count(&array);
    uint32_t *ids = arena_array(arena, n, sizeof *ids, err);
    if (!ids)
        return false;
    for (size_t i = 0; i < n; i++) {
        uint64_t id = 0;
        if (!field_item(&array, i, FIELD_NUMBER, &item, err) ||
            !field_as_unsigned(&item, UINT32_MAX - 1, &id, err))
            return false;
        ids[i] = (uint32_t)id;
    }
    *out = ids;
    *count = n;
    return true;
}

bool field_flags(const struct field *in, const char *name, const struct field_word *words,
                 size_t count, const char *what_to_do, uint64_t *out, struct error *err)
{
    struct field list, item;
    if (!field_member(in, name, FIELD_ARRAY, &list, err))
        return false;
    for (size_t i = 0; i < field_count(&list); i++) {
        size_t k = 0;
        if (!field_item(&list, i, FIELD_STRING, &item, err))
            return false;
        while (k < count && strcmp(words[k].name, json_string_value(item.json)) != 0)
            k++;
        if (k == count)
            return field_error(&item, err, "is an unknown flag; %s", what_to_do);
        *out |= words[k].value;
    }
    return true;
}

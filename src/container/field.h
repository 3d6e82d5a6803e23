/*
 * JSON values that know where they stand in their document, so that an error names the field.
 *
 * A field is a value and the chain of names that leads to it (kept on the stack by those who
 * descend). Getters take the enclosing field and a member's name; an absent member, or null, leaves
 * the output as it is, so the caller sets the default first. A member of the wrong type is an
 * error.
 */
#ifndef DOPPEL_CONTAINER_FIELD_H
#define DOPPEL_CONTAINER_FIELD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "container/arena.h"

struct field {
    json_t *json; /* NULL: absent */
    const struct field *up;
    const char *name; /* the document's name at the top; NULL: an array's element */
    size_t index;
};

enum field_type { FIELD_OBJECT, FIELD_ARRAY, FIELD_STRING, FIELD_NUMBER, FIELD_BOOLEAN };

/* Reads a whole document; what is its name in errors. NULL: err is set. */
json_t *field_load(const char *path, const char *what, struct error *err);
json_t *field_parse(const char *text, size_t size, const char *what, struct error *err);

/* Sets err to "config.json: process.args: why". Returns false. */
bool field_error(const struct field *at, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

bool field_member(const struct field *in, const char *name, enum field_type type, struct field *out,
                  struct error *err);
bool field_item(const struct field *in, size_t index, enum field_type type, struct field *out,
                struct error *err);
size_t field_count(const struct field *array);

bool field_string(const struct field *in, const char *name, const char **out, struct error *err);
bool field_boolean(const struct field *in, const char *name, bool *out, struct error *err);
/* Numbers; *present (may be NULL) says whether the member was there. */
bool field_signed(const struct field *in, const char *name, int64_t min, int64_t max, int64_t *out,
                  bool *present, struct error *err);
bool field_unsigned(const struct field *in, const char *name, uint64_t max, uint64_t *out,
                    bool *present, struct error *err);
/* An array of strings, with NULL behind the last; absent: an empty one. */
bool field_strings(const struct field *in, const char *name, struct arena *arena, char ***out,
                   size_t *count, struct error *err);
/* An array of numbers up to UINT32_MAX - 1 (ids). */
bool field_ids(const struct field *in, const char *name, struct arena *arena, uint32_t **out,
               size_t *count, struct error *err);
/* A word that stands for a value. */
struct field_word {
    const char *name;
    uint64_t value;
};
/* An array of words: adds their values to *out. what_to_do about one that is not among them is for
 * people. */
bool field_flags(const struct field *in, const char *name, const struct field_word *words,
                 size_t count, const char *what_to_do, uint64_t *out, struct error *err);
bool field_as_unsigned(const struct field *at, uint64_t max, uint64_t *out, struct error *err);
bool field_as_string(const struct field *at, const char **out, struct error *err);

#endif

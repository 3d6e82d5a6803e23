/*
 * The versioned in-memory form of state: every vCPU's and device's, saved and loaded by
 * description, so that a form written by one version of Doppel is refused or understood, never
 * misread, by another.
 *
 * An archive is a row of records; a record has a name, an instance number, a version, and fields,
 * each with name, element size and count. Loading matches by name: an unknown field or record is
 * refused with a sentence, a missing one likewise unless it is marked optional. Loading is bounded
 * and takes hostile input.
 */
#ifndef DOPPEL_BASE_ARCHIVE_H
#define DOPPEL_BASE_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct archive_field {
    const char *name;
    uint32_t offset; /* in the object */
    uint32_t size;   /* of one element: 1, 2, 4, 8, or any for opaque bytes */
    uint32_t count;
    bool boolean;  /* elements are bool: other values than 0 and 1 are refused */
    bool optional; /* may be missing: the object keeps what it has */
};

struct archive_type {
    const char *name;
    uint32_t version;
    const struct archive_field *fields;
    unsigned field_count;
    void (*before_save)(void *object);                   /* may be NULL */
    bool (*after_load)(void *object, struct error *err); /* checks what was loaded; may be NULL */
};

/* ARCHIVE_FIELD(struct uart, ier) and, for an array, ARCHIVE_ARRAY(struct uart, fifo). */
#define ARCHIVE_BOOLEAN(member) _Generic((member), bool : true, default : false)
#define ARCHIVE_FIELD(type, member)                                                                \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member), 1,                           \
            ARCHIVE_BOOLEAN(((type *)0)->member)                                                   \
    }
#define ARCHIVE_ARRAY(type, member)                                                                \
    {                                                                                              \
#member, offsetof(type, member), sizeof(((type *)0)->member[0]),                           \
            sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]),                          \
            ARCHIVE_BOOLEAN(((type *)0)->member[0])                                                \
    }

struct archive {
    uint8_t *data; /* owned, from malloc() */
    size_t size, capacity;
    size_t
        position; /* behind the record that was loaded last: the next is looked for there first */
};

void archive_init(struct archive *a);
void archive_free(struct archive *a);
bool archive_save(struct archive *a, const struct archive_type *type, unsigned instance,
                  void *object, struct error *err);
/* Loads the record of that type and instance, wherever it is in the archive. When it fails the
 * object is as it was, unless after_load() was what failed. */
bool archive_load(struct archive *a, const struct archive_type *type, unsigned instance,
                  void *object, struct error *err);
/* After the last load: refuses an archive with a record that nobody has loaded. */
bool archive_end(const struct archive *a, struct error *err);

#endif

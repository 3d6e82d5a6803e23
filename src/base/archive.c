#include "base/archive.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

/*
 * The form, numbers little-endian:
 *
 *   archive  magic[8], record...
 *   record   u32 bytes behind this word, u8 loaded, string name, u32 instance, u32 version,
 *            u32 fields, field...
 *   field    string name, u32 element size, u32 count, the elements
 *   string   u8 length, that many bytes
 *
 * `loaded` is 0 in what is saved; archive_load() sets it, for archive_end().
 */
static const uint8_t magic[8] = "DOPPEL\r\n";

void archive_init(struct archive *a)
{
    *a = (struct archive){0};
}

void archive_free(struct archive *a)
{
    free(a->data);
    archive_init(a);
}

/* ---- saving ---- */

static bool put(struct archive *a, const void *bytes, size_t n)
{
    if (n > a->capacity - a->size) {
        size_t need = a->size + n, capacity = a->capacity ? a->capacity : 4096;
        while (capacity < need)
            capacity *= 2;
        uint8_t *data = realloc(a->data, capacity);
        if (!data)
            return false;
        a->data = data;
        a->capacity = capacity;
    }
    if (n)
        memcpy(a->data + a->size, bytes, n);
    a->size += n;
    return true;
}

static bool put_u32(struct archive *a, uint32_t v)
{
    return put(a, &v, sizeof v);
}

static bool put_string(struct archive *a, const char *text)
{
    size_t n = strlen(text);
    uint8_t length = (uint8_t)n;
    return n <= UINT8_MAX && put(a, &length, 1) && put(a, text, n);
}

static bool put_field(struct archive *a, const struct archive_field *f, const void *object)
{
    return put_string(a, f->name) && put_u32(a, f->size) && put_u32(a, f->count) &&
           put(a, (const uint8_t *)object + f->offset, (size_t)f->size * f->count);
}

static bool put_record(struct archive *a, const struct archive_type *type, unsigned instance,
                       const void *object)
{
    size_t start = a->size;
    uint8_t loaded = 0;
    if (!put_u32(a, 0) || !put(a, &loaded, 1) || !put_string(a, type->name) ||
        !put_u32(a, instance) || !put_u32(a, type->version) || !put_u32(a, type->field_count))
        return false;
    for (unsigned i = 0; i < type->field_count; i++)
        if (!put_field(a, &type->fields[i], object))
            return false;
    if (a->size - start - 4 > UINT32_MAX)
        return false;
    store_u32(a->data + start, (uint32_t)(a->size - start - 4));
    return true;
}

bool archive_save(struct archive *a, const struct archive_type *type, unsigned instance,
                  void *object, struct error *err)
{
    size_t start = a->size;
    if (type->before_save)
        type->before_save(object);
    bool ok = a->size || put(a, magic, sizeof magic);
    if (ok && put_record(a, type, instance, object))
        return true;
    a->size = start;
    return error_set(err, "saving %s %u: out of memory", type->name, instance);
}

/* ---- loading ---- */

/* Bytes still to be read; nothing is ever read past the end. */
struct cursor {
    uint8_t *at;
    size_t left;
};

static uint8_t *take(struct cursor *in, size_t n)
{
    if (n > in->left)
        return NULL;
    uint8_t *bytes = in->at;
    in->at += n;
    in->left -= n;
    return bytes;
}

static bool take_u32(struct cursor *in, uint32_t *v)
{
    const uint8_t *bytes = take(in, 4);
    if (bytes)
        *v = load_u32(bytes);
    return bytes;
}

struct string {
    const char *text;
    uint8_t length;
};

static bool take_string(struct cursor *in, struct string *s)
{
    const uint8_t *length = take(in, 1);
    if (!length)
        return false;
    s->length = *length;
    s->text = (const char *)take(in, s->length);
    return s->text;
}

static bool string_is(const struct string *s, const char *text)
{
    return strlen(text) == s->length && memcmp(s->text, text, s->length) == 0;
}

struct record {
    uint8_t *loaded;
    struct string name;
    uint32_t instance, version, field_count;
    struct cursor fields;
};

static bool take_record(struct cursor *in, struct record *r)
{
    uint32_t n;
    if (!take_u32(in, &n))
        return false;
    struct cursor body = {.left = n};
    body.at = take(in, n);
    if (!body.at)
        return false;
    r->loaded = take(&body, 1);
    if (!r->loaded || !take_string(&body, &r->name) || !take_u32(&body, &r->instance) ||
        !take_u32(&body, &r->version) || !take_u32(&body, &r->field_count))
        return false;
    r->fields = body;
    return true;
}

static bool damaged(struct error *err)
{
    error_set(err, "saved state: it is cut short or damaged");
    return false;
}

static bool open_archive(const struct archive *a, struct cursor *in, struct error *err)
{
    *in = (struct cursor){.at = a->data, .left = a->size};
    const uint8_t *head = a->data ? take(in, sizeof magic) : NULL;
    if (!head || memcmp(head, magic, sizeof magic) != 0)
        return error_set(err, "saved state: this is none, or none of this version of Doppel");
    return true;
}

static bool is_record(const struct record *r, const struct archive_type *type, unsigned instance)
{
    return string_is(&r->name, type->name) && r->instance == instance;
}

/* The record just behind the one that was loaded last, if it is the one: loading in the order of
 * saving then takes one look a record. */
static bool next_record(const struct archive *a, const struct archive_type *type, unsigned instance,
                        struct record *found)
{
    if (a->position < sizeof magic || a->position > a->size)
        return false;
    struct cursor in = {.at = a->data + a->position, .left = a->size - a->position};
    return take_record(&in, found) && is_record(found, type, instance);
}

static bool find_record(const struct archive *a, const struct archive_type *type, unsigned instance,
                        struct record *found, struct error *err)
{
    struct cursor in;
    if (!open_archive(a, &in, err))
        return false;
    if (next_record(a, type, instance, found))
        return true;
    while (in.left) {
        if (!take_record(&in, found))
            return damaged(err);
        if (is_record(found, type, instance))
            return true;
    }
    error_set(err, "saved state: %s %u is missing", type->name, instance);
    return false;
}

static const struct archive_field *field_of(const struct archive_type *type, const struct string *s)
{
    for (unsigned i = 0; i < type->field_count; i++)
        if (string_is(s, type->fields[i].name))
            return &type->fields[i];
    return NULL;
}

struct value {
    const struct archive_field *field;
    const uint8_t *bytes;
};

static bool take_value(struct cursor *in, const struct archive_type *type, struct value *v,
                       struct error *err)
{
    struct string name;
    uint32_t size, count;
    if (!take_string(in, &name) || !take_u32(in, &size) || !take_u32(in, &count))
        return damaged(err);
    v->field = field_of(type, &name);
    if (!v->field) {
        error_set(err, "saved state: %s has a field %.*s that this version does not know",
                  type->name, name.length, name.text);
        return false;
    }
    if (size != v->field->size || count != v->field->count)
        return error_set(err, "saved state: %s.%s is %u times %u bytes, not %u times %u",
                         type->name, v->field->name, count, size, v->field->count, v->field->size);
    v->bytes = take(in, (size_t)size * count);
    if (!v->bytes)
        return damaged(err);
    for (size_t i = 0; v->field->boolean && i < (size_t)size * count; i++)
        if (v->bytes[i] > 1)
            return error_set(err, "saved state: %s.%s is neither true nor false", type->name,
                             v->field->name);
    return true;
}

/* Whether the fields in the record are those of the type, each once and whole. */
static bool check_fields(const struct record *r, const struct archive_type *type, struct error *err)
{
    struct cursor in = r->fields;
    if (r->field_count > type->field_count)
        return error_set(err, "saved state: %s has %u fields, this version knows %u", type->name,
                         r->field_count, type->field_count);
    bool *seen = calloc(type->field_count + 1, sizeof *seen);
    if (!seen)
        return error_set(err, "loading %s: out of memory", type->name);
    bool ok = true;
    for (uint32_t i = 0; ok && i < r->field_count; i++) {
        struct value v = {0};
        ok = take_value(&in, type, &v, err);
        if (!ok)
            break;
        bool *mark = &seen[v.field - type->fields];
        if (*mark)
            ok = error_set(err, "saved state: %s.%s is in it twice", type->name, v.field->name);
        *mark = true;
    }
    if (ok && in.left)
        ok = damaged(err);
    for (unsigned i = 0; ok && i < type->field_count; i++)
        if (!seen[i] && !type->fields[i].optional)
            ok = error_set(err, "saved state: %s.%s is missing", type->name, type->fields[i].name);
    free(seen);
    return ok;
}

bool archive_load(struct archive *a, const struct archive_type *type, unsigned instance,
                  void *object, struct error *err)
{
    struct record r = {0};
    if (!find_record(a, type, instance, &r, err))
        return false;
    if (r.version != type->version)
        return error_set(err, "saved state: %s is of version %u, this Doppel takes version %u",
                         type->name, r.version, type->version);
    if (!check_fields(&r, type, err))
        return false;

    for (uint32_t i = 0; i < r.field_count; i++) {
        struct value v = {0};
        if (!take_value(&r.fields, type, &v, err) || !v.bytes)
            return false; /* not after check_fields() */
        memcpy((uint8_t *)object + v.field->offset, v.bytes,
               (size_t)v.field->size * v.field->count);
    }
    *r.loaded = 1;
    a->position = (size_t)(r.fields.at - a->data);
    return !type->after_load || type->after_load(object, err);
}

bool archive_end(const struct archive *a, struct error *err)
{
    struct cursor in;
    if (!open_archive(a, &in, err))
        return false;
    while (in.left) {
        struct record r;
        if (!take_record(&in, &r))
            return damaged(err);
        if (!*r.loaded)
            return error_set(err, "saved state: it has a part %.*s that this machine has not",
                             r.name.length, r.name.text);
    }
    return true;
}

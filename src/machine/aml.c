#include "machine/aml.h"

#include <string.h>

void aml_init(struct aml *a, void *buffer, size_t capacity)
{
    *a = (struct aml){.data = buffer, .capacity = capacity};
}

void aml_bytes(struct aml *a, const void *bytes, size_t n)
{
    if (n > a->capacity - a->size) {
        a->overflow = true;
        return;
    }
    memcpy(a->data + a->size, bytes, n);
    a->size += n;
}

void aml_byte(struct aml *a, uint8_t v)
{
    aml_bytes(a, &v, 1);
}

void aml_little(struct aml *a, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        aml_byte(a, (uint8_t)(v >> 8 * i));
}

/* ---- names and constants (20.2.2, 20.2.3) ---- */

static void name_segment(struct aml *a, const char *from, size_t n)
{
    for (size_t i = 0; i < 4; i++)
        aml_byte(a, i < n ? (uint8_t)from[i] : '_');
}

void aml_path(struct aml *a, const char *path)
{
    if (*path == '\\')
        aml_byte(a, (uint8_t)*path++);
    unsigned segments = *path != 0;
    for (const char *c = path; *c; c++)
        segments += *c == '.';
    if (segments == 0) {
        aml_byte(a, 0x00); /* NullName: the root itself */
    } else if (segments == 2) {
        aml_byte(a, 0x2e); /* DualNamePrefix */
    } else if (segments > 2) {
        aml_byte(a, 0x2f); /* MultiNamePrefix */
        aml_byte(a, (uint8_t)segments);
    }
    for (unsigned i = 0; i < segments; i++) {
        size_t n = strcspn(path, ".");
        name_segment(a, path, n);
        path += n + (path[n] == '.');
    }
}

void aml_integer(struct aml *a, uint64_t v)
{
    if (v <= 1) {
        aml_byte(a, (uint8_t)v); /* ZeroOp, OneOp */
        return;
    }
    static const struct {
        uint8_t op, bytes;
    } forms[] = {{0x0a, 1}, {0x0b, 2}, {0x0c, 4}, {0x0e, 8}};
    unsigned i = v <= 0xff ? 0 : v <= 0xffff ? 1 : v <= 0xffffffff ? 2 : 3;
    aml_byte(a, forms[i].op);
    aml_little(a, v, forms[i].bytes);
}

void aml_string(struct aml *a, const char *s)
{
    aml_byte(a, 0x0d);
    aml_bytes(a, s, strlen(s) + 1);
}

/* Three letters of five bits and four hexadecimal digits, big-endian (ACPI 6.4, 19.3.4). */
void aml_eisa_id(struct aml *a, const char *id)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < 3; i++)
        v = v << 5 | ((uint32_t)id[i] & 0x1f);
    for (unsigned i = 3; i < 7; i++)
        v = v << 4 | (uint32_t)(id[i] <= '9' ? id[i] - '0' : (id[i] & 0xf) + 9);
    aml_byte(a, 0x0c);
    for (unsigned i = 4; i-- > 0;)
        aml_byte(a, (uint8_t)(v >> 8 * i));
}

/* ---- objects with a PkgLength (20.2.4) ---- */

/* Lengths are always written in the three-byte form: up to 2^20, which the buffer can't exceed. */
enum { PKG_LENGTH_BYTES = 3 };

static void begin(struct aml *a)
{
    if (a->depth == AML_DEPTH) {
        a->overflow = true;
        return;
    }
    a->open[a->depth++] = a->size;
    aml_little(a, 0, PKG_LENGTH_BYTES);
}

void aml_end(struct aml *a)
{
    if (a->overflow || a->depth == 0) {
        a->overflow = true;
        return;
    }
    size_t at = a->open[--a->depth], n = a->size - at; /* the length counts itself */
    a->data[at] = (uint8_t)((PKG_LENGTH_BYTES - 1) << 6 | (n & 0xf));
    a->data[at + 1] = (uint8_t)(n >> 4);
    a->data[at + 2] = (uint8_t)(n >> 12);
}

void aml_scope(struct aml *a, const char *path)
{
    aml_byte(a, 0x10);
    begin(a);
    aml_path(a, path);
}

void aml_device(struct aml *a, const char *name)
{
    aml_bytes(a, "\x5b\x82", 2);
    begin(a);
    aml_path(a, name);
}

void aml_package(struct aml *a, uint8_t elements)
{
    aml_byte(a, 0x12);
    begin(a);
    aml_byte(a, elements);
}

/* A processor as ACPI 1.0 to 5.1 know it (ProcessorOp): what every guest understands. */
void aml_processor(struct aml *a, const char *name, uint8_t id)
{
    aml_bytes(a, "\x5b\x83", 2);
    begin(a);
    aml_path(a, name);
    aml_byte(a, id);
    aml_little(a, 0, 4); /* no P_BLK */
    aml_byte(a, 0);
}

void aml_method(struct aml *a, const char *name, uint8_t arguments)
{
    aml_byte(a, 0x14);
    begin(a);
    aml_path(a, name);
    aml_byte(a, arguments); /* not serialized */
}

void aml_if(struct aml *a)
{
    aml_byte(a, 0xa0);
    begin(a);
}

void aml_return(struct aml *a, const char *path)
{
    aml_byte(a, 0xa4);
    aml_path(a, path);
}

void aml_store_argument(struct aml *a, uint8_t n, const char *to)
{
    aml_byte(a, 0x70);
    aml_byte(a, (uint8_t)(0x68 + n));
    aml_path(a, to);
}

void aml_name(struct aml *a, const char *name)
{
    aml_byte(a, 0x08);
    aml_path(a, name);
}

void aml_name_integer(struct aml *a, const char *name, uint64_t v)
{
    aml_name(a, name);
    aml_integer(a, v);
}

void aml_name_eisa_id(struct aml *a, const char *name, const char *id)
{
    aml_name(a, name);
    aml_eisa_id(a, id);
}

/* ---- resources (6.4) ---- */

/* A Buffer whose size is a word constant, filled in at the end. */
void aml_resources(struct aml *a)
{
    aml_byte(a, 0x11);
    begin(a);
    aml_byte(a, 0x0b);
    aml_little(a, 0, 2);
}

void aml_resources_end(struct aml *a)
{
    aml_byte(a, 0x79); /* end tag, its checksum 0: not used */
    aml_byte(a, 0);
    if (a->overflow || a->depth == 0)
        return;
    size_t at = a->open[a->depth - 1] + PKG_LENGTH_BYTES + 1, n = a->size - at - 2;
    a->data[at] = (uint8_t)n;
    a->data[at + 1] = (uint8_t)(n >> 8);
    aml_end(a);
}

void aml_io(struct aml *a, uint16_t first, uint16_t last_base, uint8_t align, uint8_t count)
{
    aml_byte(a, 0x47);
    aml_byte(a, 1); /* decodes all 16 bits */
    aml_little(a, first, 2);
    aml_little(a, last_base, 2);
    aml_byte(a, align);
    aml_byte(a, count);
}

void aml_irq(struct aml *a, unsigned irq)
{
    aml_byte(a, 0x22);
    aml_little(a, UINT64_C(1) << irq, 2);
}

void aml_memory_fixed(struct aml *a, uint32_t base, uint32_t size)
{
    aml_byte(a, 0x86);
    aml_little(a, 9, 2);
    aml_byte(a, 1); /* writable */
    aml_little(a, base, 4);
    aml_little(a, size, 4);
}

/* The windows of 6.4.3.5: minimum and maximum fixed, positive decode, produced for what is below
 * the bridge; address and length in units of `bytes` bytes. */
static void window(struct aml *a, uint8_t tag, enum aml_space space, uint64_t first, uint64_t last,
                   unsigned bytes)
{
    static const uint8_t type_flags[] = {
        [AML_MEMORY] = 0x01, /* read-write, not cacheable */
        [AML_IO] = 0x03,     /* the entire range */
        [AML_BUS] = 0x00,
    };
    aml_byte(a, tag);
    aml_little(a, 3 + 5 * bytes, 2);
    aml_byte(a, (uint8_t)space);
    aml_byte(a, 0x0c);
    aml_byte(a, type_flags[space]);
    aml_little(a, 0, bytes); /* granularity */
    aml_little(a, first, bytes);
    aml_little(a, last, bytes);
    aml_little(a, 0, bytes); /* translation */
    aml_little(a, last - first + 1, bytes);
}

void aml_word_window(struct aml *a, enum aml_space space, uint16_t first, uint16_t last)
{
    window(a, 0x88, space, first, last, 2);
}

void aml_dword_memory(struct aml *a, uint32_t first, uint32_t last)
{
    window(a, 0x87, AML_MEMORY, first, last, 4);
}

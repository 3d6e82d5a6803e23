/*
 * A small emitter of ACPI machine language (ACPI 6.4, chapter 20): what a PC's DSDT needs and no
 * more.
 *
 * Packages (PkgLength objects) nest: aml_begin() reserves their length, aml_end() fills it. Output
 * beyond the buffer is not written and shows as `overflow`.
 */
#ifndef DOPPEL_MACHINE_AML_H
#define DOPPEL_MACHINE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AML_DEPTH = 8 };

struct aml {
    uint8_t *data;
    size_t size, capacity;
    bool overflow;
    size_t open[AML_DEPTH]; /* where each open object's PkgLength is */
    unsigned depth;
};

void aml_init(struct aml *a, void *buffer, size_t capacity);
void aml_bytes(struct aml *a, const void *bytes, size_t n);
void aml_byte(struct aml *a, uint8_t v);
void aml_little(struct aml *a, uint64_t v, unsigned bytes); /* the lowest bytes first */

/* A NameString from its dotted text form: "_SB", "\\_SB.PCI0". Segments shorter than four
 * characters are padded. */
void aml_path(struct aml *a, const char *path);
void aml_integer(struct aml *a, uint64_t v); /* the shortest constant that holds v */
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0A03" */

void aml_end(struct aml *a); /* of what was begun last */
void aml_scope(struct aml *a, const char *path);
void aml_device(struct aml *a, const char *name);
void aml_package(struct aml *a, uint8_t elements);
void aml_processor(struct aml *a, const char *name, uint8_t id);
void aml_method(struct aml *a, const char *name, uint8_t arguments);
void aml_if(struct aml *a); /* the predicate, then the body follow */

void aml_return(struct aml *a, const char *path);                  /* a named object */
void aml_store_argument(struct aml *a, uint8_t n, const char *to); /* to = ArgN */

void aml_name(struct aml *a, const char *name); /* its value follows */
void aml_name_integer(struct aml *a, const char *name, uint64_t v);
void aml_name_eisa_id(struct aml *a, const char *name, const char *id);

/* A resource template (ACPI 6.4, 6.4) as the value of a name that was just emitted; what comes
 * between are descriptors. */
void aml_resources(struct aml *a);
void aml_resources_end(struct aml *a);
void aml_io(struct aml *a, uint16_t first, uint16_t last_base, uint8_t align, uint8_t count);
void aml_irq(struct aml *a, unsigned irq); /* edge, active high, exclusive */
void aml_memory_fixed(struct aml *a, uint32_t base, uint32_t size);

/* Address-space windows, first and last inclusive. */
enum aml_space { AML_MEMORY = 0, AML_IO = 1, AML_BUS = 2 };
void aml_word_window(struct aml *a, enum aml_space space, uint16_t first, uint16_t last);
void aml_dword_memory(struct aml *a, uint32_t first, uint32_t last);

#endif

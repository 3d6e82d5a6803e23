/*
 * Files that go into a guest: a kernel image as a whole, and reads of its fields that never leave
 * it; an initrd or a module on its way into guest memory.
 */
#ifndef DOPPEL_BOOT_IMAGE_H
#define DOPPEL_BOOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/error.h"
#include "boot/scratch.h"

struct image {
    const char *path; /* as the user typed it, for messages; the caller's */
    uint8_t *data;    /* the scratch's that it was read into */
    size_t size;
};

/* Opens a regular file of 1 to limit bytes; what names its role in messages ("kernel"). Returns its
 * descriptor, or -1. */
int image_open(const char *what, const char *path, uint64_t limit, uint64_t *size,
               struct error *err);

/* Reads the whole file. On failure *image is empty. */
bool image_read(struct image *image, const char *what, const char *path, uint64_t limit,
                struct scratch *scratch, struct error *err);

/* Copies an open file to guest memory; *size comes in as image_open() gave it and is corrected when
 * the file has become shorter. */
bool image_copy(struct memory *memory, uint64_t gpa, int fd, const char *what, const char *path,
                uint64_t *size, struct error *err);

/* Whether [offset, offset + n) lies in the image. */
static inline bool image_has(const struct image *i, uint64_t offset, uint64_t n)
{
    return offset <= i->size && n <= i->size - offset;
}

/* Fields that are not in the image read as 0: a magic number does not match then. */
static inline uint8_t image_u8(const struct image *i, uint64_t offset)
{
    return image_has(i, offset, 1) ? i->data[offset] : 0;
}
static inline uint16_t image_u16(const struct image *i, uint64_t offset)
{
    return image_has(i, offset, 2) ? load_u16(i->data + offset) : 0;
}
static inline uint32_t image_u32(const struct image *i, uint64_t offset)
{
    return image_has(i, offset, 4) ? load_u32(i->data + offset) : 0;
}
static inline uint64_t image_u64(const struct image *i, uint64_t offset)
{
    return image_has(i, offset, 8) ? load_u64(i->data + offset) : 0;
}

#endif

/*
 * A file in host memory: a kernel image, an initrd, a module; and reads of its fields that never
 * leave it.
 */
#ifndef DOPPEL_BOOT_IMAGE_H
#define DOPPEL_BOOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "base/error.h"

struct image {
    const char *path; /* as the user typed it, for messages; the caller's */
    uint8_t *data;    /* owned */
    size_t size;
};

/* Reads a whole regular file of 1 to limit bytes; what names its role in messages ("kernel"). On
 * failure *image is empty. */
bool image_read(struct image *image, const char *what, const char *path, uint64_t limit,
                struct error *err);
void image_free(struct image *image);

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

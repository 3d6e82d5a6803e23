/*
 * Unpacking: what Linux kernels are compressed with (Linux, lib/decompress.c's formats).
 */
#ifndef DOPPEL_BOOT_UNPACK_H
#define DOPPEL_BOOT_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "boot/scratch.h"

/* The name of the format that data begins with, or NULL: none that we know. */
const char *unpack_format(const uint8_t *data, size_t size);

/* Unpacks what data begins with, ignoring what follows the compressed stream, into a new piece of
 * the scratch. hint: the size to expect, or 0. Fails when the result is larger than
 * limit. what names the file in messages. */
bool unpack(struct scratch *scratch, const uint8_t *data, size_t size, uint64_t hint,
            uint64_t limit, const char *what, uint8_t **out, size_t *out_size, struct error *err);

#endif

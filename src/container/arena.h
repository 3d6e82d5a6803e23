/*
 * Memory that lives as long as a configuration: given out piece by piece, freed at once.
 */
#ifndef DOPPEL_CONTAINER_ARENA_H
#define DOPPEL_CONTAINER_ARENA_H

#include <stddef.h>

#include "base/error.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
};

/* count zeroed elements of size bytes; NULL, with err set, when there is no memory. */
void *arena_array(struct arena *a, size_t count, size_t size, struct error *err);
char *arena_printf(struct arena *a, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void arena_free(struct arena *a);

#endif

#include "container/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct arena_block {
    struct arena_block *next;
    max_align_t data[];
};

void *arena_array(struct arena *a, size_t count, size_t size, struct error *err)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct arena_block), &bytes)) {
        error_set(err, "configuration: too large; make it smaller");
        return NULL;
    }
    struct arena_block *block = calloc(1, bytes);
    if (!block) {
        error_set(err, "configuration: no memory for %zu bytes; free some", bytes);
        return NULL;
    }
    block->next = a->blocks;
    a->blocks = block;
    return block->data;
}

char *arena_printf(struct arena *a, struct error *err, const char *format, ...)
{
    va_list ap, again;
    va_start(ap, format);
    va_copy(again, ap);
    int length = vsnprintf(NULL, 0, format, ap);
    char *text = length < 0 ? NULL : arena_array(a, (size_t)length + 1, 1, err);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(ap);
    return text;
}

void arena_free(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
}

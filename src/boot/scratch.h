/*
 * Room for files and for what they unpack to, until the guest is in place. It is taken from the
 * guest's own memory, the upper half of its last stretch of RAM, so that the monitor stays as small
 * as it is; or, where that is too small or wanted by the kernel, from the host.
 */
#ifndef DOPPEL_BOOT_SCRATCH_H
#define DOPPEL_BOOT_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct boot_range;
struct memory;

/* The most pieces at once in host memory: a file, and twice what is unpacked from it. */
enum { SCRATCH_PIECES = 4 };

struct scratch {
    /* In guest memory (memory is not NULL): pieces lie in [0, low) and [high, size) from gpa on. */
    struct memory *memory;
    uint64_t gpa;
    uint8_t *base;
    uint64_t low, high, size;
    /* The guest's memory did not do: another try with the host's may succeed. */
    bool insufficient;
    /* In host memory. */
    uint8_t *piece[SCRATCH_PIECES];
    unsigned count;
};

/* All zero bytes are an empty scratch in host memory. This is one in the guest's memory, whose map
 * that is, or still one in the host's when there is no room worth mentioning. */
void scratch_init(struct scratch *s, struct memory *memory, const struct boot_range *map,
                  unsigned count);

/* n bytes, not initialized, until scratch_close(). NULL: there are not so many. */
uint8_t *scratch_take(struct scratch *s, size_t n);

/* A piece that may yet grow: only the one taken last. piece is NULL for a new one. It may move, as
 * with realloc(); NULL: it can't grow so far and is as it was. */
uint8_t *scratch_grow(struct scratch *s, uint8_t *piece, size_t n);
/* The most that it can grow to. */
size_t scratch_room(const struct scratch *s, const uint8_t *piece);

/* Whether something would be written over it; it is insufficient then. */
bool scratch_overlaps(struct scratch *s, uint64_t gpa, uint64_t n);

/* Gives everything back. Guest memory reads as zero where it was. */
void scratch_close(struct scratch *s);

#endif

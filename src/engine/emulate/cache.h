/*
 * Decoded blocks, kept by guest-physical address and by how they were decoded.
 *
 * Blocks live in an arena that is filled from bottom to top; when it is full everything is thrown
 * away and decoding begins anew (decoding is cheap; a working set fits). Dropping a block unlinks
 * it but leaves its memory alone until then, so a vCPU may still be in it.
 */
#ifndef DOPPEL_ENGINE_EMULATE_CACHE_H
#define DOPPEL_ENGINE_EMULATE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block;
struct code_page;

enum {
    CACHE_BLOCK_INSNS = 64, /* the longest block */
    CACHE_HASH = 1 << 16,
    CACHE_PAGE_HASH = 1 << 9,
};

struct block_cache {
    uint8_t *arena; /* owned; pages are touched as it fills */
    size_t size, used;
    struct block *hash[CACHE_HASH];
    struct code_page *pages[CACHE_PAGE_HASH];
    uint64_t decoded, dropped, flushes;
};

/* size: bytes of the arena. False when the host has no memory. */
bool cache_init(struct block_cache *cache, size_t size);
void cache_free(struct block_cache *cache);
void cache_flush(struct block_cache *cache);

struct block *cache_find(const struct block_cache *cache, uint64_t gpa, uint32_t key);

/* Room for a block of CACHE_BLOCK_INSNS and its end; NULL when the arena must be flushed first. The
 * caller fills it in and commits it, or just forgets it. */
struct block *cache_room(struct block_cache *cache);
/* ops: how many operations the block came to, its end included. */
void cache_commit(struct block_cache *cache, struct block *b, unsigned ops);

/* Drops the blocks that overlap [gpa, gpa + len), within one page. Returns how many. */
unsigned cache_drop(struct block_cache *cache, uint64_t gpa, uint64_t len);
bool cache_has_page(const struct block_cache *cache, uint64_t gpa);

#endif

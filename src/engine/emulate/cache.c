#include "engine/emulate/cache.h"

#include <sys/mman.h>

#include "memory/memory.h"
#include "x86/sem/block.h"

/* The blocks that begin in one guest page. `lines` has a bit for each 64 bytes that some block
 * covers (it may have too many after a drop): most stores to such a page hit data beside the code.
 */
struct code_page {
    uint64_t gpa;
    uint64_t lines;
    struct block *blocks;
    struct code_page *next;
};

static uint64_t page_of(uint64_t gpa)
{
    return gpa >> MEMORY_PAGE_BITS;
}

static unsigned block_slot(uint64_t gpa, uint32_t key)
{
    return (unsigned)((gpa ^ gpa >> 13 ^ key * 0x9e3u) & (CACHE_HASH - 1));
}

static unsigned page_slot(uint64_t gpa)
{
    return page_of(gpa) & (CACHE_PAGE_HASH - 1);
}

bool cache_init(struct block_cache *cache, size_t size)
{
    void *arena = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    *cache = (struct block_cache){.size = size};
    if (arena == MAP_FAILED)
        return false;
    cache->arena = arena;
    return true;
}

void cache_free(struct block_cache *cache)
{
    if (cache->arena)
        munmap(cache->arena, cache->size);
    cache->arena = NULL;
}

void cache_flush(struct block_cache *cache)
{
    memset(cache->hash, 0, sizeof cache->hash);
    memset(cache->pages, 0, sizeof cache->pages);
    cache->used = 0;
    cache->flushes++;
}

struct block *cache_find(const struct block_cache *cache, uint64_t gpa, uint32_t key)
{
    struct block *b = cache->hash[block_slot(gpa, key)];
    while (b && (b->gpa != gpa || b->key != key))
        b = b->hash_next;
    return b;
}

static size_t block_size(unsigned ops)
{
    return sizeof(struct block) + ops * sizeof(struct op);
}

struct block *cache_room(struct block_cache *cache)
{
    if (cache->used + block_size(CACHE_BLOCK_INSNS + 1) + sizeof(struct code_page) > cache->size)
        return NULL;
    return (struct block *)(cache->arena + cache->used);
}

static struct code_page *find_page(const struct block_cache *cache, uint64_t gpa)
{
    struct code_page *p = cache->pages[page_slot(gpa)];
    while (p && page_of(p->gpa) != page_of(gpa))
        p = p->next;
    return p;
}

/* The 64-byte lines of a page that [gpa, gpa + len) touches. */
static uint64_t lines_of(uint64_t gpa, uint64_t len)
{
    unsigned first = (gpa & (MEMORY_PAGE_SIZE - 1)) / 64;
    unsigned last = ((gpa & (MEMORY_PAGE_SIZE - 1)) + len - 1) / 64;
    return bits_mask(last - first + 1) << first;
}

void cache_commit(struct block_cache *cache, struct block *b, unsigned ops)
{
    cache->used += block_size(ops);
    cache->decoded++;
    struct block **slot = &cache->hash[block_slot(b->gpa, b->key)];
    b->hash_next = *slot;
    *slot = b;
    struct code_page *p = find_page(cache, b->gpa);
    if (!p) {
        p = (struct code_page *)(cache->arena + cache->used);
        cache->used += sizeof *p;
        struct code_page **head = &cache->pages[page_slot(b->gpa)];
        *p = (struct code_page){.gpa = b->gpa, .next = *head};
        *head = p;
    }
    p->lines |= lines_of(b->gpa, b->bytes);
    b->page_next = p->blocks;
    p->blocks = b;
}

static void unhash(struct block_cache *cache, struct block *b)
{
    struct block **at = &cache->hash[block_slot(b->gpa, b->key)];
    while (*at != b)
        at = &(*at)->hash_next;
    *at = b->hash_next;
}

unsigned cache_drop(struct block_cache *cache, uint64_t gpa, uint64_t len)
{
    struct code_page *p = find_page(cache, gpa);
    unsigned n = 0;
    if (!p || !(p->lines & lines_of(gpa, len)))
        return 0;
    p->lines = 0;
    for (struct block **at = &p->blocks; *at;) {
        struct block *b = *at;
        if (b->gpa < gpa + len && gpa < b->gpa + b->bytes) {
            *at = b->page_next;
            unhash(cache, b);
            b->dropped = true;
            b->link[BLOCK_NEXT] = b->link[BLOCK_TAKEN] = NULL;
            n++;
        } else {
            p->lines |= lines_of(b->gpa, b->bytes);
            at = &b->page_next;
        }
    }
    if (n)
        for (struct block *b = p->blocks; b; b = b->page_next)
            b->link[BLOCK_NEXT] = b->link[BLOCK_TAKEN] = NULL;
    cache->dropped += n;
    return n;
}

bool cache_has_page(const struct block_cache *cache, uint64_t gpa)
{
    const struct code_page *p = find_page(cache, gpa);
    return p && p->blocks;
}

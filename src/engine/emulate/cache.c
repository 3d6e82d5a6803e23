#include "engine/emulate/cache.h"

#include <sys/mman.h>

#include "base/bytes.h"
#include "memory/memory.h"
#include "x86/sem/block.h"

/* A page's granules of 16 bytes, a bit each. */
enum { GRANULE = 16, GRANULE_WORDS = MEMORY_PAGE_SIZE / GRANULE / 64 };

/* The blocks that begin in one guest page. `covered` has the granules that some block covers (it
 * may have too many): most stores to such a page hit data beside the code. */
struct code_page {
    uint64_t gpa;
    uint64_t covered[GRANULE_WORDS];
    struct block *blocks;
    struct code_page *next;
};

static uint64_t page_of(uint64_t gpa)
{
    return gpa >> MEMORY_PAGE_BITS;
}

static unsigned block_slot(uint64_t gpa, uint32_t key)
{
    return (unsigned)((gpa ^ gpa >> 16 ^ key * 0x9e3u) & (CACHE_HASH - 1));
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
    bytes_fill(cache->hash, 0, sizeof cache->hash);
    bytes_fill(cache->pages, 0, sizeof cache->pages);
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

/* The granules of word w of a page that [gpa, gpa + len) touches. */
static uint64_t granules(unsigned w, uint64_t gpa, uint64_t len)
{
    uint64_t first = (gpa & (MEMORY_PAGE_SIZE - 1)) / GRANULE;
    uint64_t last = ((gpa & (MEMORY_PAGE_SIZE - 1)) + len - 1) / GRANULE;
    uint64_t base = w * 64;
    if (last < base || first >= base + 64)
        return 0;
    unsigned from = first > base ? (unsigned)(first - base) : 0;
    unsigned to = last < base + 63 ? (unsigned)(last - base) : 63;
    return bits_mask(to - from + 1) << from;
}

static void cover(struct code_page *p, const struct block *b)
{
    for (unsigned w = 0; w < GRANULE_WORDS; w++)
        p->covered[w] |= granules(w, b->gpa, b->bytes);
}

static bool covers(const struct code_page *p, uint64_t gpa, uint64_t len)
{
    uint64_t hit = 0;
    for (unsigned w = 0; w < GRANULE_WORDS; w++)
        hit |= p->covered[w] & granules(w, gpa, len);
    return hit != 0;
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
    cover(p, b);
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
    if (!p || !covers(p, gpa, len))
        return 0;
    bytes_fill(p->covered, 0, sizeof p->covered);
    for (struct block **at = &p->blocks; *at;) {
        struct block *b = *at;
        if (b->gpa < gpa + len && gpa < b->gpa + b->bytes) {
            *at = b->page_next;
            unhash(cache, b);
            b->dropped = true;
            b->link[BLOCK_NEXT] = b->link[BLOCK_TAKEN] = NULL;
            n++;
        } else {
            cover(p, b);
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

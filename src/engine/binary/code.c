#include "engine/binary/code.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory/memory.h"

/* The key of what is no block, and the bytes an instruction has in its second page at most. */
#define NO_KEY UINT32_MAX
enum { X86_TAIL_MOST = 14 };

/* What is taken at most; the memory is the host's until it is used. */
enum {
    CODE_SIZE = 24 << 20,
    CODE_LEAST = 256 << 10,
    BLOCKS = 1 << CODE_NUMBER_BITS,
    POINTS = 1 << 21,
    LINKS = 1 << 19,
    BLOCK_CODE_MOST = 16 << 10,
    BLOCK_POINTS_MOST = 256,
};

/* ---- making it ---- */

static void *reserve(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool map_code(struct code *c)
{
    /* Shared memory without a name is what perf takes for a translator's (perf_map.c); of such
     * memory a second mapping is made by mremap(2), with an old size of 0. */
    void *w = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    c->write = w == MAP_FAILED ? NULL : w;
    void *x = c->write ? mremap(c->write, 0, CODE_SIZE, MREMAP_MAYMOVE) : MAP_FAILED;
    c->run = x == MAP_FAILED ? NULL : x;
    return c->run && mprotect(c->run, CODE_SIZE, PROT_READ | PROT_EXEC) == 0;
}

bool code_limit(struct code *c, uint64_t size)
{
    if (size < CODE_LEAST || size > CODE_SIZE)
        return false;
    c->size = (uint32_t)size;
    return true;
}

bool code_create(struct code *c, struct error *err)
{
    *c = (struct code){.size = CODE_SIZE, .blocks = 1};
    pthread_mutex_init(&c->lock, NULL);
    c->block = reserve(BLOCKS * sizeof *c->block);
    c->hash_next = reserve(BLOCKS * sizeof *c->hash_next);
    c->point = reserve(POINTS * sizeof *c->point);
    c->kind = reserve(POINTS * sizeof *c->kind);
    c->link = reserve(LINKS * sizeof *c->link);
    if (!c->block || !c->hash_next || !c->point || !c->kind || !c->link || !map_code(c)) {
        error_errno(err, "engine binary: the host gives no memory to run translated code from; "
                         "use --engine emulate");
        code_destroy(c);
        return false;
    }
    return true;
}

static void release(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

void code_destroy(struct code *c)
{
    release(c->block, BLOCKS * sizeof *c->block);
    release(c->hash_next, BLOCKS * sizeof *c->hash_next);
    release(c->point, POINTS * sizeof *c->point);
    release(c->kind, POINTS * sizeof *c->kind);
    release(c->link, LINKS * sizeof *c->link);
    release(c->write, CODE_SIZE);
    release(c->run, CODE_SIZE);
    pthread_mutex_destroy(&c->lock);
}

/* ---- blocks ---- */

static uint32_t hash(uint64_t value, uint32_t key)
{
    value ^= key * UINT64_C(0xc2b2ae3d27d4eb4f);
    return (uint32_t)(value * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* Neighbours in a page are neighbours here: a block's branches mostly lead near it. */
static unsigned hash_address(uint64_t gpa, uint32_t key)
{
    enum { APART = 8 };
    unsigned in_page = gpa & (MEMORY_PAGE_SIZE - 1);
    return ((hash(gpa >> MEMORY_PAGE_BITS, key) >> (32 - CODE_HASH_BITS)) + in_page / APART) %
           CODE_HASH;
}

static unsigned hash_page(uint64_t gpa)
{
    return hash(gpa >> MEMORY_PAGE_BITS, 0) >> (32 - CODE_PAGES_BITS);
}

/* What tells a block from others of its chain, in the bits above its number. */
static uint32_t mark(uint64_t gpa, uint32_t key)
{
    return hash(gpa, key) & ~(BLOCKS - 1u);
}

static uint32_t number(uint32_t marked)
{
    return marked & (BLOCKS - 1u);
}

bool code_has_room(const struct code *c)
{
    return c->size - c->used >= BLOCK_CODE_MOST && c->blocks + 2 <= BLOCKS &&
           POINTS - c->points >= BLOCK_POINTS_MOST && LINKS - c->links >= BLOCK_POINTS_MOST;
}

struct emit code_begin(struct code *c)
{
    uint8_t *at = c->write + c->used;
    return (struct emit){.at = at, .end = at + BLOCK_CODE_MOST};
}

/* Enters block t, whose host code has n bytes. Other vCPUs look for blocks, by guest and by host
 * address, without the lock: it is whole before they can find it. */
static uint32_t enter(struct code *c, const struct translation *t, unsigned n)
{
    uint32_t b = c->blocks;
    unsigned h = hash_address(t->gpa, t->key), p = hash_page(t->gpa);
    c->block[b] = *t;
    c->block[b].code = c->used;
    c->block[b].size = (uint16_t)n;
    c->block[b].linked_from = NO_LINK;
    c->hash_next[b] = c->by_address[h];
    c->block[b].page_next = c->by_page[p];
    c->by_page[p] = b;
    __atomic_store_n(&c->blocks, b + 1, __ATOMIC_RELEASE);
    __atomic_store_n(&c->by_address[h], mark(t->gpa, t->key) | b, __ATOMIC_RELEASE);
    return b;
}

uint8_t *code_take(struct code *c, const struct emit *e)
{
    uint8_t *at = c->write + c->used;
    c->used = (uint32_t)((uint64_t)(e->at - c->write) + 15) & ~15u;
    return at;
}

static void enter_link(struct code *c, uint32_t n)
{
    struct translation *to = &c->block[c->link[n].to];
    c->link[n].next = to->linked_from;
    to->linked_from = n;
}

uint32_t code_commit(struct code *c, const struct emit *e, const struct translation *t)
{
    /* What only stands for the second page comes first: code_at() finds the last of two. */
    if (t->gpa2)
        enter(c,
              &(struct translation){.gpa = t->gpa2,
                                    .key = NO_KEY,
                                    .bytes = X86_TAIL_MOST,
                                    .twin = code_next(c, t->gpa2)},
              0);
    uint32_t b = enter(c, t, (unsigned)(e->at - (c->write + c->used)));
    for (uint32_t l = t->first_link; l < t->first_link + t->links; l++)
        if (c->link[l].to != NO_BLOCK)
            enter_link(c, l);
    c->points += t->insns + 1u;
    code_take(c, e);
    c->made++;
    return b;
}

void code_flush(struct code *c)
{
    memset(c->by_address, 0, sizeof c->by_address);
    memset(c->by_page, 0, sizeof c->by_page);
    c->used = c->fixed;
    c->blocks = 1;
    c->points = c->links = 0;
    c->flushes++;
}

static bool is_at(const struct translation *t, uint64_t gpa, uint32_t key, uint64_t gpa2,
                  uint64_t va)
{
    return t->gpa == gpa && t->key == key && t->gpa2 == gpa2 && t->va == va && !t->dropped;
}

uint32_t code_find(const struct code *c, uint64_t gpa, uint32_t key, uint64_t gpa2, uint64_t va)
{
    const uint32_t *at = &c->by_address[hash_address(gpa, key)], wanted = mark(gpa, key);
    for (uint32_t b; (b = __atomic_load_n(at, __ATOMIC_ACQUIRE)); at = &c->hash_next[number(b)])
        if (b - number(b) == wanted && is_at(&c->block[number(b)], gpa, key, gpa2, va))
            return number(b);
    return NO_BLOCK;
}

static bool same_page(uint64_t a, uint64_t b)
{
    return (a ^ b) >> MEMORY_PAGE_BITS == 0;
}

bool code_has_page(const struct code *c, uint64_t gpa)
{
    for (uint32_t b = c->by_page[hash_page(gpa)]; b; b = c->block[b].page_next)
        if (same_page(c->block[b].gpa, gpa) && !c->block[b].dropped)
            return true;
    return false;
}

/* What arrives at the block's inner entry goes to `stale` with its number in S2. Nobody runs the
 * block meanwhile. */
static void make_stale(struct code *c, uint32_t b, const uint8_t *stale)
{
    struct translation *t = &c->block[b];
    uint8_t *near = c->write + t->code + t->near;
    struct emit e = {near, near + CODE_STALE_BYTES, false};
    emit_move_imm(&e, S2, b);
    emit_jump(&e, stale);
    t->dropped = true;
    c->dropped++;
}

/* Takes dropped blocks out of a chain. Others may be on their way along it. */
static void unchain_address(struct code *c, uint64_t gpa, uint32_t key)
{
    uint32_t *at = &c->by_address[hash_address(gpa, key)];
    while (*at) {
        uint32_t *next = &c->hash_next[number(*at)];
        if (c->block[number(*at)].dropped)
            __atomic_store_n(at, *next, __ATOMIC_RELEASE);
        else
            at = next;
    }
}

static void unchain_page(struct code *c, uint64_t gpa)
{
    uint32_t *at = &c->by_page[hash_page(gpa)];
    while (*at) {
        struct translation *t = &c->block[*at];
        if (t->dropped)
            *at = t->page_next;
        else
            at = &t->page_next;
    }
}

void code_lead(struct code *c, uint32_t n, uint32_t b)
{
    struct link *l = &c->link[n];
    if (l->to != NO_BLOCK)
        return;
    l->to = b;
    enter_link(c, n);
    emit_point(c->write + l->patch, c->write + c->block[b].code + c->block[b].near);
}

/* The links that lead to the block do so no more. A block that was dropped has something else where
 * its links were. */
static void unlink_all(struct code *c, struct translation *t)
{
    for (uint32_t n = t->linked_from; n != NO_LINK; n = c->link[n].next) {
        struct link *l = &c->link[n];
        l->to = NO_BLOCK;
        if (!c->block[l->block].dropped)
            emit_point(c->write + l->patch, c->write + l->stub);
    }
    t->linked_from = NO_LINK;
}

void code_drop_one(struct code *c, uint32_t b, const uint8_t *stale)
{
    struct translation *t = &c->block[b];
    if (t->dropped)
        return;
    if (t->twin) { /* only stands for another */
        t->dropped = true;
        unchain_page(c, t->gpa);
        b = t->twin;
        t = &c->block[b];
        if (t->dropped)
            return;
    }
    unlink_all(c, t);
    make_stale(c, b, stale);
    unchain_address(c, t->gpa, t->key);
    unchain_page(c, t->gpa);
}

unsigned code_drop(struct code *c, uint64_t gpa, uint64_t len, const uint8_t *stale)
{
    unsigned n = 0;
    uint32_t b = c->by_page[hash_page(gpa)];
    while (b) {
        const struct translation *t = &c->block[b];
        uint32_t next = t->page_next;
        if (same_page(t->gpa, gpa) &&
            (t->scattered || (t->gpa < gpa + len && gpa < t->gpa + t->bytes))) {
            code_drop_one(c, b, stale);
            n++;
        }
        b = next;
    }
    return n;
}

/* ---- from host addresses back ---- */

uint32_t code_at(const struct code *c, const void *host)
{
    if (!code_holds(c, host))
        return NO_BLOCK;
    uint32_t at = (uint32_t)((const uint8_t *)host - c->run);
    uint32_t low = 1, high = __atomic_load_n(&c->blocks, __ATOMIC_ACQUIRE);
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (c->block[middle].code <= at)
            low = middle + 1;
        else
            high = middle;
    }
    uint32_t b = low - 1;
    return b && at - c->block[b].code < c->block[b].size ? b : NO_BLOCK;
}

int code_point(const struct code *c, uint32_t b, const void *host, bool *exact)
{
    const struct translation *t = &c->block[b];
    const struct point *p = &c->point[t->points];
    uint32_t at = (uint32_t)((const uint8_t *)host - c->run) - t->code;
    int i = -1;
    while (i + 1 < (int)t->insns && p[i + 1].host <= at)
        i++;
    /* Behind a dropped block's inner entry is what leads away (make_stale()). */
    *exact = i >= 0 && p[i].host == at && !(t->dropped && at > t->near);
    return i;
}

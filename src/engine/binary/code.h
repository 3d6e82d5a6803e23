/*
 * The code cache: translated blocks of all vCPUs, found by where the guest's code is in physical
 * memory.
 *
 * Host code lives in memory that is mapped twice: written through one mapping, run through the
 * other, never both in one. Blocks are laid down one behind the other; when the room is used up,
 * all of them are dropped and the first is laid down again (in an exclusive section, so that no
 * vCPU is in any).
 */
#ifndef DOPPEL_ENGINE_BINARY_CODE_H
#define DOPPEL_ENGINE_BINARY_CODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "engine/binary/emit.h"

/* Bytes of a block's host code behind its inner entry at least: they become a jump when it is
 * dropped. */
enum { CODE_STALE_BYTES = 16 };

enum { NO_BLOCK = 0 }; /* block 0 is never used */

/* A guest instruction of a block: where its host code and its guest code begin. */
struct point {
    uint16_t host;       /* bytes from the block's first */
    uint16_t guest : 15; /* offset in the guest page */
    uint16_t tied : 1; /* goes by what is in scratch registers: can't be gone on at from outside */
};

/* How an instruction of a block runs: byte for byte as it is in the guest, by other code, or in C.
 */
enum code_kind { KIND_COPIED, KIND_REWRITTEN, KIND_EMULATED, KINDS };

struct translation {
    uint64_t gpa;  /* of its first guest byte; it does not leave its page */
    uint64_t gpa2; /* but for a block of one instruction that goes on in this page; else 0 */
    uint64_t va;   /* of its page, where it is bound to that (bound.h); else 0 */
    uint32_t key;  /* the mode it was made for */
    uint32_t code; /* where its host code begins: the entry from elsewhere */
    uint16_t size; /* of its host code */
    uint16_t near; /* from there: the entry from the same guest page */
    uint16_t bytes, insns;
    uint32_t points; /* index of its first struct point; there are insns + 1 */
    uint32_t first_link;
    uint16_t links;
    bool dropped;
    bool scattered;       /* over its page: it has followed branches */
    uint32_t linked_from; /* the first link that leads here, or NO_LINK */
    uint32_t twin;        /* of an entry that only stands for the second page of another block */
    uint32_t page_next;
};
_Static_assert(sizeof(struct translation) == 64, "a look at one is one line of the host's cache");

/* A direct branch out of a block, to the same page if it is not bound: it leads to its target while
 * that exists, and to what leaves translated code else. */
enum { NO_LINK = UINT32_MAX };
struct link {
    uint32_t patch; /* where its rel32 is in the code */
    uint32_t stub;  /* what leaves */
    uint32_t block;
    int32_t target; /* from the guest page's start */
    uint32_t to;    /* the block it leads to, or NO_BLOCK */
    uint32_t next;  /* of the links that lead there, or NO_LINK */
};

/* Chains of blocks by address and mode, and by page. Most of what is looked for is not there, and
 * the blocks are far apart in the host's memory: what stands for a block in a chain by address is
 * its number with bits of its hash above, and the chain goes on beside the blocks, so that only
 * what is found is looked at. */
enum { CODE_HASH_BITS = 17, CODE_PAGES_BITS = 14, CODE_NUMBER_BITS = 18 };
enum { CODE_HASH = 1 << CODE_HASH_BITS, CODE_PAGES = 1 << CODE_PAGES_BITS };

struct code {
    pthread_mutex_t lock;
    uint8_t *write, *run;       /* the two mappings */
    uint32_t size, used, fixed; /* fixed: behind the pieces that are never dropped */
    struct translation *block;
    uint32_t *hash_next; /* of each block */
    struct point *point;
    uint8_t *kind; /* enum code_kind of each point's instruction, where that is measured */
    struct link *link;
    uint32_t blocks, points, links;
    uint32_t by_address[CODE_HASH], by_page[CODE_PAGES];
    uint64_t made, dropped, flushes;
};

bool code_create(struct code *c, struct error *err);
void code_destroy(struct code *c);
/* From now on at most `size` bytes are used. False: that is too few or too many. */
bool code_limit(struct code *c, uint64_t size);

/* Room for one more block of the largest size. */
bool code_has_room(const struct code *c);
/* An emitter at the first free byte. */
struct emit code_begin(struct code *c);
/* Keeps what was emitted. Returns the block's number. */
uint32_t code_commit(struct code *c, const struct emit *e, const struct translation *t);
/* Drops every block. */
void code_flush(struct code *c);

/* gpa2: the page that its first instruction goes on in, or 0. va: see struct translation. */
uint32_t code_find(const struct code *c, uint64_t gpa, uint32_t key, uint64_t gpa2, uint64_t va);
/* Link n leads to block b from now on. */
void code_lead(struct code *c, uint32_t n, uint32_t b);
/* The number that the next block will have. */
static inline uint32_t code_next(const struct code *c, uint64_t gpa2)
{
    return c->blocks + (gpa2 ? 1 : 0);
}
/* Takes n bytes of code that belong to no block. */
uint8_t *code_take(struct code *c, const struct emit *e);
bool code_has_page(const struct code *c, uint64_t gpa);
/* Drops the blocks that [gpa, gpa + len) touches (in one page): whoever comes to them goes to
 * `stale` instead. Returns how many. */
unsigned code_drop(struct code *c, uint64_t gpa, uint64_t len, const uint8_t *stale);

/* Drops one. */
void code_drop_one(struct code *c, uint32_t b, const uint8_t *stale);

/* The block whose host code holds the address, or NO_BLOCK. */
uint32_t code_at(const struct code *c, const void *host);
/* The instruction of block b at or before a host address in it: its index, or -1 in what comes
 * before the first; exact tells whether the address is its very beginning. */
int code_point(const struct code *c, uint32_t b, const void *host, bool *exact);

static inline bool code_holds(const struct code *c, const void *host)
{
    return (uintptr_t)host - (uintptr_t)c->run < c->size;
}
static inline void *code_run(const struct code *c, uint32_t at)
{
    return c->run + at;
}

#endif

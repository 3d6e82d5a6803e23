/*
 * Blocks: rows of operations that run from start to end, and how one goes on to the next.
 *
 * The engine that decodes code owns the blocks; branches use the inline functions here, so that a
 * jump to a block that is already known costs a few instructions. Whatever they can't decide (an
 * unknown block, a pending request, the instruction limit) goes back to the engine's loop: s.rip is
 * set and NULL returned.
 */
#ifndef DOPPEL_X86_SEM_BLOCK_H
#define DOPPEL_X86_SEM_BLOCK_H

#include "x86/debug.h"
#include "x86/sem/op.h"

/* Where a block goes on, by the slot of the link: the branch not taken (or the end of a block
 * without a branch), and the branch taken. */
enum { BLOCK_NEXT, BLOCK_TAKEN, BLOCK_LINKS };

struct block {
    uint64_t gpa; /* of its first byte; a block never leaves its page */
    uint32_t key; /* how it was decoded: enum x86_code and whether CS has a limit */
    uint16_t insns;
    uint16_t bytes;
    /* Direct successors in the same guest page, filled in by the engine; a page's blocks are
     * dropped together with every link to them. */
    struct block *link[BLOCK_LINKS];
    struct block *hash_next, *page_next; /* the engine's lists */
    bool dropped;
    struct op ops[];
};

/* A direct-mapped cache from RIP to block, asked by indirect branches and those that leave the
 * page. `key` is the x86_cpu's jump_key when the entry was made: it changes with CPL, code width
 * and every change of mappings. */
struct jump_entry {
    uint64_t rip;
    uint64_t key;
    struct block *block;
};

enum { JUMP_BITS = 12, JUMP_SIZE = 1 << JUMP_BITS };

static inline unsigned jump_hash(uint64_t rip)
{
    return (rip ^ rip >> JUMP_BITS) & (JUMP_SIZE - 1);
}

/* Runs block b at rip. */
#define BLOCK_ENTER(c, b, to)                                                                      \
    do {                                                                                           \
        uint64_t insns_ = (c)->insns + (b)->insns;                                                 \
        (c)->s.rip = (to);                                                                         \
        if (unlikely(atomic_load_explicit(&(c)->request, memory_order_relaxed) != 0 ||             \
                     insns_ > (c)->insns_limit))                                                   \
            return NULL;                                                                           \
        (c)->insns = insns_;                                                                       \
        (c)->block = (b);                                                                          \
        (c)->s.gpr[X86_GPR_BLOCK] = (to);                                                          \
        OP_NEXT(c, (b)->ops);                                                                      \
    } while (0)

/* Goes on at `to`, the target of the direct branch that ends this block. */
#define BLOCK_FOLLOW(c, slot, to)                                                                  \
    do {                                                                                           \
        struct block *link_ = (c)->block->link[slot];                                              \
        if (likely(link_))                                                                         \
            BLOCK_ENTER(c, link_, to);                                                             \
        BLOCK_JUMP_SLOT(c, slot, to);                                                              \
    } while (0)

/* Goes on at `to`, wherever that is. */
#define BLOCK_JUMP(c, to) BLOCK_JUMP_SLOT(c, BLOCK_LINKS, to)

/* link_slot tells the engine which link it may fill in; BLOCK_LINKS: none. */
#define BLOCK_JUMP_SLOT(c, slot, to)                                                               \
    do {                                                                                           \
        const struct jump_entry *j_ = &(c)->jump[jump_hash(to)];                                   \
        if (likely(j_->rip == (to) && j_->key == (c)->jump_key))                                   \
            BLOCK_ENTER(c, j_->block, to);                                                         \
        (c)->s.rip = (to);                                                                         \
        (c)->link_from = (slot) < BLOCK_LINKS ? (c)->block : NULL;                                 \
        (c)->link_slot = (slot);                                                                   \
        return NULL;                                                                               \
    } while (0)

/* Leaves the block with the running instruction not completed (a REP that lets interrupts in): it
 * will be begun again. Returns what the operation returns. */
static inline const struct op *block_restart(struct x86_cpu *c, const struct op *op)
{
    c->insns -= c->block->insns - (uint64_t)(op - c->block->ops);
    c->s.rip = x86_rip(c);
    x86_debug_suspend(c);
    return NULL;
}

#endif

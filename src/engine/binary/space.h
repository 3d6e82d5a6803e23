/*
 * What a vCPU knows of linear addresses: flat tables and jump caches, by view and address space.
 *
 * A supervisor's view under SMAP holds no page of user space, so there is one table for it, from
 * which CR3 writes take only what is not global; its code has one jump cache. What a user sees,
 * and a supervisor with RFLAGS.AC, is kept for the latest few process-context identifiers (SDM 3,
 * 4.10.1), so that a switch back finds it.
 */
#ifndef DOPPEL_ENGINE_BINARY_SPACE_H
#define DOPPEL_ENGINE_BINARY_SPACE_H

#include "engine/binary/bound.h"
#include "engine/binary/page_set.h"
#include "engine/binary/table.h"

/* A jump cache: where the blocks of code at known addresses are entered. Bound code leads to what
 * is in `next`, by the lowest 16 bits of the address: blocks that compare the whole address with
 * their own, or what looks it up among the entries. Other code looks there itself. */
enum { JUMPS_NEXT = 1 << 16, JUMPS = 1 << 14 };
struct jump_area {
    void *next[JUMPS_NEXT];
    struct {
        uint64_t tag; /* 0 - RIP; entry 0 holds 1 when it is empty, which no RIP gives */
        void *to;
    } entry[JUMPS];
};
_Static_assert(sizeof(struct jump_area) == JUMP_AREA, "JUMP_AREA");
_Static_assert(offsetof(struct jump_area, entry) == JUMP_AREA / 3 * 2, "GS_JUMP_TAG");

/* Where code at rip has its entry: translated code does the same with RORX, LEA and PEXT. */
enum { JUMP_HASH_BITS = 14 };
static inline unsigned jump_slot(uint64_t rip)
{
    return (rip + (rip >> JUMP_HASH_BITS | rip << (64 - JUMP_HASH_BITS))) & (JUMPS - 1);
}
static inline unsigned jump_next_slot(uint64_t rip)
{
    return rip & (JUMPS_NEXT - 1);
}

/* With the entries that are in use, of pages that are not global. */
struct jumps {
    struct jump_area *area;
    void *lookup; /* what is in `next` for want of a block */
    struct {
        uint16_t entry, next;
    } filled[4096];
    unsigned count;        /* more than there is room for: all of them may be */
    bool global;           /* some are of pages that are */
    struct page_set pages; /* that have entries: most pages that INVLPG names hold no code */
};

enum view { VIEW_SUPERVISOR, VIEW_AC, VIEW_USER };

struct direct;

struct space {
    struct table ac, user;
    struct jumps jumps;          /* of user code */
    struct bound bound;          /* what its code is bound to, once it is hot */
    const struct direct *direct; /* whose cage follows the users' table */
    bool hot, stale;             /* stale: that was flushed */
    uint64_t ran;                /* on the host's time-stamp counter, before it was left last */
    unsigned pcid;
    bool used;
    uint64_t last; /* when it was last switched to */
};

enum { SPACES = 8, TABLES_OF_A_VCPU = 2 * SPACES + 1 };

struct spaces {
    int fd; /* the file with the context and the jump caches */
    struct table supervisor;
    struct jumps kernel;
    struct space space[SPACES];
    unsigned current;
    uint64_t switches;
    uint64_t since; /* when the current one was switched to, on the host's time-stamp counter */
};

/* lookup: the host code that looks up among the entries of a jump cache. */
bool spaces_create(struct spaces *s, struct windows *w, void *lookup, struct error *err);
void spaces_destroy(struct spaces *s);

static inline struct space *space_now(struct spaces *s)
{
    return &s->space[s->current];
}
static inline struct table *spaces_table(struct spaces *s, enum view view)
{
    struct space *now = space_now(s);
    return view == VIEW_USER ? &now->user : view == VIEW_AC ? &now->ac : &s->supervisor;
}
static inline struct jumps *spaces_jumps(struct spaces *s, bool user)
{
    return user ? &space_now(s)->jumps : &s->kernel;
}

/* Everything; what is known of one page, in every space (or one of 2^bits bytes, 2 MiB or more);
 * every jump. */
void spaces_forget(struct spaces *s);
void spaces_forget_page(struct spaces *s, uint64_t lin);
void spaces_forget_large_page(struct spaces *s, uint64_t lin, unsigned bits);
void spaces_forget_jumps(struct spaces *s);
void spaces_forget_kernel_jumps(struct spaces *s);
void spaces_forget_user_jumps(struct space *space);
/* How long the current space has run; it is a new one from now on. */
uint64_t spaces_time(const struct spaces *s);
void spaces_cool(struct spaces *s, struct space *space);
/* CR3 was written: what the space of pcid knows is kept, or forgotten. */
void spaces_switch(struct spaces *s, unsigned pcid, bool keep);
/* The RAM page at offset is not to be written without a look. */
void spaces_protect(struct spaces *s, uint64_t offset);

/* `to` is where the block is entered by whoever has compared the address; `next`, where it does
 * that itself, or NULL. */
void jumps_remember(struct jumps *j, uint64_t rip, void *to, void *next, bool global);
void jumps_forget(struct jumps *j, uint64_t rip);
/* Where the block at rip is entered, or NULL. */
static inline void *jumps_find(const struct jumps *j, uint64_t rip)
{
    unsigned i = jump_slot(rip);
    return j->area->entry[i].tag == 0 - rip ? j->area->entry[i].to : NULL;
}

#endif

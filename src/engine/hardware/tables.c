/*
 * What KVM may have made of the guest's page tables, where it does not see them change.
 *
 * A KVM without the processor's nested paging keeps translations of its own. It looks at the
 * guest's tables when a user touches a page, and again when it sees a vCPU of its own change them;
 * what `emulate` changes it does not see. So before a user runs, the tables he can reach are
 * compared with what they were when users last ran: an entry that was present and is another one
 * now is one that KVM may still use. Then, and not for each system call or process that gets its
 * turn, KVM has to forget all it has.
 *
 * That holds for one vCPU, since the tables then don't change while users run. With more, KVM
 * forgets whenever the guest has a processor drop translations.
 */
#include "engine/hardware/tables.h"

#include <stdlib.h>
#include <string.h>

enum { ENTRIES = 512, USERS_HALF = ENTRIES / 2, LEVELS = 4 };
enum { ENTRY_P = 1 << 0, ENTRY_U = 1 << 2, ENTRY_A = 1 << 5, ENTRY_D = 1 << 6, ENTRY_PS = 1 << 7 };
#define ENTRY_ADDRESS UINT64_C(0x000ffffffffff000)

/* More tables than these (1 GiB in small pages has 512), and KVM forgets every time. */
enum { COPIES = 1024, SLOTS = 2 * COPIES };

struct tables {
    const struct memory *memory;
    uint64_t walks;
    unsigned count;
    uint64_t key[SLOTS];  /* a table's address and level; 0: a free slot */
    uint64_t seen[SLOTS]; /* the walk that came by last */
    uint64_t copy[SLOTS][ENTRIES];
};

struct tables *tables_new(const struct memory *m)
{
    struct tables *t = calloc(1, sizeof *t);
    if (t)
        t->memory = m;
    return t;
}

void tables_free(struct tables *t)
{
    free(t);
}

static void forget_copies(struct tables *t)
{
    memset(t->key, 0, sizeof t->key);
    t->count = 0;
}

/* The slot of that key, or the one for it; SLOTS: there are too many. */
static unsigned find(const struct tables *t, uint64_t key)
{
    unsigned i = (unsigned)(key >> MEMORY_PAGE_BITS) % SLOTS;
    while (t->key[i] && t->key[i] != key)
        i = (i + 1) % SLOTS;
    return t->key[i] || t->count < COPIES ? i : SLOTS;
}

/* Whether what KVM may have made of the entry is still right: it had nothing of it, or at most bits
 * were added that say that it was used. */
static bool still_right(uint64_t was, uint64_t is)
{
    const uint64_t used = ENTRY_A | ENTRY_D;
    return !(was & ENTRY_P) || (((was ^ is) & ~used) == 0 && (was & ~is & used) == 0);
}

/* Brings the copy up to date. */
static bool compare(uint64_t *copy, const uint64_t *table, unsigned entries)
{
    bool right = true;
    if (memcmp(copy, table, entries * sizeof *table) == 0)
        return true;
    for (unsigned i = 0; i < entries; i++) {
        uint64_t entry = table[i];
        right &= still_right(copy[i], entry);
        copy[i] = entry;
    }
    return right;
}

/* Four levels deep: NOLINTBEGIN(misc-no-recursion) */
static bool walk(struct tables *t, uint64_t gpa, unsigned level);

static bool walk_below(struct tables *t, const uint64_t *copy, unsigned entries, unsigned level)
{
    const uint64_t reachable = ENTRY_P | ENTRY_U;
    bool right = true;
    for (unsigned i = 0; i < entries; i++) {
        bool leaf = level < LEVELS && (copy[i] & ENTRY_PS);
        if ((copy[i] & reachable) == reachable && !leaf)
            right &= walk(t, copy[i] & ENTRY_ADDRESS, level - 1);
    }
    return right;
}

/* A table is walked once at each level, however often the guest has it. */
static bool walk(struct tables *t, uint64_t gpa, unsigned level)
{
    unsigned entries = level == LEVELS ? USERS_HALF : ENTRIES;
    const uint64_t *table = (const uint64_t *)memory_hva(t->memory, gpa);
    if (!table)
        return true; /* no RAM: nothing that changes unseen */
    unsigned slot = find(t, gpa | level);
    if (slot == SLOTS)
        return false;
    bool known = t->key[slot], right = true;
    if (known && t->seen[slot] == t->walks)
        return true;
    if (known) {
        right = compare(t->copy[slot], table, entries);
    } else {
        memcpy(t->copy[slot], table, entries * sizeof *table);
        t->key[slot] = gpa | level;
        t->count++;
    }
    t->seen[slot] = t->walks;
    return (level == 1 || walk_below(t, t->copy[slot], entries, level)) && right;
}
/* NOLINTEND(misc-no-recursion) */

bool tables_still_right(struct tables *t, uint64_t cr3)
{
    t->walks++;
    if (walk(t, cr3 & ENTRY_ADDRESS, LEVELS))
        return true;
    forget_copies(t);
    t->walks++;
    walk(t, cr3 & ENTRY_ADDRESS, LEVELS);
    return false;
}

/*
 * Checks of page translation that all paging modes share. A guest defines the few functions below
 * for its mode and then includes nothing else of ours but its run header.
 *
 * The page under test is at TEST_LINEAR, alone in its page table; the next one is free too.
 */
#ifndef GUEST_PAGING_H
#define GUEST_PAGING_H

#include "guest.h"
#include "page.h"

#define TEST_LINEAR 0x40000000ul

enum kind { READ, WRITE, EXECUTE, UPDATE };

struct outcome {
    uint32_t vector, error;
    uint64_t address; /* CR2, after #PF */
};

/* One access at a level (0 or 3) to four bytes; the page table may have been changed before. */
struct outcome touch(unsigned level, enum kind kind, unsigned long at);

/* Four bytes read at a level, and what code there leaves in EAX. */
uint32_t read_at(unsigned level, unsigned long at);
uint32_t run_at(unsigned level, unsigned long at);

/* The page-table entry of TEST_LINEAR or the page behind it, and entries above: level 1 is the page
 * table's own, counting up. put_entry() only writes it, set_entry() writes CR3 too. */
uint64_t get_entry(unsigned level, unsigned long at);
void put_entry(unsigned level, unsigned long at, uint64_t v);
void set_entry(unsigned level, unsigned long at, uint64_t v);

/* How many levels there are above the page table, and whether entries are of 8 bytes. */
extern unsigned paging_levels;
extern bool paging_wide;

/* What TEST_LINEAR maps to: two pages. */
extern uint8_t test_frame[2][4096];

static inline uint64_t frame_of(unsigned i)
{
    return (unsigned long)test_frame[i];
}

static inline void invlpg(unsigned long at)
{
    __asm__ volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static inline bool outcome_is(struct outcome o, uint32_t vector, uint32_t error,
                              unsigned long address)
{
    return o.vector == vector && (vector != PF || (o.error == error && o.address == address));
}
#define CHECK_TOUCHED(level, kind, at) CHECK_EQ(touch(level, kind, at).vector, DONE)
#define CHECK_FAULTS(level, kind, at, code)                                                        \
    do {                                                                                           \
        struct outcome o_ = touch(level, kind, at);                                                \
        CHECK_EQ(o_.vector, PF);                                                                   \
        CHECK_EQ(o_.error, code);                                                                  \
        CHECK_EQ(o_.address, at);                                                                  \
    } while (0)

/* Two places in memory, of 4 MiB each, and what an entry of such a level, LARGE or not, is to lead
 * to the second instead of the first. `at` is where the first one's bytes are then. */
enum { PLACES = 8 << 20, PLACE_SIZE = 4 << 20 };
void invlpg_takes_all(unsigned level, unsigned long at, uint64_t first, uint64_t second);

/* The shared checks, for the guests' tables. */
void accessed_and_dirty(void);
void not_present(void);
void user_and_supervisor(void);
void read_only(void);
void rights_combine_over_levels(void);
void straddles(void);
void stale_entries_go_with_invlpg(void);
void large_pages(void);
void large_pages_go_with_invlpg(void);
void execute_disable(void);
void reserved_bits(void);
void fetches_across_pages(void);

#endif

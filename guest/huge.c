/*
 * A program for a Linux guest: writes to all of a transparent huge page, gives it back, and looks
 * at all of it again, which must be zeros. Linux executes one INVLPG for it. It says "given back",
 * or what it found.
 */
#include "lib/user.h"

enum { SYS_MADVISE = 28, MADV_DONTNEED = 4, MADV_HUGEPAGE = 14 };
enum { PAGE = 4096, HUGE = 2 << 20, ROUNDS = 8 };

static volatile uint8_t memory[2 * HUGE] __attribute__((aligned(2 << 20)));

static int write_and_give_back(void)
{
    for (size_t at = 0; at < HUGE; at += PAGE)
        memory[at] = 1;
    if (system_call(SYS_MADVISE, (long)memory, HUGE, MADV_DONTNEED, 0) != 0)
        return 0;
    for (size_t at = 0; at < HUGE; at += PAGE)
        if (memory[at] != 0)
            return 0;
    return 1;
}

_Noreturn void program(void)
{
    if (system_call(SYS_MADVISE, (long)memory, HUGE, MADV_HUGEPAGE, 0) != 0) {
        say("there are no huge pages\n");
        leave(1);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (!write_and_give_back()) {
            say("still there\n");
            leave(1);
        }
    }
    say("given back\n");
    leave(0);
}

/*
 * A program for a Linux guest: some processes that keep values of their own in ZMM and mask
 * registers while they run in turn, and copy memory through them over the ends of pages. It says
 * "kept" when nothing was lost, or what was.
 */
#include "lib/user.h"

enum { SYS_SCHED_YIELD = 24, SYS_FORK = 57, SYS_WAIT4 = 61 };
enum { PROCESSES = 4, ROUNDS = 3000, BYTES = 1 << 20 };

static uint8_t from[BYTES + 64], to[BYTES + 64];

static void load(uint64_t seed)
{
    uint64_t mask = seed * 0x9e3779b97f4a7c15u;
    __asm__ volatile("vpbroadcastq %0, %%zmm0\n\t"
                     "vpbroadcastq %1, %%zmm17\n\t"
                     "vpaddq %%zmm0, %%zmm17, %%zmm31\n\t"
                     "kmovq %1, %%k5"
                     :
                     : "r"(seed), "r"(mask));
}

/* Whether they are as load() left them. */
static int is_kept(uint64_t seed)
{
    uint64_t mask = seed * 0x9e3779b97f4a7c15u, zmm[3][8], k5;
    __asm__ volatile("vmovdqu64 %%zmm0, %0\n\tvmovdqu64 %%zmm17, %1\n\tvmovdqu64 %%zmm31, %2\n\t"
                     "kmovq %%k5, %3"
                     : "=m"(zmm[0]), "=m"(zmm[1]), "=m"(zmm[2]), "=r"(k5));
    int kept = k5 == mask;
    for (unsigned i = 0; i < 8; i++)
        kept &= zmm[0][i] == seed && zmm[1][i] == mask && zmm[2][i] == seed + mask;
    return kept;
}

static int copies(uint64_t seed)
{
    uint64_t tail = (UINT64_C(1) << (1 + seed % 63)) - 1;
    for (size_t i = 0; i < BYTES; i++)
        from[i] = (uint8_t)(i * seed >> 3);
    for (size_t i = 1; i + 64 < BYTES; i += 64)
        __asm__ volatile("vmovdqu8 %1, %%zmm20\n\tvmovdqu8 %%zmm20, %0"
                         : "=m"(to[i])
                         : "m"(from[i])
                         : "memory");
    __asm__ volatile("kmovq %2, %%k1\n\tvmovdqu8 %1, %%zmm20%{%%k1%}%{z%}\n\t"
                     "vmovdqu8 %%zmm20, %0%{%%k1%}"
                     : "=m"(to[BYTES - 63])
                     : "m"(from[BYTES - 63]), "r"(tail)
                     : "memory");
    for (size_t i = 1; i < BYTES - 63 + 1 + seed % 63; i++)
        if (to[i] != from[i])
            return 0;
    return 1;
}

static int work(uint64_t seed)
{
    load(seed);
    for (unsigned i = 0; i < ROUNDS; i++) {
        system_call(SYS_SCHED_YIELD, 0, 0, 0, 0);
        if (!is_kept(seed)) {
            say("lost registers\n");
            return 1;
        }
    }
    if (copies(seed))
        return 0;
    say("copied wrong\n");
    return 1;
}

_Noreturn void program(void)
{
    int failed = 0, status;
    for (uint64_t seed = 1; seed <= PROCESSES; seed++) {
        if (system_call(SYS_FORK, 0, 0, 0, 0) == 0)
            leave(work(seed * 0x1234567));
    }
    while (system_call(SYS_WAIT4, -1, (long)&status, 0, 0) > 0)
        failed |= status;
    say(failed ? "failed\n" : "kept\n");
    leave(failed != 0);
}

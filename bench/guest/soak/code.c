#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "soak.h"

enum { PAGE = 4096, FUNCTIONS = 64, SLOT = PAGE / FUNCTIONS, REWRITES = 3000 };

typedef unsigned (*function)(unsigned);

// lea imm(%rdi), %eax; xor $imm, %eax; ret
static void emit(unsigned char *at, unsigned add, unsigned mask)
{
    unsigned char code[12] = {0x8d, 0x87};
    memcpy(code + 2, &add, 4);
    code[6] = 0x35;
    memcpy(code + 7, &mask, 4);
    code[11] = 0xc3;
    memcpy(at, code, sizeof code);
}

static bool call_all(unsigned char *page, const unsigned *adds, const unsigned *masks, unsigned x)
{
    for (int i = 0; i < FUNCTIONS; i++) {
        function f;
        void *at = page + i * SLOT;
        memcpy(&f, &at, sizeof f);
        if (f(x) != ((x + adds[i]) ^ masks[i]))
            return soak_wrong("code: function %d gave %#x instead of %#x", i, f(x),
                              (x + adds[i]) ^ masks[i]);
    }
    return true;
}

// One page of small functions, rewritten one at a time and called: half the rounds with the page
// writable and executable at once, half with its protection changed in between.
bool soak_code(uint64_t seed)
{
    bool both = seed % 2;
    unsigned adds[FUNCTIONS], masks[FUNCTIONS];
    int protection = PROT_READ | PROT_WRITE | (both ? PROT_EXEC : 0);
    unsigned char *page = mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return soak_wrong("code: mmap: %s", strerror(errno));
    bool right = true;
    for (int i = 0; i < REWRITES && right; i++) {
        int n = i < FUNCTIONS ? i : (int)(soak_random(&seed) % FUNCTIONS);
        adds[n] = (unsigned)soak_random(&seed);
        masks[n] = (unsigned)soak_random(&seed);
        if (!both)
            mprotect(page, PAGE, PROT_READ | PROT_WRITE);
        emit(page + n * SLOT, adds[n], masks[n]);
        if (!both)
            mprotect(page, PAGE, PROT_READ | PROT_EXEC);
        right = i < FUNCTIONS - 1 || call_all(page, adds, masks, (unsigned)soak_random(&seed));
    }
    munmap(page, PAGE);
    return right;
}

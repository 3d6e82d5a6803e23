#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "soak.h"

// Mappings that come, grow, move, shrink and go, each filled with a pattern that is its own.
enum { PAGE = 4096, SLOTS = 24, PAGES_MAX = 96, CHANGES = 600 };

struct mapping {
    unsigned char *at;
    size_t pages;
    uint64_t key;
};

static uint64_t pattern(const struct mapping *m, size_t page)
{
    uint64_t x = m->key + page * 0x9e3779b97f4a7c15ull + 1;
    return soak_random(&x);
}

// Two words a page: at its start, and across its end where there is a next one.
static void fill(const struct mapping *m, size_t from)
{
    for (size_t p = from; p < m->pages; p++) {
        uint64_t value = pattern(m, p);
        memcpy(m->at + p * PAGE + 8, &value, sizeof value);
        if (p + 1 < m->pages)
            memcpy(m->at + (p + 1) * PAGE - 4, &value, sizeof value);
    }
}

static bool check(const struct mapping *m)
{
    for (size_t p = 0; p < m->pages; p++) {
        uint64_t value = pattern(m, p), low, high = value;
        memcpy(&low, m->at + p * PAGE + 8, sizeof low);
        if (p + 1 < m->pages)
            memcpy(&high, m->at + (p + 1) * PAGE - 4, sizeof high);
        if (low != value || high != value)
            return soak_wrong("mappings: page %zu of %zu holds %#llx and %#llx instead of %#llx", p,
                              m->pages, (unsigned long long)low, (unsigned long long)high,
                              (unsigned long long)value);
    }
    return true;
}

static bool create(struct mapping *m, uint64_t *random)
{
    m->pages = soak_random(random) % PAGES_MAX + 1;
    m->key = soak_random(random);
    int kind = soak_random(random) % 2 ? MAP_PRIVATE : MAP_SHARED;
    m->at = mmap(NULL, m->pages * PAGE, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, -1, 0);
    if (m->at == MAP_FAILED) {
        m->at = NULL;
        return soak_wrong("mappings: mmap: %s", strerror(errno));
    }
    for (size_t p = 0; p < m->pages; p++)
        if (m->at[p * PAGE + 100])
            return soak_wrong("mappings: a fresh page is not empty");
    fill(m, 0);
    return true;
}

// Made smaller in place, or moved elsewhere with all that it holds.
static bool change(struct mapping *m, uint64_t *random)
{
    size_t pages = soak_random(random) % m->pages + 1;
    if (soak_random(random) % 2) {
        munmap(m->at + pages * PAGE, (m->pages - pages) * PAGE);
        m->pages = pages;
        return true;
    }
    void *to = mmap(NULL, m->pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *at = to == MAP_FAILED ? to
                                : mremap(m->at, m->pages * PAGE, m->pages * PAGE,
                                         MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (at == MAP_FAILED)
        return soak_wrong("mappings: mremap: %s", strerror(errno));
    m->at = at;
    return true;
}

bool soak_mappings(uint64_t seed)
{
    struct mapping slots[SLOTS] = {0};
    bool right = true;
    for (int i = 0; i < CHANGES && right; i++) {
        struct mapping *m = &slots[soak_random(&seed) % SLOTS];
        if (!m->at) {
            right = create(m, &seed);
        } else if (soak_random(&seed) % 3 == 0) {
            right = check(m);
            munmap(m->at, m->pages * PAGE);
            m->at = NULL;
        } else {
            right = change(m, &seed) && check(m);
        }
    }
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].at) {
            right = right && check(&slots[i]);
            munmap(slots[i].at, slots[i].pages * PAGE);
        }
    return right;
}

// Protection: what may not be touched faults, at its address; what may does not.
static sigjmp_buf back;
static void *volatile fault_at;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    fault_at = info->si_addr;
    siglongjmp(back, 1);
}

static bool faults(volatile unsigned char *at, bool write)
{
    if (sigsetjmp(back, 1))
        return true;
    if (write)
        *at = 1;
    else
        (void)*at;
    return false;
}

bool soak_protection(uint64_t seed)
{
    static const int kinds[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    enum { PAGES = 16, TRIES = 2000 };
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &action, NULL);
    unsigned char *at =
        mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int now[PAGES];
    bool right = at != MAP_FAILED || soak_wrong("protection: mmap: %s", strerror(errno));
    for (int i = 0; i < PAGES; i++)
        now[i] = 2;
    for (int i = 0; i < TRIES && right; i++) {
        int page = (int)(soak_random(&seed) % PAGES);
        bool write = soak_random(&seed) % 2;
        if (soak_random(&seed) % 2) {
            now[page] = (int)(soak_random(&seed) % 3);
            mprotect(at + page * PAGE, PAGE, kinds[now[page]]);
        }
        unsigned char *byte = at + page * PAGE + soak_random(&seed) % PAGE;
        bool due = now[page] == 0 || (write && now[page] == 1);
        bool faulted = faults(byte, write);
        if (faulted != due || (faulted && fault_at != byte))
            right = soak_wrong("protection: %s of a page with %d: fault %d at %p, not at %p",
                               write ? "a write" : "a read", kinds[now[page]], faulted, fault_at,
                               (void *)byte);
    }
    if (at != MAP_FAILED)
        munmap(at, PAGES * PAGE);
    return right;
}

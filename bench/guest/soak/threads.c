#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

#include "soak.h"

enum { THREADS = 4, TURNS = 20000, PASSES = 500 };

// One counter behind a lock, one that is added to, one that is exchanged, and a baton that goes
// round.
struct counters {
    pthread_mutex_t lock;
    pthread_cond_t passed;
    unsigned locked;
    atomic_uint added;
    atomic_ullong exchanged;
    unsigned baton;
    unsigned number; // of the next thread that asks
};

static void *count(void *of)
{
    struct counters *c = of;
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&c->lock);
        c->locked++;
        pthread_mutex_unlock(&c->lock);
        atomic_fetch_add(&c->added, 3);
        unsigned long long old = atomic_load(&c->exchanged);
        while (!atomic_compare_exchange_weak(&c->exchanged, &old, old + 0x100000001ull))
            ;
    }
    pthread_mutex_lock(&c->lock);
    unsigned me = c->number++;
    for (int i = 0; i < PASSES; i++) {
        while (c->baton % THREADS != me)
            pthread_cond_wait(&c->passed, &c->lock);
        c->baton++;
        pthread_cond_broadcast(&c->passed);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

// How many threads ran to their end.
static int run_threads(void *(*body)(void *), void *of)
{
    pthread_t threads[THREADS];
    int born = 0, ended = 0;
    while (born < THREADS && pthread_create(&threads[born], NULL, body, of) == 0)
        born++;
    for (int i = 0; i < born; i++)
        ended += pthread_join(threads[i], NULL) == 0;
    return ended;
}

bool soak_counters(uint64_t seed)
{
    (void)seed;
    struct counters c = {.lock = PTHREAD_MUTEX_INITIALIZER, .passed = PTHREAD_COND_INITIALIZER};
    int ended = run_threads(count, &c);
    unsigned long long due = (unsigned long long)THREADS * TURNS;
    if (ended != THREADS)
        return soak_wrong("counters: %d of %d threads", ended, THREADS);
    if (c.locked != due || c.added != 3 * due || c.exchanged != due * 0x100000001ull ||
        c.baton != THREADS * PASSES)
        return soak_wrong("counters: %u %u %#llx %u", c.locked, c.added,
                          (unsigned long long)c.exchanged, c.baton);
    return true;
}

// Clocks that threads on all processors read in turn never go back.
struct clocks {
    pthread_mutex_t lock;
    long long last[2];
    long long worst;
};

static void *read_clocks(void *of)
{
    static const clockid_t ids[2] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    struct clocks *c = of;
    for (int i = 0; i < TURNS; i++) {
        pthread_mutex_lock(&c->lock);
        for (int k = 0; k < 2; k++) {
            struct timespec t;
            clock_gettime(ids[k], &t);
            long long ns = t.tv_sec * 1000000000ll + t.tv_nsec;
            if (c->last[k] - ns > c->worst)
                c->worst = c->last[k] - ns;
            c->last[k] = ns;
        }
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

bool soak_clock(uint64_t seed)
{
    (void)seed;
    struct clocks c = {.lock = PTHREAD_MUTEX_INITIALIZER};
    if (run_threads(read_clocks, &c) != THREADS)
        return soak_wrong("clock: a thread is missing");
    return c.worst == 0 || soak_wrong("clock: went back by %lld ns", c.worst);
}

/*
 * SplitMix64 (Steele, Lea, Flood, 2014): a seed gives the same cases everywhere.
 */
#ifndef DOPPEL_SILICON_RANDOM_H
#define DOPPEL_SILICON_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline unsigned rng_below(struct rng *r, unsigned n)
{
    return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

/* True once in n times. */
static inline bool rng_one_in(struct rng *r, unsigned n)
{
    return rng_below(r, n) == 0;
}

#define RNG_PICK(r, array) ((array)[rng_below((r), sizeof(array) / sizeof *(array))])

#endif

// The parts of the soak. A part is a function that does one round of its work, a second or so, and
// checks it: what is wrong is told by soak_wrong(), which returns false. Each part is a process of
// its own, beside all others; a round's seed says what it does differently from the last.
#ifndef SOAK_H
#define SOAK_H

#include <stdbool.h>
#include <stdint.h>

bool soak_wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

// A cheap generator, for what must differ and be known again.
static inline uint64_t soak_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// programs.c: Debian's programs, their output held against what the host knows.
bool soak_compile(uint64_t seed);
bool soak_compress(uint64_t seed);
// processes.c
bool soak_forks(uint64_t seed);
bool soak_pipes(uint64_t seed);
// signals.c
bool soak_signals(uint64_t seed);
bool soak_interrupted_floats(uint64_t seed);
// threads.c
bool soak_counters(uint64_t seed);
bool soak_clock(uint64_t seed);
// memory.c
bool soak_mappings(uint64_t seed);
bool soak_protection(uint64_t seed);
// code.c: machine code that is written, run, and written again.
bool soak_code(uint64_t seed);

#endif

/*
 * How a cage is stopped before instructions that it may not execute unseen (sensitive.h).
 *
 * The processor's breakpoints stop it before any place exactly, but there are four. In a page with
 * more such places, those that have been executed, so that they are known to be instructions and
 * neither a part of one nor data, are replaced by INT3 in a copy of the page that is shown instead;
 * RDTSC and RDTSCP are made to fault; the rest have the breakpoints. Who reads such a page as data
 * while it is shown finds the INT3.
 */
#ifndef DOPPEL_ENGINE_BINARY_GUARD_H
#define DOPPEL_ENGINE_BINARY_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/binary/cage.h"

struct binary_vcpu;
struct direct;

/* Where in RAM user code has executed CPUID and XGETBV: some of the places, by a hash. */
enum { EXECUTED_PLACES = 256 };
struct executed {
    _Atomic uint64_t place[EXECUTED_PLACES]; /* offset in RAM + 1, or 0 */
    atomic_uint noted;                       /* how many there ever were */
};

void executed_note(struct executed *e, uint64_t offset);
/* The page was written, or may be. */
void executed_forget_page(struct executed *e, uint64_t offset);

/* Of one cage. Pages by their addresses; 0: none. */
struct guards {
    unsigned next_breakpoint, next_page; /* to be used, whatever they are used for */
    uint64_t page[CAGE_PAGES];           /* that each of the cage's own is a copy of */
    uint64_t refused; /* that had too many places, when so many had been executed */
    unsigned noted;
    uint64_t loser, winner; /* of breakpoints, the last time that one took another's */
    unsigned waits;
};

enum { GUARD_FAILED = -2, GUARD_ITSELF = -1 };

/* Guards the page of code at va, which is at `offset` in RAM. Returns which of the cage's own pages
 * is to be shown for it, GUARD_ITSELF, or GUARD_FAILED: there are too many places. */
int guard_code(struct binary_vcpu *b, struct direct *d, uint64_t va, uint64_t offset);
/* Everything was taken out of the cage. False: it is of no more use. */
bool guard_nothing(struct direct *d);
/* Whether there is an INT3 at the address that may not be the guest's. */
bool guard_is_ours(const struct direct *d, uint64_t address);

#endif

/*
 * Two engines in lockstep, as one engine.
 *
 * The machine runs the `leader` and thinks that it is the only one. What the leader asks of the
 * machine (ports, MMIO, MSRs, time, the interrupts it takes) is recorded together with the count of
 * instructions at which it asked. Then the `follower`, with memory of its own, runs to the same
 * count: it must ask for the same at the same counts, gets the recorded answers, and must end in
 * the same state. So devices and input exist once, and every access to a device is compared.
 *
 * When the two differ, both go back to the last checkpoint and replay the record to ever closer
 * counts, until the one instruction is found.
 *
 * One vCPU, under --clock virtual. See docs/testing.md.
 */
#ifndef DOPPEL_ENGINE_LOCKSTEP_H
#define DOPPEL_ENGINE_LOCKSTEP_H

#include "engine/engine.h"

/* A bug put into the follower, to see that it is found: behind `at` instructions, the lowest bit of
 * a register, or of a byte of memory, is the other way. */
struct lockstep_plant {
    bool wanted;
    uint64_t at;
    const char *field; /* as x86_state_archive calls it; NULL: memory */
    unsigned index;    /* of an array, as gpr is one */
    uint64_t gpa;
};

/* What the two asked of the machine. */
enum lockstep_kind {
    LOCKSTEP_NOTHING,
    LOCKSTEP_PIO_READ,
    LOCKSTEP_PIO_WRITE,
    LOCKSTEP_MMIO_READ,
    LOCKSTEP_MMIO_WRITE,
    LOCKSTEP_MSR_READ,
    LOCKSTEP_MSR_WRITE,
    LOCKSTEP_CR8_READ,
    LOCKSTEP_CR8_WRITE,
    LOCKSTEP_TSC_READ,
    LOCKSTEP_RANDOM,
    LOCKSTEP_FPU_ERROR,
    LOCKSTEP_INTERRUPT, /* one was taken; value: its vector */
    LOCKSTEP_LEVEL,     /* no request, but what the one before it did to the interrupt line */
    LOCKSTEP_KINDS,
};

struct lockstep_access {
    uint64_t at;      /* instructions done before the one that asks */
    uint64_t address; /* port, guest-physical address, or MSR */
    uint64_t value;   /* read or written */
    uint8_t kind;     /* enum lockstep_kind */
    uint8_t size;
    bool ok; /* MSRs: whether there is such a one */
};

enum { LOCKSTEP_CODE = 256, LOCKSTEP_HOST_CODE = 4096, LOCKSTEP_BYTES = 16 };

/* What was found. Index 0 is the leader's, 1 the follower's. */
struct lockstep_difference {
    bool found;
    bool exact; /* it is one instruction's doing: to is from + 1, and doing it again did it again */
    bool again; /* not so, but from `from` to `to`, in one go, it comes again: it is a block's doing
                 */
    uint64_t from, to; /* counts of instructions: alike at the first, not at the second */

    struct x86_state before;     /* at from */
    unsigned code_width;         /* enum x86_code of what follows */
    uint8_t code[LOCKSTEP_CODE]; /* what lies at before.rip */
    unsigned code_size;
    uint8_t host[LOCKSTEP_HOST_CODE]; /* what the leader made of it, where it translates, */
    uint64_t host_at;                 /* and its address */
    unsigned host_size;

    uint64_t count[2]; /* how far each went */
    enum engine_exit exit[2];
    struct x86_state after[2];
    /* The request that only one of them made, or that they made differently. */
    bool accesses_differ;
    struct lockstep_access access[2];
    /* The first bytes of memory that differ, and how many bytes do. */
    uint64_t memory_differs;
    uint64_t gpa;
    unsigned byte_count;
    uint8_t bytes[2][LOCKSTEP_BYTES];
};

/* Filled by the caller up to the ruled line, and handed to the machine as &lockstep.engine. Must
 * outlive it. */
struct lockstep {
    struct engine engine; /* by lockstep_init() */
    const struct engine *leader, *follower;
    uint64_t step;       /* instructions between two looks at the states, or LOCKSTEP_BLOCK */
    uint64_t checkpoint; /* instructions between two looks at all of memory */
    struct lockstep_plant plant;
    /* Called now and then on the vCPU's thread. May be NULL. */
    void (*progress)(void *ctx, uint64_t instructions);
    void *ctx;
    /* ---- */
    struct engine_vm *vm;          /* while the machine is there */
    _Atomic uint64_t instructions; /* compared so far */
    uint64_t looks, checkpoints;   /* how often states and all of memory were compared */
    uint64_t accesses, interrupts; /* compared */
    uint64_t pages;                /* of memory that were compared as just written */
    struct lockstep_difference difference;
};

/* A look behind each block of the leader's: as it runs when nobody looks on. It needs run_block().
 */
enum { LOCKSTEP_BLOCK = 0 };
enum { LOCKSTEP_STEP = 100, LOCKSTEP_CHECKPOINT = 20000000 };

void lockstep_init(struct lockstep *l, const struct engine *leader, const struct engine *follower);

/* Compares what was not compared yet; after the run, before the machine is destroyed. True: no
 * difference was found in all of the run. */
bool lockstep_finish(struct lockstep *l);

/* ---- what the states are compared by (compare.c) ---- */

struct archive_field;

/* Calls each(ctx, field, index, a, b) for each field of the state, and element of an array, that
 * differs; the values are at a and b, field->size bytes each. Returns how many do. */
unsigned lockstep_compare(const struct lockstep *l, const struct x86_state *a,
                          const struct x86_state *b,
                          void (*each)(void *ctx, const struct archive_field *f, unsigned index,
                                       const void *a, const void *b),
                          void *ctx);

/* A field of the state that is not compared, or in part, with that engine, and why. */
struct lockstep_mask {
    const char *engine;
    const char *field;
    uint64_t ignored; /* bits */
    const char *why;
};
/* The row of that index, or NULL behind the last. */
const struct lockstep_mask *lockstep_mask_at(unsigned index);
/* Whether it concerns these two engines. */
bool lockstep_masked(const struct lockstep *l, const struct lockstep_mask *m);

#endif

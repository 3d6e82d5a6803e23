/*
 * What the files of lockstep/ share.
 */
#ifndef DOPPEL_ENGINE_LOCKSTEP_INTERNAL_H
#define DOPPEL_ENGINE_LOCKSTEP_INTERNAL_H

#include "engine/lockstep/lockstep.h"
#include "memory/memory.h"

/* What the machine did to the vCPU between two runs. */
struct input {
    uint64_t at;
    bool nmi;   /* an NMI; else the interrupt line */
    bool level; /* of the line */
};

/* Everything that came from outside since the last checkpoint, in order. */
struct tape {
    struct lockstep_access *access;
    size_t count, capacity;
    struct input *input;
    size_t inputs, input_capacity;
    bool failed; /* no memory for it */
};

/* Pages that either engine has written (watch.c), the latest behind: so many stay for the next
 * look, and so many there can be at a look. */
enum { WATCH_MOST = 1024, WATCH_KEPT = 8 };

struct watch {
    bool lost; /* there were more */
    unsigned count;
    uint64_t gpa[WATCH_MOST];
};

/* One of the two engines with its vCPU. */
struct side {
    struct engine_vcpu *owner; /* the lockstep's own vCPU */
    const struct engine *engine;
    struct engine_vm *vm;
    struct engine_vcpu *vcpu;
    struct memory *memory;
    /* What the engine had counted at the lockstep's count 0: counts here are the lockstep's, which
     * go back with a replay. */
    uint64_t origin;
    uint64_t limit;     /* of the run that is going on */
    bool level;         /* of the interrupt line */
    bool replays;       /* it gets recorded answers */
    bool by_block;      /* and goes on in blocks, as it did when that was recorded */
    bool running;       /* inside its run() */
    bool acknowledging; /* inside its interrupt_acknowledge() */
    size_t next, input; /* of the record: what it has not come to yet */
    bool differs;       /* it asked for something else: */
    struct lockstep_access wrong;
};

struct engine_vm {
    struct lockstep *lockstep;
    struct memory *memory;      /* the machine's, and the leader's */
    struct memory second, base; /* the follower's; and what both were at the last checkpoint */
    struct engine_vm *sides[2];
    const struct x86_model *model;
    struct engine_vcpu *vcpu;
};

enum { SHAPE_WORDS = sizeof(struct x86_state) / 8 };
_Static_assert(sizeof(struct x86_state) % 8 == 0, "a state is compared in words");

struct shape {
    uint64_t care[SHAPE_WORDS];
};

struct engine_vcpu {
    struct lockstep *lockstep;
    struct engine_vm *vm;
    struct x86_host host; /* the machine's */
    struct side side[2];  /* the leader, the follower */
    struct tape tape;
    struct watch watch;
    struct shape shape;
    struct x86_state base; /* at the last checkpoint, */
    uint64_t base_at;
    bool base_level;
    struct x86_state equal; /* at the last look */
    uint64_t equal_at;
    bool begun;      /* memory and states were made the same */
    bool recording;  /* the leader runs for the machine */
    bool raise, nmi; /* what the machine wants at the next boundary */
    atomic_bool stop;
    uint64_t reported;
};

/* ---- tape.c ---- */

/* The functions that a side's engine finds round it; ctx is the side. */
extern const struct x86_host lockstep_host;

/* The machine sets the interrupt line, or sends an NMI. */
void lockstep_interrupt(struct engine_vcpu *v, bool level);
void lockstep_nmi(struct engine_vcpu *v);
/* At a boundary, before the leader runs: what waits goes on record. */
void tape_inputs(struct engine_vcpu *v);
void tape_clear(struct tape *r);
void tape_free(struct tape *r);
/* Whether the side has asked for everything that the leader asked for before it was at count at.
 * If not, it differs. */
bool tape_complete(struct side *s, uint64_t at);

/* ---- side.c ---- */

uint64_t side_count(const struct side *s);
/* Runs the leader up to `to` at most, for the machine; comes back where nothing of the next
 * instruction is done, not even a fault of its delivered. */
enum engine_exit side_lead(struct engine_vcpu *v, uint64_t to);
/* Runs a side through the record to exactly the count `to`, if it goes there. */
enum engine_exit side_replay(struct side *s, uint64_t to);
/* Puts a side back to the last checkpoint, to replay from there. */
void side_rewind(struct side *s);
void side_state(struct side *s, struct x86_state *state);

/* ---- compare.c ---- */

/* Which bits of a state are looked at: not what lies between fields, nor what is masked. */
void shape_init(struct shape *shape, const struct lockstep *l);
bool states_equal(const struct shape *shape, const struct x86_state *a, const struct x86_state *b);

/* ---- watch.c ---- */

/* From here on the engines tell what they write, if they can. */
void watch_begin(struct engine_vcpu *v);
void watch_end(struct side *s);
/* Whether all that either side is known to have written since the last look is alike. */
bool watched_equal(struct engine_vcpu *v);

/* ---- pages.c ---- */

/* The first byte that differs between two memories of the same size; *bytes gets how many differ in
 * all. False: none. */
bool pages_compare(const struct memory *a, const struct memory *b, uint64_t *gpa, uint64_t *bytes);
/* Whether they are alike; faster. */
bool pages_equal(const struct memory *a, const struct memory *b);
/* Makes `to` what `from` is, writing where they differ alone. */
void pages_copy(struct memory *to, const struct memory *from);

/* ---- narrow.c ---- */

/* The two differ, at the latest where the leader is now (one further if it shut down): finds out
 * where first, and fills in lockstep.difference. */
void narrow(struct engine_vcpu *v, const enum engine_exit exit[2]);

#endif

/*
 * What the files of this engine share.
 */
#ifndef DOPPEL_ENGINE_EMULATE_H
#define DOPPEL_ENGINE_EMULATE_H

#include <pthread.h>

#include "base/gate.h"
#include "engine/emulate/cache.h"
#include "engine/engine.h"
#include "memory/memory.h"
#include "x86/cpu.h"
#include "x86/sem/block.h"

enum { EMULATE_VCPUS = 16 };

/* What an engine that falls back to this one wants to know. Called in an exclusive section, or with
 * one vCPU. */
struct emulate_hooks {
    /* The page at gpa holds code from now on: no vCPU writes to it without a look. */
    void (*watch)(struct engine_vm *vm, uint64_t gpa);
    /* [gpa, gpa + len), in one page, is about to be written: drop what was made of it. Returns
     * whether something made of that page is left. */
    bool (*drop)(struct engine_vm *vm, uint64_t gpa, uint64_t len);
    /* Whether all that was made of the page at gpa is to be dropped, because it keeps being
     * written.
     */
    bool (*give_up)(struct engine_vm *vm, uint64_t gpa);
};

struct engine_vcpu {
    struct x86_cpu cpu;
    struct engine_vm *vm;
    struct block_cache cache;
    struct jump_entry jump[JUMP_SIZE];
    uint64_t generation; /* of everything the jump cache depends on */
    /* Room for the block of one instruction that is not kept: single steps, instructions across two
     * pages. */
    _Alignas(struct block) uint8_t scratch[sizeof(struct block) + 2 * sizeof(struct op)];
    uint64_t from_rip;   /* where the block that is being left began */
    bool step_once;      /* the next instruction runs alone, whatever its page holds */
    _Atomic bool inside; /* the thread is inside the gate */
    pthread_t thread;    /* while inside */
    uint64_t pauses_seen;
    uint64_t interrupts, exceptions, halts, pio, mmio;
    void *attached;                  /* what another engine keeps with this vCPU */
    struct emulate_stretch *stretch; /* that runs (stretch.h), or NULL */
    uint64_t stretch_from;           /* c->insns at its begin */
};

struct engine_vm {
    struct gate gate;
    struct memory *memory;
    const struct x86_model *model;
    unsigned vcpus;
    unsigned created;
    struct engine_vcpu *vcpu[EMULATE_VCPUS];
    struct x86_cpu *cpus[EMULATE_VCPUS];
    const struct emulate_hooks *hooks; /* or NULL */
    void *attached;
};

static inline struct block *emulate_scratch(struct engine_vcpu *v)
{
    return (struct block *)v->scratch;
}

/* run.c */
enum engine_exit emulate_run(struct engine_vcpu *v, uint64_t insns_limit);
/* The same by a caller who is inside the gate already. */
enum engine_exit emulate_run_inside(struct engine_vcpu *v, uint64_t insns_limit);
/* The same for one instruction at RIP that emulate_single() made, in a mode where nothing has to be
 * looked at before or after it. Requests are not attended to. */
void emulate_run_single(struct engine_vcpu *v, struct block *b);
void emulate_enter_gate(struct engine_vcpu *v);
void emulate_leave_gate(struct engine_vcpu *v);

/* stretch.c: whether the stretch that runs is to end before the next instruction. */
bool emulate_stretch_ends(const struct engine_vcpu *v);

/* How run()'s loop is come back to from inside an instruction. */
enum { JUMP_FAULT = 1, JUMP_RESTART = 2 };

/* build.c: the block at the current RIP, of `most` instructions at most, from the cache or decoded
 * now; NULL when it can't be cached (the first instruction crosses into another page, or is not in
 * RAM). Fetch faults are raised. */
struct block *emulate_find_block(struct engine_vcpu *v, uint64_t most);
/* The instruction at the current RIP as a block of its own, not cached. */
struct block *emulate_scratch_block(struct engine_vcpu *v);

struct x86_insn;
/* The instruction in bytes[0 .. n) as such a block; b has room for two operations. False: it goes
 * on behind them. */
bool emulate_single(struct engine_vcpu *v, const uint8_t *bytes, unsigned n, struct x86_insn *insn,
                    struct block *b);

/* What x86_cpu.jump_key is until the run loop has looked at the mode again: no entry of the jump
 * cache has it (keys are odd, and 0 where there is no entry), and none may be made. */
enum { NO_JUMP_KEY = 2 };

/* emulate.c: a vCPU in memory that the caller has and zeroed (aligned to 64 bytes), and its end. */
bool emulate_vcpu_init(struct engine_vcpu *v, struct engine_vm *vm, unsigned index,
                       const struct x86_host *host, struct error *err);
void emulate_vcpu_fini(struct engine_vcpu *v);
/* Nothing that the jump cache holds is right any more. */
void emulate_forget_jumps(struct engine_vcpu *v);
/* Drops the blocks that [gpa, gpa + len) touches, on every vCPU. In an exclusive section, or with
 * one vCPU. */
void emulate_drop_code(struct engine_vm *vm, uint64_t gpa, uint64_t len);
/* Notes that the page holds decoded code now: stores to it are told from here on. */
void emulate_watch_code(struct engine_vcpu *v, uint64_t gpa);

#endif

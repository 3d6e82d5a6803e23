/*
 * What the parts of the run loop have of each other: run.c goes round, find.c finds code, single.c
 * executes an instruction in C, fault.c does what a host fault asks for.
 */
#ifndef DOPPEL_ENGINE_BINARY_LOOP_H
#define DOPPEL_ENGINE_BINARY_LOOP_H

#include "engine/binary/binary.h"
#include "x86/insn.h"
#include "x86/paging.h"

static inline bool is_user(const struct x86_cpu *c)
{
    return c->cpl == 3;
}

static inline enum x86_privilege privilege(const struct binary_vcpu *b)
{
    return x86_privilege(&b->v->cpu);
}

static inline enum view current_view(const struct x86_cpu *c)
{
    if (is_user(c))
        return VIEW_USER;
    return c->s.rflags & FLAG_AC ? VIEW_AC : VIEW_SUPERVISOR;
}

/* run.c: where the guest goes on is to be looked up. */
void binary_forget_place(struct binary_vcpu *b);

/* The address of the page that block n is in, where it was run last. */
static inline uint64_t binary_page(const struct binary_vcpu *b, uint32_t n)
{
    const struct translation *t = &b->vm->code.block[n];
    return t->key & KEY_BOUND ? t->va : b->context->base;
}

/* run.c: the requests that the guest's code is to be stopped for now. */
uint32_t binary_attended(const struct x86_cpu *c);

/* show.c: the page at `offset` in RAM. */
const uint8_t *binary_ram_at(const struct binary_vcpu *b, uint64_t offset);

/* direct.c: to be called now and then while user code runs: whether it is to run in a cage. */
void binary_direct_consider(struct binary_vcpu *b);
/* Before anyone else looks at the state, or the thread does anything else. */
void binary_direct_leave(struct binary_vcpu *b);
/* Whether the present address space's user code runs in its cage. */
bool binary_is_direct(struct binary_vcpu *b);
/* Whether it may begin to: nothing has shown that it would not pay. */
bool binary_may_go_direct(struct binary_vcpu *b);
/* Whether what is at RIP may run in its cage; runs it there. */
bool binary_direct_fits(struct binary_vcpu *b);
/* False: it has not run, and can't now. */
bool binary_direct_run(struct binary_vcpu *b, enum engine_exit *exit);

/* bind.c: to be called before anything is looked up in the mode and address space. */
void binary_settle(struct binary_vcpu *b);
/* The key of blocks for code at RIP, where `w` leads: with a tag, if it is to be bound. */
uint32_t binary_bind(struct binary_vcpu *b, uint32_t key, const struct x86_walk *w);
/* The key of those that there may be, with nothing changed. */
uint32_t binary_bound_key(struct binary_vcpu *b, uint32_t key);
/* The mapping has changed, after what is known by spaces has been forgotten. */
void binary_bound_switched(struct binary_vcpu *b, bool keep);
void binary_bound_flushed(struct binary_vcpu *b);
void binary_bound_flushed_page(struct binary_vcpu *b, uint64_t lin);

/* find.c: whether translated code can run in the present mode, and the key of blocks that are made
 * for it. */
bool binary_mode_allows(const struct engine_vcpu *v);
uint32_t binary_mode_key(const struct binary_vcpu *b);
/* Where to go on at RIP: the host code, or NULL when that instruction is for C. */
void *binary_find_code(struct binary_vcpu *b);
/* Another vCPU may have recycled the code while this one stood still. */
void binary_notice_recycling(struct binary_vcpu *b);
/* Begins an exclusive section, if there are other vCPUs: then gate_open() ends it. */
bool binary_close_gate(struct binary_vcpu *b);

/* single.c: executes the instruction at RIP in C, whatever it is. */
enum engine_exit binary_emulate_one(struct binary_vcpu *b);
/* The same where translated code was left, in block n or NO_BLOCK, and straight on behind it where
 * that is right. */
enum engine_exit binary_emulate_at(struct binary_vcpu *b, uintptr_t site, uint32_t n);
/* Names that place: its host code, and whether it was left by a fault. */
uintptr_t binary_site(const void *at, bool fault);
/* The instruction at gpa in guest memory. False: it can't be told. */
bool binary_decode_at(struct binary_vcpu *b, uint64_t gpa, struct x86_insn *insn);

/* fault.c: an indirect branch led to RIP, which the jump cache does not know. */
enum engine_exit binary_after_indirect(struct binary_vcpu *b);
/* After a fault on the host: fills a table, or executes the instruction. */
enum engine_exit binary_after_fault(struct binary_vcpu *b);
/* The guest is back at an instruction that raised a page fault: its page is filled before it faults
 * again. */
void binary_retry(struct binary_vcpu *b);
/* Enters the page of an access that the guest's code makes, at its present privilege, into the
 * table of the view in use. False: it is not one for a table. */
bool binary_fill(struct binary_vcpu *b, uint64_t lin, bool write);
/* Enters a page of RAM into the supervisor's table. */
bool binary_fill_supervisor(struct binary_vcpu *b, uint64_t lin, const struct x86_walk *w);

#endif

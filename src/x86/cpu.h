/*
 * The software processor: the architectural state plus what makes it quick to run in C.
 *
 * The instruction semantics (x86/sem) and the rest of x86/ work on a `struct x86_cpu`; the engines
 * that run guest code in software embed one per vCPU, the others keep one to fall back on. Only the
 * vCPU's own thread touches it, except `request` (any thread, atomically), and the whole inside an
 * exclusive section (base/gate.h).
 *
 * While it runs: RFLAGS' six status flags live in cc (flags.h), s.rip is right at block ends
 * only (x86_rip() is right always).
 */
#ifndef DOPPEL_X86_CPU_H
#define DOPPEL_X86_CPU_H

#include <setjmp.h>
#include <stdatomic.h>

#include "base/bits.h"
#include "x86/host.h"
#include "x86/large_pages.h"
#include "x86/state.h"

struct block;
struct jump_entry;
struct gate;
struct memory;
struct op;
struct x86_cpu;
struct x86_model;

/* Exception vectors (SDM 3, table 6-1). */
enum {
    X86_DE = 0,
    X86_DB = 1,
    X86_NMI = 2,
    X86_BP = 3,
    X86_OF = 4,
    X86_BR = 5,
    X86_UD = 6,
    X86_NM = 7,
    X86_DF = 8,
    X86_TS = 10,
    X86_NP = 11,
    X86_SS_FAULT = 12,
    X86_GP = 13,
    X86_PF = 14,
    X86_MF = 16,
    X86_AC = 17,
    X86_MC = 18,
    X86_XM = 19,
};

/* Lazy status flags: see flags.h for what the two words mean. */
struct x86_cc {
    int64_t result;
    uint64_t aux;
};

/* One entry of the software TLB. A tag is the linear address of the page, or TLB_NONE; an access to
 * linear address a is at host address `addend + a`. A page is only entered for what needs no
 * further look: `write` only with the dirty bit set and no code or dirty tracking on it, and
 * neither for MMIO or a page under a data breakpoint. */
struct tlb_entry {
    uint64_t read;
    uint64_t write;
    uintptr_t addend;
    uint64_t gpa; /* the page's guest-physical address */
};

enum { TLB_BITS = 9, TLB_SIZE = 1 << TLB_BITS };
#define TLB_NONE UINT64_C(1)

/* Which accesses a TLB serves. NEVER has no entry ever: it sends each access the slow way
 * (alignment checks on, CR0.AM). */
enum tlb_view { TLB_SUPERVISOR, TLB_SUPERVISOR_AC, TLB_USER, TLB_NEVER, TLB_VIEWS };

struct tlb {
    struct tlb_entry entry[TLB_SIZE];
    uint16_t journal[TLB_SIZE]; /* indices filled since the last flush; `filled` > TLB_SIZE: all */
    unsigned filled;
};

/* What instruction fetches translated to lately; apart from the views because fetches neither come
 * through a segment nor mind AC. A tag is the page's linear address, bit 0 set for CPL 3, or
 * FETCH_NONE. */
enum { FETCH_TLB_SIZE = 64 };
#define FETCH_NONE UINT64_C(2)
struct fetch_tlb {
    struct {
        uint64_t tag, gpa;
    } entry[FETCH_TLB_SIZE];
    bool filled; /* anything in it since the last flush */
};

/* Bits of x86_cpu.request. Any thread sets them; the vCPU looks at each block's start. */
enum {
    X86_REQUEST_INTR = 1u << 0, /* the local APIC or the 8259 offers an interrupt (level) */
    X86_REQUEST_NMI = 1u << 1,
    X86_REQUEST_STOP = 1u << 2, /* leave run(); the machine wants something */
    X86_REQUEST_GATE = 1u << 3, /* someone waits for an exclusive section */
    X86_REQUEST_STEP = 1u << 4, /* own: the next instruction needs a look (shadow, TF, debug) */
};

/* How code is decoded. */
enum x86_code { X86_CODE16, X86_CODE32, X86_CODE64 };

struct x86_cpu {
    struct x86_state s;

    /* ---- what every instruction touches ---- */
    struct x86_cc cc;
    const struct op *op;  /* the operation that runs; what faults refer to */
    struct block *block;  /* the block it is in */
    struct tlb *tlb;      /* the view that CPL, AC and AM ask for now */
    uint64_t insns;       /* instructions executed, the running block's counted whole */
    uint64_t insns_limit; /* run() returns before it exceeds this */
    _Atomic uint32_t request;
    struct jump_entry *jump; /* from RIP to block (sem/block.h) */
    uint64_t jump_key; /* CPL, code width and generation of mappings that an entry must match */
    struct block *link_from; /* the block whose link_slot the engine may fill in next, or NULL */
    unsigned link_slot;

    /* ---- derived from the state by x86_update_mode() ---- */
    uint8_t cpl;
    uint8_t code;             /* enum x86_code */
    bool flat[X86_SEG_COUNT]; /* 16- and 32-bit code: base 0, limit 4 GiB, read and write allowed */
    bool long_mode;           /* EFER.LMA */
    bool stack32;             /* SS.B (16- and 32-bit code) */
    bool no_x87;              /* CR0.EM or CR0.TS: x87 and MMX raise #NM (#UD for MMX under EM) */
    bool no_sse;              /* CR0.EM, not CR4.OSFXSR or CR0.TS: look closer */
    bool no_avx;              /* not CR4.OSXSAVE, XCR0 without AVX, or CR0.TS: look closer */
    bool no_avx512;           /* the same for AVX-512's components */
    bool paging;
    bool debug_data; /* DR7 enables a data breakpoint: run one instruction a block, so that its
                        trap comes right behind the access */

    /* Data (and I/O) breakpoints that the running instruction hit, as bits 0 to 3 of DR6; with
     * X86_REQUEST_STEP set. The engine's look between instructions takes them, raises the #DB
     * trap and clears them; a fault clears them too. */
    uint32_t debug_hits;

    /* ---- faults ---- */
    jmp_buf fault_jump; /* where x86_raise() goes: the engine's run loop */
    struct {
        uint8_t vector;
        bool has_error;
        uint32_t error;
    } fault;
    /* The running instruction has switched tasks: a fault that it still raises is the new task's,
     * whose first instruction s.rip is at. */
    bool task_switched;

    /* ---- surroundings ---- */
    unsigned index; /* which vCPU of the machine */
    struct x86_host host;
    struct memory *memory;
    const struct x86_model *model;
    struct gate *gate;            /* exclusive sections among the machine's vCPUs */
    struct x86_cpu *const *peers; /* all of them, for exclusive sections */
    unsigned peer_count;
    void *engine; /* the engine's own per-vCPU data */

    /* The engine's hooks. code_write: a guest store of len bytes is about to hit a page that holds
     * decoded code. It drops what is decoded from those bytes on every vCPU, and does not return if
     * the block that is running is among it: the instruction is then begun again. It may be called
     * with the gate closed by this vCPU (lock_closed_gate); who jumps away then opens it, with
     * x86_lock_end(). mappings_changed: linear addresses may mean other pages now. */
    void (*code_write)(struct x86_cpu *c, uint64_t gpa, unsigned len);
    void (*mappings_changed)(struct x86_cpu *c);
    /* Or NULL. The TLB dropped all it knows, or what it knows of the page of 2^bits bytes at lin
     * (PAGE_4K_BITS, PAGE_2M_BITS or PAGE_4M_BITS); CR3 was written. */
    void (*tlb_flushed)(struct x86_cpu *c);
    void (*tlb_switched)(struct x86_cpu *c, bool keep); /* see x86_tlb_switch() */
    void (*tlb_flushed_page)(struct x86_cpu *c, uint64_t lin, unsigned bits);
    /* Or NULL. Executes the instruction at x86_rip(), which has no semantics here but which the
     * model has (x86/native.h): an operation as in sem/op.h. */
    const struct op *(*native)(struct x86_cpu *c, const struct op *op);
    /* Or NULL. Code is about to run that may use the host's vector and x87 registers. */
    void (*outside)(struct x86_cpu *c);

    /* This vCPU has closed the gate for an access; x86_lock_end() opens it. */
    bool lock_closed_gate;

    uint64_t pauses;     /* PAUSE executed: the engine's ENGINE_PAUSED looks at it */
    uint64_t tlb_misses; /* for --stats */
    uint64_t tlb_flushes;

    struct fetch_tlb fetch;
    struct tlb view[TLB_VIEWS];
    struct large_pages large; /* that walks came to: for INVLPG */
};

/* ---- faults (exception.c) ---- */

/* Ends the running instruction with a fault: the state is as before the instruction, and the engine
 * delivers the exception. Does not return. A semantic function calls it before it changes anything.
 */
_Noreturn void x86_raise(struct x86_cpu *c, unsigned vector);
_Noreturn void x86_raise_error(struct x86_cpu *c, unsigned vector, uint32_t error);
static inline _Noreturn void x86_raise_gp0(struct x86_cpu *c)
{
    x86_raise_error(c, X86_GP, 0);
}

/* ---- mode (mode.c) ---- */

/* To be called after any change to CPL, CS, SS and the data segments, CR0, CR4, XCR0, EFER,
 * RFLAGS.AC or VM, DR7. */
void x86_update_mode(struct x86_cpu *c);

/* The little of it that a change to RFLAGS.AC alone asks for. */
void x86_update_view(struct x86_cpu *c);

static inline bool x86_protected(const struct x86_cpu *c)
{
    return (c->s.cr0 & CR0_PE) && !(c->s.rflags & FLAG_VM);
}

static inline bool x86_v86(const struct x86_cpu *c)
{
    return c->s.rflags & FLAG_VM;
}

static inline unsigned x86_iopl(const struct x86_cpu *c)
{
    return (c->s.rflags & FLAG_IOPL) >> 12;
}

/* Linear addresses that 4-level paging can hold. */
static inline bool x86_canonical(uint64_t lin)
{
    return bits_sign_extend(lin, 48) == (int64_t)lin;
}

#endif

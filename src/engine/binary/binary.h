/*
 * What the files of this engine share.
 *
 * The vCPU itself, its state and whatever runs an instruction in C, is that of the engine
 * `emulate` (engine/emulate/emulate.h), which this one falls back to for each instruction that it
 * does not run as it is. Here is what comes on top: the context that translated code works with.
 */
#ifndef DOPPEL_ENGINE_BINARY_BINARY_H
#define DOPPEL_ENGINE_BINARY_BINARY_H

#include <signal.h>

#include "engine/binary/cage.h"
#include "engine/binary/code.h"
#include "engine/binary/direct.h"
#include "engine/binary/layout.h"
#include "engine/binary/perf_map.h"
#include "engine/binary/space.h"
#include "engine/emulate/emulate.h"
#include "x86/xsave.h"

/* What an IRET to these selectors, with these descriptors at these addresses, loads (iret.c). */
struct iret_known {
    uint64_t cs, ss, cs_lin, ss_lin, cs_raw, ss_raw;
    uint64_t blocked; /* not now */
    uint64_t cpl;
    uint64_t cs_rest, ss_rest; /* the registers' limits and attributes; bases are 0 */
    uint64_t *table;           /* of the view */
    uint64_t unused[5];
};
_Static_assert(sizeof(struct iret_known) == 128, "translated code finds them by that");
enum { IRET_USER = 2, IRET_KNOWN = 4 }; /* from IRET_USER on they lead to CPL 3 */

/* At the start of the area below every table: what translated code and enter.S reach through GS. */
struct context {
    struct context *self;
    uint64_t host_rsp;
    void *code;      /* where to go on entry */
    uint64_t base;   /* the guest-virtual page that the running block is in */
    uint64_t rcx;    /* guest RCX while JRCXZ looks at something else */
    uint64_t flags;  /* the host's flags on leaving and on entry */
    uint32_t reason; /* LEAVE_* */
    uint32_t link; /* under LEAVE_LINK; the block under LEAVE_STALE, LEAVE_INDIRECT, in call-outs */
    uint32_t attend; /* the requests that are to be looked at now */
    uint64_t *table; /* of the view that is in use */
    _Atomic uint32_t *request;
    uint64_t offset_mask; /* 0xfff, for PEXT */
    uint64_t components;  /* of XSAVE, that are the guest's while its code runs */
    uint64_t *table_supervisor, *table_ac;
    int64_t left; /* instructions until the limit */
    uint64_t ac;  /* RFLAGS.AC of a supervisor, in its place */
    void (*leave)(void);
    void *resume; /* under LEAVE_EMULATE: the host code behind the instruction, or NULL */
    uint64_t interrupt_flag; /* RFLAGS.IF, in its place */
    uint64_t status_mask;    /* masks for PEXT and PDEP: RFLAGS' status flags and DF */
    uint64_t mask_63, mask_not_63, mask_31, mask_not_31, mask_sign, mask_upper;
    uint64_t *table_user;
    uint64_t no_syscall, no_sysret;           /* 0: translated code may do it itself (syscall.c) */
    uint16_t selectors[4];                    /* CS and SS of SYSCALL, of SYSRET */
    uint64_t mask_sysret, mask_rare, mask_if; /* of RFLAGS, see syscall.c */
    uint64_t tsc_mult, tsc_offset;            /* from the host's counter to the guest's (tsc.c) */
    uint64_t no_tsc, no_tsc_user;             /* 0: translated code may do so */
    /* Of a string instruction: elements behind those that are being done, addends; and masks that
     * make a number of bytes one of elements of 1, 2, 4 and 8 bytes. */
    uint64_t string_rest, string_si, string_di, mask_string[4];
    uint64_t no_fsgsbase;       /* 0: the guest may use RDFSBASE and its like */
    uint64_t copied, rewritten; /* instructions run, where that is measured */
    uint64_t no_iret;           /* 0: translated code may do it */
    uint64_t retry_rip;         /* of struct binary_vcpu */
    uint64_t mask_iret, mask_iret_rare, mask_1, mask_8;
    uint64_t iret_index, iret_frame[5], iret_raw[2]; /* of the one that is being done */
    uint64_t gdt_base, gdt_limit;                    /* that the descriptors were found in */
    uint64_t mask_jump;                              /* of an index of the jump cache */
    void (*call_out)(void);
    uint32_t call, seen; /* of a call-out: what it is for; requests that wait (call_out.c) */
    uint64_t syscalls;   /* done by translated code */
    uint64_t fpu_away;   /* 1: the vector registers are in a cage */
    _Alignas(128) struct iret_known iret[IRET_KNOWN];
    _Alignas(64) uint8_t fpu[CONTEXT_SIZE - CTX_FPU];
};

#define AT(member, offset) _Static_assert(offsetof(struct context, member) == (offset), #member)
AT(self, CTX_SELF);
AT(host_rsp, CTX_HOST_RSP);
AT(code, CTX_CODE);
AT(base, CTX_BASE);
AT(rcx, CTX_RCX);
AT(flags, CTX_FLAGS);
AT(reason, CTX_REASON);
AT(link, CTX_LINK);
AT(attend, CTX_ATTEND);
AT(table, CTX_TABLE);
AT(request, CTX_REQUEST);
AT(offset_mask, CTX_OFFSET_MASK);
AT(components, CTX_COMPONENTS);
AT(table_supervisor, CTX_TABLE_S);
AT(table_ac, CTX_TABLE_K);
AT(left, CTX_LEFT);
AT(ac, CTX_AC);
AT(leave, CTX_LEAVE);
AT(resume, CTX_RESUME);
AT(interrupt_flag, CTX_IF);
AT(status_mask, CTX_STATUS_MASK);
AT(mask_63, CTX_MASK_63);
AT(mask_not_63, CTX_MASK_NOT_63);
AT(mask_31, CTX_MASK_31);
AT(mask_not_31, CTX_MASK_NOT_31);
AT(mask_sign, CTX_MASK_SIGN);
AT(mask_upper, CTX_MASK_UPPER);
AT(table_user, CTX_TABLE_U);
AT(no_syscall, CTX_NO_SYSCALL);
AT(no_sysret, CTX_NO_SYSRET);
AT(selectors, CTX_SELECTORS);
AT(mask_sysret, CTX_MASK_SYSRET);
AT(mask_rare, CTX_MASK_RARE);
AT(mask_if, CTX_MASK_IF);
AT(tsc_mult, CTX_TSC_MULT);
AT(tsc_offset, CTX_TSC_OFFSET);
AT(no_tsc, CTX_NO_TSC);
AT(no_tsc_user, CTX_NO_TSC_USER);
AT(string_rest, CTX_STRING_REST);
AT(string_si, CTX_STRING_SI);
AT(string_di, CTX_STRING_DI);
AT(mask_string, CTX_MASK_STRING);
AT(no_fsgsbase, CTX_NO_FSGSBASE);
AT(copied, CTX_COPIED);
AT(rewritten, CTX_REWRITTEN);
AT(no_iret, CTX_NO_IRET);
AT(retry_rip, CTX_RETRY_RIP);
AT(mask_iret, CTX_MASK_IRET);
AT(mask_iret_rare, CTX_MASK_RARER);
AT(mask_1, CTX_MASK_1);
AT(mask_8, CTX_MASK_8);
AT(iret_index, CTX_IRET_INDEX);
AT(iret_frame, CTX_IRET_FRAME);
AT(iret_raw, CTX_IRET_RAW);
AT(mask_jump, CTX_MASK_JUMP);
AT(call_out, CTX_CALL_OUT);
AT(call, CTX_CALL);
AT(seen, CTX_SEEN);
AT(syscalls, CTX_SYSCALLS);
AT(fpu_away, CTX_FPU_AWAY);
AT(iret, CTX_IRET);
AT(fpu, CTX_FPU);
#undef AT
_Static_assert(sizeof(struct context) == CONTEXT_SIZE, "the vCPU comes behind it");
_Static_assert(sizeof(struct engine_vcpu) <= AREA_SIZE - CONTEXT_SIZE, "the area holds the vCPU");
_Static_assert(offsetof(struct engine_vcpu, cpu.s.gpr) == 0, "GS_GPR");
_Static_assert(offsetof(struct x86_state, rip) == STATE_RIP, "STATE_RIP");
_Static_assert(offsetof(struct x86_state, rflags) == STATE_RFLAGS, "STATE_RFLAGS");
_Static_assert(offsetof(struct x86_state, seg[X86_FS].base) == STATE_FS_BASE, "STATE_FS_BASE");
_Static_assert(offsetof(struct x86_state, seg[X86_GS].base) == STATE_GS_BASE, "STATE_GS_BASE");

/* Where the vector and x87 registers of the guest are. They stay in the host's while C runs that is
 * compiled for general registers only: this folder, engine/emulate and x86. */
enum fpu_home { FPU_IN_HOST, FPU_IN_CONTEXT, FPU_IN_STATE, FPU_IN_CAGE };

/* An instruction that is executed in C, as `emulate` wants it. */
struct single {
    uintptr_t site;  /* where it is left from (binary_site()), or 0 */
    void *resume;    /* the host code behind it */
    uint32_t block;  /* that both are in */
    uint16_t next;   /* offset of the next instruction in the guest page */
    uint16_t behind; /* instructions of the block behind it */
    uint16_t form;
    bool iret;
    bool fpu; /* it looks at the vector or x87 registers, or might */
    _Alignas(struct block) uint8_t room[sizeof(struct block) + 2 * sizeof(struct op)];
};
enum { SINGLES = 2048 };

/* Something that translated code is left for: how often, and where that is measured, the time until
 * it went on, in cycles of the time-stamp counter. */
struct spent {
    uint64_t count, cycles;
};

enum { DIRECTS = 8 };

/* This engine's part of a vCPU. */
struct binary_vcpu {
    struct engine_vcpu *v;
    struct context *context;
    struct binary_vm *vm;
    struct spaces spaces;
    enum fpu_home fpu;
    const struct cage *fpu_cage; /* where they are, under FPU_IN_CAGE */
    void *resume;                /* the host code of the instruction to go on with, or NULL */
    uint32_t resume_block;       /* the block it is in */
    bool resume_tied;            /* it can't be gone on at, but for what it says */
    unsigned resume_insns; /* instructions from there to the block's end: what it counts at once */
    uint64_t limit;        /* run()'s, which the count of instructions is not to exceed */
    bool counted;          /* there is one, so they have to be counted */
    bool by_block;         /* run() comes back behind each block */
    uint64_t began;        /* the count of instructions when it was called */
    bool whole;            /* the last step ended with nothing of an instruction begun */
    bool stepping;         /* towards the next instruction's beginning */
    int fault_signal;      /* under LEAVE_FAULT */
    uint32_t came_from;    /* the link to patch when the block at RIP is known, or UINT32_MAX */
    _Atomic bool running;  /* it is in translated code, or on the way in: kick it with a signal */
    _Atomic int kicks;     /* of them that are on their way, or that someone is about to send */
    stack_t stack;         /* for signals */
    uint64_t flushes_seen; /* of the code cache */
    uint64_t retry_rip;    /* of an instruction that raised a page fault, with its access: when the
                              guest comes back to it, the page is filled at once */
    uint64_t retry_lin;
    bool retry_write;
    uint64_t tsc_moved;   /* how far the guest has set its counter ahead of the line (tsc.c) */
    uint64_t tsc_looked;  /* when that was compared with the machine's, on the host's counter */
    bool tsc_known;       /* tsc_moved is */
    bool tsc_asked;       /* the machine was asked what the counter shows */
    uint64_t forgotten;   /* times that what is known of linear addresses was dropped */
    struct x86_host host; /* the machine's */
    void (*code_write)(struct x86_cpu *c, uint64_t gpa, unsigned len); /* `emulate`'s */
    struct bounce *bounce; /* or NULL: there is nothing for it */
    bool keep_vectors;     /* an instruction in C that leaves the vector registers where they are */
    struct single *single; /* instructions that are executed in C, made ready */
    uint32_t kernel_tag;   /* what the kernel's jump cache leads to, beside what is not bound */
    enum bound_stale kernel_stale; /* the mapping of the kernel's code was flushed */
    uint32_t jumps_key; /* what the entries of the jump caches were made for, but for KEY_USER */
    uint64_t filled, emulated;
    struct spent left[LEAVE_REASONS];
    struct spent *on; /* what the time since `left_at` is spent on */
    uint64_t left_at; /* the time-stamp counter when translated code was left; 0: not since run() */
    uint64_t recycled_at, longest_stop; /* for the sake of a full code cache, in its cycles */
    struct direct direct[DIRECTS], *direct_now; /* by address space; that of the latest */
    uint64_t direct_asked;                      /* how often for another one */
    const struct cage *caged;                   /* that runs now: what a kick stops */
    uint64_t call_rip;        /* of a SYSCALL that a cage came to: translated code does it */
    const char *failure;      /* a sentence, when run() has failed */
    uint64_t user_faults;     /* that were the guest's, in user code */
    const struct cage *stays; /* that it is kept on one processor with */
    uint64_t met;             /* since when, on the host's time-stamp counter */
    struct spent stopped[CAGE_STOPS]; /* runs of cages, by what ended them */
    struct spent *cause[2]; /* by form: instructions executed in C, as translated, and by a fault */
};

/* From the host's time-stamp counter to the guest's: host * mult / 2^64 + offset. */
struct binary_tsc {
    bool usable, drawn;
    uint64_t mult, offset;
    uint64_t host_0, ns_0; /* the host's counter and clock, from which its rate is told */
};

/* This engine's part of the machine. */
struct binary_vm {
    struct engine_vm *vm;
    struct code code;
    struct form_facts *forms; /* by x86_insn.form */
    struct windows windows;
    struct perf_map perf_map;
    bool measures;          /* what runs, and what is spent on leaving: statistics.c */
    uint64_t bound_made;    /* blocks with KEY_BOUND that were made */
    uint64_t traces_made;   /* of them, those that followed a branch */
    uint64_t born, born_ns; /* by the time-stamp counter and by the host's clock */
    struct binary_tsc tsc;
    struct bound kernel; /* guarded by code.lock, as tags is */
    uint32_t tags;       /* given out */
    /* The pieces at the start of the code that every block shares, as the writer sees them. */
    uint8_t *jump_piece, *miss_piece, *emulate_piece, *link_piece, *stale_piece, *request_piece,
        *limit_piece, *indirect_piece, *next_piece, *elsewhere_piece, *syscall_piece, *sysret_piece,
        *return_piece;
    uint64_t components;                     /* of XSAVE that translated code may use here */
    uint16_t xsave_offset[XSAVE_COMPONENTS]; /* in the host's area, of AVX-512's */
    uint64_t written_page; /* the page of code that was written last, and how often in a row */
    unsigned writes;
    _Atomic uint32_t *verdict; /* on each page of RAM, whether a cage may execute it: show.c */
    struct executed executed;
    enum engine_direct direct; /* NEVER also where the host does not let us */
    uint8_t *checked; /* a bit for each byte of RAM: the accesses of the instruction there need a
                         look at page ends */
    uint8_t *overran; /* the same: they have run over the end of the page that their addend was for;
                         at the instruction's second byte: they have done so again */
};

/* enter.S: runs translated code at context->code until it leaves, for context->reason. */
void binary_enter(struct context *c);
/* Where translated code and the signal handler go to leave. */
void binary_leave(void);
/* Where translated code goes for a call-out, and what that calls: to do the instruction, on the
 * operand that was in S1; and where something is asked of the vCPU before it goes back, that was
 * not seen yet (call_out.c). */
void binary_call_out(void);
void binary_called(struct context *x, uint64_t operand);
void binary_call_asked(struct context *x);

/* form.c: for the model; NULL: no memory. */
struct form_facts *binary_learn_forms(const struct x86_model *model);

/* translate.c: the block at gpa for the key; NO_BLOCK: its first instruction goes on in another
 * page. With gpa2, that page, a block of that instruction. Takes no lock; the caller holds
 * code.lock. */
uint32_t binary_translate(struct binary_vm *vm, struct engine_vcpu *v, uint64_t gpa, uint32_t key,
                          uint64_t gpa2, uint64_t va);
/* Makes link n, whose target can't be linked to, go through the jump cache. The caller holds
 * code.lock. */
void binary_unlink_for_good(struct binary_vm *vm, uint32_t n);
/* bind.c: what code of the key's privilege is to be bound to now, or NULL. */
struct bound *binary_bound(struct binary_vcpu *b, uint32_t key);
/* Writes the pieces that blocks share. */
bool binary_emit_pieces(struct binary_vm *vm);

/* Bits of a block's key: what the translation depends on beside the bytes. */
enum {
    KEY_USER = 1u << 0,
    KEY_X87 = 1u << 1,
    KEY_SSE = 1u << 2,
    KEY_AVX = 1u << 3,
    KEY_PKU = 1u << 4,
    KEY_COUNTED = 1u << 5,
    KEY_AVX512 = 1u << 6,
    KEY_BOUND = 1u << 7, /* to an address: the rest of the bits is a tag (bound.h) */
    KEY_TAG_SHIFT = 8,
    KEY_MODE = KEY_BOUND - 1
};

/* run.c */
enum engine_exit binary_run(struct binary_vcpu *b, uint64_t insns_limit, bool by_block);
/* The block at RIP, if there is one: find.c. */
uint32_t binary_known_block(struct binary_vcpu *b);
/* Everything that translated code knows of linear addresses, or of one page. */
void binary_forget_all(struct binary_vcpu *b);
void binary_forget_page(struct binary_vcpu *b, uint64_t lin, unsigned bits);
void binary_switch_space(struct binary_vcpu *b, bool keep);

/* statistics.c */
bool binary_statistics_init(struct binary_vcpu *b);
void binary_statistics_fini(struct binary_vcpu *b);
void binary_statistics(const struct binary_vcpu *b, struct engine_stats *out);
/* Where it is measured: on leaving translated code, what is done about it, and on going back or out
 * of run(). */
void binary_spend_begin(struct binary_vcpu *b);
void binary_spend_end(struct binary_vcpu *b);
/* Counts what lies from the point to resume at to its block's end, or takes it back. */
void binary_measure_rest(struct binary_vcpu *b, bool back);
/* The vCPU had to wait from then on, because code was recycled. */
void binary_stopped_since(struct binary_vcpu *b, uint64_t cycles);

/* outside.c: puts itself between the processor and the machine's callbacks. */
void binary_take_over_host(struct binary_vcpu *b);

/* syscall.c */
/* Constants for translated code; and, on the way into it, what depends on the state. */
void binary_syscall_init(struct context *x);
void binary_syscall_prepare(struct context *x, const struct x86_state *s);

/* iret.c: the same; and an IRET that C has just done, from CPL 0. */
void binary_iret_init(struct context *x);
void binary_iret_prepare(struct binary_vcpu *b);
void binary_iret_learn(struct binary_vcpu *b);

/* tsc.c */
void binary_tsc_init(struct binary_tsc *t);
/* Compares what translated code reads with the machine's counter, when it is time to. Inside the
 * gate. */
void binary_tsc_look(struct binary_vcpu *b);
/* Whether the guest reads its counter by the line; then, what it reads, and that it was written. */
bool binary_tsc_on(const struct binary_vcpu *b);
uint64_t binary_tsc_read(const struct binary_vcpu *b);
void binary_tsc_written(struct binary_vcpu *b, int64_t by);

/* string.c: if the host's instruction at `host`, of translated code, is a string instruction, makes
 * the registers the guest's as they are between two elements. */
bool binary_string_undo(const struct context *x, const uint8_t *host, long long *regs);

/* fpu.c */
/* To be called before anything that is not compiled for general registers only. */
void binary_outside(struct binary_vcpu *b);
void binary_fpu_to_state(struct binary_vcpu *b);
/* To a cage: false, and nothing done, if that is of no use any more. They stay there while C runs,
 * and code of the guest's kernel that does not use them (context.fpu_away). */
bool binary_fpu_to_cage(struct binary_vcpu *b, const struct cage *to);
/* Out of it: before it goes, another address space comes, or anyone else looks. */
void binary_fpu_home(struct binary_vcpu *b);
/* Copies them to a state, and leaves them where they are. */
void binary_fpu_copy(struct binary_vcpu *b, struct x86_state *to);
void binary_fpu_to_host(struct binary_vcpu *b);
/* To where translated code finds them, or looks first. */
void binary_fpu_for_guest(struct binary_vcpu *b);
/* Finds out what of it the guest has, and where the host's area has that. */
bool binary_fpu_find(struct binary_vm *vm, const struct x86_model *model, struct error *err);

/* bounce.c: instructions that only the host's processor knows, where translated code can't run
 * them.
 */
bool bounce_create(struct binary_vcpu *b, struct error *err);
void bounce_destroy(struct binary_vcpu *b);
/* Under a signal: a fault of such an instruction. False: it is none. */
bool bounce_take_fault(struct binary_vcpu *b, void *ucontext);

/* What was said of the page of code at gpa holds no more: it is written. In an exclusive section,
 * or with one vCPU. */
void show_written(struct binary_vm *vm, uint64_t gpa);

/* signal.c */
bool binary_signals_install(struct error *err);
/* Makes the calling thread the one that runs b. */
bool binary_signals_enter(struct binary_vcpu *b);
/* No kick comes to the thread from now on, until it enters again. */
void binary_signals_leave(struct binary_vcpu *b);
void binary_kick(struct binary_vcpu *b);
/* The guest is at instruction `index` of block n, which it may go on at. */
void binary_stand_at(struct binary_vcpu *b, uint32_t n, unsigned index);

/* Of `checked` or `overran`: the bit of the byte of RAM at that offset. */
static inline bool is_marked(const uint8_t *marks, uint64_t offset)
{
    return marks[offset / 8] >> (offset % 8) & 1;
}

static inline struct binary_vcpu *binary_of(const struct engine_vcpu *v)
{
    return v->attached;
}

#endif

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

#include "engine/binary/code.h"
#include "engine/binary/layout.h"
#include "engine/binary/table.h"
#include "engine/emulate/emulate.h"

/* At the start of the area below every table: what translated code and enter.S reach through GS. */
struct context {
    struct context *self;
    uint64_t host_rsp;
    void *code;      /* where to go on entry */
    uint64_t base;   /* the guest-virtual page that the running block is in */
    uint64_t rcx;    /* guest RCX while JRCXZ looks at something else */
    uint64_t flags;  /* the host's flags on leaving and on entry */
    uint32_t reason; /* LEAVE_* */
    uint32_t link;   /* under LEAVE_LINK */
    uint32_t attend; /* the requests that are to be looked at now */
    uint32_t pad;
    uint64_t *table; /* of the view that is in use */
    _Atomic uint32_t *request;
    uint64_t offset_mask; /* 0xfff, for PEXT */
    uint64_t components;  /* of XSAVE, that are the guest's while its code runs */
    uint64_t *table_supervisor, *table_ac;
    int64_t left;    /* instructions until the limit */
    uint64_t ac;     /* RFLAGS.AC of a supervisor, as 0 or 1 */
    uint64_t direct; /* instructions executed as translated code (--stats) */
    void (*leave)(void);
    uint8_t pad2[CTX_FPU - 0x90];
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
AT(direct, CTX_DIRECT);
AT(leave, CTX_LEAVE);
AT(fpu, CTX_FPU);
#undef AT
_Static_assert(sizeof(struct context) == CONTEXT_SIZE, "the vCPU comes behind it");
_Static_assert(sizeof(struct engine_vcpu) <= AREA_SIZE - CONTEXT_SIZE, "the area holds the vCPU");
_Static_assert(offsetof(struct engine_vcpu, cpu.s.gpr) == 0, "GS_GPR");
_Static_assert(offsetof(struct x86_state, rip) == STATE_RIP, "STATE_RIP");
_Static_assert(offsetof(struct x86_state, seg[X86_FS].base) == STATE_FS_BASE, "STATE_FS_BASE");
_Static_assert(offsetof(struct x86_state, seg[X86_GS].base) == STATE_GS_BASE, "STATE_GS_BASE");

/* A jump cache: the negated addresses of code, and where their blocks are entered. */
enum { JUMPS = 1 << 16 };
struct jump_area {
    uint64_t tag[JUMPS]; /* 0 - RIP; entry 0 holds a tag that no RIP has when it is empty */
    void *to[JUMPS];
};
_Static_assert(sizeof(struct jump_area) == JUMP_AREA, "JUMP_AREA");

/* Where the vector and x87 registers of the guest are, while translated code does not run. */
enum fpu_home { FPU_IN_CONTEXT, FPU_IN_STATE };

enum { VIEW_SUPERVISOR, VIEW_AC, VIEW_USER, VIEWS };

/* A jump cache with the entries that are in use. */
struct jumps {
    struct jump_area *area;
    uint16_t filled[4096];
    unsigned count;
};

/* This engine's part of a vCPU. */
struct binary_vcpu {
    struct engine_vcpu *v;
    struct context *context;
    struct binary_vm *vm;
    int area_fd;
    struct table table[VIEWS];
    struct jumps kernel, user;
    enum fpu_home fpu;
    void *resume;           /* the host code of the instruction to go on with, or NULL */
    uint32_t resume_block;  /* the block it is in */
    bool stepping;          /* towards the next instruction's beginning */
    uint64_t fault_address; /* the host's, under LEAVE_FAULT */
    int fault_signal;
    uint32_t came_from;    /* the link to patch when the block at RIP is known, or UINT32_MAX */
    _Atomic bool running;  /* it is in translated code, or on the way in: kick it with a signal */
    stack_t stack;         /* for signals */
    uint64_t flushes_seen; /* of the code cache */
    uint64_t forgotten;    /* times that what is known of linear addresses was dropped */
    uint64_t left_for[8], filled, emulated;
};

/* This engine's part of the machine. */
struct binary_vm {
    struct engine_vm *vm;
    struct code code;
    struct windows windows;
    /* The pieces at the start of the code that every block shares, as the writer sees them. */
    uint8_t *jump_piece, *miss_piece, *emulate_piece, *link_piece, *stale_piece;
    uint64_t components;      /* of XSAVE that translated code may use here */
    unsigned checked_by_host; /* the host's alignment check finds accesses of up to so many bytes
                                 that cross a page end */
    uint8_t *checked; /* a bit for each two bytes of RAM: the access there needs a look at page
                         ends */
};

/* enter.S: runs translated code at context->code until it leaves, for context->reason. */
void binary_enter(struct context *c);
/* Where translated code and the signal handler go to leave; the range that is neither C nor
 * translated code. */
void binary_leave(void);
extern const char binary_enter_end[];

/* translate.c: the block at gpa for the key; NO_BLOCK: its first instruction can't be translated
 * (it crosses into another page). Takes no lock; the caller holds code.lock. */
uint32_t binary_translate(struct binary_vm *vm, struct engine_vcpu *v, uint64_t gpa, uint32_t key);
/* Writes the pieces that blocks share. */
bool binary_emit_pieces(struct binary_vm *vm);

/* Bits of a block's key: what the translation depends on beside the bytes. */
enum { KEY_USER = 1u << 0, KEY_X87 = 1u << 1, KEY_SSE = 1u << 2, KEY_AVX = 1u << 3 };

/* run.c */
enum engine_exit binary_run(struct binary_vcpu *b, uint64_t insns_limit);
/* Everything that translated code knows of linear addresses, or of one page. */
void binary_forget_all(struct binary_vcpu *b);
void binary_forget_page(struct binary_vcpu *b, uint64_t lin);

/* fpu.c */
void binary_fpu_to_state(struct binary_vcpu *b);
void binary_fpu_to_context(struct binary_vcpu *b);

/* signal.c */
bool binary_signals_install(struct error *err);
/* Makes the calling thread the one that runs b. */
bool binary_signals_enter(struct binary_vcpu *b);
void binary_kick(struct binary_vcpu *b);

static inline struct binary_vcpu *binary_of(const struct engine_vcpu *v)
{
    return v->attached;
}

#endif

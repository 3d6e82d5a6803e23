/*
 * A translation in progress, as translate.c, rewrite.c and control.c pass it on.
 */
#ifndef DOPPEL_ENGINE_BINARY_TRANSLATOR_H
#define DOPPEL_ENGINE_BINARY_TRANSLATOR_H

#include "engine/binary/binary.h"
#include "x86/forms.h"

static inline bool displaced(unsigned reg)
{
    return reg == S1 || reg == S2;
}

enum { TRANSLATOR_INSNS = 64, TRANSLATOR_EXITS = TRANSLATOR_INSNS + 1 };
enum { TRANSLATOR_ASIDES = 96 };

/* A branch whose target is code that is written behind the block. */
struct side_exit {
    uint8_t *rel32; /* of the branch */
    int32_t target; /* from the guest page's start */
    unsigned done;  /* instructions executed when it is taken */
    bool last;      /* that is all of the block's */
};

/* A way out for C or for a request, which is written behind the block. */
struct aside {
    uint8_t *rel32; /* of the branch to it */
    uint16_t at, done;
    const uint8_t *piece;
};

/* Where the number of instructions that a block counts is still to be written, less those that have
 * been executed there. */
struct count_fix {
    uint8_t *at;
    uint8_t done, until; /* from which instruction to which */
    uint8_t kinds;       /* those of them that are counted: bits by enum code_kind */
    bool negative;
};

/* What a scratch register holds: nothing that is known; or the addend for the page of [base +
 * offset], base being a guest register that is where it was, or one of HELD_GS and so on, with
 * which the base itself is added in; or the value of a displaced register, which is in memory, too.
 */
enum { HELD_R10 = 0xf8, HELD_R11, HELD_ZERO, HELD_GS, HELD_FS, HELD_PAGE, HELD_NOTHING = 0xff };
struct held {
    uint8_t base;
    int32_t offset;
};

/* What grows with a block, and is not worth clearing before each. */
struct translator_room {
    struct count_fix fix[3 * (TRANSLATOR_ASIDES + 2 * TRANSLATOR_EXITS)];
    struct aside aside[TRANSLATOR_ASIDES];
};

struct translator {
    struct translator_room *room;
    struct binary_vm *vm;
    struct emit e;
    uint8_t *start;      /* of the block's host code */
    const uint8_t *page; /* the guest's code page */
    uint64_t page_gpa;
    uint64_t va;               /* the guest's address of the page, for KEY_BOUND */
    const struct bound *bound; /* with it, where other pages are; else NULL */
    uint32_t key;
    uint32_t block;            /* the number it will have */
    const struct point *point; /* of the instructions so far: t->done, and the current one */
    bool scattered;            /* a branch was followed */
    unsigned first, at;        /* offsets in the page: of the block, of the current instruction */
    unsigned next;             /* of the instruction behind it */
    const uint8_t *bytes;      /* of the current instruction */
    struct x86_insn insn;
    const struct x86_form *form;
    const struct form_facts *facts; /* of the form */
    uint8_t across[16];             /* the bytes of an instruction that goes on in another page */
    bool is_across;
    unsigned done; /* instructions before the one at `at` */
    unsigned fixes;
    bool check;          /* its accesses are looked at for page ends */
    int32_t reach;       /* as far from the address of its lookup an addend may serve it */
    struct held held[2]; /* by S1 and S2, from one instruction to the next */
    unsigned last_used;
    uint8_t kind[TRANSLATOR_INSNS]; /* enum code_kind of each instruction */
    bool to_c;                      /* the current one is for C */
    bool has_vectors;               /* guard_vectors() was there */
    unsigned asides;
    struct side_exit exit[TRANSLATOR_EXITS];
    unsigned exits;
};

/* How a form is run. */
enum how {
    HOW_EMULATE, /* in C, one instruction */
    HOW_COPY,    /* as it is, with its memory operand and displaced registers rewritten */
    HOW_NOTHING,
    HOW_LEA,
    HOW_PUSH_REG,
    HOW_PUSH_IMM,
    HOW_PUSH_RM,
    HOW_POP_REG,
    HOW_LEAVE, /* up to here: straight on, and nothing to do with interrupts */
    /* these end a block, or may */
    HOW_JCC,
    HOW_JMP,
    HOW_JMP_RM,
    HOW_CALL,
    HOW_CALL_RM,
    HOW_RET,
    HOW_JCXZ,
    HOW_LOOP,
    /* the guest's own flags, selectors and registers */
    HOW_SYSTEM,
    HOW_PUSHF = HOW_SYSTEM,
    HOW_POPF,
    HOW_CLI,
    HOW_STI,
    HOW_FROM_SEG,
    HOW_BIT_STRING,
    HOW_SWAPGS,
    HOW_RDPKRU,
    HOW_STAC,
    HOW_CLAC,
    HOW_SYSCALL,
    HOW_SYSRET,
    HOW_RDTSC,
    HOW_STRING,
    HOW_PAUSE,
    HOW_FROM_CR,
    HOW_BASE,
    HOW_IRET,
    /* by C, from the block: call_out.c */
    HOW_CALL_OUT,
    HOW_CPUID = HOW_CALL_OUT,
    HOW_TO_CR,
    HOW_INVLPG,
    HOW_INVPCID,
    HOW_XGETBV,
    HOW_RDMSR,
    HOW_WRMSR,
};

/* Whether what runs it leaves alone what the scratch registers hold, or says what becomes of it. */
static inline bool how_keeps_addends(enum how how)
{
    return (how >= HOW_COPY && how <= HOW_LEAVE) || (how >= HOW_JCC && how <= HOW_RET) ||
           how == HOW_JCXZ;
}

/* What is known of a form: form.c. */
struct form_facts {
    uint8_t how;             /* enum how, in some modes: */
    uint8_t mode_bits, mode; /* these bits of the key are like that; in others, HOW_EMULATE */
    uint8_t uses;            /* USES_*: what it does with general registers and memory it names */
    uint8_t implied_writes;  /* registers it may write without naming them, as a mask */
    int8_t adds_imm, adds;   /* all that it does, with a whole register: adding so many times the
                                immediate, and that */
};

enum {
    USES_FIRST_AS_SOURCE = 1u << 0, /* the first operand is only read */
    USES_FIRST_AS_RESULT = 1u << 1, /* and only written, but for parts of registers; else both */
    USES_TWO_RESULTS = 1u << 2,     /* the others are written, too */
    USES_NAMED = 1u << 3,           /* and there are no others */
};

/* How an instruction is run in a mode. */
static inline enum how binary_how(const struct binary_vm *vm, const struct x86_insn *insn,
                                  uint32_t key)
{
    const struct form_facts *f = &vm->forms[insn->form];
    if ((key & f->mode_bits) != f->mode)
        return HOW_EMULATE;
    return f->how == HOW_BIT_STRING && !insn->is_mem ? HOW_COPY : (enum how)f->how;
}

/* rewrite.c: one instruction that falls through to the next. False: emulate it (nothing that
 * matters was emitted; the caller takes it back). */
bool rewrite_copy(struct translator *t);
/* A vector instruction (t->insn, t->form and t->bytes) by itself, with its memory operand at [base]
 * and its general register, if it has one, in `general`. */
void rewrite_alone(struct translator *t, unsigned base, unsigned general);
bool rewrite_lea(struct translator *t);
bool rewrite_push_reg(struct translator *t);
bool rewrite_push_imm(struct translator *t);
bool rewrite_push_rm(struct translator *t);
bool rewrite_pop_reg(struct translator *t);
bool rewrite_leave(struct translator *t);
/* BT, BTS, BTR, BTC on a bit string in memory. */
bool rewrite_bit_string(struct translator *t);
/* Pushes a host register: of the guest's, or a scratch register. */
void rewrite_push(struct translator *t, unsigned reg);
/* The halves of a pop: what is on top of the stack into S1; and RSP moves. */
void rewrite_load_top(struct translator *t);
void rewrite_move_stack(struct translator *t, int32_t by);
/* Loads the r/m operand (register or memory, 8 bytes) into S1. */
bool rewrite_load_rm(struct translator *t);
/* After an instruction for which how_keeps_addends(): what it changed is held no more. */
void rewrite_note_written(struct translator *t, enum how how);

/* operand.c: memory operands. An addend is good for what lies no farther than this from the address
 * that it was looked up for. `busy` is a scratch register that is not
 * to be touched, or HOST_NONE. */
enum { OPERAND_REACH = MEMORY_PAGE_SIZE };
/* What the scratch registers hold is not known any more; whether anything is. */
void operand_forget(struct translator *t);
bool operand_holds(const struct translator *t);
/* These guest registers are changed; one has moved by a number; `to` is now `from` + by. */
void operand_forget_registers(struct translator *t, unsigned mask);
void operand_register_moved(struct translator *t, unsigned reg, int32_t by);
void operand_register_becomes(struct translator *t, unsigned from, unsigned to, int32_t by);
/* A scratch register to use; what it held is forgotten. */
unsigned operand_scratch(struct translator *t, unsigned busy);
/* The host register that then has a guest register's value: the same one, or a scratch register if
 * it is displaced. */
unsigned operand_value(struct translator *t, unsigned reg, unsigned busy);
/* Whether one has a displaced register's value already. */
bool operand_has_value(const struct translator *t, unsigned reg);
/* The host register for a guest register's new value: the same one, or if it is displaced a scratch
 * register, that of the old value if one has it. */
unsigned operand_place(struct translator *t, unsigned reg, unsigned busy);
/* What is in that place is the guest register's value now. */
void operand_keep(struct translator *t, unsigned reg, unsigned place);
/* The scratch register that then holds the addend for n bytes at [base + disp]; base is not
 * displaced. */
unsigned operand_addend(struct translator *t, unsigned base, int32_t disp, unsigned n,
                        unsigned busy);
/* S1 := the linear address of the memory operand. False: it can't be done here. */
bool operand_address(struct translator *t);
/* Emits what finds the memory operand of n bytes, and says in `m` where it is then. False: it can't
 * be done here. */
bool operand_memory(struct translator *t, unsigned n, struct host_mem *m);
/* The same, and a scratch register beside it for a displaced register, with its value if it is
 * read. */
bool operand_memory_beside(struct translator *t, unsigned n, struct host_mem *m, unsigned reg,
                           bool read, unsigned *scratch);
/* S2 := the addend of the page that the address in S1 is in. */
void operand_lookup(struct translator *t);

/* system.c: instructions whose result is the guest's and not the host's. */
bool system_pushf(struct translator *t);
bool system_popf(struct translator *t);
bool system_cli(struct translator *t);
bool system_sti(struct translator *t);
bool system_from_seg(struct translator *t);
bool system_swapgs(struct translator *t);
bool system_from_cr(struct translator *t);
/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE. */
bool system_base(struct translator *t);
bool system_rdpkru(struct translator *t);
bool system_rdtsc(struct translator *t);
bool system_set_ac(struct translator *t, bool ac);

/* S1 := what PUSHF pushes, using S2; the host's flags := S1's status flags and DF. */
void system_read_flags(struct emit *e);
void system_write_flags(struct emit *e);

/* syscall.c: between privilege levels without leaving translated code. These end a block. */
bool syscall_enter(struct translator *t);
bool syscall_return(struct translator *t);
void syscall_emit_pieces(struct binary_vm *vm, struct emit *e);

/* iret.c. This ends a block. */
bool iret_translate(struct translator *t);

/* call_out.c: instructions that C does, most times, without that the block is left. */
enum call {
    CALL_CPUID,
    CALL_XGETBV,
    CALL_INVLPG,
    CALL_INVPCID,
    CALL_TO_CR3,
    CALL_RDMSR,
    CALL_WRMSR,
};
bool call_out(struct translator *t, enum call what);
bool call_out_to_cr(struct translator *t);
bool call_out_with_address(struct translator *t, enum call what);
bool call_out_invpcid(struct translator *t);

/* string.c */
bool rewrite_string(struct translator *t);

/* count.c: counting instructions, for those who limit them (KEY_COUNTED). A block counts all of its
 * instructions when it is entered, and takes back what it did not execute where it is left early.
 */
void count_block(struct translator *t);
void count_back(struct translator *t, unsigned done);
/* The same, of what is skipped between two of its instructions. */
void count_back_until(struct translator *t, unsigned done, unsigned until);
/* Whether count_back() has anything to do. */
bool count_any(const struct translator *t);
/* Instruction i's host code lies from there to the end: notes of what kind it is. */
void count_kind(struct translator *t, unsigned i, const uint8_t *from);
void count_finish(struct translator *t, unsigned insns);

/* control.c: branches. True: the block ends here. */
bool control_jcc(struct translator *t);
bool control_jmp(struct translator *t);
bool control_call(struct translator *t);
bool control_ret(struct translator *t);
bool control_jmp_rm(struct translator *t);
bool control_call_rm(struct translator *t);
bool control_jcxz(struct translator *t);
bool control_loop(struct translator *t);
/* Leaves for C, which executes the instruction; the block goes on behind it. */
void control_emulate(struct translator *t);
/* The same from the middle of an instruction's code. */
void control_emulate_aside(struct translator *t);
/* Leaves for C unless S1 is 0. The guest's RCX is in the context then. */
void control_emulate_unless_zero(struct translator *t);
/* Leaves for the run loop at t->at. */
void control_request(struct translator *t);
/* Goes on at an offset from the page's start, unconditionally. */
void control_go(struct translator *t, int32_t target);
/* Whether an earlier instruction of the block branches to the current one. */
bool control_joins(const struct translator *t);
/* Writes what the side exits lead to, or has them lead to one of the block's n instructions. */
void control_side_exits(struct translator *t, unsigned n);

/* Whether one of the block's first n instructions is at an offset in the page. */
static inline bool is_translated(const struct translator *t, unsigned n, unsigned at)
{
    for (unsigned i = 0; i < n; i++)
        if (t->point[i].guest == at)
            return true;
    return false;
}

static inline bool is_bound(const struct translator *t)
{
    return t->key & KEY_BOUND;
}

/* reg := the address of the page that a block with the key is in, bound to va, + offset. */
static inline void emit_page_address(struct emit *e, unsigned reg, uint32_t key, uint64_t va,
                                     int32_t offset)
{
    struct host_mem m = {.base = (uint8_t)reg, .index = HOST_NONE, .disp = offset};
    if (key & KEY_BOUND) {
        emit_move_imm64(e, reg, va + (uint64_t)(int64_t)offset);
        return;
    }
    emit_load(e, reg, GS_AREA + CTX_BASE);
    if (offset)
        emit_lea(e, 8, reg, &m);
}

/* reg := the current page's address + offset. */
static inline void emit_in_page_to(struct translator *t, unsigned reg, int32_t offset)
{
    emit_page_address(&t->e, reg, t->key, t->va, offset);
}

static inline void emit_in_page(struct translator *t, int32_t offset)
{
    emit_in_page_to(t, S1, offset);
}

/* to := 0 if the address in `from` is canonical, and else another number. Its bits 63:47, alike if
 * it is, become bits 16:0, of which 1 more leaves nothing in 16:1. */
static inline void emit_not_canonical(struct emit *e, unsigned to, unsigned from)
{
    struct host_mem more = {.base = (uint8_t)to, .index = HOST_NONE, .disp = 1};
    emit_rorx(e, to, from, 47);
    emit_lea(e, 8, to, &more);
    emit_pext(e, to, to, GS_AREA + CTX_MASK_UPPER);
}

#endif

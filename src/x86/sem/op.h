/*
 * The operation: a decoded instruction in the form the semantics take it, and how a semantic
 * function is written.
 *
 * An instruction's semantics are one small C function over the processor and its operands, written
 * once. The macros below give it its calling convention; an engine that wants another one
 * (relocatable stencils) includes the same files with other macros.
 *
 *   OP(cpuid)         the instruction falls through to the next one
 *   OP_END(hlt)       the instruction ends its block: on entry s.rip is already the next
 * instruction's; the function may set s.rip, the mode, anything
 *
 * Both define the function sem_##name(c, op) that the braces behind the macro are the body of, the
 * entry op_##name() that engines call, and the public `struct sem` named name##_sem that ties it to
 * the decoder's table (the SEM column of forms.def is `name`). Entries return the next operation,
 * or NULL when the block is over; hot ones (int_*.c) jump to it themselves with OP_NEXT().
 *
 * Rules. A function that raises a fault has changed nothing before (what it popped, stored,
 * counted): read and probe first, commit last. REP instructions are the exception the manual makes.
 * op and c->op are the same. Registers: gpr_read/gpr_write and the typed helpers below; with size
 * 1, op->reg and op->rm are byte offsets into the register file (AH is 1, CH 5, ...).
 */
#ifndef DOPPEL_X86_SEM_OP_H
#define DOPPEL_X86_SEM_OP_H

#include "x86/access.h"
#include "x86/cpu.h"
#include "x86/flags.h"

typedef const struct op *op_fn(struct x86_cpu *c, const struct op *op);

/* Where the ModRM.rm operand is. EA_BASE and EA_FLAT32 are cases of EA_SEGMENT that hot operations
 * know how to do. */
enum op_ea {
    EA_FLAT,    /* memory: base + (index << scale) + disp, 64-bit, segment base 0 */
    EA_BASE,    /* memory: the same, and the base of FS or GS */
    EA_FLAT32,  /* memory: 32-bit code and address, in a segment that may have a base or limit */
    EA_SEGMENT, /* memory: anything else (16-bit addresses, address size overrides) */
    EA_REG,     /* a register: op->rm */
};

/* Which operand is which, for instructions that have it both ways. */
enum op_pattern {
    OP_RR, /* reg <- rm, both registers (in either encoding: reg is always the destination) */
    OP_RM, /* reg <- memory */
    OP_MR, /* memory <- reg */
    OP_RI, /* rm is a register, with an immediate (or a constant) */
    OP_MI, /* rm is memory, with an immediate */
    OP_PATTERNS
};

enum {
    OPF_LOCK = 1u << 0,
    OPF_REP = 1u << 1,    /* F3, where it repeats */
    OPF_REPNE = 1u << 2,  /* F2, where it repeats */
    OPF_ADDR16 = 1u << 3, /* address size; none: the mode's 64 bits */
    OPF_ADDR32 = 1u << 4,
    OPF_IMM = 1u << 5,   /* the source is the immediate */
    OPF_STORE = 1u << 6, /* rm is the destination (movaps xmm/m, xmm) */
    OPF_RIP = 1u << 7,   /* RIP-relative, and disp still lacks `end` */
};

struct op {
    op_fn *fn;
    uint64_t imm; /* immediate, sign-extended where the manual says so; far pointers: offset |
                     selector << 32; ENTER: size | level << 16; moffs: the offset; x87: the FOP
                     (fpu.h) */
    int32_t disp;
    uint16_t end; /* offset of the next instruction from the block's start */
    uint8_t size; /* operand size in bytes: 1, 2, 4, 8; 8 for MMX, 16 for XMM, 32 for YMM */
    uint8_t ea;   /* enum op_ea */
    uint8_t reg;  /* ModRM.reg (or the opcode's) register, segment, control register ... */
    uint8_t rm;   /* ModRM.rm register under EA_REG */
    uint8_t base,
        index;       /* X86_GPR_ZERO for none, X86_GPR_BLOCK with a fitting disp for RIP-relative */
    uint8_t scale;   /* 0 to 3 */
    uint8_t flags;   /* OPF_* */
    uint8_t len : 4; /* instruction length in bytes; */
    uint8_t seg : 4; /* segment of the memory operand */
    uint8_t cc;      /* condition (Jcc, SETcc, CMOVcc), ModRM.reg (groups), VEX.vvvv, the low
                        opcode bits, by form */
};
_Static_assert(sizeof(struct op) == 40 || sizeof(struct op) == 32, "operations stay compact");

enum {
    SEM_ENDS = 1u << 0, /* ends the block */
    SEM_EXACT =
        1u << 1, /* must be the last of its block because it looks at the clock or a device */
};

/*
 * What an engine knows of a semantic function. `any` serves every form; where it is NULL, `by` is
 * asked: SEM_BY_PATTERN tables are [enum op_pattern][log2 of the operand size], SEM_BY_CONDITION
 * tables are [condition code]. Memory forms under a LOCK prefix go to `lock`, where there is one.
 */
enum sem_kind { SEM_ANY, SEM_BY_PATTERN, SEM_BY_CONDITION };
struct sem {
    op_fn *any;
    op_fn *const *by;
    op_fn *lock;
    uint8_t flags; /* SEM_* */
    uint8_t kind;  /* enum sem_kind */
};

/*
 * How a hot operation goes on to `next`. Optimised builds jump there (a tail call, so that each
 * operation has its own indirect branch to predict); elsewhere the engine's loop does it. Returning
 * the next operation is right for every function at any time: what is not hot just does.
 */
#if defined(__OPTIMIZE__) && !defined(DOPPEL_SANITIZE)
#if defined(__clang__)
#define OP_TAIL __attribute__((musttail))
#else
#define OP_TAIL
#endif
#define OP_NEXT(c, next)                                                                           \
    do {                                                                                           \
        const struct op *next_ = (next);                                                           \
        (c)->op = next_;                                                                           \
        OP_TAIL return next_->fn((c), next_);                                                      \
    } while (0)
#else
#define OP_NEXT(c, next) return (next)
#endif

/* A hot operation: its body is inlined into the entry, which jumps to the next operation. It must
 * not let the address of a local escape (the compiler then can't make the tail call). */
#define OP_HOT(name)                                                                               \
    static ALWAYS_INLINE void sem_##name(struct x86_cpu *c, const struct op *op);                  \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        sem_##name(c, op);                                                                         \
        OP_NEXT(c, op + 1);                                                                        \
    }                                                                                              \
    static ALWAYS_INLINE void sem_##name(__attribute__((unused)) struct x86_cpu *c,                \
                                         __attribute__((unused)) const struct op *op)

#define OP(name)                                                                                   \
    static void sem_##name(struct x86_cpu *c, const struct op *op);                                \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        c->op = op;                                                                                \
        sem_##name(c, op);                                                                         \
        return op + 1;                                                                             \
    }                                                                                              \
    const struct sem name##_sem = {.any = op_##name};                                              \
    static void sem_##name(__attribute__((unused)) struct x86_cpu *c,                              \
                           __attribute__((unused)) const struct op *op)

#define OP_END(name)                                                                               \
    static void sem_##name(struct x86_cpu *c, const struct op *op);                                \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        c->op = op;                                                                                \
        c->s.rip = x86_next_rip(c, op);                                                            \
        sem_##name(c, op);                                                                         \
        return NULL;                                                                               \
    }                                                                                              \
    const struct sem name##_sem = {.any = op_##name, .flags = SEM_ENDS};                           \
    static void sem_##name(__attribute__((unused)) struct x86_cpu *c,                              \
                           __attribute__((unused)) const struct op *op)

/* ---- instruction pointers ---- */

/* RIP is cut to the code's width: EIP wraps at 32 bits, IP at 16 only where the manual says so. */
static inline uint64_t x86_next_rip(const struct x86_cpu *c, const struct op *op)
{
    uint64_t rip = c->s.gpr[X86_GPR_BLOCK] + op->end;
    return c->code == X86_CODE64 ? rip : (uint32_t)rip;
}
/* The address of the running instruction: what faults report. */
static inline uint64_t x86_rip(const struct x86_cpu *c)
{
    return c->s.gpr[X86_GPR_BLOCK] + c->op->end - c->op->len;
}

/* ---- registers ---- */

static inline uint64_t gpr_read(const struct x86_cpu *c, unsigned reg, unsigned size)
{
    switch (size) {
    case 1: return ((const uint8_t *)c->s.gpr)[reg];
    case 2: return (uint16_t)c->s.gpr[reg];
    case 4: return (uint32_t)c->s.gpr[reg];
    default: return c->s.gpr[reg];
    }
}
/* 32-bit results clear the upper half, smaller ones keep what is above. */
static inline void gpr_write(struct x86_cpu *c, unsigned reg, unsigned size, uint64_t v)
{
    switch (size) {
    case 1: ((uint8_t *)c->s.gpr)[reg] = (uint8_t)v; break;
    case 2: c->s.gpr[reg] = (c->s.gpr[reg] & ~UINT64_C(0xffff)) | (uint16_t)v; break;
    case 4: c->s.gpr[reg] = (uint32_t)v; break;
    default: c->s.gpr[reg] = v; break;
    }
}

/* ---- the memory operand ---- */

/* The effective address (offset in its segment), cut to the address size. */
static inline uint64_t op_offset(const struct x86_cpu *c, const struct op *op)
{
    uint64_t a = c->s.gpr[op->base] + (c->s.gpr[op->index] << op->scale) + (int64_t)op->disp;
    if (likely(!(op->flags & (OPF_ADDR32 | OPF_ADDR16 | OPF_RIP))))
        return a;
    if (op->flags & OPF_RIP)
        a += op->end;
    if (op->flags & OPF_ADDR32)
        return (uint32_t)a;
    return op->flags & OPF_ADDR16 ? (uint16_t)a : a;
}

/* A linear address from an offset in a segment, after the segment's checks for an access of size
 * bytes (presence, type, limit: #GP(0), or #SS(0) through SS). access is enum x86_access.
 * segment.c. */
COLD uint64_t x86_linear(struct x86_cpu *c, unsigned seg, uint64_t offset, unsigned size,
                         unsigned access);
uint64_t op_linear_slow(struct x86_cpu *c, const struct op *op, unsigned size, unsigned access);

static ALWAYS_INLINE uint64_t op_linear(struct x86_cpu *c, const struct op *op, unsigned size,
                                        unsigned access)
{
    if (likely(op->ea == EA_FLAT))
        return c->s.gpr[op->base] + (c->s.gpr[op->index] << op->scale) + (int64_t)op->disp;
    return op_linear_slow(c, op, size, access);
}

/* The memory operand, as bytes. n is 1 to 4096; all or nothing. */
void op_load(struct x86_cpu *c, const struct op *op, void *to, unsigned n);
void op_store(struct x86_cpu *c, const struct op *op, const void *from, unsigned n);

/* The rm operand, register or memory, of size 1, 2, 4 or 8, for what is not hot. */
uint64_t op_rm_read(struct x86_cpu *c, const struct op *op, unsigned size);
void op_rm_write(struct x86_cpu *c, const struct op *op, unsigned size, uint64_t v);

/* ---- stack (stack.c): pushes and pops of 2, 4 or 8 bytes through SS and the mode's stack pointer
 * ---- */

/* What push would write where: the new stack pointer goes into RSP only by x86_stack_commit(), so
 * that several pushes can fault as one. Offsets count from `sp`, which starts as
 * x86_stack_pointer(). */
uint64_t x86_stack_pointer(const struct x86_cpu *c);
void x86_stack_commit(struct x86_cpu *c, uint64_t sp);
void x86_push_at(struct x86_cpu *c, uint64_t *sp, unsigned size, uint64_t v);
uint64_t x86_pop_at(struct x86_cpu *c, uint64_t *sp, unsigned size);

/* Raises #GP(0) unless CPL is 0. */
static inline void x86_need_cpl0(struct x86_cpu *c)
{
    if (c->cpl != 0)
        x86_raise_gp0(c);
}

#endif

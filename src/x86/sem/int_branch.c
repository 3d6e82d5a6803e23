/*
 * Near control transfers: Jcc JMP CALL RET, LOOP and JCXZ.
 *
 * A target outside CS's limit or not canonical is a fault of the branch itself: nothing has changed
 * yet.
 */
#include "x86/sem/block.h"
#include "x86/sem/hot.h"

/* The target cut to the operand size, checked. */
static ALWAYS_INLINE uint64_t branch_target(struct x86_cpu *c, const struct op *op, uint64_t to)
{
    if (likely(op->size == 8)) {
        if (unlikely(!x86_canonical(to)))
            x86_raise_gp0(c);
        return to;
    }
    to = op->size == 2 ? (uint16_t)to : (uint32_t)to;
    if (unlikely(to > c->s.seg[X86_CS].limit))
        x86_raise_gp0(c);
    return to;
}

/* The same for a relative branch, which counts from the next instruction. */
static ALWAYS_INLINE uint64_t relative_target(struct x86_cpu *c, const struct op *op)
{
    return branch_target(c, op, c->s.gpr[X86_GPR_BLOCK] + op->end + op->imm);
}

/* ---- Jcc: one operation for each condition ---- */

#define JCC(n, condition)                                                                          \
    static const struct op *op_jcc##n(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        if (condition) {                                                                           \
            uint64_t to = relative_target(c, op);                                                  \
            BLOCK_FOLLOW(c, BLOCK_TAKEN, to);                                                      \
        }                                                                                          \
        uint64_t next = x86_next_rip(c, op);                                                       \
        BLOCK_FOLLOW(c, BLOCK_NEXT, next);                                                         \
    }
JCC(0, cc_of(c))
JCC(1, !cc_of(c))
JCC(2, cc_cf(c))
JCC(3, !cc_cf(c))
JCC(4, cc_zf(c))
JCC(5, !cc_zf(c))
JCC(6, cc_cf(c) || cc_zf(c))
JCC(7, !cc_cf(c) && !cc_zf(c))
JCC(8, cc_sf(c))
JCC(9, !cc_sf(c))
JCC(10, cc_pf(c))
JCC(11, !cc_pf(c))
JCC(12, cc_sf(c) != cc_of(c))
JCC(13, cc_sf(c) == cc_of(c))
JCC(14, cc_zf(c) || cc_sf(c) != cc_of(c))
JCC(15, !cc_zf(c) && cc_sf(c) == cc_of(c))

static op_fn *const jcc_by[] = {op_jcc0,  op_jcc1,  op_jcc2,  op_jcc3, op_jcc4,  op_jcc5,
                                op_jcc6,  op_jcc7,  op_jcc8,  op_jcc9, op_jcc10, op_jcc11,
                                op_jcc12, op_jcc13, op_jcc14, op_jcc15};
const struct sem jcc_sem = {.by = jcc_by, .kind = SEM_BY_CONDITION, .flags = SEM_ENDS};

/* ---- LOOP, LOOPE, LOOPNE, JCXZ: the count register is as wide as an address ---- */

static ALWAYS_INLINE unsigned count_size(const struct op *op)
{
    return op->flags & OPF_ADDR16 ? 2 : op->flags & OPF_ADDR32 ? 4 : 8;
}

#define LOOP(name, decrement, condition)                                                           \
    static const struct op *op_##name(struct x86_cpu *c, const struct op *op)                      \
    {                                                                                              \
        unsigned size = count_size(op);                                                            \
        uint64_t n = cut(gpr_read(c, X86_RCX, size) - (decrement), size * 8);                      \
        uint64_t next = x86_next_rip(c, op);                                                       \
        bool taken = (condition);                                                                  \
        if (taken)                                                                                 \
            next = relative_target(c, op);                                                         \
        if (decrement)                                                                             \
            gpr_write(c, X86_RCX, size, n);                                                        \
        if (taken)                                                                                 \
            BLOCK_FOLLOW(c, BLOCK_TAKEN, next);                                                    \
        BLOCK_FOLLOW(c, BLOCK_NEXT, next);                                                         \
    }                                                                                              \
    const struct sem name##_sem = {.any = op_##name, .flags = SEM_ENDS};

LOOP(loop, 1, n != 0)
LOOP(loope, 1, n != 0 && cc_zf(c))
LOOP(loopne, 1, n != 0 && !cc_zf(c))
LOOP(jcxz, 0, n == 0)

/* ---- JMP ---- */

static const struct op *op_jmp(struct x86_cpu *c, const struct op *op)
{
    uint64_t to = relative_target(c, op);
    BLOCK_FOLLOW(c, BLOCK_TAKEN, to);
}
const struct sem jmp_sem = {.any = op_jmp, .flags = SEM_ENDS};

static const struct op *op_jmp_rm(struct x86_cpu *c, const struct op *op)
{
    uint64_t to = op->size == 8 ? rm_value(c, op, 64) : op_rm_read(c, op, op->size);
    to = branch_target(c, op, to);
    BLOCK_JUMP(c, to);
}
const struct sem jmp_rm_sem = {.any = op_jmp_rm, .flags = SEM_ENDS};

/* ---- CALL and RET: the 64-bit stack is flat, the others go the general way ---- */

static COLD void push_return_slow(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp = x86_stack_pointer(c);
    x86_push_at(c, &sp, op->size, x86_next_rip(c, op));
    x86_stack_commit(c, sp);
}

static ALWAYS_INLINE void push_return(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp = c->s.gpr[X86_RSP] - 8;
    void *p = stack_host(c, sp, true);
    if (unlikely(op->size != 8 || !p)) {
        push_return_slow(c, op);
        return;
    }
    store_u64(p, c->s.gpr[X86_GPR_BLOCK] + op->end);
    c->s.gpr[X86_RSP] = sp;
}

static const struct op *op_call(struct x86_cpu *c, const struct op *op)
{
    uint64_t to = relative_target(c, op);
    push_return(c, op);
    BLOCK_FOLLOW(c, BLOCK_TAKEN, to);
}
const struct sem call_sem = {.any = op_call, .flags = SEM_ENDS};

static const struct op *op_call_rm(struct x86_cpu *c, const struct op *op)
{
    uint64_t to = op->size == 8 ? rm_value(c, op, 64) : op_rm_read(c, op, op->size);
    /* The stack's faults come before the target's. */
    if (unlikely(op->size == 8 && !x86_canonical(to)))
        x86_probe_write(c, c->s.gpr[X86_RSP] - 8, 8, X86_SS);
    to = branch_target(c, op, to);
    push_return(c, op);
    BLOCK_JUMP(c, to);
}
const struct sem call_rm_sem = {.any = op_call_rm, .flags = SEM_ENDS};

/* op->imm: the bytes of arguments that RET imm16 drops. */
static const struct op *op_ret(struct x86_cpu *c, const struct op *op)
{
    uint64_t sp = c->s.gpr[X86_RSP], to;
    const void *p = stack_host(c, sp, false);
    if (likely(op->size == 8 && p)) {
        to = branch_target(c, op, load_u64(p));
        c->s.gpr[X86_RSP] = sp + 8 + op->imm;
    } else {
        to = x86_ret_slow(c, op);
    }
    BLOCK_JUMP(c, to);
}
const struct sem ret_sem = {.any = op_ret, .flags = SEM_ENDS};

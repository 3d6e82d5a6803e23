/*
 * Moves: MOV MOVZX MOVSX MOVSXD LEA XCHG BSWAP MOVBE CMOVcc SETcc CBW CWD XLAT NOP.
 */
#include "x86/sem/hot.h"

/* ---- MOV ---- */

#define MOV(bits)                                                                                  \
    OP_HOT(mov_rr##bits)                                                                           \
    {                                                                                              \
        reg_set(c, op, rm_get(c, op, bits), bits);                                                 \
    }                                                                                              \
    OP_LOAD(mov_rm##bits, bits)                                                                    \
    {                                                                                              \
        reg_set(c, op, m, bits);                                                                   \
    }                                                                                              \
    OP_STORE(mov_mr##bits, bits)                                                                   \
    {                                                                                              \
        return reg_get(c, op, bits);                                                               \
    }                                                                                              \
    OP_HOT(mov_ri##bits)                                                                           \
    {                                                                                              \
        rm_set(c, op, op->imm, bits);                                                              \
    }                                                                                              \
    OP_STORE(mov_mi##bits, bits)                                                                   \
    {                                                                                              \
        return op->imm;                                                                            \
    }
MOV(8)
MOV(16)
MOV(32)
MOV(64)

static op_fn *const mov_by[] = {BY_SIZE(mov_rr), BY_SIZE(mov_rm), BY_SIZE(mov_mr), BY_SIZE(mov_ri),
                                BY_SIZE(mov_mi)};
const struct sem mov_sem = {.by = mov_by, .kind = SEM_BY_PATTERN};

/* AL, AX, EAX, RAX from and to an absolute offset (op->imm). */
OP(mov_moffs_load)
{
    uint64_t lin = x86_linear(c, op->seg, op->imm, op->size, X86_READ);
    gpr_write(c, X86_RAX, op->size, lin_read_size(c, lin, op->seg, op->size));
}

OP(mov_moffs_store)
{
    uint64_t lin = x86_linear(c, op->seg, op->imm, op->size, X86_WRITE);
    lin_write_size(c, lin, op->seg, gpr_read(c, X86_RAX, op->size), op->size);
}

/* ---- MOVZX, MOVSX: the source's size is in the name, the destination's is the table's ---- */

#define EXTEND(name, from, to, expression)                                                         \
    OP_HOT(name##_rr##to)                                                                          \
    {                                                                                              \
        uint64_t m = rm_get(c, op, from);                                                          \
        reg_set(c, op, (expression), to);                                                          \
    }                                                                                              \
    OP_LOAD(name##_rm##to, from)                                                                   \
    {                                                                                              \
        reg_set(c, op, (expression), to);                                                          \
    }

#define EXTEND_SEM(name, from, expression)                                                         \
    EXTEND(name, from, 16, expression)                                                             \
    EXTEND(name, from, 32, expression)                                                             \
    EXTEND(name, from, 64, expression)                                                             \
    static op_fn *const name##_by[] = {                                                            \
        NULL,    op_##name##_rr16, op_##name##_rr32, op_##name##_rr64, /* RR */                    \
        NULL,    op_##name##_rm16, op_##name##_rm32, op_##name##_rm64, /* RM */                    \
        NO_SIZE, NO_SIZE,          NO_SIZE};                                                       \
    const struct sem name##_sem = {.by = name##_by, .kind = SEM_BY_PATTERN};

EXTEND_SEM(movzx_b, 8, m)
EXTEND_SEM(movzx_w, 16, m)
EXTEND_SEM(movsx_b, 8, (uint64_t)(int8_t)m)
EXTEND_SEM(movsx_w, 16, (uint64_t)(int16_t)m)
EXTEND_SEM(movsxd, 32, (uint64_t)(int32_t)m)

/* ---- LEA: the offset alone, cut to the address size, then to the operand size ---- */

#define LEA(bits)                                                                                  \
    OP_HOT(lea_rm##bits)                                                                           \
    {                                                                                              \
        reg_set(c, op, op_offset(c, op), bits);                                                    \
    }
LEA(16)
LEA(32)
LEA(64)
static op_fn *const lea_by[] = {NO_SIZE,     NULL,    op_lea_rm16, op_lea_rm32,
                                op_lea_rm64, NO_SIZE, NO_SIZE,     NO_SIZE};
const struct sem lea_sem = {.by = lea_by, .kind = SEM_BY_PATTERN};

/* ---- XCHG: with memory it is always locked ---- */

OP(xchg)
{
    if (op->ea == EA_REG) {
        uint64_t a = gpr_read(c, op->reg, op->size);
        uint64_t b = gpr_read(c, op->rm, op->size);
        gpr_write(c, op->rm, op->size, a);
        gpr_write(c, op->reg, op->size, b);
        return;
    }
    uint64_t lin = op_linear(c, op, op->size, X86_RMW);
    uint64_t desired = gpr_read(c, op->reg, op->size);
    void *p = x86_lock_begin(c, lin, op->size, op->seg);
    uint64_t old;
    if (p) {
        old = x86_host_load(p, op->size);
        while (!x86_host_cas(p, op->size, &old, desired))
            ;
    } else {
        old = lin_read_size(c, lin, op->seg, op->size);
        lin_write_size(c, lin, op->seg, desired, op->size);
        x86_lock_end(c);
    }
    gpr_write(c, op->reg, op->size, old);
}

/* ---- bytes turned round ---- */

static uint64_t byte_swap(uint64_t v, unsigned size)
{
    switch (size) {
    case 2: return __builtin_bswap16((uint16_t)v);
    case 4: return __builtin_bswap32((uint32_t)v);
    default: return __builtin_bswap64(v);
    }
}

/* With a 16-bit operand the result is undefined; processors clear the register's low half. */
OP_HOT(bswap)
{
    if (op->size == 2)
        gpr_write(c, op->rm, 2, 0);
    else
        gpr_write(c, op->rm, op->size, byte_swap(gpr_read(c, op->rm, op->size), op->size));
}
const struct sem bswap_sem = {.any = op_bswap};

OP(movbe_load)
{
    gpr_write(c, op->reg, op->size, byte_swap(op_rm_read(c, op, op->size), op->size));
}

OP(movbe_store)
{
    op_rm_write(c, op, op->size, byte_swap(gpr_read(c, op->reg, op->size), op->size));
}

/* ---- on a condition ---- */

/* One operation for each condition, so that only the operands are looked at. */
#define CONDITIONS(X)                                                                              \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define CONDITION_TABLE(name)                                                                      \
    static op_fn *const name##_by[] = {                                                            \
        op_##name##0,  op_##name##1,  op_##name##2,  op_##name##3, op_##name##4,  op_##name##5,    \
        op_##name##6,  op_##name##7,  op_##name##8,  op_##name##9, op_##name##10, op_##name##11,   \
        op_##name##12, op_##name##13, op_##name##14, op_##name##15};                               \
    const struct sem name##_sem = {.by = name##_by, .kind = SEM_BY_CONDITION};

/* A source in memory is read (and may fault) whether the condition holds or not, and a 32-bit
 * destination is zero-extended either way. */
static ALWAYS_INLINE void cmov_value(struct x86_cpu *c, const struct op *op, bool move, uint64_t v)
{
    if (op->size == 8)
        c->s.gpr[op->reg] = move ? v : c->s.gpr[op->reg];
    else if (op->size == 4)
        c->s.gpr[op->reg] = (uint32_t)(move ? v : c->s.gpr[op->reg]);
    else if (move)
        gpr_write(c, op->reg, 2, v);
}

static COLD const struct op *general_cmovcc(struct x86_cpu *c, const struct op *op)
{
    uint64_t v = op_rm_read(c, op, op->size);
    cmov_value(c, op, cc_test(c, op->cc), v);
    return op + 1;
}

#define CMOV(n)                                                                                    \
    static const struct op *op_cmovcc##n(struct x86_cpu *c, const struct op *op)                   \
    {                                                                                              \
        if (unlikely(op->ea != EA_REG))                                                            \
            return general_cmovcc(c, op);                                                          \
        cmov_value(c, op, cc_test(c, n), c->s.gpr[op->rm]);                                        \
        OP_NEXT(c, op + 1);                                                                        \
    }
CONDITIONS(CMOV)
CONDITION_TABLE(cmovcc)

static COLD const struct op *general_setcc(struct x86_cpu *c, const struct op *op)
{
    op_rm_write(c, op, 1, cc_test(c, op->cc));
    return op + 1;
}

#define SET(n)                                                                                     \
    static const struct op *op_setcc##n(struct x86_cpu *c, const struct op *op)                    \
    {                                                                                              \
        if (unlikely(op->ea != EA_REG))                                                            \
            return general_setcc(c, op);                                                           \
        gpr_write(c, op->rm, 1, cc_test(c, n));                                                    \
        OP_NEXT(c, op + 1);                                                                        \
    }
CONDITIONS(SET)
CONDITION_TABLE(setcc)

/* ---- sign extension within RAX and RDX ---- */

OP_HOT(cbw)
{
    unsigned half = op->size * 4;
    gpr_write(c, X86_RAX, op->size, (uint64_t)bits_sign_extend(c->s.gpr[X86_RAX], half));
}
const struct sem cbw_sem = {.any = op_cbw};

OP_HOT(cwd)
{
    bool negative = c->s.gpr[X86_RAX] >> (op->size * 8 - 1) & 1;
    gpr_write(c, X86_RDX, op->size, negative ? ~UINT64_C(0) : 0);
}
const struct sem cwd_sem = {.any = op_cwd};

/* Undocumented, but on every processor: AL becomes all ones or 0 as CF says. */
OP_HOT(salc)
{
    gpr_write(c, X86_RAX, 1, cc_cf(c) ? 0xff : 0);
}
const struct sem salc_sem = {.any = op_salc};

OP(xlat)
{
    uint64_t offset = c->s.gpr[X86_RBX] + (uint8_t)c->s.gpr[X86_RAX];
    if (op->flags & OPF_ADDR32)
        offset = (uint32_t)offset;
    else if (op->flags & OPF_ADDR16)
        offset = (uint16_t)offset;
    uint64_t lin = x86_linear(c, op->seg, offset, 1, X86_READ);
    gpr_write(c, X86_RAX, 1, x86_read8(c, lin, op->seg));
}

OP_HOT(nop) {}
const struct sem nop_sem = {.any = op_nop};

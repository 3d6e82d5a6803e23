/*
 * Integer arithmetic and logic: ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT.
 *
 * Each instruction is one inline function of two values that sets the flags and returns the result;
 * the tables below make an operation of it for each pattern of operands and each size.
 */
#include "x86/sem/hot.h"

static ALWAYS_INLINE uint64_t alu_add(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    uint64_t r = a + b;
    cc_arith(c, r, carries_of_add(a, b, r), bits);
    return r;
}
static ALWAYS_INLINE uint64_t alu_adc(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    uint64_t r = a + b + cc_cf(c);
    cc_arith(c, r, carries_of_add(a, b, r), bits);
    return r;
}
static ALWAYS_INLINE uint64_t alu_sub(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    uint64_t r = a - b;
    cc_arith(c, r, carries_of_sub(a, b, r), bits);
    return r;
}
static ALWAYS_INLINE uint64_t alu_sbb(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    uint64_t r = a - b - cc_cf(c);
    cc_arith(c, r, carries_of_sub(a, b, r), bits);
    return r;
}
static ALWAYS_INLINE uint64_t alu_and(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    cc_logic(c, a & b, bits);
    return a & b;
}
static ALWAYS_INLINE uint64_t alu_or(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    cc_logic(c, a | b, bits);
    return a | b;
}
static ALWAYS_INLINE uint64_t alu_xor(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    cc_logic(c, a ^ b, bits);
    return a ^ b;
}

/* INC and DEC leave CF alone: bit 63 of aux stays, bit 62 keeps CF ^ OF true. */
static ALWAYS_INLINE void cc_keep_cf(struct x86_cpu *c, uint64_t r, uint64_t carries, unsigned bits)
{
    uint64_t cf = c->cc.aux & BIT(63);
    uint64_t k = cc_carries(carries, bits);
    uint64_t of = (k ^ k << 1) & BIT(63);
    c->cc.result = bits_sign_extend(r, bits);
    c->cc.aux = cf | (cf ^ of) >> 1 | (k & BIT(3));
}
static ALWAYS_INLINE uint64_t alu_inc(struct x86_cpu *c, uint64_t a, unsigned bits)
{
    uint64_t r = a + 1;
    cc_keep_cf(c, r, carries_of_add(a, 1, r), bits);
    return r;
}
static ALWAYS_INLINE uint64_t alu_dec(struct x86_cpu *c, uint64_t a, unsigned bits)
{
    uint64_t r = a - 1;
    cc_keep_cf(c, r, carries_of_sub(a, 1, r), bits);
    return r;
}
static ALWAYS_INLINE uint64_t alu_neg(struct x86_cpu *c, uint64_t a, unsigned bits)
{
    return alu_sub(c, 0, a, bits);
}
static ALWAYS_INLINE uint64_t alu_not(struct x86_cpu *c, uint64_t a, unsigned bits)
{
    return ~a;
}

/* ---- two operands, the first is written ---- */

#define BINARY(name, bits)                                                                         \
    OP_HOT(name##_rr##bits)                                                                        \
    {                                                                                              \
        reg_set(c, op, alu_##name(c, reg_get(c, op, bits), rm_get(c, op, bits), bits), bits);      \
    }                                                                                              \
    OP_LOAD(name##_rm##bits, bits)                                                                 \
    {                                                                                              \
        reg_set(c, op, alu_##name(c, reg_get(c, op, bits), m, bits), bits);                        \
    }                                                                                              \
    OP_RMW(name##_mr##bits, bits)                                                                  \
    {                                                                                              \
        return alu_##name(c, m, reg_get(c, op, bits), bits);                                       \
    }                                                                                              \
    OP_HOT(name##_ri##bits)                                                                        \
    {                                                                                              \
        rm_set(c, op, alu_##name(c, rm_get(c, op, bits), cut(op->imm, bits), bits), bits);         \
    }                                                                                              \
    OP_RMW(name##_mi##bits, bits)                                                                  \
    {                                                                                              \
        return alu_##name(c, m, cut(op->imm, bits), bits);                                         \
    }

#define LOCKED_CASE(name, bits, operand)                                                           \
    case bits / 8:                                                                                 \
        MEM_LOCKED(bits / 8, alu_##name(c, m, cut(operand, bits), bits));                          \
        break;

#define BINARY_SEM(name)                                                                           \
    BINARY(name, 8)                                                                                \
    BINARY(name, 16)                                                                               \
    BINARY(name, 32)                                                                               \
    BINARY(name, 64)                                                                               \
    static const struct op *op_##name##_lock(struct x86_cpu *c, const struct op *op)               \
    {                                                                                              \
        uint64_t b = op->flags & OPF_IMM ? op->imm : gpr_read(c, op->reg, op->size);               \
        switch (op->size) {                                                                        \
            LOCKED_CASE(name, 8, b)                                                                \
            LOCKED_CASE(name, 16, b)                                                               \
            LOCKED_CASE(name, 32, b)                                                               \
            LOCKED_CASE(name, 64, b)                                                               \
        }                                                                                          \
        return op + 1;                                                                             \
    }                                                                                              \
    static op_fn *const name##_by[] = {BY_SIZE(name##_rr), BY_SIZE(name##_rm), BY_SIZE(name##_mr), \
                                       BY_SIZE(name##_ri), BY_SIZE(name##_mi)};                    \
    const struct sem name##_sem = {                                                                \
        .by = name##_by, .lock = op_##name##_lock, .kind = SEM_BY_PATTERN};

BINARY_SEM(add)
BINARY_SEM(adc)
BINARY_SEM(sub)
BINARY_SEM(sbb)
BINARY_SEM(and)
BINARY_SEM(or)
BINARY_SEM(xor)

/* ---- two operands, only the flags are written ---- */

#define COMPARE(name, alu, bits)                                                                   \
    OP_HOT(name##_rr##bits)                                                                        \
    {                                                                                              \
        alu_##alu(c, reg_get(c, op, bits), rm_get(c, op, bits), bits);                             \
    }                                                                                              \
    OP_LOAD(name##_rm##bits, bits)                                                                 \
    {                                                                                              \
        alu_##alu(c, reg_get(c, op, bits), m, bits);                                               \
    }                                                                                              \
    OP_LOAD(name##_mr##bits, bits)                                                                 \
    {                                                                                              \
        alu_##alu(c, m, reg_get(c, op, bits), bits);                                               \
    }                                                                                              \
    OP_HOT(name##_ri##bits)                                                                        \
    {                                                                                              \
        alu_##alu(c, rm_get(c, op, bits), cut(op->imm, bits), bits);                               \
    }                                                                                              \
    OP_LOAD(name##_mi##bits, bits)                                                                 \
    {                                                                                              \
        alu_##alu(c, m, cut(op->imm, bits), bits);                                                 \
    }

#define COMPARE_SEM(name, alu)                                                                     \
    COMPARE(name, alu, 8)                                                                          \
    COMPARE(name, alu, 16)                                                                         \
    COMPARE(name, alu, 32)                                                                         \
    COMPARE(name, alu, 64)                                                                         \
    static op_fn *const name##_by[] = {BY_SIZE(name##_rr), BY_SIZE(name##_rm), BY_SIZE(name##_mr), \
                                       BY_SIZE(name##_ri), BY_SIZE(name##_mi)};                    \
    const struct sem name##_sem = {.by = name##_by, .kind = SEM_BY_PATTERN};

COMPARE_SEM(cmp, sub)
COMPARE_SEM(test, and)

/* ---- one operand: patterns RI (a register) and MI (memory) ---- */

#define UNARY(name, bits)                                                                          \
    OP_HOT(name##_ri##bits)                                                                        \
    {                                                                                              \
        rm_set(c, op, alu_##name(c, rm_get(c, op, bits), bits), bits);                             \
    }                                                                                              \
    OP_RMW(name##_mi##bits, bits)                                                                  \
    {                                                                                              \
        return alu_##name(c, m, bits);                                                             \
    }

#define UNARY_LOCKED_CASE(name, bits)                                                              \
    case bits / 8:                                                                                 \
        MEM_LOCKED(bits / 8, alu_##name(c, m, bits));                                              \
        break;

#define UNARY_SEM(name)                                                                            \
    UNARY(name, 8)                                                                                 \
    UNARY(name, 16)                                                                                \
    UNARY(name, 32)                                                                                \
    UNARY(name, 64)                                                                                \
    static const struct op *op_##name##_lock(struct x86_cpu *c, const struct op *op)               \
    {                                                                                              \
        switch (op->size) {                                                                        \
            UNARY_LOCKED_CASE(name, 8)                                                             \
            UNARY_LOCKED_CASE(name, 16)                                                            \
            UNARY_LOCKED_CASE(name, 32)                                                            \
            UNARY_LOCKED_CASE(name, 64)                                                            \
        }                                                                                          \
        return op + 1;                                                                             \
    }                                                                                              \
    static op_fn *const name##_by[] = {NO_SIZE, NO_SIZE, NO_SIZE, BY_SIZE(name##_ri),              \
                                       BY_SIZE(name##_mi)};                                        \
    const struct sem name##_sem = {                                                                \
        .by = name##_by, .lock = op_##name##_lock, .kind = SEM_BY_PATTERN};

UNARY_SEM(inc)
UNARY_SEM(dec)
UNARY_SEM(neg)
UNARY_SEM(not )

/*
 * FMA: products with a sum, rounded once.
 *
 * The digits in a mnemonic say which operands are multiplied and which is added: 1 is the
 * destination, 2 vvvv, 3 the source.
 */
#include "x86/sem/simd.h"

/* What is done with the product and the third number. */
enum { NEGATE_PRODUCT = 1, SUBTRACT = 2 };

/* A number with its sign changed; a NaN as it was, since its sign is the result's. */
static inline uint32_t negated32(uint32_t v)
{
    bool is_nan = (v << 1) > UINT32_C(0xff000000);
    return is_nan ? v : v ^ UINT32_C(1) << 31;
}
static inline uint64_t negated64(uint64_t v)
{
    bool is_nan = (v << 1) > UINT64_C(0xffe0000000000000);
    return is_nan ? v : v ^ UINT64_C(1) << 63;
}

typedef void fma_fn(struct sf_env *env, union x86_vec *r, const union x86_vec *x,
                    const union x86_vec *y, const union x86_vec *z, unsigned count, unsigned how);

/* r = x * y + z for `count` elements, `how` the even ones and, in its upper half, the odd ones. */
#define FMA_ELEMENTS(bits)                                                                         \
    static void fma##bits(struct sf_env *env, union x86_vec *r, const union x86_vec *x,            \
                          const union x86_vec *y, const union x86_vec *z, unsigned count,          \
                          unsigned how)                                                            \
    {                                                                                              \
        for (unsigned i = 0; i < count; i++) {                                                     \
            unsigned now = i & 1 ? how >> 4 : how & 15;                                            \
            uint##bits##_t first = x->u##bits[i], third = z->u##bits[i];                           \
            first = now & NEGATE_PRODUCT ? negated##bits(first) : first;                           \
            third = now & SUBTRACT ? negated##bits(third) : third;                                 \
            r->u##bits[i] = sf##bits##_fma(env, first, y->u##bits[i], third);                      \
        }                                                                                          \
    }
FMA_ELEMENTS(32)
FMA_ELEMENTS(64)

/* The operands by their place in the mnemonic's digits, as numbers of 1 to 3. */
static ALWAYS_INLINE void fma_run(struct x86_cpu *c, const struct op *op, unsigned digits,
                                  unsigned elem_bytes, bool scalar, unsigned how)
{
    avx_check(c);
    union x86_vec source = scalar ? vex_source_n(c, op, elem_bytes) : vex_source(c, op);
    union x86_vec r = c->s.vec[op->reg];
    const union x86_vec *operand[3] = {&c->s.vec[op->reg], &c->s.vec[op->cc], &source};
    const union x86_vec *x = operand[digits / 100 - 1], *y = operand[digits / 10 % 10 - 1],
                        *z = operand[digits % 10 - 1];
    struct sf_env env = sf_env_mxcsr(c->s.mxcsr);
    (elem_bytes == 4 ? fma32 : fma64)(&env, &r, x, y, z, scalar ? 1 : op->size / elem_bytes, how);
    x86_sse_report(c, &env);
    vex_write(c, op->reg, &r, scalar ? 16 : op->size);
}

#define FMA_PACKED(name, digits, how)                                                              \
    OP(name##digits##ps)                                                                           \
    {                                                                                              \
        fma_run(c, op, digits, 4, false, how);                                                     \
    }                                                                                              \
    OP(name##digits##pd)                                                                           \
    {                                                                                              \
        fma_run(c, op, digits, 8, false, how);                                                     \
    }
#define FMA_SCALAR(name, digits, how)                                                              \
    OP(name##digits##ss)                                                                           \
    {                                                                                              \
        fma_run(c, op, digits, 4, true, how);                                                      \
    }                                                                                              \
    OP(name##digits##sd)                                                                           \
    {                                                                                              \
        fma_run(c, op, digits, 8, true, how);                                                      \
    }

#define FMA_ORDERS(kind, name, how) kind(name, 132, how) kind(name, 213, how) kind(name, 231, how)
#define FMA(name, how)                                                                             \
    FMA_ORDERS(FMA_PACKED, name, (how) | (how) << 4)                                               \
    FMA_ORDERS(FMA_SCALAR, name, how)
FMA(vfmadd, 0)
FMA(vfmsub, SUBTRACT)
FMA(vfnmadd, NEGATE_PRODUCT)
FMA(vfnmsub, NEGATE_PRODUCT | SUBTRACT)
FMA_ORDERS(FMA_PACKED, vfmaddsub, SUBTRACT)
FMA_ORDERS(FMA_PACKED, vfmsubadd, SUBTRACT << 4)

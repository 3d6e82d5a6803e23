/*
 * Integer arithmetic, logic and comparisons on vectors: MMX, SSE and AVX forms in one.
 */
#include "x86/sem/simd.h"

static inline int saturate(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}
#define SAT_I8(v)  saturate(v, INT8_MIN, INT8_MAX)
#define SAT_U8(v)  saturate(v, 0, UINT8_MAX)
#define SAT_I16(v) saturate(v, INT16_MIN, INT16_MAX)
#define SAT_U16(v) saturate(v, 0, UINT16_MAX)

/* ---- sums and differences ---- */

EACH(paddb, u8, x + y)
EACH(paddw, u16, x + y)
EACH(paddd, u32, x + y)
EACH(paddq, u64, x + y)
EACH(psubb, u8, x - y)
EACH(psubw, u16, x - y)
EACH(psubd, u32, x - y)
EACH(psubq, u64, x - y)
EACH(paddsb, i8, SAT_I8(x + y))
EACH(paddsw, i16, SAT_I16(x + y))
EACH(paddusb, u8, SAT_U8(x + y))
EACH(paddusw, u16, SAT_U16(x + y))
EACH(psubsb, i8, SAT_I8(x - y))
EACH(psubsw, i16, SAT_I16(x - y))
EACH(psubusb, u8, SAT_U8(x - y))
EACH(psubusw, u16, SAT_U16(x - y))
EACH(pavgb, u8, (x + y + 1) >> 1)
EACH(pavgw, u16, (x + y + 1) >> 1)

/* ---- products ---- */

EACH(pmullw, i16, x *y)
EACH(pmulhw, i16, x *y >> 16)
EACH(pmulhuw, u16, (uint32_t)x *y >> 16)
EACH(pmulhrsw, i16, ((x * y >> 14) + 1) >> 1)
EACH(pmulld, u32, x *y)
EACH(pmuludq, u64, (x & UINT32_MAX) * (y & UINT32_MAX))
EACH(pmuldq, i64, (int64_t)(int32_t)x *(int32_t)y)

SIMD(pmaddwd)
{
    for (unsigned i = 0; i < bytes / 4; i++)
        r->u32[i] = (uint32_t)(a->i16[2 * i] * b->i16[2 * i]) +
                    (uint32_t)(a->i16[2 * i + 1] * b->i16[2 * i + 1]);
}

SIMD(pmaddubsw)
{
    for (unsigned i = 0; i < bytes / 2; i++)
        r->i16[i] =
            (int16_t)SAT_I16(a->u8[2 * i] * b->i8[2 * i] + a->u8[2 * i + 1] * b->i8[2 * i + 1]);
}

/* ---- minimum, maximum, absolute value, sign ---- */

#define MIN_MAX(size_letter, signed_elem, unsigned_elem)                                           \
    EACH(pmins##size_letter, signed_elem, x < y ? x : y)                                           \
    EACH(pmaxs##size_letter, signed_elem, x > y ? x : y)                                           \
    EACH(pminu##size_letter, unsigned_elem, x < y ? x : y)                                         \
    EACH(pmaxu##size_letter, unsigned_elem, x > y ? x : y)
MIN_MAX(b, i8, u8)
MIN_MAX(w, i16, u16)
MIN_MAX(d, i32, u32)

EACH(pabsb, i8, y < 0 ? -y : y)
EACH(pabsw, i16, y < 0 ? -y : y)
EACH(pabsd, u32, y >> 31 ? -y : y)
EACH(psignb, i8, y < 0 ? -x : y ? x : 0)
EACH(psignw, i16, y < 0 ? -x : y ? x : 0)
EACH(psignd, u32, y >> 31 ? -x : y ? x : 0)

/* ---- comparisons: all ones for true ---- */

EACH(pcmpeqb, i8, -(x == y))
EACH(pcmpeqw, i16, -(x == y))
EACH(pcmpeqd, i32, -(x == y))
EACH(pcmpeqq, i64, -(x == y))
EACH(pcmpgtb, i8, -(x > y))
EACH(pcmpgtw, i16, -(x > y))
EACH(pcmpgtd, i32, -(x > y))
EACH(pcmpgtq, i64, -(x > y))

/* ---- logic ---- */

#define LOGIC(integer, single, expr)                                                               \
    EACH(integer, u64, expr)                                                                       \
    EACH(single##ps, u64, expr)                                                                    \
    EACH(single##pd, u64, expr)
LOGIC(pand, and, x &y)
LOGIC(pandn, andn, ~x &y)
LOGIC(por, or, x | y)
LOGIC(pxor, xor, x ^ y)

/* ZF: no bit of the source is set in the destination; CF: none is set outside of it. Only the bits
 * in `mask` count. */
static void test_bits(struct x86_cpu *c, const union x86_vec *a, const union x86_vec *b,
                      unsigned bytes, uint64_t mask)
{
    uint64_t inside = 0, outside = 0;
    for (unsigned i = 0; i < bytes / 8; i++) {
        inside |= a->u64[i] & b->u64[i] & mask;
        outside |= ~a->u64[i] & b->u64[i] & mask;
    }
    x86_set_status(c, (inside ? 0 : FLAG_ZF) | (outside ? 0 : FLAG_CF));
}

OP(ptest)
{
    sse_check(c);
    union x86_vec b = {0};
    *vec_lane(&b, 0) = sse_source(c, op);
    test_bits(c, &c->s.vec[op->reg], &b, 16, UINT64_MAX);
}

#define TEST_BITS(name, mask)                                                                      \
    OP(name)                                                                                       \
    {                                                                                              \
        avx_check(c);                                                                              \
        union x86_vec b = vex_source(c, op);                                                       \
        test_bits(c, &c->s.vec[op->reg], &b, op->size, mask);                                      \
    }
TEST_BITS(vptest, UINT64_MAX)
TEST_BITS(vtestps, UINT64_C(0x8000000080000000))
TEST_BITS(vtestpd, UINT64_C(0x8000000000000000))

/* ---- horizontal ---- */

/* Neighbours x, y combined: those of a make the lower half of the result, those of b the upper. */
#define PAIRS(name, elem, expr)                                                                    \
    SIMD(name)                                                                                     \
    {                                                                                              \
        unsigned half = bytes / (2 * sizeof r->elem[0]);                                           \
        for (unsigned i = 0; i < 2 * half; i++) {                                                  \
            const union simd_lane *from = i < half ? a : b;                                        \
            unsigned j = 2 * (i & (half - 1));                                                     \
            __auto_type x = from->elem[j];                                                         \
            __auto_type y = from->elem[j + 1];                                                     \
            r->elem[i] = (__typeof__(x))(expr);                                                    \
        }                                                                                          \
    }
PAIRS(phaddw, u16, x + y)
PAIRS(phaddd, u32, x + y)
PAIRS(phaddsw, i16, SAT_I16(x + y))
PAIRS(phsubw, u16, x - y)
PAIRS(phsubd, u32, x - y)
PAIRS(phsubsw, i16, SAT_I16(x - y))

static inline unsigned distance(uint8_t x, uint8_t y)
{
    return x > y ? x - y : y - x;
}

SIMD(psadbw)
{
    for (unsigned i = 0; i < bytes / 8; i++) {
        r->u64[i] = 0;
        for (unsigned j = 8 * i; j < 8 * i + 8; j++)
            r->u64[i] += distance(a->u8[j], b->u8[j]);
    }
}

/* Four bytes of b, chosen by imm[1:0], against eleven of a, from 0 or 4 on (imm[2]); imm[5:3] does
 * the same for the upper lane. */
SIMD_IMM(mpsadbw, 3)
{
    unsigned from_a = imm & 4, from_b = 4 * (imm & 3);
    for (unsigned i = 0; i < 8; i++) {
        unsigned sum = 0;
        for (unsigned j = 0; j < 4; j++)
            sum += distance(a->u8[from_a + i + j], b->u8[from_b + j]);
        r->u16[i] = (uint16_t)sum;
    }
}

/* The smallest word, and in bits 18:16 where it is first. */
SIMD(phminposuw)
{
    unsigned at = 0;
    for (unsigned i = 1; i < 8; i++)
        if (b->u16[i] < b->u16[at])
            at = i;
    *r = (union simd_lane){.u16 = {b->u16[at], (uint16_t)at}};
}

/*
 * RCPxx and RSQRTxx: approximations with a relative error of at most 1.5 * 2^-12.
 *
 * No two processor families give the same bits; ours are the exact result rounded to 12 significant
 * bits. No exception is raised and MXCSR is not looked at: denormal operands count as zeros, tiny
 * results become zeros (SDM 2, RCPPS and RSQRTPS).
 */
#include "x86/sem/simd.h"

enum { EXPONENT_BIAS = 127, EXPONENT_MAX = 255, FRACTION_BITS = 23 };
#define F32_SIGN        UINT32_C(0x80000000)
#define F32_INFINITY    UINT32_C(0x7f800000)
#define F32_QUIET       UINT32_C(0x00400000)
#define F32_DEFAULT_NAN UINT32_C(0xffc00000)
#define F32_FRACTION    UINT32_C(0x007fffff)

static bool is_nan(uint32_t x)
{
    return (x & ~F32_SIGN) > F32_INFINITY;
}

static int exponent(uint32_t x)
{
    return (int)(x >> FRACTION_BITS & EXPONENT_MAX);
}

/* A number from a significand of 12 bits (0x800 to 0xfff) or 0x1000, and a biased exponent from 1
 * to 253. */
static uint32_t compose(uint32_t sign, int biased, uint32_t significand)
{
    return sign | ((((uint32_t)biased - 1) << FRACTION_BITS) + (significand << 12));
}

static uint32_t reciprocal(uint32_t x)
{
    uint32_t sign = x & F32_SIGN;
    if (is_nan(x))
        return x | F32_QUIET;
    int e = exponent(x);
    if (e == 0)
        return sign | F32_INFINITY;
    /* 2^-k * [1, 2): the reciprocal of a power of two is one, of others in (1/2, 1). */
    int result = 2 * EXPONENT_BIAS - 1 - e;
    uint64_t significand = (x & F32_FRACTION) | (F32_FRACTION + 1);
    /* 2^35 / significand is in (2^11, 2^12]. */
    uint64_t quotient = ((UINT64_C(1) << 36) / significand + 1) >> 1;
    if (result < 1)
        return quotient == 0x1000 && result == 0 ? sign | compose(0, 1, 0x800) : sign;
    return compose(sign, result, (uint32_t)quotient);
}

static uint64_t integer_sqrt(uint64_t v)
{
    uint64_t root = 0;
    for (uint64_t bit = UINT64_C(1) << 31; bit; bit >>= 1)
        if ((root | bit) * (root | bit) <= v)
            root |= bit;
    return root;
}

static uint32_t reciprocal_sqrt(uint32_t x)
{
    uint32_t sign = x & F32_SIGN;
    if (is_nan(x))
        return x | F32_QUIET;
    int e = exponent(x);
    if (e == 0)
        return sign | F32_INFINITY;
    if (sign)
        return F32_DEFAULT_NAN;
    if (e == EXPONENT_MAX)
        return 0;
    /* x = m * 2^2k with m in [1, 4); 1 / sqrt(m) is in (1/2, 1]. */
    int k2 = e - EXPONENT_BIAS;
    uint64_t m = (x & F32_FRACTION) | (F32_FRACTION + 1);
    if (k2 & 1) {
        m <<= 1;
        k2--;
    }
    /* sqrt(2^49 / m * 2^...): 2^(23 + 24 + 2) / m is in (2^24, 2^26], whose root has 13 bits. */
    uint64_t root = integer_sqrt((UINT64_C(1) << 49) / m);
    return compose(0, EXPONENT_BIAS - 1 - k2 / 2, (uint32_t)(root + 1) >> 1);
}

#define APPROXIMATE(name, function)                                                                \
    EACH(name##ps, u32, function(y))                                                               \
    OP(name##ss)                                                                                   \
    {                                                                                              \
        sse_check(c);                                                                              \
        uint32_t y = sse_source_n(c, op, 4).u32[0];                                                \
        xmm(c, op->reg)->u32[0] = function(y);                                                     \
    }                                                                                              \
    OP(v##name##ss)                                                                                \
    {                                                                                              \
        avx_check(c);                                                                              \
        union simd_lane r = *xmm(c, op->cc);                                                       \
        r.u32[0] = function(sse_source_n(c, op, 4).u32[0]);                                        \
        vex_write_xmm(c, op->reg, r);                                                              \
    }
APPROXIMATE(rcp, reciprocal)
APPROXIMATE(rsqrt, reciprocal_sqrt)

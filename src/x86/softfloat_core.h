/*
 * What all of softfloat's files share: wide integers, shifts that remember what they lose, and the
 * one decision of rounding. Private to softfloat*.c.
 */
#ifndef DOPPEL_X86_SOFTFLOAT_CORE_H
#define DOPPEL_X86_SOFTFLOAT_CORE_H

#include "base/bits.h"
#include "x86/softfloat.h"

typedef unsigned __int128 sf_u128;

static inline unsigned sf_clz64(uint64_t v) /* v is not 0 */
{
    return (unsigned)__builtin_clzll(v);
}
static inline unsigned sf_clz128(sf_u128 v) /* v is not 0 */
{
    uint64_t hi = (uint64_t)(v >> 64);
    return hi ? sf_clz64(hi) : 64 + sf_clz64((uint64_t)v);
}

/* Shifts right by n and sets bit 0 if a 1 was lost ("jamming"): rounding sees below the half bit
 * that there is more, which is all it needs to know. */
static inline uint64_t sf_jam64(uint64_t v, unsigned n)
{
    if (n >= 64)
        return v != 0;
    return v >> n | ((v & bits_mask(n)) != 0);
}
static inline sf_u128 sf_jam128(sf_u128 v, unsigned n)
{
    if (n >= 128)
        return v != 0;
    return v >> n | (n && v << (128 - n) != 0);
}

/* Whether a magnitude is rounded up, given its lowest kept bit and what is cut off: the half bit
 * and whether anything is below it. */
static ALWAYS_INLINE bool sf_rounds_up(unsigned round, bool sign, bool odd, bool half, bool below)
{
    switch (round) {
    case SF_NEAREST: return half && (below || odd);
    case SF_DOWN: return sign && (half || below);
    case SF_UP: return !sign && (half || below);
    default: return false;
    }
}

/* Whether a masked overflow gives infinity rather than the largest finite number. */
static inline bool sf_overflows_to_infinity(unsigned round, bool sign)
{
    return round == SF_NEAREST || round == (sign ? SF_DOWN : SF_UP);
}

/* floor(sqrt(n)), and n minus its square in *rest; n >= 2^126. (softfloat_sqrt.c) */
uint64_t sf_sqrt128(sf_u128 n, sf_u128 *rest);

/* ---- the 80-bit format (softfloat_f80.c) ---- */

enum { F80_BIAS = 16383, F80_MAX = 0x7fff, F80_WRAP = 24576 };
#define F80_INT   BIT(63) /* the integer bit */
#define F80_QUIET BIT(62)

static inline unsigned f80_exp(sf80 a)
{
    return a.se & F80_MAX;
}
static inline bool f80_sign(sf80 a)
{
    return a.se >> 15;
}
static inline sf80 f80_make(bool sign, unsigned exp, uint64_t mantissa)
{
    return (sf80){.mantissa = mantissa, .se = (uint16_t)((sign ? 0x8000u : 0) | exp)};
}
static inline sf80 f80_inf(bool sign)
{
    return f80_make(sign, F80_MAX, F80_INT);
}
static inline sf80 f80_default_nan(void)
{
    return f80_make(true, F80_MAX, F80_INT | F80_QUIET);
}
static inline bool f80_is_zero(sf80 a)
{
    return f80_exp(a) == 0 && a.mantissa == 0;
}
static inline bool f80_is_inf(sf80 a)
{
    return f80_exp(a) == F80_MAX && a.mantissa == F80_INT;
}
static inline bool f80_is_nan(sf80 a)
{
    return f80_exp(a) == F80_MAX && a.mantissa > F80_INT;
}
static inline bool f80_is_snan(sf80 a)
{
    return f80_is_nan(a) && !(a.mantissa & F80_QUIET);
}
/* Pseudo-denormals are denormals too. */
static inline bool f80_is_denormal(sf80 a)
{
    return f80_exp(a) == 0 && a.mantissa != 0;
}
/* An exponent that asks for the integer bit, without it (SDM 1, 8.2.2). */
static inline bool f80_is_unsupported(sf80 a)
{
    return f80_exp(a) != 0 && !(a.mantissa & F80_INT);
}

/* A finite number that is not 0 as sig * 2^(exp - bias - 63), the top bit of sig set. */
struct f80_num {
    uint64_t sig;
    int exp;
    bool sign;
};
static inline struct f80_num f80_unpack(sf80 a)
{
    unsigned e = f80_exp(a), n = sf_clz64(a.mantissa);
    return (struct f80_num){
        .sig = a.mantissa << n, .exp = (int)(e ? e : 1) - (int)n, .sign = f80_sign(a)};
}

/* Rounds (hi + lo / 2^64) * 2^(exp - bias - 63), hi's top bit set, to `precision` bits; handles
 * overflow and underflow as the x87 does for register destinations. */
sf80 f80_round(struct sf_env *env, bool sign, int exp, uint64_t hi, uint64_t lo,
               unsigned precision);
/* The quiet NaN that an operation on a and b (one of which is a NaN or unsupported) results in. */
sf80 f80_propagate(struct sf_env *env, sf80 a, sf80 b);
static inline bool f80_is_nan_or_unsupported(sf80 a)
{
    return f80_is_nan(a) || f80_is_unsupported(a);
}
static inline sf80 f80_invalid(struct sf_env *env)
{
    env->flags |= SF_IE;
    return f80_default_nan();
}

#endif

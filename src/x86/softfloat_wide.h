/*
 * Numbers with a significand of 128 bits, for transcendental functions: enough beyond the 64 bits
 * of a result that rounding it is right but for one case in about 2^50. Private to softfloat*.c.
 */
#ifndef DOPPEL_X86_SOFTFLOAT_WIDE_H
#define DOPPEL_X86_SOFTFLOAT_WIDE_H

#include "x86/softfloat_core.h"

/* sig * 2^(exp - 127), sig's top bit set. Signs are kept apart. */
struct wide {
    sf_u128 sig;
    int exp;
};

/* A 128-bit constant. */
#define W(hi, lo) ((sf_u128)UINT64_C(hi) << 64 | UINT64_C(lo))

/* The upper half of a product, exact but for its last unit or two. */
static inline sf_u128 wide_mulhi(sf_u128 a, sf_u128 b)
{
    uint64_t ah = (uint64_t)(a >> 64), al = (uint64_t)a;
    uint64_t bh = (uint64_t)(b >> 64), bl = (uint64_t)b;
    sf_u128 middle = (sf_u128)ah * bl, other = (sf_u128)al * bh;
    sf_u128 carry = (sf_u128)(uint64_t)middle + (uint64_t)other + ((sf_u128)al * bl >> 64);
    return (sf_u128)ah * bh + (middle >> 64) + (other >> 64) + (carry >> 64);
}

/* v * 2^(exp - 127), v not 0. */
static inline struct wide wide_make(sf_u128 v, int exp)
{
    unsigned n = sf_clz128(v);
    return (struct wide){v << n, exp - (int)n};
}

/* The magnitude of a finite number other than 0. */
static inline struct wide wide_from_f80(sf80 a)
{
    struct f80_num x = f80_unpack(a);
    return (struct wide){(sf_u128)x.sig << 64, x.exp - F80_BIAS};
}

static inline struct wide wide_mul(struct wide a, struct wide b)
{
    return wide_make(wide_mulhi(a.sig, b.sig), a.exp + b.exp + 1);
}

/* One digit of 64 bits of the quotient (*rest * 2^64) / b; *rest < b. */
static inline uint64_t wide_digit(sf_u128 *rest, sf_u128 b)
{
    uint64_t bh = (uint64_t)(b >> 64), bl = (uint64_t)b;
    sf_u128 q = *rest / bh;
    if (q >> 64)
        q = UINT64_MAX;
    sf_u128 r = *rest - q * bh;
    while (!(r >> 64) && r << 64 < q * bl) {
        q--;
        r += bh;
    }
    *rest = (r << 64) - q * bl;
    return (uint64_t)q;
}

static inline struct wide wide_div(struct wide a, struct wide b)
{
    int exp = a.exp - b.exp - 1;
    if (a.sig >= b.sig) {
        a.sig >>= 1;
        exp++;
    }
    uint64_t hi = wide_digit(&a.sig, b.sig), lo = wide_digit(&a.sig, b.sig);
    return wide_make((sf_u128)hi << 64 | lo, exp);
}

/* a as a fraction in units of 2^-bits: what is smaller is cut off. a must fit. */
static inline sf_u128 wide_fixed(struct wide a, unsigned bits)
{
    int shift = 127 - a.exp - (int)bits;
    return shift > 127 ? 0 : a.sig >> shift;
}

/* c[0] - t * (c[1] - t * (c[2] - ...)), all in the units of c but t, which is in those of 2^-128.
 */
static inline sf_u128 wide_alternating(const sf_u128 *c, unsigned n, sf_u128 t)
{
    sf_u128 v = c[--n];
    while (n)
        v = c[--n] - wide_mulhi(t, v);
    return v;
}
/* The same with sums. */
static inline sf_u128 wide_series(const sf_u128 *c, unsigned n, sf_u128 t)
{
    sf_u128 v = c[--n];
    while (n)
        v = c[--n] + wide_mulhi(t, v);
    return v;
}

/* The number rounded to 80 bits as RC says, never exact: that a transcendental function has a
 * representable value is for its caller to know. */
static inline sf80 wide_round(struct sf_env *env, bool sign, struct wide a)
{
    return f80_round(env, sign, a.exp + F80_BIAS, (uint64_t)(a.sig >> 64), (uint64_t)a.sig | 1, 64);
}

#endif

/*
 * What the x87 does to exponents: FSCALE, FXTRACT, and the partial remainders, which subtract the
 * divisor at one exponent after the other.
 */
#include "x86/softfloat_core.h"

static inline void note_denormal(struct sf_env *env, sf80 a)
{
    if (f80_is_denormal(a))
        env->flags |= SF_DE;
}

/* ---- FSCALE ---- */

/* b cut to an integer; what is beyond +-65536 moves any number out of range. */
static int whole_exponent(sf80 b)
{
    struct f80_num y = f80_unpack(b);
    int e = y.exp - F80_BIAS;
    if (e < 0)
        return 0;
    int n = e >= 16 ? 0x10000 : (int)(y.sig >> (63 - e));
    return y.sign ? -n : n;
}

/* An unmasked overflow or underflow that is out of range even after the exponent wrapped gives an
 * infinity or a zero (SDM 2, FSCALE). */
static sf80 scale(struct sf_env *env, struct f80_num x, int by)
{
    int exp = x.exp + by;
    if (exp >= F80_MAX + F80_WRAP && !(env->masks & SF_OE)) {
        env->flags |= SF_OE | SF_PE;
        env->up = true;
        return f80_inf(x.sign);
    }
    if (exp <= -F80_WRAP && !(env->masks & SF_UE)) {
        env->flags |= SF_UE | SF_PE;
        return f80_make(x.sign, 0, 0);
    }
    return f80_round(env, x.sign, exp, x.sig, 0, 64);
}

sf80 sf80_scale(struct sf_env *env, sf80 a, sf80 b)
{
    if (f80_is_nan_or_unsupported(a) || f80_is_nan_or_unsupported(b))
        return f80_propagate(env, a, b);
    if (f80_is_inf(b)) {
        if (f80_sign(b) ? f80_is_inf(a) : f80_is_zero(a))
            return f80_invalid(env);
        note_denormal(env, a);
        return f80_sign(b) ? f80_make(f80_sign(a), 0, 0) : f80_inf(f80_sign(a));
    }
    note_denormal(env, a);
    note_denormal(env, b);
    if (f80_is_inf(a) || f80_is_zero(a))
        return a;
    return scale(env, f80_unpack(a), f80_is_zero(b) ? 0 : whole_exponent(b));
}

/* ---- FXTRACT ---- */

sf80 sf80_extract(struct sf_env *env, sf80 a, sf80 *significand)
{
    if (f80_is_nan_or_unsupported(a))
        return *significand = f80_propagate(env, a, a);
    *significand = a;
    if (f80_is_inf(a))
        return f80_inf(false);
    if (f80_is_zero(a)) {
        env->flags |= SF_ZE;
        return f80_inf(true);
    }
    note_denormal(env, a);
    struct f80_num x = f80_unpack(a);
    *significand = f80_make(x.sign, F80_BIAS, x.sig);
    return sf80_from_i64(x.exp - F80_BIAS);
}

/* ---- FPREM and FPREM1 ---- */

/* sig * 2^n modulo m, and the quotient's low bits; n >= 0, m's top bit set. */
static uint64_t modulo(uint64_t sig, int n, uint64_t m, uint64_t *quotient)
{
    uint64_t q = sig >= m, rest = q ? sig - m : sig;
    while (n > 0) {
        int step = n < 63 ? n : 63;
        sf_u128 wide = (sf_u128)rest << step;
        q = q << step | (uint64_t)(wide / m);
        rest = (uint64_t)(wide % m);
        n -= step;
    }
    *quotient = q;
    return rest;
}

static sf80 remainder_of(struct sf_env *env, struct f80_num x, struct f80_num y, bool nearest,
                         unsigned *quotient, bool *partial)
{
    int distance = x.exp - y.exp;
    *partial = distance >= 64;
    if (*partial) {
        /* As many exponents as one go takes off, a number from 32 to 63; the rest stays for the
         * next. */
        int taken = (distance & 31) | 32;
        y.exp += distance - taken;
        distance = taken;
        nearest = false;
    }
    if (distance < -1 || (distance == -1 && !nearest)) {
        *quotient = 0;
        return f80_round(env, x.sign, x.exp, x.sig, 0, 64);
    }
    uint64_t q = 0, rest = x.sig;
    int exp = x.exp;
    if (distance >= 0) {
        rest = modulo(x.sig, distance, y.sig, &q);
        exp = y.exp;
    }
    if (nearest) {
        /* Is the rest more than half of the divisor? At distance -1 it is in units of half as
         * much. */
        sf_u128 twice = (sf_u128)rest << (distance < 0 ? 0 : 1);
        if (twice > y.sig || (twice == y.sig && (q & 1))) {
            sf_u128 divisor = (sf_u128)y.sig << (distance < 0 ? 1 : 0);
            rest = (uint64_t)(divisor - rest);
            x.sign = !x.sign;
            q++;
        }
    }
    *quotient = *partial ? 0 : (unsigned)q & 7;
    if (rest == 0)
        return f80_make(x.sign, 0, 0);
    unsigned n = sf_clz64(rest);
    return f80_round(env, x.sign, exp - (int)n, rest << n, 0, 64);
}

sf80 sf80_remainder(struct sf_env *env, sf80 a, sf80 b, bool nearest, unsigned *quotient,
                    bool *partial)
{
    *quotient = 0;
    *partial = false;
    if (f80_is_nan_or_unsupported(a) || f80_is_nan_or_unsupported(b))
        return f80_propagate(env, a, b);
    if (f80_is_inf(a) || f80_is_zero(b))
        return f80_invalid(env);
    note_denormal(env, a);
    note_denormal(env, b);
    if (f80_is_zero(a) || f80_is_inf(b)) {
        if (f80_is_zero(a))
            return a;
        struct f80_num x = f80_unpack(a);
        return f80_round(env, x.sign, x.exp, x.sig, 0, 64);
    }
    return remainder_of(env, f80_unpack(a), f80_unpack(b), nearest, quotient, partial);
}

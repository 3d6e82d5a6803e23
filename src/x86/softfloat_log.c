/*
 * F2XM1, FYL2X and FYL2XP1, to about 2^-110 before they are rounded.
 */
#include "x86/softfloat_wide.h"

/* 1/(k + 1)!, in units of 2^-126. */
static const sf_u128 exp_series[] = {
    W(0x4000000000000000, 0x0000000000000000), W(0x2000000000000000, 0x0000000000000000),
    W(0x0aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab), W(0x02aaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab),
    W(0x0088888888888888, 0x8888888888888889), W(0x0016c16c16c16c16, 0xc16c16c16c16c16c),
    W(0x0003403403403403, 0x4034034034034034), W(0x0000680680680680, 0x6806806806806807),
    W(0x00000b8ef1d2ab63, 0x99c7d560e4472801), W(0x00000127e4fb7789, 0xf5c72ef016d3ea66),
    W(0x0000001ae64567f5, 0x44e38fe747e4b838), W(0x000000023ddb1dff, 0x1b12f6a89b530f5a),
    W(0x000000002c248c27, 0x50da12f9470663a4), W(0x0000000003272e95, 0x180f93a4175be28c),
    W(0x000000000035cfe7, 0xce67703e23b0cad6), W(0x0000000000035cfe, 0x7ce67703e23b0cad),
    W(0x00000000000032a5, 0x8ee0615a94d64c0a), W(0x00000000000002d0, 0x4f0c772fb2ef7601),
    W(0x0000000000000025, 0xe9368d0282ae4994), W(0x0000000000000001, 0xe542ba402022507b),
    W(0x0000000000000000, 0x171b8ef6dcf5718c), W(0x0000000000000000, 0x010ce396db7f8529),
    W(0x0000000000000000, 0x000bb0da098b1c0d), W(0x0000000000000000, 0x00007cb3c065cbd6),
    W(0x0000000000000000, 0x000004fcf3374598), W(0x0000000000000000, 0x000000311d0bf8d5),
    W(0x0000000000000000, 0x00000001d1ab1c2e), W(0x0000000000000000, 0x0000000010a18a26),
};

/* 1/(2k + 1), in units of 2^-127. */
static const sf_u128 atanh_series[] = {
    W(0x8000000000000000, 0x0000000000000000), W(0x2aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab),
    W(0x1999999999999999, 0x999999999999999a), W(0x1249249249249249, 0x2492492492492492),
    W(0x0e38e38e38e38e38, 0xe38e38e38e38e38e), W(0x0ba2e8ba2e8ba2e8, 0xba2e8ba2e8ba2e8c),
    W(0x09d89d89d89d89d8, 0x9d89d89d89d89d8a), W(0x0888888888888888, 0x8888888888888889),
    W(0x0787878787878787, 0x8787878787878788), W(0x06bca1af286bca1a, 0xf286bca1af286bca),
    W(0x0618618618618618, 0x6186186186186186), W(0x0590b21642c8590b, 0x21642c8590b21643),
    W(0x051eb851eb851eb8, 0x51eb851eb851eb85), W(0x04bda12f684bda12, 0xf684bda12f684bda),
    W(0x0469ee58469ee584, 0x69ee58469ee5846a), W(0x0421084210842108, 0x4210842108421084),
    W(0x03e0f83e0f83e0f8, 0x3e0f83e0f83e0f84), W(0x03a83a83a83a83a8, 0x3a83a83a83a83a84),
    W(0x03759f22983759f2, 0x2983759f2298375a), W(0x0348348348348348, 0x3483483483483483),
    W(0x031f3831f3831f38, 0x31f3831f3831f383), W(0x02fa0be82fa0be82, 0xfa0be82fa0be82fa),
    W(0x02d82d82d82d82d8, 0x2d82d82d82d82d83), W(0x02b9310572620ae4, 0xc415c9882b931057),
    W(0x029cbc14e5e0a72f, 0x05397829cbc14e5e),
};

static const struct wide ln2 = {W(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af), -1};
static const struct wide two_log2e = {W(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89), 1};

/* ---- F2XM1 ---- */

/* Of 1 and -1, the last operands that are defined, and of what is beyond: that stays as it is, as
 * on AMD's processors. */
static sf80 exp2m1_beyond(struct sf_env *env, sf80 a)
{
    env->flags |= SF_PE;
    bool minus_one = f80_sign(a) && f80_exp(a) == F80_BIAS && a.mantissa == F80_INT;
    return minus_one ? f80_make(true, F80_BIAS - 1, F80_INT) : a;
}

sf80 sf80_exp2m1(struct sf_env *env, sf80 a)
{
    if (f80_is_nan_or_unsupported(a))
        return f80_propagate(env, a, a);
    bool sign = f80_sign(a);
    if (f80_is_zero(a))
        return a;
    if (f80_is_inf(a))
        return sign ? f80_make(true, F80_BIAS, F80_INT) : a;
    if (f80_is_denormal(a))
        env->flags |= SF_DE;
    if (f80_exp(a) >= F80_BIAS)
        return exp2m1_beyond(env, a);
    /* e^y - 1 = y * (1 + y/2! + y^2/3! + ...) */
    struct wide y = wide_mul(wide_from_f80(a), ln2);
    sf_u128 t = wide_fixed(y, 128);
    sf_u128 series = sign ? wide_alternating(exp_series, ARRAY_LEN(exp_series), t)
                          : wide_series(exp_series, ARRAY_LEN(exp_series), t);
    return wide_round(env, sign, wide_mul(y, wide_make(series, 1)));
}

/* ---- logarithms ---- */

struct logarithm {
    struct wide magnitude;
    bool sign;
};

/* log2((1 + s) / (1 - s)) = 2 log2(e) (s + s^3/3 + s^5/5 + ...), |s| < 0.18. */
static struct wide log2_ratio(struct wide s)
{
    sf_u128 fixed = wide_fixed(s, 128);
    sf_u128 series = wide_series(atanh_series, ARRAY_LEN(atanh_series), wide_mulhi(fixed, fixed));
    return wide_mul(wide_mul(s, two_log2e), wide_make(series, 0));
}

/* log2(x), x not 1. */
static struct logarithm log2_of(struct wide x)
{
    /* x = 2^k * m, m from sqrt(1/2) to sqrt(2), in units of 2^-126. */
    const uint64_t sqrt2 = UINT64_C(0xb504f333f9de6484);
    bool halve = x.sig >> 64 > sqrt2;
    int k = x.exp + halve;
    sf_u128 m = x.sig >> (1 + halve), one = (sf_u128)1 << 126, part = 0;
    bool sign = k < 0, less = m < one;
    if (m != one) {
        struct wide s = wide_div(wide_make(less ? one - m : m - one, 1), wide_make(m + one, 1));
        struct wide l = log2_ratio(s);
        if (k == 0)
            return (struct logarithm){l, less};
        part = wide_fixed(l, 112);
    }
    /* The sum is 1/2 at least, and k below 2^15. */
    sf_u128 whole = (sf_u128)(unsigned)(sign ? -k : k) << 112;
    return (struct logarithm){wide_make(less == sign ? whole + part : whole - part, 127 - 112),
                              sign};
}

/* y * n, rounded once; n is not 0. Processors report exact results as inexact ones too. */
static sf80 times_integer(struct sf_env *env, sf80 y, int n)
{
    struct f80_num v = f80_unpack(y);
    sf_u128 product = (sf_u128)v.sig * (unsigned)(n < 0 ? -n : n);
    unsigned shift = sf_clz128(product);
    product <<= shift;
    sf80 r = f80_round(env, v.sign ^ (n < 0), v.exp + 64 - (int)shift, (uint64_t)(product >> 64),
                       (uint64_t)product, 64);
    env->flags |= f80_exp(r) ? SF_PE : SF_PE | SF_UE;
    return r;
}

static sf80 times(struct sf_env *env, sf80 y, struct logarithm l)
{
    return wide_round(env, f80_sign(y) ^ l.sign, wide_mul(l.magnitude, wide_from_f80(y)));
}

static void note_denormals(struct sf_env *env, sf80 y, sf80 x)
{
    if (f80_is_denormal(y) || f80_is_denormal(x))
        env->flags |= SF_DE;
}

/* The logarithm is a zero of the given sign. */
static sf80 times_zero(struct sf_env *env, sf80 y, bool sign)
{
    return f80_is_inf(y) ? f80_invalid(env) : f80_make(f80_sign(y) ^ sign, 0, 0);
}

/* The logarithm is an infinity of the given sign. */
static sf80 times_inf(struct sf_env *env, sf80 y, bool sign)
{
    return f80_is_zero(y) ? f80_invalid(env) : f80_inf(f80_sign(y) ^ sign);
}

/* SDM 2, table 3-46. */
sf80 sf80_ylog2x(struct sf_env *env, sf80 y, sf80 x)
{
    if (f80_is_nan_or_unsupported(y) || f80_is_nan_or_unsupported(x))
        return f80_propagate(env, x, y);
    if (f80_is_zero(x)) {
        if (!f80_is_inf(y) && !f80_is_zero(y))
            env->flags |= SF_ZE;
        return times_inf(env, y, true);
    }
    if (f80_sign(x))
        return f80_invalid(env);
    bool power = !f80_is_inf(x) && f80_unpack(x).sig == F80_INT;
    int e = power ? f80_unpack(x).exp - F80_BIAS : 0;
    if ((f80_is_inf(x) && f80_is_zero(y)) || (power && e == 0 && f80_is_inf(y)))
        return f80_invalid(env);
    note_denormals(env, y, x);
    if (f80_is_inf(x))
        return times_inf(env, y, false);
    if (power && e == 0)
        return times_zero(env, y, false);
    bool less = f80_exp(x) < F80_BIAS; /* than 1 */
    if (f80_is_inf(y) || f80_is_zero(y))
        return f80_make(f80_sign(y) ^ less, f80_exp(y), y.mantissa);
    return power ? times_integer(env, y, e) : times(env, y, log2_of(wide_from_f80(x)));
}

/* log2(1 + x) without the cancellation, and for what is too large for that as it stands. */
static struct logarithm log2_plus_1(bool sign, struct wide x)
{
    sf_u128 one = (sf_u128)1 << 126;
    if (x.exp < -2) {
        sf_u128 fixed = wide_fixed(x, 126);
        struct wide divisor = wide_make(sign ? 2 * one - fixed : 2 * one + fixed, 1);
        return (struct logarithm){log2_ratio(wide_div(x, divisor)), sign};
    }
    if (x.exp > 100)
        return log2_of(x);
    if (x.exp > 0) {
        sf_u128 unit = (sf_u128)1 << 127 >> x.exp;
        sf_u128 sum = x.sig + unit;
        if (sum < x.sig)
            return log2_of((struct wide){sum >> 1 | (sf_u128)1 << 127, x.exp + 1});
        return log2_of((struct wide){sum, x.exp});
    }
    sf_u128 fixed = wide_fixed(x, 126);
    return log2_of(wide_make(sign ? one - fixed : one + fixed, 1));
}

/* SDM 2, table 3-47. Below -(1 - sqrt(1/2)) the result is undefined: it is the logarithm down to
 * -1, and from there x, as on AMD's processors. */
sf80 sf80_ylog2xp1(struct sf_env *env, sf80 y, sf80 x)
{
    if (f80_is_nan_or_unsupported(y) || f80_is_nan_or_unsupported(x))
        return f80_propagate(env, x, y);
    if (f80_is_zero(x)) {
        note_denormals(env, y, x);
        return times_zero(env, y, f80_sign(x));
    }
    if (f80_is_inf(x) && f80_sign(x))
        return f80_invalid(env);
    note_denormals(env, y, x);
    if (f80_is_inf(x))
        return times_inf(env, y, false);
    if (f80_is_inf(y) || f80_is_zero(y))
        return f80_make(f80_sign(y) ^ f80_sign(x), f80_exp(y), y.mantissa);
    if (f80_sign(x) && f80_exp(x) >= F80_BIAS) {
        env->flags |= SF_PE;
        return x;
    }
    return times(env, y, log2_plus_1(f80_sign(x), wide_from_f80(x)));
}

/*
 * FPATAN, to about 2^-118 before it is rounded.
 */
#include "x86/softfloat_wide.h"

/* 1/(2k + 1), in units of 2^-127. */
static const sf_u128 atan_series[] = {
    W(0x8000000000000000, 0x0000000000000000), W(0x2aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab),
    W(0x1999999999999999, 0x999999999999999a), W(0x1249249249249249, 0x2492492492492492),
    W(0x0e38e38e38e38e38, 0xe38e38e38e38e38e), W(0x0ba2e8ba2e8ba2e8, 0xba2e8ba2e8ba2e8c),
    W(0x09d89d89d89d89d8, 0x9d89d89d89d89d8a), W(0x0888888888888888, 0x8888888888888889),
    W(0x0787878787878787, 0x8787878787878788), W(0x06bca1af286bca1a, 0xf286bca1af286bca),
    W(0x0618618618618618, 0x6186186186186186), W(0x0590b21642c8590b, 0x21642c8590b21643),
    W(0x051eb851eb851eb8, 0x51eb851eb851eb85),
};

/* arctan(k / 16), in units of 2^-127. */
static const sf_u128 atan_table[] = {
    W(0x0000000000000000, 0x0000000000000000), W(0x07fd56edcb3f7a71, 0xb6593c96e071706b),
    W(0x0feadd4d5617b6e3, 0x2c897989f3e888ef), W(0x17b97b4bce5b0226, 0x8f6169f103938e91),
    W(0x1f5b75f92c80dd62, 0xadb8f3debef442fd), W(0x26c4ee6e0fd7979a, 0x716aed26349ebcca),
    W(0x2dec3283c9bde11c, 0xe2a8c848b73f9121), W(0x34c9dd879847f96d, 0x909f257a40079c4e),
    W(0x3b58ce0ac3769ed1, 0x5bf9117b2f0ea341), W(0x4195fa536cc33f15, 0x25b504e5b0d28ae0),
    W(0x47802eaf7bfacfcd, 0xae41af0b32e21ba4), W(0x4d17c07338deed10, 0x21137c711027f9de),
    W(0x525e3e8c9a7b8492, 0x0cd43f9522bed64f), W(0x5756261c5a6c6040, 0x0a392f179f290385),
    W(0x5c029f15e118cf39, 0xe596d2a90852221f), W(0x606742dc56293320, 0x44eeb16237497d12),
    W(0x6487ed5110b4611a, 0x62633145c06e0e69),
};

/* Pi in units of 2^-126, and of 2^-125. */
static const struct wide pi = {W(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1), 1};
static const sf_u128 pi_fixed = W(0x6487ed5110b4611a, 0x62633145c06e0e68);

/* arctan(w) for |w| <= 1/32: w * (1 - w^2/3 + ...). */
static struct wide small_atan(struct wide w)
{
    sf_u128 fixed = wide_fixed(w, 128);
    sf_u128 series =
        wide_alternating(atan_series, ARRAY_LEN(atan_series), wide_mulhi(fixed, fixed));
    if (series == atan_series[0])
        series--; /* it still is less than w */
    return wide_mul(w, wide_make(series, 0));
}

/* arctan(z) for 0 < z <= 1, from the nearest sixteenth c: arctan(c) + arctan((z - c) / (1 + zc)).
 */
static struct wide atan_of(struct wide z)
{
    sf_u128 fixed = wide_fixed(z, 127);
    unsigned k = (unsigned)((fixed + ((sf_u128)1 << 122)) >> 123);
    if (k == 0)
        return small_atan(z);
    sf_u128 c = (sf_u128)k << 123, sum = atan_table[k];
    if (fixed != c) {
        sf_u128 difference = fixed > c ? fixed - c : c - fixed;
        sf_u128 divisor = ((sf_u128)1 << 126) + (fixed >> 5) * k;
        struct wide w = small_atan(wide_div(wide_make(difference, 0), wide_make(divisor, 1)));
        sum = fixed > c ? sum + wide_fixed(w, 127) : sum - wide_fixed(w, 127);
    }
    return wide_make(sum, 0);
}

static sf80 quarters_of_pi(struct sf_env *env, bool sign, unsigned n)
{
    return wide_round(env, sign, wide_make((pi.sig >> 2) * n, pi.exp));
}

/* SDM 2, table 3-34: where one operand is 0 or infinite. */
static sf80 special_angle(struct sf_env *env, sf80 y, sf80 x)
{
    bool sign = f80_sign(y), left = f80_sign(x);
    if (f80_is_inf(y))
        return quarters_of_pi(env, sign, !f80_is_inf(x) ? 2 : left ? 3 : 1);
    if (f80_is_zero(y) || f80_is_inf(x))
        return left ? quarters_of_pi(env, sign, 4) : f80_make(sign, 0, 0);
    return quarters_of_pi(env, sign, 2); /* x is 0 */
}

static inline bool is_special(sf80 a)
{
    return f80_is_zero(a) || f80_is_inf(a);
}

sf80 sf80_atan2(struct sf_env *env, sf80 y, sf80 x)
{
    if (f80_is_nan_or_unsupported(y) || f80_is_nan_or_unsupported(x))
        return f80_propagate(env, x, y);
    if (f80_is_denormal(y) || f80_is_denormal(x))
        env->flags |= SF_DE;
    if (is_special(y) || is_special(x))
        return special_angle(env, y, x);
    bool sign = f80_sign(y), left = f80_sign(x);
    struct wide wy = wide_from_f80(y), wx = wide_from_f80(x);
    bool steep = wy.exp > wx.exp || (wy.exp == wx.exp && wy.sig > wx.sig);
    struct wide a = atan_of(steep ? wide_div(wx, wy) : wide_div(wy, wx));
    if (!steep && !left)
        return wide_round(env, sign, a);
    sf_u128 fixed = wide_fixed(a, 125), from = steep ? pi_fixed >> 1 : pi_fixed;
    return wide_round(env, sign, wide_make(steep && left ? from + fixed : from - fixed, 2));
}

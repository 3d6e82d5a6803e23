/*
 * FSIN, FCOS, FSINCOS and FPTAN.
 *
 * The argument is reduced by a pi of 66 bits, as processors do (SDM 1, 8.3.8; AMD's are the same):
 * with an exact pi, sin(x) for x near a multiple of pi would differ from theirs in most bits. Given
 * that pi, results are exact to about 2^-120 before they are rounded.
 */
#include "x86/softfloat_wide.h"

/* 1/(2k + 1)!, in units of 2^-127. */
static const sf_u128 sin_series[] = {
    W(0x8000000000000000, 0x0000000000000000), W(0x1555555555555555, 0x5555555555555555),
    W(0x0111111111111111, 0x1111111111111111), W(0x0006806806806806, 0x8068068068068068),
    W(0x0000171de3a556c7, 0x338faac1c88e5001), W(0x00000035cc8acfea, 0x89c71fce8fc97070),
    W(0x000000005849184e, 0xa1b425f28e0cc749), W(0x00000000006b9fcf, 0x9ccee07c476195ac),
    W(0x000000000000654b, 0x1dc0c2b529ac9814), W(0x000000000000004b, 0xd26d1a05055c9328),
    W(0x0000000000000000, 0x2e371dedb9eae318), W(0x0000000000000000, 0x001761b41316381a),
    W(0x0000000000000000, 0x000009f9e66e8b30), W(0x0000000000000000, 0x00000003a356385c),
    W(0x0000000000000000, 0x0000000001259f99), W(0x0000000000000000, 0x00000000000050d3),
};

/* 1/(2k)!, in units of 2^-127. */
static const sf_u128 cos_series[] = {
    W(0x8000000000000000, 0x0000000000000000), W(0x4000000000000000, 0x0000000000000000),
    W(0x0555555555555555, 0x5555555555555555), W(0x002d82d82d82d82d, 0x82d82d82d82d82d8),
    W(0x0000d00d00d00d00, 0xd00d00d00d00d00d), W(0x0000024fc9f6ef13, 0xeb8e5de02da7d4cd),
    W(0x000000047bb63bfe, 0x3625ed5136a61eb4), W(0x00000000064e5d2a, 0x301f27482eb7c517),
    W(0x000000000006b9fc, 0xf9ccee07c476195b), W(0x00000000000005a0, 0x9e18ee5f65deec01),
    W(0x0000000000000003, 0xca8574804044a0f5), W(0x0000000000000000, 0x0219c72db6ff0a53),
    W(0x0000000000000000, 0x0000f96780cb97ac), W(0x0000000000000000, 0x000000623a17f1a9),
    W(0x0000000000000000, 0x000000002143144c), W(0x0000000000000000, 0x000000000009c996),
};

/* ---- reduction ---- */

/* x = n * pi/2 + r, |r| <= pi/4 (pi being the one of 66 bits). */
struct reduced {
    unsigned quadrant; /* n modulo 4 */
    bool sign;         /* of r */
    struct wide r;     /* its magnitude */
};

/* pi/2 in units of 2^-65. */
static const sf_u128 half_pi = W(0x3, 0x243f6a8885a308d3);

/* Of a positive x below 2^63; exact. */
static struct reduced reduce(struct wide x)
{
    struct reduced z = {.r = x};
    if (x.exp < -1)
        return z;
    /* In units of 2^-65, x is a whole number below 2^128. */
    sf_u128 whole = x.sig >> (62 - x.exp), n = whole / half_pi, rest = whole % half_pi;
    if (rest > half_pi / 2) {
        rest = half_pi - rest;
        n++;
        z.sign = true;
    }
    z.quadrant = (unsigned)n & 3;
    z.r = wide_make(rest, 127 - 65);
    return z;
}

/* ---- the functions on [0, pi/4] ---- */

static sf_u128 square_of(struct wide r)
{
    return wide_mulhi(wide_fixed(r, 128), wide_fixed(r, 128));
}

static struct wide sin_of(struct wide r)
{
    /* r * (1 - r^2/3! + ...). What is so small that its square vanishes still is less than r. */
    sf_u128 series = wide_alternating(sin_series, ARRAY_LEN(sin_series), square_of(r));
    if (series == sin_series[0])
        series--;
    return wide_mul(r, wide_make(series, 0));
}

static struct wide cos_of(struct wide r)
{
    sf_u128 series = wide_alternating(cos_series, ARRAY_LEN(cos_series), square_of(r));
    if (series == cos_series[0])
        series--;
    return wide_make(series, 0);
}

/* ---- the instructions' functions ---- */

/* The sine of sign * x, or of x + pi/2 turned by `turn` quadrants. */
static sf80 sine(struct sf_env *env, bool sign, const struct reduced *z, unsigned turn)
{
    unsigned quadrant = (z->quadrant + turn) & 3;
    bool negative = quadrant >> 1;
    if (quadrant & 1)
        return wide_round(env, sign ^ negative, cos_of(z->r));
    return wide_round(env, sign ^ negative ^ z->sign, sin_of(z->r));
}

/* What all of them do with operands for which there is nothing to compute. */
enum special { COMPUTE, OUT_OF_RANGE, SPECIAL };

static enum special special_operand(struct sf_env *env, sf80 a, sf80 *result)
{
    if (f80_is_nan_or_unsupported(a)) {
        *result = f80_propagate(env, a, a);
        return SPECIAL;
    }
    if (f80_is_inf(a)) {
        *result = f80_invalid(env);
        return SPECIAL;
    }
    if (f80_exp(a) >= F80_BIAS + 63)
        return OUT_OF_RANGE;
    if (f80_is_zero(a)) {
        *result = a;
        return SPECIAL;
    }
    if (f80_is_denormal(a))
        env->flags |= SF_DE;
    return COMPUTE;
}

static sf80 one(void)
{
    return f80_make(false, F80_BIAS, F80_INT);
}

bool sf80_sincos(struct sf_env *env, sf80 a, sf80 *sin, sf80 *cos)
{
    switch (special_operand(env, a, sin)) {
    case OUT_OF_RANGE: return false;
    case SPECIAL: *cos = f80_is_zero(a) ? one() : *sin; return true;
    case COMPUTE: break;
    }
    struct reduced z = reduce(wide_from_f80(a));
    *sin = sine(env, f80_sign(a), &z, 0);
    *cos = sine(env, false, &z, 1);
    return true;
}

bool sf80_sin(struct sf_env *env, sf80 a, sf80 *sin)
{
    switch (special_operand(env, a, sin)) {
    case OUT_OF_RANGE: return false;
    case SPECIAL: return true;
    case COMPUTE: break;
    }
    struct reduced z = reduce(wide_from_f80(a));
    *sin = sine(env, f80_sign(a), &z, 0);
    return true;
}

bool sf80_cos(struct sf_env *env, sf80 a, sf80 *cos)
{
    switch (special_operand(env, a, cos)) {
    case OUT_OF_RANGE: return false;
    case SPECIAL: *cos = f80_is_zero(a) ? one() : *cos; return true;
    case COMPUTE: break;
    }
    struct reduced z = reduce(wide_from_f80(a));
    *cos = sine(env, false, &z, 1);
    return true;
}

bool sf80_tan(struct sf_env *env, sf80 a, sf80 *tan)
{
    switch (special_operand(env, a, tan)) {
    case OUT_OF_RANGE: return false;
    case SPECIAL: return true;
    case COMPUTE: break;
    }
    struct reduced z = reduce(wide_from_f80(a));
    struct wide s = sin_of(z.r), c = cos_of(z.r);
    bool odd = z.quadrant & 1;
    *tan = wide_round(env, f80_sign(a) ^ z.sign ^ odd, odd ? wide_div(c, s) : wide_div(s, c));
    return true;
}

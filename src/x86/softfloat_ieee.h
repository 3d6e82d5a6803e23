/*
 * The arithmetic of both interchange formats that SSE knows, written once: F is the number of
 * fraction bits, 23 or 52, a constant wherever this is inlined. softfloat_f32.c and softfloat_f64.c
 * give it its two shapes; half precision, with 10, is only converted. Private to softfloat*.c.
 *
 * A finite operand is taken apart into a significand with its top bit at bit 63 and the biased
 * exponent that belongs to it (below 1 for denormals); a result is a significand of that form,
 * jammed, that ieee_round() puts together.
 */
#ifndef DOPPEL_X86_SOFTFLOAT_IEEE_H
#define DOPPEL_X86_SOFTFLOAT_IEEE_H

#include "x86/softfloat_core.h"

#define IEEE static ALWAYS_INLINE

IEEE unsigned ieee_max(unsigned F) /* the exponent field of infinities and NaNs */
{
    return F == 10 ? 31 : F == 23 ? 255 : 2047;
}
IEEE int ieee_bias(unsigned F)
{
    return F == 10 ? 15 : F == 23 ? 127 : 1023;
}
IEEE uint64_t ieee_inf(unsigned F)
{
    return (uint64_t)ieee_max(F) << F;
}
IEEE uint64_t ieee_sign_bit(unsigned F)
{
    return F == 10 ? BIT(15) : F == 23 ? BIT(31) : BIT(63);
}
IEEE uint64_t ieee_quiet(unsigned F)
{
    return BIT(F - 1);
}
IEEE uint64_t ieee_default_nan(unsigned F)
{
    return ieee_sign_bit(F) | ieee_inf(F) | ieee_quiet(F);
}
IEEE bool ieee_sign(uint64_t a, unsigned F)
{
    return a & ieee_sign_bit(F);
}
IEEE uint64_t ieee_abs(uint64_t a, unsigned F)
{
    return a & (ieee_sign_bit(F) - 1);
}
IEEE unsigned ieee_exp(uint64_t a, unsigned F)
{
    return a >> F & ieee_max(F);
}
IEEE bool ieee_is_nan(uint64_t a, unsigned F)
{
    return ieee_abs(a, F) > ieee_inf(F);
}
IEEE bool ieee_is_inf(uint64_t a, unsigned F)
{
    return ieee_abs(a, F) == ieee_inf(F);
}
IEEE bool ieee_is_snan(uint64_t a, unsigned F)
{
    return ieee_is_nan(a, F) && !(a & ieee_quiet(F));
}
IEEE bool ieee_is_zero(uint64_t a, unsigned F)
{
    return ieee_abs(a, F) == 0;
}
IEEE bool ieee_is_denormal(uint64_t a, unsigned F)
{
    return ieee_exp(a, F) == 0 && !ieee_is_zero(a, F);
}
/* Neither zero, denormal, infinity nor NaN. */
IEEE bool ieee_is_normal(uint64_t a, unsigned F)
{
    return ieee_exp(a, F) - 1 < ieee_max(F) - 1;
}
IEEE uint64_t ieee_signed(bool sign, uint64_t magnitude, unsigned F)
{
    return magnitude | (sign ? ieee_sign_bit(F) : 0);
}

struct ieee_num {
    uint64_t sig;
    int exp;
    bool sign;
};

IEEE struct ieee_num ieee_unpack_normal(uint64_t a, unsigned F)
{
    return (struct ieee_num){
        .sig = BIT(63) | a << (63 - F), .exp = (int)ieee_exp(a, F), .sign = ieee_sign(a, F)};
}
/* a is finite and not 0. */
IEEE struct ieee_num ieee_unpack(uint64_t a, unsigned F)
{
    if (likely(ieee_exp(a, F)))
        return ieee_unpack_normal(a, F);
    uint64_t sig = ieee_abs(a, F) << (63 - F);
    unsigned n = sf_clz64(sig);
    return (struct ieee_num){.sig = sig << n, .exp = 1 - (int)n, .sign = ieee_sign(a, F)};
}

/* DAZ: a denormal operand is a zero of its sign, and no exception. */
IEEE uint64_t ieee_daz(const struct sf_env *env, uint64_t a, unsigned F)
{
    return env->daz && ieee_is_denormal(a, F) ? a & ieee_sign_bit(F) : a;
}
IEEE void ieee_note_denormal(struct sf_env *env, uint64_t a, unsigned F)
{
    if (ieee_is_denormal(a, F))
        env->flags |= SF_DE;
}
IEEE uint64_t ieee_invalid(struct sf_env *env, unsigned F)
{
    env->flags |= SF_IE;
    return ieee_default_nan(F);
}
/* The result when a or b is a NaN: the first that is, made quiet (SDM 1, table 4-7). */
IEEE uint64_t ieee_propagate(struct sf_env *env, uint64_t a, uint64_t b, unsigned F)
{
    if (ieee_is_snan(a, F) || ieee_is_snan(b, F))
        env->flags |= SF_IE;
    return (ieee_is_nan(a, F) ? a : b) | ieee_quiet(F);
}

/* ---- putting results together ---- */

/* The magnitude of sig cut to F bits below the integer bit, which stays in: adding it to the
 * exponent field less one gives the encoding, and a carry out of rounding moves the exponent up. */
IEEE uint64_t ieee_cut(struct sf_env *env, bool sign, uint64_t sig, unsigned F)
{
    const unsigned cut = 63 - F;
    uint64_t rest = sig & bits_mask(cut), kept = sig >> cut;
    if (rest == 0)
        return kept;
    env->flags |= SF_PE;
    bool half = rest >> (cut - 1) & 1, below = rest & bits_mask(cut - 1);
    if (sf_rounds_up(env->round, sign, kept & 1, half, below)) {
        env->up = true;
        kept++;
    }
    return kept;
}

/* An overflow or underflow that is not masked: there is no result, but it matters for PE whether it
 * would be exact with an unbounded exponent. */
IEEE uint64_t ieee_no_result(struct sf_env *env, bool sign, uint64_t sig, uint8_t flag, unsigned F)
{
    env->flags |= flag;
    ieee_cut(env, sign, sig, F);
    return ieee_signed(sign, 0, F);
}

/* sig, at exponent exp (0 or less), does not fit a normal number unless rounding carries it up. */
IEEE uint64_t ieee_round_tiny(struct sf_env *env, bool sign, int exp, uint64_t sig, unsigned F)
{
    struct sf_env unbounded = *env;
    bool tiny = exp < 0 || ieee_cut(&unbounded, sign, sig, F) < BIT(F + 1);
    if (tiny && !(env->masks & SF_UE))
        return ieee_no_result(env, sign, sig, SF_UE, F);
    if (tiny && env->ftz) {
        env->flags |= SF_UE | SF_PE;
        return ieee_signed(sign, 0, F);
    }
    uint8_t before = env->flags;
    env->flags = 0;
    uint64_t kept = ieee_cut(env, sign, sf_jam64(sig, (unsigned)(1 - exp)), F);
    if (tiny && (env->flags & SF_PE))
        env->flags |= SF_UE;
    env->flags |= before;
    return ieee_signed(sign, kept, F);
}

IEEE uint64_t ieee_overflow(struct sf_env *env, bool sign, uint64_t sig, unsigned F)
{
    if (!(env->masks & SF_OE))
        return ieee_no_result(env, sign, sig, SF_OE, F);
    env->flags |= SF_OE | SF_PE;
    env->up = sf_overflows_to_infinity(env->round, sign);
    return ieee_signed(sign, ieee_inf(F) - !env->up, F);
}

/* sig (bit 63 set, jammed) at the biased exponent exp, rounded and encoded. */
IEEE uint64_t ieee_round(struct sf_env *env, bool sign, int exp, uint64_t sig, unsigned F)
{
    if (unlikely(exp <= 0))
        return ieee_round_tiny(env, sign, exp, sig, F);
    if (unlikely(exp >= (int)ieee_max(F)))
        return ieee_overflow(env, sign, sig, F);
    struct sf_env before = *env;
    uint64_t magnitude = ((uint64_t)(exp - 1) << F) + ieee_cut(env, sign, sig, F);
    if (unlikely(magnitude >= ieee_inf(F))) {
        *env = before;
        return ieee_overflow(env, sign, sig, F);
    }
    return ieee_signed(sign, magnitude, F);
}

/* ---- addition ---- */

/* The sum of two finite numbers other than 0. */
IEEE uint64_t ieee_sum(struct sf_env *env, struct ieee_num x, struct ieee_num y, unsigned F)
{
    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        struct ieee_num t = x;
        x = y;
        y = t;
    }
    /* At least 10 bits of sig below the last kept one are 0, so that one jammed bit is exact
     * enough even after the shift that a cancellation needs: that is long only if no bit was
     * jammed. */
    y.sig = sf_jam64(y.sig, (unsigned)(x.exp - y.exp));
    if (x.sign == y.sign) {
        uint64_t sum = x.sig + y.sig;
        if (sum < x.sig) {
            sum = sum >> 1 | BIT(63) | (sum & 1);
            x.exp++;
        }
        return ieee_round(env, x.sign, x.exp, sum, F);
    }
    uint64_t difference = x.sig - y.sig;
    if (difference == 0)
        return ieee_signed(env->round == SF_DOWN, 0, F);
    unsigned n = sf_clz64(difference);
    return ieee_round(env, x.sign, x.exp - (int)n, difference << n, F);
}

/* Operands among which is a zero, a denormal, an infinity or a NaN. */
IEEE uint64_t ieee_add_special(struct sf_env *env, uint64_t a, uint64_t b, bool subtract,
                               unsigned F)
{
    if (ieee_is_nan(a, F) || ieee_is_nan(b, F))
        return ieee_propagate(env, a, b, F);
    a = ieee_daz(env, a, F);
    b = ieee_daz(env, b, F) ^ (subtract ? ieee_sign_bit(F) : 0);
    if (ieee_is_inf(a, F) && ieee_is_inf(b, F) && a != b)
        return ieee_invalid(env, F);
    ieee_note_denormal(env, a, F);
    ieee_note_denormal(env, b, F);
    if (ieee_is_inf(a, F))
        return a;
    if (ieee_is_inf(b, F))
        return b;
    if (ieee_is_zero(a, F) && ieee_is_zero(b, F))
        return a == b ? a : ieee_signed(env->round == SF_DOWN, 0, F);
    if (ieee_is_zero(a, F) || ieee_is_zero(b, F)) {
        /* Exact, but it may be a denormal: FTZ and an unmasked underflow look at it. */
        struct ieee_num x = ieee_unpack(ieee_is_zero(a, F) ? b : a, F);
        return ieee_round(env, x.sign, x.exp, x.sig, F);
    }
    return ieee_sum(env, ieee_unpack(a, F), ieee_unpack(b, F), F);
}

IEEE uint64_t ieee_add(struct sf_env *env, uint64_t a, uint64_t b, bool subtract, unsigned F)
{
    if (unlikely(!ieee_is_normal(a, F) || !ieee_is_normal(b, F)))
        return ieee_add_special(env, a, b, subtract, F);
    struct ieee_num y = ieee_unpack_normal(b, F);
    y.sign ^= subtract;
    return ieee_sum(env, ieee_unpack_normal(a, F), y, F);
}

/* ---- multiplication and division ---- */

IEEE uint64_t ieee_product(struct sf_env *env, struct ieee_num x, struct ieee_num y, unsigned F)
{
    sf_u128 wide = (sf_u128)x.sig * y.sig;
    uint64_t sig = (uint64_t)(wide >> 64) | ((uint64_t)wide != 0);
    int exp = x.exp + y.exp - ieee_bias(F) + 1;
    if (!(sig >> 63)) {
        sig = (uint64_t)(wide >> 63) | ((uint64_t)(wide << 1) != 0);
        exp--;
    }
    return ieee_round(env, x.sign ^ y.sign, exp, sig, F);
}

IEEE uint64_t ieee_mul_special(struct sf_env *env, uint64_t a, uint64_t b, unsigned F)
{
    if (ieee_is_nan(a, F) || ieee_is_nan(b, F))
        return ieee_propagate(env, a, b, F);
    a = ieee_daz(env, a, F);
    b = ieee_daz(env, b, F);
    bool sign = ieee_sign(a ^ b, F), inf = ieee_is_inf(a, F) || ieee_is_inf(b, F);
    bool zero = ieee_is_zero(a, F) || ieee_is_zero(b, F);
    if (inf && zero)
        return ieee_invalid(env, F);
    ieee_note_denormal(env, a, F);
    ieee_note_denormal(env, b, F);
    if (inf || zero)
        return ieee_signed(sign, inf ? ieee_inf(F) : 0, F);
    return ieee_product(env, ieee_unpack(a, F), ieee_unpack(b, F), F);
}

IEEE uint64_t ieee_mul(struct sf_env *env, uint64_t a, uint64_t b, unsigned F)
{
    if (unlikely(!ieee_is_normal(a, F) || !ieee_is_normal(b, F)))
        return ieee_mul_special(env, a, b, F);
    return ieee_product(env, ieee_unpack_normal(a, F), ieee_unpack_normal(b, F), F);
}

IEEE uint64_t ieee_quotient(struct sf_env *env, struct ieee_num x, struct ieee_num y, unsigned F)
{
    /* A dividend below the divisor moves up by one, so that the quotient's top bit is set. */
    unsigned up = x.sig < y.sig;
    int exp = x.exp - y.exp + ieee_bias(F) - (int)up;
    uint64_t sig;
    if (F == 23) {
        uint64_t dividend = x.sig >> (1 - up), divisor = y.sig >> 40;
        sig = dividend / divisor << 24 | (dividend % divisor != 0);
    } else {
        sf_u128 dividend = (sf_u128)x.sig << (63 + up);
        sig = (uint64_t)(dividend / y.sig);
        sig |= (uint64_t)dividend != sig * y.sig;
    }
    return ieee_round(env, x.sign ^ y.sign, exp, sig, F);
}

IEEE uint64_t ieee_div_special(struct sf_env *env, uint64_t a, uint64_t b, unsigned F)
{
    if (ieee_is_nan(a, F) || ieee_is_nan(b, F))
        return ieee_propagate(env, a, b, F);
    a = ieee_daz(env, a, F);
    b = ieee_daz(env, b, F);
    bool sign = ieee_sign(a ^ b, F);
    if ((ieee_is_inf(a, F) && ieee_is_inf(b, F)) || (ieee_is_zero(a, F) && ieee_is_zero(b, F)))
        return ieee_invalid(env, F);
    if (ieee_is_zero(b, F) && !ieee_is_inf(a, F)) {
        env->flags |= SF_ZE;
        return ieee_signed(sign, ieee_inf(F), F);
    }
    ieee_note_denormal(env, a, F);
    ieee_note_denormal(env, b, F);
    if (ieee_is_inf(a, F) || ieee_is_zero(b, F))
        return ieee_signed(sign, ieee_inf(F), F);
    if (ieee_is_zero(a, F) || ieee_is_inf(b, F))
        return ieee_signed(sign, 0, F);
    return ieee_quotient(env, ieee_unpack(a, F), ieee_unpack(b, F), F);
}

IEEE uint64_t ieee_div(struct sf_env *env, uint64_t a, uint64_t b, unsigned F)
{
    if (unlikely(!ieee_is_normal(a, F) || !ieee_is_normal(b, F)))
        return ieee_div_special(env, a, b, F);
    return ieee_quotient(env, ieee_unpack_normal(a, F), ieee_unpack_normal(b, F), F);
}

IEEE uint64_t ieee_sqrt(struct sf_env *env, uint64_t a, unsigned F)
{
    if (ieee_is_nan(a, F))
        return ieee_propagate(env, a, a, F);
    a = ieee_daz(env, a, F);
    if (ieee_is_zero(a, F))
        return a;
    if (ieee_sign(a, F))
        return ieee_invalid(env, F);
    if (ieee_is_inf(a, F))
        return a;
    ieee_note_denormal(env, a, F);
    struct ieee_num x = ieee_unpack(a, F);
    /* The exponent must be even to be halved: sig is in [1, 4) then. */
    int e = x.exp - ieee_bias(F);
    sf_u128 rest, n = (sf_u128)x.sig << (63 + (e & 1));
    uint64_t sig = sf_sqrt128(n, &rest);
    return ieee_round(env, false, (e >> 1) + ieee_bias(F), sig | (rest != 0), F);
}

/* ---- fused multiply and add ---- */

/* A number with a 128-bit significand, its top bit set. */
struct ieee_wide {
    sf_u128 sig;
    int exp;
    bool sign;
};

IEEE uint64_t ieee_round_wide(struct sf_env *env, bool sign, int exp, sf_u128 sig, unsigned F)
{
    unsigned n = sf_clz128(sig);
    sig <<= n;
    return ieee_round(env, sign, exp - (int)n, (uint64_t)(sig >> 64) | ((uint64_t)sig != 0), F);
}

IEEE uint64_t ieee_sum_wide(struct sf_env *env, struct ieee_wide x, struct ieee_wide y, unsigned F)
{
    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        struct ieee_wide t = x;
        x = y;
        y = t;
    }
    /* One bit of room for the carry; the lowest bits of both are 0 (2 * 53 bits are used). */
    sf_u128 sx = x.sig >> 1, sy = sf_jam128(y.sig >> 1, (unsigned)(x.exp - y.exp));
    sf_u128 sum = x.sign == y.sign ? sx + sy : sx - sy;
    if (sum == 0)
        return ieee_signed(env->round == SF_DOWN, 0, F);
    return ieee_round_wide(env, x.sign, x.exp + 1, sum, F);
}

IEEE uint64_t ieee_fma(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c, unsigned F)
{
    a = ieee_daz(env, a, F);
    b = ieee_daz(env, b, F);
    c = ieee_daz(env, c, F);
    if (ieee_is_nan(a, F) || ieee_is_nan(b, F) || ieee_is_nan(c, F)) {
        uint64_t ab = ieee_is_nan(a, F) ? a : b;
        ieee_propagate(env, a, b, F);
        return ieee_propagate(env, ab, c, F);
    }
    bool sign = ieee_sign(a ^ b, F), inf = ieee_is_inf(a, F) || ieee_is_inf(b, F);
    bool zero = ieee_is_zero(a, F) || ieee_is_zero(b, F);
    if ((inf && zero) || (inf && ieee_is_inf(c, F) && ieee_sign(c, F) != sign))
        return ieee_invalid(env, F);
    ieee_note_denormal(env, a, F);
    ieee_note_denormal(env, b, F);
    ieee_note_denormal(env, c, F);
    if (inf)
        return ieee_signed(sign, ieee_inf(F), F);
    if (ieee_is_inf(c, F))
        return c;
    if (zero && ieee_is_zero(c, F))
        return sign == ieee_sign(c, F) ? c : ieee_signed(env->round == SF_DOWN, 0, F);
    if (zero) {
        struct ieee_num z = ieee_unpack(c, F);
        return ieee_round(env, z.sign, z.exp, z.sig, F);
    }
    struct ieee_num x = ieee_unpack(a, F), y = ieee_unpack(b, F);
    struct ieee_wide product = {(sf_u128)x.sig * y.sig, x.exp + y.exp - ieee_bias(F) + 1, sign};
    if (!(product.sig >> 127)) {
        product.sig <<= 1;
        product.exp--;
    }
    if (ieee_is_zero(c, F))
        return ieee_round_wide(env, sign, product.exp, product.sig, F);
    struct ieee_num z = ieee_unpack(c, F);
    return ieee_sum_wide(env, product, (struct ieee_wide){(sf_u128)z.sig << 64, z.exp, z.sign}, F);
}

/* ---- comparison and rounding to integers ---- */

IEEE int ieee_order(uint64_t a, uint64_t b, unsigned F)
{
    if (ieee_is_zero(a, F) && ieee_is_zero(b, F))
        return SF_EQUAL;
    bool sign = ieee_sign(a, F);
    if (sign != ieee_sign(b, F))
        return sign ? SF_LESS : SF_GREATER;
    return a == b ? SF_EQUAL : (a < b) != sign ? SF_LESS : SF_GREATER;
}

IEEE int ieee_compare(struct sf_env *env, uint64_t a, uint64_t b, bool signaling, unsigned F)
{
    if (ieee_is_nan(a, F) || ieee_is_nan(b, F)) {
        if (signaling || ieee_is_snan(a, F) || ieee_is_snan(b, F))
            env->flags |= SF_IE;
        return SF_UNORDERED;
    }
    a = ieee_daz(env, a, F);
    b = ieee_daz(env, b, F);
    ieee_note_denormal(env, a, F);
    ieee_note_denormal(env, b, F);
    return ieee_order(a, b, F);
}

/* MIN (wanted is SF_LESS) and MAX (SF_GREATER): a only if it is really beyond b. */
IEEE uint64_t ieee_pick(struct sf_env *env, uint64_t a, uint64_t b, int wanted, unsigned F)
{
    return ieee_compare(env, a, b, true, F) == wanted ? ieee_daz(env, a, F)
           : ieee_is_nan(b, F)                        ? b
                                                      : ieee_daz(env, b, F);
}

IEEE uint64_t ieee_round_int(struct sf_env *env, uint64_t a, unsigned mode, bool suppress_inexact,
                             unsigned F)
{
    if (ieee_is_nan(a, F))
        return ieee_propagate(env, a, a, F);
    a = ieee_daz(env, a, F);
    int e = (int)ieee_exp(a, F) - ieee_bias(F);
    if (e >= (int)F || ieee_is_zero(a, F))
        return a;
    bool sign = ieee_sign(a, F);
    uint64_t magnitude = ieee_abs(a, F), result;
    if (e < 0) {
        bool half = e == -1, below = !half || (magnitude & bits_mask(F));
        uint64_t one = (uint64_t)ieee_bias(F) << F;
        result = sf_rounds_up(mode, sign, false, half, below) ? one : 0;
    } else {
        /* Rounding up may carry into the exponent, which then is right again. */
        unsigned cut = F - (unsigned)e;
        uint64_t rest = magnitude & bits_mask(cut);
        bool half = rest >> (cut - 1), below = rest & bits_mask(cut - 1);
        result = magnitude - rest;
        /* 1 <= cut <= F. NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
        if (sf_rounds_up(mode, sign, result >> cut & 1, half, below))
            result += BIT(cut);
    }
    if (result != magnitude && !suppress_inexact)
        env->flags |= SF_PE;
    return ieee_signed(sign, result, F);
}

#endif

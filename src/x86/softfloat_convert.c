/*
 * Conversions among integers and the three floating-point formats.
 */
#include "x86/softfloat_ieee.h"

enum { F16 = 10, F32 = 23, F64 = 52 };

/* ---- to integers ---- */

/* The magnitude sig * 2^(e - 63) rounded to an integer; e may be anything. False: it is 2^64 or
 * more. */
static bool to_integer(struct sf_env *env, bool sign, int e, uint64_t sig, unsigned round,
                       uint64_t *result)
{
    if (e > 63)
        return false;
    sf_u128 fixed = sf_jam128((sf_u128)sig << 64, (unsigned)(63 - e));
    uint64_t whole = (uint64_t)(fixed >> 64), rest = (uint64_t)fixed;
    if (rest != 0) {
        env->flags |= SF_PE;
        if (sf_rounds_up(round, sign, whole & 1, rest >> 63, rest << 1 != 0)) {
            env->up = true;
            whole++;
            if (whole == 0)
                return false;
        }
    }
    *result = whole;
    return true;
}

/* What a conversion to an integer gives that can't be done: IE and nothing else. */
static void integer_invalid(struct sf_env *env, const struct sf_env *before)
{
    *env = *before;
    env->flags |= SF_IE;
}

/* A number (or what is none) on its way to an integer, whatever format it came in. */
struct source {
    uint64_t sig; /* 0: the number is 0 */
    int e;        /* unbiased */
    bool sign, invalid;
};

static int64_t to_signed(struct sf_env *env, struct source x, bool truncate, unsigned bits)
{
    struct sf_env before = *env;
    uint64_t magnitude = 0, limit = BIT(bits - 1);
    unsigned round = truncate ? SF_ZERO : env->round;
    if (x.invalid || (x.sig && !to_integer(env, x.sign, x.e, x.sig, round, &magnitude)) ||
        magnitude > limit - !x.sign) {
        integer_invalid(env, &before);
        return (int64_t)-limit;
    }
    return (int64_t)(x.sign ? -magnitude : magnitude);
}

static uint64_t to_unsigned(struct sf_env *env, struct source x, bool truncate, unsigned bits)
{
    struct sf_env before = *env;
    uint64_t magnitude = 0;
    unsigned round = truncate ? SF_ZERO : env->round;
    if (x.invalid || (x.sig && !to_integer(env, x.sign, x.e, x.sig, round, &magnitude)) ||
        magnitude > bits_mask(bits) || (x.sign && magnitude)) {
        integer_invalid(env, &before);
        return bits_mask(bits);
    }
    return magnitude;
}

IEEE struct source ieee_source(const struct sf_env *env, uint64_t a, unsigned F)
{
    if (ieee_exp(a, F) == ieee_max(F))
        return (struct source){.invalid = true};
    a = ieee_daz(env, a, F);
    if (ieee_is_zero(a, F))
        return (struct source){0};
    struct ieee_num x = ieee_unpack(a, F);
    return (struct source){.sig = x.sig, .e = x.exp - ieee_bias(F), .sign = x.sign};
}

int32_t sf32_to_i32(struct sf_env *env, sf32 a, bool truncate)
{
    return (int32_t)to_signed(env, ieee_source(env, a, F32), truncate, 32);
}
int64_t sf32_to_i64(struct sf_env *env, sf32 a, bool truncate)
{
    return to_signed(env, ieee_source(env, a, F32), truncate, 64);
}
uint32_t sf32_to_u32(struct sf_env *env, sf32 a, bool truncate)
{
    return (uint32_t)to_unsigned(env, ieee_source(env, a, F32), truncate, 32);
}
uint64_t sf32_to_u64(struct sf_env *env, sf32 a, bool truncate)
{
    return to_unsigned(env, ieee_source(env, a, F32), truncate, 64);
}
int32_t sf64_to_i32(struct sf_env *env, sf64 a, bool truncate)
{
    return (int32_t)to_signed(env, ieee_source(env, a, F64), truncate, 32);
}
int64_t sf64_to_i64(struct sf_env *env, sf64 a, bool truncate)
{
    return to_signed(env, ieee_source(env, a, F64), truncate, 64);
}
uint32_t sf64_to_u32(struct sf_env *env, sf64 a, bool truncate)
{
    return (uint32_t)to_unsigned(env, ieee_source(env, a, F64), truncate, 32);
}
uint64_t sf64_to_u64(struct sf_env *env, sf64 a, bool truncate)
{
    return to_unsigned(env, ieee_source(env, a, F64), truncate, 64);
}

static struct source f80_source(sf80 a)
{
    if (f80_exp(a) == F80_MAX || f80_is_unsupported(a))
        return (struct source){.invalid = true};
    if (f80_is_zero(a))
        return (struct source){0};
    struct f80_num x = f80_unpack(a);
    return (struct source){.sig = x.sig, .e = x.exp - F80_BIAS, .sign = x.sign};
}

int16_t sf80_to_i16(struct sf_env *env, sf80 a, bool truncate)
{
    return (int16_t)to_signed(env, f80_source(a), truncate, 16);
}
int32_t sf80_to_i32(struct sf_env *env, sf80 a, bool truncate)
{
    return (int32_t)to_signed(env, f80_source(a), truncate, 32);
}
int64_t sf80_to_i64(struct sf_env *env, sf80 a, bool truncate)
{
    return to_signed(env, f80_source(a), truncate, 64);
}

/* ---- from integers ---- */

IEEE uint64_t ieee_from_int(struct sf_env *env, bool sign, uint64_t magnitude, unsigned F)
{
    if (magnitude == 0)
        return 0;
    unsigned n = sf_clz64(magnitude);
    return ieee_round(env, sign, ieee_bias(F) + 63 - (int)n, magnitude << n, F);
}

static uint64_t magnitude_of(int64_t v)
{
    return v < 0 ? -(uint64_t)v : (uint64_t)v;
}

sf32 sf32_from_i64(struct sf_env *env, int64_t v)
{
    return (sf32)ieee_from_int(env, v < 0, magnitude_of(v), F32);
}
sf32 sf32_from_u64(struct sf_env *env, uint64_t v)
{
    return (sf32)ieee_from_int(env, false, v, F32);
}
sf32 sf32_from_i32(struct sf_env *env, int32_t v)
{
    return sf32_from_i64(env, v);
}
sf32 sf32_from_u32(struct sf_env *env, uint32_t v)
{
    return sf32_from_u64(env, v);
}
sf64 sf64_from_i64(struct sf_env *env, int64_t v)
{
    return ieee_from_int(env, v < 0, magnitude_of(v), F64);
}
sf64 sf64_from_u64(struct sf_env *env, uint64_t v)
{
    return ieee_from_int(env, false, v, F64);
}
sf64 sf64_from_i32(int32_t v)
{
    struct sf_env exact = {0};
    return sf64_from_i64(&exact, v);
}
sf64 sf64_from_u32(uint32_t v)
{
    struct sf_env exact = {0};
    return sf64_from_u64(&exact, v);
}

static sf80 f80_from_magnitude(bool sign, uint64_t magnitude)
{
    if (magnitude == 0)
        return f80_make(sign, 0, 0);
    unsigned n = sf_clz64(magnitude);
    return f80_make(sign, F80_BIAS + 63 - n, magnitude << n);
}

sf80 sf80_from_i64(int64_t v)
{
    return f80_from_magnitude(v < 0, magnitude_of(v));
}

/* ---- between single and double ---- */

/* A NaN keeps the top of its payload and becomes quiet. */
IEEE uint64_t ieee_convert_nan(struct sf_env *env, uint64_t a, unsigned from, unsigned to)
{
    if (ieee_is_snan(a, from))
        env->flags |= SF_IE;
    uint64_t payload = a << (63 - from) & bits_mask(63);
    return ieee_signed(ieee_sign(a, from), ieee_inf(to) | ieee_quiet(to) | payload >> (63 - to),
                       to);
}

IEEE uint64_t ieee_convert(struct sf_env *env, uint64_t a, unsigned from, unsigned to)
{
    if (ieee_is_nan(a, from))
        return ieee_convert_nan(env, a, from, to);
    a = ieee_daz(env, a, from);
    bool sign = ieee_sign(a, from);
    if (ieee_is_zero(a, from) || ieee_is_inf(a, from))
        return ieee_signed(sign, ieee_is_zero(a, from) ? 0 : ieee_inf(to), to);
    ieee_note_denormal(env, a, from);
    struct ieee_num x = ieee_unpack(a, from);
    return ieee_round(env, sign, x.exp - ieee_bias(from) + ieee_bias(to), x.sig, to);
}

sf64 sf32_to_sf64(struct sf_env *env, sf32 a)
{
    return ieee_convert(env, a, F32, F64);
}
sf32 sf64_to_sf32(struct sf_env *env, sf64 a)
{
    return (sf32)ieee_convert(env, a, F64, F32);
}

sf32 sf16_to_sf32(struct sf_env *env, sf16 a)
{
    struct sf_env half = *env;
    half.daz = false;
    half.flags = 0;
    sf32 r = (sf32)ieee_convert(&half, a, F16, F32);
    env->flags |= half.flags & SF_IE;
    return r;
}
sf16 sf32_to_sf16(struct sf_env *env, sf32 a)
{
    bool ftz = env->ftz;
    env->ftz = false;
    sf16 r = (sf16)ieee_convert(env, a, F32, F16);
    env->ftz = ftz;
    return r;
}

/* ---- to and from the 80-bit format ---- */

/* Exact, raising nothing. */
IEEE sf80 ieee_widen(uint64_t a, unsigned F)
{
    bool sign = ieee_sign(a, F);
    if (ieee_exp(a, F) == ieee_max(F))
        return f80_make(sign, F80_MAX, F80_INT | a << (63 - F));
    if (ieee_is_zero(a, F))
        return f80_make(sign, 0, 0);
    struct ieee_num x = ieee_unpack(a, F);
    return f80_make(sign, (unsigned)(x.exp - ieee_bias(F) + F80_BIAS), x.sig);
}

IEEE sf80 ieee_to_f80(struct sf_env *env, uint64_t a, unsigned F)
{
    ieee_note_denormal(env, a, F);
    if (ieee_is_snan(a, F)) {
        env->flags |= SF_IE;
        a |= ieee_quiet(F);
    }
    return ieee_widen(a, F);
}

sf80 sf32_widen(sf32 a)
{
    return ieee_widen(a, F32);
}
sf80 sf64_widen(sf64 a)
{
    return ieee_widen(a, F64);
}
sf80 sf32_to_sf80(struct sf_env *env, sf32 a)
{
    return ieee_to_f80(env, a, F32);
}
sf80 sf64_to_sf80(struct sf_env *env, sf64 a)
{
    return ieee_to_f80(env, a, F64);
}

IEEE uint64_t ieee_from_f80(struct sf_env *env, sf80 a, unsigned F)
{
    bool sign = f80_sign(a);
    if (f80_is_unsupported(a))
        return ieee_invalid(env, F);
    if (f80_is_nan(a)) {
        if (f80_is_snan(a))
            env->flags |= SF_IE;
        uint64_t payload = (a.mantissa & bits_mask(63)) >> (63 - F);
        return ieee_signed(sign, ieee_inf(F) | ieee_quiet(F) | payload, F);
    }
    if (f80_is_zero(a) || f80_is_inf(a))
        return ieee_signed(sign, f80_is_zero(a) ? 0 : ieee_inf(F), F);
    struct f80_num x = f80_unpack(a);
    return ieee_round(env, sign, x.exp - F80_BIAS + ieee_bias(F), x.sig, F);
}

sf32 sf80_to_sf32(struct sf_env *env, sf80 a)
{
    return (sf32)ieee_from_f80(env, a, F32);
}
sf64 sf80_to_sf64(struct sf_env *env, sf80 a)
{
    return ieee_from_f80(env, a, F64);
}

/* ---- packed decimal ---- */

/* Digits above 9 count for what they are, as on processors (the SDM leaves them undefined). */
sf80 sf80_from_bcd(const uint8_t bcd[10])
{
    uint64_t v = 0;
    for (int i = 8; i >= 0; i--)
        v = v * 100 + (bcd[i] >> 4) * 10u + (bcd[i] & 15);
    return f80_from_magnitude(bcd[9] >> 7, v);
}

void sf80_to_bcd(struct sf_env *env, sf80 a, uint8_t bcd[10])
{
    static const uint8_t indefinite[10] = {[7] = 0xc0, 0xff, 0xff};
    struct sf_env before = *env;
    struct source x = f80_source(a);
    uint64_t v = 0;
    if (x.invalid || (x.sig && !to_integer(env, x.sign, x.e, x.sig, env->round, &v)) ||
        v >= UINT64_C(1000000000000000000)) {
        integer_invalid(env, &before);
        memcpy(bcd, indefinite, 10);
        return;
    }
    for (unsigned i = 0; i < 9; i++, v /= 100)
        bcd[i] = (uint8_t)((v % 100 / 10) << 4 | v % 10);
    bcd[9] = f80_sign(a) ? 0x80 : 0;
}

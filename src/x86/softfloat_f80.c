/*
 * The x87's arithmetic in double extended precision.
 */
#include "x86/softfloat_core.h"

/* ---- NaNs ---- */

/* SDM 1, table 4-7, the x87's column: of two NaNs the one with the larger significand, the quiet
 * bit included (so a QNaN goes before an SNaN); of equal ones the positive. */
sf80 f80_propagate(struct sf_env *env, sf80 a, sf80 b)
{
    if (f80_is_unsupported(a) || f80_is_unsupported(b))
        return f80_invalid(env);
    if (f80_is_snan(a) || f80_is_snan(b))
        env->flags |= SF_IE;
    sf80 r = a;
    if (!f80_is_nan(a) ||
        (f80_is_nan(b) && (b.mantissa > a.mantissa || (b.mantissa == a.mantissa && f80_sign(a)))))
        r = b;
    r.mantissa |= F80_QUIET;
    return r;
}

static inline void note_denormal(struct sf_env *env, sf80 a)
{
    if (f80_is_denormal(a))
        env->flags |= SF_DE;
}
static inline bool either_is_nan(sf80 a, sf80 b)
{
    return f80_is_nan_or_unsupported(a) || f80_is_nan_or_unsupported(b);
}
static inline bool is_normal(sf80 a)
{
    return f80_exp(a) - 1 < F80_MAX - 1 && (a.mantissa & F80_INT);
}

/* ---- rounding ---- */

/* hi:lo cut to the upper `precision` bits, or 0 if rounding carried out of the top (2^64). */
static ALWAYS_INLINE uint64_t cut(struct sf_env *env, bool sign, uint64_t hi, uint64_t lo,
                                  unsigned precision)
{
    uint64_t rest = lo;
    unsigned below = 64 - precision;
    if (below) {
        rest = hi << precision | (lo != 0);
        hi &= ~bits_mask(below);
    }
    if (rest == 0)
        return hi;
    env->flags |= SF_PE;
    if (sf_rounds_up(env->round, sign, hi >> below & 1, rest >> 63, rest << 1 != 0)) {
        env->up = true;
        hi += BIT(below);
    }
    return hi;
}

static sf80 overflow(struct sf_env *env, bool sign, int exp, uint64_t hi, uint64_t lo,
                     unsigned precision)
{
    if (!(env->masks & SF_OE)) {
        env->flags |= SF_OE;
        exp -= F80_WRAP;
        uint64_t sig = cut(env, sign, hi, lo, precision);
        return f80_make(sign, (unsigned)(exp + !sig), sig ? sig : F80_INT);
    }
    env->flags |= SF_OE | SF_PE;
    env->up = sf_overflows_to_infinity(env->round, sign);
    return env->up ? f80_inf(sign) : f80_make(sign, F80_MAX - 1, ~bits_mask(64 - precision));
}

static sf80 underflow(struct sf_env *env, bool sign, int exp, uint64_t hi, uint64_t lo,
                      unsigned precision)
{
    struct sf_env unbounded = *env;
    bool tiny = exp < 0 || cut(&unbounded, sign, hi, lo, precision) != 0;
    if (tiny && !(env->masks & SF_UE)) {
        env->flags |= SF_UE;
        exp += F80_WRAP;
        uint64_t sig = cut(env, sign, hi, lo, precision);
        return f80_make(sign, (unsigned)(exp + !sig), sig ? sig : F80_INT);
    }
    sf_u128 sig = sf_jam128((sf_u128)hi << 64 | lo, (unsigned)(1 - exp));
    uint8_t before = env->flags;
    env->flags = 0;
    hi = cut(env, sign, (uint64_t)(sig >> 64), (uint64_t)sig, precision);
    if (tiny && (env->flags & SF_PE))
        env->flags |= SF_UE;
    env->flags |= before;
    return f80_make(sign, hi >> 63, hi);
}

sf80 f80_round(struct sf_env *env, bool sign, int exp, uint64_t hi, uint64_t lo, unsigned precision)
{
    if (unlikely(exp <= 0))
        return underflow(env, sign, exp, hi, lo, precision);
    if (unlikely(exp >= F80_MAX))
        return overflow(env, sign, exp, hi, lo, precision);
    struct sf_env before = *env;
    uint64_t sig = cut(env, sign, hi, lo, precision);
    if (unlikely(sig == 0)) {
        sig = F80_INT;
        if (++exp >= F80_MAX) {
            *env = before;
            return overflow(env, sign, exp - 1, hi, lo, precision);
        }
    }
    return f80_make(sign, (unsigned)exp, sig);
}

/* ---- addition ---- */

static sf80 sum(struct sf_env *env, struct f80_num x, struct f80_num y)
{
    if (x.exp < y.exp || (x.exp == y.exp && x.sig < y.sig)) {
        struct f80_num t = x;
        x = y;
        y = t;
    }
    sf_u128 sx = (sf_u128)x.sig << 64;
    sf_u128 sy = sf_jam128((sf_u128)y.sig << 64, (unsigned)(x.exp - y.exp));
    sf_u128 r;
    if (x.sign == y.sign) {
        r = sx + sy;
        if (r < sx) {
            r = r >> 1 | (sf_u128)1 << 127 | (r & 1);
            x.exp++;
        }
    } else {
        r = sx - sy;
        if (r == 0)
            return f80_make(env->round == SF_DOWN, 0, 0);
        unsigned n = sf_clz128(r);
        r <<= n;
        x.exp -= (int)n;
    }
    return f80_round(env, x.sign, x.exp, (uint64_t)(r >> 64), (uint64_t)r, env->precision);
}

static sf80 add_special(struct sf_env *env, sf80 a, sf80 b, bool subtract)
{
    if (either_is_nan(a, b))
        return f80_propagate(env, a, b);
    b.se ^= subtract ? 0x8000 : 0;
    if (f80_is_inf(a) && f80_is_inf(b) && a.se != b.se)
        return f80_invalid(env);
    note_denormal(env, a);
    note_denormal(env, b);
    if (f80_is_inf(a) || f80_is_inf(b))
        return f80_is_inf(a) ? a : b;
    if (f80_is_zero(a) && f80_is_zero(b))
        return a.se == b.se ? a : f80_make(env->round == SF_DOWN, 0, 0);
    if (f80_is_zero(a) || f80_is_zero(b)) {
        struct f80_num x = f80_unpack(f80_is_zero(a) ? b : a);
        return f80_round(env, x.sign, x.exp, x.sig, 0, env->precision);
    }
    return sum(env, f80_unpack(a), f80_unpack(b));
}

static sf80 add(struct sf_env *env, sf80 a, sf80 b, bool subtract)
{
    if (unlikely(!is_normal(a) || !is_normal(b)))
        return add_special(env, a, b, subtract);
    struct f80_num y = f80_unpack(b);
    y.sign ^= subtract;
    return sum(env, f80_unpack(a), y);
}

sf80 sf80_add(struct sf_env *env, sf80 a, sf80 b)
{
    return add(env, a, b, false);
}

sf80 sf80_sub(struct sf_env *env, sf80 a, sf80 b)
{
    return add(env, a, b, true);
}

/* ---- multiplication, division, square root ---- */

static sf80 product(struct sf_env *env, sf80 a, sf80 b)
{
    struct f80_num x = f80_unpack(a), y = f80_unpack(b);
    sf_u128 r = (sf_u128)x.sig * y.sig;
    int exp = x.exp + y.exp - F80_BIAS + 1;
    if (!(r >> 127)) {
        r <<= 1;
        exp--;
    }
    return f80_round(env, x.sign ^ y.sign, exp, (uint64_t)(r >> 64), (uint64_t)r, env->precision);
}

static sf80 mul_special(struct sf_env *env, sf80 a, sf80 b)
{
    if (either_is_nan(a, b))
        return f80_propagate(env, a, b);
    bool sign = f80_sign(a) ^ f80_sign(b), inf = f80_is_inf(a) || f80_is_inf(b);
    bool zero = f80_is_zero(a) || f80_is_zero(b);
    if (inf && zero)
        return f80_invalid(env);
    note_denormal(env, a);
    note_denormal(env, b);
    if (inf)
        return f80_inf(sign);
    return zero ? f80_make(sign, 0, 0) : product(env, a, b);
}

sf80 sf80_mul(struct sf_env *env, sf80 a, sf80 b)
{
    if (unlikely(!is_normal(a) || !is_normal(b)))
        return mul_special(env, a, b);
    return product(env, a, b);
}

static sf80 quotient(struct sf_env *env, sf80 a, sf80 b)
{
    struct f80_num x = f80_unpack(a), y = f80_unpack(b);
    unsigned up = x.sig < y.sig;
    int exp = x.exp - y.exp + F80_BIAS - (int)up;
    sf_u128 dividend = (sf_u128)x.sig << (63 + up);
    uint64_t q = (uint64_t)(dividend / y.sig), rest = (uint64_t)dividend - q * y.sig;
    /* The next bit of the quotient, and whether there is more. */
    sf_u128 twice = (sf_u128)rest << 1;
    uint64_t lo = twice >= y.sig ? F80_INT | (twice > y.sig) : rest != 0;
    return f80_round(env, x.sign ^ y.sign, exp, q, lo, env->precision);
}

static sf80 div_special(struct sf_env *env, sf80 a, sf80 b)
{
    if (either_is_nan(a, b))
        return f80_propagate(env, a, b);
    bool sign = f80_sign(a) ^ f80_sign(b);
    if ((f80_is_inf(a) && f80_is_inf(b)) || (f80_is_zero(a) && f80_is_zero(b)))
        return f80_invalid(env);
    if (f80_is_zero(b) && !f80_is_inf(a)) {
        env->flags |= SF_ZE;
        return f80_inf(sign);
    }
    note_denormal(env, a);
    note_denormal(env, b);
    if (f80_is_inf(a))
        return f80_inf(sign);
    if (f80_is_zero(a) || f80_is_inf(b))
        return f80_make(sign, 0, 0);
    return quotient(env, a, b);
}

sf80 sf80_div(struct sf_env *env, sf80 a, sf80 b)
{
    if (unlikely(!is_normal(a) || !is_normal(b)))
        return div_special(env, a, b);
    return quotient(env, a, b);
}

sf80 sf80_sqrt(struct sf_env *env, sf80 a)
{
    if (f80_is_nan_or_unsupported(a))
        return f80_propagate(env, a, a);
    if (f80_is_zero(a))
        return a;
    if (f80_sign(a))
        return f80_invalid(env);
    if (f80_is_inf(a))
        return a;
    note_denormal(env, a);
    struct f80_num x = f80_unpack(a);
    int e = x.exp - F80_BIAS;
    sf_u128 rest, n = (sf_u128)x.sig << (63 + (e & 1));
    uint64_t root = sf_sqrt128(n, &rest);
    /* (root + 1/2)^2 is root^2 + root + 1/4: no root is half-way. */
    uint64_t lo = rest > root ? F80_INT | 1 : rest != 0;
    return f80_round(env, false, (e >> 1) + F80_BIAS, root, lo, env->precision);
}

/* ---- comparison and rounding to an integer ---- */

/* Of the magnitudes of finite or infinite numbers; pseudo-denormals have the exponent 1. */
static int order_magnitudes(sf80 a, sf80 b)
{
    unsigned ea = f80_exp(a) + (f80_exp(a) == 0), eb = f80_exp(b) + (f80_exp(b) == 0);
    if (ea != eb)
        return ea < eb ? SF_LESS : SF_GREATER;
    return a.mantissa == b.mantissa ? SF_EQUAL : a.mantissa < b.mantissa ? SF_LESS : SF_GREATER;
}

int sf80_compare(struct sf_env *env, sf80 a, sf80 b, bool signaling)
{
    if (either_is_nan(a, b)) {
        if (signaling || f80_is_unsupported(a) || f80_is_unsupported(b) || f80_is_snan(a) ||
            f80_is_snan(b))
            env->flags |= SF_IE;
        return SF_UNORDERED;
    }
    note_denormal(env, a);
    note_denormal(env, b);
    if (f80_is_zero(a) && f80_is_zero(b))
        return SF_EQUAL;
    if (f80_sign(a) != f80_sign(b))
        return f80_sign(a) ? SF_LESS : SF_GREATER;
    return f80_sign(a) ? order_magnitudes(b, a) : order_magnitudes(a, b);
}

sf80 sf80_round_int(struct sf_env *env, sf80 a)
{
    if (f80_is_nan_or_unsupported(a))
        return f80_propagate(env, a, a);
    int e = (int)f80_exp(a) - F80_BIAS;
    if (f80_is_zero(a) || e >= 63)
        return a;
    note_denormal(env, a);
    bool sign = f80_sign(a);
    if (e < 0) {
        bool half = e == -1, below = !half || a.mantissa != F80_INT;
        env->flags |= SF_PE;
        env->up = sf_rounds_up(env->round, sign, false, half, below);
        return env->up ? f80_make(sign, F80_BIAS, F80_INT) : f80_make(sign, 0, 0);
    }
    uint64_t sig = cut(env, sign, a.mantissa, 0, (unsigned)e + 1);
    return sig ? f80_make(sign, f80_exp(a), sig) : f80_make(sign, f80_exp(a) + 1, F80_INT);
}

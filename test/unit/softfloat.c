/*
 * Portable floating point against silicon: the same operands, control bits and operation through
 * softfloat and through the host's own SSE instructions must give the same bits and flags.
 * Elsewhere than on x86-64 only the fixed cases run. The 80-bit functions are tested through the
 * x87 instructions, in x87.c.
 */
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#include "base/bits.h"
#include "test.h"
#include "x86/softfloat.h"

/* ---- fixed cases, for every host ---- */

static struct sf_env masked_env(void)
{
    return (struct sf_env){.masks = SF_ALL, .precision = 64};
}

TEST(known_sums_are_exact_to_the_bit)
{
    struct sf_env env = masked_env();
    CHECK_EQ(sf32_add(&env, 0x3f800000, 0x40000000), 0x40400000);
    CHECK_EQ(env.flags, 0);
    CHECK_EQ(sf64_div(&env, 0x3ff0000000000000, 0x4008000000000000), 0x3fd5555555555555);
    CHECK_EQ(env.flags, SF_PE);
    CHECK_EQ(sf64_sqrt(&env, 0x4000000000000000), 0x3ff6a09e667f3bcd);
}

TEST(default_nan_is_negative)
{
    struct sf_env env = masked_env();
    CHECK_EQ(sf32_div(&env, 0, 0), 0xffc00000);
    CHECK_EQ(env.flags, SF_IE);
}

TEST(conversions_that_do_not_fit_give_the_indefinite)
{
    struct sf_env env = masked_env();
    CHECK_EQ((uint32_t)sf32_to_i32(&env, 0x4f000000, false), 0x80000000);
    CHECK_EQ(env.flags, SF_IE);
    env.flags = 0;
    CHECK_EQ((uint32_t)sf32_to_i32(&env, 0xcf000000, false), 0x80000000);
    CHECK_EQ(env.flags, 0);
    CHECK_EQ(sf64_to_u64(&env, 0xbff0000000000000, false), UINT64_MAX);
    CHECK_EQ(env.flags, SF_IE);
}

TEST(unmasked_pre_computation_exceptions_hide_the_others)
{
    struct sf_env env = {.masks = SF_ALL & ~SF_DE, .precision = 64};
    sf32_mul(&env, 0x00000001, 0x3f7fffff);
    CHECK_EQ(sf_reported(&env), SF_DE);
    CHECK_EQ(sf_unmasked(&env), SF_DE);
}

#ifdef __x86_64__

/* ---- operands ---- */

static uint64_t seed;

static uint64_t rnd(void) /* xorshift64* */
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(0x2545f4914f6cdd1d);
}

/* A number of a format with F fraction bits: likely to be special, or on an edge. */
static uint64_t random_float(unsigned F)
{
    unsigned exp_bits = F == 23 ? 8 : 11;
    uint64_t exp_max = bits_mask(exp_bits), bias = exp_max >> 1, r = rnd();
    uint64_t sign = (r >> 60 & 1) << (F + exp_bits), exp, frac = rnd() & bits_mask(F);
    switch (r >> 32 & 15) {
    case 0: exp = 0; break;
    case 1: exp = exp_max; break;
    case 2: exp = 1 + (r & 3); break;
    case 3: exp = exp_max - 1 - (r & 3); break;
    case 4: exp = bias / 2 + (r & 15) - 8; break;
    case 5: exp = bias + bias / 2 + (r & 15) - 8; break;
    case 6:
    case 7: exp = bias + (r & 127) - 10; break;
    case 8: exp = (r & 0xffff) % exp_max; break;
    default: exp = bias + (r & 15) - 8; break;
    }
    switch (r >> 40 & 7) {
    case 0: frac = 0; break;
    case 1: frac = bits_mask(F) << (r >> 48 & 63) & bits_mask(F); break;
    case 2: frac = UINT64_C(1) << ((r >> 48 & 63) % F); break;
    case 3: frac = bits_mask(F) - (r >> 48 & 3); break;
    case 4: frac &= 7; break;
    default: break;
    }
    return sign | (exp & exp_max) << F | frac;
}

/* ---- the host's side ---- */

typedef uint64_t host_fn(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr);
typedef uint64_t soft_fn(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c);

static volatile sig_atomic_t trapped;
static uint32_t trap_mxcsr;

/* Notes the flags at the fault and lets the instruction run again with all exceptions masked. */
static void on_sigfpe(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)sig, (void)info;
    trapped = 1;
    trap_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
    uc->uc_mcontext.fpregs->mxcsr |= 0x1f80;
}

#define AROUND(code) "ldmxcsr %[m]\n\t" code "\n\tstmxcsr %[m]\n\tldmxcsr %[d]"
static const uint32_t default_mxcsr = 0x1f80;

#define HOST_FLOAT(name, type, code)                                                               \
    static uint64_t host_##name(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr)               \
    {                                                                                              \
        type x, y, z;                                                                              \
        memcpy(&x, &a, sizeof x);                                                                  \
        memcpy(&y, &b, sizeof y);                                                                  \
        memcpy(&z, &c, sizeof z);                                                                  \
        __asm__ volatile(AROUND(code)                                                              \
                         : "+x"(x), [m] "+m"(*mxcsr)                                               \
                         : "x"(y), "x"(z), [d] "m"(default_mxcsr));                                \
        uint64_t r = 0;                                                                            \
        memcpy(&r, &x, sizeof x);                                                                  \
        return r;                                                                                  \
    }
#define HOST_BOTH(name, stem)                                                                      \
    HOST_FLOAT(f32_##name, float, stem "ss %2, %0")                                                \
    HOST_FLOAT(f64_##name, double, stem "sd %2, %0")
#define SOFT2(name)                                                                                \
    static uint64_t soft_f32_##name(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c)        \
    {                                                                                              \
        return sf32_##name(env, (sf32)a, (sf32)b);                                                 \
    }                                                                                              \
    static uint64_t soft_f64_##name(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c)        \
    {                                                                                              \
        return sf64_##name(env, a, b);                                                             \
    }

HOST_BOTH(add, "add")
HOST_BOTH(sub, "sub")
HOST_BOTH(mul, "mul")
HOST_BOTH(div, "div")
HOST_BOTH(min, "min")
HOST_BOTH(max, "max")
SOFT2(add)
SOFT2(sub)
SOFT2(mul)
SOFT2(div)
SOFT2(min)
SOFT2(max)
HOST_BOTH(sqrt, "sqrt")
/* The instruction's first factor is its second operand. */
HOST_FLOAT(f32_fma, float, "vfmadd213ss %3, %2, %0")
HOST_FLOAT(f64_fma, double, "vfmadd213sd %3, %2, %0")

/* Everything that is not of the form f(env, a, b). */
#define SOFT(name, expression)                                                                     \
    static uint64_t soft_##name(struct sf_env *env, uint64_t a, uint64_t b, uint64_t c)            \
    {                                                                                              \
        return (expression);                                                                       \
    }
SOFT(f32_sqrt, sf32_sqrt(env, (sf32)b))
SOFT(f64_sqrt, sf64_sqrt(env, b))
SOFT(f32_fma, sf32_fma(env, (sf32)b, (sf32)a, (sf32)c))
SOFT(f64_fma, sf64_fma(env, b, a, c))

#define ROUNDS(mode)                                                                               \
    HOST_FLOAT(f32_round##mode, float, "roundss $" #mode ", %2, %0")                               \
    HOST_FLOAT(f64_round##mode, double, "roundsd $" #mode ", %2, %0")                              \
    SOFT(f32_round##mode,                                                                          \
         sf32_round_int(env, (sf32)b, mode & 4 ? env->round : mode & 3, mode & 8))                 \
    SOFT(f64_round##mode, sf64_round_int(env, b, mode & 4 ? env->round : mode & 3, mode & 8))
ROUNDS(0)
ROUNDS(1)
ROUNDS(2)
ROUNDS(3)
ROUNDS(4)
ROUNDS(12)

/* Comparisons: ZF, PF and CF as SETcc sees them. */
#define HOST_COMPARE(name, type, insn)                                                             \
    static uint64_t host_##name(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr)               \
    {                                                                                              \
        type x, y;                                                                                 \
        memcpy(&x, &a, sizeof x);                                                                  \
        memcpy(&y, &b, sizeof y);                                                                  \
        uint8_t p, above, below;                                                                   \
        __asm__ volatile(AROUND(insn " %[y], %[x]\n\tsetp %[p]\n\tseta %[a]\n\tsetb %[b]")         \
                         : [p] "=&q"(p), [a] "=&q"(above), [b] "=&q"(below), [m] "+m"(*mxcsr)      \
                         : [x] "x"(x), [y] "x"(y), [d] "m"(default_mxcsr)                          \
                         : "cc");                                                                  \
        return p ? SF_UNORDERED : above ? SF_GREATER : below ? (uint64_t)(int64_t)SF_LESS : 0;     \
    }
HOST_COMPARE(f32_comi, float, "comiss")
HOST_COMPARE(f64_comi, double, "comisd")
HOST_COMPARE(f32_ucomi, float, "ucomiss")
HOST_COMPARE(f64_ucomi, double, "ucomisd")
SOFT(f32_comi, (uint64_t)(int64_t)sf32_compare(env, (sf32)a, (sf32)b, true))
SOFT(f64_comi, (uint64_t)(int64_t)sf64_compare(env, a, b, true))
SOFT(f32_ucomi, (uint64_t)(int64_t)sf32_compare(env, (sf32)a, (sf32)b, false))
SOFT(f64_ucomi, (uint64_t)(int64_t)sf64_compare(env, a, b, false))

#define HOST_TO_INT(name, type, itype, code)                                                       \
    static uint64_t host_##name(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr)               \
    {                                                                                              \
        type x;                                                                                    \
        itype r;                                                                                   \
        memcpy(&x, &a, sizeof x);                                                                  \
        __asm__ volatile(AROUND(code " %[x], %[r]")                                                \
                         : [r] "=&r"(r), [m] "+m"(*mxcsr)                                          \
                         : [x] "x"(x), [d] "m"(default_mxcsr));                                    \
        return (uint64_t)r;                                                                        \
    }
#define TO_INT(from, width, to, insn, t)                                                           \
    HOST_TO_INT(from##_to_##to##_##t, __typeof__(from##_type), to##_type, insn)                    \
    SOFT(from##_to_##to##_##t, (uint64_t)sf##width##_to_##to(env, (sf##width)a, t))
static float f32_type __attribute__((unused));
static double f64_type __attribute__((unused));
typedef int32_t i32_type;
typedef int64_t i64_type;
typedef uint32_t u32_type;
typedef uint64_t u64_type;
TO_INT(f32, 32, i32, "cvtss2sil", 0)
TO_INT(f32, 32, i32, "cvttss2sil", 1)
TO_INT(f32, 32, i64, "cvtss2siq", 0)
TO_INT(f32, 32, i64, "cvttss2siq", 1)
TO_INT(f64, 64, i32, "cvtsd2sil", 0)
TO_INT(f64, 64, i32, "cvttsd2sil", 1)
TO_INT(f64, 64, i64, "cvtsd2siq", 0)
TO_INT(f64, 64, i64, "cvttsd2siq", 1)
TO_INT(f32, 32, u32, "vcvtss2usi", 0)
TO_INT(f32, 32, u32, "vcvttss2usi", 1)
TO_INT(f32, 32, u64, "vcvtss2usi", 0)
TO_INT(f32, 32, u64, "vcvttss2usi", 1)
TO_INT(f64, 64, u32, "vcvtsd2usi", 0)
TO_INT(f64, 64, u32, "vcvttsd2usi", 1)
TO_INT(f64, 64, u64, "vcvtsd2usi", 0)
TO_INT(f64, 64, u64, "vcvttsd2usi", 1)

#define HOST_FROM_INT(name, type, itype, code)                                                     \
    static uint64_t host_##name(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr)               \
    {                                                                                              \
        type x = 0;                                                                                \
        itype i = (itype)a;                                                                        \
        __asm__ volatile(AROUND(code)                                                              \
                         : [x] "+x"(x), [m] "+m"(*mxcsr)                                           \
                         : [i] "r"(i), [d] "m"(default_mxcsr));                                    \
        uint64_t r = 0;                                                                            \
        memcpy(&r, &x, sizeof x);                                                                  \
        return r;                                                                                  \
    }
HOST_FROM_INT(f32_from_i32, float, int32_t, "cvtsi2ssl %[i], %[x]")
HOST_FROM_INT(f32_from_i64, float, int64_t, "cvtsi2ssq %[i], %[x]")
HOST_FROM_INT(f64_from_i32, double, int32_t, "cvtsi2sdl %[i], %[x]")
HOST_FROM_INT(f64_from_i64, double, int64_t, "cvtsi2sdq %[i], %[x]")
HOST_FROM_INT(f32_from_u64, float, uint64_t, "vcvtusi2ssq %[i], %[x], %[x]")
HOST_FROM_INT(f64_from_u64, double, uint64_t, "vcvtusi2sdq %[i], %[x], %[x]")
SOFT(f32_from_i32, sf32_from_i32(env, (int32_t)a))
SOFT(f32_from_i64, sf32_from_i64(env, (int64_t)a))
SOFT(f64_from_i32, sf64_from_i32((int32_t)a))
SOFT(f64_from_i64, sf64_from_i64(env, (int64_t)a))
SOFT(f32_from_u64, sf32_from_u64(env, a))
SOFT(f64_from_u64, sf64_from_u64(env, a))

static uint64_t host_widen(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr)
{
    float x;
    double r;
    memcpy(&x, &a, sizeof x);
    __asm__ volatile(AROUND("cvtss2sd %[x], %[r]")
                     : [r] "=&x"(r), [m] "+m"(*mxcsr)
                     : [x] "x"(x), [d] "m"(default_mxcsr));
    memcpy(&a, &r, sizeof a);
    return a;
}
static uint64_t host_narrow(uint64_t a, uint64_t b, uint64_t c, uint32_t *mxcsr)
{
    double x;
    float r;
    memcpy(&x, &a, sizeof x);
    __asm__ volatile(AROUND("cvtsd2ss %[x], %[r]")
                     : [r] "=&x"(r), [m] "+m"(*mxcsr)
                     : [x] "x"(x), [d] "m"(default_mxcsr));
    a = 0;
    memcpy(&a, &r, sizeof r);
    return a;
}
SOFT(widen, sf32_to_sf64(env, (sf32)a))
SOFT(narrow, sf64_to_sf32(env, a))

/* ---- the comparison ---- */

enum needs { NEEDS_NOTHING, NEEDS_SSE41, NEEDS_FMA, NEEDS_AVX512 };

struct operation {
    const char *name;
    host_fn *host;
    soft_fn *soft;
    unsigned F; /* the operands' fraction bits; 0: an integer */
    enum needs needs;
};
#define O(name, F, needs)                                                                          \
    {                                                                                              \
#name, host_##name, soft_##name, F, needs                                                  \
    }
#define O2(name, needs) O(f32_##name, 23, needs), O(f64_##name, 52, needs)
#define OI(name, needs) O(f32_to_##name, 23, needs), O(f64_to_##name, 52, needs)

static const struct operation arithmetic[] = {
    O2(add, 0), O2(sub, 0), O2(mul, 0),  O2(div, 0),   O2(sqrt, 0),
    O2(min, 0), O2(max, 0), O2(comi, 0), O2(ucomi, 0), O2(fma, NEEDS_FMA),
};
static const struct operation conversions[] = {
    O2(round0, NEEDS_SSE41),
    O2(round1, NEEDS_SSE41),
    O2(round2, NEEDS_SSE41),
    O2(round3, NEEDS_SSE41),
    O2(round4, NEEDS_SSE41),
    O2(round12, NEEDS_SSE41),
    OI(i32_0, 0),
    OI(i32_1, 0),
    OI(i64_0, 0),
    OI(i64_1, 0),
    OI(u32_0, NEEDS_AVX512),
    OI(u32_1, NEEDS_AVX512),
    OI(u64_0, NEEDS_AVX512),
    OI(u64_1, NEEDS_AVX512),
    O(widen, 23, 0),
    O(narrow, 52, 0),
    O(f32_from_i32, 0, 0),
    O(f32_from_i64, 0, 0),
    O(f64_from_i32, 0, 0),
    O(f64_from_i64, 0, 0),
    O(f32_from_u64, 0, NEEDS_AVX512),
    O(f64_from_u64, 0, NEEDS_AVX512),
};

static bool host_has(enum needs needs)
{
    switch (needs) {
    case NEEDS_SSE41: return __builtin_cpu_supports("sse4.1");
    case NEEDS_FMA: return __builtin_cpu_supports("fma");
    case NEEDS_AVX512: return __builtin_cpu_supports("avx512f");
    default: return true;
    }
}

static uint64_t random_operand(unsigned F)
{
    return F ? random_float(F) : rnd() >> (rnd() & 63);
}

/* One case; control is MXCSR without flags. */
static bool same(const struct operation *o, uint64_t a, uint64_t b, uint64_t c, uint32_t control)
{
    uint32_t mxcsr = control;
    trapped = 0;
    uint64_t host = o->host(a, b, c, &mxcsr);
    struct sf_env env = sf_env_mxcsr(control);
    uint64_t soft = o->soft(&env, a, b, c);
    uint32_t host_flags = (trapped ? trap_mxcsr : mxcsr) & SF_ALL, soft_flags = sf_reported(&env);
    if (host_flags == soft_flags && !!trapped == !!sf_unmasked(&env) && (trapped || host == soft))
        return true;
    printf("# %s(%llx, %llx, %llx) mxcsr %x: host %llx flags %x%s, soft %llx flags %x\n", o->name,
           (unsigned long long)a, (unsigned long long)b, (unsigned long long)c, control,
           (unsigned long long)host, host_flags, trapped ? " (trap)" : "", (unsigned long long)soft,
           soft_flags);
    return false;
}

static void compare_all(const struct operation *ops, size_t count, unsigned cases, bool traps)
{
    struct sigaction action = {.sa_sigaction = on_sigfpe, .sa_flags = SA_SIGINFO}, before;
    sigaction(SIGFPE, &action, &before);
    seed = UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < count; i++) {
        unsigned wrong = 0;
        if (!host_has(ops[i].needs)) {
            printf("# %s: not on this host\n", ops[i].name);
            continue;
        }
        for (unsigned n = 0; n < cases && wrong < 5; n++) {
            uint64_t a = random_operand(ops[i].F), b = random_operand(ops[i].F);
            uint64_t c = random_operand(ops[i].F), r = rnd();
            if ((r & 15) == 0) /* operands that nearly cancel */
                b = a + (r >> 8 & 7) - 3;
            uint32_t masks = traps ? (uint32_t)(r >> 16) & 0x1f80 : 0x1f80;
            uint32_t control = masks | ((uint32_t)(r >> 32) & 0x6000);
            control |= (r >> 48 & 3) == 0 ? 0x8000 : 0;
            control |= (r >> 50 & 3) == 0 ? 0x0040 : 0;
            wrong += !same(&ops[i], a, b, c, control);
        }
        CHECK(wrong == 0);
    }
    sigaction(SIGFPE, &before, NULL);
}

static unsigned cases(unsigned n)
{
    const char *scale = getenv("DOPPEL_TEST_SCALE");
    return n * (scale ? (unsigned)atoi(scale) : 1);
}

TEST(arithmetic_is_the_hosts_with_exceptions_masked)
{
    compare_all(arithmetic, ARRAY_LEN(arithmetic), cases(100000), false);
}
TEST(arithmetic_is_the_hosts_with_exceptions_unmasked)
{
    compare_all(arithmetic, ARRAY_LEN(arithmetic), cases(8000), true);
}
TEST(conversions_are_the_hosts_with_exceptions_masked)
{
    compare_all(conversions, ARRAY_LEN(conversions), cases(50000), false);
}
TEST(conversions_are_the_hosts_with_exceptions_unmasked)
{
    compare_all(conversions, ARRAY_LEN(conversions), cases(4000), true);
}

#define SILICON                                                                                    \
    , T(arithmetic_is_the_hosts_with_exceptions_masked),                                           \
        T(arithmetic_is_the_hosts_with_exceptions_unmasked),                                       \
        T(conversions_are_the_hosts_with_exceptions_masked),                                       \
        T(conversions_are_the_hosts_with_exceptions_unmasked)
#else
#define SILICON
#endif

TESTS(T(known_sums_are_exact_to_the_bit), T(default_nan_is_negative),
      T(conversions_that_do_not_fit_give_the_indefinite),
      T(unmasked_pre_computation_exceptions_hide_the_others) SILICON)

/*
 * IEEE 754 arithmetic as x86 processors do it, in integers only: no host floating point, so that a
 * result is the same on every host.
 *
 * Every function takes its operands as bit patterns and a `struct sf_env`, which holds the control
 * bits and collects the exception flags. The rules are x86's throughout (SDM 1, chapters 4.8 and
 * 4.9): the default NaN is negative, tininess is detected after rounding, a masked underflow is
 * only flagged when the result is inexact as well, denormal operands raise DE, and pre-computation
 * exceptions (IE, DE, ZE) that are unmasked keep the post-computation ones (OE, UE, PE) from
 * happening.
 *
 * sf32_ and sf64_ functions follow SSE: NaN operands by the SDM's table 4-7, DAZ and FTZ obeyed.
 * sf80_ functions follow the x87: the NaN with the larger significand, precision control, unmasked
 * overflow and underflow deliver the result scaled by 2^-+24576; what the SDM calls unsupported
 * (unnormals, pseudo-infinities, pseudo-NaNs) is an invalid operand.
 */
#ifndef DOPPEL_X86_SOFTFLOAT_H
#define DOPPEL_X86_SOFTFLOAT_H

#include <stdbool.h>
#include <stdint.h>

#include "x86/state.h"

typedef uint16_t sf16;
typedef uint32_t sf32;
typedef uint64_t sf64;
typedef struct x86_f80 sf80;

/* Rounding modes, as MXCSR.RC and FCW.RC encode them. */
enum sf_round { SF_NEAREST, SF_DOWN, SF_UP, SF_ZERO };

/* Exception flags, as MXCSR, FSW and FCW (masks) order them. */
enum {
    SF_IE = 0x01, /* invalid operation */
    SF_DE = 0x02, /* denormal operand */
    SF_ZE = 0x04, /* division by zero */
    SF_OE = 0x08, /* overflow */
    SF_UE = 0x10, /* underflow */
    SF_PE = 0x20, /* precision: the result was rounded */
    SF_PRE = SF_IE | SF_DE | SF_ZE,
    SF_POST = SF_OE | SF_UE | SF_PE,
    SF_ALL = 0x3f,
};

struct sf_env {
    uint8_t round;     /* enum sf_round */
    uint8_t flags;     /* SF_*; sticky: functions OR into it */
    uint8_t masks;     /* SF_*; 1: masked */
    uint8_t precision; /* sf80_: significand bits to round to: 24, 53 or 64 */
    bool daz, ftz;     /* sf32_ and sf64_ only */
    bool up; /* the last result was rounded away from zero (C1); only set, never cleared */
};

/* An environment with MXCSR's control bits and no flags. */
static inline struct sf_env sf_env_mxcsr(uint32_t mxcsr)
{
    return (struct sf_env){.round = mxcsr >> 13 & 3,
                           .masks = mxcsr >> 7 & SF_ALL,
                           .precision = 64,
                           .daz = mxcsr >> 6 & 1,
                           .ftz = mxcsr >> 15 & 1};
}

/* The flags an instruction reports in MXCSR, once all its elements were computed in env (with flags
 * 0 at the start): an unmasked pre-computation exception in one element keeps the post-computation
 * exceptions of all from being reported (SDM 1, 11.5.3). */
static inline uint8_t sf_reported(const struct sf_env *env)
{
    return env->flags & ~env->masks & SF_PRE ? env->flags & SF_PRE : env->flags;
}

/* The unmasked ones among them: not 0 means #XM, and no result is stored. */
static inline uint8_t sf_unmasked(const struct sf_env *env)
{
    return sf_reported(env) & ~env->masks;
}

/* What a comparison says. */
enum sf_order { SF_LESS = -1, SF_EQUAL = 0, SF_GREATER = 1, SF_UNORDERED = 2 };

/* ---- single precision (softfloat_f32.c) ---- */

sf32 sf32_add(struct sf_env *env, sf32 a, sf32 b);
sf32 sf32_sub(struct sf_env *env, sf32 a, sf32 b);
sf32 sf32_mul(struct sf_env *env, sf32 a, sf32 b);
sf32 sf32_div(struct sf_env *env, sf32 a, sf32 b);
sf32 sf32_sqrt(struct sf_env *env, sf32 a);
/* MINSS, MAXSS: b when either is a NaN (IE) or both are zeros. */
sf32 sf32_min(struct sf_env *env, sf32 a, sf32 b);
sf32 sf32_max(struct sf_env *env, sf32 a, sf32 b);
/* a * b + c, rounded once; NaN operands are preferred in the order a, b, c. */
sf32 sf32_fma(struct sf_env *env, sf32 a, sf32 b, sf32 c);
/* enum sf_order. signaling: a QNaN raises IE too (COMISS), otherwise only an SNaN (UCOMISS). */
int sf32_compare(struct sf_env *env, sf32 a, sf32 b, bool signaling);
/* To an integer in floating point (ROUNDSS): mode is enum sf_round. A denormal operand raises no
 * DE. */
sf32 sf32_round_int(struct sf_env *env, sf32 a, unsigned mode, bool suppress_inexact);

/* ---- double precision (softfloat_f64.c) ---- */

sf64 sf64_add(struct sf_env *env, sf64 a, sf64 b);
sf64 sf64_sub(struct sf_env *env, sf64 a, sf64 b);
sf64 sf64_mul(struct sf_env *env, sf64 a, sf64 b);
sf64 sf64_div(struct sf_env *env, sf64 a, sf64 b);
sf64 sf64_sqrt(struct sf_env *env, sf64 a);
sf64 sf64_min(struct sf_env *env, sf64 a, sf64 b);
sf64 sf64_max(struct sf_env *env, sf64 a, sf64 b);
sf64 sf64_fma(struct sf_env *env, sf64 a, sf64 b, sf64 c);
int sf64_compare(struct sf_env *env, sf64 a, sf64 b, bool signaling);
sf64 sf64_round_int(struct sf_env *env, sf64 a, unsigned mode, bool suppress_inexact);

/* ---- double extended precision, the x87's (softfloat_f80.c) ---- */

sf80 sf80_add(struct sf_env *env, sf80 a, sf80 b);
sf80 sf80_sub(struct sf_env *env, sf80 a, sf80 b);
sf80 sf80_mul(struct sf_env *env, sf80 a, sf80 b);
sf80 sf80_div(struct sf_env *env, sf80 a, sf80 b);
sf80 sf80_sqrt(struct sf_env *env, sf80 a);
int sf80_compare(struct sf_env *env, sf80 a, sf80 b, bool signaling);
/* FRNDINT. */
sf80 sf80_round_int(struct sf_env *env, sf80 a);
/* FSCALE: a * 2^trunc(b). */
sf80 sf80_scale(struct sf_env *env, sf80 a, sf80 b);
/* FXTRACT: returns the exponent of a as a number, puts its significand into *significand. */
sf80 sf80_extract(struct sf_env *env, sf80 a, sf80 *significand);
/* FPREM (nearest false) and FPREM1 (true). *quotient gets the quotient's low three bits; *partial
 * says that the reduction is not complete (C2). */
sf80 sf80_remainder(struct sf_env *env, sf80 a, sf80 b, bool nearest, unsigned *quotient,
                    bool *partial);

/* ---- conversions (softfloat_convert.c) ----
 *
 * To integers: rounded as env says, or towards zero (truncate). What does not fit raises IE and
 * gives the integer indefinite: 0x8000... for signed, all ones for unsigned. */

int32_t sf32_to_i32(struct sf_env *env, sf32 a, bool truncate);
int64_t sf32_to_i64(struct sf_env *env, sf32 a, bool truncate);
uint32_t sf32_to_u32(struct sf_env *env, sf32 a, bool truncate);
uint64_t sf32_to_u64(struct sf_env *env, sf32 a, bool truncate);
int32_t sf64_to_i32(struct sf_env *env, sf64 a, bool truncate);
int64_t sf64_to_i64(struct sf_env *env, sf64 a, bool truncate);
uint32_t sf64_to_u32(struct sf_env *env, sf64 a, bool truncate);
uint64_t sf64_to_u64(struct sf_env *env, sf64 a, bool truncate);
int16_t sf80_to_i16(struct sf_env *env, sf80 a, bool truncate);
int32_t sf80_to_i32(struct sf_env *env, sf80 a, bool truncate);
int64_t sf80_to_i64(struct sf_env *env, sf80 a, bool truncate);

sf32 sf32_from_i32(struct sf_env *env, int32_t v);
sf32 sf32_from_i64(struct sf_env *env, int64_t v);
sf32 sf32_from_u32(struct sf_env *env, uint32_t v);
sf32 sf32_from_u64(struct sf_env *env, uint64_t v);
sf64 sf64_from_i32(int32_t v); /* always exact */
sf64 sf64_from_u32(uint32_t v);
sf64 sf64_from_i64(struct sf_env *env, int64_t v);
sf64 sf64_from_u64(struct sf_env *env, uint64_t v);
sf80 sf80_from_i64(int64_t v);

sf64 sf32_to_sf64(struct sf_env *env, sf32 a);
sf32 sf64_to_sf32(struct sf_env *env, sf64 a);
/* F16C's: DAZ does not count for half precision, whose denormals raise nothing, nor does FTZ. */
sf32 sf16_to_sf32(struct sf_env *env, sf16 a);
sf16 sf32_to_sf16(struct sf_env *env, sf32 a);
/* FLD of memory: raises DE for denormals, IE for SNaNs. */
sf80 sf32_to_sf80(struct sf_env *env, sf32 a);
sf80 sf64_to_sf80(struct sf_env *env, sf64 a);
/* The same number, raising nothing and leaving SNaNs as they are: operands from memory. */
sf80 sf32_widen(sf32 a);
sf80 sf64_widen(sf64 a);
static inline bool sf32_is_denormal(sf32 a)
{
    return (a << 1) - 1 < 0xffffff;
}
static inline bool sf64_is_denormal(sf64 a)
{
    return (a << 1) - 1 < UINT64_C(0x1fffffffffffff);
}
/* FST to memory. Raises no DE for a denormal source; an unmasked overflow or underflow gives no
 * usable result (nothing is stored). */
sf32 sf80_to_sf32(struct sf_env *env, sf80 a);
sf64 sf80_to_sf64(struct sf_env *env, sf80 a);

/* FBLD and FBSTP: 18 packed decimal digits, low ones first, and the sign in byte 9. */
sf80 sf80_from_bcd(const uint8_t bcd[10]);
void sf80_to_bcd(struct sf_env *env, sf80 a, uint8_t bcd[10]);

/* ---- transcendentals (softfloat_trig.c, softfloat_log.c) ----
 *
 * Within 1 ulp of the exact result of the operand given, whatever the precision control says. The
 * trigonometric ones return false, and change nothing, when |a| >= 2^63 (C2). */

bool sf80_sin(struct sf_env *env, sf80 a, sf80 *sin);
bool sf80_cos(struct sf_env *env, sf80 a, sf80 *cos);
bool sf80_sincos(struct sf_env *env, sf80 a, sf80 *sin, sf80 *cos);
bool sf80_tan(struct sf_env *env, sf80 a, sf80 *tan);
sf80 sf80_atan2(struct sf_env *env, sf80 y, sf80 x);    /* FPATAN: arctan(y / x) in y's quadrant */
sf80 sf80_exp2m1(struct sf_env *env, sf80 a);           /* F2XM1: 2^a - 1, |a| <= 1 */
sf80 sf80_ylog2x(struct sf_env *env, sf80 y, sf80 x);   /* FYL2X: y * log2(x) */
sf80 sf80_ylog2xp1(struct sf_env *env, sf80 y, sf80 x); /* FYL2XP1: y * log2(x + 1) */

#endif

/*
 * SSE's single-precision arithmetic: softfloat_ieee.h with 23 fraction bits.
 */
#include "x86/softfloat_ieee.h"

enum { F = 23 };

sf32 sf32_add(struct sf_env *env, sf32 a, sf32 b)
{
    return (sf32)ieee_add(env, a, b, false, F);
}

sf32 sf32_sub(struct sf_env *env, sf32 a, sf32 b)
{
    return (sf32)ieee_add(env, a, b, true, F);
}

sf32 sf32_mul(struct sf_env *env, sf32 a, sf32 b)
{
    return (sf32)ieee_mul(env, a, b, F);
}

sf32 sf32_div(struct sf_env *env, sf32 a, sf32 b)
{
    return (sf32)ieee_div(env, a, b, F);
}

sf32 sf32_sqrt(struct sf_env *env, sf32 a)
{
    return (sf32)ieee_sqrt(env, a, F);
}

sf32 sf32_fma(struct sf_env *env, sf32 a, sf32 b, sf32 c)
{
    return (sf32)ieee_fma(env, a, b, c, F);
}

sf32 sf32_min(struct sf_env *env, sf32 a, sf32 b)
{
    return (sf32)ieee_pick(env, a, b, SF_LESS, F);
}

sf32 sf32_max(struct sf_env *env, sf32 a, sf32 b)
{
    return (sf32)ieee_pick(env, a, b, SF_GREATER, F);
}

int sf32_compare(struct sf_env *env, sf32 a, sf32 b, bool signaling)
{
    return ieee_compare(env, a, b, signaling, F);
}

sf32 sf32_round_int(struct sf_env *env, sf32 a, unsigned mode, bool suppress_inexact)
{
    return (sf32)ieee_round_int(env, a, mode, suppress_inexact, F);
}

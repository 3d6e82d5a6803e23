/*
 * SSE's double-precision arithmetic: softfloat_ieee.h with 52 fraction bits.
 */
#include "x86/softfloat_ieee.h"

enum { F = 52 };

sf64 sf64_add(struct sf_env *env, sf64 a, sf64 b)
{
    return (sf64)ieee_add(env, a, b, false, F);
}

sf64 sf64_sub(struct sf_env *env, sf64 a, sf64 b)
{
    return (sf64)ieee_add(env, a, b, true, F);
}

sf64 sf64_mul(struct sf_env *env, sf64 a, sf64 b)
{
    return (sf64)ieee_mul(env, a, b, F);
}

sf64 sf64_div(struct sf_env *env, sf64 a, sf64 b)
{
    return (sf64)ieee_div(env, a, b, F);
}

sf64 sf64_sqrt(struct sf_env *env, sf64 a)
{
    return (sf64)ieee_sqrt(env, a, F);
}

sf64 sf64_fma(struct sf_env *env, sf64 a, sf64 b, sf64 c)
{
    return (sf64)ieee_fma(env, a, b, c, F);
}

sf64 sf64_min(struct sf_env *env, sf64 a, sf64 b)
{
    return (sf64)ieee_pick(env, a, b, SF_LESS, F);
}

sf64 sf64_max(struct sf_env *env, sf64 a, sf64 b)
{
    return (sf64)ieee_pick(env, a, b, SF_GREATER, F);
}

int sf64_compare(struct sf_env *env, sf64 a, sf64 b, bool signaling)
{
    return ieee_compare(env, a, b, signaling, F);
}

sf64 sf64_round_int(struct sf_env *env, sf64 a, unsigned mode, bool suppress_inexact)
{
    return (sf64)ieee_round_int(env, a, mode, suppress_inexact, F);
}

/*
 * PCMPxSTRx: comparisons of strings of up to 16 bytes (SDM 2, 4.1).
 *
 * The control byte: imm[1:0] the elements (bytes or words, unsigned or signed), imm[3:2] how the
 * strings are compared, imm[5:4] what becomes of the result's bits, imm[6] which end of it is
 * returned.
 */
#include "x86/sem/simd.h"

enum { AGGREGATE_EQUAL_ANY, AGGREGATE_RANGES, AGGREGATE_EQUAL_EACH, AGGREGATE_EQUAL_ORDERED };

struct strings {
    const union simd_lane *a, *b; /* the first and the second operand */
    unsigned a_valid, b_valid;    /* elements before the end of each */
    unsigned count;               /* elements in a register */
    unsigned imm;
};

static int element(const struct strings *s, const union simd_lane *v, unsigned i)
{
    switch (s->imm & 3) {
    case 0: return v->u8[i];
    case 1: return v->u16[i];
    case 2: return v->i8[i];
    default: return v->i16[i];
    }
}

/* Elements of v before the first that is 0. */
static unsigned implicit_length(const struct strings *s, const union simd_lane *v)
{
    unsigned n = 0;
    while (n < s->count && element(s, v, n) != 0)
        n++;
    return n;
}

/* A length in EAX or EDX (RAX, RDX with REX.W): its absolute value, at most a register's worth. */
static unsigned explicit_length(const struct strings *s, const struct x86_cpu *c, unsigned reg,
                                bool wide)
{
    int64_t v = wide ? (int64_t)c->s.gpr[reg] : (int32_t)c->s.gpr[reg];
    return v > -(int64_t)s->count && v < (int64_t)s->count ? (unsigned)(v < 0 ? -v : v) : s->count;
}

/* Is b[j] any of a's elements? */
static bool equal_any(const struct strings *s, unsigned j)
{
    if (j >= s->b_valid)
        return false;
    for (unsigned i = 0; i < s->a_valid; i++)
        if (element(s, s->a, i) == element(s, s->b, j))
            return true;
    return false;
}

/* Is b[j] in any of the ranges that a's pairs of elements give? */
static bool in_ranges(const struct strings *s, unsigned j)
{
    if (j >= s->b_valid)
        return false;
    int v = element(s, s->b, j);
    for (unsigned i = 0; i + 1 < s->a_valid; i += 2)
        if (v >= element(s, s->a, i) && v <= element(s, s->a, i + 1))
            return true;
    return false;
}

/* Is b[j] a[j]? Two strings that have both ended are equal. */
static bool equal_each(const struct strings *s, unsigned j)
{
    if (j >= s->a_valid || j >= s->b_valid)
        return j >= s->a_valid && j >= s->b_valid;
    return element(s, s->a, j) == element(s, s->b, j);
}

/* Does b hold a from element j on, as far as the register goes? */
static bool equal_ordered(const struct strings *s, unsigned j)
{
    for (unsigned i = 0; i < s->a_valid && i + j < s->count; i++)
        if (i + j >= s->b_valid || element(s, s->a, i) != element(s, s->b, i + j))
            return false;
    return true;
}

/* IntRes2, one bit for each element of b; sets the flags. */
static unsigned compare(struct x86_cpu *c, const struct strings *s)
{
    static bool (*const aggregate[])(const struct strings *, unsigned) = {
        [AGGREGATE_EQUAL_ANY] = equal_any,
        [AGGREGATE_RANGES] = in_ranges,
        [AGGREGATE_EQUAL_EACH] = equal_each,
        [AGGREGATE_EQUAL_ORDERED] = equal_ordered,
    };
    unsigned result = 0;
    for (unsigned j = 0; j < s->count; j++)
        result |= (unsigned)aggregate[s->imm >> 2 & 3](s, j) << j;

    if (s->imm & 0x10) /* negative polarity: of all bits, or of those before b's end */
        result ^= (unsigned)bits_mask(s->imm & 0x20 ? s->b_valid : s->count);

    x86_set_status(c, (result ? FLAG_CF : 0) | (s->b_valid < s->count ? FLAG_ZF : 0) |
                          (s->a_valid < s->count ? FLAG_SF : 0) | (result & 1 ? FLAG_OF : 0));
    return result;
}

/* xSTRI: the lowest or highest set bit's number goes to ECX; the number of elements for none. */
static void return_index(struct x86_cpu *c, const struct strings *s, unsigned result)
{
    unsigned index = s->count;
    if (result)
        index =
            s->imm & 0x40 ? 31 - (unsigned)__builtin_clz(result) : (unsigned)__builtin_ctz(result);
    c->s.gpr[X86_RCX] = index;
}

/* xSTRM: the bits, as bits or as whole elements, go to XMM0. */
static union simd_lane mask_of(const struct strings *s, unsigned result)
{
    union simd_lane r = {.u32 = {result}};
    if (s->imm & 0x40)
        for (unsigned i = 0; i < 16; i++)
            r.u8[i] = result >> (s->count == 16 ? i : i / 2) & 1 ? 0xff : 0;
    return r;
}

static void return_mask(struct x86_cpu *c, const struct strings *s, unsigned result)
{
    *xmm(c, 0) = mask_of(s, result);
}
static void return_mask_vex(struct x86_cpu *c, const struct strings *s, unsigned result)
{
    vex_write_xmm(c, 0, mask_of(s, result));
}

typedef void return_fn(struct x86_cpu *c, const struct strings *s, unsigned result);

enum lengths { IMPLICIT, EXPLICIT_32, EXPLICIT_64 };

/* The memory operand need not be aligned. */
static void compare_strings(struct x86_cpu *c, const struct op *op, enum lengths lengths,
                            return_fn *give)
{
    union simd_lane a = *xmm(c, op->reg), b = sse_source_n(c, op, 16);
    struct strings s = {&a, &b, .imm = (unsigned)op->imm, .count = op->imm & 1 ? 8 : 16};
    if (lengths == IMPLICIT) {
        s.a_valid = implicit_length(&s, &a);
        s.b_valid = implicit_length(&s, &b);
    } else {
        s.a_valid = explicit_length(&s, c, X86_RAX, lengths == EXPLICIT_64);
        s.b_valid = explicit_length(&s, c, X86_RDX, lengths == EXPLICIT_64);
    }
    give(c, &s, compare(c, &s));
}

#define STRINGS(name, check, lengths, give)                                                        \
    OP(name)                                                                                       \
    {                                                                                              \
        check(c);                                                                                  \
        compare_strings(c, op, lengths, give);                                                     \
    }
STRINGS(pcmpestri, sse_check, EXPLICIT_32, return_index)
STRINGS(pcmpestri_w, sse_check, EXPLICIT_64, return_index)
STRINGS(pcmpestrm, sse_check, EXPLICIT_32, return_mask)
STRINGS(pcmpestrm_w, sse_check, EXPLICIT_64, return_mask)
STRINGS(pcmpistri, sse_check, IMPLICIT, return_index)
STRINGS(pcmpistrm, sse_check, IMPLICIT, return_mask)
STRINGS(vpcmpestri, avx_check, EXPLICIT_32, return_index)
STRINGS(vpcmpestri_w, avx_check, EXPLICIT_64, return_index)
STRINGS(vpcmpestrm, avx_check, EXPLICIT_32, return_mask_vex)
STRINGS(vpcmpestrm_w, avx_check, EXPLICIT_64, return_mask_vex)
STRINGS(vpcmpistri, avx_check, IMPLICIT, return_index)
STRINGS(vpcmpistrm, avx_check, IMPLICIT, return_mask_vex)

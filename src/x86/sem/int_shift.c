/*
 * Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD, and BMI2's SHLX SHRX SARX RORX.
 *
 * The count is cut to 5 bits, or 6 with 64-bit operands; a count of 0 changes no flag. What the
 * manual leaves undefined (OF for counts above 1, AF, results of counts beyond the operand size)
 * follows what processors do: docs/undefined.md.
 */
#include "x86/sem/hot.h"

/* AF is set, as AMD's processors do. */
static ALWAYS_INLINE void cc_shift(struct x86_cpu *c, uint64_t r, bool cf, bool of, unsigned bits)
{
    cc_result_cf_of(c, r, cf, of, bits);
    c->cc.aux |= BIT(3);
}

static ALWAYS_INLINE uint64_t shift_shl(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    uint64_t r = n < 64 ? a << n : 0;
    bool cf = n <= bits && (a >> (bits - n) & 1);
    bool of = (r >> (bits - 1) & 1) ^ cf;
    cc_shift(c, r, cf, of, bits);
    return r;
}

static ALWAYS_INLINE uint64_t shift_shr(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    uint64_t r = a >> n;
    bool cf = a >> (n - 1) & 1;
    bool of = ((r << 1 ^ r) >> (bits - 1)) & 1;
    cc_shift(c, r, cf, of, bits);
    return r;
}

static ALWAYS_INLINE uint64_t shift_sar(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    int64_t s = bits_sign_extend(a, bits);
    int64_t r = s >> n;
    bool cf = s >> (n - 1) & 1;
    cc_shift(c, (uint64_t)r, cf, false, bits);
    return (uint64_t)r;
}

/* Rotates change CF and OF only. */
static ALWAYS_INLINE void cc_rotate(struct x86_cpu *c, bool cf, bool of)
{
    c->cc.aux = (c->cc.aux & ~(BIT(63) | BIT(62))) | (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62;
}

static ALWAYS_INLINE uint64_t shift_rol(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    n &= bits - 1;
    uint64_t r = n ? cut(a << n | a >> (bits - n), bits) : a;
    bool cf = r & 1;
    cc_rotate(c, cf, cf ^ (r >> (bits - 1) & 1));
    return r;
}

static ALWAYS_INLINE uint64_t shift_ror(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    n &= bits - 1;
    uint64_t r = n ? cut(a >> n | a << (bits - n), bits) : a;
    bool cf = r >> (bits - 1) & 1;
    cc_rotate(c, cf, cf ^ (r >> (bits - 2) & 1));
    return r;
}

/* Through carry: a ring of bits + 1. Counts are at most 31 (63 with 64-bit operands). */
static ALWAYS_INLINE uint64_t shift_rcl(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    if (bits < 32)
        n %= bits + 1;
    unsigned __int128 ring = (unsigned __int128)cc_cf(c) << bits | a;
    ring = ring << n | ring >> (bits + 1 - n);
    bool cf = ring >> bits & 1;
    uint64_t r = cut((uint64_t)ring, bits);
    cc_rotate(c, cf, cf ^ (r >> (bits - 1) & 1));
    return r;
}

static ALWAYS_INLINE uint64_t shift_rcr(struct x86_cpu *c, uint64_t a, unsigned n, unsigned bits)
{
    if (bits < 32)
        n %= bits + 1;
    unsigned __int128 ring = (unsigned __int128)cc_cf(c) << bits | a;
    ring = ring >> n | ring << (bits + 1 - n);
    bool cf = ring >> bits & 1;
    uint64_t r = cut((uint64_t)ring, bits);
    cc_rotate(c, cf, ((r << 1 ^ r) >> (bits - 1)) & 1);
    return r;
}

/* What the count register or immediate counts. A rotate by a whole turn still sets CF, so only the
 * masked count 0 does nothing. */
#define SHIFT(name, alu, bits, count)                                                              \
    OP_HOT(name##_ri##bits)                                                                        \
    {                                                                                              \
        unsigned n = (count) & (bits == 64 ? 63 : 31);                                             \
        uint64_t a = rm_get(c, op, bits);                                                          \
        rm_set(c, op, n ? shift_##alu(c, a, n, bits) : a, bits);                                   \
    }                                                                                              \
    OP_RMW(name##_mi##bits, bits)                                                                  \
    {                                                                                              \
        unsigned n = (count) & (bits == 64 ? 63 : 31);                                             \
        return n ? shift_##alu(c, m, n, bits) : m;                                                 \
    }

#define SHIFT_SEM(name, alu, count)                                                                \
    SHIFT(name, alu, 8, count)                                                                     \
    SHIFT(name, alu, 16, count)                                                                    \
    SHIFT(name, alu, 32, count)                                                                    \
    SHIFT(name, alu, 64, count)                                                                    \
    static op_fn *const name##_by[] = {NO_SIZE, NO_SIZE, NO_SIZE, BY_SIZE(name##_ri),              \
                                       BY_SIZE(name##_mi)};                                        \
    const struct sem name##_sem = {.by = name##_by, .kind = SEM_BY_PATTERN};

#define SHIFT_SEMS(name)                                                                           \
    SHIFT_SEM(name, name, (unsigned)op->imm)                                                       \
    SHIFT_SEM(name##_cl, name, (unsigned)c->s.gpr[X86_RCX])

SHIFT_SEMS(shl)
SHIFT_SEMS(shr)
SHIFT_SEMS(sar)
SHIFT_SEMS(rol)
SHIFT_SEMS(ror)
SHIFT_SEMS(rcl)
SHIFT_SEMS(rcr)

/* ---- double shifts ---- */

/* 16-bit operands with counts above 16 are undefined. AMD's processors go on shifting in what is
 * shifted in, and clear CF; OF is CF against the top bit of the first operand's own shift. */
static uint64_t double_left(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned n, unsigned bits)
{
    unsigned __int128 wide = (unsigned __int128)a << bits | b;
    if (bits == 16)
        wide = wide << 16 | b;
    unsigned top = bits == 16 ? 48 : 2 * bits;
    uint64_t r = cut((uint64_t)(wide >> (top - bits - n)), bits);
    bool cf = n <= bits && (a >> (bits - n) & 1);
    bool of = cf ^ (a << n >> (bits - 1) & 1);
    cc_shift(c, r, cf, of, bits);
    return r;
}

static uint64_t double_right(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned n, unsigned bits)
{
    unsigned __int128 wide = (unsigned __int128)b << bits | a;
    if (bits == 16)
        wide |= (unsigned __int128)b << 32;
    uint64_t r = cut((uint64_t)(wide >> n), bits);
    bool cf = n <= bits && (a >> (n - 1) & 1);
    cc_shift(c, r, cf, ((r << 1 ^ r) >> (bits - 1)) & 1, bits);
    return r;
}

typedef uint64_t double_fn(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned n, unsigned bits);

static ALWAYS_INLINE void shift_double(struct x86_cpu *c, const struct op *op, unsigned count,
                                       double_fn *shift)
{
    unsigned bits = op->size * 8;
    unsigned n = count & (bits == 64 ? 63 : 31);
    uint64_t b = gpr_read(c, op->reg, op->size);
    if (op->ea == EA_REG) {
        uint64_t a = gpr_read(c, op->rm, op->size);
        gpr_write(c, op->rm, op->size, n ? shift(c, a, b, n, bits) : a);
        return;
    }
    uint64_t lin = op_linear(c, op, op->size, X86_RMW);
    x86_probe_write(c, lin, op->size, op->seg);
    uint64_t a = lin_read_size(c, lin, op->seg, op->size);
    struct x86_cc before = c->cc;
    uint64_t r = n ? shift(c, a, b, n, bits) : a;
    struct x86_cc after = c->cc;
    c->cc = before;
    lin_write_size(c, lin, op->seg, r, op->size);
    c->cc = after;
}

OP(shld)
{
    shift_double(c, op, (unsigned)op->imm, double_left);
}
OP(shld_cl)
{
    shift_double(c, op, (unsigned)c->s.gpr[X86_RCX], double_left);
}
OP(shrd)
{
    shift_double(c, op, (unsigned)op->imm, double_right);
}
OP(shrd_cl)
{
    shift_double(c, op, (unsigned)c->s.gpr[X86_RCX], double_right);
}

/* ---- BMI2: no flags, the count in the register VEX.vvvv (op->cc), sizes 4 and 8 ---- */

static unsigned vex_count(const struct x86_cpu *c, const struct op *op)
{
    return c->s.gpr[op->cc] & (op->size * 8 - 1);
}

OP(shlx)
{
    uint64_t a = op_rm_read(c, op, op->size);
    gpr_write(c, op->reg, op->size, a << vex_count(c, op));
}

OP(shrx)
{
    uint64_t a = op_rm_read(c, op, op->size);
    gpr_write(c, op->reg, op->size, a >> vex_count(c, op));
}

OP(sarx)
{
    int64_t a = bits_sign_extend(op_rm_read(c, op, op->size), op->size * 8);
    gpr_write(c, op->reg, op->size, (uint64_t)(a >> vex_count(c, op)));
}

OP(rorx)
{
    unsigned bits = op->size * 8;
    uint64_t a = op_rm_read(c, op, op->size);
    unsigned n = op->imm & (bits - 1);
    gpr_write(c, op->reg, op->size, n ? a >> n | a << (bits - n) : a);
}

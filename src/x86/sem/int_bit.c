/*
 * Bits: BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, BMI1, BMI2's BZHI PDEP PEXT, ADCX ADOX.
 */
#include "x86/sem/hot.h"

/* ---- bit test: the selected bit goes to CF, the other flags stay ---- */

enum bit_change { BIT_KEEP, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static uint64_t bit_change(uint64_t v, uint64_t mask, enum bit_change change)
{
    switch (change) {
    case BIT_SET: return v | mask;
    case BIT_RESET: return v & ~mask;
    case BIT_COMPLEMENT: return v ^ mask;
    default: return v;
    }
}

/* `bit` counts from the operand's start; with a register index it reaches beyond the operand, in
 * steps of the operand size (SDM 2, BT). */
static void bit_test(struct x86_cpu *c, const struct op *op, int64_t bit, bool from_register,
                     enum bit_change change)
{
    unsigned bits = op->size * 8;
    uint64_t mask = BIT((uint64_t)bit & (bits - 1));
    if (op->ea == EA_REG) {
        uint64_t a = gpr_read(c, op->rm, op->size);
        if (change != BIT_KEEP)
            gpr_write(c, op->rm, op->size, bit_change(a, mask, change));
        cc_set_cf(c, a & mask);
        return;
    }
    uint64_t offset = op_offset(c, op);
    if (from_register)
        offset += (uint64_t)(bit >> __builtin_ctz(bits)) * op->size;
    if (op->flags & OPF_ADDR32)
        offset = (uint32_t)offset;
    else if (op->flags & OPF_ADDR16)
        offset = (uint16_t)offset;
    uint64_t lin =
        x86_linear(c, op->seg, offset, op->size, change == BIT_KEEP ? X86_READ : X86_RMW);
    if (change == BIT_KEEP) {
        cc_set_cf(c, lin_read_size(c, lin, op->seg, op->size) & mask);
        return;
    }
    if (!(op->flags & OPF_LOCK)) {
        x86_probe_write(c, lin, op->size, op->seg);
        uint64_t a = lin_read_size(c, lin, op->seg, op->size);
        lin_write_size(c, lin, op->seg, bit_change(a, mask, change), op->size);
        cc_set_cf(c, a & mask);
        return;
    }
    void *p = x86_lock_begin(c, lin, op->size, op->seg);
    uint64_t a;
    if (p) {
        a = x86_host_load(p, op->size);
        while (!x86_host_cas(p, op->size, &a, bit_change(a, mask, change)))
            ;
    } else {
        a = lin_read_size(c, lin, op->seg, op->size);
        lin_write_size(c, lin, op->seg, bit_change(a, mask, change), op->size);
        x86_lock_end(c);
    }
    cc_set_cf(c, a & mask);
}

#define BIT_TEST(name, change)                                                                     \
    OP(name)                                                                                       \
    {                                                                                              \
        bit_test(c, op, bits_sign_extend(gpr_read(c, op->reg, op->size), op->size * 8), true,      \
                 change);                                                                          \
    }                                                                                              \
    OP(name##_i)                                                                                   \
    {                                                                                              \
        bit_test(c, op, (int64_t)(op->imm & (op->size * 8u - 1)), false, change);                  \
    }
BIT_TEST(bt, BIT_KEEP)
BIT_TEST(bts, BIT_SET)
BIT_TEST(btr, BIT_RESET)
BIT_TEST(btc, BIT_COMPLEMENT)

/* ---- scans and counts ---- */

/* A source of 0 sets ZF and leaves the destination as it was (the manual calls it undefined; every
 * processor does this, with the upper half of a 32-bit destination left alone too). Of the
 * undefined flags PF is the result's parity and the others are cleared, as AMD's processors do. */
static void scan(struct x86_cpu *c, const struct op *op, bool reverse)
{
    uint64_t a = op_rm_read(c, op, op->size);
    if (a == 0) {
        x86_set_status(c, FLAG_ZF | FLAG_PF);
        return;
    }
    unsigned n = (unsigned)(reverse ? 63 - __builtin_clzll(a) : __builtin_ctzll(a));
    gpr_write(c, op->reg, op->size, n);
    x86_set_status(c, __builtin_parity(n) ? 0 : FLAG_PF);
}

OP(bsf)
{
    scan(c, op, false);
}

OP(bsr)
{
    scan(c, op, true);
}

/* CF: the source was 0; ZF: the result is 0. Of the undefined ones OF is kept and the others are
 * cleared, as AMD's processors do. */
static void set_count(struct x86_cpu *c, const struct op *op, uint64_t n, bool source_zero)
{
    uint64_t f = cc_of(c) ? FLAG_OF : 0;
    gpr_write(c, op->reg, op->size, n);
    x86_set_status(c, f | (source_zero ? FLAG_CF : 0) | (n == 0 ? FLAG_ZF : 0));
}

OP(tzcnt)
{
    uint64_t a = op_rm_read(c, op, op->size);
    set_count(c, op, a ? (unsigned)__builtin_ctzll(a) : op->size * 8u, a == 0);
}

OP(lzcnt)
{
    uint64_t a = op_rm_read(c, op, op->size);
    set_count(c, op, a ? __builtin_clzll(a) - (64 - op->size * 8u) : op->size * 8u, a == 0);
}

OP(popcnt)
{
    uint64_t a = op_rm_read(c, op, op->size);
    gpr_write(c, op->reg, op->size, __builtin_popcountll(a));
    x86_set_status(c, a ? 0 : FLAG_ZF);
}

/* ---- BMI1 and BMI2: sizes 4 and 8; VEX.vvvv is in op->cc ---- */

OP(andn)
{
    uint64_t r = cut(~gpr_read(c, op->cc, op->size) & op_rm_read(c, op, op->size), op->size * 8);
    gpr_write(c, op->reg, op->size, r);
    cc_logic(c, r, op->size * 8);
}

OP(bextr)
{
    unsigned bits = op->size * 8;
    uint64_t a = op_rm_read(c, op, op->size), control = gpr_read(c, op->cc, op->size);
    unsigned start = control & 0xff, length = control >> 8 & 0xff;
    uint64_t r = start < bits ? a >> start & bits_mask(length > 64 ? 64 : length) : 0;
    gpr_write(c, op->reg, op->size, r);
    cc_logic(c, r, bits);
    /* AF, SF and PF are undefined. AMD's processors set AF and clear SF. */
    c->cc.aux = BIT(3) | r >> (bits - 1);
}

/* The three that work on the lowest set bit write the register VEX.vvvv. */
static void set_lowest(struct x86_cpu *c, const struct op *op, uint64_t r, bool cf)
{
    r = cut(r, op->size * 8);
    gpr_write(c, op->cc, op->size, r);
    cc_result_cf_of(c, r, cf, false, op->size * 8);
}

OP(blsi)
{
    uint64_t a = op_rm_read(c, op, op->size);
    set_lowest(c, op, a & -a, a != 0);
}

OP(blsmsk)
{
    uint64_t a = op_rm_read(c, op, op->size);
    set_lowest(c, op, a ^ (a - 1), a == 0);
}

OP(blsr)
{
    uint64_t a = op_rm_read(c, op, op->size);
    set_lowest(c, op, a & (a - 1), a == 0);
}

OP(bzhi)
{
    unsigned bits = op->size * 8;
    uint64_t a = op_rm_read(c, op, op->size);
    unsigned n = c->s.gpr[op->cc] & 0xff;
    uint64_t r = n < bits ? a & bits_mask(n) : a;
    gpr_write(c, op->reg, op->size, r);
    cc_result_cf_of(c, r, n >= bits, false, bits);
}

OP(pdep)
{
    uint64_t mask = op_rm_read(c, op, op->size), source = c->s.gpr[op->cc], r = 0;
    for (; mask; mask &= mask - 1, source >>= 1)
        if (source & 1)
            r |= mask & -mask;
    gpr_write(c, op->reg, op->size, r);
}

OP(pext)
{
    uint64_t mask = op_rm_read(c, op, op->size), source = c->s.gpr[op->cc], r = 0;
    for (unsigned n = 0; mask; mask &= mask - 1, n++)
        if (source & mask & -mask)
            r |= BIT(n);
    gpr_write(c, op->reg, op->size, r);
}

/* ---- ADX: one carry chain in CF, one in OF ---- */

static uint64_t add_with(uint64_t a, uint64_t b, bool carry, unsigned bits, bool *out)
{
    unsigned __int128 sum = (unsigned __int128)a + b + carry;
    *out = sum >> bits & 1;
    return (uint64_t)sum;
}

OP(adcx)
{
    bool out;
    uint64_t b = op_rm_read(c, op, op->size);
    uint64_t r = add_with(gpr_read(c, op->reg, op->size), b, cc_cf(c), op->size * 8, &out);
    gpr_write(c, op->reg, op->size, r);
    cc_set_cf(c, out);
}

OP(adox)
{
    bool out;
    uint64_t b = op_rm_read(c, op, op->size);
    uint64_t r = add_with(gpr_read(c, op->reg, op->size), b, cc_of(c), op->size * 8, &out);
    gpr_write(c, op->reg, op->size, r);
    c->cc.aux = (c->cc.aux & ~BIT(62)) | (uint64_t)(cc_cf(c) ^ out) << 62;
}

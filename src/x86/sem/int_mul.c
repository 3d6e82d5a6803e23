/*
 * Multiplication, division and decimal adjustment.
 *
 * Products leave ZF, SF, PF and AF undefined and quotients all six flags; see docs/undefined.md for
 * what is done here.
 */
#include "x86/sem/hot.h"

/* RDX:RAX (or AX for bytes) takes a double-width value. */
static void set_wide(struct x86_cpu *c, unsigned size, uint64_t low, uint64_t high)
{
    if (size == 1) {
        gpr_write(c, X86_RAX, 2, (low & 0xff) | (high & 0xff) << 8);
        return;
    }
    gpr_write(c, X86_RAX, size, low);
    gpr_write(c, X86_RDX, size, high);
}

/* CF and OF say whether the upper half matters; the others are left as they were. */
static void cc_product(struct x86_cpu *c, uint64_t low, bool overflow, unsigned bits)
{
    cc_set_cf(c, overflow);
    c->cc.aux &= ~BIT(62); /* OF = CF */
}

OP(mul)
{
    unsigned bits = op->size * 8;
    unsigned __int128 p =
        (unsigned __int128)op_rm_read(c, op, op->size) * gpr_read(c, X86_RAX, op->size);
    uint64_t high = (uint64_t)(p >> bits);
    set_wide(c, op->size, (uint64_t)p, high);
    cc_product(c, (uint64_t)p, cut(high, bits) != 0, bits);
}

static __int128 signed_product(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    __int128 p = (__int128)bits_sign_extend(a, bits) * bits_sign_extend(b, bits);
    cc_product(c, (uint64_t)p, p != bits_sign_extend((uint64_t)p, bits), bits);
    return p;
}

OP(imul1)
{
    unsigned bits = op->size * 8;
    uint64_t b = op_rm_read(c, op, op->size);
    __int128 p = signed_product(c, gpr_read(c, X86_RAX, op->size), b, bits);
    set_wide(c, op->size, (uint64_t)p, (uint64_t)(p >> bits));
}

/* The two- and three-operand forms are as frequent as an addition: hot, by size. */
static ALWAYS_INLINE uint64_t imul(struct x86_cpu *c, uint64_t a, uint64_t b, unsigned bits)
{
    int64_t x = bits_sign_extend(a, bits), y = bits_sign_extend(b, bits), p;
    bool overflow = __builtin_mul_overflow(x, y, &p) || p != bits_sign_extend((uint64_t)p, bits);
    cc_product(c, (uint64_t)p, overflow, bits);
    return (uint64_t)p;
}

#define IMUL(bits)                                                                                 \
    OP_HOT(imul2_rr##bits)                                                                         \
    {                                                                                              \
        reg_set(c, op, imul(c, reg_get(c, op, bits), rm_get(c, op, bits), bits), bits);            \
    }                                                                                              \
    OP_LOAD(imul2_rm##bits, bits)                                                                  \
    {                                                                                              \
        reg_set(c, op, imul(c, reg_get(c, op, bits), m, bits), bits);                              \
    }                                                                                              \
    OP_HOT(imul3_rr##bits)                                                                         \
    {                                                                                              \
        reg_set(c, op, imul(c, rm_get(c, op, bits), op->imm, bits), bits);                         \
    }                                                                                              \
    OP_LOAD(imul3_rm##bits, bits)                                                                  \
    {                                                                                              \
        reg_set(c, op, imul(c, m, op->imm, bits), bits);                                           \
    }
IMUL(16)
IMUL(32)
IMUL(64)

#define IMUL_SEM(name)                                                                             \
    static op_fn *const name##_by[] = {                                                            \
        NULL,    op_##name##_rr16, op_##name##_rr32, op_##name##_rr64, /* RR */                    \
        NULL,    op_##name##_rm16, op_##name##_rm32, op_##name##_rm64, /* RM */                    \
        NO_SIZE, NO_SIZE,          NO_SIZE};                                                       \
    const struct sem name##_sem = {.by = name##_by, .kind = SEM_BY_PATTERN};
IMUL_SEM(imul2)
IMUL_SEM(imul3)

/* BMI2: the low half first, so that the high half wins when both go to one register. */
OP(mulx)
{
    unsigned __int128 p =
        (unsigned __int128)op_rm_read(c, op, op->size) * gpr_read(c, X86_RDX, op->size);
    gpr_write(c, op->cc, op->size, (uint64_t)p);
    gpr_write(c, op->reg, op->size, (uint64_t)(p >> (op->size * 8)));
}

/* ---- division ---- */

static unsigned __int128 dividend(const struct x86_cpu *c, unsigned size)
{
    if (size == 1)
        return (uint16_t)c->s.gpr[X86_RAX];
    return (unsigned __int128)gpr_read(c, X86_RDX, size) << (size * 8) | gpr_read(c, X86_RAX, size);
}

/* All flags are undefined. AMD's processors set AF, clear ZF, SF and PF, and keep CF and OF. */
static void cc_divided(struct x86_cpu *c)
{
    c->cc.result = 1;
    c->cc.aux = (c->cc.aux & (BIT(63) | BIT(62))) | BIT(3);
}

OP(div)
{
    unsigned bits = op->size * 8;
    uint64_t d = op_rm_read(c, op, op->size);
    unsigned __int128 n = dividend(c, op->size);
    /* The quotient fits when the dividend's upper half is smaller than the divisor. */
    if ((uint64_t)(n >> bits) >= d)
        x86_raise(c, X86_DE);
    if (n >> 64) /* only then is a 128-bit division needed, which is slow */
        set_wide(c, op->size, (uint64_t)(n / d), (uint64_t)(n % d));
    else
        set_wide(c, op->size, (uint64_t)n / d, (uint64_t)n % d);
    cc_divided(c);
}

OP(idiv)
{
    unsigned bits = op->size * 8;
    int64_t d = bits_sign_extend(op_rm_read(c, op, op->size), bits);
    unsigned __int128 u = dividend(c, op->size);
    __int128 n = bits == 64 ? (__int128)u : bits_sign_extend((uint64_t)u, 2 * bits);
    if (d == 0 || (d == -1 && bits == 64 && u == (unsigned __int128)1 << 127))
        x86_raise(c, X86_DE);
    __int128 q = n / d;
    if (q != bits_sign_extend((uint64_t)q, bits))
        x86_raise(c, X86_DE);
    set_wide(c, op->size, (uint64_t)q, (uint64_t)(n % d));
    cc_divided(c);
}

/* ---- decimal adjustment (SDM 2: AAA, AAD, AAM, AAS, DAA, DAS) ---- */

static void adjust_unpacked(struct x86_cpu *c, bool subtract)
{
    uint16_t ax = (uint16_t)c->s.gpr[X86_RAX];
    bool adjust = (ax & 0xf) > 9 || cc_af(c);
    uint16_t by = adjust ? 0x106 : 0, r = (uint16_t)(subtract ? ax - by : ax + by);
    uint64_t carries = subtract ? carries_of_sub(ax, by, r) : carries_of_add(ax, by, r);
    gpr_write(c, X86_RAX, 2, r & 0xff0f);
    /* The undefined flags are those of the 16-bit sum, as AMD's processors have them. */
    cc_arith(c, r, carries, 16);
    bool of = cc_of(c);
    c->cc.aux = adjust ? BIT(63) | (uint64_t)!of << 62 | BIT(3) : (uint64_t)of << 62;
}

OP(aaa)
{
    adjust_unpacked(c, false);
}

OP(aas)
{
    adjust_unpacked(c, true);
}

OP(aam)
{
    uint8_t base = (uint8_t)op->imm, al = (uint8_t)c->s.gpr[X86_RAX];
    if (base == 0)
        x86_raise(c, X86_DE);
    gpr_write(c, X86_RAX, 2, (uint64_t)(al / base) << 8 | al % base);
    cc_logic(c, al % base, 8);
}

OP(aad)
{
    uint16_t ax = (uint16_t)c->s.gpr[X86_RAX];
    uint8_t al = (uint8_t)ax, tens = (uint8_t)((ax >> 8) * (uint8_t)op->imm);
    uint8_t r = (uint8_t)(al + tens);
    gpr_write(c, X86_RAX, 2, r);
    /* The undefined flags are those of the sum, as AMD's processors have them. */
    cc_arith(c, r, carries_of_add(al, tens, r), 8);
}

static void adjust_packed(struct x86_cpu *c, bool subtract)
{
    uint8_t al = (uint8_t)c->s.gpr[X86_RAX], before = al;
    bool carry = cc_cf(c), low = (al & 0xf) > 9 || cc_af(c), cf = false;
    if (low) {
        cf = carry || (subtract ? al < 6 : al > 0xf9);
        al = (uint8_t)(subtract ? al - 6 : al + 6);
    }
    if (before > 0x99 || carry) {
        al = (uint8_t)(subtract ? al - 0x60 : al + 0x60);
        cf = true;
    }
    gpr_write(c, X86_RAX, 1, al);
    cc_logic(c, al, 8);
    /* OF is undefined: that of the whole correction, as AMD's processors have it. */
    bool of = ((subtract ? before & ~al : ~before & al) & 0x80) != 0;
    c->cc.aux = (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62 | (low ? BIT(3) : 0);
}

OP(daa)
{
    adjust_packed(c, false);
}

OP(das)
{
    adjust_packed(c, true);
}

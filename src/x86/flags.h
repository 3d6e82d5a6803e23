/*
 * Lazy status flags. Two words stand for the six flags:
 *
 *   result  the last result, sign-extended to 64 bits: ZF, SF and (low byte) PF come from it
 *   aux     bit 63: CF;  bit 62: CF ^ OF;  bit 3: AF;  bits 8 to 15: XORed into the byte PF is
 *           taken from;  bit 0: XORed into SF
 *
 * For an addition or subtraction of n bits with carry-out vector k (bit i set: a carry or borrow
 * out of bit i), aux is k moved up by 64 - n, plus bit 3 of k: bits 63 and 62 are then the carries
 * out of the two top bits, whose XOR is OF. Logic operations leave aux 0. No operation code is kept
 * and nothing is branched on. (The idea is Darek Mihocka's and Stanislav Shwartsman's, from their
 * work on Bochs.)
 */
#ifndef DOPPEL_X86_FLAGS_H
#define DOPPEL_X86_FLAGS_H

#include "x86/cpu.h"

static inline bool cc_zf(const struct x86_cpu *c)
{
    return c->cc.result == 0;
}
static inline bool cc_sf(const struct x86_cpu *c)
{
    return ((uint64_t)c->cc.result >> 63) ^ (c->cc.aux & 1);
}
static inline bool cc_cf(const struct x86_cpu *c)
{
    return c->cc.aux >> 63;
}
static inline bool cc_of(const struct x86_cpu *c)
{
    return ((c->cc.aux >> 63) ^ (c->cc.aux >> 62)) & 1;
}
static inline bool cc_af(const struct x86_cpu *c)
{
    return (c->cc.aux >> 3) & 1;
}
static inline bool cc_pf(const struct x86_cpu *c)
{
    return !__builtin_parity(((uint64_t)c->cc.result ^ (c->cc.aux >> 8)) & 0xff);
}

/* All of RFLAGS. */
static inline uint64_t x86_rflags(const struct x86_cpu *c)
{
    uint64_t f = c->s.rflags & ~(uint64_t)FLAGS_STATUS;
    f |= cc_cf(c) ? FLAG_CF : 0;
    f |= cc_pf(c) ? FLAG_PF : 0;
    f |= cc_af(c) ? FLAG_AF : 0;
    f |= cc_zf(c) ? FLAG_ZF : 0;
    f |= cc_sf(c) ? FLAG_SF : 0;
    f |= cc_of(c) ? FLAG_OF : 0;
    return f | FLAG_1;
}

/* Sets the six status flags from f (other bits ignored). */
static inline void x86_set_status(struct x86_cpu *c, uint64_t f)
{
    uint64_t aux = 0;
    aux |= f & FLAG_CF ? BIT(63) : 0;
    aux |= !!(f & FLAG_CF) != !!(f & FLAG_OF) ? BIT(62) : 0;
    aux |= f & FLAG_AF ? BIT(3) : 0;
    /* The low byte of the result is 0 either way, which has even parity. */
    aux |= f & FLAG_PF ? 0 : BIT(8);
    aux |= f & FLAG_SF ? BIT(0) : 0;
    c->cc.result = f & FLAG_ZF ? 0 : 0x100;
    c->cc.aux = aux;
}

/* Sets the whole of RFLAGS without any check; the caller calls x86_update_mode() if AC or VM
 * changed, and sets X86_REQUEST_STEP if TF is set now. */
static inline void x86_set_rflags(struct x86_cpu *c, uint64_t f)
{
    c->s.rflags = f | FLAG_1;
    x86_set_status(c, f);
}

/* Sets CF (to 0 or 1) and leaves the other flags as they are. */
static inline void cc_set_cf(struct x86_cpu *c, bool cf)
{
    uint64_t of = cc_of(c);
    c->cc.aux = (c->cc.aux & ~(BIT(63) | BIT(62))) | (uint64_t)cf << 63 | (cf ^ of) << 62;
}

/* Condition codes as Jcc, SETcc and CMOVcc encode them (SDM 2, appendix B.1.4.7). */
static inline bool cc_test(const struct x86_cpu *c, unsigned condition)
{
    bool r = false;
    switch (condition >> 1) {
    case 0: r = cc_of(c); break;
    case 1: r = cc_cf(c); break;
    case 2: r = cc_zf(c); break;
    case 3: r = cc_cf(c) || cc_zf(c); break;
    case 4: r = cc_sf(c); break;
    case 5: r = cc_pf(c); break;
    case 6: r = cc_sf(c) != cc_of(c); break;
    case 7: r = cc_zf(c) || cc_sf(c) != cc_of(c); break;
    }
    return r ^ (condition & 1);
}

#endif

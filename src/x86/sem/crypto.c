/*
 * Cryptographic instructions: AES (FIPS 197), carry-less multiplication, SHA-1 and SHA-256 (FIPS
 * 180-4), CRC32 (of iSCSI's polynomial).
 */
#include "x86/sem/simd.h"

/* ---- AES: the state's byte of row i and column j is byte i + 4 * j ---- */

static const uint8_t sub_byte[256] = {
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
    0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
    0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
    0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
    0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
    0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
    0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
    0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
    0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
    0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
    0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
    0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
    0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
    0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
    0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
    0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};

static const uint8_t inv_sub_byte[256] = {
    0x52, 0x09, 0x6a, 0xd5, 0x30, 0x36, 0xa5, 0x38, 0xbf, 0x40, 0xa3, 0x9e, 0x81, 0xf3, 0xd7, 0xfb,
    0x7c, 0xe3, 0x39, 0x82, 0x9b, 0x2f, 0xff, 0x87, 0x34, 0x8e, 0x43, 0x44, 0xc4, 0xde, 0xe9, 0xcb,
    0x54, 0x7b, 0x94, 0x32, 0xa6, 0xc2, 0x23, 0x3d, 0xee, 0x4c, 0x95, 0x0b, 0x42, 0xfa, 0xc3, 0x4e,
    0x08, 0x2e, 0xa1, 0x66, 0x28, 0xd9, 0x24, 0xb2, 0x76, 0x5b, 0xa2, 0x49, 0x6d, 0x8b, 0xd1, 0x25,
    0x72, 0xf8, 0xf6, 0x64, 0x86, 0x68, 0x98, 0x16, 0xd4, 0xa4, 0x5c, 0xcc, 0x5d, 0x65, 0xb6, 0x92,
    0x6c, 0x70, 0x48, 0x50, 0xfd, 0xed, 0xb9, 0xda, 0x5e, 0x15, 0x46, 0x57, 0xa7, 0x8d, 0x9d, 0x84,
    0x90, 0xd8, 0xab, 0x00, 0x8c, 0xbc, 0xd3, 0x0a, 0xf7, 0xe4, 0x58, 0x05, 0xb8, 0xb3, 0x45, 0x06,
    0xd0, 0x2c, 0x1e, 0x8f, 0xca, 0x3f, 0x0f, 0x02, 0xc1, 0xaf, 0xbd, 0x03, 0x01, 0x13, 0x8a, 0x6b,
    0x3a, 0x91, 0x11, 0x41, 0x4f, 0x67, 0xdc, 0xea, 0x97, 0xf2, 0xcf, 0xce, 0xf0, 0xb4, 0xe6, 0x73,
    0x96, 0xac, 0x74, 0x22, 0xe7, 0xad, 0x35, 0x85, 0xe2, 0xf9, 0x37, 0xe8, 0x1c, 0x75, 0xdf, 0x6e,
    0x47, 0xf1, 0x1a, 0x71, 0x1d, 0x29, 0xc5, 0x89, 0x6f, 0xb7, 0x62, 0x0e, 0xaa, 0x18, 0xbe, 0x1b,
    0xfc, 0x56, 0x3e, 0x4b, 0xc6, 0xd2, 0x79, 0x20, 0x9a, 0xdb, 0xc0, 0xfe, 0x78, 0xcd, 0x5a, 0xf4,
    0x1f, 0xdd, 0xa8, 0x33, 0x88, 0x07, 0xc7, 0x31, 0xb1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xec, 0x5f,
    0x60, 0x51, 0x7f, 0xa9, 0x19, 0xb5, 0x4a, 0x0d, 0x2d, 0xe5, 0x7a, 0x9f, 0x93, 0xc9, 0x9c, 0xef,
    0xa0, 0xe0, 0x3b, 0x4d, 0xae, 0x2a, 0xf5, 0xb0, 0xc8, 0xeb, 0xbb, 0x3c, 0x83, 0x53, 0x99, 0x61,
    0x17, 0x2b, 0x04, 0x7e, 0xba, 0x77, 0xd6, 0x26, 0xe1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0c, 0x7d,
};

/* Row i rotates left by i: the byte that moves to place i. */
static unsigned shift_rows(unsigned i)
{
    return (i + 4 * (i & 3)) & 15;
}
static unsigned inv_shift_rows(unsigned i)
{
    return (i - 4 * (i & 3)) & 15;
}

/* x times v in the field of 2^8 elements, modulo x^8 + x^4 + x^3 + x + 1. */
static uint8_t times_x(uint8_t v)
{
    return (uint8_t)(v << 1 ^ (v & 0x80 ? 0x1b : 0));
}

/* Four bytes of a column, multiplied by {02}x^3 + {01}x^2 + ...: FIPS 197's MixColumns. */
static void mix_columns(union simd_lane *v)
{
    for (unsigned j = 0; j < 16; j += 4) {
        uint8_t *s = &v->u8[j], all = s[0] ^ s[1] ^ s[2] ^ s[3], first = s[0];
        for (unsigned i = 0; i < 4; i++) {
            uint8_t next = i < 3 ? s[i + 1] : first;
            s[i] ^= all ^ times_x(s[i] ^ next);
        }
    }
}

/* InvMixColumns' polynomial {0b}x^3 + {0d}x^2 + {09}x + {0e} is MixColumns' times {04}x^2 + {05}:
 * each byte first gets {04} times the sum of itself and the byte two places on. */
static void inv_mix_columns(union simd_lane *v)
{
    for (unsigned j = 0; j < 16; j += 4) {
        uint8_t *s = &v->u8[j];
        uint8_t even = times_x(times_x(s[0] ^ s[2])), odd = times_x(times_x(s[1] ^ s[3]));
        s[0] ^= even;
        s[1] ^= odd;
        s[2] ^= even;
        s[3] ^= odd;
    }
    mix_columns(v);
}

static inline void add_round_key(union simd_lane *r, const union simd_lane *key)
{
    r->u64[0] ^= key->u64[0];
    r->u64[1] ^= key->u64[1];
}

static void aes_encrypt_substitute(union simd_lane *r, const union simd_lane *a)
{
    for (unsigned i = 0; i < 16; i++)
        r->u8[i] = sub_byte[a->u8[shift_rows(i)]];
}

static void aes_decrypt_substitute(union simd_lane *r, const union simd_lane *a)
{
    for (unsigned i = 0; i < 16; i++)
        r->u8[i] = inv_sub_byte[a->u8[inv_shift_rows(i)]];
}

SIMD(aesenc)
{
    aes_encrypt_substitute(r, a);
    mix_columns(r);
    add_round_key(r, b);
}

SIMD(aesenclast)
{
    aes_encrypt_substitute(r, a);
    add_round_key(r, b);
}

SIMD(aesdec)
{
    aes_decrypt_substitute(r, a);
    inv_mix_columns(r);
    add_round_key(r, b);
}

SIMD(aesdeclast)
{
    aes_decrypt_substitute(r, a);
    add_round_key(r, b);
}

SIMD(aesimc)
{
    *r = *b;
    inv_mix_columns(r);
}

static uint32_t sub_word(uint32_t v)
{
    uint32_t r = 0;
    for (unsigned i = 0; i < 32; i += 8)
        r |= (uint32_t)sub_byte[v >> i & 0xff] << i;
    return r;
}

static inline uint32_t rotate_right(uint32_t v, unsigned n)
{
    return v >> n | v << (32 - n);
}

SIMD(aeskeygenassist)
{
    for (unsigned i = 0; i < 4; i += 2) {
        uint32_t word = sub_word(b->u32[i + 1]);
        r->u32[i] = word;
        r->u32[i + 1] = rotate_right(word, 8) ^ (imm & 0xff);
    }
}

/* ---- carry-less multiplication: imm[0] and imm[4] choose the halves of a and b ---- */

SIMD(pclmulqdq)
{
    uint64_t x = a->u64[imm & 1], y = b->u64[imm >> 4 & 1];
    uint64_t low = 0, high = 0;
    for (unsigned i = 0; i < 64; i++) {
        uint64_t take = -(y >> i & 1);
        low ^= (x << i) & take;
        high ^= (i ? x >> (64 - i) : 0) & take;
    }
    r->u64[0] = low;
    r->u64[1] = high;
}

/* ---- SHA: Intel's manual wants aligned memory operands, AMD's processors take any; so do we ----
 */

#define SHA(name)                                                                                  \
    LANE(name);                                                                                    \
    OP(name)                                                                                       \
    {                                                                                              \
        sse_check(c);                                                                              \
        union simd_lane r, b = sse_source_n(c, op, 16);                                            \
        name##_lane(&r, xmm(c, op->reg), &b, 16, (unsigned)op->imm);                               \
        *xmm(c, op->reg) = r;                                                                      \
    }                                                                                              \
    LANE(name)

/* ---- SHA-1: words in a register run from the highest down ---- */

static inline uint32_t rotate_left(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static inline uint32_t choose(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (~x & z);
}
static inline uint32_t majority(uint32_t x, uint32_t y, uint32_t z)
{
    return (x & y) ^ (x & z) ^ (y & z);
}
static inline uint32_t parity(uint32_t x, uint32_t y, uint32_t z)
{
    return x ^ y ^ z;
}

/* Four rounds, of the kind that imm[1:0] says; a is A to D, b the message words, E added to the
 * first of them. */
SHA(sha1rnds4)
{
    static const struct {
        uint32_t (*f)(uint32_t, uint32_t, uint32_t);
        uint32_t k;
    } kinds[4] = {
        {choose, 0x5a827999}, {parity, 0x6ed9eba1}, {majority, 0x8f1bbcdc}, {parity, 0xca62c1d6}};
    uint32_t v[5] = {a->u32[3], a->u32[2], a->u32[1], a->u32[0], 0}; /* A to E */
    for (unsigned i = 0; i < 4; i++) {
        uint32_t next = kinds[imm & 3].f(v[1], v[2], v[3]) + rotate_left(v[0], 5) + v[4] +
                        b->u32[3 - i] + kinds[imm & 3].k;
        v[4] = v[3];
        v[3] = v[2];
        v[2] = rotate_left(v[1], 30);
        v[1] = v[0];
        v[0] = next;
    }
    for (unsigned i = 0; i < 4; i++)
        r->u32[3 - i] = v[i];
}

SHA(sha1nexte)
{
    *r = *b;
    r->u32[3] += rotate_left(a->u32[3], 30);
}

SHA(sha1msg1)
{
    r->u32[3] = a->u32[3] ^ a->u32[1];
    r->u32[2] = a->u32[2] ^ a->u32[0];
    r->u32[1] = a->u32[1] ^ b->u32[3];
    r->u32[0] = a->u32[0] ^ b->u32[2];
}

SHA(sha1msg2)
{
    r->u32[3] = rotate_left(a->u32[3] ^ b->u32[2], 1);
    r->u32[2] = rotate_left(a->u32[2] ^ b->u32[1], 1);
    r->u32[1] = rotate_left(a->u32[1] ^ b->u32[0], 1);
    r->u32[0] = rotate_left(a->u32[0] ^ r->u32[3], 1);
}

/* ---- SHA-256: words in a register run from the lowest up ---- */

/* a: C, D, G, H (from the highest down); b: A, B, E, F; two rounds' words with their constants are
 * in the low half of wk, XMM0 in the legacy form. */
static inline void sha256rnds2_lane(union simd_lane *r, const union simd_lane *a,
                                    const union simd_lane *b, const union simd_lane *wk)
{
    uint32_t v[8] = {b->u32[3], b->u32[2], a->u32[3], a->u32[2],
                     b->u32[1], b->u32[0], a->u32[1], a->u32[0]}; /* A to H */
    for (unsigned i = 0; i < 2; i++) {
        uint32_t sum_e = rotate_right(v[4], 6) ^ rotate_right(v[4], 11) ^ rotate_right(v[4], 25);
        uint32_t sum_a = rotate_right(v[0], 2) ^ rotate_right(v[0], 13) ^ rotate_right(v[0], 22);
        uint32_t t = v[7] + sum_e + choose(v[4], v[5], v[6]) + wk->u32[i];
        uint32_t first = t + sum_a + majority(v[0], v[1], v[2]), fifth = v[3] + t;
        for (unsigned j = 7; j > 0; j--)
            v[j] = v[j - 1];
        v[0] = first;
        v[4] = fifth;
    }
    *r = (union simd_lane){.u32 = {v[5], v[4], v[1], v[0]}};
}

OP(sha256rnds2)
{
    sse_check(c);
    union simd_lane r, b = sse_source_n(c, op, 16);
    sha256rnds2_lane(&r, xmm(c, op->reg), &b, xmm(c, 0));
    *xmm(c, op->reg) = r;
}

SHA(sha256msg1)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t next = i < 3 ? a->u32[i + 1] : b->u32[0];
        r->u32[i] = a->u32[i] + (rotate_right(next, 7) ^ rotate_right(next, 18) ^ next >> 3);
    }
}

SHA(sha256msg2)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t w = i < 2 ? b->u32[2 + i] : r->u32[i - 2];
        r->u32[i] = a->u32[i] + (rotate_right(w, 17) ^ rotate_right(w, 19) ^ w >> 10);
    }
}

/* ---- CRC32: bits in reflected order ---- */

enum { CRC32C_REFLECTED = 0x82f63b78 };

OP(crc32)
{
    uint64_t v = op_rm_read(c, op, op->size);
    uint32_t crc = (uint32_t)c->s.gpr[op->reg];
    for (unsigned byte = 0; byte < op->size; byte++) {
        crc ^= v >> (8 * byte) & 0xff;
        for (unsigned i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? CRC32C_REFLECTED : 0);
    }
    c->s.gpr[op->reg] = crc;
}

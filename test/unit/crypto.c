/*
 * AES, SHA and CRC32 against the examples that their standards publish: the host may lack them.
 */
#include "simd_fixture.h"

extern const struct sem sha1rnds4_sem, sha1nexte_sem, sha1msg1_sem, sha1msg2_sem, sha256rnds2_sem,
    sha256msg1_sem, sha256msg2_sem, paddd_sem, palignr_sem, pxor_sem, pshufd_sem, aesenc_sem,
    aesenclast_sem, aesdec_sem, aesdeclast_sem, aesimc_sem, aeskeygenassist_sem, crc32_sem;

/* destination <- destination op source, both XMM registers. */
static int xmm_op(const struct sem *sem, unsigned reg, unsigned rm, uint8_t imm)
{
    struct op op = {.size = 16, .ea = EA_REG, .reg = (uint8_t)reg, .rm = (uint8_t)rm, .imm = imm};
    return run_ours(sem, &op);
}

static void set_xmm_words(unsigned n, uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3)
{
    *xmm(cpu, n) = (union simd_lane){.u32 = {w0, w1, w2, w3}};
}

/* FIPS 180-4's first example, the message "abc", by the sequence the instructions are made for. */
TEST(sha1_of_abc_is_the_published_one)
{
    enum { ABCD = 0, E = 1, OLD = 2, W = 4, T = 8 };
    CHECK(fresh());
    set_xmm_words(ABCD, 0x10325476, 0x98badcfe, 0xefcdab89, 0x67452301);
    set_xmm_words(E, 0, 0, 0, 0xc3d2e1f0);
    set_xmm_words(W, 0, 0, 0, 0x61626380);
    set_xmm_words(W + 3, 24, 0, 0, 0);
    for (unsigned round = 0; round < 20; round++) {
        unsigned now = W + round % 4, next = W + (round + 1) % 4, third = W + (round + 2) % 4,
                 fourth = W + (round + 3) % 4;
        if (round >= 4) { /* the message schedule: now holds the words of 16 steps ago */
            xmm_op(&sha1msg1_sem, now, next, 0);
            xmm_op(&pxor_sem, now, third, 0);
            xmm_op(&sha1msg2_sem, now, fourth, 0);
        }
        if (round == 0) {
            xmm_op(&paddd_sem, E, now, 0);
        } else {
            *xmm(cpu, T) = *xmm(cpu, OLD);
            xmm_op(&sha1nexte_sem, T, now, 0);
            *xmm(cpu, E) = *xmm(cpu, T);
        }
        *xmm(cpu, OLD) = *xmm(cpu, ABCD);
        xmm_op(&sha1rnds4_sem, ABCD, E, (uint8_t)(round / 5));
    }
    set_xmm_words(T, 0, 0, 0, 0xc3d2e1f0);
    xmm_op(&sha1nexte_sem, OLD, T, 0);
    CHECK_EQ(xmm(cpu, ABCD)->u32[3] + 0x67452301, 0xa9993e36);
    CHECK_EQ(xmm(cpu, ABCD)->u32[2] + 0xefcdab89, 0x4706816a);
    CHECK_EQ(xmm(cpu, ABCD)->u32[1] + 0x98badcfe, 0xba3e2571);
    CHECK_EQ(xmm(cpu, ABCD)->u32[0] + 0x10325476, 0x7850c26c);
    CHECK_EQ(xmm(cpu, OLD)->u32[3], 0x9cd0d89d);
}

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

TEST(sha256_of_abc_is_the_published_one)
{
    enum { WK = 0, ABEF = 1, CDGH = 2, T = 3, W = 4 };
    CHECK(fresh());
    set_xmm_words(ABEF, 0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667);
    set_xmm_words(CDGH, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372);
    set_xmm_words(W, 0x61626380, 0, 0, 0);
    set_xmm_words(W + 3, 0, 0, 0, 24);
    for (unsigned round = 0; round < 16; round++) {
        unsigned now = W + round % 4, next = W + (round + 1) % 4, third = W + (round + 2) % 4,
                 fourth = W + (round + 3) % 4;
        if (round >= 4) {
            xmm_op(&sha256msg1_sem, now, next, 0);
            *xmm(cpu, T) = *xmm(cpu, fourth);
            xmm_op(&palignr_sem, T, third, 4);
            xmm_op(&paddd_sem, now, T, 0);
            xmm_op(&sha256msg2_sem, now, fourth, 0);
        }
        for (unsigned i = 0; i < 4; i++)
            xmm(cpu, WK)->u32[i] = xmm(cpu, now)->u32[i] + sha256_k[4 * round + i];
        xmm_op(&sha256rnds2_sem, CDGH, ABEF, 0);
        xmm_op(&pshufd_sem, WK, WK, 0x0e);
        xmm_op(&sha256rnds2_sem, ABEF, CDGH, 0);
    }
    CHECK_EQ(xmm(cpu, ABEF)->u32[3] + 0x6a09e667, 0xba7816bf);
    CHECK_EQ(xmm(cpu, ABEF)->u32[2] + 0xbb67ae85, 0x8f01cfea);
    CHECK_EQ(xmm(cpu, CDGH)->u32[3] + 0x3c6ef372, 0x414140de);
    CHECK_EQ(xmm(cpu, CDGH)->u32[2] + 0xa54ff53a, 0x5dae2223);
    CHECK_EQ(xmm(cpu, ABEF)->u32[1] + 0x510e527f, 0xb00361a3);
    CHECK_EQ(xmm(cpu, ABEF)->u32[0] + 0x9b05688c, 0x96177a9c);
    CHECK_EQ(xmm(cpu, CDGH)->u32[1] + 0x1f83d9ab, 0xb410ff61);
    CHECK_EQ(xmm(cpu, CDGH)->u32[0] + 0x5be0cd19, 0xf20015ad);
}

/* FIPS 197, appendix C.1: the key 00 01 ... 0f, the block 00 11 ... ff. */
TEST(aes_128_gives_the_published_block_and_takes_it_back)
{
    enum { DATA = 0, T = 1, ROUNDS = 10 };
    union simd_lane key[ROUNDS + 1], plain;
    CHECK(fresh());
    for (unsigned i = 0; i < 16; i++) {
        key[0].u8[i] = (uint8_t)i;
        plain.u8[i] = (uint8_t)(0x11 * i);
    }
    uint8_t rcon = 1;
    for (unsigned r = 1; r <= ROUNDS; r++, rcon = (uint8_t)(rcon << 1 ^ (rcon & 0x80 ? 0x1b : 0))) {
        struct op op = {.size = 16, .ea = EA_REG, .reg = T, .rm = 2, .imm = rcon};
        *xmm(cpu, 2) = key[r - 1];
        run_ours(&aeskeygenassist_sem, &op);
        uint32_t word = xmm(cpu, T)->u32[3];
        for (unsigned i = 0; i < 4; i++)
            word = key[r].u32[i] = key[r - 1].u32[i] ^ word;
    }

    *xmm(cpu, DATA) = plain;
    *xmm(cpu, T) = key[0];
    xmm_op(&pxor_sem, DATA, T, 0);
    for (unsigned r = 1; r <= ROUNDS; r++) {
        *xmm(cpu, T) = key[r];
        xmm_op(r < ROUNDS ? &aesenc_sem : &aesenclast_sem, DATA, T, 0);
    }
    static const uint8_t cipher[16] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30,
                                       0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
    CHECK(memcmp(xmm(cpu, DATA), cipher, 16) == 0);

    *xmm(cpu, T) = key[ROUNDS];
    xmm_op(&pxor_sem, DATA, T, 0);
    for (unsigned r = ROUNDS; r-- > 0;) {
        *xmm(cpu, T) = key[r];
        if (r > 0)
            xmm_op(&aesimc_sem, T, T, 0);
        xmm_op(r > 0 ? &aesdec_sem : &aesdeclast_sem, DATA, T, 0);
    }
    CHECK(memcmp(xmm(cpu, DATA), &plain, 16) == 0);
}

TEST(crc32_of_the_digits_is_the_published_one)
{
    CHECK(fresh());
    cpu->s.gpr[X86_RAX] = 0xffffffff;
    for (const char *p = "123456789"; *p; p++) {
        struct op op = {.size = 1, .ea = EA_REG, .reg = X86_RAX, .rm = 8 * X86_RCX};
        cpu->s.gpr[X86_RCX] = (uint8_t)*p;
        run_ours(&crc32_sem, &op);
    }
    CHECK_EQ((uint32_t)~cpu->s.gpr[X86_RAX], 0xe3069283);
}

TESTS(T(sha1_of_abc_is_the_published_one), T(sha256_of_abc_is_the_published_one),
      T(aes_128_gives_the_published_block_and_takes_it_back),
      T(crc32_of_the_digits_is_the_published_one))

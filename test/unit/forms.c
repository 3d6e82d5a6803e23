/*
 * The form tables and the decoder by themselves, without another decoder to ask.
 */
#include "test.h"

#include "base/bits.h"
#include "x86/cpu.h"
#include "x86/decode_tables.h"
#include "x86/forms.h"

/* ---- instructions made from the tables ---- */

/* The shortest prefixes that give the key's bits. Returns their length. */
static unsigned make_prefixes(unsigned table, unsigned key, uint8_t *p)
{
    static const uint8_t mandatory[] = {0, 0x66, 0xf3, 0xf2};
    unsigned n = 0, pp = key & KEY_PP, w = !!(key & KEY_W), b = !!(key & KEY_REX_B);
    if (table > TABLE_VEX) { /* VEX, three bytes; vvvv is 1111b */
        p[n++] = 0xc4;
        p[n++] = (uint8_t)(0xe0 | (table - TABLE_VEX));
        p[n++] = (uint8_t)(w << 7 | 0x78 | (key & KEY_L) >> KEY_L_SHIFT << 2 | pp);
        if (pp >= PP_F3) /* VEX.pp: 2 is F3, 3 is F2, as in the key */
            p[n - 1] = (uint8_t)((p[n - 1] & ~3) | (pp == PP_F3 ? 2 : 3));
        return n;
    }
    if (pp)
        p[n++] = mandatory[pp];
    if (w || b)
        p[n++] = (uint8_t)(0x40 | w << 3 | b);
    if (table > 0)
        p[n++] = 0x0f;
    if (table > 1)
        p[n++] = table == 2 ? 0x38 : 0x3a;
    return n;
}

static unsigned split_key(const struct match *m, unsigned split)
{
    unsigned key = m->value;
    if (!(m->mask & KEY_MOD3))
        key |= split >= 8 ? KEY_MOD3 : 0;
    if (!(m->mask & KEY_REG))
        key |= (split & 7) << KEY_REG_SHIFT;
    return key;
}

/* Whether an instruction made for the match decodes as its form. */
static bool reaches(unsigned table, unsigned opcode, const struct match *m, unsigned key,
                    bool modrm)
{
    uint8_t bytes[64] = {0};
    struct x86_insn insn;
    unsigned n = make_prefixes(table, key, bytes);
    unsigned code = key & KEY_MODE64 || key & (KEY_W | KEY_REX_B) ? X86_CODE64 : X86_CODE32;
    bytes[n++] = (uint8_t)opcode;
    if (modrm) {
        unsigned mod = key & KEY_MOD3 ? 0xc0 : 0x40, rm = key >> KEY_RM_SHIFT & 7;
        if (m->flags & (MATCH_SIB | MATCH_VSIB)) {
            rm = 4;
            bytes[n + 1] = 0x08; /* index 1; the registers of a gather differ */
        }
        rm |= m->flags & MATCH_DISTINCT ? 1 : 0;
        bytes[n++] = (uint8_t)(mod | (key >> KEY_REG_SHIFT & 7) << 3 | rm);
        if (m->flags & (MATCH_VSIB | MATCH_DISTINCT))
            bytes[2] = (uint8_t)((bytes[2] & ~0x78) | 0x68); /* vvvv 2, reg 0, index or rm 1 */
    }
    return x86_decode(bytes, sizeof bytes, code, &insn) == X86_DECODED && insn.form == m->form;
}

static void mark_reached(unsigned table, unsigned opcode, bool *reached)
{
    const struct opcode *o = &decode_opcodes[table][opcode], *cell = o;
    bool split = o->flags & OPCODE_SPLIT;
    for (unsigned s = 0; s < (split ? 16u : 1u); s++) {
        if (split)
            cell = &decode_split[o->first + s];
        for (unsigned i = 0; i < cell->count; i++) {
            const struct match *m = &decode_matches[cell->first + i];
            unsigned key = split ? split_key(m, s) : m->value;
            reached[m->form] |= reaches(table, opcode, m, key, o->flags & OPCODE_MODRM);
        }
    }
}

TEST(every_form_is_reached_by_some_bytes)
{
    static bool reached[8192];
    CHECK(x86_form_count > 1000 && x86_form_count < ARRAY_LEN(reached));
    for (unsigned t = 0; t <= TABLE_EVEX; t++)
        for (unsigned o = 0; o < 256; o++)
            mark_reached(t, o, reached);
    for (unsigned i = 0; i < x86_form_count; i++) {
        if (reached[i] || (x86_forms[i].flags & X86_FORM_EVEX))
            continue;
        printf("# no bytes for %s %s [%s]\n", x86_forms[i].mnemonic, x86_forms[i].operands,
               x86_forms[i].encoding);
        CHECK(reached[i]);
    }
}

TEST(every_form_of_the_model_has_a_semantic_function)
{
    for (unsigned i = 0; i < x86_form_count; i++) {
        const struct x86_form *f = &x86_forms[i];
        bool wanted = f->flags & X86_FORM_MODELLED;
        CHECK_EQ(f->sem != NULL, wanted);
        if ((x86_form_sem[i] != NULL) != wanted)
            printf("# %s [%s]: %s_sem\n", f->mnemonic, f->encoding, f->sem ? f->sem : "no ");
        CHECK_EQ(x86_form_sem[i] != NULL, wanted);
    }
}

/* ---- single rules ---- */

struct example {
    uint8_t bytes[16];
    uint8_t n, code;
    enum x86_decode_status status;
    uint8_t len;
};

static void check_examples(const struct example *examples, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct x86_insn insn;
        const struct example *e = &examples[i];
        enum x86_decode_status status = x86_decode(e->bytes, e->n, e->code, &insn);
        if (status != e->status || (status == X86_DECODED && insn.len != e->len))
            printf("# example %u: status %u, length %u\n", i, status, insn.len);
        CHECK_EQ(status, e->status);
        if (status == X86_DECODED)
            CHECK_EQ(insn.len, e->len);
    }
}

TEST(lock_needs_memory_that_is_read_and_written)
{
    static const struct example examples[] = {
        {{0xf0, 0x01, 0x00}, 3, X86_CODE64, X86_DECODED, 3},              /* add [rax], eax */
        {{0xf0, 0x01, 0xc0}, 3, X86_CODE64, X86_DECODE_INVALID},          /* add eax, eax */
        {{0xf0, 0x03, 0x00}, 3, X86_CODE64, X86_DECODE_INVALID},          /* add eax, [rax] */
        {{0xf0, 0x39, 0x00}, 3, X86_CODE64, X86_DECODE_INVALID},          /* cmp */
        {{0xf0, 0x87, 0x00}, 3, X86_CODE64, X86_DECODED, 3},              /* xchg */
        {{0xf0, 0x0f, 0xc7, 0x08}, 4, X86_CODE64, X86_DECODED, 4},        /* cmpxchg8b */
        {{0xf0, 0x0f, 0xba, 0x20, 1}, 5, X86_CODE64, X86_DECODE_INVALID}, /* bt */
        {{0xf0, 0x0f, 0xba, 0x28, 1}, 5, X86_CODE64, X86_DECODED, 5},     /* bts */
        {{0xf0, 0x90}, 2, X86_CODE64, X86_DECODE_INVALID},                /* nop */
        {{0xf0, 0x0f, 0x22, 0xc0}, 4, X86_CODE64, X86_DECODE_INVALID},    /* AMD's CR8 */
    };
    check_examples(examples, ARRAY_LEN(examples));
}

TEST(modes_decide_what_is_an_instruction)
{
    static const struct example examples[] = {
        {{0x06}, 1, X86_CODE32, X86_DECODED, 1}, /* push es */
        {{0x06}, 1, X86_CODE64, X86_DECODE_INVALID},
        {{0x40}, 1, X86_CODE16, X86_DECODED, 1}, /* inc ax, or REX */
        {{0x40, 0x90}, 2, X86_CODE64, X86_DECODED, 2},
        {{0xc4, 0x00}, 2, X86_CODE32, X86_DECODED, 2},     /* les */
        {{0x62, 0x00}, 2, X86_CODE16, X86_DECODED, 2},     /* bound */
        {{0x0f, 0x05}, 2, X86_CODE32, X86_DECODE_INVALID}, /* syscall */
        {{0x0f, 0x05}, 2, X86_CODE64, X86_DECODED, 2},
        {{0x66, 0xe8, 1, 2, 3, 4}, 6, X86_CODE64, X86_DECODED, 6}, /* Intel ignores 66 */
        {{0x66, 0xe8, 1, 2}, 4, X86_CODE32, X86_DECODED, 4},
        {{0x0f, 0x22, 0xc8}, 3, X86_CODE64, X86_DECODE_INVALID},       /* CR1 */
        {{0x44, 0x0f, 0x22, 0xc0}, 4, X86_CODE64, X86_DECODED, 4},     /* CR8 */
        {{0x0f, 0x22, 0x00}, 3, X86_CODE64, X86_DECODED, 3},           /* mod is ignored */
        {{0x8e, 0xc8}, 2, X86_CODE64, X86_DECODE_INVALID},             /* mov cs, eax */
        {{0x66, 0xc5, 0xf8, 0x77}, 4, X86_CODE64, X86_DECODE_INVALID}, /* 66 before VEX */
    };
    check_examples(examples, ARRAY_LEN(examples));
}

TEST(fifteen_bytes_are_the_limit)
{
    uint8_t bytes[64];
    struct x86_insn insn;
    memset(bytes, 0x66, sizeof bytes);
    bytes[14] = 0x90;
    CHECK_EQ(x86_decode(bytes, sizeof bytes, X86_CODE64, &insn), X86_DECODED);
    CHECK_EQ(insn.len, 15);
    CHECK_EQ(x86_decode(bytes, 15, X86_CODE64, &insn), X86_DECODED);
    bytes[14] = 0x66;
    bytes[15] = 0x90;
    CHECK_EQ(x86_decode(bytes, sizeof bytes, X86_CODE64, &insn), X86_DECODE_TOO_LONG);
    CHECK_EQ(x86_decode(bytes, 16, X86_CODE64, &insn), X86_DECODE_TOO_LONG);
    CHECK_EQ(x86_decode(bytes, 15, X86_CODE64, &insn), X86_DECODE_TOO_LONG);
    CHECK_EQ(x86_decode(bytes, 14, X86_CODE64, &insn), X86_DECODE_SHORT);
    memset(bytes, 0xf3, sizeof bytes);
    CHECK_EQ(x86_decode(bytes, sizeof bytes, X86_CODE16, &insn), X86_DECODE_TOO_LONG);
}

/* lock cmpxchg [fs:r8 + r9*4 + disp32], rdx; mov rax, imm64; enter; a far call */
TEST(a_cut_instruction_is_short_at_every_length)
{
    static const struct example whole[] = {
        {{0xf0, 0x64, 0x4b, 0x0f, 0xb1, 0x94, 0x88, 1, 2, 3, 4}, 11, X86_CODE64},
        {{0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}, 10, X86_CODE64},
        {{0xc8, 1, 2, 3}, 4, X86_CODE32},
        {{0x9a, 1, 2, 3, 4, 5, 6}, 7, X86_CODE32},
        {{0xc4, 0xe3, 0x7b, 0xf0, 0x05, 1, 2, 3, 4, 5}, 10, X86_CODE64},
    };
    for (unsigned i = 0; i < ARRAY_LEN(whole); i++) {
        struct x86_insn insn;
        for (unsigned n = 0; n < whole[i].n; n++)
            CHECK_EQ(x86_decode(whole[i].bytes, n, whole[i].code, &insn), X86_DECODE_SHORT);
        CHECK_EQ(x86_decode(whole[i].bytes, whole[i].n, whole[i].code, &insn), X86_DECODED);
        CHECK_EQ(insn.len, whole[i].n);
    }
}

/* Decoding must not depend on whether the bytes were copied, nor on what follows them. */
TEST(what_follows_an_instruction_does_not_matter)
{
    uint64_t seed = 12345;
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t bytes[64], shorter[16];
        struct x86_insn a, b;
        for (unsigned j = 0; j < 16; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[j] = shorter[j] = (uint8_t)(seed >> 56);
        }
        memset(bytes + 16, i & 1 ? 0xff : 0x0f, sizeof bytes - 16);
        unsigned code = i % 3;
        enum x86_decode_status sa = x86_decode(bytes, sizeof bytes, code, &a);
        CHECK_EQ(x86_decode(shorter, sizeof shorter, code, &b), sa);
        CHECK(sa != X86_DECODED || memcmp(&a, &b, sizeof a) == 0);
        if (sa == X86_DECODED && a.len > 1)
            CHECK_EQ(x86_decode(bytes, a.len - 1u, code, &b), X86_DECODE_SHORT);
    }
}

TESTS(T(every_form_is_reached_by_some_bytes), T(every_form_of_the_model_has_a_semantic_function),
      T(lock_needs_memory_that_is_read_and_written), T(modes_decide_what_is_an_instruction),
      T(fifteen_bytes_are_the_limit), T(a_cut_instruction_is_short_at_every_length),
      T(what_follows_an_instruction_does_not_matter))

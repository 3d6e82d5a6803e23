#include "encode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum prefix_rule { ANY_PREFIX, NO_PREFIX, ONLY_66, ONLY_F3, ONLY_F2, NOT_F };

/* The encoding column of the form tables (src/x86/forms/README.md), taken apart. */
struct template
{
    enum prefix_rule prefix;
    unsigned map, opcode, opcodes; /* opcodes: how many in a row */
    bool modrm;
    int reg, rm; /* ModRM fields, or -1: open */
    int mod3;    /* 1: registers only, 0: memory only, -1: open */
    bool any_mod;
    int w, l; /* -1: open */
    bool rex_b, vex, evex;
};

static void parse_vex(struct template *t, const char *word)
{
    t->vex = true;
    t->evex = *word == 'E';
    for (const char *p = word + (t->evex ? 5 : 4); *p;) {
        size_t n = strcspn(p, ".");
        if (n == 3 && strncmp(p, "128", 3) == 0)
            t->l = 0;
        else if (n == 3 && strncmp(p, "256", 3) == 0)
            t->l = 1;
        else if (n == 3 && strncmp(p, "512", 3) == 0)
            t->l = 2;
        else if (n == 2 && p[0] == 'L')
            t->l = p[1] - '0';
        else if (n == 2 && p[0] == 'W')
            t->w = p[1] - '0';
        else if (n == 2 && strncmp(p, "66", 2) == 0)
            t->prefix = ONLY_66;
        else if (n == 2 && p[0] == 'F')
            t->prefix = p[1] == '3' ? ONLY_F3 : ONLY_F2;
        else if (n == 2 && strncmp(p, "0F", 2) == 0)
            t->map = 1;
        else if (n == 4)
            t->map = p[2] == '3' && p[3] == '8' ? 2 : 3;
        p += n + (p[n] == '.');
    }
}

static void parse_byte(struct template *t, const char *word, bool *opcode)
{
    unsigned byte = (unsigned)strtoul((char[]){word[0], word[1], 0}, NULL, 16);
    bool escape = !*opcode && !t->vex && t->map == 0;
    if (escape && strcmp(word, "0F") == 0) {
        t->map = 1;
    } else if (escape && strncmp(word, "0F3", 3) == 0) {
        t->map = word[3] == '8' ? 2 : 3;
    } else if (!*opcode) {
        *opcode = true;
        t->opcode = byte;
        t->opcodes = strcmp(word + 2, "+r") == 0    ? 8
                     : strcmp(word + 2, "+r7") == 0 ? 7
                     : strcmp(word + 2, "+cc") == 0 ? 16
                                                    : 1;
    } else { /* a whole ModRM byte */
        t->modrm = true;
        t->mod3 = 1;
        t->reg = byte >> 3 & 7;
        t->rm = strcmp(word + 2, "+i") == 0 ? -1 : (int)(byte & 7);
    }
}

static bool parse_word(struct template *t, const char *word, bool opcode)
{
    static const struct {
        const char *name;
        enum prefix_rule rule;
    } rules[] = {
        {"NP", NO_PREFIX}, {"66", ONLY_66}, {"F3", ONLY_F3}, {"F2", ONLY_F2}, {"NFx", NOT_F}};
    for (unsigned i = 0; i < ARRAY_LEN(rules) && !opcode && t->map == 0 && !t->vex; i++) {
        if (strcmp(word, rules[i].name) == 0) {
            t->prefix = rules[i].rule;
            return true;
        }
    }
    if (strncmp(word, "VEX.", 4) == 0 || strncmp(word, "EVEX.", 5) == 0)
        parse_vex(t, word);
    else if (strcmp(word, "W0") == 0 || strcmp(word, "W1") == 0)
        t->w = word[1] - '0';
    else if (strcmp(word, "mem") == 0 || strcmp(word, "reg") == 0)
        t->mod3 = word[0] == 'r';
    else if (strcmp(word, "any") == 0)
        t->any_mod = true;
    else if (strcmp(word, "rexb") == 0)
        t->rex_b = true;
    else if (strcmp(word, "rm0") == 0)
        t->rm = 0;
    else
        return false;
    return true;
}

static bool parse_encoding(const char *encoding, struct template *t)
{
    char text[96], *save = NULL;
    bool opcode = false;
    *t = (struct template){.reg = -1, .rm = -1, .mod3 = -1, .w = -1, .l = -1};
    if (strlen(encoding) >= sizeof text)
        return false;
    strcpy(text, encoding);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        if (parse_word(t, word, opcode))
            continue;
        if (word[0] == '/') {
            t->modrm = true;
            if (isdigit((unsigned char)word[1]))
                t->reg = word[1] - '0';
        } else if (isxdigit((unsigned char)word[0]) && isxdigit((unsigned char)word[1])) {
            parse_byte(t, word, &opcode);
        } else {
            return false;
        }
    }
    return opcode;
}

/* ---- putting bytes together ---- */

struct writer {
    uint8_t *at;
    struct rng *r;
};

static void put(struct writer *w, unsigned byte)
{
    *w->at++ = (uint8_t)byte;
}

static bool repeats(const struct x86_form *f)
{
    return f->flags & (X86_FORM_REP | X86_FORM_REPCC);
}

/* Prefixes that the form leaves open, in any order before the mandatory one. */
static void put_prefixes(struct writer *w, const struct x86_form *f, const struct template *t,
                         unsigned code)
{
    static const uint8_t segments[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
    static const uint8_t fs_gs[] = {0x64, 0x65};
    bool open66 = t->prefix == ANY_PREFIX || t->prefix == NOT_F;
    if (rng_one_in(w->r, 6))
        put(w, code == X86_CODE64 && !rng_one_in(w->r, 4) ? RNG_PICK(w->r, fs_gs)
                                                          : RNG_PICK(w->r, segments));
    if (rng_one_in(w->r, code == X86_CODE64 ? 8 : 12))
        put(w, 0x67);
    if (!t->vex && open66 && rng_one_in(w->r, 3))
        put(w, 0x66);
    if (!t->vex && t->prefix == ANY_PREFIX && rng_one_in(w->r, repeats(f) ? 2 : 40))
        put(w, rng_one_in(w->r, 2) ? 0xf2 : 0xf3);
    if (rng_one_in(w->r, f->flags & X86_FORM_LOCK ? 6 : 200))
        put(w, 0xf0);
    if (!t->vex && t->prefix >= ONLY_66 && t->prefix <= ONLY_F2)
        put(w, (const uint8_t[]){0x66, 0xf3, 0xf2}[t->prefix - ONLY_66]);
}

static void put_rex(struct writer *w, const struct template *t, unsigned code)
{
    if (code != X86_CODE64)
        return;
    unsigned rex = (unsigned)rng_next(w->r) & 7;
    rex |= (t->w >= 0 ? (unsigned)t->w : rng_below(w->r, 2)) << 3;
    rex |= t->rex_b;
    bool needed = t->w > 0 || t->rex_b;
    if (needed || rng_one_in(w->r, 2))
        put(w, 0x40 | rex);
}

static unsigned prefix_field(const struct template *t)
{
    return t->prefix == ONLY_66 ? 1 : t->prefix == ONLY_F3 ? 2 : t->prefix == ONLY_F2 ? 3 : 0;
}

/* Masks, broadcasts and rounding are there now and then; what the form does not take is not
 * decoded, and tried again. */
static void put_evex(struct writer *w, const struct template *t, unsigned code, bool vvvv)
{
    unsigned open = (unsigned)rng_next(w->r);
    bool wide = code == X86_CODE64;
    unsigned ww = t->w >= 0 ? (unsigned)t->w : open >> 1 & 1;
    unsigned v = vvvv ? open >> 4 & 15 : 15;
    unsigned rxbr = wide ? open >> 8 & 15 : 15;
    unsigned mask = rng_below(w->r, 3) ? rng_below(w->r, 8) : 0;
    bool zero = mask && rng_one_in(w->r, 2), b = rng_one_in(w->r, 4);
    unsigned l = t->l >= 0 && !b ? (unsigned)t->l : rng_below(w->r, b ? 4 : 3);
    /* Without vvvv the bit is of a vector index, or 1. */
    bool v2 = !wide || (!vvvv && t->rm != 4) || (open >> 12 & 1);
    put(w, 0x62);
    put(w, rxbr << 4 | t->map);
    put(w, ww << 7 | v << 3 | 4 | prefix_field(t));
    put(w, (zero ? 0x80u : 0) | l << 5 | (b ? 0x10u : 0) | (v2 ? 8u : 0) | mask);
}

static void put_vex(struct writer *w, const struct template *t, unsigned code, bool vvvv)
{
    unsigned open = (unsigned)rng_next(w->r), pp = prefix_field(t);
    unsigned l = t->l >= 0 ? (unsigned)t->l : open & 1,
             ww = t->w >= 0 ? (unsigned)t->w : open >> 1 & 1;
    unsigned v = vvvv ? open >> 4 & 15 : 15;
    unsigned rxb = code == X86_CODE64 ? open >> 8 & 7 : 7;
    put(w, 0xc4);
    put(w, rxb << 5 | t->map);
    put(w, ww << 7 | v << 3 | l << 2 | pp);
}

/* ModRM, SIB and displacement. Where the displacement is, is told. */
static void put_modrm(struct writer *w, const struct template *t, const uint8_t *start,
                      bool address16, unsigned *disp_at, unsigned *disp_size)
{
    bool registers = t->mod3 >= 0 ? t->mod3 : rng_one_in(w->r, 2);
    unsigned mod = registers ? 3 : rng_below(w->r, 3);
    if (t->any_mod)
        mod = rng_below(w->r, 4);
    unsigned reg = t->reg >= 0 ? (unsigned)t->reg : rng_below(w->r, 8);
    unsigned rm = t->rm >= 0 ? (unsigned)t->rm : rng_below(w->r, 8);
    put(w, mod << 6 | reg << 3 | rm);
    *disp_size = 0;
    if (mod == 3 || t->any_mod)
        return;
    unsigned base = rm;
    if (!address16 && rm == 4) {
        unsigned sib = (unsigned)rng_next(w->r) & 255;
        put(w, sib);
        base = sib & 7;
    }
    unsigned large = address16 ? 2 : 4;
    *disp_size = mod == 1 ? 1 : mod == 2 ? large : 0;
    if (mod == 0 && base == (address16 ? 6 : 5))
        *disp_size = large;
    *disp_at = (unsigned)(w->at - start);
    for (unsigned i = 0; i < *disp_size; i++)
        put(w, rng_below(w->r, 256));
}

/* More than any immediate takes; decoding says how many are used. */
static void put_immediate(struct writer *w)
{
    unsigned kind = rng_below(w->r, 4);
    for (unsigned i = 0; i < 10; i++)
        put(w, kind == 0   ? (i ? 0 : rng_below(w->r, 70))
               : kind == 1 ? (rng_one_in(w->r, 2) ? 0xff : 0x80)
                           : rng_below(w->r, 256));
}

static unsigned build(struct rng *r, const struct x86_form *f, const struct template *t,
                      unsigned code, uint8_t *bytes, unsigned *disp_at, unsigned *disp_size)
{
    struct writer w = {bytes, r};
    put_prefixes(&w, f, t, code);
    bool address16 = code == X86_CODE32 && memchr(bytes, 0x67, (size_t)(w.at - bytes));
    if (t->evex) {
        put_evex(&w, t, code, f->flags & X86_FORM_VVVV);
    } else if (t->vex) {
        put_vex(&w, t, code, f->flags & X86_FORM_VVVV);
    } else {
        put_rex(&w, t, code);
        if (t->map)
            put(&w, 0x0f);
        if (t->map > 1)
            put(&w, t->map == 2 ? 0x38 : 0x3a);
    }
    put(&w, t->opcode + rng_below(r, t->opcodes));
    *disp_size = 0;
    if (t->modrm)
        put_modrm(&w, t, bytes, address16, disp_at, disp_size);
    put_immediate(&w);
    return (unsigned)(w.at - bytes);
}

bool encode_form(struct rng *r, struct silicon_case *c, unsigned *disp_at, unsigned *disp_size)
{
    enum { TRIES = 200 };
    const struct x86_form *f = &x86_forms[c->form];
    struct template t;
    if (!parse_encoding(f->encoding, &t))
        return false;
    if (x86_form_has(f, OPK_MV))
        t.rm = 4; /* a gather's address has an index */
    for (unsigned i = 0; i < TRIES; i++) {
        uint8_t bytes[48];
        unsigned n = build(r, f, &t, c->code, bytes, disp_at, disp_size);
        enum x86_decode_status s = x86_decode(bytes, n, c->code, &c->insn);
        /* LOCK where it must not be is worth a case: #UD. */
        bool bad_lock = s == X86_DECODE_INVALID && (c->insn.prefixes & X86_PREFIX_LOCK);
        if ((s != X86_DECODED && !bad_lock) || c->insn.form != c->form ||
            c->insn.len > X86_INSN_MAX)
            continue;
        c->len = c->insn.len;
        memcpy(c->bytes, bytes, c->len);
        return true;
    }
    return false;
}

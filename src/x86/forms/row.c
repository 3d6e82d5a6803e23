/*
 * Reads the form tables: README.md says what their columns mean.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "row.h"

static const char *file_name;
static unsigned line_number;

static _Noreturn void __attribute__((format(printf, 1, 2))) fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%u: ", file_name, line_number);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* ---- features ---- */

const struct feature row_features[X86_FEATURES] = {
#define FEATURE(name, modelled, text) {#name, text, modelled},
#include "x86/features.def"
#undef FEATURE
};

static unsigned find_feature(const char *name)
{
    for (unsigned i = 0; i < X86_FEATURES; i++)
        if (strcmp(row_features[i].name, name) == 0)
            return i;
    fail("no feature is called '%s'", name);
}

/* ---- operands ---- */

struct named {
    const char *name;
    unsigned a, b;
};

/* Operands that are one word; a is the kind, b the type. */
static const struct named whole_operands[] = {
    {"AL", OPK_ACC, OPT_B},     {"rAX", OPK_ACC, OPT_V}, {"eAX", OPK_ACC, OPT_Z},
    {"CL", OPK_CL, OPT_B},      {"DX", OPK_DX, OPT_W},   {"1", OPK_ONE, OPT_B},
    {"ES", OPK_SEG, OPT_V},     {"CS", OPK_SEG, OPT_V},  {"SS", OPK_SEG, OPT_V},
    {"DS", OPK_SEG, OPT_V},     {"FS", OPK_SEG, OPT_V},  {"GS", OPK_SEG, OPT_V},
    {"ST0", OPK_ST0, OPT_T},    {"STi", OPK_STI, OPT_T}, {"AX", OPK_AX, OPT_W},
    {"XMM0", OPK_XMM0, OPT_DQ},
};

static const struct named operand_kinds[] = {
    {"sI", OPK_SI}, {"KG", OPK_KG}, {"KE", OPK_KE}, {"KH", OPK_KH}, {"TG", OPK_TG}, {"TE", OPK_TE},
    {"TH", OPK_TH}, {"MV", OPK_MV}, {"A", OPK_A},   {"B", OPK_B},   {"C", OPK_C},   {"D", OPK_D},
    {"E", OPK_E},   {"G", OPK_G},   {"H", OPK_H},   {"I", OPK_I},   {"J", OPK_J},   {"L", OPK_L},
    {"M", OPK_M},   {"N", OPK_N},   {"O", OPK_O},   {"P", OPK_P},   {"Q", OPK_Q},   {"R", OPK_R},
    {"S", OPK_S},   {"U", OPK_U},   {"V", OPK_V},   {"W", OPK_W},   {"X", OPK_X},   {"Y", OPK_Y},
    {"Z", OPK_Z},
};

static const struct named operand_types[] = {
    {"", OPT_NONE},   {"b", OPT_B},   {"w", OPT_W},   {"d", OPT_D},   {"q", OPT_Q},
    {"t", OPT_T},     {"dq", OPT_DQ}, {"qq", OPT_QQ}, {"oq", OPT_OQ}, {"v", OPT_V},
    {"y", OPT_Y},     {"z", OPT_Z},   {"p", OPT_P},   {"s", OPT_S},   {"a", OPT_A},
    {"x", OPT_X},     {"xh", OPT_XH}, {"xq", OPT_XQ}, {"xo", OPT_XO}, {"ps", OPT_X},
    {"pd", OPT_X},    {"ss", OPT_D},  {"sd", OPT_Q},  {"sh", OPT_W},  {"env", OPT_ENV},
    {"x87", OPT_X87}, {"fx", OPT_FX}, {"xs", OPT_XS},
};

static struct x86_operand parse_operand(const char *text)
{
    for (unsigned i = 0; i < sizeof whole_operands / sizeof *whole_operands; i++)
        if (strcmp(text, whole_operands[i].name) == 0)
            return (struct x86_operand){whole_operands[i].a, whole_operands[i].b};
    for (unsigned i = 0; i < sizeof operand_kinds / sizeof *operand_kinds; i++) {
        size_t n = strlen(operand_kinds[i].name);
        if (strncmp(text, operand_kinds[i].name, n) != 0)
            continue;
        for (unsigned j = 0; j < sizeof operand_types / sizeof *operand_types; j++)
            if (strcmp(text + n, operand_types[j].name) == 0)
                return (struct x86_operand){operand_kinds[i].a, operand_types[j].a};
    }
    fail("no operand is called '%s'", text);
}

static void parse_operands(struct row *r)
{
    char text[sizeof r->operands], *save = NULL;
    unsigned n = 0;
    memcpy(text, r->operands, sizeof text);
    for (char *word = strtok_r(text, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
        if (n == MAX_OPERANDS)
            fail("too many operands");
        r->operand[n++] = parse_operand(word);
    }
}

/* ---- the encoding column ---- */

static void need(struct row *r, unsigned mask, unsigned value)
{
    if ((r->mask & mask) && (r->value & mask) != value)
        fail("constraints that contradict each other");
    r->mask |= mask;
    r->value |= value;
}

static bool parse_hex(const char *word, unsigned *value)
{
    if (!isxdigit((unsigned char)word[0]) || !isxdigit((unsigned char)word[1]))
        return false;
    *value = (unsigned)strtoul((char[]){word[0], word[1], 0}, NULL, 16);
    return true;
}

/* VEX.128.66.0F38.W0 and the like, and EVEX. */
static void parse_vex(struct row *r, char *word)
{
    char *save = NULL;
    char *part = strtok_r(word, ".", &save);
    r->kind = part[0] == 'E' ? EVEX : VEX;
    r->flags |= r->kind == EVEX ? X86_FORM_EVEX : X86_FORM_VEX;
    static const struct named parts[] = {
        {"128", KEY_L, 0 << KEY_L_SHIFT},
        {"256", KEY_L, 1 << KEY_L_SHIFT},
        {"512", KEY_L, 2 << KEY_L_SHIFT},
        {"L0", KEY_L, 0 << KEY_L_SHIFT},
        {"L1", KEY_L, 1 << KEY_L_SHIFT},
        {"LIG", 0, 0},
        {"VL", 0, 0},
        {"NP", KEY_PP, PP_NONE},
        {"66", KEY_PP, PP_66},
        {"F3", KEY_PP, PP_F3},
        {"F2", KEY_PP, PP_F2},
        {"W0", KEY_W, 0},
        {"W1", KEY_W, KEY_W},
        {"WIG", 0, 0},
    };
    static const struct named maps[] = {
        {"0F", 1}, {"0F38", 2}, {"0F3A", 3}, {"MAP5", 5}, {"MAP6", 6}};
    while ((part = strtok_r(NULL, ".", &save))) {
        bool known = false;
        for (unsigned i = 0; i < sizeof parts / sizeof *parts; i++)
            if (strcmp(part, parts[i].name) == 0) {
                need(r, parts[i].a, parts[i].b);
                r->match_flags |= strcmp(part, "LIG") == 0 ? MATCH_SCALAR : 0;
                known = true;
            }
        for (unsigned i = 0; i < sizeof maps / sizeof *maps; i++)
            if (strcmp(part, maps[i].name) == 0) {
                r->map = maps[i].a;
                known = true;
            }
        if (!known)
            fail("no part of a VEX prefix is called '%s'", part);
    }
}

/* What follows the opcode's two digits: +r, +cc; or, for a ModRM byte, +i. */
static void parse_suffix(struct row *r, const char *suffix, bool modrm)
{
    if (*suffix == 0)
        return;
    if (modrm && strcmp(suffix, "+i") == 0)
        r->mask &= ~(unsigned)KEY_RM;
    else if (strcmp(suffix, "+r") == 0 || strcmp(suffix, "+r7") == 0) {
        r->opcodes = suffix[2] ? 7 : 8;
        r->match_flags |= MATCH_OPREG;
    } else if (strcmp(suffix, "+cc") == 0) {
        r->opcodes = 16;
        r->flags |= X86_FORM_CC;
    } else
        fail("'%s' after an opcode", suffix);
}

static void parse_literal(struct row *r, const char *word, unsigned byte, bool *have_opcode)
{
    if (!*have_opcode && r->kind == LEGACY && r->map == 0 && strcmp(word, "0F") == 0) {
        r->map = 1;
    } else if (!*have_opcode && r->kind == LEGACY && strcmp(word, "0F38") == 0) {
        r->map = 2;
    } else if (!*have_opcode && r->kind == LEGACY && strcmp(word, "0F3A") == 0) {
        r->map = 3;
    } else if (!*have_opcode) {
        *have_opcode = true;
        r->opcode = byte;
        r->opcodes = 1;
        parse_suffix(r, word + 2, false);
    } else { /* a whole ModRM byte */
        if (byte < 0xc0)
            fail("a literal ModRM byte names registers");
        r->modrm = true;
        need(r, KEY_MOD3 | KEY_REG | KEY_RM,
             KEY_MOD3 | ((byte >> 3) & 7) << KEY_REG_SHIFT | (byte & 7) << KEY_RM_SHIFT);
        parse_suffix(r, word + 2, true);
    }
}

static void parse_encoding(struct row *r)
{
    static const struct named words[] = {
        {"NP", KEY_PP, PP_NONE},        {"66", KEY_PP, PP_66}, {"F3", KEY_PP, PP_F3},
        {"F2", KEY_PP, PP_F2},          {"NFx", 2, 0},         {"W0", KEY_W, 0},
        {"W1", KEY_W, KEY_W},           {"mem", KEY_MOD3, 0},  {"reg", KEY_MOD3, KEY_MOD3},
        {"rexb", KEY_REX_B, KEY_REX_B}, {"rm0", KEY_RM, 0},
    };
    char text[sizeof r->encoding], *save = NULL;
    bool have_opcode = false;
    memcpy(text, r->encoding, sizeof text);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        unsigned byte;
        bool prefix_place = !have_opcode && r->map == 0 && r->kind == LEGACY;
        bool known = false;
        for (unsigned i = 0; i < sizeof words / sizeof *words && !known; i++)
            if (strcmp(word, words[i].name) == 0 &&
                (prefix_place || !isxdigit((unsigned char)word[0]))) {
                /* F2 and F3 are prefixes; as opcodes of map 0 they don't exist */
                need(r, words[i].a, words[i].b);
                known = true;
            }
        if (known)
            continue;
        if (strncmp(word, "VEX.", 4) == 0 || strncmp(word, "EVEX.", 5) == 0) {
            parse_vex(r, word);
        } else if (word[0] == '/') {
            r->modrm = true;
            if (isdigit((unsigned char)word[1])) {
                need(r, KEY_REG, (unsigned)(word[1] - '0') << KEY_REG_SHIFT);
                r->flags |= X86_FORM_GROUP;
            }
        } else if (strcmp(word, "any") == 0) {
            r->match_flags |= MATCH_ANY_MOD;
        } else if (strcmp(word, "rexb") == 0) {
            r->match_flags |= MATCH_OPREG;
        } else if (parse_hex(word, &byte)) {
            parse_literal(r, word, byte, &have_opcode);
        } else
            fail("'%s' in an encoding", word);
    }
    if (!have_opcode)
        fail("no opcode");
    if (r->value & KEY_REX_B)
        r->match_flags |= MATCH_OPREG;
    if (r->modrm)
        r->flags |= X86_FORM_MODRM;
}

/* ---- the flags column ---- */

static unsigned size_by_name(const char *name)
{
    static const struct named sizes[] = {
        {"b", SIZE_1},   {"w", SIZE_2},   {"d", SIZE_4},   {"q", SIZE_8},
        {"dq", SIZE_16}, {"qq", SIZE_32}, {"oq", SIZE_64}, {"v", SIZE_V},
        {"y", SIZE_Y},   {"z", SIZE_Z},   {"x", SIZE_VL},
    };
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(name, sizes[i].name) == 0)
            return sizes[i].a;
    fail("no operand size is called '%s'", name);
}

/* disp8's factor, as log2, where it is not the memory operand's size. */
static unsigned factor_by_name(const char *name)
{
    static const char letters[] = "bwdq";
    const char *at = strchr(letters, *name);
    if (!at || name[1])
        fail("no factor is called '%s'", name);
    return (unsigned)(at - letters);
}

static void parse_flags(struct row *r, char *text)
{
    static const struct named words[] = {
        {"lock", X86_FORM_LOCK, MATCH_LOCK},
        {"rep", X86_FORM_REP},
        {"repcc", X86_FORM_REPCC},
        {"d64", X86_FORM_D64},
        {"f64", X86_FORM_F64},
        {"priv", X86_FORM_PRIVILEGED},
        {"i64", X86_FORM_NO64},
        {"o64", X86_FORM_ONLY64},
        {"address", X86_FORM_ADDRESS},
        {"branch", X86_FORM_BRANCH},
        {"sib", 0, MATCH_SIB},
        {"er", 0, MATCH_ER | MATCH_SAE},
        {"k", 0, MATCH_MERGE},
        {"distinct", 0, MATCH_DISTINCT},
        {"kz", 0, MATCH_MERGE | MATCH_ZERO},
        {"sae", 0, MATCH_SAE},
        {"b16", 0, MATCH_BCAST2},
        {"b32", 0, MATCH_BCAST4},
        {"b64", 0, MATCH_BCAST8},
    };
    char *save = NULL;
    r->size = SIZE_KINDS;
    r->cc = 0;
    r->n8 = N8_UNKNOWN;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        bool known = false;
        for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
            if (strcmp(word, words[i].name) == 0) {
                r->flags |= words[i].a;
                r->match_flags |= words[i].b;
                known = true;
            }
        if (known)
            continue;
        if (strncmp(word, "n8", 2) == 0)
            r->n8 = factor_by_name(word + 2);
        else if (strncmp(word, "size=", 5) == 0)
            r->size = size_by_name(word + 5);
        else if (strncmp(word, "cc=", 3) == 0)
            r->cc = (unsigned)atoi(word + 3);
        else
            fail("no flag is called '%s'", word);
    }
    if (r->flags & X86_FORM_NO64)
        need(r, KEY_MODE64, 0);
    if (r->flags & X86_FORM_ONLY64)
        need(r, KEY_MODE64, KEY_MODE64);
}

/* ---- what follows from the operands ---- */

static bool is_rm_kind(unsigned kind)
{
    switch (kind) {
    case OPK_E:
    case OPK_M:
    case OPK_N:
    case OPK_Q:
    case OPK_R:
    case OPK_U:
    case OPK_W:
    case OPK_STI:
    case OPK_KE:
    case OPK_TE:
    case OPK_MV: return true;
    default: return false;
    }
}

/* The operation's size is that of the first operand that has one. */
static unsigned size_of(const struct row *r)
{
    static const uint8_t by_type[] = {
        [OPT_NONE] = SIZE_V, [OPT_B] = SIZE_1,   [OPT_W] = SIZE_2,   [OPT_D] = SIZE_4,
        [OPT_Q] = SIZE_8,    [OPT_T] = SIZE_V,   [OPT_DQ] = SIZE_16, [OPT_QQ] = SIZE_32,
        [OPT_OQ] = SIZE_64,  [OPT_V] = SIZE_V,   [OPT_Y] = SIZE_Y,   [OPT_Z] = SIZE_Z,
        [OPT_P] = SIZE_V,    [OPT_S] = SIZE_V,   [OPT_A] = SIZE_V,   [OPT_X] = SIZE_VL,
        [OPT_XH] = SIZE_VL,  [OPT_XQ] = SIZE_VL, [OPT_XO] = SIZE_VL, [OPT_ENV] = SIZE_V,
        [OPT_X87] = SIZE_V,  [OPT_FX] = SIZE_V,  [OPT_XS] = SIZE_V,
    };
    bool mmx = false;
    for (unsigned i = 0; i < MAX_OPERANDS; i++) {
        switch (r->operand[i].kind) {
        case OPK_V:
        case OPK_W:
        case OPK_U:
        case OPK_H: return SIZE_VL; /* a vector register: the vector's length */
        case OPK_P:
        case OPK_Q:
        case OPK_N: mmx = true; break;
        default: break;
        }
    }
    if (mmx)
        return SIZE_8;
    for (unsigned i = 0; i < MAX_OPERANDS; i++) {
        switch (r->operand[i].kind) {
        case OPK_NONE:
        case OPK_I:
        case OPK_SI:
        case OPK_J:
        case OPK_DX: continue;
        default: return by_type[r->operand[i].type];
        }
    }
    return SIZE_V;
}

static unsigned with_mode(const struct row *r, unsigned size)
{
    if (size == SIZE_V && (r->flags & X86_FORM_F64))
        return SIZE_V_F64;
    if (size == SIZE_V && (r->flags & X86_FORM_D64))
        return SIZE_V_D64;
    return size == SIZE_Y && (r->flags & X86_FORM_F64) ? SIZE_Y_F64 : size;
}

static void add_immediate(struct row *r, unsigned kind, unsigned type)
{
    unsigned imm;
    switch (kind) {
    case OPK_I:
        imm = type == OPT_W ? IMM_16 : IMM_8;
        if (r->imm == IMM_16 && imm == IMM_8)
            imm = IMM_ENTER;
        else if (r->imm == IMM_8 && imm == IMM_8)
            imm = IMM_8_8;
        break;
    case OPK_SI: imm = type == OPT_B ? IMM_S8 : type == OPT_V ? IMM_V : IMM_Z; break;
    case OPK_J: imm = type == OPT_B ? IMM_S8 : IMM_Z; break;
    case OPK_L: imm = IMM_8; break;
    case OPK_A: imm = IMM_FAR; break;
    case OPK_O: imm = IMM_OFS; break;
    case OPK_ONE: imm = IMM_ONE; break;
    default: return;
    }
    r->imm = imm;
}

static void derive_operand(struct row *r, unsigned i)
{
    unsigned kind = r->operand[i].kind, type = r->operand[i].type;
    add_immediate(r, kind, type);
    if ((is_rm_kind(kind) || kind == OPK_O) && i == 0)
        r->flags |= X86_FORM_STORE;
    if (type == OPT_B && (kind == OPK_G || kind == OPK_Z))
        r->flags |= X86_FORM_REG_BYTE;
    if (type == OPT_B && (kind == OPK_E || kind == OPK_R))
        r->flags |= X86_FORM_RM_BYTE;
    switch (kind) {
    case OPK_P:
    case OPK_S: r->match_flags |= MATCH_REG8; break;
    case OPK_KG:
    case OPK_TG: r->match_flags |= MATCH_K; break;
    case OPK_Q:
    case OPK_N:
    case OPK_STI:
    case OPK_KE: r->match_flags |= MATCH_RM8; break;
    case OPK_SEG: r->match_flags |= MATCH_SEGREG; break;
    case OPK_TE: r->match_flags |= MATCH_TE; break;
    case OPK_KH:
    case OPK_TH: r->match_flags |= MATCH_VVVV | MATCH_K; break;
    case OPK_B:
    case OPK_H: r->match_flags |= MATCH_VVVV; break;
    case OPK_C: r->match_flags |= MATCH_CR; break;
    case OPK_D: r->match_flags |= MATCH_DR; break;
    case OPK_MV: r->match_flags |= MATCH_VSIB; break;
    default: break;
    }
}

/* Memory bytes, as log2, of an operand's type; 0x80 and up: by the vector length. */
static unsigned disp8_factor(const struct row *r)
{
    static const struct named by_type[] = {
        {"", OPT_B, 0},           {"", OPT_W, 1},          {"", OPT_D, 2},
        {"", OPT_Q, 3},           {"", OPT_DQ, 4},         {"", OPT_QQ, 5},
        {"", OPT_OQ, 6},          {"", OPT_X, N8_VL},      {"", OPT_XH, N8_HALF},
        {"", OPT_XQ, N8_QUARTER}, {"", OPT_XO, N8_EIGHTH},
    };
    for (unsigned i = 0; i < MAX_OPERANDS; i++) {
        if (!is_rm_kind(r->operand[i].kind))
            continue;
        if (r->operand[i].type == OPT_Y)
            return N8_Y;
        for (unsigned j = 0; j < sizeof by_type / sizeof *by_type; j++)
            if (by_type[j].a == r->operand[i].type)
                return by_type[j].b;
    }
    return 0;
}

static void derive_evex(struct row *r)
{
    if (r->n8 == N8_UNKNOWN)
        r->n8 = disp8_factor(r);
    for (unsigned i = 0; i < MAX_OPERANDS; i++) {
        unsigned kind = r->operand[i].kind;
        r->match_flags |= kind == OPK_V ? MATCH_REG_V : 0;
        r->match_flags |= kind == OPK_G || kind == OPK_KG ? MATCH_REG_16 : 0;
        r->match_flags |= kind == OPK_W || kind == OPK_U ? MATCH_RM_V : 0;
    }
    if (r->flags & X86_FORM_STORE)
        r->match_flags |= MATCH_STORE;
    unsigned broadcast = r->match_flags & MATCH_BCAST8   ? 3
                         : r->match_flags & MATCH_BCAST4 ? 2
                         : r->match_flags & MATCH_BCAST2 ? 1
                                                         : 0;
    r->flags |= broadcast << X86_FORM_BCAST_SHIFT;
}

static void derive(struct row *r)
{
    for (unsigned i = 0; i < MAX_OPERANDS; i++)
        derive_operand(r, i);
    for (unsigned i = 0; i < MAX_OPERANDS; i++) {
        unsigned kind = r->operand[i].kind;
        if ((kind == OPK_M || kind == OPK_MV) && !(r->match_flags & MATCH_ANY_MOD))
            need(r, KEY_MOD3, 0);
        if ((kind == OPK_R && !(r->match_flags & MATCH_ANY_MOD)) || kind == OPK_N || kind == OPK_U)
            need(r, KEY_MOD3, KEY_MOD3);
    }
    if (r->match_flags & MATCH_VVVV)
        r->flags |= X86_FORM_VVVV;
    if (r->size == SIZE_KINDS)
        r->size = size_of(r);
    r->size = with_mode(r, r->size);
    if (r->kind == EVEX)
        derive_evex(r);
    if (row_features[r->feature].modelled)
        r->flags |= X86_FORM_MODELLED;
}

/* ---- reading ---- */

char *row_trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    char *end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1]))
        *--end = 0;
    return s;
}

static void copy(char *to, size_t size, const char *from)
{
    if (strlen(from) >= size)
        fail("'%s' is too long", from);
    memcpy(to, from, strlen(from) + 1);
}

static void parse_row(struct rows *rows, char *line)
{
    char none[] = "";
    char *column[6] = {none, none, none, none, none, none};
    unsigned n = 0;
    for (char *next = line; next && n < 6; n++) {
        char *bar = strchr(next, '|');
        if (bar)
            *bar++ = 0;
        column[n] = row_trim(next);
        next = bar;
    }
    if (n < 4)
        fail("a row has at least four columns");
    if (rows->count == MAX_ROWS)
        fail("too many rows");
    struct row *r = &rows->row[rows->count++];
    copy(r->encoding, sizeof r->encoding, column[0]);
    copy(r->mnemonic, sizeof r->mnemonic, column[1]);
    copy(r->operands, sizeof r->operands, column[2]);
    r->feature = find_feature(column[3]);
    if (row_features[r->feature].modelled)
        copy(r->sem, sizeof r->sem, *column[5] ? column[5] : column[1]);
    parse_encoding(r);
    parse_operands(r);
    parse_flags(r, column[4]);
    derive(r);
}

void rows_read(struct rows *rows, const char *name)
{
    char line[512];
    FILE *f = fopen(name, "r");
    file_name = name;
    line_number = 0;
    if (!f)
        fail("can't be opened");
    while (fgets(line, sizeof line, f)) {
        line_number++;
        char *text = row_trim(line);
        if (*text && *text != '#')
            parse_row(rows, text);
    }
    fclose(f);
}

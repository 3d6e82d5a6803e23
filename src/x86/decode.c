/*
 * The decoder: bytes to struct x86_insn, by the tables made from forms/ *.def.
 *
 * On every engine's hot path, so: no bounds checks while bytes are read (an instruction near the
 * end of what the caller has is decoded from a padded copy), one table entry for an opcode, and
 * mostly one candidate form to compare with. SDM 2, chapter 2 is the encoding.
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "x86/cpu.h"
#include "x86/decode_tables.h"
#include "x86/insn.h"

/* No instruction makes the decoder read farther than this, prefixes that never end included. */
enum { READ_MAX = 48 };

/* What is known before the form is: prefixes and VEX, in the table's terms. */
struct prefix_state {
    unsigned pp;      /* PP_*: the mandatory prefix */
    unsigned w;       /* REX.W or VEX.W */
    unsigned r, x, b; /* REX.R, X, B, as bit 3 of a register */
    unsigned vvvv;
    unsigned l;      /* VEX.L or EVEX.L'L */
    unsigned r2, v2; /* EVEX.R' and V', as bit 4 of a register */
    bool rounding;   /* EVEX.b with registers: L'L is not the length */
    unsigned table;
};

/* Operand sizes by [size_kind][code * 4 + W * 2 + 66]. */
#define ALL(n)                                                                                     \
    {                                                                                              \
        n, n, n, n, n, n, n, n, n, n, n, n                                                         \
    }
static const uint8_t operand_sizes[SIZE_KINDS][12] = {
    [SIZE_1] = ALL(1),
    [SIZE_2] = ALL(2),
    [SIZE_4] = ALL(4),
    [SIZE_8] = ALL(8),
    [SIZE_16] = ALL(16),
    [SIZE_32] = ALL(32),
    [SIZE_64] = ALL(64),
    /* 16-bit code: -, 66, W, W 66; 32-bit code; 64-bit code */
    [SIZE_V] = {2, 4, 2, 4, 4, 2, 4, 2, 4, 2, 8, 8},
    [SIZE_V_D64] = {2, 4, 2, 4, 4, 2, 4, 2, 8, 2, 8, 8},
    [SIZE_V_F64] = {2, 4, 2, 4, 4, 2, 4, 2, 8, 8, 8, 8},
    [SIZE_Y] = {4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 8, 8},
    [SIZE_Y_F64] = {4, 4, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8},
    [SIZE_Z] = {2, 4, 2, 4, 4, 2, 4, 2, 4, 2, 4, 4},
};
#undef ALL

/* ---- prefixes ---- */

/* Bit n of word m: whether byte m * 64 + n may be a legacy prefix. */
static const uint64_t legacy_prefixes[4] = {
    BIT(0x26) | BIT(0x2e) | BIT(0x36) | BIT(0x3e),
    BIT(0x64 - 0x40) | BIT(0x65 - 0x40) | BIT(0x66 - 0x40) | BIT(0x67 - 0x40),
    0,
    BIT(0xf0 - 0xc0) | BIT(0xf2 - 0xc0) | BIT(0xf3 - 0xc0),
};

/* One legacy prefix; false when the byte is none. */
static inline bool legacy_prefix(uint8_t byte, unsigned code, struct x86_insn *out)
{
    if (likely(!(legacy_prefixes[byte >> 6] >> (byte & 63) & 1)))
        return false;
    switch (byte) {
    case 0x66: out->prefixes |= X86_PREFIX_OPSIZE; return true;
    case 0x67: out->prefixes |= X86_PREFIX_ADDRSIZE; return true;
    case 0xf0: out->prefixes |= X86_PREFIX_LOCK; return true;
    case 0xf2: /* the last of F2 and F3 counts */
        out->prefixes = (out->prefixes & ~X86_PREFIX_REP) | X86_PREFIX_REPNE;
        return true;
    case 0xf3: out->prefixes = (out->prefixes & ~X86_PREFIX_REPNE) | X86_PREFIX_REP; return true;
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
        if (code != X86_CODE64) { /* ignored in 64-bit code */
            out->segment = (byte >> 3) & 3;
            out->has_segment = true;
        }
        return true;
    case 0x64:
    case 0x65:
        out->segment = byte - 0x64 + X86_FS;
        out->has_segment = true;
        return true;
    default: return false;
    }
}

static inline unsigned mandatory_prefix(unsigned prefixes)
{
    if (prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE))
        return prefixes & X86_PREFIX_REP ? PP_F3 : PP_F2;
    return prefixes & X86_PREFIX_OPSIZE ? PP_66 : PP_NONE;
}

/* Prefixes that may not stand before VEX and EVEX. */
enum {
    BEFORE_VEX =
        X86_PREFIX_LOCK | X86_PREFIX_REP | X86_PREFIX_REPNE | X86_PREFIX_OPSIZE | X86_PREFIX_REX
};

/* Mandatory prefixes as VEX.pp numbers them. */
static const uint8_t vex_pp[4] = {PP_NONE, PP_66, PP_F3, PP_F2};

/* C4 and C5, behind the byte itself. Returns the bytes read, 0 when invalid (SDM 2, 2.3). */
static unsigned vex_prefix(const uint8_t *p, bool three, unsigned code, struct x86_insn *out,
                           struct prefix_state *s)
{
    uint8_t last = p[three];
    if (out->prefixes & BEFORE_VEX)
        return 0;
    out->map = 1;
    s->w = 0;
    s->r = ~p[0] >> 4 & 8;
    if (three) {
        out->map = p[0] & 31;
        if (out->map < 1 || out->map > 3)
            return 0;
        s->x = ~p[0] >> 3 & 8;
        s->b = ~p[0] >> 2 & 8;
        s->w = last >> 7;
    }
    s->vvvv = ~last >> 3 & 15;
    if (code != X86_CODE64)
        s->b = 0;
    s->l = last >> 2 & 1;
    s->pp = vex_pp[last & 3];
    s->table = TABLE_VEX + out->map;
    out->prefixes |= X86_PREFIX_VEX;
    out->rex = (uint8_t)(0x40 | s->w << 3 | s->r >> 1 | s->x >> 2 | s->b >> 3);
    out->vvvv = (uint8_t)(s->vvvv & (code == X86_CODE64 ? 15 : 7));
    out->vl = (uint8_t)(16 << s->l);
    return 1 + three;
}

enum { EVEX_Z = 0x80, EVEX_B = 0x10, EVEX_V2 = 0x08, EVEX_AAA = 0x07 };

/* 62, behind the byte itself. Returns the bytes read, 0 when invalid (SDM 2, 2.7). */
static unsigned evex_prefix(const uint8_t *p, unsigned code, struct x86_insn *out,
                            struct prefix_state *s)
{
    static const uint8_t maps = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;
    if (out->prefixes & BEFORE_VEX)
        return 0;
    out->map = p[0] & 7;
    if ((p[0] & 8) || !(maps >> out->map & 1) || !(p[1] & 4))
        return 0;
    s->r = ~p[0] >> 4 & 8;
    s->x = ~p[0] >> 3 & 8;
    s->b = ~p[0] >> 2 & 8;
    s->r2 = ~p[0] & 16;
    s->v2 = (~p[2] & 8u) << 1;
    s->w = p[1] >> 7;
    s->vvvv = ~p[1] >> 3 & 15;
    if (code != X86_CODE64)
        s->b = s->r2 = 0;
    s->l = p[2] >> 5 & 3;
    s->pp = vex_pp[p[1] & 3];
    s->table = TABLE_EVEX + out->map;
    out->prefixes |= X86_PREFIX_EVEX;
    out->rex = (uint8_t)(0x40 | s->w << 3 | s->r >> 1 | s->x >> 2 | s->b >> 3);
    out->evex = p[2];
    return 3;
}

/* ---- ModRM, SIB and displacement ---- */

static const uint8_t *address16(const uint8_t *p, unsigned mod, unsigned rm, struct x86_insn *out)
{
    static const struct {
        uint8_t base, index;
    } forms[8] = {
        {X86_RBX, X86_RSI},    {X86_RBX, X86_RDI},    {X86_RBP, X86_RSI},    {X86_RBP, X86_RDI},
        {X86_RSI, X86_NO_REG}, {X86_RDI, X86_NO_REG}, {X86_RBP, X86_NO_REG}, {X86_RBX, X86_NO_REG},
    };
    out->base = forms[rm].base;
    out->index = forms[rm].index;
    if (mod == 0 && rm == 6) {
        out->base = X86_NO_REG;
        mod = 2;
    }
    if (mod == 1) {
        out->disp = (int8_t)p[0];
        return p + 1;
    }
    if (mod == 2) {
        out->disp = (int16_t)load_u16(p);
        return p + 2;
    }
    return p;
}

static const uint8_t *address32(const uint8_t *p, unsigned mod, unsigned rm, unsigned code,
                                const struct prefix_state *s, struct x86_insn *out)
{
    unsigned base = rm;
    if (rm == 4) {
        unsigned sib = *p++, index = (sib >> 3 & 7) | s->x;
        base = sib & 7;
        out->scale = (uint8_t)(sib >> 6);
        out->index = index == 4 ? X86_NO_REG : (uint8_t)index;
    }
    out->base = (uint8_t)(base | s->b);
    if (mod == 0 && base == 5) {
        out->base = rm == 5 && code == X86_CODE64 ? X86_BASE_RIP : X86_NO_REG;
        mod = 2;
    }
    if (mod == 1) {
        out->disp = (int8_t)p[0];
        return p + 1;
    }
    if (mod == 2) {
        out->disp = (int32_t)load_u32(p);
        return p + 4;
    }
    return p;
}

static inline const uint8_t *memory_operand(const uint8_t *p, unsigned code,
                                            const struct prefix_state *s, struct x86_insn *out)
{
    unsigned mod = out->modrm >> 6, rm = out->modrm & 7;
    out->is_mem = true;
    if (out->addrsize == 2)
        p = address16(p, mod, rm, out);
    else
        p = address32(p, mod, rm, code, s, out);
    if (!out->has_segment && (out->base == X86_RSP || out->base == X86_RBP))
        out->segment = X86_SS;
    return p;
}

/* ---- immediates ---- */

static const uint8_t *immediate(const uint8_t *p, unsigned kind, struct x86_insn *out)
{
    switch (kind) {
    case IMM_8: out->imm = *p; return p + 1;
    case IMM_S8: out->imm = (int8_t)*p; return p + 1;
    case IMM_16: out->imm = load_u16(p); return p + 2;
    case IMM_V:
        if (out->opsize == 8) {
            out->imm = (int64_t)load_u64(p);
            return p + 8;
        }
        /* fall through */
    case IMM_Z:
        if (out->opsize == 2) {
            out->imm = (int16_t)load_u16(p);
            return p + 2;
        }
        out->imm = (int32_t)load_u32(p);
        return p + 4;
    case IMM_OFS:
        out->is_mem = true;
        out->disp = (int64_t)(load_u64(p) & bits_mask(out->addrsize * 8u));
        return p + out->addrsize;
    case IMM_FAR:
        out->imm = out->opsize == 2 ? load_u16(p) : load_u32(p);
        p += out->opsize == 2 ? 2 : 4;
        out->imm2 = load_u16(p);
        return p + 2;
    case IMM_ENTER:
        out->imm = load_u16(p);
        out->imm2 = p[2];
        return p + 3;
    case IMM_8_8:
        out->imm = p[0];
        out->imm2 = p[1];
        return p + 2;
    case IMM_ONE: out->imm = 1; return p;
    default: return p;
    }
}

/* ---- the form ---- */

static inline const struct match *find_match(const struct opcode *o, unsigned key)
{
    if (o->flags & OPCODE_SPLIT)
        o = &decode_split[o->first + ((key >> KEY_REG_SHIFT & 7) | (key & KEY_MOD3 ? 8 : 0))];
    const struct match *m = &decode_matches[o->first];
    for (unsigned n = o->count; n; n--, m++)
        if ((key & m->mask) == m->value)
            return m;
    return NULL;
}

/* Gathers: the index is a vector register, and no two of the registers are the same. */
static bool is_valid_gather(const struct match *m, const struct x86_insn *out)
{
    if (out->prefixes & X86_PREFIX_VEX)
        return out->reg != out->index && out->reg != out->vvvv && out->index != out->vvvv;
    return (out->evex & EVEX_AAA) && ((m->flags & MATCH_STORE) || out->reg != out->index);
}

/* Whether the destination is none of the sources; tiles must all differ. */
static bool is_distinct(const struct match *m, const struct x86_insn *out)
{
    if (out->reg == out->vvvv || (!out->is_mem && out->reg == out->rm))
        return false;
    return !(m->flags & MATCH_TE) || out->vvvv != out->rm;
}

/* EVEX's masks, broadcasts and rounding, where the form does not have them (SDM 2, 2.7.11). */
static bool is_valid_evex(const struct match *m, const struct prefix_state *s,
                          const struct x86_insn *out)
{
    unsigned broadcasts = MATCH_BCAST2 | MATCH_BCAST4 | MATCH_BCAST8;
    if (s->rounding ? !(m->flags & MATCH_SAE) : s->l == 3)
        return false;
    if ((out->evex & EVEX_B) && out->is_mem && !(m->flags & broadcasts))
        return false;
    if ((out->evex & EVEX_AAA) && !(m->flags & MATCH_MERGE))
        return false;
    if ((out->evex & EVEX_Z) && (!(out->evex & EVEX_AAA) || !(m->flags & MATCH_ZERO) ||
                                 ((m->flags & MATCH_STORE) && out->is_mem)))
        return false;
    if ((s->r2 && (m->flags & MATCH_REG_16)) || (s->v2 && !out->mode64))
        return false;
    return (m->flags & (MATCH_VVVV | MATCH_VSIB)) || s->v2 == 0;
}

/* What the tables can't say with a mask. */
static bool is_valid(const struct match *m, const struct prefix_state *s,
                     const struct x86_insn *out)
{
    if ((out->prefixes & X86_PREFIX_LOCK) && !((m->flags & MATCH_LOCK) && out->is_mem))
        return false;
    if ((m->flags & MATCH_CR) && (s->r && (out->modrm & 0x38)))
        return false; /* CR9 to CR15 */
    if ((m->flags & MATCH_DR) && s->r)
        return false;
    if ((m->flags & MATCH_K) && s->r)
        return false;
    if ((m->flags & MATCH_K) && (m->flags & MATCH_VVVV) && out->vvvv > 7 &&
        (out->prefixes & X86_PREFIX_VEX))
        return false;
    if ((m->flags & MATCH_TE) && s->b)
        return false;
    if ((m->flags & (MATCH_SIB | MATCH_VSIB)) && ((out->modrm & 7) != 4 || out->addrsize == 2))
        return false;
    if (!(out->prefixes & (X86_PREFIX_VEX | X86_PREFIX_EVEX)))
        return true;
    if ((m->flags & MATCH_DISTINCT) && !is_distinct(m, out))
        return false;
    if ((m->flags & MATCH_VSIB) && !is_valid_gather(m, out))
        return false;
    if ((out->prefixes & X86_PREFIX_EVEX) && !is_valid_evex(m, s, out))
        return false;
    return (m->flags & MATCH_VVVV) || s->vvvv == 0;
}

static inline void registers(const struct match *m, const struct prefix_state *s,
                             struct x86_insn *out)
{
    if (m->flags & MATCH_OPREG)
        out->reg = (uint8_t)((out->opcode & 7) | s->b);
    else if (m->flags & MATCH_SEGREG)
        out->reg = out->opcode >> 3 & 7;
    else
        out->reg = (uint8_t)((out->modrm >> 3 & 7) | (m->flags & MATCH_REG8 ? 0 : s->r));
    out->rm = (uint8_t)((out->modrm & 7) | (m->flags & MATCH_RM8 ? 0 : s->b));
}

/* disp8 counts in units of the memory operand's size, of the element's when it is broadcast (SDM 2,
 * 2.7.5). */
static unsigned disp8_shift(const struct match *m, const struct x86_insn *out)
{
    if (out->evex & EVEX_B)
        return m->flags & MATCH_BCAST8 ? 3 : m->flags & MATCH_BCAST4 ? 2 : 1;
    if (m->n8 == N8_Y)
        return out->mode64 && (out->rex & 8) ? 3 : 2;
    if (m->n8 < N8_VL)
        return m->n8;
    return (unsigned)__builtin_ctz(out->vl) - (m->n8 - N8_VL);
}

/* What EVEX adds to the operands: registers 16 to 31, the length, disp8's factor. */
static void evex_operands(const struct match *m, const struct prefix_state *s, struct x86_insn *out)
{
    out->vl = (uint8_t)(m->flags & MATCH_SCALAR || s->l == 3 ? 16 : 16 << s->l);
    if (s->rounding && !(m->flags & MATCH_SCALAR))
        out->vl = 64;
    out->vvvv = (uint8_t)((s->vvvv & (out->mode64 ? 15 : 7)) |
                          (out->mode64 && (m->flags & MATCH_VVVV) ? s->v2 : 0));
    if (m->flags & MATCH_REG_V)
        out->reg |= (uint8_t)s->r2;
    if ((m->flags & MATCH_RM_V) && out->mode64)
        out->rm |= (uint8_t)(s->x << 1);
    if ((m->flags & MATCH_VSIB) && out->mode64)
        out->index |= (uint8_t)s->v2;
    if (out->is_mem && out->modrm >> 6 == 1)
        out->disp = (int64_t)((uint64_t)out->disp << disp8_shift(m, out));
}

/* Legacy prefixes and REX. Returns what is behind them, or more than X86_INSN_MAX bytes on. */
static inline const uint8_t *legacy_and_rex(const uint8_t *p, unsigned code, struct x86_insn *out,
                                            struct prefix_state *s)
{
    static const uint8_t address_sizes[3][2] = {{2, 4}, {4, 2}, {8, 4}};
    const uint8_t *limit = p + X86_INSN_MAX;
    unsigned rex = 0;
    for (; p <= limit; p++) {
        if (code == X86_CODE64 && (*p & 0xf0) == 0x40)
            rex = *p; /* counts only right before the opcode */
        else if (legacy_prefix(*p, code, out))
            rex = 0;
        else
            break;
    }
    out->addrsize = address_sizes[code][!!(out->prefixes & X86_PREFIX_ADDRSIZE)];
    s->pp = mandatory_prefix(out->prefixes);
    if (rex) {
        out->prefixes |= X86_PREFIX_REX;
        out->rex = (uint8_t)rex;
        s->w = rex >> 3 & 1;
        s->r = rex << 1 & 8;
        s->x = rex << 2 & 8;
        s->b = rex << 3 & 8;
    }
    return p;
}

/* Escapes, VEX and EVEX: which map the opcode is of. Returns where the opcode is; NULL when there
 * can be none, with *end behind what was looked at. */
static inline const uint8_t *opcode_map(const uint8_t *p, unsigned code, struct x86_insn *out,
                                        struct prefix_state *s, const uint8_t **end)
{
    if (*p == 0x0f) {
        out->map = 1;
        p++;
        if (*p == 0x38 || *p == 0x3a)
            out->map = *p++ == 0x38 ? 2 : 3;
        s->table = TABLE_LEGACY + out->map;
        return p;
    }
    bool vex = (*p & 0xfe) == 0xc4, evex = *p == 0x62;
    if ((!vex && !evex) || (code != X86_CODE64 && p[1] < 0xc0))
        return p; /* or LES, LDS, BOUND */
    unsigned n =
        vex ? vex_prefix(p + 1, *p == 0xc4, code, out, s) : evex_prefix(p + 1, code, out, s);
    *end = p + (vex ? 2 : 4);
    return n ? p + 1 + n : NULL;
}

/* Decodes from bytes that READ_MAX can be read of. len is set whatever comes of it. */
static bool decode(const uint8_t *bytes, unsigned code, struct x86_insn *out)
{
    struct prefix_state s = {0};
    *out = (struct x86_insn){
        .segment = X86_DS, .mode64 = code == X86_CODE64, .base = X86_NO_REG, .index = X86_NO_REG};
    const uint8_t *end = bytes, *p = legacy_and_rex(bytes, code, out, &s);
    p = opcode_map(p, code, out, &s, &end);
    if (!p) {
        out->len = (uint8_t)(end - bytes);
        return false;
    }
    out->opcode = *p++;
    const struct opcode *o = &decode_opcodes[s.table][out->opcode];
    unsigned key = s.pp | s.w << 10 | s.b << 10;
    key |= code == X86_CODE64 ? KEY_MODE64 : 0;
    if (o->flags & OPCODE_MODRM) {
        out->modrm = *p++;
        key |= (out->modrm & 7u) << KEY_RM_SHIFT | (out->modrm >> 3 & 7u) << KEY_REG_SHIFT |
               (out->modrm >= 0xc0 ? KEY_MOD3 : 0);
    }
    s.rounding = (out->evex & EVEX_B) && (key & KEY_MOD3);
    key |= (s.rounding ? 2 : s.l) << KEY_L_SHIFT;
    const struct match *m = find_match(o, key);
    if (unlikely(!m)) {
        out->len = (uint8_t)(p - bytes);
        return false;
    }
    out->form = m->form;
    if ((o->flags & OPCODE_MODRM) && out->modrm < 0xc0 && !(m->flags & MATCH_ANY_MOD))
        p = memory_operand(p, code, &s, out);
    if ((m->flags & MATCH_VSIB) && out->index == X86_NO_REG)
        out->index = X86_RSP; /* 4 is a register like others here */
    registers(m, &s, out);
    if (out->prefixes & X86_PREFIX_EVEX)
        evex_operands(m, &s, out);
    out->opsize =
        m->size == SIZE_VL
            ? (out->vl ? out->vl : 16)
            : operand_sizes[m->size][code * 4 + s.w * 2 + !!(out->prefixes & X86_PREFIX_OPSIZE)];
    p = immediate(p, m->imm, out);
    out->len = (uint8_t)(p - bytes);
    return is_valid(m, &s, out);
}

enum x86_decode_status x86_decode(const uint8_t *bytes, size_t n, unsigned code,
                                  struct x86_insn *out)
{
    uint8_t padded[READ_MAX];
    if (n < READ_MAX) {
        bytes_copy(padded, bytes, n);
        bytes_fill(padded + n, 0, sizeof padded - n);
        bytes = padded;
    }
    bool valid = decode(bytes, code, out);
    if (out->len > X86_INSN_MAX || out->len > n)
        return n >= X86_INSN_MAX ? X86_DECODE_TOO_LONG : X86_DECODE_SHORT;
    return valid ? X86_DECODED : X86_DECODE_INVALID;
}

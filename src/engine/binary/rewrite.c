/*
 * Instructions that are run as they are, but for where their operands are: a memory operand goes
 * through the flat table, and the registers that the translation needs for that are in memory.
 *
 * What is emitted for one instruction first only changes the scratch registers S1 and S2; then
 * comes the one host instruction that can fault and that changes the guest's state; then what puts
 * the rest of the result where it belongs and can't fault. So at a fault the guest's state is as
 * before its instruction.
 */
#include "engine/binary/translator.h"

/* ---- the encoding of the current instruction ---- */

/* An instruction's bytes, in their parts. */
struct encoding {
    uint8_t prefix[3]; /* those that matter: 66, F2, F3, F0, in their order */
    unsigned prefixes;
    bool rex, vex, evex;
    uint8_t rex_bits; /* W, R, X, B as 8, 4, 2, 1 */
    uint8_t p1, p2;   /* VEX's last byte in its three-byte form; EVEX's P1 and P2 */
    uint8_t map, opcode, modrm;
    const uint8_t *imm;
    unsigned imm_len;
};

static bool is_prefix(uint8_t b)
{
    return b == 0x66 || b == 0x67 || b == 0xf2 || b == 0xf3 || b == 0xf0 || b == 0x2e ||
           b == 0x36 || b == 0x3e || b == 0x26 || b == 0x64 || b == 0x65;
}

static bool prefix_stays(uint8_t b)
{
    return b == 0x66 || b == 0xf2 || b == 0xf3 || b == 0xf0;
}

static bool is_rex(uint8_t b)
{
    return (b & 0xf0) == 0x40;
}

static bool is_repeat(uint8_t b)
{
    return b == 0xf2 || b == 0xf3;
}

/* Once each; of F2 and F3 the last counts. */
static void keep_prefix(struct encoding *enc, uint8_t b)
{
    for (unsigned i = 0; i < enc->prefixes; i++) {
        if (enc->prefix[i] == b || (is_repeat(enc->prefix[i]) && is_repeat(b))) {
            enc->prefix[i] = b;
            return;
        }
    }
    enc->prefix[enc->prefixes++] = b;
}

/* VEX or EVEX: fills in what it says, returns the bytes it has with its escape. */
static unsigned parse_vex(const uint8_t *p, struct encoding *enc)
{
    if (p[0] == 0x62) {
        enc->evex = true;
        enc->map = p[1] & 7;
        enc->rex_bits = (uint8_t)(~p[1] >> 5 & 7);
        enc->p1 = p[2];
        enc->p2 = p[3];
        return 4;
    }
    enc->vex = true;
    if (p[0] == 0xc5) {
        enc->map = 1;
        enc->rex_bits = p[1] & 0x80 ? 0 : 4;
        enc->p1 = p[1] & 0x7f;
        return 2;
    }
    enc->map = p[1] & 0x1f;
    enc->rex_bits = (uint8_t)(~p[1] >> 5 & 7);
    enc->p1 = p[2];
    return 3;
}

static unsigned displacement_size(const uint8_t *modrm)
{
    unsigned mod = *modrm >> 6, rm = *modrm & 7;
    if (mod == 3)
        return 0;
    unsigned sib = rm == 4 ? 1 : 0;
    if (mod == 1)
        return sib + 1;
    if (mod == 2)
        return sib + 4;
    bool wide = rm == 5 || (sib && (modrm[1] & 7) == 5);
    return sib + (wide ? 4 : 0);
}

/* Of an instruction that the decoder has taken. */
static void parse(const struct translator *t, struct encoding *enc)
{
    const uint8_t *p = t->bytes, *end = p + t->insn.len;
    *enc = (struct encoding){.prefixes = 0};
    /* REX counts in front of the opcode alone (SDM 2, 2.2.1). */
    for (; is_prefix(*p) || is_rex(*p); p++) {
        enc->rex = is_rex(*p);
        enc->rex_bits = enc->rex ? *p & 15 : 0;
        if (!enc->rex && prefix_stays(*p))
            keep_prefix(enc, *p);
    }
    if (t->insn.prefixes & (X86_PREFIX_VEX | X86_PREFIX_EVEX)) {
        p += parse_vex(p, enc);
    } else if (*p == 0x0f) {
        p++;
        enc->map = *p == 0x38 ? 2 : *p == 0x3a ? 3 : 1;
        if (enc->map > 1)
            p++;
    }
    enc->opcode = *p++;
    if (t->form->flags & X86_FORM_MODRM) {
        enc->modrm = *p;
        p += 1 + displacement_size(p);
    }
    enc->imm = p;
    enc->imm_len = (unsigned)(end - p);
}

/* ---- encoding it again ---- */

/* Where its operands are on the host. */
struct operands {
    unsigned reg; /* ModRM.reg or the opcode's register */
    unsigned rm;  /* with mod 3 */
    unsigned vvvv;
    const struct host_mem *mem;
};

static unsigned extension_bits(const struct operands *o)
{
    unsigned bits = o->reg & 8 ? 4 : 0;
    if (!o->mem)
        return bits | (o->rm & 8 ? 1 : 0);
    if (o->mem->index != HOST_NONE && (o->mem->index & 8))
        bits |= 2;
    if (o->mem->base != HOST_NONE && (o->mem->base & 8))
        bits |= 1;
    return bits;
}

static void emit_escape(struct emit *e, unsigned map)
{
    if (map)
        emit_byte(e, 0x0f);
    if (map == 2)
        emit_byte(e, 0x38);
    if (map == 3)
        emit_byte(e, 0x3a);
}

static void emit_legacy(struct emit *e, const struct encoding *enc, const struct operands *o)
{
    unsigned rex = (enc->rex_bits & 8u) | extension_bits(o);
    emit_bytes(e, enc->prefix, enc->prefixes);
    if (rex || enc->rex)
        emit_byte(e, 0x40 | rex);
    emit_escape(e, enc->map);
}

static void emit_vex(struct emit *e, const struct encoding *enc, const struct operands *o,
                     bool has_vvvv)
{
    unsigned p1 = enc->p1;
    if (has_vvvv)
        p1 = (p1 & 0x87) | (~o->vvvv & 15) << 3;
    emit_byte(e, 0xc4);
    emit_byte(e, (~extension_bits(o) & 7) << 5 | enc->map);
    emit_byte(e, p1);
}

/* Registers have five bits here: R and R', X (or index) and B, vvvv and V' (SDM 2, 2.7.1). */
static void emit_evex(struct emit *e, const struct encoding *enc, const struct operands *o)
{
    unsigned bits = extension_bits(o) | (!o->mem && (o->rm & 16) ? 2 : 0);
    emit_byte(e, 0x62);
    emit_byte(e, (~bits & 7) << 5 | (o->reg & 16 ? 0 : 0x10) | enc->map);
    emit_byte(e, (enc->p1 & 0x87) | (~o->vvvv & 15) << 3);
    emit_byte(e, (enc->p2 & 0xf7) | (o->vvvv & 16 ? 0 : 8));
}

/* The operation with its operands where `o` says. `opcode_reg`: the opcode's low bits are a
 * register (o->rm). */
static void emit_again(struct translator *t, const struct encoding *enc, const struct operands *o,
                       bool opcode_reg, bool has_vvvv)
{
    struct emit *e = &t->e;
    if (o->mem && o->mem->gs)
        emit_byte(e, 0x65);
    if (enc->evex)
        emit_evex(e, enc, o);
    else if (enc->vex)
        emit_vex(e, enc, o, has_vvvv);
    else
        emit_legacy(e, enc, o);
    emit_byte(e, opcode_reg ? (enc->opcode & 0xf8u) | (o->rm & 7) : enc->opcode);
    if (t->form->flags & X86_FORM_MODRM) {
        if (o->mem)
            emit_memory(e, o->reg, o->mem, enc->evex && o->mem->disp);
        else
            emit_byte(e, 0xc0 | (o->reg & 7) << 3 | (o->rm & 7));
    }
    emit_bytes(e, enc->imm, enc->imm_len);
}

static struct host_mem based(unsigned base, int32_t disp)
{
    return (struct host_mem){.base = (uint8_t)base, .index = HOST_NONE, .disp = disp};
}

/* ---- registers that are in memory ---- */

/* What an operand of an instruction is to it. */
enum { READS = 1, WRITES = 2 };

static unsigned operand_use(const struct translator *t, unsigned i)
{
    unsigned uses = t->facts->uses;
    if (i > 0)
        return uses & USES_TWO_RESULTS ? READS | WRITES : READS;
    if (uses & USES_FIRST_AS_SOURCE)
        return READS;
    /* Writes of one or two bytes keep the rest. */
    return (uses & USES_FIRST_AS_RESULT) && x86_operand_size(&t->insn, i) >= 4 ? WRITES
                                                                               : READS | WRITES;
}

enum { FIELD_NONE, FIELD_REG, FIELD_RM, FIELD_VVVV };

/* Which field of the encoding names the general register of operand i. */
static unsigned register_field(const struct translator *t, unsigned i)
{
    switch (t->form->operand[i].kind) {
    case OPK_G: return FIELD_REG;
    case OPK_E:
    case OPK_R: return t->insn.is_mem ? FIELD_NONE : FIELD_RM;
    case OPK_Z: return FIELD_RM;
    case OPK_B: return FIELD_VVVV;
    default: return FIELD_NONE;
    }
}

/* AH, CH, DH, BH: not to be named beside a scratch register. */
static bool names_high_byte(const struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    if (insn->rex || insn->prefixes & (X86_PREFIX_VEX | X86_PREFIX_EVEX))
        return false;
    return ((t->form->flags & X86_FORM_REG_BYTE) && insn->reg >= 4) ||
           ((t->form->flags & X86_FORM_RM_BYTE) && !insn->is_mem && insn->rm >= 4);
}

/* One displaced register of the instruction: where it is while the instruction runs. */
struct stand_in {
    unsigned guest, host, use;
};

struct stand_ins {
    struct stand_in in[2];
    unsigned n;
};

static void add_stand_in(struct stand_ins *s, unsigned guest, unsigned use)
{
    for (unsigned i = 0; i < s->n; i++) {
        if (s->in[i].guest == guest) {
            s->in[i].use |= use;
            return;
        }
    }
    s->in[s->n++] = (struct stand_in){guest, HOST_NONE, use};
}

static unsigned stood_in(const struct stand_ins *s, unsigned guest)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->in[i].guest == guest)
            return s->in[i].host;
    return guest;
}

/* The number in a field; without ModRM, that of the opcode's register. */
static unsigned field_value(const struct translator *t, unsigned field)
{
    switch (field) {
    case FIELD_REG: return t->insn.reg;
    case FIELD_VVVV: return t->insn.vvvv;
    default: return t->form->flags & X86_FORM_MODRM ? t->insn.rm : t->insn.reg;
    }
}

static struct stand_ins find_displaced(const struct translator *t)
{
    struct stand_ins s = {.n = 0};
    for (unsigned i = 0; i < ARRAY_LEN(t->form->operand); i++) {
        unsigned field = register_field(t, i);
        if (field != FIELD_NONE && displaced(field_value(t, field)))
            add_stand_in(&s, field_value(t, field), operand_use(t, i));
    }
    return s;
}

/* The instruction's registers as they are numbered on the host. */
static struct operands stand_in(const struct translator *t, const struct stand_ins *s)
{
    struct operands o = {.reg = t->form->flags & X86_FORM_GROUP ? t->insn.modrm >> 3 & 7u
                                                                : t->insn.reg,
                         .rm = field_value(t, FIELD_RM),
                         .vvvv = t->insn.vvvv};
    for (unsigned i = 0; i < ARRAY_LEN(t->form->operand); i++) {
        switch (register_field(t, i)) {
        case FIELD_REG: o.reg = stood_in(s, o.reg); break;
        case FIELD_RM: o.rm = stood_in(s, o.rm); break;
        case FIELD_VVVV: o.vvvv = stood_in(s, o.vvvv); break;
        }
    }
    return o;
}

static void load_stand_ins(struct translator *t, struct stand_ins *s)
{
    if (s->n == 2 && operand_has_value(t, s->in[1].guest)) { /* which is not to be given up */
        struct stand_in first = s->in[0];
        s->in[0] = s->in[1];
        s->in[1] = first;
    }
    for (unsigned i = 0; i < s->n; i++) {
        struct stand_in *in = &s->in[i];
        unsigned busy = i ? s->in[0].host : HOST_NONE;
        in->host =
            in->use & READS ? operand_value(t, in->guest, busy) : operand_place(t, in->guest, busy);
    }
}

static void store_stand_ins(struct translator *t, const struct stand_ins *s)
{
    for (unsigned i = 0; i < s->n; i++)
        if (s->in[i].use & WRITES)
            operand_keep(t, s->in[i].guest, s->in[i].host);
}

/* ---- instructions ---- */

static void copy_bytes(struct translator *t)
{
    emit_bytes(&t->e, t->bytes, t->insn.len);
}

/* Three operands, of which two are registers in memory and the third is memory: only BMI's, which
 * read it as a register. It goes to S1, the register that is read or the first result to S2, and
 * MULX's second result to S1. */
static bool copy_with_loaded_operand(struct translator *t, const struct encoding *enc)
{
    unsigned n = x86_memory_size(&t->insn), reg = t->insn.reg, vvvv = t->insn.vvvv;
    struct host_mem m;
    struct operands o = {.reg = S2, .rm = S1, .vvvv = S2};
    bool two_results = t->facts->uses & USES_TWO_RESULTS;
    if (!enc->vex || (n != 4 && n != 8) || !displaced(reg) || !displaced(vvvv) ||
        !operand_memory(t, n, &m))
        return false;
    emit_op_mem(&t->e, n, 0x8b, S1, &m);
    operand_forget(t);
    if (two_results)
        o.vvvv = reg == vvvv ? S2 : S1;
    else
        emit_load(&t->e, S2, GS_GPR(vvvv));
    emit_again(t, enc, &o, false, true);
    if (two_results && vvvv != reg)
        emit_store(&t->e, o.vvvv, GS_GPR(vvvv));
    emit_store(&t->e, S2, GS_GPR(reg));
    return true;
}

/* The memory operand, with the one displaced register that there may be beside it. */
static bool copy_operand(struct translator *t, struct stand_ins *s, struct host_mem *m)
{
    unsigned n = x86_memory_size(&t->insn);
    struct stand_in *in = &s->in[0];
    if (n == 0)
        return false;
    return s->n ? operand_memory_beside(t, n, m, in->guest, in->use & READS, &in->host)
                : operand_memory(t, n, m);
}

bool rewrite_copy(struct translator *t)
{
    struct stand_ins s = find_displaced(t);
    struct encoding enc;
    struct host_mem m;
    if (!t->insn.is_mem && s.n == 0) {
        copy_bytes(t);
        return true;
    }
    parse(t, &enc);
    if (t->insn.is_mem && names_high_byte(t))
        return false;
    if (t->insn.is_mem && s.n > 1)
        return copy_with_loaded_operand(t, &enc);
    if (t->insn.is_mem && !copy_operand(t, &s, &m))
        return false;
    if (!t->insn.is_mem)
        load_stand_ins(t, &s);
    struct operands o = stand_in(t, &s);
    o.mem = t->insn.is_mem ? &m : NULL;
    emit_again(t, &enc, &o, x86_form_has(t->form, OPK_Z), t->form->flags & X86_FORM_VVVV);
    store_stand_ins(t, &s);
    return true;
}

void rewrite_alone(struct translator *t, unsigned base, unsigned general)
{
    const struct x86_insn *insn = &t->insn;
    bool fourth = x86_form_has(t->form, OPK_L), general_operand = false;
    uint8_t imm = t->bytes[insn->len - 1];
    struct encoding enc;
    struct host_mem m = based(base, 0);
    struct operands o = {.reg = t->form->flags & X86_FORM_GROUP ? insn->modrm >> 3 & 7u : insn->reg,
                         .rm = insn->rm,
                         .vvvv = insn->vvvv,
                         .mem = insn->is_mem ? &m : NULL};
    parse(t, &enc);
    for (unsigned i = 0; i < ARRAY_LEN(t->form->operand); i++) {
        unsigned kind = t->form->operand[i].kind, field = register_field(t, i);
        general_operand |= kind == OPK_E || kind == OPK_G || kind == OPK_R;
        if (field == FIELD_REG)
            o.reg = general;
        else if (field == FIELD_RM)
            o.rm = general;
    }
    /* Outside of 64-bit code the bits count for nothing that would make general registers larger
     * and say the fourth operand's is one from 8 up; and displacements may be of 16-bit addresses.
     */
    if (!insn->mode64 && general_operand)
        enc.p1 &= 0x7f;
    if (!insn->mode64 && fourth)
        imm &= 0x7f;
    enc.imm = &imm;
    enc.imm_len = fourth || x86_form_has(t->form, OPK_I);
    emit_again(t, &enc, &o, false, t->form->flags & X86_FORM_VVVV);
}

/* LEA of an address that is known. */
static bool lea_of_number(struct translator *t, uint64_t number)
{
    const struct x86_insn *insn = &t->insn;
    unsigned to = operand_place(t, insn->reg, HOST_NONE);
    if (insn->opsize == 2)
        return false;
    if (insn->opsize == 4 || insn->addrsize == 4)
        number = (uint32_t)number;
    emit_move_imm64(&t->e, to, number);
    operand_keep(t, insn->reg, to);
    return true;
}

bool rewrite_lea(struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    struct host_mem m = {.scale = insn->scale};
    int64_t disp = insn->disp;
    if (insn->base == X86_BASE_RIP) {
        if (is_bound(t))
            return lea_of_number(t, t->va + t->next + (uint64_t)disp);
        m.base = (uint8_t)operand_scratch(t, HOST_NONE);
        emit_in_page_to(t, m.base, 0);
        disp += t->next;
    } else {
        m.base = (uint8_t)operand_value(t, insn->base, HOST_NONE);
    }
    m.index = (uint8_t)operand_value(t, insn->index, m.base);
    if (disp != (int32_t)disp || insn->opsize == 2)
        return false;
    m.disp = (int32_t)disp;
    unsigned to = operand_place(t, insn->reg, HOST_NONE);
    if (insn->addrsize == 4)
        emit_byte(e, 0x67);
    emit_lea(e, insn->opsize, to, &m);
    operand_keep(t, insn->reg, to);
    return true;
}

/* 8 bytes at [rsp + disp]; `busy` is left alone. */
static struct host_mem on_stack(struct translator *t, int32_t disp, unsigned busy)
{
    unsigned a = operand_addend(t, HOST_RSP, disp, 8, busy);
    return (struct host_mem){.base = HOST_RSP, .index = (uint8_t)a, .disp = disp};
}

void rewrite_move_stack(struct translator *t, int32_t by)
{
    struct host_mem m = based(HOST_RSP, by);
    emit_lea(&t->e, 8, HOST_RSP, &m);
    operand_register_moved(t, HOST_RSP, by);
}

void rewrite_push(struct translator *t, unsigned reg)
{
    struct host_mem m = on_stack(t, -8, reg);
    emit_op_mem(&t->e, 8, 0x89, reg, &m);
    rewrite_move_stack(t, -8);
}

bool rewrite_push_reg(struct translator *t)
{
    if (t->insn.opsize != 8)
        return false;
    rewrite_push(t, operand_value(t, t->insn.reg, HOST_NONE));
    return true;
}

bool rewrite_push_imm(struct translator *t)
{
    if (t->insn.opsize != 8)
        return false;
    struct host_mem m = on_stack(t, -8, HOST_NONE);
    emit_op_mem(&t->e, 8, 0xc7, 0, &m);
    emit_u32(&t->e, (uint32_t)t->insn.imm);
    rewrite_move_stack(t, -8);
    return true;
}

bool rewrite_load_rm(struct translator *t)
{
    struct host_mem m;
    if (!t->insn.is_mem) {
        operand_forget(t);
        if (displaced(t->insn.rm))
            emit_load(&t->e, S1, GS_GPR(t->insn.rm));
        else
            emit_move(&t->e, S1, t->insn.rm);
        return true;
    }
    if (!operand_memory(t, 8, &m))
        return false;
    emit_op_mem(&t->e, 8, 0x8b, S1, &m);
    operand_forget(t);
    return true;
}

bool rewrite_push_rm(struct translator *t)
{
    if (t->insn.opsize != 8 || !rewrite_load_rm(t))
        return false;
    rewrite_push(t, S1);
    return true;
}

void rewrite_load_top(struct translator *t)
{
    struct host_mem m = on_stack(t, 0, HOST_NONE);
    emit_op_mem(&t->e, 8, 0x8b, S1, &m);
    operand_forget(t);
}

bool rewrite_pop_reg(struct translator *t)
{
    unsigned reg = t->insn.reg;
    if (t->insn.opsize != 8)
        return false;
    struct host_mem m = on_stack(t, 0, HOST_NONE);
    unsigned to = operand_place(t, reg, m.index);
    emit_op_mem(&t->e, 8, 0x8b, to, &m);
    operand_keep(t, reg, to);
    operand_forget_registers(t, 1u << reg);
    if (reg != HOST_RSP)
        rewrite_move_stack(t, 8);
    return true;
}

bool rewrite_leave(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem frame = {.base = HOST_RBP}, above = based(HOST_RBP, 8);
    if (t->insn.opsize != 8)
        return false;
    frame.index = (uint8_t)operand_addend(t, HOST_RBP, 0, 8, HOST_NONE);
    unsigned value = operand_scratch(t, frame.index);
    emit_op_mem(e, 8, 0x8b, value, &frame);
    emit_lea(e, 8, HOST_RSP, &above);
    operand_register_becomes(t, HOST_RBP, HOST_RSP, 8);
    emit_move(e, HOST_RBP, value);
    return true;
}

/* ---- what instructions change ---- */

/* The registers that operands name and the instruction writes, as a mask. */
static unsigned named_writes(const struct translator *t)
{
    unsigned mask = 0;
    for (unsigned i = 0; i < ARRAY_LEN(t->form->operand); i++) {
        unsigned kind = t->form->operand[i].kind, field = register_field(t, i);
        if (kind == OPK_NONE || !(operand_use(t, i) & WRITES))
            continue;
        if (kind == OPK_ACC || kind == OPK_AX)
            mask |= 1u << HOST_RAX;
        else if (field != FIELD_NONE)
            mask |= 1u << field_value(t, field);
    }
    /* AH is register 4 by its number. */
    return names_high_byte(t) ? mask | mask >> 4 : mask;
}

/* ADD, SUB, INC or DEC of a whole register by a number that is known; or LEA of itself. */
static bool moves_register(const struct translator *t, enum how how, int32_t *by)
{
    const struct x86_insn *insn = &t->insn;
    const struct form_facts *f = t->facts;
    if (insn->opsize != 8)
        return false;
    if (how == HOW_LEA) {
        *by = (int32_t)insn->disp;
        return insn->base == insn->reg && insn->index == X86_NO_REG && insn->addrsize == 8;
    }
    if (insn->is_mem)
        return false;
    *by = (int32_t)(f->adds_imm * insn->imm + f->adds);
    return *by != 0 && *by != INT32_MIN;
}

void rewrite_note_written(struct translator *t, enum how how)
{
    int32_t by;
    if (how != HOW_COPY && how != HOW_LEA)
        return; /* they say so themselves */
    if (moves_register(t, how, &by))
        operand_register_moved(t, how == HOW_LEA ? t->insn.reg : t->insn.rm, by);
    else if (how == HOW_LEA)
        operand_forget_registers(t, 1u << t->insn.reg);
    else
        operand_forget_registers(t, named_writes(t) | t->facts->implied_writes);
}

/* ---- bit strings ---- */

/* S2 := the number of the bit, sign-extended. */
static void emit_bit_number(struct emit *e, const struct x86_insn *insn)
{
    unsigned from = insn->reg;
    if (displaced(from)) {
        emit_load(e, S2, GS_GPR(from));
        from = S2;
    }
    if (insn->opsize == 8)
        emit_move(e, S2, from);
    else
        emit_movsxd(e, S2, from);
}

/* The word of the string that holds the bit, by the number's upper part, and the bit in it by the
 * lower: what the instruction does with a bit number below its operand size. PEXT takes the upper
 * part as unsigned: a negative number gives an address that is not canonical, and so a fault, and C
 * does it. */
bool rewrite_bit_string(struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    struct encoding enc;
    bool wide = insn->opsize == 8;
    struct host_mem word = {.base = S1, .index = S2, .scale = wide ? 3 : 2};
    struct host_mem sum = {.base = S1, .index = S2}, at = based(S1, 0);
    struct operands o = {.reg = S2, .mem = &at};
    if (insn->opsize == 2 || t->check || !operand_address(t))
        return false;
    parse(t, &enc);
    emit_bit_number(e, insn);
    emit_pext(e, S2, S2, GS_AREA + (wide ? CTX_MASK_NOT_63 : CTX_MASK_NOT_31));
    emit_lea(e, 8, S1, &word);
    operand_lookup(t);
    emit_lea(e, 8, S1, &sum);
    emit_bit_number(e, insn);
    emit_pext(e, S2, S2, GS_AREA + (wide ? CTX_MASK_63 : CTX_MASK_31));
    emit_again(t, &enc, &o, false, false);
    return true;
}

#include "engine/binary/emit.h"

enum { REX = 0x40, REX_W = 8, REX_R = 4, REX_X = 2, REX_B = 1 };
enum { MOD_DISP8 = 0x40, MOD_DISP32 = 0x80, MOD_REG = 0xc0, RM_SIB = 4, SIB_NO_BASE = 5 };

/* ---- operands ---- */

void emit_memory(struct emit *e, unsigned reg, const struct host_mem *m, bool wide)
{
    unsigned r = (reg & 7) << 3;
    if (m->base == HOST_NONE) { /* no base: SIB with a displacement of four bytes */
        unsigned index = m->index == HOST_NONE ? 4 : m->index & 7u;
        emit_byte(e, r | RM_SIB);
        emit_byte(e, (unsigned)m->scale << 6 | index << 3 | SIB_NO_BASE);
        emit_u32(e, (uint32_t)m->disp);
        return;
    }
    bool sib = m->index != HOST_NONE || (m->base & 7) == HOST_RSP;
    bool none = m->disp == 0 && (m->base & 7) != HOST_RBP && !wide;
    bool short_disp = !none && !wide && m->disp == (int8_t)m->disp;
    unsigned mod = none ? 0 : short_disp ? MOD_DISP8 : MOD_DISP32;
    emit_byte(e, mod | r | (sib ? RM_SIB : m->base & 7u));
    if (sib) {
        unsigned index = m->index == HOST_NONE ? 4 : m->index & 7u;
        emit_byte(e, (unsigned)m->scale << 6 | index << 3 | (m->base & 7u));
    }
    if (short_disp)
        emit_byte(e, (uint8_t)m->disp);
    else if (!none)
        emit_u32(e, (uint32_t)m->disp);
}

static unsigned rex_of(unsigned reg, const struct host_mem *m)
{
    return (reg & 8 ? REX_R : 0) | (m->index != HOST_NONE && (m->index & 8) ? REX_X : 0) |
           (m->base != HOST_NONE && (m->base & 8) ? REX_B : 0);
}

void emit_op_mem(struct emit *e, unsigned size, unsigned opcode, unsigned reg,
                 const struct host_mem *m)
{
    if (m->gs)
        emit_byte(e, 0x65);
    if (size == 2)
        emit_byte(e, 0x66);
    unsigned rex = rex_of(reg, m) | (size == 8 ? REX_W : 0);
    if (rex || (size == 1 && reg >= 4))
        emit_byte(e, REX | rex);
    emit_byte(e, opcode);
    emit_memory(e, reg, m, false);
}

static void op_reg(struct emit *e, unsigned size, unsigned opcode, unsigned reg, unsigned rm)
{
    unsigned rex = (reg & 8 ? REX_R : 0) | (rm & 8 ? REX_B : 0) | (size == 8 ? REX_W : 0);
    if (rex)
        emit_byte(e, REX | rex);
    emit_byte(e, opcode);
    emit_byte(e, MOD_REG | (reg & 7) << 3 | (rm & 7));
}

static struct host_mem at_gs(int32_t disp)
{
    return (struct host_mem){.base = HOST_NONE, .index = HOST_NONE, .gs = true, .disp = disp};
}

/* ---- moves ---- */

void emit_load(struct emit *e, unsigned reg, int32_t gs_disp)
{
    struct host_mem m = at_gs(gs_disp);
    emit_op_mem(e, 8, 0x8b, reg, &m);
}

void emit_store(struct emit *e, unsigned reg, int32_t gs_disp)
{
    struct host_mem m = at_gs(gs_disp);
    emit_op_mem(e, 8, 0x89, reg, &m);
}

void emit_load_u16(struct emit *e, unsigned reg, int32_t gs_disp)
{
    struct host_mem m = at_gs(gs_disp);
    emit_byte(e, 0x65);
    if (reg & 8)
        emit_byte(e, REX | REX_R);
    emit_byte(e, 0x0f);
    emit_byte(e, 0xb7);
    emit_memory(e, reg, &m, false);
}

void emit_store_u16(struct emit *e, unsigned reg, int32_t gs_disp)
{
    struct host_mem m = at_gs(gs_disp);
    emit_op_mem(e, 2, 0x89, reg, &m);
}

void emit_store_imm8(struct emit *e, int32_t gs_disp, uint8_t imm)
{
    struct host_mem m = at_gs(gs_disp);
    emit_op_mem(e, 1, 0xc6, 0, &m);
    emit_byte(e, imm);
}

void emit_store_imm(struct emit *e, int32_t gs_disp, uint32_t imm)
{
    struct host_mem m = at_gs(gs_disp);
    emit_op_mem(e, 4, 0xc7, 0, &m);
    emit_u32(e, imm);
}

void emit_store_imm64(struct emit *e, int32_t gs_disp, int32_t imm)
{
    struct host_mem m = at_gs(gs_disp);
    emit_op_mem(e, 8, 0xc7, 0, &m);
    emit_u32(e, (uint32_t)imm);
}

void emit_move(struct emit *e, unsigned to, unsigned from)
{
    op_reg(e, 8, 0x8b, to, from);
}

void emit_move32(struct emit *e, unsigned to, unsigned from)
{
    op_reg(e, 4, 0x8b, to, from);
}

void emit_move16(struct emit *e, unsigned to, unsigned from)
{
    emit_byte(e, 0x66);
    op_reg(e, 2, 0x8b, to, from);
}

void emit_move_imm(struct emit *e, unsigned to, uint32_t imm)
{
    if (to & 8)
        emit_byte(e, REX | REX_B);
    emit_byte(e, 0xb8 | (to & 7));
    emit_u32(e, imm);
}

void emit_not(struct emit *e, unsigned reg)
{
    op_reg(e, 8, 0xf7, 2, reg);
}

void emit_move_imm64(struct emit *e, unsigned to, uint64_t imm)
{
    if (imm <= UINT32_MAX) {
        emit_move_imm(e, to, (uint32_t)imm);
        return;
    }
    bool short_form = (int64_t)imm == (int32_t)imm; /* sign-extended */
    emit_byte(e, REX | REX_W | (to & 8 ? REX_B : 0));
    emit_byte(e, short_form ? 0xc7 : 0xb8 | (to & 7));
    if (short_form)
        emit_byte(e, MOD_REG | (to & 7));
    emit_u32(e, (uint32_t)imm);
    if (!short_form)
        emit_u32(e, (uint32_t)(imm >> 32));
}

void emit_movsxd(struct emit *e, unsigned to, unsigned from)
{
    op_reg(e, 8, 0x63, to, from);
}

void emit_lea(struct emit *e, unsigned size, unsigned reg, const struct host_mem *m)
{
    emit_op_mem(e, size, 0x8d, reg, m);
}

void emit_lea_rip(struct emit *e, unsigned reg, int32_t disp)
{
    emit_byte(e, REX | REX_W | (reg & 8 ? REX_R : 0));
    emit_byte(e, 0x8d);
    emit_byte(e, (reg & 7) << 3 | 5);
    emit_u32(e, (uint32_t)disp);
}

static void stack_op(struct emit *e, unsigned opcode, unsigned reg)
{
    if (reg & 8)
        emit_byte(e, REX | REX_B);
    emit_byte(e, opcode | (reg & 7));
}

void emit_push(struct emit *e, unsigned reg)
{
    stack_op(e, 0x50, reg);
}

void emit_pop(struct emit *e, unsigned reg)
{
    stack_op(e, 0x58, reg);
}

/* movzx, 0F B6 and B7. */
static void movzx(struct emit *e, unsigned opcode, unsigned to, unsigned from)
{
    emit_byte(e, REX | (to & 8 ? REX_R : 0) | (from & 8 ? REX_B : 0));
    emit_byte(e, 0x0f);
    emit_byte(e, opcode);
    emit_byte(e, MOD_REG | (to & 7) << 3 | (from & 7));
}

void emit_movzx16(struct emit *e, unsigned to, unsigned from)
{
    movzx(e, 0xb7, to, from);
}

void emit_movzx8(struct emit *e, unsigned to, unsigned from)
{
    movzx(e, 0xb6, to, from);
}

/* ---- what sets the flags ---- */

void emit_op_imm(struct emit *e, unsigned number, unsigned reg, uint32_t imm)
{
    op_reg(e, 4, 0x81, number, reg);
    emit_u32(e, imm);
}

void emit_test(struct emit *e, unsigned reg, uint32_t imm)
{
    op_reg(e, 4, 0xf7, 0, reg);
    emit_u32(e, imm);
}

/* ---- BMI2: what leaves the flags alone ---- */

enum { VEX_66 = 1, VEX_F3 = 2, VEX_F2 = 3, VEX_0F38 = 2, VEX_0F3A = 3, VEX_NO_VVVV = 15 };

static void vex(struct emit *e, unsigned map, unsigned pp, unsigned reg, unsigned vvvv,
                unsigned rex)
{
    emit_byte(e, 0xc4);
    emit_byte(e, (reg & 8 ? 0 : 0x80) | (rex & REX_X ? 0 : 0x40) | (rex & REX_B ? 0 : 0x20) | map);
    emit_byte(e, 0x80 | (~vvvv & 15) << 3 | pp); /* W1, 128 bits */
}

void emit_rorx(struct emit *e, unsigned to, unsigned from, unsigned bits)
{
    vex(e, VEX_0F3A, VEX_F2, to, 0, from & 8 ? REX_B : 0);
    emit_byte(e, 0xf0);
    emit_byte(e, MOD_REG | (to & 7) << 3 | (from & 7));
    emit_byte(e, bits);
}

/* In map 0F 38, with its memory operand through GS. */
static void vex_gs(struct emit *e, unsigned pp, unsigned opcode, unsigned reg, unsigned vvvv,
                   int32_t gs_disp)
{
    struct host_mem m = at_gs(gs_disp);
    emit_byte(e, 0x65);
    vex(e, VEX_0F38, pp, reg, vvvv, 0);
    emit_byte(e, opcode);
    emit_memory(e, reg, &m, false);
}

void emit_pdep(struct emit *e, unsigned to, unsigned from, int32_t gs_disp)
{
    vex_gs(e, VEX_F2, 0xf5, to, from, gs_disp);
}

void emit_pext(struct emit *e, unsigned to, unsigned from, int32_t gs_disp)
{
    vex_gs(e, VEX_F3, 0xf5, to, from, gs_disp);
}

void emit_mulx(struct emit *e, unsigned hi, unsigned lo, int32_t gs_disp)
{
    vex_gs(e, VEX_F2, 0xf6, hi, lo, gs_disp);
}

/* ---- going elsewhere ---- */

void emit_jump_mem(struct emit *e, const struct host_mem *m)
{
    emit_op_mem(e, 4, 0xff, 4, m);
}

static void rel32_to(struct emit *e, const uint8_t *to)
{
    emit_u32(e, (uint32_t)(to - (e->at + 4)));
}

void emit_jump(struct emit *e, const uint8_t *to)
{
    emit_byte(e, 0xe9);
    rel32_to(e, to);
}

void emit_jump_if(struct emit *e, unsigned cc, const uint8_t *to)
{
    emit_byte(e, 0x0f);
    emit_byte(e, 0x80 | cc);
    rel32_to(e, to);
}

/* NOPs until `ahead` bytes from here four bytes fit into eight aligned ones. */
static void align_rel32(struct emit *e, unsigned ahead)
{
    static const uint8_t nops[3][3] = {{0x90}, {0x66, 0x90}, {0x0f, 0x1f, 0x00}};
    unsigned at = (unsigned)((uintptr_t)e->at + ahead) & 7;
    if (at > 4)
        emit_bytes(e, nops[7 - at], 8 - at);
}

uint8_t *emit_patchable_jump(struct emit *e)
{
    align_rel32(e, 1);
    emit_byte(e, 0xe9);
    emit_u32(e, 0);
    return e->at - 4;
}

uint8_t *emit_patchable_jump_if(struct emit *e, unsigned cc)
{
    align_rel32(e, 2);
    emit_byte(e, 0x0f);
    emit_byte(e, 0x80 | cc);
    emit_u32(e, 0);
    return e->at - 4;
}

uint8_t *emit_jrcxz(struct emit *e)
{
    emit_byte(e, 0xe3);
    emit_byte(e, 0);
    return e->at - 1;
}

uint8_t *emit_jump_short(struct emit *e)
{
    emit_byte(e, 0xeb);
    emit_byte(e, 0);
    return e->at - 1;
}

uint8_t *emit_jump_if_short(struct emit *e, unsigned cc)
{
    emit_byte(e, 0x70 | cc);
    emit_byte(e, 0);
    return e->at - 1;
}

void emit_here(struct emit *e, uint8_t *rel8)
{
    if (e->at - (rel8 + 1) > INT8_MAX)
        e->full = true;
    if (!e->full)
        *rel8 = (uint8_t)(e->at - (rel8 + 1));
}

void emit_wrgsbase(struct emit *e, unsigned reg)
{
    emit_byte(e, 0xf3);
    emit_byte(e, REX | REX_W | (reg & 8 ? REX_B : 0));
    emit_byte(e, 0x0f);
    emit_byte(e, 0xae);
    emit_byte(e, MOD_REG | 3 << 3 | (reg & 7));
}

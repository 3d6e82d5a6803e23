/*
 * What the engine `binary` writes is the instruction that it means, as libZydis reads it: every
 * operand, no flag touched where none may be, nothing behind the end of the room.
 */
#include "test.h"

#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "engine/binary/emit.h"

/* ---- reading ---- */

enum { ROOM = 64 };

struct written {
    uint8_t room[ROOM];
    struct emit e;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operand[ZYDIS_MAX_OPERAND_COUNT];
};

static void begin(struct written *w)
{
    w->e = (struct emit){w->room, w->room + ROOM, false};
}

static unsigned length(const struct written *w)
{
    return (unsigned)(w->e.at - w->room);
}

static bool decode_at(struct written *w, unsigned at)
{
    ZydisDecoder d;
    ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&d, w->room + at, length(w) - at, &w->insn, w->operand));
}

/* It is one instruction of this name, all that was written. */
static bool is_one(struct written *w, const char *mnemonic)
{
    return decode_at(w, 0) && w->insn.length == length(w) && !w->e.full &&
           strcmp(ZydisMnemonicGetString(w->insn.mnemonic), mnemonic) == 0;
}

static bool keeps_flags(const struct written *w)
{
    const ZydisAccessedFlags *f = w->insn.cpu_flags;
    return !f || !(f->modified | f->set_0 | f->set_1 | f->undefined);
}

static bool is_register(const ZydisDecodedOperand *o, unsigned number, unsigned size)
{
    /* Byte registers are numbered AL to BL, AH to BH, SPL to DIL, R8B and on. */
    unsigned want = size == 1 && number >= 4 ? number + 4 : number;
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->size == size * 8 &&
           ZydisRegisterGetId(o->reg.value) == (int)want;
}

static int number_of(ZydisRegister r)
{
    return r == ZYDIS_REGISTER_NONE ? HOST_NONE : ZydisRegisterGetId(r);
}

static bool is_memory(const ZydisDecodedOperand *o, const struct host_mem *m)
{
    bool index = m->index != HOST_NONE;
    return o->type == ZYDIS_OPERAND_TYPE_MEMORY && number_of(o->mem.base) == m->base &&
           number_of(o->mem.index) == m->index && (!index || o->mem.scale == 1u << m->scale) &&
           (o->mem.disp.has_displacement ? o->mem.disp.value : 0) == m->disp &&
           (o->mem.segment == ZYDIS_REGISTER_GS) == m->gs;
}

static struct host_mem at_gs(int32_t disp)
{
    return (struct host_mem){.base = HOST_NONE, .index = HOST_NONE, .gs = true, .disp = disp};
}

/* ---- memory operands ---- */

static const int32_t displacements[] = {0,    1,    -1,         127,       128,
                                        -128, -129, 0x12345678, INT32_MAX, INT32_MIN};

static bool check_operand(const struct host_mem *m)
{
    static const uint8_t registers[] = {0, 3, 4, 5, 7, 8, 12, 13, 15};
    static const struct {
        unsigned size, opcode;
    } moves[] = {{1, 0x8a}, {2, 0x8b}, {4, 0x8b}, {8, 0x8b}};
    for (unsigned i = 0; i < sizeof registers; i++) {
        for (unsigned k = 0; k < ARRAY_LEN(moves); k++) {
            struct written w;
            begin(&w);
            emit_op_mem(&w.e, moves[k].size, moves[k].opcode, registers[i], m);
            if (!is_one(&w, "mov") || !is_register(&w.operand[0], registers[i], moves[k].size) ||
                !is_memory(&w.operand[1], m))
                return false;
        }
    }
    return true;
}

TEST(every_memory_operand)
{
    unsigned wrong = 0;
    for (unsigned base = 0; base <= 16; base++) {
        for (unsigned index = 0; index <= 16; index++) {
            for (unsigned i = 0; i < ARRAY_LEN(displacements) * 8; i++) {
                struct host_mem m = {.base = (uint8_t)(base == 16 ? HOST_NONE : base),
                                     .index = (uint8_t)(index == 16 ? HOST_NONE : index),
                                     .scale = i & 3,
                                     .gs = i & 4,
                                     .disp = displacements[i / 8]};
                if (index != HOST_RSP) /* which an instruction can't have as its index */
                    wrong += !check_operand(&m);
            }
        }
    }
    CHECK_EQ(wrong, 0);
}

TEST(a_wide_displacement_has_four_bytes)
{
    for (unsigned i = 0; i < ARRAY_LEN(displacements); i++) {
        struct host_mem m = {.base = HOST_R10, .index = HOST_R11, .disp = displacements[i]};
        struct written w;
        begin(&w);
        emit_bytes(&w.e, "\x4b\x8b", 2); /* mov, with REX.W, REX.X and REX.B */
        emit_memory(&w.e, HOST_RBX, &m, true);
        CHECK(is_one(&w, "mov"));
        CHECK(is_memory(&w.operand[1], &m));
        CHECK_EQ(w.insn.raw.disp.size, 32);
    }
}

TEST(lea_computes_in_both_sizes)
{
    for (unsigned reg = 0; reg < 16; reg++) {
        for (unsigned size = 4; size <= 8; size += 4) {
            struct host_mem m = {
                .base = HOST_R10, .index = (uint8_t)(reg == 4 ? 5 : reg), .scale = 3, .disp = -9};
            struct written w;
            begin(&w);
            emit_lea(&w.e, size, reg, &m);
            CHECK(is_one(&w, "lea") && keeps_flags(&w));
            CHECK(is_register(&w.operand[0], reg, size) && is_memory(&w.operand[1], &m));
        }
    }
}

TEST(loads_and_stores_through_gs)
{
    for (unsigned reg = 0; reg < 16; reg++) {
        for (unsigned i = 0; i < ARRAY_LEN(displacements); i++) {
            struct host_mem m = at_gs(displacements[i]);
            struct written w;
            begin(&w);
            emit_load(&w.e, reg, m.disp);
            CHECK(is_one(&w, "mov") && is_register(&w.operand[0], reg, 8) &&
                  is_memory(&w.operand[1], &m));
            begin(&w);
            emit_store(&w.e, reg, m.disp);
            CHECK(is_one(&w, "mov") && is_memory(&w.operand[0], &m) &&
                  is_register(&w.operand[1], reg, 8));
            begin(&w);
            emit_load_u16(&w.e, reg, m.disp);
            CHECK(is_one(&w, "movzx") && is_register(&w.operand[0], reg, 4) &&
                  is_memory(&w.operand[1], &m) && w.operand[1].size == 16);
            begin(&w);
            emit_store_u16(&w.e, reg, m.disp);
            CHECK(is_one(&w, "mov") && is_memory(&w.operand[0], &m) &&
                  is_register(&w.operand[1], reg, 2));
        }
    }
}

TEST(constants_are_stored_whole)
{
    for (unsigned i = 0; i < ARRAY_LEN(displacements); i++) {
        struct host_mem m = at_gs(-0x100000 + 8);
        struct written w;
        begin(&w);
        emit_store_imm(&w.e, m.disp, (uint32_t)displacements[i]);
        CHECK(is_one(&w, "mov") && is_memory(&w.operand[0], &m) && w.operand[0].size == 32);
        CHECK_EQ((uint32_t)w.operand[1].imm.value.u, (uint32_t)displacements[i]);
        begin(&w);
        emit_store_imm64(&w.e, m.disp, displacements[i]);
        CHECK(is_one(&w, "mov") && is_memory(&w.operand[0], &m) && w.operand[0].size == 64);
        CHECK_EQ(w.operand[1].imm.value.s, displacements[i]);
        begin(&w);
        emit_store_imm8(&w.e, m.disp, (uint8_t)displacements[i]);
        CHECK(is_one(&w, "mov") && is_memory(&w.operand[0], &m) && w.operand[0].size == 8);
        CHECK_EQ((uint8_t)w.operand[1].imm.value.u, (uint8_t)displacements[i]);
    }
}

/* ---- registers ---- */

TEST(moves_between_registers)
{
    static const struct {
        void (*emit)(struct emit *e, unsigned to, unsigned from);
        const char *mnemonic;
        unsigned to, from;
    } moves[] = {{emit_move, "mov", 8, 8},      {emit_move32, "mov", 4, 4},
                 {emit_move16, "mov", 2, 2},    {emit_movsxd, "movsxd", 8, 4},
                 {emit_movzx16, "movzx", 4, 2}, {emit_movzx8, "movzx", 4, 1}};
    for (unsigned i = 0; i < ARRAY_LEN(moves); i++) {
        for (unsigned to = 0; to < 16; to++) {
            for (unsigned from = 0; from < 16; from++) {
                struct written w;
                begin(&w);
                moves[i].emit(&w.e, to, from);
                CHECK(is_one(&w, moves[i].mnemonic) && keeps_flags(&w));
                CHECK(is_register(&w.operand[0], to, moves[i].to) &&
                      is_register(&w.operand[1], from, moves[i].from));
            }
        }
    }
}

TEST(bmi2_leaves_the_flags_alone)
{
    struct host_mem m = at_gs(-0x100000 + 0x50);
    for (unsigned to = 0; to < 16; to++) {
        for (unsigned from = 0; from < 16; from++) {
            struct written w;
            begin(&w);
            emit_rorx(&w.e, to, from, 12);
            CHECK(is_one(&w, "rorx") && keeps_flags(&w) && w.operand[2].imm.value.u == 12);
            CHECK(is_register(&w.operand[0], to, 8) && is_register(&w.operand[1], from, 8));
            begin(&w);
            emit_pext(&w.e, to, from, m.disp);
            CHECK(is_one(&w, "pext") && keeps_flags(&w) && is_memory(&w.operand[2], &m));
            CHECK(is_register(&w.operand[0], to, 8) && is_register(&w.operand[1], from, 8));
            begin(&w);
            emit_pdep(&w.e, to, from, m.disp);
            CHECK(is_one(&w, "pdep") && keeps_flags(&w) && is_memory(&w.operand[2], &m));
            CHECK(is_register(&w.operand[0], to, 8) && is_register(&w.operand[1], from, 8));
            begin(&w);
            emit_mulx(&w.e, to, from, m.disp);
            CHECK(is_one(&w, "mulx") && keeps_flags(&w) && is_memory(&w.operand[2], &m));
            CHECK(is_register(&w.operand[0], to, 8) && is_register(&w.operand[1], from, 8));
        }
    }
}

TEST(operations_with_constants)
{
    static const char *const names[] = {"add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"};
    for (unsigned reg = 0; reg < 16; reg++) {
        struct written w;
        for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
            begin(&w);
            emit_op_imm(&w.e, i, reg, 0x89abcdef);
            CHECK(is_one(&w, names[i]) && is_register(&w.operand[0], reg, 4));
            CHECK_EQ((uint32_t)w.operand[1].imm.value.u, 0x89abcdef);
        }
        begin(&w);
        emit_test(&w.e, reg, 0x200);
        CHECK(is_one(&w, "test") && is_register(&w.operand[0], reg, 4));
        CHECK_EQ(w.operand[1].imm.value.u, 0x200);
        begin(&w);
        emit_not(&w.e, reg);
        CHECK(is_one(&w, "not") && keeps_flags(&w) && is_register(&w.operand[0], reg, 8));
        begin(&w);
        emit_wrgsbase(&w.e, reg);
        CHECK(is_one(&w, "wrgsbase") && is_register(&w.operand[0], reg, 8));
    }
}

/* ---- branches ---- */

/* Where the branch at `at` leads, from the room's start. */
static int64_t leads_to(const struct written *w, unsigned at)
{
    return at + w->insn.length + w->operand[0].imm.value.s;
}

TEST(branches_lead_where_they_are_told)
{
    for (int to = -200; to <= 200; to += 50) {
        struct written w;
        begin(&w);
        emit_jump(&w.e, w.room + to);
        CHECK(is_one(&w, "jmp"));
        CHECK_EQ(leads_to(&w, 0), to);
        for (unsigned cc = 0; cc < 16; cc++) {
            begin(&w);
            emit_jump_if(&w.e, cc, w.room + to);
            CHECK(decode_at(&w, 0) && w.insn.opcode == (0x80 | cc));
            CHECK_EQ(leads_to(&w, 0), to);
        }
    }
}

TEST(jumps_through_memory)
{
    struct host_mem m = {
        .base = HOST_NONE, .index = HOST_R11, .scale = 3, .gs = true, .disp = -0x180000};
    struct written w;
    begin(&w);
    emit_jump_mem(&w.e, &m);
    CHECK(is_one(&w, "jmp") && is_memory(&w.operand[0], &m) && w.operand[0].size == 64);
}

TEST(short_branches_lead_behind_what_follows)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        static const char *const names[] = {"jrcxz", "jmp", "jnz"};
        struct written w;
        begin(&w);
        uint8_t *rel8 = kind == 0   ? emit_jrcxz(&w.e)
                        : kind == 1 ? emit_jump_short(&w.e)
                                    : emit_jump_if_short(&w.e, 5);
        for (unsigned i = 0; i < 20; i++)
            emit_byte(&w.e, 0x90);
        emit_here(&w.e, rel8);
        CHECK(decode_at(&w, 0) && keeps_flags(&w));
        CHECK(strcmp(ZydisMnemonicGetString(w.insn.mnemonic), names[kind]) == 0);
        CHECK_EQ(leads_to(&w, 0), length(&w));
    }
}

/* The NOPs in front are NOPs, and the rel32 lies inside eight aligned bytes. */
static void check_patchable(unsigned at, bool conditional)
{
    _Alignas(8) struct written w;
    begin(&w);
    while ((uintptr_t)w.e.at % 8 != at)
        emit_byte(&w.e, 0x90);
    uint8_t *rel32 = conditional ? emit_patchable_jump_if(&w.e, 4) : emit_patchable_jump(&w.e);
    CHECK((uintptr_t)rel32 % 8 <= 4);
    CHECK(rel32 == w.e.at - 4);
    emit_point(rel32, w.room + 1000);
    unsigned here = 0;
    while (decode_at(&w, here) && w.insn.mnemonic == ZYDIS_MNEMONIC_NOP)
        here += w.insn.length;
    CHECK_EQ(leads_to(&w, here), 1000);
    CHECK(w.insn.mnemonic == (conditional ? ZYDIS_MNEMONIC_JZ : ZYDIS_MNEMONIC_JMP));
    CHECK_EQ(here + w.insn.length, length(&w));
}

TEST(patchable_branches_are_aligned)
{
    for (unsigned at = 0; at < 8; at++) {
        check_patchable(at, false);
        check_patchable(at, true);
    }
}

/* ---- the end of the room ---- */

static void write_some(struct emit *e)
{
    struct host_mem m = {.base = HOST_RBX, .index = HOST_R11, .scale = 3, .gs = true, .disp = 1000};
    emit_op_mem(e, 8, 0x8b, HOST_R10, &m);
    emit_patchable_jump(e);
    emit_store_imm64(e, -0x100000, 77);
    emit_here(e, emit_jrcxz(e));
    emit_pext(e, HOST_RCX, HOST_R10, -0x100000);
}

TEST(nothing_is_written_behind_the_end)
{
    enum { BEFORE = 16 };
    uint8_t room[128];
    struct emit whole = {room + BEFORE, room + sizeof room, false};
    write_some(&whole);
    unsigned needed = (unsigned)(whole.at - (room + BEFORE));
    CHECK(!whole.full && needed > 30);
    for (unsigned n = 0; n < needed; n++) {
        memset(room, 0xa5, sizeof room);
        struct emit e = {room + BEFORE, room + BEFORE + n, false};
        write_some(&e);
        CHECK(e.full && e.at <= e.end);
        for (unsigned i = 0; i < sizeof room; i++)
            if (i < BEFORE || i >= BEFORE + n)
                CHECK_EQ(room[i], 0xa5);
    }
}

TESTS(T(every_memory_operand), T(a_wide_displacement_has_four_bytes), T(lea_computes_in_both_sizes),
      T(loads_and_stores_through_gs), T(constants_are_stored_whole), T(moves_between_registers),
      T(bmi2_leaves_the_flags_alone), T(operations_with_constants),
      T(branches_lead_where_they_are_told), T(jumps_through_memory),
      T(short_branches_lead_behind_what_follows), T(patchable_branches_are_aligned),
      T(nothing_is_written_behind_the_end))

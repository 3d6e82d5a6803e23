/*
 * STOS and MOVS, alone and repeated, by the host's own instruction.
 *
 * The pointers are made host addresses for the instruction and guest addresses again behind it, and
 * a repeated one gets no more elements at a time than lie in the pages that its pointers are in. If
 * it faults, or is to be left in the middle, the handler does the same (binary_string_undo()): the
 * guest is then between two elements, as the manual has it (SDM 2, REP).
 *
 * Whatever the count and the direction: the elements are accessed one after another, the first
 * in the page that was looked up, and on both sides of that is a guard page. Without guard pages
 * strings are left to C.
 */
#include "engine/binary/translator.h"

#include <ucontext.h>

enum { OPCODE_MOVS = 0xa4, OPCODE_STOS = 0xaa, WIDE = 1 }; /* WIDE: not of bytes */

static bool is_movs(unsigned opcode)
{
    return (opcode & ~(unsigned)WIDE) == OPCODE_MOVS;
}

static bool is_stos(unsigned opcode)
{
    return (opcode & ~(unsigned)WIDE) == OPCODE_STOS;
}

/* ---- in the block ---- */

static struct host_mem plus(unsigned base, unsigned index, int32_t disp)
{
    return (struct host_mem){.base = (uint8_t)base, .index = (uint8_t)index, .disp = disp};
}

static void emit_sum(struct emit *e, unsigned to, unsigned other, int32_t more)
{
    struct host_mem sum = plus(to, other, more);
    emit_lea(e, 8, to, &sum);
}

/* to := more - to - 1. */
static void emit_less(struct emit *e, unsigned to, int32_t more)
{
    emit_not(e, to);
    if (more)
        emit_sum(e, to, HOST_NONE, more);
}

/* reg -= by, which is spoilt. */
static void emit_subtract(struct emit *e, unsigned reg, unsigned by)
{
    emit_not(e, by);
    emit_sum(e, reg, by, 1);
}

/* to := the addend of the page that the address in `reg` is in. */
static void emit_addend(struct emit *e, unsigned to, unsigned reg)
{
    struct host_mem entry = {.base = HOST_NONE, .index = (uint8_t)to, .scale = 3, .gs = true};
    emit_rorx(e, to, reg, 12);
    emit_move32(e, to, to);
    emit_op_mem(e, 8, 0x8b, to, &entry);
}

/* S1 := offset of the pointer in its page that is nearer to the page's end. */
static void emit_offset(struct emit *e, bool movs)
{
    emit_pext(e, S1, HOST_RDI, GS_AREA + CTX_OFFSET_MASK);
    if (!movs)
        return;
    struct host_mem difference = plus(HOST_RCX, S1, 0);
    emit_pext(e, S2, HOST_RSI, GS_AREA + CTX_OFFSET_MASK);
    emit_move(e, HOST_RCX, S2);
    emit_not(e, HOST_RCX);
    emit_lea(e, 8, HOST_RCX, &difference); /* RDI's less RSI's less 1 */
    emit_pext(e, HOST_RCX, HOST_RCX, GS_AREA + CTX_MASK_SIGN);
    uint8_t *greater = emit_jrcxz(e);
    emit_move(e, S1, S2);
    emit_here(e, greater);
}

/* RCX := the elements to do now, and the rest of them to the context. S1 and S2 are used; the
 * guest's RCX is in the context. Leaves for C where the first one goes on in another page. */
static void emit_count(struct translator *t, bool movs, unsigned size)
{
    struct emit *e = &t->e;
    emit_offset(e, movs);
    emit_less(e, S1, MEMORY_PAGE_SIZE + 1);
    emit_pext(e, S1, S1, GS_AREA + CTX_MASK_STRING + (int32_t)(size == 8 ? 24 : (size >> 1) * 8));
    emit_move(e, S2, S1); /* the elements to the page's end */
    emit_not(e, S1);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_sum(e, HOST_RCX, S1, 1);
    emit_store(e, HOST_RCX, GS_AREA + CTX_STRING_REST);
    emit_sum(e, HOST_RCX, HOST_NONE, -1);
    emit_pext(e, HOST_RCX, HOST_RCX, GS_AREA + CTX_MASK_SIGN);
    uint8_t *partly = emit_jrcxz(e);
    emit_store_imm64(e, GS_AREA + CTX_STRING_REST, 0);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    uint8_t *all = emit_jump_short(e);
    emit_here(e, partly);
    emit_move(e, HOST_RCX, S2);
    uint8_t *none = emit_jrcxz(e);
    uint8_t *some = emit_jump_short(e);
    emit_here(e, none);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    control_emulate_aside(t);
    emit_here(e, some);
    emit_here(e, all);
}

/* The host's instruction, its pointers moved to host addresses and back. S2 has RDI's addend, and
 * S1 RSI's: binary_string_undo() goes by that. */
static void emit_string(struct translator *t, bool movs, bool repeated)
{
    struct emit *e = &t->e;
    if (movs)
        emit_sum(e, HOST_RSI, S1, 0);
    emit_sum(e, HOST_RDI, S2, 0);
    if (repeated)
        emit_byte(e, 0xf3);
    if (t->insn.opcode & WIDE && t->insn.opsize == 2)
        emit_byte(e, 0x66);
    if (t->insn.opcode & WIDE && t->insn.opsize == 8)
        emit_byte(e, 0x48);
    emit_byte(e, t->insn.opcode);
    if (movs)
        emit_subtract(e, HOST_RSI, S1);
    emit_subtract(e, HOST_RDI, S2);
}

static void emit_repeated(struct translator *t, bool movs)
{
    struct emit *e = &t->e;
    const uint8_t *begin = e->at;
    uint8_t *none = emit_jrcxz(e);
    uint8_t *some = emit_jump_short(e);
    emit_here(e, none);
    uint8_t *done = emit_patchable_jump(e);
    emit_here(e, some);
    if (movs) {
        emit_addend(e, S1, HOST_RSI);
        emit_store(e, S1, GS_AREA + CTX_STRING_SI);
    }
    emit_addend(e, S2, HOST_RDI);
    emit_store(e, S2, GS_AREA + CTX_STRING_DI);
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_count(t, movs, x86_operand_size(&t->insn, 0));
    emit_load(e, S2, GS_AREA + CTX_STRING_DI);
    if (movs)
        emit_load(e, S1, GS_AREA + CTX_STRING_SI);
    emit_string(t, movs, true);
    emit_load(e, HOST_RCX, GS_AREA + CTX_STRING_REST);
    emit_jump(e, begin);
    if (!e->full)
        emit_point(done, e->at);
}

bool rewrite_string(struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    bool movs = is_movs(insn->opcode);
    if (insn->addrsize != 8 || t->check || !t->vm->windows.guarded || t->is_across ||
        (movs && (insn->segment == X86_FS || insn->segment == X86_GS)))
        return false;
    if (insn->prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE)) {
        emit_repeated(t, movs);
        return true;
    }
    if (movs)
        emit_addend(&t->e, S1, HOST_RSI);
    emit_addend(&t->e, S2, HOST_RDI);
    emit_string(t, movs, false);
    return true;
}

/* ---- in the signal handler ---- */

bool binary_string_undo(const struct context *x, const uint8_t *host, long long *regs)
{
    bool repeated = *host == 0xf3;
    while (*host == 0xf3 || *host == 0x66 || *host == 0x48)
        host++;
    if (!is_movs(*host) && !is_stos(*host))
        return false;
    regs[REG_RDI] -= regs[REG_R11];
    if (is_movs(*host))
        regs[REG_RSI] -= regs[REG_R10];
    if (repeated)
        regs[REG_RCX] += (long long)x->string_rest;
    return true;
}

/*
 * From the decoder's struct x86_insn to the operation that the semantics take.
 */
#include "engine/emulate/lower.h"

#include <string.h>

#include "x86/forms.h"

static const struct op *op_undefined(struct x86_cpu *c, const struct op *op)
{
    c->op = op;
    x86_raise(c, X86_UD);
}

static const struct op *op_too_long(struct x86_cpu *c, const struct op *op)
{
    c->op = op;
    x86_raise_gp0(c);
}

/* ---- operand size ---- */

enum { HAS_XMM = 1, HAS_MMX = 2, HAS_GPR = 4 };

static unsigned register_files(const struct x86_form *form)
{
    unsigned files = 0;
    for (unsigned i = 0; i < ARRAY_LEN(form->operand); i++) {
        switch (form->operand[i].kind) {
        case OPK_V:
        case OPK_W:
        case OPK_U:
        case OPK_H: files |= HAS_XMM; break;
        case OPK_P:
        case OPK_Q:
        case OPK_N: files |= HAS_MMX; break;
        case OPK_E:
        case OPK_G:
        case OPK_R: files |= HAS_GPR; break;
        }
    }
    return files;
}

/* What op->size is: the general operand's size, except that vector instructions say which registers
 * they work on; conversions between vector and general registers say the general one's. */
static unsigned operand_size(const struct x86_insn *insn, const struct x86_form *form)
{
    unsigned files = register_files(form);
    if (!(files & (HAS_XMM | HAS_MMX)))
        return insn->opsize;
    const char *name = form->mnemonic + (form->mnemonic[0] == 'v');
    if ((files & HAS_GPR) && strncmp(name, "cvt", 3) == 0)
        return insn->mode64 && (insn->rex & 8) ? 8 : 4;
    if (files & HAS_XMM)
        return insn->vl ? insn->vl : 16;
    return 8;
}

/* ---- registers and memory ---- */

/* Byte registers are byte offsets into the register file: without REX, 4 to 7 are AH, CH, DH, BH.
 */
static uint8_t byte_register(const struct x86_insn *insn, unsigned reg)
{
    if (reg >= 4 && reg < 8 && !insn->rex)
        return (uint8_t)((reg - 4) * 8 + 1);
    return (uint8_t)(reg * 8);
}

static enum op_ea address_kind(const struct x86_insn *insn, unsigned code)
{
    bool fs_gs = insn->segment == X86_FS || insn->segment == X86_GS;
    if (code == X86_CODE64 && insn->addrsize == 8)
        return fs_gs ? EA_BASE : EA_FLAT;
    return code == X86_CODE32 && insn->addrsize == 4 ? EA_FLAT32 : EA_SEGMENT;
}

static void set_memory(const struct x86_insn *insn, unsigned code, unsigned end, struct op *op)
{
    op->ea = address_kind(insn, code);
    op->seg = insn->segment & 7;
    op->base = insn->base == X86_NO_REG ? X86_GPR_ZERO : insn->base;
    op->index = insn->index == X86_NO_REG ? X86_GPR_ZERO : insn->index;
    op->scale = insn->scale;
    int64_t disp = insn->disp;
    if (insn->base == X86_BASE_RIP) {
        op->base = X86_GPR_BLOCK;
        if (disp + end <= INT32_MAX) {
            disp += end;
        } else { /* the sum does not fit: op_offset() adds it */
            op->flags |= OPF_RIP;
            op->ea = EA_SEGMENT;
        }
    }
    op->disp = (int32_t)disp;
}

static void set_address_size(const struct x86_insn *insn, struct op *op)
{
    if (insn->addrsize == 4)
        op->flags |= OPF_ADDR32;
    else if (insn->addrsize == 2)
        op->flags |= OPF_ADDR16;
}

static bool has_operand(const struct x86_form *form, unsigned kind)
{
    for (unsigned i = 0; i < ARRAY_LEN(form->operand); i++)
        if (form->operand[i].kind == kind)
            return true;
    return false;
}

static bool has_immediate(const struct x86_form *form)
{
    return has_operand(form, OPK_I) || has_operand(form, OPK_SI) || has_operand(form, OPK_ONE);
}

static void set_registers(const struct x86_insn *insn, const struct x86_form *form, struct op *op)
{
    op->reg = form->flags & X86_FORM_REG_BYTE ? byte_register(insn, insn->reg) : insn->reg;
    op->rm = form->flags & X86_FORM_RM_BYTE ? byte_register(insn, insn->rm) : insn->rm;
    /* A register in the opcode stands where ModRM.rm would; the accumulator likewise, or as reg
     * beside such a register (XCHG). */
    if (has_operand(form, OPK_Z)) {
        op->rm = op->reg;
        op->reg = X86_RAX;
    } else if (has_operand(form, OPK_ACC) && !(form->flags & X86_FORM_MODRM)) {
        op->reg = op->rm = X86_RAX;
    }
}

/* What op->cc says. */
static uint8_t extra_field(const struct x86_insn *insn, const struct x86_form *form)
{
    if (form->flags & X86_FORM_CC)
        return insn->opcode & 15;
    if (form->flags & X86_FORM_VVVV)
        return insn->vvvv;
    if (form->flags & X86_FORM_GROUP)
        return insn->modrm >> 3 & 7;
    return form->cc;
}

static uint64_t immediate(const struct x86_insn *insn, const struct x86_form *form)
{
    if (has_operand(form, OPK_O))
        return (uint64_t)insn->disp;
    if (insn->map == 0 && (insn->opcode & 0xf8) == 0xd8) /* x87: its FOP (x86/fpu.h) */
        return (insn->opcode & 7u) << 8 | insn->modrm;
    if (insn->imm2)
        return ((uint64_t)insn->imm & 0xffffffff) | (uint64_t)insn->imm2 << 32;
    return (uint64_t)insn->imm;
}

/* ---- which function ---- */

static enum op_pattern operand_pattern(const struct x86_form *form, const struct op *op)
{
    bool memory = op->ea != EA_REG;
    bool store = form->flags & X86_FORM_STORE;
    bool one_operand = form->operand[1].kind == OPK_NONE || form->operand[1].kind == OPK_CL;
    bool acc = form->operand[0].kind == OPK_ACC;
    if (one_operand || acc || has_operand(form, OPK_Z) || (store && has_immediate(form)))
        return memory ? OP_MI : OP_RI;
    if (!memory)
        return OP_RR;
    return store ? OP_MR : OP_RM;
}

static op_fn *choose(const struct sem *sem, const struct x86_form *form, struct op *op)
{
    if (sem->kind == SEM_BY_CONDITION)
        return sem->by[op->cc];
    if (sem->kind == SEM_ANY)
        return sem->any;
    enum op_pattern pattern = operand_pattern(form, op);
    if (pattern == OP_RR && (form->flags & X86_FORM_STORE)) {
        uint8_t reg = op->reg;
        op->reg = op->rm;
        op->rm = reg;
    }
    if ((op->flags & OPF_LOCK) && sem->lock) {
        op->flags |= pattern == OP_MI ? OPF_IMM : 0;
        return sem->lock;
    }
    return sem->by[pattern * 4 + (unsigned)__builtin_ctz(op->size)];
}

unsigned lower_insn(const struct x86_insn *insn, unsigned code, unsigned end, struct op *op)
{
    const struct x86_form *form = x86_form(insn);
    const struct sem *sem = x86_form_sem[insn->form];
    *op = (struct op){.end = (uint16_t)end, .ea = EA_REG, .fn = op_undefined};
    op->len = insn->len & 15;
    if (!sem)
        return SEM_ENDS;
    op->size = (uint8_t)operand_size(insn, form);
    op->imm = immediate(insn, form);
    op->cc = extra_field(insn, form);
    op->seg = insn->segment & 7;
    set_address_size(insn, op);
    set_registers(insn, form, op);
    if (insn->is_mem)
        set_memory(insn, code, end, op);
    if (insn->prefixes & X86_PREFIX_LOCK)
        op->flags |= OPF_LOCK;
    if (form->flags & (X86_FORM_REP | X86_FORM_REPCC)) {
        op->flags |= insn->prefixes & X86_PREFIX_REP ? OPF_REP : 0;
        op->flags |= insn->prefixes & X86_PREFIX_REPNE ? OPF_REPNE : 0;
    }
    if (form->flags & X86_FORM_STORE)
        op->flags |= OPF_STORE;
    op_fn *fn = choose(sem, form, op);
    if (fn)
        op->fn = fn;
    return sem->flags;
}

unsigned lower_native(const struct x86_insn *insn, unsigned code, unsigned end, op_fn *native,
                      struct op *op)
{
    *op = (struct op){.end = (uint16_t)end, .ea = EA_REG, .fn = native};
    op->len = insn->len & 15;
    set_address_size(insn, op);
    if (insn->is_mem)
        set_memory(insn, code, end, op);
    return 0;
}

void lower_invalid(unsigned len, unsigned end, bool too_long, struct op *op)
{
    *op = (struct op){.end = (uint16_t)end, .ea = EA_REG};
    op->fn = too_long ? op_too_long : op_undefined;
    op->len = len & 15;
}

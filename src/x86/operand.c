/*
 * Sizes of operands, for what wants to know them one by one (lowering, tests, translation).
 */
#include "x86/decode_tables.h"
#include "x86/forms.h"

static unsigned vector_length(const struct x86_insn *insn)
{
    return insn->vl ? insn->vl : 16;
}

/* EVEX.b: one element is read, and repeated. */
static unsigned broadcast_size(const struct x86_insn *insn, unsigned kind)
{
    unsigned log2 = x86_form(insn)->flags >> X86_FORM_BCAST_SHIFT & 3;
    return kind == OPK_W && insn->is_mem && (insn->evex & 0x10) && log2 ? 1u << log2 : 0;
}

unsigned x86_operand_size(const struct x86_insn *insn, unsigned i)
{
    const struct x86_operand *o = &x86_form(insn)->operand[i];
    unsigned w = insn->rex & 8, size = insn->opsize;
    unsigned broadcast = broadcast_size(insn, o->kind);
    if (broadcast)
        return broadcast;
    switch (o->type) {
    case OPT_B: return 1;
    case OPT_W: return 2;
    case OPT_D: return 4;
    case OPT_Q: return 8;
    case OPT_T: return 10;
    case OPT_DQ: return 16;
    case OPT_QQ: return 32;
    case OPT_OQ: return 64;
    case OPT_V: return size;
    case OPT_Y: return insn->mode64 && (w || (x86_form(insn)->flags & X86_FORM_F64)) ? 8 : 4;
    case OPT_Z: return size == 2 ? 2 : 4;
    case OPT_P: return size + 2;
    case OPT_S: return insn->mode64 ? 10 : 6;
    case OPT_A: return 2 * size;
    case OPT_X: return vector_length(insn);
    case OPT_XH: return vector_length(insn) / 2;
    case OPT_XQ: return vector_length(insn) / 4;
    case OPT_XO: return vector_length(insn) / 8;
    case OPT_ENV: return size == 2 ? 14 : 28;
    case OPT_X87: return size == 2 ? 94 : 108;
    case OPT_FX: return 512;
    default: return 0;
    }
}

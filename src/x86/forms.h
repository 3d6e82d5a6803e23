/*
 * Instruction forms: what the decoder knows of an instruction beside the bits it read.
 *
 * The rows come from forms/ *.def, one line each; x86_insn.form is an index into x86_forms.
 */
#ifndef DOPPEL_X86_FORMS_H
#define DOPPEL_X86_FORMS_H

#include "x86/insn.h"

struct sem;

enum x86_feature {
#define FEATURE(name, modelled, text) X86_FEATURE_##name,
#include "x86/features.def"
#undef FEATURE
    X86_FEATURES
};

/* Where an operand is: the letters of SDM 2, A.2.1, and the registers that a form implies. */
enum x86_operand_kind {
    OPK_NONE,
    OPK_A,    /* far pointer in the instruction: imm and imm2 */
    OPK_B,    /* VEX.vvvv, a general register */
    OPK_C,    /* ModRM.reg, a control register */
    OPK_D,    /* ModRM.reg, a debug register */
    OPK_E,    /* ModRM.rm, a general register or memory */
    OPK_G,    /* ModRM.reg, a general register */
    OPK_H,    /* VEX.vvvv, a vector register */
    OPK_I,    /* immediate, zero-extended */
    OPK_SI,   /* immediate, sign-extended */
    OPK_J,    /* relative to the next instruction: imm */
    OPK_L,    /* bits 7:4 of the immediate, a vector register */
    OPK_M,    /* ModRM.rm, memory only */
    OPK_N,    /* ModRM.rm, an MMX register only */
    OPK_O,    /* memory at an offset in the instruction: disp */
    OPK_P,    /* ModRM.reg, an MMX register */
    OPK_Q,    /* ModRM.rm, an MMX register or memory */
    OPK_R,    /* ModRM.rm, a general register only */
    OPK_S,    /* ModRM.reg, a segment register */
    OPK_U,    /* ModRM.rm, a vector register only */
    OPK_V,    /* ModRM.reg, a vector register */
    OPK_W,    /* ModRM.rm, a vector register or memory */
    OPK_X,    /* memory at DS:rSI (or the override's segment) */
    OPK_Y,    /* memory at ES:rDI */
    OPK_Z,    /* the opcode's low bits, a general register: x86_insn.reg */
    OPK_STI,  /* ModRM.rm, an x87 register */
    OPK_KG,   /* ModRM.reg, a mask register */
    OPK_KE,   /* ModRM.rm, a mask register or memory */
    OPK_KH,   /* VEX.vvvv, a mask register */
    OPK_TG,   /* ModRM.reg, a tile */
    OPK_TE,   /* ModRM.rm, a tile */
    OPK_TH,   /* VEX.vvvv, a tile */
    OPK_MV,   /* ModRM.rm with a vector index (gathers and scatters) */
    OPK_ACC,  /* AL, AX, EAX or RAX */
    OPK_CL,   /* CL */
    OPK_DX,   /* DX */
    OPK_ONE,  /* the constant 1: imm */
    OPK_SEG,  /* the segment register that the opcode names: x86_insn.reg */
    OPK_ST0,  /* ST(0) */
    OPK_AX,   /* AX, whatever the operand size (FNSTSW) */
    OPK_XMM0, /* XMM0 */
};

/* How large it is: SDM 2, A.2.2. x86_operand_size() gives the bytes. */
enum x86_operand_type {
    OPT_NONE, /* has no size (LEA, INVLPG) */
    OPT_B,    /* 1 */
    OPT_W,    /* 2 */
    OPT_D,    /* 4 */
    OPT_Q,    /* 8 */
    OPT_T,    /* 10 */
    OPT_DQ,   /* 16 */
    OPT_QQ,   /* 32 */
    OPT_OQ,   /* 64 */
    OPT_V,    /* the operand size: 2, 4 or 8 */
    OPT_Y,    /* 4, or 8 with W */
    OPT_Z,    /* 2, or 4 with larger operand sizes */
    OPT_P,    /* a far pointer: the operand size and a selector */
    OPT_S,    /* a descriptor table's limit and base: 6, or 10 in 64-bit code */
    OPT_A,    /* BOUND's pair: twice the operand size */
    OPT_X,    /* the vector length */
    OPT_XH,   /* half the vector length */
    OPT_XQ,   /* a quarter */
    OPT_XO,   /* an eighth */
    OPT_ENV,  /* the x87 environment: 14 or 28 */
    OPT_X87,  /* the x87 state: 94 or 108 */
    OPT_FX,   /* 512 */
    OPT_XS,   /* XSAVE's area, whose size the processor's state decides */
};

struct x86_operand {
    uint8_t kind; /* enum x86_operand_kind */
    uint8_t type; /* enum x86_operand_type */
};

enum x86_form_flags {
    X86_FORM_LOCK = 1u << 0,       /* LOCK is allowed when ModRM.rm is memory */
    X86_FORM_REP = 1u << 1,        /* F3 and F2 repeat (MOVS, STOS, LODS, INS, OUTS) */
    X86_FORM_REPCC = 1u << 2,      /* F3 and F2 repeat while ZF says so (CMPS, SCAS) */
    X86_FORM_D64 = 1u << 3,        /* the operand size is 64 by default in 64-bit code */
    X86_FORM_F64 = 1u << 4,        /* and can't be changed */
    X86_FORM_PRIVILEGED = 1u << 5, /* #GP(0) above CPL 0 */
    X86_FORM_STORE = 1u << 6,      /* ModRM.rm (or moffs) is the first operand */
    X86_FORM_MODRM = 1u << 7,      /* has a ModRM byte */
    X86_FORM_REG_BYTE = 1u << 8,   /* x86_insn.reg numbers a byte register (AH... without REX) */
    X86_FORM_RM_BYTE = 1u << 9,    /* x86_insn.rm does */
    X86_FORM_NO64 = 1u << 10,      /* not in 64-bit code */
    X86_FORM_ONLY64 = 1u << 11,    /* in 64-bit code only */
    X86_FORM_CC = 1u << 12,        /* opcode bits 3:0 are a condition */
    X86_FORM_GROUP = 1u << 13,     /* ModRM.reg extends the opcode */
    X86_FORM_ADDRESS = 1u << 14,   /* ModRM.rm is an address, not accessed (LEA, NOP, PREFETCH) */
    X86_FORM_VEX = 1u << 15,       /* VEX-encoded; vvvv is an operand when an operand says so */
    X86_FORM_EVEX = 1u << 16,
    X86_FORM_VVVV = 1u << 17,     /* VEX.vvvv is an operand */
    X86_FORM_MODELLED = 1u << 18, /* the model has the feature; without it: #UD */
    X86_FORM_BCAST_SHIFT = 20,    /* two bits: log2 of the bytes EVEX.b broadcasts; 0: none */
    X86_FORM_BRANCH = 1u << 19,   /* ends a basic block: RIP is not the next instruction's after */
};

struct x86_form {
    const char *mnemonic; /* lower case */
    const char *operands; /* in the manual's notation, for people */
    const char *encoding; /* the same */
    const char *sem;      /* name of the semantic function; NULL: none, raises #UD */
    struct x86_operand operand[4];
    uint32_t flags;
    uint8_t feature; /* enum x86_feature */
    uint8_t cc;      /* FCMOVcc: its number (0 B, 1 E, 2 BE, 3 U, then negated) */
};

extern const struct x86_form x86_forms[];
extern const unsigned x86_form_count;

/* The semantic functions, by form; NULL where the model lacks the feature. In an object of its own,
 * so that what only decodes does not link the semantics. */
extern const struct sem *const x86_form_sem[];

/* What a feature is called, and whether the model has it. */
extern const char *const x86_feature_names[X86_FEATURES];

/* Bytes of operand i of a decoded instruction (of memory, or of the register part that takes part);
 * 0 where it has no size. */
unsigned x86_operand_size(const struct x86_insn *insn, unsigned i);

static inline bool x86_form_has(const struct x86_form *form, enum x86_operand_kind kind)
{
    for (unsigned i = 0; i < sizeof form->operand / sizeof *form->operand; i++)
        if (form->operand[i].kind == kind)
            return true;
    return false;
}

static inline const struct x86_form *x86_form(const struct x86_insn *insn)
{
    return &x86_forms[insn->form];
}

/* Which operand is memory where ModRM.rm is, or -1. Gathers and scatters have none in this sense:
 * what they access is more than one. */
static inline int x86_memory_operand(const struct x86_form *form)
{
    for (unsigned i = 0; i < sizeof form->operand / sizeof *form->operand; i++) {
        switch (form->operand[i].kind) {
        case OPK_E:
        case OPK_KE:
        case OPK_M:
        case OPK_Q:
        case OPK_W: return (int)i;
        }
    }
    return -1;
}

/* Its bytes; 0: there is none, or it has no size. */
static inline unsigned x86_memory_size(const struct x86_insn *insn)
{
    int i = x86_memory_operand(x86_form(insn));
    return i < 0 ? 0 : x86_operand_size(insn, (unsigned)i);
}

#endif

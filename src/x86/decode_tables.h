/*
 * What forms/generate.c makes of forms/ *.def for decode.c; nobody else includes this.
 *
 * An opcode leads to a short list of candidate forms, the most particular first; a form matches
 * when the key built from prefixes, mode and ModRM has the bits it asks for. Opcodes whose ModRM
 * chooses among many forms (groups, x87) are split by mod and reg first, so that most lists have
 * one entry.
 */
#ifndef DOPPEL_X86_DECODE_TABLES_H
#define DOPPEL_X86_DECODE_TABLES_H

#include <stdint.h>

/* The key. */
enum {
    KEY_PP = 3u << 0, /* mandatory prefix, or VEX.pp: the SSE_* below */
    KEY_MODE64 = 1u << 2,
    KEY_MOD3 = 1u << 3,
    KEY_REG_SHIFT = 4,
    KEY_REG = 7u << KEY_REG_SHIFT,
    KEY_RM_SHIFT = 7,
    KEY_RM = 7u << KEY_RM_SHIFT,
    KEY_W = 1u << 10,
    KEY_L_SHIFT = 11,
    KEY_L = 3u << KEY_L_SHIFT, /* 0: 128 or scalar, 1: 256, 2: 512 */
    KEY_REX_B = 1u << 13,
};
enum { PP_NONE, PP_66, PP_F3, PP_F2 };

/* How large the operation is: rows of the table in decode.c. */
enum size_kind {
    SIZE_1,
    SIZE_2,
    SIZE_4,
    SIZE_8,
    SIZE_16,
    SIZE_32,
    SIZE_64,
    SIZE_V,     /* 2, 4 or 8 */
    SIZE_V_D64, /* 8 or 2 in 64-bit code */
    SIZE_V_F64, /* 8 in 64-bit code */
    SIZE_Y,     /* 4, or 8 with W */
    SIZE_Y_F64, /* 4, or 8 in 64-bit code */
    SIZE_Z,     /* 2 or 4 */
    SIZE_VL,    /* the vector length; 16 without VEX */
    SIZE_KINDS
};

enum imm_kind {
    IMM_NONE,
    IMM_8,     /* zero-extended byte */
    IMM_S8,    /* sign-extended byte */
    IMM_16,    /* zero-extended word */
    IMM_Z,     /* 2 or 4 bytes by the operand size, sign-extended */
    IMM_V,     /* 2, 4 or 8 bytes by the operand size, sign-extended */
    IMM_OFS,   /* moffs: by the address size, into disp */
    IMM_FAR,   /* offset, then selector */
    IMM_ENTER, /* word and byte */
    IMM_8_8,   /* two bytes (EXTRQ, INSERTQ) */
    IMM_ONE,   /* nothing is read; imm is 1 */
};

enum match_flags {
    MATCH_LOCK = 1u << 0,
    MATCH_OPREG = 1u << 1,     /* the register is in the opcode */
    MATCH_SEGREG = 1u << 2,    /* the segment is in the opcode */
    MATCH_REG8 = 1u << 3,      /* ModRM.reg has three bits: REX.R is ignored */
    MATCH_RM8 = 1u << 4,       /* the same for ModRM.rm as a register */
    MATCH_VVVV = 1u << 5,      /* VEX.vvvv is an operand; otherwise it must be 1111b */
    MATCH_ANY_MOD = 1u << 6,   /* mod is ignored: always a register (MOV CR, MOV DR) */
    MATCH_CR = 1u << 7,        /* reg is a control register: 0, 2, 3, 4 or 8 */
    MATCH_DR = 1u << 8,        /* reg is a debug register: 0 to 7 */
    MATCH_VSIB = 1u << 9,      /* the index is a vector register */
    MATCH_SIB = 1u << 10,      /* the address has a SIB byte (AMX) */
    MATCH_ER = 1u << 11,       /* EVEX.b with registers means rounding: L is a rounding mode */
    MATCH_SAE = 1u << 12,      /* EVEX.b with registers means: suppress all exceptions */
    MATCH_BCAST4 = 1u << 13,   /* EVEX.b with memory broadcasts 4-byte elements */
    MATCH_BCAST8 = 1u << 14,   /* 8-byte elements */
    MATCH_BCAST2 = 1u << 15,   /* 2-byte elements */
    MATCH_K = 1u << 16,        /* reg and vvvv are mask registers or tiles: 0 to 7 */
    MATCH_TE = 1u << 17,       /* rm is a tile: 0 to 7 */
    MATCH_REG_V = 1u << 18,    /* EVEX: reg is a vector register, one of 32 */
    MATCH_RM_V = 1u << 19,     /* EVEX: rm is, when it is a register */
    MATCH_MERGE = 1u << 20,    /* EVEX.aaa may select a mask */
    MATCH_ZERO = 1u << 21,     /* EVEX.z may be set */
    MATCH_STORE = 1u << 22,    /* rm is the destination */
    MATCH_SCALAR = 1u << 23,   /* the length is ignored */
    MATCH_REG_16 = 1u << 24,   /* EVEX: reg is not one of 32; R' must not say so */
    MATCH_DISTINCT = 1u << 25, /* the destination is none of the sources */
};

struct match {
    uint32_t mask, value;
    uint32_t flags;
    uint16_t form;
    uint8_t size; /* enum size_kind */
    uint8_t imm;  /* enum imm_kind */
    uint8_t n8;   /* EVEX: log2 of disp8's factor, or N8_* below */
    uint8_t pad[3];
};
/* disp8's factor follows the vector length: full, half, quarter, eighth of it. */
enum { N8_VL = 0x80, N8_HALF, N8_QUARTER, N8_EIGHTH, N8_Y, N8_UNKNOWN };

enum { OPCODE_MODRM = 1u << 0, OPCODE_SPLIT = 1u << 1 };

struct opcode {
    uint16_t first; /* into decode_matches, or into decode_split when split: 16 of them */
    uint8_t count;
    uint8_t flags;
};

/* Tables of opcodes: legacy maps 0 to 3, VEX maps 1 to 3, EVEX maps 1 to 3, 5 and 6. */
enum { TABLE_LEGACY = 0, TABLE_VEX = 3, TABLE_EVEX = 6, TABLES = 13 };

extern const struct opcode decode_opcodes[TABLES][256];
extern const struct opcode decode_split[];
extern const struct match decode_matches[];

#endif

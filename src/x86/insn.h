/*
 * The decoder's output: one instruction, all its parts, nothing executed.
 *
 * forms.def lists every instruction form, one line each; the decoder's tables and the table in
 * docs/instructions.md are generated from it.
 */
#ifndef DOPPEL_X86_INSN_H
#define DOPPEL_X86_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { X86_INSN_MAX = 15 };

enum x86_prefix {
    X86_PREFIX_LOCK = 1u << 0,
    X86_PREFIX_REP = 1u << 1,      /* F3 */
    X86_PREFIX_REPNE = 1u << 2,    /* F2 */
    X86_PREFIX_OPSIZE = 1u << 3,   /* 66 */
    X86_PREFIX_ADDRSIZE = 1u << 4, /* 67 */
    X86_PREFIX_REX = 1u << 5,
    X86_PREFIX_VEX = 1u << 6,
    X86_PREFIX_EVEX = 1u << 7,
};

enum { X86_NO_REG = 0xff, X86_BASE_RIP = 0xfe };

struct x86_insn {
    uint16_t form; /* index into x86_forms */
    uint8_t len;
    uint8_t prefixes; /* enum x86_prefix */
    uint8_t rex;      /* 0100WRXB, also made from VEX and EVEX; 0: none */
    uint8_t map;      /* 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A */
    uint8_t opcode;
    uint8_t modrm;       /* as read; 0 when the form has none */
    uint8_t opsize;      /* operand size in bytes: 1, 2, 4, 8, 16, 32, 64 (vectors) */
    uint8_t addrsize;    /* address size in bytes: 2, 4, 8 */
    uint8_t segment;     /* of the memory operand, overrides and defaults applied (X86_ES...) */
    bool has_segment;    /* an override prefix was there */
    bool mode64;         /* decoded as 64-bit code */
    bool is_mem;         /* ModRM.rm is memory (or moffs) */
    uint8_t reg;         /* ModRM.reg or opcode register, REX.R / REX.B applied */
    uint8_t rm;          /* ModRM.rm register, REX.B applied, when !is_mem */
    uint8_t base, index; /* X86_NO_REG, X86_BASE_RIP, or a register; REX applied */
    uint8_t scale;       /* 0 to 3 */
    uint8_t vvvv;        /* VEX.vvvv, as a register number */
    uint8_t vl;          /* VEX.L: vector length 16, 32 or 64 bytes; 0 without VEX */
    uint8_t evex;        /* EVEX's last byte: z, L'L, b, V', aaa (SDM 2, 2.7.1); 0 without EVEX */
    int64_t disp;        /* sign-extended; moffs: the 64-bit offset */
    int64_t imm;  /* sign-extended from its encoded size, or zero-extended where the form says so */
    int64_t imm2; /* ENTER's level, a far pointer's selector */
};

enum x86_decode_status {
    X86_DECODED,
    X86_DECODE_SHORT,    /* more bytes are needed than were given */
    X86_DECODE_TOO_LONG, /* over 15 bytes: #GP(0) */
    X86_DECODE_INVALID,  /* no such instruction in this mode: #UD */
};

/* Decodes the instruction at bytes[0 .. n). code is enum x86_code of cpu.h (16, 32, 64 bit). On
 * X86_DECODE_INVALID, out->len is the length up to and including what made it invalid. LOCK where
 * it is not allowed is invalid. */
enum x86_decode_status x86_decode(const uint8_t *bytes, size_t n, unsigned code,
                                  struct x86_insn *out);

#endif

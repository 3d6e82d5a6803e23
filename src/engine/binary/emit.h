/*
 * Writing host instructions (x86-64), one function each. None but those named for it touches the
 * flags; what runs out of room sets `full` and writes no more.
 */
#ifndef DOPPEL_ENGINE_BINARY_EMIT_H
#define DOPPEL_ENGINE_BINARY_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct emit {
    uint8_t *at, *end;
    bool full;
};

/* Host registers, as instructions number them. */
enum {
    HOST_RAX,
    HOST_RCX,
    HOST_RDX,
    HOST_RBX,
    HOST_RSP,
    HOST_RBP,
    HOST_RSI,
    HOST_RDI,
    HOST_R8,
    HOST_R10 = 10,
    HOST_R11,
    HOST_NONE = 0xff,
};

/* The two that never hold a guest register: R10 and R11 of the guest are in memory. Compilers name
 * them least: a third as often as R14 and R15 (docs/binary-translation.md). */
enum { S1 = HOST_R10, S2 = HOST_R11 };

/* A memory operand: [base + index * 2^scale + disp], through GS or not. Without base and index it
 * is an absolute displacement. */
struct host_mem {
    uint8_t base, index, scale;
    bool gs;
    int32_t disp;
};

static inline void emit_byte(struct emit *e, unsigned byte)
{
    if (e->at < e->end)
        *e->at++ = (uint8_t)byte;
    else
        e->full = true;
}

static inline void emit_bytes(struct emit *e, const void *bytes, unsigned n)
{
    if ((unsigned long)(e->end - e->at) < n) {
        e->full = true;
        return;
    }
    memcpy(e->at, bytes, n);
    e->at += n;
}

static inline void emit_u32(struct emit *e, uint32_t v)
{
    emit_bytes(e, &v, sizeof v);
}

/* ModRM, SIB and displacement of a memory operand; `wide`: always four bytes of displacement
 * (EVEX, where one byte is scaled). */
void emit_memory(struct emit *e, unsigned reg, const struct host_mem *m, bool wide);

/* A legacy-encoded instruction of one opcode byte in map 0: reg and memory. size: 1, 2, 4, 8. */
void emit_op_mem(struct emit *e, unsigned size, unsigned opcode, unsigned reg,
                 const struct host_mem *m);

/* mov r64, [gs:disp] and back. */
void emit_load(struct emit *e, unsigned reg, int32_t gs_disp);
void emit_store(struct emit *e, unsigned reg, int32_t gs_disp);
/* movzx r32, word [gs:disp]. */
void emit_load_u16(struct emit *e, unsigned reg, int32_t gs_disp);
/* mov word [gs:disp], r16; mov byte [gs:disp], imm8. */
void emit_store_u16(struct emit *e, unsigned reg, int32_t gs_disp);
void emit_store_imm8(struct emit *e, int32_t gs_disp, uint8_t imm);
/* mov dword [gs:disp], imm32; mov qword (sign-extended). */
void emit_store_imm(struct emit *e, int32_t gs_disp, uint32_t imm);
void emit_store_imm64(struct emit *e, int32_t gs_disp, int32_t imm);
/* mov r64, r64; mov r32, r32. */
void emit_move(struct emit *e, unsigned to, unsigned from);
void emit_move32(struct emit *e, unsigned to, unsigned from);
/* mov r16, r16. */
void emit_move16(struct emit *e, unsigned to, unsigned from);
/* mov r32, imm32. */
void emit_move_imm(struct emit *e, unsigned to, uint32_t imm);
/* not r64, which leaves the flags alone. */
void emit_not(struct emit *e, unsigned reg);
/* mov r64, imm64, or what does the same. */
void emit_move_imm64(struct emit *e, unsigned to, uint64_t imm);
/* movsxd r64, r32. */
void emit_movsxd(struct emit *e, unsigned to, unsigned from);
/* lea r64, m (size 8) or lea r32, m (size 4). */
void emit_lea(struct emit *e, unsigned size, unsigned reg, const struct host_mem *m);
/* lea r64, [rip + disp]: from behind itself. */
void emit_lea_rip(struct emit *e, unsigned reg, int32_t disp);
/* push r64; pop r64: of the host's stack. */
void emit_push(struct emit *e, unsigned reg);
void emit_pop(struct emit *e, unsigned reg);
/* rorx r64, r64, imm8. */
void emit_rorx(struct emit *e, unsigned to, unsigned from, unsigned bits);
/* pext r64, r64, qword [gs:disp]. */
void emit_pext(struct emit *e, unsigned to, unsigned from, int32_t gs_disp);
/* mulx: hi:lo := RDX * qword [gs:disp]. */
void emit_mulx(struct emit *e, unsigned hi, unsigned lo, int32_t gs_disp);
/* movzx r32, r16; movzx r32, r8. */
void emit_movzx16(struct emit *e, unsigned to, unsigned from);
void emit_movzx8(struct emit *e, unsigned to, unsigned from);
/* jmp qword m. */
void emit_jump_mem(struct emit *e, const struct host_mem *m);
/* jmp rel32 and jcc rel32 to a host address. */
void emit_jump(struct emit *e, const uint8_t *to);
void emit_jump_if(struct emit *e, unsigned cc, const uint8_t *to);
/* The same with the rel32 where it can be patched while others run it: inside eight aligned bytes.
 * Returns where the rel32 is. */
uint8_t *emit_patchable_jump(struct emit *e);
uint8_t *emit_patchable_jump_if(struct emit *e, unsigned cc);
/* jrcxz rel8 forward; the returned place goes to emit_here(). */
uint8_t *emit_jrcxz(struct emit *e);
uint8_t *emit_jump_short(struct emit *e);
uint8_t *emit_jump_if_short(struct emit *e, unsigned cc);
void emit_here(struct emit *e, uint8_t *rel8);
/* pdep r64, r64, qword [gs:disp]. */
void emit_pdep(struct emit *e, unsigned to, unsigned from, int32_t gs_disp);
/* op r32, imm32, which sets the flags; number is the operation's in its group (4: AND, 1: OR). */
void emit_op_imm(struct emit *e, unsigned number, unsigned reg, uint32_t imm);
/* test r32, imm32, which sets the flags. */
void emit_test(struct emit *e, unsigned reg, uint32_t imm);
/* wrgsbase r64. */
void emit_wrgsbase(struct emit *e, unsigned reg);

/* Points the rel32 at `at` to `to`; both as the writer sees them. */
static inline void emit_point(uint8_t *at, const uint8_t *to)
{
    int32_t rel = (int32_t)(to - (at + 4));
    __atomic_store_n((int32_t *)(void *)at, rel, __ATOMIC_RELEASE);
}

#endif

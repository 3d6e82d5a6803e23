/*
 * SYSCALL and SYSRET between 64-bit code of CPL 3 and 0, without leaving translated code (SDM 2).
 *
 * They change what no other translated code does: CPL, CS and SS, and the flat table in use. All of
 * it is written where C finds it, so that leaving right behind them is nothing special. What is
 * rare is left to C: where flags would be kept that are in other places on the other side (AC, VIF,
 * VIP), TF, a target that is not canonical, SYSCALL off or with few flags masked, SYSRET to 32-bit
 * code.
 */
#include "engine/binary/translator.h"
#include "x86/flags.h"
#include "x86/segment.h"

/* Flags that SYSCALL's mask has to have for translated code to do it: then all flags are clear
 * behind it. Of those that are left, VM and RF are never set here, VIF and VIP are looked at. */
enum {
    SYSCALL_CLEARS = FLAGS_STATUS | FLAG_DF | FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_AC | FLAG_ID,
    /* What SYSRET takes of R11 without a closer look, and stays in the state. */
    SYSRET_KEEPS = FLAG_IOPL | FLAG_NT | FLAG_ID,
    SYSRET_RARE = FLAG_TF | FLAG_AC | FLAG_VIF | FLAG_VIP,
};

/* ---- for C ---- */

void binary_syscall_init(struct context *x)
{
    x->mask_sysret = SYSRET_KEEPS;
    x->mask_rare = SYSRET_RARE;
    x->mask_if = FLAG_IF;
}

void binary_syscall_prepare(struct context *x, const struct x86_state *s)
{
    uint16_t call = s->star >> 32 & 0xfffc, ret = (uint16_t)(s->star >> 48);
    bool on = s->efer & EFER_SCE;
    x->no_sysret = !on;
    x->no_syscall = !on || (~s->sfmask & SYSCALL_CLEARS) || !x86_canonical(s->lstar) ||
                    (s->rflags & (FLAG_VIF | FLAG_VIP));
    x->selectors[0] = call;
    x->selectors[1] = (uint16_t)(call + 8);
    x->selectors[2] = (uint16_t)(ret + 16) | 3;
    x->selectors[3] = (uint16_t)(ret + 8) | 3;
}

/* ---- in the block ---- */

bool syscall_enter(struct translator *t)
{
    struct emit *e = &t->e;
    emit_load(e, S1, GS_AREA + CTX_NO_SYSCALL);
    control_emulate_unless_zero(t);
    emit_in_page(t, (int32_t)t->next);
    emit_jump(e, t->vm->syscall_piece);
    return true;
}

bool syscall_return(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem sum = {.base = S1, .index = S2};
    if (t->insn.opsize != 8) {
        control_emulate(t);
        return true;
    }
    emit_load(e, S1, GS_GPR(11));
    emit_pext(e, S1, S1, GS_AREA + CTX_MASK_RARE);
    emit_not_canonical(e, S2, HOST_RCX);
    emit_lea(e, 8, S1, &sum);
    emit_load(e, S2, GS_AREA + CTX_NO_SYSRET);
    emit_lea(e, 8, S1, &sum);
    control_emulate_unless_zero(t);
    emit_jump(e, t->vm->sysret_piece);
    return true;
}

/* ---- the pieces that do it ---- */

#define GS_STATE(member) (GS_VCPU + (int32_t)offsetof(struct x86_state, member))

/* A segment register := a flat segment, with the selector that is in the context. */
static void emit_segment(struct emit *e, unsigned seg, const struct x86_segment *flat,
                         unsigned selector)
{
    int32_t at = GS_STATE(seg) + (int32_t)(seg * sizeof(struct x86_segment));
    emit_store_imm64(e, at + (int32_t)offsetof(struct x86_segment, base), 0);
    emit_store_imm(e, at + (int32_t)offsetof(struct x86_segment, limit), flat->limit);
    emit_store_imm(e, at + (int32_t)offsetof(struct x86_segment, attr), flat->attr);
    emit_load_u16(e, S2, GS_AREA + CTX_SELECTORS + 2 * (int32_t)selector);
    emit_store_u16(e, S2, at + (int32_t)offsetof(struct x86_segment, selector));
}

static void emit_level(struct emit *e, unsigned cpl)
{
    struct x86_segment code = x86_flat_code(0, cpl, true), stack = x86_flat_stack(0, cpl);
    emit_segment(e, X86_CS, &code, cpl ? 2 : 0);
    emit_segment(e, X86_SS, &stack, cpl ? 3 : 1);
    emit_store_imm8(e, GS_VCPU + (int32_t)offsetof(struct engine_vcpu, cpu.cpl), (uint8_t)cpl);
    emit_store_imm64(e, GS_AREA + CTX_AC, 0);
    emit_load(e, S2, GS_AREA + (cpl ? CTX_TABLE_U : CTX_TABLE_S));
    emit_wrgsbase(e, S2);
}

/* The host's status flags and DF := 0. 0 + 1 has no carry, sign, zero or overflow, and one bit. */
static void emit_clear_flags(struct emit *e)
{
    emit_move_imm(e, S1, 0);
    emit_op_imm(e, 0, S1, 1);
    emit_byte(e, 0xfc); /* cld */
}

/* S1: the address behind SYSCALL. */
static void emit_syscall(struct binary_vm *vm, struct emit *e)
{
    struct host_mem one_more = {.base = S1, .index = HOST_NONE, .disp = 1};
    vm->syscall_piece = e->at;
    emit_move(e, HOST_RCX, S1);
    system_read_flags(e);
    emit_store(e, S1, GS_GPR(11));
    emit_load(e, S1, GS_AREA + CTX_SYSCALLS);
    emit_lea(e, 8, S1, &one_more);
    emit_store(e, S1, GS_AREA + CTX_SYSCALLS);
    emit_store_imm64(e, GS_VCPU + STATE_RFLAGS, FLAG_1);
    emit_store_imm64(e, GS_AREA + CTX_IF, 0);
    emit_level(e, 0);
    emit_clear_flags(e);
    emit_load(e, S1, GS_STATE(lstar));
    emit_jump(e, vm->jump_piece);
}

/* S2 := the bits of S1 that a mask in the context has. */
static void emit_masked(struct emit *e, int32_t mask)
{
    emit_pext(e, S2, S1, GS_AREA + mask);
    emit_pdep(e, S2, S2, GS_AREA + mask);
}

/* The guest's RCX is in the context. */
static void emit_sysret(struct binary_vm *vm, struct emit *e)
{
    struct host_mem with_1 = {.base = S2, .index = HOST_NONE, .disp = FLAG_1};
    vm->sysret_piece = e->at;
    emit_load(e, S1, GS_GPR(11));
    emit_masked(e, CTX_MASK_SYSRET);
    emit_lea(e, 8, S2, &with_1);
    emit_store(e, S2, GS_VCPU + STATE_RFLAGS);
    emit_masked(e, CTX_MASK_IF);
    emit_store(e, S2, GS_AREA + CTX_IF);
    emit_level(e, 3);
    system_write_flags(e);
    emit_load(e, S1, GS_AREA + CTX_RCX);
    emit_jump(e, vm->return_piece);
}

/* S1: where to, with IF set now, perhaps. The guest's RCX is in the context. */
static void emit_return(struct binary_vm *vm, struct emit *e)
{
    struct host_mem request = {HOST_NONE, HOST_NONE, 0, true,
                               GS_VCPU + (int32_t)offsetof(struct engine_vcpu, cpu.request)};
    vm->return_piece = e->at;
    emit_op_mem(e, 4, 0x8b, HOST_RCX, &request);
    uint8_t *nothing = emit_jrcxz(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_jump(e, vm->request_piece);
    emit_here(e, nothing);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_jump(e, vm->jump_piece);
}

void syscall_emit_pieces(struct binary_vm *vm, struct emit *e)
{
    emit_syscall(vm, e);
    emit_return(vm, e);
    emit_sysret(vm, e);
}

/*
 * Instructions that the host would answer for itself and that the guest is to be answered for its
 * own processor: flags, selectors. Those that change more leave for C.
 *
 * While translated code runs, RFLAGS is in three places: the status flags and DF are the host's, IF
 * and a supervisor's AC are in the context, the rest is in the state.
 */
#include "engine/binary/translator.h"
#include "x86/flags.h"

/* ---- the host's stack, for moving flags ---- */

static void to_host_stack(struct emit *e)
{
    emit_store(e, HOST_RSP, GS_GPR(HOST_RSP));
    emit_load(e, HOST_RSP, GS_AREA + CTX_HOST_RSP);
}

static void to_guest_stack(struct emit *e)
{
    emit_load(e, HOST_RSP, GS_GPR(HOST_RSP));
}

static void emit_add(struct emit *e, unsigned to, unsigned other, int32_t more)
{
    struct host_mem sum = {.base = (uint8_t)to, .index = (uint8_t)other, .disp = more};
    emit_lea(e, 8, to, &sum);
}

/* S1 := what PUSHF pushes. PEXT and PDEP with one mask are an AND that leaves the flags. */
void system_read_flags(struct emit *e)
{
    to_host_stack(e);
    emit_byte(e, 0x9c); /* pushfq */
    emit_pop(e, S1);
    to_guest_stack(e);
    emit_pext(e, S1, S1, GS_AREA + CTX_STATUS_MASK);
    emit_pdep(e, S1, S1, GS_AREA + CTX_STATUS_MASK);
    emit_load(e, S2, GS_VCPU + STATE_RFLAGS);
    emit_add(e, S1, S2, 0);
    emit_load(e, S2, GS_AREA + CTX_IF);
    emit_add(e, S1, S2, 0);
    emit_load(e, S2, GS_AREA + CTX_AC);
    emit_add(e, S1, S2, 0);
}

bool system_pushf(struct translator *t)
{
    if (t->insn.opsize != 8 || t->check)
        return false;
    operand_forget(t);
    system_read_flags(&t->e);
    rewrite_push(t, S1);
    return true;
}

/* The host's flags := the status flags and DF in S1. */
void system_write_flags(struct emit *e)
{
    emit_op_imm(e, 4, S1, FLAGS_STATUS | FLAG_DF);
    emit_op_imm(e, 1, S1, FLAG_1 | FLAG_IF);
    to_host_stack(e);
    emit_push(e, S1);
    emit_byte(e, 0x9d); /* popfq */
    to_guest_stack(e);
}

/* A jump that is taken if nothing is asked of the vCPU; the guest's RCX is in the context there. */
static uint8_t *emit_unless_asked(struct emit *e)
{
    struct host_mem request = {HOST_NONE, HOST_NONE, 0, true,
                               GS_VCPU + (int32_t)offsetof(struct engine_vcpu, cpu.request)};
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_op_mem(e, 4, 0x8b, HOST_RCX, &request);
    uint8_t *nothing = emit_jrcxz(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    return nothing;
}

/* Leaves at t->at if anything is asked of the vCPU. */
static void emit_look(struct translator *t)
{
    struct emit *e = &t->e;
    uint8_t *nothing = emit_unless_asked(e);
    control_request(t);
    emit_here(e, nothing);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
}

/* A supervisor's POPF that changes nothing but the status flags, DF and IF. The flags from before
 * are of no use once the new ones are read, but until then they are the guest's. */
bool system_popf(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem rflags = {HOST_NONE, HOST_NONE, 0, true, GS_VCPU + STATE_RFLAGS};
    struct host_mem ac = {HOST_NONE, HOST_NONE, 0, true, GS_AREA + CTX_AC};
    if (t->insn.opsize != 8 || t->check)
        return false;
    rewrite_load_top(t);
    emit_move(e, S2, S1);
    emit_op_mem(e, 8, 0x33, S2, &rflags);
    emit_op_mem(e, 8, 0x33, S2, &ac);
    emit_test(e, S2, ~(uint32_t)(FLAGS_STATUS | FLAG_DF | FLAG_IF | FLAG_1));
    uint8_t *usual = emit_jump_if_short(e, 4);
    control_emulate_aside(t);
    emit_here(e, usual);
    emit_move32(e, S2, S1);
    emit_op_imm(e, 4, S2, FLAG_IF);
    emit_store(e, S2, GS_AREA + CTX_IF);
    rewrite_move_stack(t, 8);
    system_write_flags(e);
    t->at = t->next;
    t->done++;
    emit_look(t);
    return true;
}

/* ---- interrupts on and off ---- */

bool system_cli(struct translator *t)
{
    emit_store_imm64(&t->e, GS_AREA + CTX_IF, 0);
    return true;
}

/* An interrupt that waits is C's, which knows of the instruction behind STI that runs before it is
 * taken; one that comes right behind STI finds that the signal handler knows (in_shadow()). HLT is
 * for C, and so is STI in front of it: between the two C would look for interrupts. What C may have
 * to be asked for is the same. */
bool system_sti(struct translator *t)
{
    struct emit *e = &t->e;
    struct x86_insn next;
    if (t->is_across || t->next >= MEMORY_PAGE_SIZE || t->done + 2 > TRANSLATOR_INSNS ||
        x86_decode(t->page + t->next, MEMORY_PAGE_SIZE - t->next, X86_CODE64, &next) != X86_DECODED)
        return false;
    enum how then = binary_how(t->vm, &next, t->key);
    if (then == HOW_EMULATE || then >= HOW_CALL_OUT)
        return false;
    uint8_t *nothing = emit_unless_asked(e);
    control_emulate_aside(t);
    emit_here(e, nothing);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_store_imm64(e, GS_AREA + CTX_IF, FLAG_IF);
    return true;
}

bool system_set_ac(struct translator *t, bool ac)
{
    emit_store_imm64(&t->e, GS_AREA + CTX_AC, ac ? FLAG_AC : 0);
    emit_load(&t->e, S1, GS_AREA + (ac ? CTX_TABLE_K : CTX_TABLE_S));
    emit_wrgsbase(&t->e, S1);
    return true;
}

/* ---- selectors ---- */

bool system_from_seg(struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    if (insn->is_mem || insn->reg >= X86_SEG_COUNT)
        return false;
    emit_load_u16(e, S1,
                  GS_VCPU + (int32_t)offsetof(struct x86_state, seg) +
                      (int32_t)(insn->reg * sizeof(struct x86_segment)) +
                      (int32_t)offsetof(struct x86_segment, selector));
    if (displaced(insn->rm) && insn->opsize == 2)
        emit_store_u16(e, S1, GS_GPR(insn->rm));
    else if (displaced(insn->rm))
        emit_store(e, S1, GS_GPR(insn->rm));
    else if (insn->opsize == 2)
        emit_move16(e, insn->rm, S1);
    else
        emit_move32(e, insn->rm, S1);
    return true;
}

/* ---- registers of the guest's processor ---- */

#define GS_STATE(member) (GS_VCPU + (int32_t)offsetof(struct x86_state, member))

bool system_swapgs(struct translator *t)
{
    struct emit *e = &t->e;
    emit_load(e, S1, GS_VCPU + STATE_GS_BASE);
    emit_load(e, S2, GS_STATE(kernel_gs_base));
    emit_store(e, S1, GS_STATE(kernel_gs_base));
    emit_store(e, S2, GS_VCPU + STATE_GS_BASE);
    return true;
}

/* By the line of tsc.c. */
bool system_rdtsc(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem both = {.base = HOST_RDX, .index = HOST_RAX};
    struct host_mem sum = {.base = S1, .index = S2};
    bool with_aux = t->insn.opcode == 0x01; /* RDTSCP: 0F 01 F9 */
    emit_load(e, S1, GS_AREA + (t->key & KEY_USER ? CTX_NO_TSC_USER : CTX_NO_TSC));
    control_emulate_unless_zero(t);
    emit_bytes(e, t->bytes, t->insn.len);
    if (!with_aux)
        emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_rorx(e, HOST_RDX, HOST_RDX, 32);
    emit_lea(e, 8, HOST_RDX, &both);
    emit_mulx(e, S1, S2, GS_AREA + CTX_TSC_MULT);
    emit_load(e, S2, GS_AREA + CTX_TSC_OFFSET);
    emit_lea(e, 8, S1, &sum);
    emit_move32(e, HOST_RAX, S1);
    emit_rorx(e, HOST_RDX, S1, 32);
    emit_move32(e, HOST_RDX, HOST_RDX);
    if (with_aux) {
        struct host_mem aux = {HOST_NONE, HOST_NONE, 0, true, GS_STATE(tsc_aux)};
        emit_op_mem(e, 4, 0x8b, HOST_RCX, &aux);
    }
    return true;
}

/* A scratch register := a guest register. */
static void emit_guest(struct emit *e, unsigned scratch, unsigned reg)
{
    if (displaced(reg))
        emit_load(e, scratch, GS_GPR(reg));
    else
        emit_move(e, scratch, reg);
}

/* A guest register := size (4 or 8) bytes of the state. */
static void emit_state_to(struct emit *e, unsigned size, unsigned to, int32_t from)
{
    struct host_mem m = {HOST_NONE, HOST_NONE, 0, true, from};
    unsigned reg = displaced(to) ? S1 : to;
    emit_op_mem(e, size, 0x8b, reg, &m);
    if (displaced(to))
        emit_store(e, S1, GS_GPR(to));
}

bool system_from_cr(struct translator *t)
{
    static const int32_t at[] = {
        [0] = GS_STATE(cr0), [2] = GS_STATE(cr2), [3] = GS_STATE(cr3), [4] = GS_STATE(cr4)};
    unsigned reg = t->insn.reg;
    if (reg >= ARRAY_LEN(at) || !at[reg])
        return false;
    emit_state_to(&t->e, 8, t->insn.rm, at[reg]);
    return true;
}

bool system_base(struct translator *t)
{
    enum { GS = 1, WRITE = 2 }; /* of the number in ModRM.reg */
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    unsigned number = insn->modrm >> 3 & 7u;
    int32_t base = GS_VCPU + (number & GS ? STATE_GS_BASE : STATE_FS_BASE);
    emit_load(e, S1, GS_AREA + CTX_NO_FSGSBASE);
    if (number & WRITE) {
        struct host_mem sum = {.base = S1, .index = S2};
        emit_guest(e, S2, insn->rm);
        emit_not_canonical(e, S2, S2);
        if (insn->opsize == 8)
            emit_lea(e, 8, S1, &sum);
    }
    control_emulate_unless_zero(t);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    if (!(number & WRITE)) {
        emit_state_to(e, insn->opsize, insn->rm, base);
        return true;
    }
    emit_guest(e, S1, insn->rm);
    if (insn->opsize == 4)
        emit_move32(e, S1, S1);
    emit_store(e, S1, base);
    return true;
}

/* ECX has to be 0. */
bool system_rdpkru(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem pkru = {HOST_NONE, HOST_NONE, 0, true, GS_STATE(pkru)};
    struct host_mem zero = {.base = HOST_NONE, .index = HOST_NONE};
    emit_byte(e, 0x67); /* jecxz */
    uint8_t *is_zero = emit_jrcxz(e);
    control_emulate_aside(t);
    emit_here(e, is_zero);
    emit_op_mem(e, 4, 0x8b, HOST_RAX, &pkru);
    emit_lea(e, 4, HOST_RDX, &zero);
    return true;
}

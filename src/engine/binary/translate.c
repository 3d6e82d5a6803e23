/*
 * From guest code to host code, a block at a time: straight on from its first instruction through
 * branches that are not taken, until something goes elsewhere for certain, or the page ends. A
 * user's code that is bound to its address (bound.h), so hot, goes on where such a branch stays in
 * the page: its blocks are traces.
 *
 * A block that is not bound serves its page at any address: it is told which on entry from
 * elsewhere, and branches between the blocks of a page leave that as it is.
 */
#include "base/bytes.h"
#include "engine/binary/translator.h"

/* The entry from elsewhere: S1 holds the block's own address. If the block is bound, S1 may hold
 * another as well: then the block is not what was looked for (space.h). One that was first come to
 * by a link is bound and has no such entry: it is looked up. */
static void emit_far_entry(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem page = {.base = S1, .index = HOST_NONE, .disp = -(int32_t)t->first};
    struct host_mem sum = {.base = HOST_RCX, .index = S1};
    if (!is_bound(t)) {
        emit_lea(e, 8, S1, &page);
        emit_store(e, S1, GS_AREA + CTX_BASE);
        return;
    }
    emit_move(e, S2, HOST_RCX);
    emit_move_imm64(e, HOST_RCX, 0 - (t->va + t->first));
    emit_lea(e, 8, HOST_RCX, &sum);
    uint8_t *here = emit_jrcxz(e);
    emit_jump(e, t->vm->elsewhere_piece);
    emit_here(e, here);
    emit_move(e, HOST_RCX, S2);
}

static bool translate_copy(struct translator *t, enum how how)
{
    switch (how) {
    case HOW_COPY: return rewrite_copy(t);
    case HOW_NOTHING: return true;
    case HOW_LEA: return rewrite_lea(t);
    case HOW_PUSH_REG: return rewrite_push_reg(t);
    case HOW_PUSH_IMM: return rewrite_push_imm(t);
    case HOW_PUSH_RM: return rewrite_push_rm(t);
    case HOW_POP_REG: return rewrite_pop_reg(t);
    case HOW_LEAVE: return rewrite_leave(t);
    case HOW_PUSHF: return system_pushf(t);
    case HOW_POPF: return system_popf(t);
    case HOW_CLI: return system_cli(t);
    case HOW_STI: return system_sti(t);
    case HOW_FROM_SEG: return system_from_seg(t);
    case HOW_SWAPGS: return system_swapgs(t);
    case HOW_FROM_CR: return system_from_cr(t);
    case HOW_BASE: return system_base(t);
    case HOW_PAUSE: return t->vm->vm->vcpus == 1; /* there is no one to wait for */
    case HOW_STRING: return rewrite_string(t);
    case HOW_RDTSC: return system_rdtsc(t);
    case HOW_RDPKRU: return system_rdpkru(t);
    case HOW_BIT_STRING: return rewrite_bit_string(t);
    case HOW_STAC: return system_set_ac(t, true);
    case HOW_CLAC: return system_set_ac(t, false);
    case HOW_CPUID: return call_out(t, CALL_CPUID);
    case HOW_XGETBV: return call_out(t, CALL_XGETBV);
    case HOW_RDMSR: return call_out(t, CALL_RDMSR);
    case HOW_WRMSR: return call_out(t, CALL_WRMSR);
    case HOW_TO_CR: return call_out_to_cr(t);
    case HOW_INVLPG: return call_out_with_address(t, CALL_INVLPG);
    case HOW_INVPCID: return call_out_invpcid(t);
    default: return false;
    }
}

/* Translates the current instruction. True: the block ends with it. */
static bool translate_insn(struct translator *t, enum how how)
{
    switch (how) {
    case HOW_JCC: return control_jcc(t);
    case HOW_JMP: return control_jmp(t);
    case HOW_JMP_RM: return control_jmp_rm(t);
    case HOW_CALL: return control_call(t);
    case HOW_CALL_RM: return control_call_rm(t);
    case HOW_RET: return control_ret(t);
    case HOW_JCXZ: return control_jcxz(t);
    case HOW_LOOP: return control_loop(t);
    case HOW_SYSCALL: return syscall_enter(t);
    case HOW_IRET: return iret_translate(t);
    case HOW_SYSRET: return syscall_return(t);
    default: break;
    }
    uint8_t *before = t->e.at;
    unsigned fixes = t->fixes, asides = t->asides;
    if (how != HOW_EMULATE && translate_copy(t, how)) {
        rewrite_note_written(t, how);
        return false;
    }
    t->e.at = before;
    t->fixes = fixes;
    t->asides = asides;
    control_emulate(t);
    operand_forget(t);
    /* What follows a branch that C takes is not executed; other instructions come back here. */
    return t->form->flags & X86_FORM_BRANCH;
}

/* Where guard pages do not find accesses that run over a page's end, and where they have found one
 * before, which is slow. */
static bool must_check(const struct binary_vm *vm, uint64_t offset)
{
    return !vm->windows.guarded || is_marked(vm->checked, offset);
}

/* How far from the address of its lookup an addend serves the instruction there: an object or a
 * stack frame that begins in one page and ends in the next is two for it, once that is known. */
static int32_t reach(const struct binary_vm *vm, uint64_t offset)
{
    enum { OBJECT = 128 };
    if (!vm->windows.guarded)
        return 0;
    if (!is_marked(vm->overran, offset))
        return OPERAND_REACH;
    return is_marked(vm->overran, offset + 1) ? 0 : OBJECT;
}

/* In the guest's kernel, the vector and x87 registers may still be in a cage (fpu.c): the first
 * instruction of a block that is about them has C look. */
static void guard_vectors(struct translator *t)
{
    enum { VECTORS = KEY_X87 | KEY_SSE | KEY_AVX | KEY_AVX512 };
    if (t->has_vectors || (t->key & KEY_USER) || !(t->facts->mode & VECTORS))
        return;
    t->has_vectors = true;
    operand_forget(t);
    emit_load(&t->e, S1, GS_AREA + CTX_FPU_AWAY);
    control_emulate_unless_zero(t);
    emit_load(&t->e, HOST_RCX, GS_AREA + CTX_RCX);
}

/* Decodes the instruction at t->at. What is no instruction is left to C, which raises the fault. */
static enum x86_decode_status decode(struct translator *t)
{
    unsigned room = t->is_across ? sizeof t->across : MEMORY_PAGE_SIZE - t->at;
    t->bytes = t->is_across ? t->across : t->page + t->at;
    enum x86_decode_status status = x86_decode(t->bytes, room, X86_CODE64, &t->insn);
    if (status == X86_DECODED) {
        t->form = x86_form(&t->insn);
        t->facts = &t->vm->forms[t->insn.form];
        t->next = t->at + t->insn.len;
    }
    return status;
}

/* Whether a trace has come back to one of its n instructions. */
static bool has_come_back(const struct translator *t, unsigned n)
{
    return t->scattered && is_translated(t, n, t->at);
}

/* Returns the number of instructions; t->at is behind the last. */
static unsigned translate_insns(struct translator *t, struct point *point, uint64_t ram_offset)
{
    unsigned n = 0;
    bool ended = false;
    t->point = point;
    while (n < TRANSLATOR_INSNS && t->at < MEMORY_PAGE_SIZE && !ended && !has_come_back(t, n)) {
        enum x86_decode_status status = decode(t);
        if (status == X86_DECODE_SHORT)
            break;
        t->done = n;
        if (control_joins(t)) {
            operand_forget(t);
            t->has_vectors = false;
        }
        point[n++] =
            (struct point){(uint16_t)(t->e.at - t->start), (uint16_t)t->at, operand_holds(t)};
        const uint8_t *from = t->e.at;
        t->to_c = false;
        if (status != X86_DECODED) {
            control_emulate(t);
            count_kind(t, n - 1, from);
            t->at++;
            return n;
        }
        t->check = must_check(t->vm, ram_offset + t->at);
        t->reach = reach(t->vm, ram_offset + t->at);
        enum how how = binary_how(t->vm, &t->insn, t->key);
        if (how == HOW_COPY)
            guard_vectors(t);
        ended = translate_insn(t, how);
        count_kind(t, n - 1, from);
        if (!how_keeps_addends(how))
            operand_forget(t);
        t->at = t->next;
        t->done = n;
    }
    if (n && !ended)
        control_go(t, (int32_t)t->at);
    return n;
}

/* The bytes of an instruction from here to the end of its page and on in the other. */
static void take_across(struct translator *t, const uint8_t *second)
{
    unsigned here = MEMORY_PAGE_SIZE - t->first;
    t->is_across = true;
    bytes_copy(t->across, t->page + t->first, here);
    bytes_copy(t->across + here, second, sizeof t->across - here);
}

uint32_t binary_translate(struct binary_vm *vm, struct engine_vcpu *v, uint64_t gpa, uint32_t key,
                          uint64_t gpa2, uint64_t va)
{
    struct code *c = &vm->code;
    uint64_t page_gpa = gpa & ~(uint64_t)(MEMORY_PAGE_SIZE - 1);
    const struct memory_region *region = memory_find(v->vm->memory, gpa);
    struct translator_room room;
    struct translator t = {
        .room = &room,
        .vm = vm,
        .e = code_begin(c),
        .page = memory_hva(v->vm->memory, page_gpa),
        .page_gpa = page_gpa,
        .key = key,
        .va = va,
        .bound = key & KEY_BOUND ? binary_bound(binary_of(v), key) : NULL,
        .block = code_next(c, gpa2),
        .first = (unsigned)(gpa - page_gpa),
        .at = (unsigned)(gpa - page_gpa),
    };
    t.start = t.e.at;
    if (gpa2)
        take_across(&t, memory_hva(v->vm->memory, gpa2));
    operand_forget(&t);
    if (!is_bound(&t) || binary_of(v)->came_from == NO_LINK)
        emit_far_entry(&t);
    struct translation block = {.gpa = gpa,
                                .gpa2 = gpa2,
                                .va = va,
                                .key = key,
                                .points = c->points,
                                .first_link = c->links};
    block.near = (uint16_t)(t.e.at - t.start);
    count_block(&t);
    struct point *point = &c->point[c->points];
    unsigned n = translate_insns(&t, point, memory_offset(region, page_gpa));
    if (n == 0)
        return NO_BLOCK;
    while (t.e.at - t.start < block.near + CODE_STALE_BYTES)
        emit_byte(&t.e, 0xcc);
    block.insns = (uint16_t)n;
    block.scattered = t.scattered;
    block.bytes = (uint16_t)(t.at - t.first);
    point[n] = (struct point){(uint16_t)(t.e.at - t.start), (uint16_t)t.at & 0x7fff};
    control_side_exits(&t, n);
    count_finish(&t, n);
    block.links = (uint16_t)(c->links - block.first_link);
    if (!t.e.full)
        return code_commit(c, &t.e, &block);
    c->links = block.first_link;
    return NO_BLOCK;
}

/*
 * Branches, and the ways out of translated code.
 *
 * A direct branch is linked where it always leads to the same block: within a guest page, and
 * between pages that are bound to their addresses (bound.h). It jumps to the target's code
 * then, and a trace goes on with that in the same block. Otherwise, and for indirect branches, the
 * target's address is looked up in the jump cache, which knows what the page tables said. Whoever
 * arrives from elsewhere enters a block at its beginning, with the guest's RIP in S1, from which
 * the block takes its page's address if it is not bound to one.
 */
#include "engine/binary/translator.h"

/* ---- leaving ---- */

/* S1: the guest's address; S2: the host's place, which names this one (binary_site()). */
static void leave_for(struct translator *t, const uint8_t *piece)
{
    struct emit *e = &t->e;
    count_back(t, t->done);
    emit_in_page(t, (int32_t)t->at);
    emit_lea_rip(e, S2, 5); /* behind the jump */
    emit_jump(e, piece);
}

void control_emulate(struct translator *t)
{
    t->to_c = true;
    leave_for(t, t->vm->emulate_piece);
}

/* Goes there later: counting takes room that short branches round it do not reach over. */
static bool put_aside(struct translator *t, const uint8_t *piece)
{
    if (!t->vm->measures || t->asides == ARRAY_LEN(t->room->aside))
        return false;
    t->room->aside[t->asides++] =
        (struct aside){emit_patchable_jump(&t->e), (uint16_t)t->at, (uint16_t)t->done, piece};
    return true;
}

static void write_asides(struct translator *t)
{
    for (unsigned i = 0; i < t->asides && !t->e.full; i++) {
        const struct aside *a = &t->room->aside[i];
        emit_point(a->rel32, t->e.at);
        t->at = a->at;
        t->done = a->done;
        leave_for(t, a->piece);
    }
}

void control_request(struct translator *t)
{
    if (!put_aside(t, t->vm->request_piece))
        leave_for(t, t->vm->request_piece);
}

void control_emulate_aside(struct translator *t)
{
    if (!put_aside(t, t->vm->emulate_piece))
        leave_for(t, t->vm->emulate_piece);
}

void control_emulate_unless_zero(struct translator *t)
{
    struct emit *e = &t->e;
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_move(e, HOST_RCX, S1);
    uint8_t *usual = emit_jrcxz(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    control_emulate_aside(t);
    emit_here(e, usual);
}

/* ---- direct branches ---- */

static bool in_page(int32_t target)
{
    return target >= 0 && target < MEMORY_PAGE_SIZE;
}

/* The block at an offset, if it exists and is known to be the one. */
static uint32_t known_target(struct translator *t, int32_t target)
{
    struct code *c = &t->vm->code;
    if (target == (int32_t)t->first)
        return NO_BLOCK; /* its own beginning: known when it is done */
    if (in_page(target))
        return code_find(c, t->page_gpa + (uint64_t)target, t->key, 0, t->va);
    uint64_t at = t->va + (uint64_t)(int64_t)target, page = at & X86_PAGE_MASK;
    const struct bound_page *p = t->bound ? bound_find(t->bound, page) : NULL;
    return p ? code_find(c, p->gpa | (at & ~X86_PAGE_MASK), t->key, 0, page) : NO_BLOCK;
}

static void add_link(struct translator *t, uint8_t *rel32, int32_t target)
{
    struct code *c = &t->vm->code;
    uint32_t n = c->links++;
    uint32_t to = known_target(t, target);
    c->link[n] = (struct link){.patch = (uint32_t)(rel32 - c->write),
                               .stub = (uint32_t)(t->e.at - c->write),
                               .block = t->block,
                               .target = target,
                               .to = to};
    emit_point(rel32, to ? c->write + c->block[to].code + c->block[to].near : t->e.at);
    emit_move_imm(&t->e, S2, n);
    emit_jump(&t->e, t->vm->link_piece);
}

bool control_joins(const struct translator *t)
{
    for (unsigned i = 0; i < t->exits; i++)
        if (t->exit[i].target == (int32_t)t->at)
            return true;
    return false;
}

/* Whether instruction i of the block is right behind STI, so that requests wait until it is behind
 * them (signal.c): a loop of it alone would never be left. */
static bool is_behind_sti(const struct translator *t, unsigned i)
{
    enum { STI = 0xfb };
    return i > 0 && t->point[i].guest - t->point[i - 1].guest == 1 &&
           t->page[t->point[i - 1].guest] == STI;
}

/* Which of the block's n instructions an exit leads to, if it may be come to from elsewhere; or n.
 * Blocks that count their instructions when they are entered have no loops inside. */
static unsigned inside(const struct translator *t, const struct side_exit *x, unsigned n)
{
    for (unsigned i = count_any(t) ? x->done : 0; i < n; i++)
        if ((int32_t)t->point[i].guest == x->target)
            return t->point[i].tied || is_behind_sti(t, i) ? n : i;
    return n;
}

static void lead_inside(struct translator *t, const struct side_exit *x, unsigned to)
{
    uint8_t *rel32 = x->rel32;
    if (count_any(t) && to > x->done) {
        emit_point(rel32, t->e.at);
        count_back_until(t, x->done, to);
        rel32 = emit_patchable_jump(&t->e);
    }
    if (!t->e.full)
        emit_point(rel32, t->start + t->point[to].host);
}

static void lead_on(struct translator *t, const struct side_exit *x, unsigned n)
{
    uint8_t *rel32 = x->rel32;
    int32_t target = x->target;
    if (t->e.full)
        return;
    unsigned to = inside(t, x, n);
    if (to < n) {
        lead_inside(t, x, to);
        return;
    }
    if (count_any(t) && !x->last) {
        emit_point(rel32, t->e.at);
        count_back(t, x->done);
        rel32 = emit_patchable_jump(&t->e);
        if (t->e.full)
            return;
    }
    if (!in_page(target) && !is_bound(t)) {
        emit_point(rel32, t->e.at);
        emit_in_page(t, target);
        emit_jump(&t->e, t->vm->jump_piece);
        return;
    }
    add_link(t, rel32, target);
}

static void add_exit(struct translator *t, uint8_t *rel32, int32_t target, bool last)
{
    t->exit[t->exits++] = (struct side_exit){rel32, target, t->done + 1, last};
}

void control_side_exits(struct translator *t, unsigned n)
{
    for (unsigned i = 0; i < t->exits; i++)
        lead_on(t, &t->exit[i], n);
    write_asides(t);
}

/* Looks for the guest address in S1 in the jump cache. Returns the branch that is taken when it is
 * there, at S2; the guest's RCX is in the context. */
static uint8_t *emit_find_jump(struct emit *e)
{
    struct host_mem tag = {HOST_NONE, S2, 3, true, GS_JUMP_TAG};
    struct host_mem sum = {.base = HOST_RCX, .index = S1}, mix = {.base = S2, .index = S1};
    struct host_mem twice = {.base = S2, .index = S2};
    emit_rorx(e, S2, S1, JUMP_HASH_BITS);
    emit_lea(e, 8, S2, &mix);
    emit_pext(e, S2, S2, GS_AREA + CTX_MASK_JUMP);
    emit_lea(e, 8, S2, &twice); /* an entry is 16 bytes, and the scale 8 at most */
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_op_mem(e, 8, 0x8b, HOST_RCX, &tag);
    emit_lea(e, 8, HOST_RCX, &sum);
    return emit_jrcxz(e);
}

/* Where that branch leads. */
static void emit_take_jump(struct emit *e, uint8_t *hit)
{
    struct host_mem to = {HOST_NONE, S2, 3, true, GS_JUMP_TO};
    emit_here(e, hit);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_jump_mem(e, &to);
}

/* Goes to the guest address in S1, by the jump cache. */
static void emit_jump_tail(struct emit *e, const uint8_t *miss)
{
    uint8_t *hit = emit_find_jump(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_jump(e, miss);
    emit_take_jump(e, hit);
}

/* The same for an indirect branch. RSP is where it will be: if the address turns out to be none,
 * binary_after_indirect() takes that back, for the block that CTX_LINK says. Bound code leaves it
 * to the block that it comes to to find out whether that is the one. */
static void emit_indirect_tail(struct translator *t)
{
    struct emit *e = &t->e;
    struct host_mem next = {HOST_NONE, S2, 3, true, GS_JUMP_NEXT};
    if (is_bound(t)) {
        emit_store_imm(e, GS_AREA + CTX_LINK, t->block);
        emit_movzx16(e, S2, S1);
        emit_jump_mem(e, &next);
        return;
    }
    uint8_t *hit = emit_find_jump(e);
    emit_move_imm(e, S2, t->block);
    emit_jump(e, t->vm->indirect_piece);
    emit_take_jump(e, hit);
}

void control_go(struct translator *t, int32_t target)
{
    if (in_page(target) || is_bound(t)) {
        add_exit(t, emit_patchable_jump(&t->e), target, true);
    } else {
        emit_in_page(t, target);
        emit_jump_tail(&t->e, t->vm->miss_piece);
    }
}

/* Where a relative branch goes, from the page's start. False: too far for an offset. */
static bool relative(const struct translator *t, int32_t *target)
{
    int64_t to = (int64_t)t->next + t->insn.imm;
    *target = (int32_t)to;
    return to == (int32_t)to;
}

bool control_jcc(struct translator *t)
{
    int32_t target;
    if (!relative(t, &target)) {
        control_emulate(t);
        return true;
    }
    add_exit(t, emit_patchable_jump_if(&t->e, t->insn.opcode & 15u), target, false);
    return false;
}

/* A trace: code that is hot goes on in one block where it branches to another place of its page.
 * Whether it does here, where the current instruction always goes to: then that is t->next. */
static bool follow(struct translator *t, int32_t target)
{
    enum { HOT = KEY_BOUND | KEY_USER };
    if ((t->key & HOT) != HOT || !in_page(target) || t->done + 1 == TRANSLATOR_INSNS ||
        is_translated(t, t->done + 1, (unsigned)target))
        return false;
    t->next = (unsigned)target;
    t->scattered = true;
    return true;
}

bool control_jmp(struct translator *t)
{
    int32_t target;
    if (!relative(t, &target)) {
        control_emulate(t);
        return true;
    }
    if (follow(t, target))
        return false;
    control_go(t, target);
    return true;
}

/* With RCX looked at by JRCXZ: to the exit when it is zero, or when it is not. */
static void exit_on_rcx(struct translator *t, bool zero, int32_t target)
{
    struct emit *e = &t->e;
    uint8_t *is_zero = emit_jrcxz(e);
    if (!zero) {
        add_exit(t, emit_patchable_jump(e), target, false);
        emit_here(e, is_zero);
        return;
    }
    uint8_t *on = emit_jump_short(e);
    emit_here(e, is_zero);
    add_exit(t, emit_patchable_jump(e), target, false);
    emit_here(e, on);
}

bool control_jcxz(struct translator *t)
{
    int32_t target;
    if (t->insn.addrsize != 8 || !relative(t, &target)) {
        control_emulate(t);
        return true;
    }
    exit_on_rcx(t, true, target);
    return false;
}

bool control_loop(struct translator *t)
{
    int32_t target;
    struct host_mem less = {.base = HOST_RCX, .index = HOST_NONE, .disp = -1};
    if (t->insn.addrsize != 8 || !relative(t, &target)) {
        control_emulate(t);
        return true;
    }
    emit_lea(&t->e, 8, HOST_RCX, &less);
    exit_on_rcx(t, false, target);
    return false;
}

/* ---- indirect branches ---- */

/* An indirect branch in two pages is left to C: binary_after_indirect() wants its bytes in one. */
static bool in_two_pages(struct translator *t)
{
    if (t->is_across)
        control_emulate(t);
    return t->is_across;
}

bool control_ret(struct translator *t)
{
    int32_t more = t->form->operand[0].kind == OPK_I ? (int32_t)t->insn.imm : 0;
    if (in_two_pages(t))
        return true;
    rewrite_load_top(t);
    rewrite_move_stack(t, 8 + more);
    emit_indirect_tail(t);
    return true;
}

bool control_jmp_rm(struct translator *t)
{
    if (in_two_pages(t))
        return true;
    if (!rewrite_load_rm(t)) {
        control_emulate(t);
        return true;
    }
    emit_indirect_tail(t);
    return true;
}

/* Pushes the address of the next instruction. */
static void push_return(struct translator *t)
{
    unsigned address = operand_scratch(t, HOST_NONE);
    emit_in_page_to(t, address, (int32_t)t->next);
    rewrite_push(t, address);
}

bool control_call(struct translator *t)
{
    int32_t target;
    if (!relative(t, &target)) {
        control_emulate(t);
        return true;
    }
    push_return(t);
    if (follow(t, target))
        return false;
    control_go(t, target);
    return true;
}

bool control_call_rm(struct translator *t)
{
    struct emit *e = &t->e;
    if (in_two_pages(t))
        return true;
    if (!rewrite_load_rm(t)) {
        control_emulate(t);
        return true;
    }
    emit_store(e, S1, GS_AREA + CTX_CODE);
    push_return(t);
    emit_load(e, S1, GS_AREA + CTX_CODE);
    emit_indirect_tail(t);
    return true;
}

void binary_unlink_for_good(struct binary_vm *vm, uint32_t n)
{
    struct code *c = &vm->code;
    struct link *l = &c->link[n];
    const struct translation *from = &c->block[l->block];
    struct emit e = code_begin(c);
    emit_page_address(&e, S1, from->key, from->va, l->target);
    emit_jump(&e, vm->jump_piece);
    emit_point(c->write + l->patch, code_take(c, &e));
}

/* ---- the pieces that blocks share ---- */

static void emit_leave(struct emit *e, unsigned reason)
{
    struct host_mem leave = {HOST_NONE, HOST_NONE, 0, true, GS_AREA + CTX_LEAVE};
    emit_store_imm(e, GS_AREA + CTX_REASON, reason);
    emit_jump_mem(e, &leave);
}

bool binary_emit_pieces(struct binary_vm *vm)
{
    struct code *c = &vm->code;
    struct emit e = {c->write, c->write + 4096, false};
    struct host_mem link = {HOST_NONE, HOST_NONE, 0, true, GS_AREA + CTX_LINK};

    vm->miss_piece = e.at;
    emit_store(&e, S1, GS_VCPU + STATE_RIP);
    emit_leave(&e, LEAVE_JUMP);

    vm->jump_piece = e.at;
    emit_jump_tail(&e, vm->miss_piece);

    vm->emulate_piece = e.at;
    emit_store(&e, S1, GS_VCPU + STATE_RIP);
    emit_store(&e, S2, GS_AREA + CTX_RESUME);
    emit_leave(&e, LEAVE_EMULATE);

    vm->request_piece = e.at;
    emit_store(&e, S1, GS_VCPU + STATE_RIP);
    emit_leave(&e, LEAVE_REQUEST);

    vm->limit_piece = e.at;
    emit_store(&e, S1, GS_VCPU + STATE_RIP);
    emit_leave(&e, LEAVE_LIMIT);

    vm->link_piece = e.at;
    emit_op_mem(&e, 4, 0x89, S2, &link);
    emit_leave(&e, LEAVE_LINK);

    vm->indirect_piece = e.at;
    emit_load(&e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_op_mem(&e, 4, 0x89, S2, &link);
    uint8_t *unknown = e.at;
    emit_store(&e, S1, GS_VCPU + STATE_RIP);
    emit_leave(&e, LEAVE_INDIRECT);

    vm->elsewhere_piece = e.at; /* from a bound block that is not the one: RCX is in S2 */
    emit_move(&e, HOST_RCX, S2);
    vm->next_piece = e.at;
    emit_jump_tail(&e, unknown);

    vm->stale_piece = e.at;
    emit_op_mem(&e, 4, 0x89, S2, &link);
    emit_leave(&e, LEAVE_STALE);

    syscall_emit_pieces(vm, &e);

    c->used = c->fixed = (uint32_t)(e.at - c->write + 63) & ~63u;
    return !e.full;
}

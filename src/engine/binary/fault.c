/*
 * Faults on the host: a page that its table does not have yet, an access over a page's end or to a
 * device, or a fault that is the guest's.
 */
#include "engine/binary/loop.h"
#include "engine/binary/translator.h"

struct access {
    uint64_t lin;
    unsigned size;
    bool write;
};

static const struct form_facts *facts_of(const struct binary_vcpu *b, const struct x86_insn *insn)
{
    return &b->vm->forms[insn->form];
}

/* How far from the address a bit string's operand is that a register's bit number picks. */
static uint64_t bit_string_offset(const struct x86_cpu *c, const struct x86_insn *insn)
{
    if (x86_form(insn)->operand[1].kind != OPK_G)
        return 0;
    uint64_t bit = c->s.gpr[insn->reg];
    switch (x86_operand_size(insn, 1)) {
    case 2: return (uint64_t)((int16_t)bit >> 4) * 2;
    case 4: return (uint64_t)(int64_t)((int32_t)bit >> 5) * 4;
    default: return (uint64_t)((int64_t)bit >> 6) * 8;
    }
}

static uint64_t effective_address(const struct x86_cpu *c, const struct x86_insn *insn,
                                  enum how how)
{
    uint64_t a = (uint64_t)insn->disp;
    if (insn->base == X86_BASE_RIP)
        a += c->s.rip + insn->len;
    else if (insn->base != X86_NO_REG)
        a += c->s.gpr[insn->base];
    if (insn->index != X86_NO_REG)
        a += c->s.gpr[insn->index] << insn->scale;
    if (how == HOW_BIT_STRING)
        a += bit_string_offset(c, insn);
    if (insn->addrsize == 4)
        a = (uint32_t)a;
    if (insn->segment == X86_FS || insn->segment == X86_GS)
        a += c->s.seg[insn->segment].base;
    return a;
}

/* The access to the stack that an instruction makes by itself, if it makes one. */
static bool stack_access(const struct x86_cpu *c, enum how how, struct access *out)
{
    const uint64_t *gpr = c->s.gpr;
    switch (how) {
    case HOW_PUSH_REG:
    case HOW_PUSH_IMM:
    case HOW_PUSH_RM:
    case HOW_PUSHF:
    case HOW_CALL:
    case HOW_CALL_RM: *out = (struct access){gpr[X86_RSP] - 8, 8, true}; return true;
    case HOW_POP_REG:
    case HOW_POPF:
    case HOW_RET: *out = (struct access){gpr[X86_RSP], 8, false}; return true;
    case HOW_LEAVE: *out = (struct access){gpr[X86_RBP], 8, false}; return true;
    default: return false;
    }
}

/* What an instruction of translated code may access in memory: at most two. */
static unsigned accesses(const struct binary_vcpu *b, const struct x86_insn *insn,
                         struct access *out)
{
    const struct x86_cpu *c = &b->v->cpu;
    const struct x86_form *form = x86_form(insn);
    const struct form_facts *f = facts_of(b, insn);
    enum how how = (enum how)f->how;
    unsigned n = 0;
    if (how == HOW_EMULATE)
        return 0;
    if (insn->is_mem && !(form->flags & X86_FORM_ADDRESS)) {
        bool write = x86_memory_operand(form) == 0 && !(f->uses & USES_FIRST_AS_SOURCE);
        unsigned size = x86_memory_size(insn);
        out[n++] = (struct access){effective_address(c, insn, how), size ? size : 1, write};
    }
    if (stack_access(c, how, &out[n]))
        n++;
    if (how == HOW_STRING) {
        /* The first byte stands for an element: one that crosses pages is not looked for. */
        if (x86_form_has(form, OPK_X))
            out[n++] = (struct access){c->s.gpr[X86_RSI], 1, false};
        out[n++] = (struct access){c->s.gpr[X86_RDI], 1, true};
    }
    return n;
}

static bool crosses_page(const struct access *a)
{
    return ((a->lin + a->size - 1) ^ a->lin) & X86_PAGE_MASK;
}

/* Whether a page may only be written after a look. */
static bool is_watched(const struct memory *m, uint64_t gpa)
{
    return atomic_load_explicit(memory_flags(m, gpa), memory_order_relaxed) &
           (MEMORY_CODE | MEMORY_CLEAN);
}

static bool enter_page(struct binary_vcpu *b, struct table *t, uint64_t lin,
                       const struct x86_walk *w)
{
    const struct memory *m = b->v->vm->memory;
    const struct memory_region *r = memory_find(m, w->gpa);
    if (!table_is_ready(t, lin))
        binary_outside(b);
    b->filled++;
    return table_fill(t, lin, memory_offset(r, w->gpa), w->writable && !is_watched(m, w->gpa),
                      w->global);
}

bool binary_fill_supervisor(struct binary_vcpu *b, uint64_t lin, const struct x86_walk *w)
{
    struct table *t = spaces_table(&b->spaces, VIEW_SUPERVISOR);
    return table_has(t, lin, false) || enter_page(b, t, lin, w);
}

/* Pages round one that was missing that have been used before: likely to be wanted again. */
enum { NEIGHBOURS = 16 };

static void fill_neighbours(struct binary_vcpu *b, struct table *t, uint64_t lin)
{
    struct x86_cpu *c = &b->v->cpu;
    uint64_t first = lin & ~(uint64_t)(NEIGHBOURS * MEMORY_PAGE_SIZE - 1);
    for (unsigned i = 0; i < NEIGHBOURS; i++) {
        uint64_t page = first + i * (uint64_t)MEMORY_PAGE_SIZE;
        struct x86_walk w;
        if (!table_has(t, page, false) && x86_walk(c, page, X86_PEEK, privilege(b), &w) &&
            memory_find(b->v->vm->memory, w.gpa))
            enter_page(b, t, page, &w);
    }
}

/* Enters the page into the view in use. False: the access is not one for a table. */
static bool fill(struct binary_vcpu *b, const struct access *a)
{
    struct x86_cpu *c = &b->v->cpu;
    const struct memory *m = b->v->vm->memory;
    struct table *t = spaces_table(&b->spaces, current_view(c));
    struct x86_walk w;
    if (crosses_page(a))
        return false;
    if (table_has(t, a->lin, a->write))
        return true;
    if (!x86_canonical(a->lin) ||
        !x86_walk(c, a->lin, a->write ? X86_WRITE : X86_READ, privilege(b), &w) ||
        !memory_find(m, w.gpa) || (a->write && is_watched(m, w.gpa)) ||
        !enter_page(b, t, a->lin, &w))
        return false;
    fill_neighbours(b, t, a->lin);
    return true;
}

bool binary_fill(struct binary_vcpu *b, uint64_t lin, bool write)
{
    struct access a = {lin, 1, write};
    return fill(b, &a);
}

/* Of the guest's byte at gpa in the bits of struct binary_vm. */
static uint64_t ram_offset(const struct binary_vcpu *b, uint64_t gpa)
{
    return memory_offset(memory_find(b->v->vm->memory, gpa), gpa);
}

static void mark(uint8_t *marks, uint64_t offset)
{
    __atomic_fetch_or(&marks[offset / 8], (uint8_t)(1u << (offset % 8)), __ATOMIC_RELAXED);
}

/* Makes the block again, with what is known now. */
static void drop_block(struct binary_vcpu *b, uint32_t n)
{
    struct code *c = &b->vm->code;
    binary_outside(b);
    bool closed = binary_close_gate(b);
    code_drop_one(c, n, b->vm->stale_piece);
    if (closed)
        gate_open(&b->v->vm->gate, true);
}

/* Executes the instruction at RIP, and has its block made again: with more care, by what has been
 * marked. A fault costs thousands of times what the care does that avoids it. */
static enum engine_exit take_care(struct binary_vcpu *b)
{
    drop_block(b, b->resume_block);
    binary_forget_place(b);
    return binary_emulate_one(b);
}

static enum engine_exit after_overrun(struct binary_vcpu *b, uint64_t gpa)
{
    uint64_t offset = ram_offset(b, gpa);
    mark(b->vm->overran, is_marked(b->vm->overran, offset) ? offset + 1 : offset);
    return take_care(b);
}

static enum engine_exit after_crossing(struct binary_vcpu *b, uint64_t gpa)
{
    mark(b->vm->checked, ram_offset(b, gpa));
    return take_care(b);
}

enum engine_exit binary_after_fault(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    const struct translation *t = &b->vm->code.block[b->resume_block];
    void *resume = b->resume;
    uint64_t gpa = (t->gpa & X86_PAGE_MASK) | (c->s.rip & ~X86_PAGE_MASK);
    struct x86_insn insn;
    struct access access[2];
    /* An address that is not canonical is #SS, so SIGBUS, where it is made from RSP or RBP: that is
     * what a missing page of a kernel's stack looks like. */
    bool memory = b->fault_signal == SIGSEGV || b->fault_signal == SIGBUS;
    if (memory && binary_decode_at(b, gpa, &insn)) {
        uint64_t filled = b->filled;
        unsigned n = accesses(b, &insn, access), done = 0;
        while (done < n && fill(b, &access[done]))
            done++;
        bool all = n && done == n;
        if (all && b->filled != filled) {
            b->resume = resume;
            return ENGINE_LIMIT;
        }
        if (all) /* they are where they should be: one went by another's addend */
            return after_overrun(b, gpa);
        if (done < n && crosses_page(&access[done]))
            return after_crossing(b, gpa);
        if (done < n) {
            b->retry_rip = c->s.rip;
            b->retry_lin = access[done].lin;
            b->retry_write = access[done].write;
            b->user_faults += is_user(c);
        }
    }
    return binary_emulate_at(b, binary_site(resume, true), b->resume_block);
}

/* The guest comes back to an instruction that has faulted: it would do so on the host again. */
void binary_retry(struct binary_vcpu *b)
{
    b->retry_rip = UINT64_MAX;
    binary_fill(b, b->retry_lin, b->retry_write);
}

/* An indirect branch at the end of block n has moved RSP, but not faulted yet: takes that back. */
static void back_before_branch(struct binary_vcpu *b, uint32_t n)
{
    struct x86_cpu *c = &b->v->cpu;
    const struct code *code = &b->vm->code;
    const struct translation *t = &code->block[n];
    unsigned at = code->point[t->points + t->insns - 1u].guest;
    struct x86_insn insn;
    c->s.rip = binary_page(b, n) + at;
    if (b->counted)
        c->insns--;
    if (!binary_decode_at(b, (t->gpa & X86_PAGE_MASK) + at, &insn))
        return; /* somebody is writing it */
    enum how how = (enum how)facts_of(b, &insn)->how;
    if (how == HOW_RET)
        c->s.gpr[X86_RSP] -= 8 + (x86_form(&insn)->operand[0].kind == OPK_I ? insn.imm : 0);
    else if (how == HOW_CALL_RM)
        c->s.gpr[X86_RSP] += 8;
}

enum engine_exit binary_after_indirect(struct binary_vcpu *b)
{
    if (x86_canonical(b->v->cpu.s.rip))
        return ENGINE_LIMIT;
    back_before_branch(b, b->context->link);
    return binary_emulate_one(b);
}

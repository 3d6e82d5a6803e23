/*
 * Where an instruction's memory operand is on the host: the guest's address and, from the flat
 * table, the addend of its page.
 *
 * An addend stays in its scratch register for the instructions that follow, for as long as the
 * registers of the address do not change or change by a known number. It is good for everything
 * within a page's length of the address it was looked up for: what lies in the same page is right,
 * and the pages next to it are guard pages in the window that the addend leads to (windows.h), so
 * that an access that should have had another addend faults. From then on it goes only by an addend
 * of something close by, and if that fails, too, by one of its own (fault.c).
 */
#include "engine/binary/translator.h"

/* ---- what the scratch registers hold ---- */

static unsigned register_of(unsigned i)
{
    return i ? S2 : S1;
}

static unsigned index_of(unsigned scratch)
{
    return scratch == S2;
}

void operand_forget(struct translator *t)
{
    t->held[0].base = t->held[1].base = HELD_NOTHING;
}

bool operand_holds(const struct translator *t)
{
    return t->held[0].base != HELD_NOTHING || t->held[1].base != HELD_NOTHING;
}

void operand_forget_registers(struct translator *t, unsigned mask)
{
    for (unsigned i = 0; i < ARRAY_LEN(t->held); i++)
        if (t->held[i].base < 16 && mask >> t->held[i].base & 1)
            t->held[i].base = HELD_NOTHING;
}

void operand_register_moved(struct translator *t, unsigned reg, int32_t by)
{
    enum { FAR = 1 << 24 };
    for (unsigned i = 0; i < ARRAY_LEN(t->held); i++) {
        struct held *h = &t->held[i];
        if (h->base != reg)
            continue;
        if (by > -FAR && by < FAR && h->offset > -FAR && h->offset < FAR)
            h->offset -= by;
        else
            h->base = HELD_NOTHING;
    }
}

void operand_register_becomes(struct translator *t, unsigned from, unsigned to, int32_t by)
{
    operand_forget_registers(t, 1u << to);
    for (unsigned i = 0; i < ARRAY_LEN(t->held); i++)
        if (t->held[i].base == from)
            t->held[i] = (struct held){(uint8_t)to, t->held[i].offset - by};
}

/* What a scratch register that has a displaced register's value is said to hold. */
static unsigned value_of(unsigned reg)
{
    return reg == HOST_R10 ? HELD_R10 : HELD_R11;
}

unsigned operand_scratch(struct translator *t, unsigned busy)
{
    unsigned i = t->last_used == 0 ? 1 : 0;
    if (t->held[!i].base == HELD_NOTHING && t->held[i].base != HELD_NOTHING)
        i = !i;
    if (register_of(i) == busy)
        i = !i;
    t->held[i].base = HELD_NOTHING;
    t->last_used = i;
    return register_of(i);
}

static void hold(struct translator *t, unsigned scratch, unsigned base, int32_t offset)
{
    t->held[index_of(scratch)] = (struct held){(uint8_t)base, offset};
}

/* The scratch register that has a displaced register's value, or HOST_NONE. */
static unsigned find_value(const struct translator *t, unsigned reg)
{
    for (unsigned i = 0; i < ARRAY_LEN(t->held); i++)
        if (t->held[i].base == value_of(reg))
            return register_of(i);
    return HOST_NONE;
}

bool operand_has_value(const struct translator *t, unsigned reg)
{
    return find_value(t, reg) != HOST_NONE;
}

unsigned operand_place(struct translator *t, unsigned reg, unsigned busy)
{
    if (!displaced(reg))
        return reg;
    unsigned at = find_value(t, reg);
    if (at == HOST_NONE)
        return operand_scratch(t, busy);
    t->last_used = index_of(at);
    return at;
}

unsigned operand_value(struct translator *t, unsigned reg, unsigned busy)
{
    bool there = !displaced(reg) || operand_has_value(t, reg);
    unsigned at = operand_place(t, reg, busy);
    if (there)
        return at;
    emit_load(&t->e, at, GS_GPR(reg));
    hold(t, at, value_of(reg), 0);
    return at;
}

void operand_keep(struct translator *t, unsigned reg, unsigned place)
{
    if (!displaced(reg))
        return;
    for (unsigned i = 0; i < ARRAY_LEN(t->held); i++)
        if (t->held[i].base == value_of(reg))
            t->held[i].base = HELD_NOTHING;
    emit_store(&t->e, place, GS_GPR(reg));
    hold(t, place, value_of(reg), 0);
}

/* How far n bytes at disp reach from an offset. */
static int64_t distance(int32_t offset, int32_t disp, unsigned n)
{
    int64_t from = (int64_t)disp - offset;
    return from < 0 ? -from : from + n;
}

/* The scratch register that holds the nearest addend for n bytes at [base + disp], or HOST_NONE. */
static unsigned find_held(struct translator *t, unsigned base, int32_t disp, unsigned n,
                          unsigned busy)
{
    unsigned found = HOST_NONE;
    int64_t least = t->reach;
    for (unsigned i = 0; i < ARRAY_LEN(t->held); i++) {
        const struct held *h = &t->held[i];
        int64_t far = distance(h->offset, disp, n);
        if (h->base == base && far <= least && register_of(i) != busy) {
            found = register_of(i);
            least = far;
            t->last_used = i;
        }
    }
    return found;
}

/* ---- looking up ---- */

static struct host_mem based(unsigned base, int32_t disp)
{
    return (struct host_mem){.base = (uint8_t)base, .index = HOST_NONE, .disp = disp};
}

/* to := the addend of the page that the address in `reg` is in. */
static void emit_lookup(struct emit *e, unsigned to, unsigned reg)
{
    emit_rorx(e, to, reg, 12);
    emit_move32(e, to, to);
    struct host_mem m = {.base = HOST_NONE, .index = (uint8_t)to, .scale = 3, .gs = true};
    emit_op_mem(e, 8, 0x8b, to, &m);
}

/* Leaves for C if the n bytes at the address in `reg`, a scratch register, are not in one page. No
 * flags: JRCXZ is the one branch that needs none. */
static void emit_page_end_check(struct translator *t, unsigned reg, unsigned n)
{
    struct emit *e = &t->e;
    struct host_mem last = based(HOST_RCX, (int32_t)n - 1);
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_pext(e, HOST_RCX, reg, GS_AREA + CTX_OFFSET_MASK);
    emit_lea(e, 8, HOST_RCX, &last);
    emit_rorx(e, HOST_RCX, HOST_RCX, 12);
    emit_movzx8(e, HOST_RCX, HOST_RCX);
    uint8_t *inside = emit_jrcxz(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    control_emulate_aside(t);
    emit_here(e, inside);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
}

/* Whether to look for a page end within n bytes. */
static bool must_check(const struct translator *t, unsigned n)
{
    return n > 1 && t->check;
}

/* Returns the scratch register with the addend for n bytes at [base + disp]; the base's value is in
 * host register `value`. */
static unsigned addend(struct translator *t, unsigned base, unsigned value, int32_t disp,
                       unsigned n, unsigned busy)
{
    struct emit *e = &t->e;
    struct host_mem at = based(value, disp);
    if (must_check(t, n)) {
        unsigned address = operand_scratch(t, busy);
        emit_lea(e, 8, address, &at);
        emit_page_end_check(t, address, n);
    }
    unsigned to = find_held(t, base, disp, n, busy);
    if (to != HOST_NONE)
        return to;
    to = operand_scratch(t, busy);
    bool near = t->reach == OPERAND_REACH && distance(0, disp, n) <= OPERAND_REACH;
    if (!near && disp)
        emit_lea(e, 8, to, &at);
    emit_lookup(e, to, near || !disp ? value : to);
    hold(t, to, base, near ? 0 : disp);
    return to;
}

unsigned operand_addend(struct translator *t, unsigned base, int32_t disp, unsigned n,
                        unsigned busy)
{
    return addend(t, base, base, disp, n, busy);
}

void operand_lookup(struct translator *t)
{
    operand_forget(t);
    emit_lookup(&t->e, S2, S1);
}

/* ---- kinds of operands ---- */

static bool through_segment(const struct x86_insn *insn)
{
    return insn->segment == X86_FS || insn->segment == X86_GS;
}

bool operand_address(struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    struct host_mem m = {.base = HOST_NONE, .index = HOST_NONE, .scale = insn->scale};
    int64_t disp = insn->disp;
    operand_forget(t);
    if (insn->base == X86_BASE_RIP) {
        emit_in_page(t, 0);
        m.base = S1;
        disp += t->next;
    } else if (insn->base != X86_NO_REG) {
        m.base = insn->base;
        if (displaced(insn->base)) {
            emit_load(e, S1, GS_GPR(insn->base));
            m.base = S1;
        }
    }
    if (insn->index != X86_NO_REG) {
        m.index = insn->index;
        if (displaced(insn->index)) {
            emit_load(e, S2, GS_GPR(insn->index));
            m.index = S2;
        }
    }
    if (disp != (int32_t)disp)
        return false;
    m.disp = (int32_t)disp;
    emit_lea(e, insn->addrsize, S1, &m);
    if (through_segment(insn)) {
        struct host_mem sum = {.base = S1, .index = S2};
        emit_load(e, S2, GS_VCPU + (insn->segment == X86_FS ? STATE_FS_BASE : STATE_GS_BASE));
        emit_lea(e, 8, S1, &sum);
    }
    return true;
}

/* [register + disp]. */
static void based_operand(struct translator *t, unsigned n, struct host_mem *m)
{
    unsigned base = t->insn.base;
    int32_t disp = (int32_t)t->insn.disp;
    unsigned value = operand_value(t, base, HOST_NONE);
    unsigned a = addend(t, base, value, disp, n, value);
    *m = (struct host_mem){.base = (uint8_t)value, .index = (uint8_t)a, .disp = disp};
}

/* [register + register * scale + disp], of which one may be displaced: at the cost of an
 * instruction more than in two scratch registers, the other one keeps what it holds. */
static void indexed_operand(struct translator *t, unsigned n, struct host_mem *m)
{
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    unsigned base = operand_value(t, insn->base, HOST_NONE);
    unsigned index = operand_value(t, insn->index, HOST_NONE);
    struct host_mem at = {.base = (uint8_t)base,
                          .index = (uint8_t)index,
                          .scale = insn->scale,
                          .disp = (int32_t)insn->disp};
    unsigned a = operand_scratch(t, displaced(base) ? base : index);
    struct host_mem sum = {.base = at.base, .index = (uint8_t)a};
    emit_lea(e, 8, a, &at);
    if (must_check(t, n))
        emit_page_end_check(t, a, n);
    emit_lookup(e, a, a);
    emit_lea(e, 8, a, &sum);
    at.base = (uint8_t)a;
    *m = at;
}

/* What an operand without registers of its own is relative to: the number, where it is known, or
 * else where the guest's value of it is, from GS; and its name among the bases. */
struct fixed {
    bool known;
    uint64_t number;
    int32_t value;
    unsigned base;
    int64_t disp;
};

static bool is_fixed(const struct translator *t, struct fixed *f)
{
    const struct x86_insn *insn = &t->insn;
    if (insn->addrsize != 8 || insn->index != X86_NO_REG)
        return false;
    if (insn->base == X86_BASE_RIP && !through_segment(insn))
        *f = (struct fixed){.known = is_bound(t),
                            .number = t->va,
                            .value = GS_AREA + CTX_BASE,
                            .base = HELD_PAGE,
                            .disp = insn->disp + t->next};
    else if (insn->base == X86_NO_REG && insn->segment == X86_FS)
        *f = (struct fixed){.value = GS_VCPU + STATE_FS_BASE, .base = HELD_FS, .disp = insn->disp};
    else if (insn->base == X86_NO_REG && insn->segment == X86_GS)
        *f = (struct fixed){.value = GS_VCPU + STATE_GS_BASE, .base = HELD_GS, .disp = insn->disp};
    else if (insn->base == X86_NO_REG)
        *f = (struct fixed){.known = true, .base = HELD_ZERO, .disp = insn->disp};
    else
        return false;
    uint64_t address = f->number + (uint64_t)f->disp;
    if (f->known && (int64_t)address == (int32_t)address)
        *f = (struct fixed){.known = true, .base = HELD_ZERO, .disp = (int64_t)address};
    return f->disp == (int32_t)f->disp;
}

/* to := the addend of the page that the address is in. */
static void emit_lookup_number(struct emit *e, unsigned to, uint64_t address)
{
    struct host_mem entry = {.base = HOST_NONE, .index = (uint8_t)to, .scale = 3, .gs = true};
    emit_move_imm(e, to, (uint32_t)(address >> MEMORY_PAGE_BITS));
    emit_op_mem(e, 8, 0x8b, to, &entry);
}

/* S2 := number + the addend of the page that number + disp is in. */
static void emit_lookup_known(struct emit *e, uint64_t number, int32_t disp)
{
    struct host_mem sum = {.base = S2, .index = S1};
    emit_lookup_number(e, S2, number + (uint64_t)(int64_t)disp);
    emit_move_imm64(e, S1, number);
    emit_lea(e, 8, S2, &sum);
}

static void emit_lookup_fixed(struct translator *t, const struct fixed *f, unsigned n)
{
    struct emit *e = &t->e;
    struct host_mem at = based(S1, (int32_t)f->disp), sum = {.base = S2, .index = S1};
    emit_load(e, S1, f->value);
    emit_lea(e, 8, S2, &at);
    if (must_check(t, n))
        emit_page_end_check(t, S2, n);
    emit_lookup(e, S2, S2);
    emit_lea(e, 8, S2, &sum);
}

/* Whether n bytes at an address that is known run over its page's end. */
static bool runs_over(const struct fixed *f, unsigned n)
{
    uint64_t address = f->number + (uint64_t)f->disp;
    return f->known && ((address + n - 1) ^ address) >> MEMORY_PAGE_BITS;
}

/* The scratch register has the base and the addend in one. */
static void fixed_operand(struct translator *t, const struct fixed *f, unsigned n,
                          struct host_mem *m)
{
    int32_t disp = (int32_t)f->disp;
    unsigned a = must_check(t, n) ? HOST_NONE : find_held(t, f->base, disp, n, HOST_NONE);
    if (a == HOST_NONE && f->known && !f->number) {
        a = operand_scratch(t, HOST_NONE);
        emit_lookup_number(&t->e, a, (uint64_t)f->disp);
        hold(t, a, f->base, disp);
    } else if (a == HOST_NONE) {
        operand_forget(t);
        if (f->known)
            emit_lookup_known(&t->e, f->number, disp);
        else
            emit_lookup_fixed(t, f, n);
        a = S2;
        t->last_used = index_of(S2);
        hold(t, S2, f->base, disp);
    }
    *m = based(a, disp);
}

/* Whether indexed_operand() is for it, and better than both scratch registers. */
static bool is_indexed(const struct translator *t)
{
    const struct x86_insn *insn = &t->insn;
    bool base = displaced(insn->base), index = displaced(insn->index);
    return base != index || (!base && operand_holds(t));
}

bool operand_memory(struct translator *t, unsigned n, struct host_mem *m)
{
    const struct x86_insn *insn = &t->insn;
    struct emit *e = &t->e;
    struct fixed fixed;
    bool plain = insn->base < 16 && insn->addrsize == 8 && !through_segment(insn);
    if (plain && insn->index == X86_NO_REG) {
        based_operand(t, n, m);
        return true;
    }
    if (plain && is_indexed(t)) {
        indexed_operand(t, n, m);
        return true;
    }
    if (is_fixed(t, &fixed)) {
        if (runs_over(&fixed, n))
            return false;
        fixed_operand(t, &fixed, n, m);
        return true;
    }
    if (!operand_address(t))
        return false;
    if (must_check(t, n))
        emit_page_end_check(t, S1, n);
    emit_lookup(e, S2, S1);
    *m = (struct host_mem){.base = S1, .index = S2};
    return true;
}

bool operand_memory_beside(struct translator *t, unsigned n, struct host_mem *m, unsigned reg,
                           bool read, unsigned *scratch)
{
    if (!operand_memory(t, n, m))
        return false;
    if (!operand_has_value(t, reg) && displaced(m->base) && displaced(m->index)) {
        unsigned sum = m->index;
        emit_lea(&t->e, 8, sum, m);
        operand_forget(t);
        *m = based(sum, 0);
    }
    unsigned busy = displaced(m->base) ? m->base : m->index;
    *scratch = read ? operand_value(t, reg, busy) : operand_place(t, reg, busy);
    return true;
}

/*
 * IRET between 64-bit code of CPL 0, or from there to CPL 3, without leaving translated code.
 *
 * What loading CS and SS gives depends on the selectors and their descriptors, which are in memory
 * that the guest writes as it likes. C does an IRET first, and notes the selectors, the descriptors
 * and what came of them; translated code does those after it for which both are the same, reading
 * the descriptors again each time. Everything else that IRET looks at is looked at here, or it is
 * left to C: an NMI that is blocked, NT, flags other than the usual, targets that are not
 * canonical, data segments that a return to CPL 3 would take away.
 */
#include "base/bytes.h"
#include "engine/binary/loop.h"
#include "engine/binary/translator.h"
#include "x86/descriptor.h"
#include "x86/flags.h"

enum {
    IRET_KEEPS = FLAG_IOPL | FLAG_ID, /* what goes to the state as it is */
    IRET_USUAL = IRET_KEEPS | FLAGS_STATUS | FLAG_DF | FLAG_IF | FLAG_1 | FLAG_RF,
};

/* ---- for C ---- */

static void forget_known(struct context *x)
{
    for (unsigned i = 0; i < ARRAY_LEN(x->iret); i++)
        x->iret[i] = (struct iret_known){.cs = UINT64_MAX};
}

void binary_iret_init(struct context *x)
{
    x->mask_iret_rare = ~(uint64_t)IRET_USUAL;
    x->mask_iret = IRET_KEEPS;
    x->mask_1 = 1;
    x->mask_8 = 8;
    forget_known(x);
}

/* Whether a return to CPL 3 takes the segment away (SDM 2, IRET). */
static bool is_dropped(const struct x86_segment *s)
{
    bool conforming = (s->attr & (SEG_CODE | SEG_EXPAND_DOWN)) == (SEG_CODE | SEG_EXPAND_DOWN);
    return !(s->attr & SEG_UNUSABLE) && (s->attr & SEG_DPL) != SEG_DPL && !conforming;
}

void binary_iret_prepare(struct binary_vcpu *b)
{
    const struct x86_state *s = &b->v->cpu.s;
    struct context *x = b->context;
    if (x->gdt_base != s->gdtr.base || x->gdt_limit != s->gdtr.limit) {
        forget_known(x);
        x->gdt_base = s->gdtr.base;
        x->gdt_limit = s->gdtr.limit;
    }
    x->no_iret = s->nmi_blocked || (s->rflags & FLAG_NT);
    x->retry_rip = b->retry_rip;
    bool drops = is_dropped(&s->seg[X86_DS]) || is_dropped(&s->seg[X86_ES]) ||
                 is_dropped(&s->seg[X86_FS]) || is_dropped(&s->seg[X86_GS]);
    for (unsigned i = 0; i < ARRAY_LEN(x->iret); i++) {
        x->iret[i].blocked = i >= IRET_USER && drops;
        x->iret[i].table = i >= IRET_USER ? x->table_user : x->table_supervisor;
    }
}

/* Where the selector's descriptor is, and what it is. False: it is nothing to go by. */
static bool find_descriptor(struct binary_vcpu *b, uint16_t selector, uint64_t *lin, uint64_t *raw)
{
    enum { LDT = 4 };
    struct x86_cpu *c = &b->v->cpu;
    struct x86_walk w;
    *lin = c->s.gdtr.base + (selector & 0xfff8);
    if ((selector & LDT) || (selector | 7) > c->s.gdtr.limit || *lin % 8 ||
        !x86_walk(c, *lin, X86_READ, X86_AS_SUPERVISOR, &w) ||
        !memory_find(b->v->vm->memory, w.gpa) || !binary_fill_supervisor(b, *lin, &w))
        return false;
    *raw = load_u64(memory_hva(b->v->vm->memory, w.gpa));
    return true;
}

static uint64_t limit_and_attr(const struct x86_segment *s)
{
    return s->limit | (uint64_t)s->attr << 32;
}

void binary_iret_learn(struct binary_vcpu *b)
{
    const struct x86_cpu *c = &b->v->cpu;
    const struct x86_segment *cs = &c->s.seg[X86_CS], *ss = &c->s.seg[X86_SS];
    struct context *x = b->context;
    bool null_ss = (ss->selector & ~3u) == 0;
    struct iret_known *known = &x->iret[(cs->selector & 1) * IRET_USER + (ss->selector >> 3 & 1)];
    struct iret_known k = {.cs = cs->selector, .ss = ss->selector, .cpl = c->cpl};
    if (c->code != X86_CODE64 || (c->cpl != 0 && c->cpl != 3) || (cs->selector & 3) != c->cpl ||
        cs->base || ss->base || !find_descriptor(b, cs->selector, &k.cs_lin, &k.cs_raw))
        return;
    k.ss_lin = k.cs_lin;
    k.ss_raw = k.cs_raw;
    if (!null_ss && !find_descriptor(b, ss->selector, &k.ss_lin, &k.ss_raw))
        return;
    k.cs_rest = limit_and_attr(cs);
    k.ss_rest = limit_and_attr(ss);
    *known = k;
}

/* ---- in the block ---- */

enum { CHECKS = 16 };

/* Jumps to what leaves for C. */
struct checks {
    uint8_t *failed[CHECKS];
    unsigned n;
};

/* Goes on only if `reg` is 0; RCX is spoilt. */
static void need_zero(struct emit *e, struct checks *checks, unsigned reg)
{
    emit_move(e, HOST_RCX, reg);
    uint8_t *right = emit_jrcxz(e);
    checks->failed[checks->n++] = emit_patchable_jump(e);
    emit_here(e, right);
}

/* S1 - S2 has to be 0; both are spoilt. */
static void need_same(struct emit *e, struct checks *checks)
{
    struct host_mem difference = {.base = S1, .index = S2, .disp = 1};
    emit_not(e, S2);
    emit_lea(e, 8, S1, &difference);
    need_zero(e, checks, S1);
}

enum { FRAME_RIP, FRAME_CS, FRAME_FLAGS, FRAME_RSP, FRAME_SS, FRAME_WORDS };

static int32_t frame(unsigned word)
{
    return GS_AREA + CTX_IRET_FRAME + (int32_t)(8 * word);
}

/* to := a member of what is known of the frame's selectors; to may be S2. */
static void emit_known(struct emit *e, unsigned to, size_t member)
{
    struct host_mem m = {HOST_NONE, S2, 3, true, GS_AREA + CTX_IRET + (int32_t)member};
    emit_load(e, S2, GS_AREA + CTX_IRET_INDEX);
    emit_op_mem(e, 8, 0x8b, to, &m);
}

#define KNOWN(member) offsetof(struct iret_known, member)

/* S2 := the addend of the page that the address in `reg` is in. */
static void emit_addend(struct emit *e, unsigned reg)
{
    struct host_mem entry = {.base = HOST_NONE, .index = S2, .scale = 3, .gs = true};
    emit_rorx(e, S2, reg, 12);
    emit_move32(e, S2, S2);
    emit_op_mem(e, 8, 0x8b, S2, &entry);
}

static void emit_take_frame(struct emit *e)
{
    struct host_mem word = {.base = HOST_RSP, .index = S2};
    emit_addend(e, HOST_RSP);
    for (unsigned i = 0; i < FRAME_WORDS; i++) {
        word.disp = (int32_t)(8 * i);
        emit_op_mem(e, 8, 0x8b, S1, &word);
        emit_store(e, S1, frame(i));
    }
}

/* The number of what is known of the selectors: by CPL, and by a bit that null does not have. */
static void emit_index(struct emit *e)
{
    struct host_mem both = {.base = S1, .index = S2, .scale = 1};
    struct host_mem more = {.base = HOST_NONE, .index = S1, .scale = 3};
    struct host_mem twice = {.base = S1, .index = S1};
    emit_load(e, S1, frame(FRAME_SS));
    emit_pext(e, S1, S1, GS_AREA + CTX_MASK_8);
    emit_load(e, S2, frame(FRAME_CS));
    emit_pext(e, S2, S2, GS_AREA + CTX_MASK_1);
    emit_lea(e, 8, S1, &both);
    emit_lea(e, 8, S1, &more);
    emit_lea(e, 8, S1, &twice); /* in units of eight bytes, 16 for each */
    emit_store(e, S1, GS_AREA + CTX_IRET_INDEX);
}

static void emit_checks(struct emit *e, struct checks *checks)
{
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_load(e, S1, GS_AREA + CTX_NO_IRET);
    need_zero(e, checks, S1);
    emit_load(e, S1, frame(FRAME_FLAGS));
    emit_pext(e, S1, S1, GS_AREA + CTX_MASK_RARER);
    need_zero(e, checks, S1);
    emit_load(e, S1, frame(FRAME_RIP));
    emit_not_canonical(e, S1, S1);
    need_zero(e, checks, S1);
    emit_index(e);
    emit_load_u16(e, S1, frame(FRAME_CS));
    emit_known(e, S2, KNOWN(cs));
    need_same(e, checks);
    emit_load_u16(e, S1, frame(FRAME_SS));
    emit_known(e, S2, KNOWN(ss));
    need_same(e, checks);
    emit_known(e, S1, KNOWN(blocked));
    need_zero(e, checks, S1);
    /* An instruction that is come back to after its page fault: C knows what it wanted. */
    emit_load(e, S1, frame(FRAME_RIP));
    emit_load(e, HOST_RCX, GS_AREA + CTX_RETRY_RIP);
    emit_not(e, HOST_RCX);
    struct host_mem difference = {.base = HOST_RCX, .index = S1, .disp = 1};
    emit_lea(e, 8, HOST_RCX, &difference);
    uint8_t *retry = emit_jrcxz(e);
    uint8_t *other = emit_jump_short(e);
    emit_here(e, retry);
    checks->failed[checks->n++] = emit_patchable_jump(e);
    emit_here(e, other);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
}

/* The descriptor at the address `lin` is still `raw`. What may fault comes first. */
static void emit_read_descriptor(struct emit *e, size_t lin, unsigned to)
{
    struct host_mem at = {.base = S1, .index = S2};
    emit_known(e, S1, lin);
    emit_addend(e, S1);
    emit_op_mem(e, 8, 0x8b, S1, &at);
    emit_store(e, S1, GS_AREA + CTX_IRET_RAW + (int32_t)(8 * to));
}

static void emit_compare_descriptor(struct emit *e, struct checks *checks, size_t raw, unsigned to)
{
    emit_load(e, S1, GS_AREA + CTX_IRET_RAW + (int32_t)(8 * to));
    emit_known(e, S2, raw);
    need_same(e, checks);
}

static void emit_segment(struct emit *e, unsigned seg, size_t selector, size_t rest)
{
    int32_t at =
        GS_VCPU + (int32_t)(offsetof(struct x86_state, seg) + seg * sizeof(struct x86_segment));
    emit_store_imm64(e, at + (int32_t)offsetof(struct x86_segment, base), 0);
    emit_known(e, S1, rest);
    emit_store(e, S1, at + (int32_t)offsetof(struct x86_segment, limit));
    emit_known(e, S1, selector);
    emit_store_u16(e, S1, at + (int32_t)offsetof(struct x86_segment, selector));
}

_Static_assert(offsetof(struct x86_segment, attr) == offsetof(struct x86_segment, limit) + 4,
               "both are stored at once");

static void emit_go(struct emit *e)
{
    struct host_mem cpl = {HOST_NONE, HOST_NONE, 0, true,
                           GS_VCPU + (int32_t)offsetof(struct engine_vcpu, cpu.cpl)};
    struct host_mem with_1 = {.base = S2, .index = HOST_NONE, .disp = FLAG_1};
    emit_segment(e, X86_CS, KNOWN(cs), KNOWN(cs_rest));
    emit_segment(e, X86_SS, KNOWN(ss), KNOWN(ss_rest));
    emit_known(e, S1, KNOWN(cpl));
    emit_op_mem(e, 1, 0x88, S1, &cpl);
    emit_store_imm64(e, GS_AREA + CTX_AC, 0);
    emit_known(e, S2, KNOWN(table));
    emit_wrgsbase(e, S2);
    emit_load(e, S1, frame(FRAME_FLAGS));
    emit_pext(e, S2, S1, GS_AREA + CTX_MASK_IRET);
    emit_pdep(e, S2, S2, GS_AREA + CTX_MASK_IRET);
    emit_lea(e, 8, S2, &with_1);
    emit_store(e, S2, GS_VCPU + STATE_RFLAGS);
    emit_pext(e, S2, S1, GS_AREA + CTX_MASK_IF);
    emit_pdep(e, S2, S2, GS_AREA + CTX_MASK_IF);
    emit_store(e, S2, GS_AREA + CTX_IF);
    system_write_flags(e);
    emit_load(e, HOST_RSP, frame(FRAME_RSP));
    emit_load(e, S1, frame(FRAME_RIP));
}

bool iret_translate(struct translator *t)
{
    struct emit *e = &t->e;
    struct checks checks = {.n = 0};
    if (t->insn.opsize != 8 || t->check) {
        control_emulate(t);
        return true;
    }
    emit_take_frame(e);
    emit_checks(e, &checks);
    emit_read_descriptor(e, KNOWN(cs_lin), 0);
    emit_read_descriptor(e, KNOWN(ss_lin), 1);
    emit_compare_descriptor(e, &checks, KNOWN(cs_raw), 0);
    emit_compare_descriptor(e, &checks, KNOWN(ss_raw), 1);
    emit_go(e);
    emit_jump(e, t->vm->return_piece);
    if (e->full)
        return true;
    for (unsigned i = 0; i < checks.n; i++)
        emit_point(checks.failed[i], e->at);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    control_emulate(t);
    return true;
}

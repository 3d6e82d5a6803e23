/*
 * The run loop: into translated code, and what to do when it is left.
 */
#include "base/bytes.h"
#include "engine/binary/binary.h"

#include <stdlib.h>

#include "x86/debug.h"
#include "x86/flags.h"
#include "x86/forms.h"
#include "x86/paging.h"

enum { NO_LINK = UINT32_MAX };

/* Instructions that `emulate` runs at a time in a mode that is not translated. */
enum { EMULATE_AT_A_TIME = 4096 };

enum { HOST_IF = 1 << 9 };

/* ---- what is known of linear addresses ---- */

static void forget_place(struct binary_vcpu *b)
{
    b->resume = NULL;
    b->came_from = NO_LINK;
}

static void forgot(struct binary_vcpu *b)
{
    forget_place(b);
    b->forgotten++;
}

void binary_forget_all(struct binary_vcpu *b)
{
    spaces_forget(&b->spaces);
    forgot(b);
}

void binary_forget_page(struct binary_vcpu *b, uint64_t lin)
{
    spaces_forget_page(&b->spaces, lin);
    forgot(b);
}

void binary_switch_space(struct binary_vcpu *b, bool keep)
{
    const struct x86_state *s = &b->v->cpu.s;
    spaces_switch(&b->spaces, s->cr4 & CR4_PCIDE ? s->cr3 & 0xfff : 0, keep);
    b->context->table_ac = spaces_table(&b->spaces, VIEW_AC)->entry;
    /* Whether code goes on to be where it is, only its page says. */
    forgot(b);
}

/* ---- the mode ---- */

static bool is_user(const struct x86_cpu *c)
{
    return c->cpl == 3;
}

/* Whether translated code can run now: 64-bit code under paging, at CPL 0 or 3, with nothing to be
 * looked at between instructions. */
static bool mode_allows(const struct engine_vcpu *v)
{
    const struct x86_cpu *c = &v->cpu;
    return c->code == X86_CODE64 && c->paging && (c->cpl == 0 || c->cpl == 3) &&
           c->tlb != &c->view[TLB_NEVER] && !(c->s.rflags & (FLAG_TF | FLAG_RF)) &&
           !(c->s.dr[7] & 0xff) && !c->s.shadow_sti && !c->s.shadow_ss && !c->debug_hits &&
           !v->step_once && c->s.activity == X86_ACTIVE && (c->s.cr0 & CR0_NE);
}

static uint32_t mode_key(const struct binary_vcpu *b)
{
    const struct x86_cpu *c = &b->v->cpu;
    bool avx = !c->no_sse && (c->s.cr4 & CR4_OSXSAVE) &&
               (c->s.xcr0 & (XCR0_SSE | XCR0_AVX)) == (XCR0_SSE | XCR0_AVX);
    return (is_user(c) ? KEY_USER : 0) | (c->no_x87 ? 0 : KEY_X87) | (c->no_sse ? 0 : KEY_SSE) |
           (avx ? KEY_AVX : 0) | (c->s.cr4 & CR4_PKE ? KEY_PKU : 0) |
           (b->counted ? KEY_COUNTED : 0);
}

static enum x86_privilege privilege(const struct binary_vcpu *b)
{
    return x86_privilege(&b->v->cpu);
}

static enum view current_view(const struct x86_cpu *c)
{
    if (is_user(c))
        return VIEW_USER;
    return c->s.rflags & FLAG_AC ? VIEW_AC : VIEW_SUPERVISOR;
}

/* ---- finding code ---- */

/* Translates a fetch from lin, without a fault. */
static bool fetch_page(struct binary_vcpu *b, uint64_t lin, struct x86_walk *w)
{
    return x86_canonical(lin) && x86_walk(&b->v->cpu, lin, X86_FETCH, privilege(b), w) &&
           memory_find(b->v->vm->memory, w->gpa);
}

static bool close_gate(struct binary_vcpu *b)
{
    if (b->v->vm->vcpus == 1)
        return false;
    gate_close(&b->v->vm->gate, true);
    return true;
}

/* Every block goes; no vCPU is in any. */
static void recycle(struct binary_vcpu *b)
{
    bool closed = close_gate(b);
    code_flush(&b->vm->code);
    if (closed)
        gate_open(&b->v->vm->gate, true);
}

/* Another vCPU may have recycled the code while this one stood still. */
static void notice_recycling(struct binary_vcpu *b)
{
    if (b->flushes_seen == b->vm->code.flushes)
        return;
    b->flushes_seen = b->vm->code.flushes;
    spaces_forget_jumps(&b->spaces);
    for (unsigned i = 0; i < SINGLES; i++)
        b->single[i].site = 0;
    forget_place(b);
}

static uint32_t make_block(struct binary_vcpu *b, uint64_t gpa, uint32_t key, uint64_t gpa2)
{
    struct code *c = &b->vm->code;
    binary_outside(b);
    if (!code_has_room(c))
        recycle(b);
    emulate_watch_code(b->v, gpa);
    if (gpa2)
        emulate_watch_code(b->v, gpa2);
    pthread_mutex_lock(&c->lock);
    uint32_t n = code_find(c, gpa, key, gpa2);
    if (!n && code_has_room(c))
        n = binary_translate(b->vm, b->v, gpa, key, gpa2);
    pthread_mutex_unlock(&c->lock);
    return n;
}

static uint32_t find_block(struct binary_vcpu *b, uint64_t gpa, uint32_t key, uint64_t gpa2)
{
    uint32_t n = code_find(&b->vm->code, gpa, key, gpa2);
    return n ? n : make_block(b, gpa, key, gpa2);
}

/* The block of the instruction at RIP, which may go on in the next page. */
static uint32_t find_across(struct binary_vcpu *b, const struct x86_walk *first, uint32_t key)
{
    uint64_t rip = b->v->cpu.s.rip;
    struct x86_walk second;
    if ((rip & ~X86_PAGE_MASK) <= MEMORY_PAGE_SIZE - X86_INSN_MAX ||
        !fetch_page(b, (rip & X86_PAGE_MASK) + MEMORY_PAGE_SIZE, &second))
        return NO_BLOCK;
    return find_block(b, first->gpa, key, second.gpa);
}

/* The link that was left at now leads straight on. */
static void patch_link(struct binary_vcpu *b, uint32_t n)
{
    struct code *c = &b->vm->code;
    const struct translation *to = &c->block[n];
    uint32_t link = b->came_from;
    b->came_from = NO_LINK;
    if (link == NO_LINK)
        return;
    const struct link *l = &c->link[link];
    const struct translation *from = &c->block[l->block];
    if (from->dropped || from->key != to->key || (from->gpa ^ to->gpa) >> MEMORY_PAGE_BITS ||
        l->target != (to->gpa & (MEMORY_PAGE_SIZE - 1)))
        return;
    pthread_mutex_lock(&c->lock);
    if (!to->gpa2)
        emit_point(c->write + l->patch, c->write + to->code + to->near);
    else if (code_has_room(c))
        binary_unlink_for_good(b->vm, link);
    pthread_mutex_unlock(&c->lock);
}

/* Entries are for one mode each of supervisor and user. */
static void check_jumps_key(struct binary_vcpu *b, uint32_t key)
{
    key &= ~(uint32_t)KEY_USER;
    if (key == b->jumps_key)
        return;
    b->jumps_key = key;
    spaces_forget_jumps(&b->spaces);
}

/* Where to go on at RIP: the host code, or NULL when that instruction is for C. */
static void *find_code(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    uint32_t key = mode_key(b);
    struct jumps *jumps = spaces_jumps(&b->spaces, is_user(c));
    check_jumps_key(b, key);
    void *known = jumps_find(jumps, c->s.rip);
    if (known && b->came_from == NO_LINK)
        return known;
    struct x86_walk w;
    if (!fetch_page(b, c->s.rip, &w))
        return NULL;
    uint32_t n = find_block(b, w.gpa, key, 0);
    if (!n)
        n = find_across(b, &w, key);
    notice_recycling(b);
    struct code *code = &b->vm->code;
    if (!n || code->block[n].dropped)
        return NULL;
    patch_link(b, n);
    void *to = code_run(code, code->block[n].code);
    jumps_remember(jumps, c->s.rip, to, w.global && !code->block[n].gpa2);
    return to;
}

/* ---- in and out ---- */

static void prepare(struct binary_vcpu *b, void *code)
{
    struct x86_cpu *c = &b->v->cpu;
    struct context *x = b->context;
    uint64_t flags = x86_rflags(c);
    binary_fpu_to_host(b);
    x->code = code;
    x->left = (int64_t)(b->limit - c->insns);
    x->ac = is_user(c) ? 0 : flags & FLAG_AC;
    x->interrupt_flag = flags & FLAG_IF;
    x->table = spaces_table(&b->spaces, current_view(c))->entry;
    x->flags = (flags & (FLAGS_STATUS | FLAG_DF)) | FLAG_1 | HOST_IF;
    x->attend = X86_REQUEST_STOP | X86_REQUEST_GATE | X86_REQUEST_STEP;
    if (flags & FLAG_IF)
        x->attend |= X86_REQUEST_INTR;
    if (!c->s.nmi_blocked)
        x->attend |= X86_REQUEST_NMI;
    /* Translated code adds what it keeps elsewhere. */
    c->s.rflags = flags & ~(FLAGS_STATUS | FLAG_DF | FLAG_IF | x->ac);
}

static void take_back(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    const struct context *x = b->context;
    uint64_t old = c->s.rflags;
    x86_set_rflags(c, old | x->ac | x->interrupt_flag | (x->flags & (FLAGS_STATUS | FLAG_DF)));
    if (!is_user(c))
        x86_update_view(c);
    if (b->counted)
        c->insns = b->limit - (uint64_t)x->left - (b->resume ? b->resume_insns : 0);
}

static void enter(struct binary_vcpu *b, void *code)
{
    b->resume = NULL;
    prepare(b, code);
    atomic_store_explicit(&b->running, true, memory_order_seq_cst);
    binary_enter(b->context);
    atomic_store_explicit(&b->running, false, memory_order_relaxed);
    take_back(b);
    b->left_for[b->context->reason]++;
}

/* ---- one instruction in C ---- */

static bool uses_fpu(const struct x86_insn *insn)
{
    switch (x86_form(insn)->feature) {
    case X86_FEATURE_BASE:
    case X86_FEATURE_SYS:
    case X86_FEATURE_X64:
    case X86_FEATURE_TSC:
    case X86_FEATURE_MSR:
    case X86_FEATURE_CMOV:
    case X86_FEATURE_CX8:
    case X86_FEATURE_CX16:
    case X86_FEATURE_SYSCALL:
    case X86_FEATURE_INVPCID:
    case X86_FEATURE_SMAP:
    case X86_FEATURE_RDTSCP:
    case X86_FEATURE_FSGSBASE: return false;
    default: return true;
    }
}

/* The instruction at gpa in guest memory. False: it can't be told. */
static bool decode_at(struct binary_vcpu *b, uint64_t gpa, struct x86_insn *insn)
{
    const uint8_t *bytes = memory_hva(b->v->vm->memory, gpa);
    unsigned room = MEMORY_PAGE_SIZE - (gpa & (MEMORY_PAGE_SIZE - 1));
    return bytes && x86_decode(bytes, room, X86_CODE64, insn) == X86_DECODED;
}

/* Executes the instruction at RIP in C, whatever it is. */
static enum engine_exit emulate_one(struct binary_vcpu *b)
{
    forget_place(b);
    binary_fpu_to_state(b);
    b->emulated++;
    return emulate_run_inside(b->v, b->v->cpu.insns + 1);
}

static struct block *block_of(struct single *s)
{
    return (struct block *)(void *)s->room;
}

/* The host code of block n's instruction at an offset in the guest page, and how many there are
 * from there on; or NULL. */
static void *host_code(const struct code *code, uint32_t n, unsigned offset, unsigned *behind)
{
    const struct translation *t = &code->block[n];
    const struct point *p = &code->point[t->points];
    unsigned at = offset - (unsigned)(t->gpa & (MEMORY_PAGE_SIZE - 1));
    for (unsigned i = 0; i < t->insns; i++) {
        if (p[i].guest == at) {
            *behind = t->insns - i;
            return code_run(code, t->code + p[i].host);
        }
    }
    return NULL;
}

/* Makes the instruction at RIP, of block n, ready. False: it is not one that can be. */
static bool make_single(struct binary_vcpu *b, struct single *s, uintptr_t site, uint32_t n)
{
    const struct code *code = &b->vm->code;
    unsigned offset = b->v->cpu.s.rip & (MEMORY_PAGE_SIZE - 1);
    uint64_t gpa = (code->block[n].gpa & X86_PAGE_MASK) | offset;
    const uint8_t *bytes = memory_hva(b->v->vm->memory, gpa);
    struct x86_insn insn;
    s->site = 0;
    if (!bytes || !emulate_single(b->v, bytes, MEMORY_PAGE_SIZE - offset, &insn, block_of(s)))
        return false;
    block_of(s)->gpa = gpa;
    s->block = n;
    s->next = (uint16_t)(offset + insn.len);
    s->fpu = uses_fpu(&insn);
    s->form = insn.form;
    unsigned behind = 0;
    s->resume = host_code(code, n, s->next, &behind);
    s->behind = (uint16_t)behind;
    s->site = site;
    return true;
}

/* Whether the guest goes straight on behind the instruction, and nothing changed that the block
 * depends on. */
static bool goes_on(const struct binary_vcpu *b, const struct single *s, uint64_t forgotten)
{
    const struct x86_cpu *c = &b->v->cpu;
    const struct translation *t = &b->vm->code.block[s->block];
    return s->resume && c->s.rip == b->context->base + s->next && b->forgotten == forgotten &&
           !t->dropped && t->key == mode_key(b);
}

/* Where translated code was left, and whether by a fault: an instruction that is always for C
 * leaves with the address behind it, where the next one, with a site of its own, may fault. */
static uintptr_t site_of(const void *at, bool fault)
{
    return (uintptr_t)at << 1 | fault;
}

/* Executes the instruction at RIP in C. site: see site_of(), in block n if that is known. */
static enum engine_exit emulate_at(struct binary_vcpu *b, uintptr_t site, uint32_t n)
{
    struct single *s = &b->single[(site >> 1 ^ site >> 13) % SINGLES];
    forget_place(b);
    if (s->site != site) {
        if (!n)
            n = code_at(&b->vm->code, (void *)((site >> 1) - 1));
        if (!n || !make_single(b, s, site, n))
            return emulate_one(b);
    }
    if (s->fpu)
        binary_fpu_to_state(b);
    uint64_t forgotten = b->forgotten;
    b->emulated++;
    b->cause[site & 1][s->form]++;
    emulate_run_single(b->v, block_of(s));
    if (goes_on(b, s, forgotten)) {
        b->resume = s->resume;
        b->resume_block = s->block;
        b->resume_insns = s->behind;
    }
    return ENGINE_LIMIT;
}

/* ---- faults ---- */

struct access {
    uint64_t lin;
    unsigned size;
    bool write;
};

static uint64_t effective_address(const struct x86_cpu *c, const struct x86_insn *insn)
{
    uint64_t a = (uint64_t)insn->disp;
    if (insn->base == X86_BASE_RIP)
        a += c->s.rip + insn->len;
    else if (insn->base != X86_NO_REG)
        a += c->s.gpr[insn->base];
    if (insn->index != X86_NO_REG)
        a += c->s.gpr[insn->index] << insn->scale;
    if (insn->addrsize == 4)
        a = (uint32_t)a;
    if (insn->segment == X86_FS || insn->segment == X86_GS)
        a += c->s.seg[insn->segment].base;
    return a;
}

/* The guest's vector registers may be in the host's here, and libc compares with vectors. */
static bool same_text(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static bool begins_with(const char *text, const char *with)
{
    while (*with && *text == *with) {
        text++;
        with++;
    }
    return !*with;
}

static bool named(const struct x86_form *form, const char *sem)
{
    return same_text(form->sem, sem);
}

/* What an instruction may access in memory: at most two. */
static unsigned accesses(const struct x86_cpu *c, const struct x86_insn *insn, struct access *out)
{
    const struct x86_form *form = x86_form(insn);
    unsigned n = 0;
    if (!form->sem)
        return 0;
    if (insn->is_mem && !(form->flags & X86_FORM_ADDRESS)) {
        bool reads = same_text(form->mnemonic, "cmp") || same_text(form->mnemonic, "test");
        bool first = false;
        unsigned size = 1;
        for (unsigned i = 0; i < ARRAY_LEN(form->operand); i++) {
            unsigned kind = form->operand[i].kind;
            if (kind == OPK_E || kind == OPK_M || kind == OPK_W || kind == OPK_Q) {
                first = i == 0;
                size = x86_operand_size(insn, i);
            }
        }
        bool write = first && !reads && !named(form, "push_rm") && !named(form, "jmp_rm") &&
                     !named(form, "call_rm") && !begins_with(form->mnemonic, "bt") &&
                     form->feature != X86_FEATURE_X87;
        if (form->feature == X86_FEATURE_X87)
            write = begins_with(form->mnemonic, "fst") || begins_with(form->mnemonic, "fist") ||
                    begins_with(form->mnemonic, "fns") || begins_with(form->mnemonic, "fbst");
        out[n++] = (struct access){effective_address(c, insn), size ? size : 1, write};
    }
    uint64_t rsp = c->s.gpr[X86_RSP];
    if (named(form, "push_r") || named(form, "push_i") || named(form, "push_rm") ||
        named(form, "call") || named(form, "call_rm"))
        out[n++] = (struct access){rsp - 8, 8, true};
    else if (named(form, "pop_r") || named(form, "ret"))
        out[n++] = (struct access){rsp, 8, false};
    else if (named(form, "leave"))
        out[n++] = (struct access){c->s.gpr[X86_RBP], 8, false};
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
    return table_fill(t, lin, r->offset + (w->gpa - r->gpa), w->writable && !is_watched(m, w->gpa),
                      w->global);
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

/* From now on the accesses of the instruction at gpa are looked at for page ends. */
static void mark_checked(struct binary_vcpu *b, uint64_t gpa)
{
    const struct memory_region *r = memory_find(b->v->vm->memory, gpa);
    uint64_t offset = r->offset + (gpa - r->gpa);
    __atomic_fetch_or(&b->vm->checked[offset / 8], (uint8_t)(1u << (offset % 8)), __ATOMIC_RELAXED);
}

/* Makes the block again, with what is known now. */
static void drop_block(struct binary_vcpu *b, uint32_t n)
{
    struct code *c = &b->vm->code;
    binary_outside(b);
    bool closed = close_gate(b);
    code_drop_one(c, n, b->vm->stale_piece);
    if (closed)
        gate_open(&b->v->vm->gate, true);
}

static enum engine_exit after_fault(struct binary_vcpu *b)
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
    if (memory && decode_at(b, gpa, &insn)) {
        uint64_t filled = b->filled;
        unsigned n = accesses(c, &insn, access), done = 0;
        while (done < n && fill(b, &access[done]))
            done++;
        if (done < n && crosses_page(&access[done])) {
            mark_checked(b, gpa);
            drop_block(b, b->resume_block);
            forget_place(b);
            return emulate_one(b);
        }
        if (n && done == n && b->filled != filled) {
            b->resume = resume;
            return ENGINE_LIMIT;
        }
        if (done < n) {
            b->retry_rip = c->s.rip;
            b->retry_lin = access[done].lin;
            b->retry_write = access[done].write;
        }
    }
    return emulate_at(b, site_of(resume, true), b->resume_block);
}

/* ---- the loop ---- */

static bool asked(const struct binary_vcpu *b)
{
    const struct x86_cpu *c = &b->v->cpu;
    uint32_t request = atomic_load_explicit(&c->request, memory_order_acquire);
    if (!(c->s.rflags & FLAG_IF))
        request &= ~(uint32_t)X86_REQUEST_INTR;
    return request || (c->s.nmi_pending && !c->s.nmi_blocked);
}

/* The guest comes back to an instruction that has faulted: it would do so on the host again. */
static void retry(struct binary_vcpu *b)
{
    struct access a = {b->retry_lin, 1, b->retry_write};
    b->retry_rip = UINT64_MAX;
    fill(b, &a);
}

/* What has to be done where translated code left. */
static enum engine_exit attend_leave(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    struct context *x = b->context;
    const struct code *code = &b->vm->code;
    switch (x->reason) {
    case LEAVE_LINK:
        b->came_from = x->link;
        c->s.rip = x->base + code->link[x->link].target;
        return ENGINE_LIMIT;
    case LEAVE_STALE:
        c->s.rip = x->base + (code->block[x->link].gpa & (MEMORY_PAGE_SIZE - 1));
        jumps_forget(spaces_jumps(&b->spaces, is_user(c)), c->s.rip);
        return ENGINE_LIMIT;
    case LEAVE_EMULATE:
        return x->resume ? emulate_at(b, site_of(x->resume, false), NO_BLOCK) : emulate_one(b);
    case LEAVE_FAULT: return after_fault(b);
    case LEAVE_LIMIT: binary_fpu_to_state(b); return emulate_run_inside(b->v, b->limit);
    default: return ENGINE_LIMIT;
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum engine_exit step(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    if (!mode_allows(b->v)) {
        forget_place(b);
        binary_fpu_to_state(b);
        uint64_t most = c->code == X86_CODE64 ? 1 : EMULATE_AT_A_TIME;
        return emulate_run_inside(b->v, least(c->insns + most, b->limit));
    }
    if (asked(b)) {
        forget_place(b);
        binary_fpu_to_state(b);
        return emulate_run_inside(b->v, c->insns + 1);
    }
    notice_recycling(b);
    if (b->resume && b->vm->code.block[b->resume_block].dropped)
        b->resume = NULL;
    if (c->s.rip == b->retry_rip)
        retry(b);
    if (b->resume && b->counted) {
        if (c->insns + b->resume_insns > b->limit)
            b->resume = NULL;
        else
            c->insns += b->resume_insns;
    }
    void *code = b->resume ? b->resume : find_code(b);
    if (!code)
        return emulate_one(b);
    enter(b, code);
    return attend_leave(b);
}

enum engine_exit binary_run(struct binary_vcpu *b, uint64_t insns_limit)
{
    struct engine_vcpu *v = b->v;
    enum engine_exit exit = ENGINE_LIMIT;
    if (!binary_signals_enter(b))
        return ENGINE_FAILED;
    b->limit = insns_limit;
    b->counted = insns_limit != UINT64_MAX;
    forget_place(b);
    emulate_enter_gate(v);
    do
        exit = v->cpu.insns < insns_limit ? step(b) : ENGINE_LIMIT;
    while (exit == ENGINE_LIMIT && v->cpu.insns < insns_limit);
    binary_outside(b);
    emulate_leave_gate(v);
    return exit;
}

/*
 * Which mode translated code can run in, and finding the code to run.
 */
#include <pthread.h>

#include "engine/binary/loop.h"

/* ---- the mode ---- */

/* Whether translated code can run now: 64-bit code under paging, at CPL 0 or 3, with nothing to be
 * looked at between instructions. */
bool binary_mode_allows(const struct engine_vcpu *v)
{
    const struct x86_cpu *c = &v->cpu;
    return c->code == X86_CODE64 && c->paging && (c->cpl == 0 || c->cpl == 3) &&
           c->tlb != &c->view[TLB_NEVER] && !(c->s.rflags & (FLAG_TF | FLAG_RF)) &&
           !(c->s.dr[7] & 0xff) && !c->s.shadow_sti && !c->s.shadow_ss && !c->debug_hits &&
           !v->step_once && c->s.activity == X86_ACTIVE;
}

/* Without CR0.NE an x87 error goes out of the processor as a signal, which C knows to send. */
static bool has_x87(const struct x86_cpu *c)
{
    return !c->no_x87 && (c->s.cr0 & CR0_NE);
}

uint32_t binary_mode_key(const struct binary_vcpu *b)
{
    const struct x86_cpu *c = &b->v->cpu;
    return (is_user(c) ? KEY_USER : 0) | (has_x87(c) ? KEY_X87 : 0) | (c->no_sse ? 0 : KEY_SSE) |
           (c->no_avx ? 0 : KEY_AVX) | (c->no_avx512 ? 0 : KEY_AVX512) |
           (c->s.cr4 & CR4_PKE ? KEY_PKU : 0) | (b->counted ? KEY_COUNTED : 0);
}

/* ---- finding code ---- */

/* Translates a fetch from lin, without a fault. */
static bool fetch_page(struct binary_vcpu *b, uint64_t lin, struct x86_walk *w)
{
    return x86_canonical(lin) && x86_walk(&b->v->cpu, lin, X86_FETCH, privilege(b), w) &&
           memory_find(b->v->vm->memory, w->gpa);
}

bool binary_close_gate(struct binary_vcpu *b)
{
    if (b->v->vm->vcpus == 1)
        return false;
    gate_close(&b->v->vm->gate, true);
    return true;
}

/* Every block goes; no vCPU is in any. */
static void recycle(struct binary_vcpu *b)
{
    b->recycled_at = __builtin_ia32_rdtsc();
    bool closed = binary_close_gate(b);
    code_flush(&b->vm->code);
    if (closed)
        gate_open(&b->v->vm->gate, true);
}

/* Another vCPU may have recycled the code while this one stood still. */
void binary_notice_recycling(struct binary_vcpu *b)
{
    if (b->flushes_seen == b->vm->code.flushes)
        return;
    b->flushes_seen = b->vm->code.flushes;
    uint64_t began = b->recycled_at ? b->recycled_at : __builtin_ia32_rdtsc();
    spaces_forget_jumps(&b->spaces);
    for (unsigned i = 0; i < SINGLES; i++)
        b->single[i].site = 0;
    binary_forget_place(b);
    binary_stopped_since(b, began);
    b->recycled_at = 0;
}

/* Where code at RIP is that is bound. */
static uint64_t bound_va(const struct binary_vcpu *b, uint32_t key)
{
    return key & KEY_BOUND ? b->v->cpu.s.rip & X86_PAGE_MASK : 0;
}

static uint32_t make_block(struct binary_vcpu *b, uint64_t gpa, uint32_t key, uint64_t gpa2)
{
    uint64_t va = bound_va(b, key);
    struct code *c = &b->vm->code;
    binary_outside(b);
    if (!code_has_room(c))
        recycle(b);
    emulate_watch_code(b->v, gpa);
    if (gpa2)
        emulate_watch_code(b->v, gpa2);
    pthread_mutex_lock(&c->lock);
    uint32_t n = code_find(c, gpa, key, gpa2, va);
    bool made = !n && code_has_room(c);
    if (made)
        n = binary_translate(b->vm, b->v, gpa, key, gpa2, va);
    if (made && n) {
        b->vm->bound_made += key & KEY_BOUND ? 1 : 0;
        b->vm->traces_made += c->block[n].scattered;
        perf_map_add(&b->vm->perf_map, c, n, b->v->cpu.s.rip);
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}

static uint32_t find_block(struct binary_vcpu *b, uint64_t gpa, uint32_t key, uint64_t gpa2)
{
    uint32_t n = code_find(&b->vm->code, gpa, key, gpa2, bound_va(b, key));
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

/* Whether a branch from one block, to an offset from its page's start, always leads to the other.
 */
static bool leads_to(const struct translation *from, int32_t target, const struct translation *to)
{
    uint64_t at = to->gpa & (MEMORY_PAGE_SIZE - 1);
    if (from->key != to->key || to->gpa2)
        return false;
    if (from->key & KEY_BOUND)
        return from->va + (uint64_t)(int64_t)target == to->va + at;
    return (from->gpa ^ to->gpa) >> MEMORY_PAGE_BITS == 0 && target == (int64_t)at;
}

/* The link that was left at now leads straight on; or through the jump cache, where it can't. */
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
    pthread_mutex_lock(&c->lock);
    if (leads_to(from, l->target, to) && !from->dropped && !to->dropped)
        code_lead(c, link, n);
    else if (!from->dropped && (from->key & KEY_MODE) == (to->key & KEY_MODE) && code_has_room(c))
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
void *binary_find_code(struct binary_vcpu *b)
{
    struct x86_cpu *c = &b->v->cpu;
    uint32_t key = binary_mode_key(b);
    struct jumps *jumps = spaces_jumps(&b->spaces, is_user(c));
    check_jumps_key(b, key);
    binary_settle(b);
    void *known = jumps_find(jumps, c->s.rip);
    if (known && b->came_from == NO_LINK)
        return known;
    struct x86_walk w;
    if (!fetch_page(b, c->s.rip, &w))
        return NULL;
    uint32_t n = find_block(b, w.gpa, binary_bind(b, key, &w), 0);
    if (!n)
        n = find_across(b, &w, key);
    binary_notice_recycling(b);
    struct code *code = &b->vm->code;
    if (!n || code->block[n].dropped)
        return NULL;
    patch_link(b, n);
    const struct translation *t = &code->block[n];
    void *far = code_run(code, t->code), *near = code_run(code, t->code + t->near);
    bool bound = t->key & KEY_BOUND;
    if (!is_user(c) || !binary_is_direct(b))
        jumps_remember(jumps, c->s.rip, bound ? near : far, bound && t->near ? far : NULL,
                       w.global && !t->gpa2);
    return far;
}

uint32_t binary_known_block(struct binary_vcpu *b)
{
    struct x86_walk w;
    if (!binary_mode_allows(b->v) ||
        !x86_walk(&b->v->cpu, b->v->cpu.s.rip, X86_PEEK, privilege(b), &w))
        return NO_BLOCK;
    uint32_t key = binary_bound_key(b, binary_mode_key(b));
    return code_find(&b->vm->code, w.gpa, key, 0, bound_va(b, key));
}

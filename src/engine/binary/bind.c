/*
 * When code is bound to its address, and when no more: bound.h.
 */
#include <pthread.h>

#include "engine/binary/loop.h"

/* On the host's time-stamp counter: what an address space runs for before its code is bound, some
 * tens of milliseconds; longer where the code may yet run in a cage, for which that is wasted. */
enum { HOT_AFTER = 100 * 1000 * 1000, MAY_GO_DIRECT = 5 };

/* One less than there are: a key of ones is no block's (code.c). */
enum { TAG_MOST = (1 << (32 - KEY_TAG_SHIFT)) - 2 };

static bool is_where_it_was(struct binary_vcpu *b, struct bound *m, unsigned slot,
                            enum x86_privilege who)
{
    const struct bound_page *p = &m->page[slot];
    struct x86_walk w;
    if (!x86_walk(&b->v->cpu, p->va, X86_FETCH, who, &w) || w.gpa != p->gpa ||
        w.global != p->global)
        return false;
    bound_part_of(m, p->va, w.bits);
    return true;
}

static bool all_where_they_were(struct binary_vcpu *b, struct bound *m, enum x86_privilege who)
{
    for (unsigned i = 0; m->count && i < BOUND_SLOTS; i++)
        if (m->page[i].used && !is_where_it_was(b, m, i, who))
            return false;
    return true;
}

static bool locals_where_they_were(struct binary_vcpu *b, struct bound *m, enum x86_privilege who)
{
    if (m->locals > BOUND_LOCALS)
        return all_where_they_were(b, m, who);
    for (unsigned i = 0; i < m->locals; i++)
        if (!is_where_it_was(b, m, m->local[i], who))
            return false;
    return true;
}

/* The mapping has been flushed: looks where the pages are, and ends the tag if one has moved. */
static bool check_again(struct binary_vcpu *b, struct bound *m, enum bound_stale stale,
                        enum x86_privilege who)
{
    if (stale == BOUND_ALL_STALE ? all_where_they_were(b, m, who)
                                 : locals_where_they_were(b, m, who))
        return true;
    bound_end(m);
    return false;
}

/* The kernel's jump cache leads to what is under the tag of now. The caller holds code.lock. */
static void follow_kernel_tag(struct binary_vcpu *b)
{
    if (b->kernel_tag != b->vm->kernel.tag)
        spaces_forget_kernel_jumps(&b->spaces);
    b->kernel_tag = b->vm->kernel.tag;
}

static void settle_kernel(struct binary_vcpu *b)
{
    struct bound *m = &b->vm->kernel;
    pthread_mutex_lock(&b->vm->code.lock);
    if (b->kernel_stale)
        check_again(b, m, b->kernel_stale, X86_AS_SUPERVISOR);
    b->kernel_stale = BOUND_FRESH;
    follow_kernel_tag(b);
    pthread_mutex_unlock(&b->vm->code.lock);
}

static bool is_hot(struct binary_vcpu *b)
{
    uint64_t time = spaces_time(&b->spaces);
    return time > HOT_AFTER &&
           (!binary_may_go_direct(b) || time > (uint64_t)MAY_GO_DIRECT * HOT_AFTER);
}

static void settle_user(struct binary_vcpu *b)
{
    struct space *s = space_now(&b->spaces);
    if (s->stale && !check_again(b, &s->bound, BOUND_ALL_STALE, X86_AS_USER)) {
        spaces_forget_user_jumps(s);
        spaces_cool(&b->spaces, s); /* most likely another process */
    }
    s->stale = false;
    if (!s->hot && is_hot(b) && !binary_is_direct(b)) {
        s->hot = true;
        spaces_forget_user_jumps(s);
    }
}

void binary_settle(struct binary_vcpu *b)
{
    if (is_user(&b->v->cpu))
        settle_user(b);
    else if (b->kernel_stale || b->kernel_tag != b->vm->kernel.tag)
        settle_kernel(b);
}

/* False: the page can't be known under a tag. */
static bool know_page(struct binary_vm *vm, struct bound *m, uint64_t va, const struct x86_walk *w)
{
    uint64_t gpa = w->gpa & X86_PAGE_MASK;
    const struct bound_page *p = bound_find(m, va);
    if (p && (p->gpa != gpa || p->global != w->global)) {
        bound_end(m); /* it has changed from under us: a guest may do that */
        p = NULL;
    }
    if (!m->tag) {
        if (vm->tags == TAG_MOST)
            return false;
        m->tag = ++vm->tags;
    }
    if (!p && !bound_add(m, va, gpa, w->global))
        return false;
    bound_part_of(m, va, w->bits);
    return true;
}

struct bound *binary_bound(struct binary_vcpu *b, uint32_t key)
{
    struct space *s = space_now(&b->spaces);
    if (!(key & KEY_USER))
        return &b->vm->kernel;
    return s->hot && !binary_is_direct(b) ? &s->bound : NULL;
}

static uint32_t under_tag(const struct bound *m, uint32_t key)
{
    return key | KEY_BOUND | m->tag << KEY_TAG_SHIFT;
}

uint32_t binary_bind(struct binary_vcpu *b, uint32_t key, const struct x86_walk *w)
{
    struct bound *m = binary_bound(b, key);
    if (!m)
        return key;
    uint32_t tag = m->tag;
    pthread_mutex_lock(&b->vm->code.lock);
    if (know_page(b->vm, m, b->v->cpu.s.rip & X86_PAGE_MASK, w))
        key = under_tag(m, key);
    if (!(key & KEY_USER))
        follow_kernel_tag(b);
    else if (tag && tag != m->tag)
        spaces_forget_user_jumps(space_now(&b->spaces));
    pthread_mutex_unlock(&b->vm->code.lock);
    return key;
}

uint32_t binary_bound_key(struct binary_vcpu *b, uint32_t key)
{
    const struct bound *m = binary_bound(b, key);
    return m && bound_find(m, b->v->cpu.s.rip & X86_PAGE_MASK) ? under_tag(m, key) : key;
}

/* What of the kernel's code is not global has a mapping of its own in the new address space. */
void binary_bound_switched(struct binary_vcpu *b, bool keep)
{
    struct space *s = space_now(&b->spaces);
    if (b->vm->kernel.locals && b->kernel_stale == BOUND_FRESH)
        b->kernel_stale = BOUND_LOCALS_STALE;
    if (!keep && s->bound.tag)
        s->stale = true;
}

void binary_bound_flushed(struct binary_vcpu *b)
{
    b->kernel_stale = BOUND_ALL_STALE;
    for (unsigned n = 0; n < SPACES; n++) {
        struct space *s = &b->spaces.space[n];
        if (n == b->spaces.current)
            s->stale = true;
        else
            bound_end(&s->bound);
    }
}

void binary_bound_flushed_page(struct binary_vcpu *b, uint64_t lin)
{
    lin &= X86_PAGE_MASK;
    pthread_mutex_lock(&b->vm->code.lock);
    if (bound_may_go_with(&b->vm->kernel, lin)) {
        b->kernel_stale = BOUND_ALL_STALE;
        spaces_forget_kernel_jumps(&b->spaces);
    }
    pthread_mutex_unlock(&b->vm->code.lock);
    for (unsigned n = 0; n < SPACES; n++) {
        struct space *s = &b->spaces.space[n];
        if (!bound_may_go_with(&s->bound, lin))
            continue;
        spaces_forget_user_jumps(s);
        if (n == b->spaces.current)
            s->stale = true;
        else
            bound_end(&s->bound);
    }
}

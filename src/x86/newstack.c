/*
 * Stacks of inner privilege levels: found in the TSS, pushed on before they are current.
 */
#include "x86/newstack.h"

#include "x86/access.h"
#include "x86/segment.h"

struct x86_new_stack x86_new_stack_same(const struct x86_cpu *c, bool long64, uint32_t ext)
{
    return (struct x86_new_stack){.ss = c->s.seg[X86_SS],
                                  .sp = c->s.gpr[X86_RSP],
                                  .cpl = c->cpl,
                                  .long64 = long64,
                                  .error = ext};
}

static void need_tss(struct x86_cpu *c, uint32_t last, uint32_t ext)
{
    if ((c->s.tr.attr & SEG_UNUSABLE) || last > c->s.tr.limit)
        x86_raise_error(c, X86_TS, x86_selector_error(c->s.tr.selector, ext));
}

/* A 64-bit TSS holds RSP0 to RSP2 at 4, IST1 to IST7 at 36 (SDM 3, 7.7). */
static struct x86_new_stack inner_long(struct x86_cpu *c, unsigned cpl, unsigned ist, uint32_t ext)
{
    unsigned at = ist ? 28 + ist * 8 : 4 + cpl * 8;
    need_tss(c, at + 7, ext);
    struct x86_new_stack st = {.cpl = cpl, .long64 = true, .error = ext};
    st.sp = x86_sys_read(c, c->s.tr.base + at, 8);
    st.ss = c->s.seg[X86_SS];
    if (cpl != c->cpl) {
        st.ss = x86_null_segment((uint16_t)cpl);
        st.ss.attr |= cpl << SEG_DPL_SHIFT;
    }
    return st;
}

/* The pair of SP and SS for a level in a 16- or 32-bit TSS (SDM 3, 7.2.1 and 7.6). */
static struct x86_new_stack inner_legacy(struct x86_cpu *c, unsigned cpl, uint32_t ext)
{
    bool tss32 = c->s.tr.attr & 8;
    unsigned size = tss32 ? 4 : 2;
    unsigned at = size + cpl * 2 * size;
    need_tss(c, at + size + 1, ext);
    struct x86_new_stack st = {.cpl = cpl};
    st.sp = x86_sys_read(c, (uint32_t)(c->s.tr.base + at), size);
    uint16_t selector = (uint16_t)x86_sys_read(c, (uint32_t)(c->s.tr.base + at + size), 2);
    const struct x86_stack_rules rules = {.vector = X86_TS, .ext = ext, .cpl = cpl};
    st.ss = x86_check_stack_segment(c, selector, &rules);
    st.error = x86_selector_error(selector, ext);
    return st;
}

struct x86_new_stack x86_new_stack_inner(struct x86_cpu *c, unsigned cpl, unsigned ist,
                                         uint32_t ext)
{
    return c->long_mode ? inner_long(c, cpl, ist, ext) : inner_legacy(c, cpl, ext);
}

static uint64_t stack_mask(const struct x86_new_stack *st)
{
    if (st->long64)
        return ~UINT64_C(0);
    return st->ss.attr & SEG_DB ? 0xffffffff : 0xffff;
}

void x86_new_stack_need(struct x86_cpu *c, const struct x86_new_stack *st, unsigned n,
                        unsigned size)
{
    uint64_t sp = st->sp & stack_mask(st);
    for (unsigned i = 0; i < n; i++) {
        sp = (sp - size) & stack_mask(st);
        bool fits = st->long64 ? x86_canonical(sp) && x86_canonical(sp + size - 1)
                               : x86_inside_limit(&st->ss, sp, size);
        if (!fits)
            x86_raise_error(c, X86_SS_FAULT, st->error);
    }
}

void x86_new_stack_push(struct x86_cpu *c, struct x86_new_stack *st, unsigned size, uint64_t v)
{
    uint64_t sp = (st->sp - size) & stack_mask(st);
    uint64_t lin = st->long64 ? sp : (uint32_t)(st->ss.base + sp);
    st->sp = (st->sp & ~stack_mask(st)) | sp;
    if (st->cpl < 3) {
        x86_sys_write(c, lin, size, v);
        return;
    }
    switch (size) {
    case 2: x86_write16(c, lin, (uint16_t)v, X86_SS); break;
    case 4: x86_write32(c, lin, (uint32_t)v, X86_SS); break;
    default: x86_write64(c, lin, v, X86_SS); break;
    }
}

void x86_new_stack_commit(struct x86_cpu *c, const struct x86_new_stack *st)
{
    c->s.seg[X86_SS] = st->ss;
    c->s.gpr[X86_RSP] = st->long64 ? st->sp : x86_stack_merge(&st->ss, c->s.gpr[X86_RSP], st->sp);
}

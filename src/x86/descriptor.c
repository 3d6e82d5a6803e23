/*
 * Descriptor tables: reading descriptors, and the bits in them that the processor sets.
 */
#include "x86/descriptor.h"

#include "x86/access.h"

/* Outside of long mode linear addresses are of 32 bits. */
static uint64_t table_linear(const struct x86_cpu *c, uint64_t base, uint32_t offset)
{
    uint64_t lin = base + offset;
    return c->long_mode ? lin : (uint32_t)lin;
}

/* The table's linear base and limit; false when the LDT is meant and there is none. */
static bool find_table(const struct x86_cpu *c, uint16_t selector, uint64_t *base, uint32_t *limit)
{
    if (selector & SELECTOR_TI) {
        *base = c->s.ldtr.base;
        *limit = c->s.ldtr.limit;
        return !(c->s.ldtr.attr & SEG_UNUSABLE);
    }
    *base = c->s.gdtr.base;
    *limit = c->s.gdtr.limit;
    return true;
}

bool x86_descriptor_read(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d)
{
    uint64_t base;
    uint32_t limit;
    uint32_t offset = selector & ~7u;
    if (!find_table(c, selector, &base, &limit) || offset + 7 > limit)
        return false;
    d->at = table_linear(c, base, offset);
    d->selector = selector;
    d->raw = x86_sys_read(c, d->at, 8);
    return true;
}

void x86_descriptor_need(struct x86_cpu *c, uint16_t selector, unsigned vector, uint32_t ext,
                         struct x86_descriptor *d)
{
    if (!x86_descriptor_read(c, selector, d))
        x86_raise_error(c, vector, x86_selector_error(selector, ext));
}

bool x86_descriptor_read_upper(struct x86_cpu *c, const struct x86_descriptor *d, uint64_t *upper)
{
    uint64_t base;
    uint32_t limit;
    uint32_t offset = d->selector & ~7u;
    if (!find_table(c, d->selector, &base, &limit) || offset + 15 > limit)
        return false;
    *upper = x86_sys_read(c, table_linear(c, base, offset + 8), 8);
    return true;
}

/* One locked read-modify-write, as the processor does it. Another vCPU may rewrite the descriptor
 * at the same time, but not for ever: the guest must not be able to keep us here. */
static void update(struct x86_cpu *c, struct x86_descriptor *d, uint64_t set, uint64_t clear)
{
    uint64_t expected = d->raw;
    for (unsigned tries = 0; tries < 64; tries++) {
        uint64_t desired = (expected | set) & ~clear;
        uint64_t found = x86_sys_cmpxchg(c, d->at, expected, desired);
        if (found == expected)
            break;
        expected = found;
    }
    d->raw = (d->raw | set) & ~clear;
}

void x86_descriptor_set(struct x86_cpu *c, struct x86_descriptor *d, uint32_t attr)
{
    uint64_t set = (uint64_t)attr << 40;
    if ((d->raw & set) != set)
        update(c, d, set, 0);
}

void x86_descriptor_clear_busy(struct x86_cpu *c, struct x86_descriptor *d)
{
    update(c, d, 0, UINT64_C(2) << 40);
}

struct x86_segment x86_descriptor_segment(const struct x86_descriptor *d, uint16_t selector)
{
    return (struct x86_segment){
        .base = desc_base(d), .limit = desc_limit(d), .attr = desc_attr(d), .selector = selector};
}

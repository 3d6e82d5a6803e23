/*
 * LGDT, LIDT, SGDT, SIDT: the two table registers that are not selectors.
 */
#include "x86/sem/op.h"

/* Bytes of the base in memory: eight in 64-bit mode; the 16-bit forms load three of four. */
static unsigned base_size(const struct x86_cpu *c)
{
    return c->code == X86_CODE64 ? 8 : 4;
}

static void load_table(struct x86_cpu *c, const struct op *op, struct x86_table *table)
{
    x86_need_cpl0(c);
    uint8_t image[10] = {0};
    op_load(c, op, image, 2 + base_size(c));
    uint64_t base = load_u64(image + 2);
    if (c->code != X86_CODE64 && op->size == 2)
        base &= 0xffffff;
    if (c->code == X86_CODE64 && !x86_canonical(base))
        x86_raise_gp0(c);
    *table = (struct x86_table){.base = base, .limit = load_u16(image)};
}

static void store_table(struct x86_cpu *c, const struct op *op, const struct x86_table *table)
{
    if ((c->s.cr4 & CR4_UMIP) && c->cpl > 0)
        x86_raise_gp0(c);
    uint8_t image[10];
    store_u16(image, table->limit);
    store_u64(image + 2, table->base);
    op_store(c, op, image, 2 + base_size(c));
}

OP_END(lgdt)
{
    load_table(c, op, &c->s.gdtr);
}
OP_END(lidt)
{
    load_table(c, op, &c->s.idtr);
}
OP(sgdt)
{
    store_table(c, op, &c->s.gdtr);
}
OP(sidt)
{
    store_table(c, op, &c->s.idtr);
}

#include "x86/io.h"

#include "x86/access.h"

enum { TSS32 = 9, TSS32_BUSY = 11, TSS_MAP_BASE = 102, TSS_SMALLEST = 103 };

/* Whether the TSS has a bitmap with all bits of the ports clear; one bit a port, and always two
 * bytes are read, so one byte behind the last must be inside of the TSS as well. */
static bool bitmap_allows(struct x86_cpu *c, uint16_t port, unsigned size)
{
    unsigned type = c->s.tr.attr & SEG_TYPE;
    bool has_bitmap = (c->s.tr.attr & SEG_P) && !(c->s.tr.attr & SEG_UNUSABLE) &&
                      (type == TSS32 || type == TSS32_BUSY) && c->s.tr.limit >= TSS_SMALLEST;
    if (!has_bitmap)
        return false;
    uint32_t at = (uint32_t)x86_sys_read(c, c->s.tr.base + TSS_MAP_BASE, 2) + port / 8;
    if (at + 1 > c->s.tr.limit)
        return false;
    uint64_t bits = x86_sys_read(c, c->s.tr.base + at, 2) >> (port % 8);
    return (bits & bits_mask(size)) == 0;
}

void x86_io_check(struct x86_cpu *c, uint16_t port, unsigned size)
{
    if (!(c->s.cr0 & CR0_PE))
        return;
    if (!x86_v86(c) && c->cpl <= x86_iopl(c))
        return;
    if (!bitmap_allows(c, port, size))
        x86_raise_gp0(c);
}

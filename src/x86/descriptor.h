/*
 * Descriptors: the eight (in long mode sometimes sixteen) bytes that selectors stand for (SDM 3,
 * 3.4.5 and 3.5).
 */
#ifndef DOPPEL_X86_DESCRIPTOR_H
#define DOPPEL_X86_DESCRIPTOR_H

#include "x86/cpu.h"

/* Types of system descriptors (SDM 3, table 3-2). In long mode only LDT, TSS32 (which then stands
 * for the 64-bit TSS) and the 32-bit gates (then 64-bit) exist. */
enum {
    DESC_TSS16 = 1,
    DESC_LDT = 2,
    DESC_TSS16_BUSY = 3,
    DESC_CALL_GATE16 = 4,
    DESC_TASK_GATE = 5,
    DESC_INTERRUPT_GATE16 = 6,
    DESC_TRAP_GATE16 = 7,
    DESC_TSS32 = 9,
    DESC_TSS32_BUSY = 11,
    DESC_CALL_GATE32 = 12,
    DESC_INTERRUPT_GATE32 = 14,
    DESC_TRAP_GATE32 = 15,
};

enum { SELECTOR_RPL = 3, SELECTOR_TI = 4 };

struct x86_descriptor {
    uint64_t raw;      /* the first eight bytes */
    uint64_t at;       /* their linear address */
    uint16_t selector; /* what it was found by */
};

static inline bool selector_null(uint16_t selector)
{
    return (selector & ~SELECTOR_RPL) == 0;
}

/* SEG_* attributes, the limit's bits among them masked out. */
static inline uint32_t desc_attr(const struct x86_descriptor *d)
{
    return (d->raw >> 40) & 0xf0ff;
}
static inline unsigned desc_type(const struct x86_descriptor *d)
{
    return (d->raw >> 40) & SEG_TYPE;
}
static inline unsigned desc_dpl(const struct x86_descriptor *d)
{
    return (d->raw >> 45) & 3;
}
static inline bool desc_present(const struct x86_descriptor *d)
{
    return d->raw >> 47 & 1;
}
/* Code or data, not system. */
static inline bool desc_is_segment(const struct x86_descriptor *d)
{
    return d->raw >> 44 & 1;
}
static inline bool desc_is_code(const struct x86_descriptor *d)
{
    return (desc_attr(d) & (SEG_S | SEG_CODE)) == (SEG_S | SEG_CODE);
}
static inline bool desc_is_conforming(const struct x86_descriptor *d)
{
    return desc_is_code(d) && (desc_attr(d) & SEG_EXPAND_DOWN);
}
static inline bool desc_is_writable_data(const struct x86_descriptor *d)
{
    return (desc_attr(d) & (SEG_S | SEG_CODE | SEG_WRITABLE)) == (SEG_S | SEG_WRITABLE);
}
static inline bool desc_is_readable(const struct x86_descriptor *d)
{
    return desc_is_segment(d) && (!desc_is_code(d) || (desc_attr(d) & SEG_WRITABLE));
}
static inline uint32_t desc_base(const struct x86_descriptor *d)
{
    return (uint32_t)((d->raw >> 16 & 0xffffff) | (d->raw >> 56 << 24));
}
/* In bytes, granularity applied. */
static inline uint32_t desc_limit(const struct x86_descriptor *d)
{
    uint32_t limit = (uint32_t)((d->raw & 0xffff) | (d->raw >> 32 & 0xf0000));
    return desc_attr(d) & SEG_G ? limit << 12 | 0xfff : limit;
}

/* The parts of a gate (SDM 3, figures 5-8, 6-2 and 6-8). */
static inline uint16_t gate_selector(const struct x86_descriptor *d)
{
    return (uint16_t)(d->raw >> 16);
}
static inline uint32_t gate_offset(const struct x86_descriptor *d)
{
    return (uint32_t)((d->raw & 0xffff) | (d->raw >> 32 & 0xffff0000));
}

/* Reads the descriptor of a selector that is not null from the GDT or LDT. False: it is outside of
 * its table. Page faults are raised. */
bool x86_descriptor_read(struct x86_cpu *c, uint16_t selector, struct x86_descriptor *d);

/* The same, but outside of the table raises `vector` with the selector as error code. ext is
 * ERROR_EXT or 0. */
void x86_descriptor_need(struct x86_cpu *c, uint16_t selector, unsigned vector, uint32_t ext,
                         struct x86_descriptor *d);

/* The second eight bytes of a long-mode system descriptor. False: outside of the table. */
bool x86_descriptor_read_upper(struct x86_cpu *c, const struct x86_descriptor *d, uint64_t *upper);

/* Sets bits of the descriptor's attributes (SEG_ACCESSED, the busy bit) in memory, atomically. */
void x86_descriptor_set(struct x86_cpu *c, struct x86_descriptor *d, uint32_t attr);

/* Clears a TSS descriptor's busy bit in memory, atomically. */
void x86_descriptor_clear_busy(struct x86_cpu *c, struct x86_descriptor *d);

/* What the descriptor makes of a segment register. */
struct x86_segment x86_descriptor_segment(const struct x86_descriptor *d, uint16_t selector);

/* Bits of error codes that refer to selectors (SDM 3, 6.13). */
enum { ERROR_EXT = 1, ERROR_IDT = 2 };

static inline uint32_t x86_selector_error(uint16_t selector, uint32_t ext)
{
    return (selector & ~(uint32_t)SELECTOR_RPL) | ext;
}

#endif

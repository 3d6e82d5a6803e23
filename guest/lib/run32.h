/*
 * Running pieces of code in 32-bit guests: at any privilege, in virtual-8086 mode, until something
 * happens.
 */
#ifndef GUEST_RUN32_H
#define GUEST_RUN32_H

#include "guest.h"

/* Registers, as run() loads them, and as they were when an event ended the code. The order is that
 * of trap32.S. */
struct context {
    uint32_t gs, fs, es, ds;
    uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
    uint32_t vector, error; /* what ended it; error is 0 where there is none */
    uint32_t eip, cs, eflags, esp, ss;
    uint32_t v86_es, v86_ds, v86_fs, v86_gs; /* with FLAG_VM in eflags only */
};

/* Selectors. Slots from FREE on are for the guests. */
enum {
    CODE0 = 0x08,
    DATA0 = 0x10,
    CODE3 = 0x18 | 3,
    DATA3 = 0x20 | 3,
    TSS = 0x28,
    CODE16_0 = 0x30, /* 16-bit, base 0, limit 64 KiB */
    DATA16_0 = 0x38,
    CODE1 = 0x40 | 1,
    DATA1 = 0x48 | 1,
    CODE2 = 0x50 | 2,
    DATA2 = 0x58 | 2,
    FREE = 0x60,
    GDT_SLOTS = 64,
};

struct tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, iomap;
    uint8_t maps[32 + 8192 + 4]; /* interrupt redirection, I/O permission, and the end byte */
};

extern uint64_t gdt[GDT_SLOTS];
extern uint64_t idt[256];
extern struct tss tss;
extern uint8_t test_stack[4][4096];  /* one a level; contexts begin at the top */
extern uint8_t inner_stack[3][4096]; /* what the TSS holds for levels 0 to 2 */

/* Access-rights bytes and flags (bits 12 to 15) of descriptors. */
enum {
    D_DATA = 0x93,
    D_CODE = 0x9b,
    D_CONFORMING = 0x9f,
    D_LDT = 0x82,
    D_TSS = 0x89,
    D_TSS16 = 0x81,
    D_FLAT = 0xc000, /* 4 KiB granularity, 32-bit */
};

/* limit is as the descriptor holds it: 20 bits. */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}
static inline uint32_t dpl(unsigned n)
{
    return n << 5;
}

enum {
    G_CALL16 = 0x84,
    G_TASK = 0x85,
    G_INTERRUPT16 = 0x86,
    G_CALL = 0x8c,
    G_INTERRUPT = 0x8e,
    G_TRAP = 0x8f,
};
static inline uint64_t gate(uint16_t selector, uint32_t offset, uint32_t attr, unsigned parameters)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 |
           (uint64_t)attr << 40 | (uint64_t)(offset >> 16) << 48;
}

/* The context of flat code at a level, with that level's stack, interrupts off. */
struct context at_level(unsigned cpl);

/* Runs until an exception, interrupt or INT ends it, and leaves in the context what it was. */
void run(struct context *c);

/* The same for code at a label. */
static inline void run_code(struct context *c, const void *code)
{
    c->eip = (uint32_t)code;
    run(c);
}

/* Runs code at level 0 and says what ended it. */
uint32_t run_simple(const void *code);

/* Loads GDTR, IDTR and TR again; for run_init() and for guests that changed them. */
void load_tables(void);

/* Entry points of all vectors, eight bytes apart. */
extern uint8_t trap_entries[];

static inline uint32_t trap_entry(unsigned vector)
{
    return (uint32_t)trap_entries + 16 * vector;
}

#endif

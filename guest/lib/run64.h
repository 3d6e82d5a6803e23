/*
 * Running pieces of code in 64-bit guests, at level 0 or 3, in 64-bit or compatibility mode, until
 * something happens.
 */
#ifndef GUEST_RUN64_H
#define GUEST_RUN64_H

#include "guest.h"

/* Registers, as run() loads them, and as they were when an event ended the code. The order is that
 * of trap64.S. */
struct context {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

/* What the handler of the last event found. */
extern uint64_t run_frame; /* RSP behind the pushed RIP, error code and vector included */
extern uint16_t run_handler_ss;

/* Selectors, in the order that SYSCALL and SYSRET want. */
enum {
    CODE0 = 0x08,
    DATA0 = 0x10,
    CODE32_0 = 0x18, /* compatibility mode */
    CODE32_3 = 0x20 | 3,
    DATA3 = 0x28 | 3,
    CODE3 = 0x30 | 3,
    TSS = 0x38, /* two slots */
    CODE16_0 = 0x48,
    FREE = 0x50,
    GDT_SLOTS = 64,
};

struct gate64 {
    uint64_t low, high;
};

struct tss {
    uint32_t reserved;
    uint64_t rsp[3], reserved2, ist[7], reserved3;
    uint16_t reserved4, iomap;
} __attribute__((packed));

extern uint64_t gdt[GDT_SLOTS];
extern struct gate64 idt[256];
extern struct tss tss;
extern uint8_t test_stack[4][4096], inner_stack[4096], ist_stack[4096];

/* Access-rights bytes and flags (bits 12 to 15) of descriptors. */
enum {
    D_DATA = 0x93,
    D_CODE = 0x9b,
    D_LDT = 0x82,
    D_TSS = 0x89,
    D_FLAT32 = 0xc000,
    D_FLAT64 = 0xa000,
};

static inline uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}
static inline uint32_t dpl(unsigned n)
{
    return n << 5;
}

enum { G_CALL = 0x8c, G_INTERRUPT = 0x8e, G_TRAP = 0x8f };

static inline struct gate64 gate(uint16_t selector, uint64_t offset, uint32_t attr, unsigned ist)
{
    return (struct gate64){(offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 |
                               (uint64_t)attr << 40 | (offset >> 16 & 0xffff) << 48,
                           offset >> 32};
}

/* The context of 64-bit code at level 0 or 3, interrupts off. */
struct context at_level(unsigned cpl);
/* And of compatibility mode. */
struct context compatible_at_level(unsigned cpl);

void run(struct context *c);

static inline void run_code(struct context *c, const void *code)
{
    c->rip = (uint64_t)code;
    run(c);
}
uint64_t run_simple(const void *code);

void load_tables(void);

extern uint8_t trap_entries[];

static inline uint64_t trap_entry(unsigned vector)
{
    return (uint64_t)trap_entries + 16 * vector;
}

/* Code of compatibility mode. */
#define CODE32(name, text) TESTED(name, ".code32\n" text "\nint $0x30\n.code64")

#endif

/*
 * A processor with a little memory and tables in it, for tests that call into x86/ without running
 * instructions.
 */
#ifndef DOPPEL_TEST_X86_FIXTURE_H
#define DOPPEL_TEST_X86_FIXTURE_H

#include <stdlib.h>

#include "memory/memory.h"
#include "test.h"
#include "x86/access.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"
#include "x86/descriptor.h"
#include "x86/sem/op.h"

/* Where things are in the fixture's memory. */
enum {
    AT_GDT = 0x1000,
    AT_IDT = 0x2000,
    AT_TSS = 0x3000,  /* the current task */
    AT_TSS2 = 0x3100, /* another one */
    AT_LDT = 0x3800,
    AT_CODE = 0x4000,
    STACK0 = 0x8000, /* tops of stacks */
    STACK1 = 0x9000,
    STACK3 = 0xa000,
    AT_PML4 = 0x10000, /* 4 pages: the first GiB, writable by all, in 2 MiB pages */
};

/* Selectors. */
enum {
    CODE0 = 0x08,
    DATA0 = 0x10,
    CODE3 = 0x18 | 3,
    DATA3 = 0x20 | 3,
    TSS_A = 0x28,
    GATE = 0x30,
    TSS_B = 0x38,
    LDT = 0x40,
    CONFORMING0 = 0x48,
    EXPAND_DOWN = 0x50,
    ABSENT = 0x58,
    EXECUTE_ONLY = 0x60,
    TSS_LONG = 0x68, /* two slots */
    CODE64_0 = 0x78,
    CODE64_3 = 0x80 | 3,
    CODE1 = 0x88 | 1,
    DATA1 = 0x90 | 1,
    GATE_LONG = 0x98, /* two slots */
    READ_ONLY = 0xa8,
    GDT_END = 0xb0,
};

struct fixture {
    struct memory memory;
    struct x86_cpu *c;
    struct op op;
};

static inline uint8_t *at(struct fixture *f, uint64_t gpa)
{
    return memory_hva(&f->memory, gpa);
}

/* The eight bytes of a segment, TSS or LDT descriptor; attr as in SEG_*, limit as the descriptor
 * holds it. */
static inline uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(base >> 24) << 56;
}

static inline uint64_t gate(uint16_t selector, uint32_t offset, unsigned type, unsigned dpl,
                            unsigned parameters)
{
    return (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 |
           (uint64_t)(type | dpl << 5 | SEG_P) << 40 | (uint64_t)(offset >> 16) << 48;
}

static inline void set_descriptor(struct fixture *f, uint16_t selector, uint64_t raw)
{
    store_u64(at(f, AT_GDT + (selector & ~7u)), raw);
}

static inline uint64_t get_descriptor(struct fixture *f, uint16_t selector)
{
    return load_u64(at(f, AT_GDT + (selector & ~7u)));
}

static inline void set_idt(struct fixture *f, unsigned vector, uint64_t raw)
{
    store_u64(at(f, AT_IDT + vector * (f->c->long_mode ? 16 : 8)), raw);
}

static inline struct x86_segment cached(struct fixture *f, uint16_t selector)
{
    struct x86_descriptor d = {.raw = get_descriptor(f, selector)};
    return (struct x86_segment){.base = desc_base(&d),
                                .limit = desc_limit(&d),
                                .attr = desc_attr(&d) | SEG_ACCESSED,
                                .selector = selector};
}

static void build_gdt(struct fixture *f)
{
    enum {
        FLAT_CODE = SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_DB | SEG_G,
        FLAT_CODE64 = SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_L | SEG_G,
        FLAT_DATA = SEG_P | SEG_S | SEG_WRITABLE | SEG_DB | SEG_G,
        DPL1 = 1 << SEG_DPL_SHIFT,
    };
    static const struct {
        uint16_t selector;
        uint32_t base, limit, attr;
    } row[] = {
        {CODE0, 0, 0xfffff, FLAT_CODE},
        {DATA0, 0, 0xfffff, FLAT_DATA},
        {CODE3, 0, 0xfffff, FLAT_CODE | SEG_DPL},
        {DATA3, 0, 0xfffff, FLAT_DATA | SEG_DPL},
        {CODE1, 0, 0xfffff, FLAT_CODE | DPL1},
        {DATA1, 0, 0xfffff, FLAT_DATA | DPL1},
        {TSS_A, AT_TSS, 0x67, SEG_P | DESC_TSS32},
        {TSS_B, AT_TSS2, 0x67, SEG_P | DESC_TSS32},
        {LDT, AT_LDT, 0x3f, SEG_P | DESC_LDT},
        {CONFORMING0, 0, 0xfffff, FLAT_CODE | SEG_EXPAND_DOWN},
        {EXPAND_DOWN, 0x100, 0xfff, SEG_P | SEG_S | SEG_WRITABLE | SEG_EXPAND_DOWN},
        {ABSENT, 0, 0xfffff, SEG_S | SEG_WRITABLE},
        {EXECUTE_ONLY, 0, 0xfffff, (FLAT_CODE & ~SEG_WRITABLE)},
        {READ_ONLY, 0, 0xfff, SEG_P | SEG_S},
        {TSS_LONG, AT_TSS, 0x67, SEG_P | DESC_TSS32},
        {CODE64_0, 0, 0xfffff, FLAT_CODE64},
        {CODE64_3, 0, 0xfffff, FLAT_CODE64 | SEG_DPL},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++)
        set_descriptor(f, row[i].selector, descriptor(row[i].base, row[i].limit, row[i].attr));
}

/* A processor in real mode, at 0:AT_CODE. */
static inline struct fixture *fixture_new(void)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct x86_cpu *c = calloc(1, sizeof *c);
    if (!f || !c || !memory_create(&f->memory, 2 << 20, NULL))
        abort();
    f->c = c;
    c->memory = &f->memory;
    c->model = x86_model_at(0);
    x86_state_reset(&c->s, true, false);
    x86_tlb_init(c);
    x86_set_status(c, 0);
    c->s.seg[X86_CS].base = 0;
    c->s.seg[X86_CS].selector = 0;
    c->s.gpr[X86_RSP] = STACK0;
    c->s.rip = AT_CODE + 2;
    c->op = &f->op;
    f->op.len = 2;
    f->op.end = 2;
    c->s.gpr[X86_GPR_BLOCK] = AT_CODE;
    x86_update_mode(c);
    build_gdt(f);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    memory_destroy(&f->memory);
    free(f->c);
    free(f);
}

/* Protected mode without paging, at CPL 0, 1 or 3, the TSS loaded, RIP behind an instruction of two
 * bytes at AT_CODE. */
static inline struct x86_cpu *fixture_protected(struct fixture *f, unsigned cpl)
{
    static const uint16_t code[] = {CODE0, CODE1, 0, CODE3};
    static const uint16_t data[] = {DATA0, DATA1, 0, DATA3};
    static const uint32_t stack[] = {STACK0, STACK1, 0, STACK3};
    struct x86_cpu *c = f->c;
    c->s.cr0 |= CR0_PE;
    c->s.gdtr = (struct x86_table){.base = AT_GDT, .limit = GDT_END - 1};
    c->s.idtr = (struct x86_table){.base = AT_IDT, .limit = 0x7ff};
    c->s.seg[X86_CS] = cached(f, code[cpl]);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        if (i != X86_CS)
            c->s.seg[i] = cached(f, data[cpl]);
    c->s.tr = cached(f, TSS_A);
    c->s.tr.attr |= 2;
    set_descriptor(f, TSS_A, get_descriptor(f, TSS_A) | BIT(41));
    c->s.ldtr = (struct x86_segment){.attr = SEG_UNUSABLE};
    c->s.gpr[X86_RSP] = stack[cpl];
    store_u32(at(f, AT_TSS + 4), STACK0);
    store_u32(at(f, AT_TSS + 8), DATA0);
    store_u32(at(f, AT_TSS + 12), STACK1);
    store_u32(at(f, AT_TSS + 16), DATA1);
    x86_update_mode(c);
    return c;
}

/* 64-bit mode at CPL 0 or 3. */
static inline struct x86_cpu *fixture_long(struct fixture *f, unsigned cpl)
{
    struct x86_cpu *c = fixture_protected(f, cpl);
    store_u64(at(f, AT_PML4), (AT_PML4 + 0x1000) | 7);
    store_u64(at(f, AT_PML4 + 0x1000), (AT_PML4 + 0x2000) | 7);
    store_u64(at(f, AT_PML4 + 0x2000), 0x87); /* one large page: all there is */
    c->s.cr3 = AT_PML4;
    c->s.cr4 |= CR4_PAE;
    c->s.cr0 |= CR0_PG | CR0_WP;
    c->s.efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    c->s.idtr.limit = 0xfff;
    c->s.seg[X86_CS] = cached(f, cpl ? CODE64_3 : CODE64_0);
    c->s.tr = cached(f, TSS_LONG);
    store_u64(at(f, AT_TSS + 4), STACK0);
    store_u64(at(f, AT_TSS + 36), STACK1); /* IST1 */
    x86_tlb_flush(c);
    x86_update_mode(c);
    return c;
}

/* Runs a statement and says what it raised: the vector, or -1. The error code is in c->fault. */
#define RAISED(c, statement)                                                                       \
    ({                                                                                             \
        volatile int raised_ = -1;                                                                 \
        if (setjmp((c)->fault_jump) == 0) {                                                        \
            statement;                                                                             \
        } else {                                                                                   \
            raised_ = (c)->fault.vector;                                                           \
        }                                                                                          \
        raised_;                                                                                   \
    })

#define CHECK_RAISES(c, statement, vector, code)                                                   \
    do {                                                                                           \
        CHECK_EQ(RAISED(c, statement), vector);                                                    \
        CHECK_EQ((c)->fault.error, code);                                                          \
    } while (0)

#endif

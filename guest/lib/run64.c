/*
 * The tables of 64-bit guests.
 */
#include "run64.h"

uint64_t gdt[GDT_SLOTS] __attribute__((aligned(16)));
struct gate64 idt[256] __attribute__((aligned(16)));
struct tss tss __attribute__((aligned(128)));
uint8_t test_stack[4][4096] __attribute__((aligned(4096)));
uint8_t inner_stack[4096] __attribute__((aligned(4096)));
uint8_t ist_stack[4096] __attribute__((aligned(4096)));

struct table {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

void load_tables(void)
{
    struct table g = {sizeof gdt - 1, (uint64_t)gdt}, i = {sizeof idt - 1, (uint64_t)idt};
    __asm__ volatile("lgdt %0" : : "m"(g));
    __asm__ volatile("lidt %0" : : "m"(i));
    gdt[TSS / 8] = descriptor((uint32_t)(uint64_t)&tss, sizeof tss - 1, D_TSS);
    gdt[TSS / 8 + 1] = (uint64_t)&tss >> 32;
    __asm__ volatile("lldt %w0; ltr %w1" : : "r"(0), "r"(TSS));
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" : : "r"(DATA0));
}

void run_init(void);
void run_init(void)
{
    gdt[CODE0 / 8] = descriptor(0, 0xfffff, D_CODE | D_FLAT64);
    gdt[DATA0 / 8] = descriptor(0, 0xfffff, D_DATA | D_FLAT32);
    gdt[CODE32_0 / 8] = descriptor(0, 0xfffff, D_CODE | D_FLAT32);
    gdt[CODE32_3 / 8] = descriptor(0, 0xfffff, D_CODE | D_FLAT32 | dpl(3));
    gdt[DATA3 / 8] = descriptor(0, 0xfffff, D_DATA | D_FLAT32 | dpl(3));
    gdt[CODE3 / 8] = descriptor(0, 0xfffff, D_CODE | D_FLAT64 | dpl(3));
    gdt[CODE16_0 / 8] = descriptor(0, 0xffff, D_CODE);
    for (unsigned v = 0; v < 256; v++) {
        bool open = v == BP || v == OF || (v >= DONE && v < DONE + 16);
        idt[v] = gate(CODE0, trap_entry(v), G_INTERRUPT | dpl(open ? 3 : 0), 0);
    }
    tss.rsp[0] = (uint64_t)inner_stack + sizeof inner_stack;
    tss.ist[0] = (uint64_t)ist_stack + sizeof ist_stack;
    tss.iomap = sizeof tss;
    load_tables();
}

struct context at_level(unsigned cpl)
{
    return (struct context){.cs = cpl ? CODE3 : CODE0,
                            .rflags = FLAG_FIXED,
                            .rsp = (uint64_t)test_stack[cpl] + 4096 - 256,
                            .ss = cpl ? DATA3 : DATA0};
}

struct context compatible_at_level(unsigned cpl)
{
    struct context c = at_level(cpl);
    c.cs = cpl ? CODE32_3 : CODE32_0;
    return c;
}

uint64_t run_simple(const void *code)
{
    struct context c = at_level(0);
    run_code(&c, code);
    return c.vector;
}

/*
 * The tables of 32-bit guests.
 */
#include "run32.h"

uint64_t gdt[GDT_SLOTS] __attribute__((aligned(16)));
uint64_t idt[256] __attribute__((aligned(16)));
struct tss tss __attribute__((aligned(4096)));
uint8_t test_stack[4][4096] __attribute__((aligned(4096)));
uint8_t inner_stack[3][4096] __attribute__((aligned(4096)));

/* Room above the top that the copy in trap32.S may read. */
enum { TOP = 4096 - 128 };

struct table {
    uint16_t limit;
    uint32_t base;
} __attribute__((packed));

static void set(uint16_t selector, uint64_t raw)
{
    gdt[selector >> 3] = raw;
}

void load_tables(void)
{
    struct table g = {sizeof gdt - 1, (uint32_t)gdt}, i = {sizeof idt - 1, (uint32_t)idt};
    __asm__ volatile("lgdt %0" : : "m"(g));
    __asm__ volatile("lidt %0" : : "m"(i));
    __asm__ volatile("ljmp %0, $1f\n1:" : : "i"(CODE0));
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs; mov %0, %%ss"
                     :
                     : "r"(DATA0));
    set(TSS, descriptor((uint32_t)&tss, sizeof tss - 1, D_TSS));
    __asm__ volatile("lldt %w0; ltr %w1" : : "r"(0), "r"(TSS));
}

void run_init(void);
void run_init(void)
{
    for (unsigned level = 0; level < 4; level++) {
        static const uint16_t code[] = {CODE0, CODE1, CODE2, CODE3};
        static const uint16_t data[] = {DATA0, DATA1, DATA2, DATA3};
        set(code[level], descriptor(0, 0xfffff, D_CODE | D_FLAT | dpl(level)));
        set(data[level], descriptor(0, 0xfffff, D_DATA | D_FLAT | dpl(level)));
    }
    set(CODE16_0, descriptor(0, 0xffff, D_CODE));
    set(DATA16_0, descriptor(0, 0xffff, D_DATA));
    for (unsigned v = 0; v < 256; v++) {
        bool open = v == BP || v == OF || (v >= DONE && v < DONE + 16);
        idt[v] = gate(CODE0, trap_entry(v), G_INTERRUPT | dpl(open ? 3 : 0), 0);
    }
    tss.ss0 = DATA0;
    tss.esp0 = (uint32_t)inner_stack[0] + TOP;
    tss.ss1 = DATA1;
    tss.esp1 = (uint32_t)inner_stack[1] + TOP;
    tss.ss2 = DATA2;
    tss.esp2 = (uint32_t)inner_stack[2] + TOP;
    tss.iomap = offsetof(struct tss, maps) + 32;
    memset(tss.maps, 0xff, sizeof tss.maps);
    load_tables();
}

struct context at_level(unsigned cpl)
{
    static const uint16_t code[] = {CODE0, CODE1, CODE2, CODE3};
    static const uint16_t data[] = {DATA0, DATA1, DATA2, DATA3};
    uint16_t d = data[cpl];
    return (struct context){.gs = d,
                            .fs = d,
                            .es = d,
                            .ds = d,
                            .cs = code[cpl],
                            .eflags = FLAG_FIXED,
                            .esp = (uint32_t)test_stack[cpl] + TOP,
                            .ss = d};
}

uint32_t run_simple(const void *code)
{
    struct context c = at_level(0);
    run_code(&c, code);
    return c.vector;
}

/*
 * Hardware task switches: by JMP, CALL, gates, interrupts and IRET; what is saved and loaded, busy
 * bits, links, and faults on either side of the switch.
 */
#include "lib/run32.h"

const char guest_name[] = "task";

enum {
    OTHER = FREE,        /* the TSS of another task */
    GATE = FREE + 8,     /* a task gate to it */
    HANDLER = FREE + 16, /* the TSS of a task that handles exceptions */
    SCRATCH = FREE + 24,
    LINKED16 = FREE + 32,
};

static struct tss other __attribute__((aligned(256))), handler __attribute__((aligned(256)));
static uint8_t other_stack[4096], handler_stack[4096];

CODE(other_code, "nop");

static unsigned type_of(uint16_t selector)
{
    return gdt[selector / 8] >> 40 & 15;
}

static void set_up(struct tss *t, uint16_t selector, const void *code, uint8_t *stack)
{
    memset(t, 0, 104);
    *t = (struct tss){.cr3 = read_cr3(),
                      .eip = (uint32_t)code,
                      .eflags = FLAG_FIXED | FLAG_CF,
                      .eax = 0xa0a0a0a0,
                      .ecx = 0xc1c1c1c1,
                      .edx = 0xd2d2d2d2,
                      .ebx = 0xb3b3b3b3,
                      .esp = (uint32_t)stack + 2048,
                      .ebp = 0xb5b5b5b5,
                      .esi = 0x56565656,
                      .edi = 0xd7d7d7d7,
                      .es = DATA3,
                      .cs = CODE0,
                      .ss = DATA0,
                      .ds = DATA0,
                      .fs = DATA1,
                      .gs = 0,
                      .ss0 = DATA0,
                      .esp0 = (uint32_t)stack + 3072,
                      .iomap = 104};
    gdt[selector / 8] = descriptor((uint32_t)t, 103, D_TSS);
}

static void reset(void)
{
    load_tables();
    set_up(&other, OTHER, other_code, other_stack);
    set_up(&handler, HANDLER, other_code, handler_stack);
    gdt[GATE / 8] = gate(OTHER, 0, G_TASK, 0);
    write_cr0(read_cr0() & ~(unsigned long)CR0_TS);
}

static uint16_t task_register(void)
{
    uint16_t tr;
    __asm__ volatile("str %0" : "=r"(tr));
    return tr;
}

CODE(jump, "movl %eax, 1f+4\n ljmp *1f\n jump_next: int $0x31\n1: .long 0, 0");
CODE(call, "movl %eax, 1f+4\n lcall *1f\n call_next: int $0x31\n1: .long 0, 0");
extern uint8_t jump_next[], call_next[];

static struct context go(const void *code, uint16_t selector)
{
    struct context c = at_level(0);
    c.eax = selector;
    c.ebx = 0x12345678;
    c.eflags |= FLAG_DF;
    run_code(&c, code);
    return c;
}

static void jump_loads_everything(void)
{
    reset();
    struct context c = go(jump, OTHER);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eip, (uint32_t)other_code_end);
    CHECK_EQ(c.eax, 0xa0a0a0a0);
    CHECK_EQ(c.ecx, 0xc1c1c1c1);
    CHECK_EQ(c.edx, 0xd2d2d2d2);
    CHECK_EQ(c.ebx, 0xb3b3b3b3);
    CHECK_EQ(c.esp, (uint32_t)other_stack + 2048);
    CHECK_EQ(c.ebp, 0xb5b5b5b5);
    CHECK_EQ(c.esi, 0x56565656);
    CHECK_EQ(c.edi, 0xd7d7d7d7);
    CHECK_EQ(c.es, DATA3);
    CHECK_EQ(c.fs, DATA1);
    CHECK_EQ(c.gs, 0);
    CHECK_EQ(c.eflags, FLAG_FIXED | FLAG_CF);
    CHECK_EQ(task_register(), OTHER);
    CHECK_EQ(type_of(TSS), 9);
    CHECK_EQ(type_of(OTHER), 11);
    CHECK(read_cr0() & CR0_TS);
}

static void jump_saves_everything(void)
{
    reset();
    go(jump, OTHER);
    CHECK_EQ(tss.eip, (uint32_t)jump_next);
    CHECK_EQ(tss.eflags, FLAG_FIXED | FLAG_DF);
    CHECK_EQ(tss.ebx, 0x12345678);
    CHECK_EQ(tss.esp, at_level(0).esp);
    CHECK_EQ(tss.cs, CODE0);
    CHECK_EQ(tss.ss, DATA0);
    CHECK_EQ(tss.gs, DATA0);
    CHECK_EQ(other.link, 0);
}

static void calls_nest(void)
{
    reset();
    struct context c = go(call, OTHER);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eflags, FLAG_FIXED | FLAG_CF | FLAG_NT);
    CHECK_EQ(other.link, TSS);
    CHECK_EQ(type_of(TSS), 11);
    CHECK_EQ(type_of(OTHER), 11);
}

CODE(return_code, "iret\n return_again: movl $0x1234, %ecx\n iret");
extern uint8_t return_again[];

static void iret_returns_to_the_caller(void)
{
    reset();
    other.eip = (uint32_t)return_code;
    struct context c = go(call, OTHER);
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(c.eip, (uint32_t)call_next + 2);
    CHECK_EQ(c.ebx, 0x12345678);
    CHECK_EQ(c.eflags, FLAG_FIXED | FLAG_DF);
    CHECK_EQ(task_register(), TSS);
    CHECK_EQ(type_of(OTHER), 9);
    CHECK_EQ(type_of(TSS), 11);
    CHECK_EQ(other.eip, (uint32_t)return_again);
    CHECK_EQ(other.eflags & FLAG_NT, 0);

    c = go(call, OTHER); /* goes on behind its IRET */
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(other.ecx, 0x1234);
}

static void gates_lead_to_tasks(void)
{
    reset();
    struct context c = go(jump, GATE);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(task_register(), OTHER);
    reset();
    c = at_level(3);
    c.eax = GATE;
    run_code(&c, call);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, GATE);
    reset();
    gdt[GATE / 8] = gate(OTHER, 0, G_TASK | dpl(3), 0);
    c = at_level(3);
    c.eax = GATE;
    run_code(&c, call);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, CODE0);
    CHECK_EQ(tss.cs, CODE3);
    reset();
    c = at_level(3); /* the TSS itself is of level 0 */
    c.eax = OTHER;
    run_code(&c, call);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, OTHER);
}

static void interrupts_lead_to_tasks(void)
{
    reset();
    uint64_t was = idt[0x40];
    idt[0x40] = gate(OTHER, 0, G_TASK, 0);
    other.eip = (uint32_t)return_code;
    CODE(interrupt, "int $0x40\n int $0x31");
    struct context c = go(interrupt, 0);
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(other.link, TSS);
    CHECK_EQ(c.ebx, 0x12345678);
    idt[0x40] = was;
}

static void error_codes_go_to_the_new_stack(void)
{
    reset();
    uint64_t was = idt[GP];
    idt[GP] = gate(HANDLER, 0, G_TASK, 0);
    CODE(handle, "pop %eax\n mov %esp, %ebx");
    CODE(load_bad, "mov $0x1f8, %eax\n load_bad_at: mov %eax, %es");
    extern uint8_t load_bad_at[];
    gdt[0x1f8 / 8] = 0;
    handler.eip = (uint32_t)handle;
    struct context c = go(load_bad, 0);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax, 0x1f8);
    CHECK_EQ(c.ebx, (uint32_t)handler_stack + 2048);
    CHECK_EQ(tss.eip, (uint32_t)load_bad_at);
    CHECK_EQ(handler.link, TSS);
    idt[GP] = was;
}

static void faults_of_the_old_task(void)
{
    reset();
    struct context c = go(jump, TSS); /* busy */
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, TSS);
    c = go(jump, OTHER | 4);
    CHECK_EQ(c.vector, GP);
    gdt[OTHER / 8] = descriptor((uint32_t)&other, 102, D_TSS);
    c = go(jump, OTHER);
    CHECK_EQ(c.vector, TS);
    CHECK_EQ(c.error, OTHER);
    gdt[OTHER / 8] = descriptor((uint32_t)&other, 103, D_TSS & ~0x80u);
    c = go(jump, OTHER);
    CHECK_EQ(c.vector, NP);
    CHECK_EQ(c.error, OTHER);
    gdt[GATE / 8] = gate(OTHER, 0, G_TASK & ~0x80u, 0);
    c = go(jump, GATE);
    CHECK_EQ(c.vector, NP);
    CHECK_EQ(c.error, GATE);
    gdt[GATE / 8] = gate(DATA0, 0, G_TASK, 0);
    c = go(jump, GATE);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, DATA0);
    CHECK_EQ(task_register(), TSS);
    CHECK_EQ(c.cs, CODE0);
    CHECK_EQ(c.ebx, 0x12345678);

    CODE(return_nowhere, "iret");
    tss.link = DATA0;
    c = at_level(0);
    c.eflags |= FLAG_NT;
    /* run() itself ends in an IRET: NT must be set by the code. */
    CODE(return_bad, "pushf\n orl $0x4000, (%esp)\n popf\n iret");
    c.eflags &= ~(uint32_t)FLAG_NT;
    run_code(&c, return_bad);
    CHECK_EQ(c.vector, TS);
    CHECK_EQ(c.error, DATA0);
    tss.link = OTHER; /* not busy */
    reset();
    c = at_level(0);
    run_code(&c, return_bad);
    CHECK_EQ(c.vector, TS);
    CHECK_EQ(c.error, OTHER);
    tss.link = 0;
}

/* Runs a switch to a task with one bad selector; the exception has its own task. */
static void bad_selector(uint32_t *field, uint16_t selector, unsigned vector, uint32_t error)
{
    uint64_t was = idt[vector];
    CODE(take_error, "pop %eax");
    reset();
    *field = selector;
    idt[vector] = gate(HANDLER, 0, G_TASK, 0);
    handler.eip = (uint32_t)take_error;
    struct context c = go(jump, OTHER);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax, error);
    CHECK_EQ(handler.link, OTHER);
    CHECK_EQ(other.eip, (uint32_t)other_code);
    CHECK_EQ(other.ebx, 0xb3b3b3b3);
    CHECK_EQ(type_of(OTHER), 11);
    CHECK_EQ(type_of(TSS), 9);
    idt[vector] = was;
}

static void faults_of_the_new_task(void)
{
    gdt[SCRATCH / 8] = descriptor(0, 0xfffff, (D_DATA & ~0x80u) | D_FLAT);
    bad_selector(&other.cs, DATA0, TS, DATA0);
    bad_selector(&other.cs, 0, TS, 0);
    bad_selector(&other.ss, DATA3, TS, DATA3 & ~3u);
    bad_selector(&other.ss, 0, TS, 0);
    bad_selector(&other.ss, SCRATCH, SS, SCRATCH);
    bad_selector(&other.ds, SCRATCH, NP, SCRATCH);
    bad_selector(&other.es, OTHER, TS, OTHER);
    bad_selector(&other.gs, GDT_SLOTS * 8, TS, GDT_SLOTS * 8);
    bad_selector(&other.ldt, DATA0, TS, DATA0);
}

static void the_trap_flag_of_a_task(void)
{
    reset();
    other.trap = 1;
    write_dr6(0xffff0ff0);
    struct context c = go(jump, OTHER);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.eip, (uint32_t)other_code);
    CHECK_EQ(read_dr6() & 0xe00f, 1 << 15);
    write_dr6(0xffff0ff0);
}

static void local_breakpoints_end_with_the_task(void)
{
    reset();
    write_dr7(0x400 | 0x55);
    go(jump, OTHER);
    CHECK_EQ(read_dr7() & 0xff, 0);
    write_dr7(0x400);
}

static void tasks_in_virtual_8086_mode(void)
{
    reset();
    uint8_t *low = (uint8_t *)0x10000;
    low[0] = 0xcd;
    low[1] = DONE;
    other.eflags = FLAG_FIXED | FLAG_VM | FLAG_IOPL3;
    other.cs = 0x1000;
    other.eip = 0;
    other.ss = 0x2000;
    other.esp = 0x1000;
    other.ds = 0x1234;
    struct context c = go(jump, OTHER);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, 0x1000);
    CHECK_EQ(c.eip, 2);
    CHECK_EQ(c.eflags & FLAG_VM, FLAG_VM);
    CHECK_EQ(c.v86_ds, 0x1234);
}

struct tss16 {
    uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags;
    uint16_t ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};

static void tasks_of_16_bits(void)
{
    static struct tss16 small;
    uint8_t *low = (uint8_t *)0x9000;
    memcpy(low, other_code, 16);
    small = (struct tss16){.ip = 0x9000,
                           .flags = FLAG_FIXED | FLAG_ZF,
                           .ax = 0xaaaa,
                           .bx = 0xbbbb,
                           .sp = 0x8800,
                           .si = 0x5151,
                           .es = DATA0,
                           .cs = CODE0,
                           .ss = DATA0,
                           .ds = DATA3};
    reset();
    gdt[LINKED16 / 8] = descriptor((uint32_t)&small, sizeof small - 1, D_TSS16);
    struct context c = go(call, LINKED16);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax & 0xffff, 0xaaaa);
    CHECK_EQ(c.ebx & 0xffff, 0xbbbb);
    CHECK_EQ(c.esi & 0xffff, 0x5151);
    CHECK_EQ(c.ds, DATA3);
    CHECK_EQ(c.eip, 0x9000 + 3);
    CHECK_EQ(c.eflags, FLAG_FIXED | FLAG_ZF | FLAG_NT);
    CHECK_EQ(small.link, TSS);
    CHECK_EQ(type_of(LINKED16), 3);
    reset();
    gdt[LINKED16 / 8] = descriptor((uint32_t)&small, sizeof small - 2, D_TSS16);
    c = go(call, LINKED16);
    CHECK_EQ(c.vector, TS);
    CHECK_EQ(c.error, LINKED16);
}

/* A double fault has a task of its own in many systems: it works whatever the stack is. */
static void a_task_for_double_faults(void)
{
    reset();
    uint64_t was = idt[DF], was_gp = idt[GP];
    CODE(take_df, "pop %eax");
    CODE(raise_gp, "raise_gp_at: mov %eax, %es");
    extern uint8_t raise_gp_at[];
    idt[DF] = gate(HANDLER, 0, G_TASK, 0);
    idt[GP] = 0; /* not there: #GP, then #NP or #GP */
    handler.eip = (uint32_t)take_df;
    struct context c = go(raise_gp, GDT_SLOTS * 8);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax, 0);
    CHECK_EQ(tss.eip, (uint32_t)raise_gp_at);
    idt[DF] = was;
    idt[GP] = was_gp;
    reset();
}

const struct guest_test guest_tests[] = {
    {"jump loads everything", jump_loads_everything},
    {"jump saves everything", jump_saves_everything},
    {"calls nest", calls_nest},
    {"IRET returns to the caller", iret_returns_to_the_caller},
    {"gates lead to tasks", gates_lead_to_tasks},
    {"interrupts lead to tasks", interrupts_lead_to_tasks},
    {"error codes go to the new stack", error_codes_go_to_the_new_stack},
    {"faults of the old task", faults_of_the_old_task},
    {"faults of the new task", faults_of_the_new_task, .not_tcg = true},
    {"the trap flag of a task", the_trap_flag_of_a_task, .not_tcg = true},
    {"local breakpoints end with the task", local_breakpoints_end_with_the_task},
    {"tasks in virtual-8086 mode", tasks_in_virtual_8086_mode},
    {"tasks of 16 bits", tasks_of_16_bits},
    {"a task for double faults", a_task_for_double_faults},
    {0},
};

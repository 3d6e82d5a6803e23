/*
 * What an engine that runs guest code as it is likes to do without leaving it: system calls with
 * every flag masked, there and back, in a loop; IRET again and again, and with descriptors that
 * have changed since; strings over pages, with overlaps, downwards, and with a fault in the middle.
 */
#include "lib/apic.h"
#include "lib/run64.h"
#include "lib/window.h"

const char guest_name[] = "quick";

static uint8_t store[LARGE_SIZE] LARGE_PAGE;

/* Only the first 2 MiB of the window are there. */
static void map_window(void)
{
    map_page(0, store, W);
    map_page(1, NULL, 0);
}

/* ---- system calls ---- */

enum { SYSCALL_ALL = 0x257fd5, KEPT = FLAG_CF | FLAG_ZF | FLAG_OF | FLAG_DF };

/* Counts in RBX; what it finds wrong is counted in RBP. R12: the flags of the next return. */
CODE(kernel, "pushf\n pop %r8\n cmp $2, %r8\n jz 1f\n inc %rbp\n"
             "1: mov %cs, %r8d\n cmp $0x08, %r8\n jz 2f\n inc %rbp\n"
             "2: mov %ss, %r8d\n cmp $0x10, %r8\n jz 3f\n inc %rbp\n"
             "3: cmp %r13, %r11\n jz 4f\n inc %rbp\n"
             "4: lea calls_next(%rip), %r8\n cmp %r8, %rcx\n jz 5f\n inc %rbp\n"
             "5: inc %rbx\n mov %r12, %r11\n sysretq");
/* R12 and R13: the flags that it has, changed with each turn. */
CODE(calls, "1: mov %r12, %r13\n push %r12\n popf\n xor $0x841, %r12\n nop\n"
            "push %r13\n popf\n syscall\n calls_next:\n"
            "pushf\n pop %r8\n cmp %r12, %r8\n jz 2f\n inc %rbp\n"
            "2: mov %cs, %r8d\n cmp $0x33, %r8\n jz 3f\n inc %rbp\n"
            "3: xor $0x400, %r12\n dec %r9\n jnz 1b\n cld");

static void system_calls_there_and_back(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (uint64_t)CODE32_3 << 48 | (uint64_t)CODE0 << 32);
    wrmsr(MSR_LSTAR, (uint64_t)kernel);
    wrmsr(MSR_SFMASK, SYSCALL_ALL);
    struct context c = at_level(3);
    c.rbx = c.rbp = 0;
    c.r9 = 1000;
    c.r12 = FLAG_FIXED | FLAG_SF;
    run_code(&c, calls);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rbx, 1000);
    CHECK_EQ(c.rbp, 0);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.ss, DATA3);
}

/* What one side leaves set is not the other's: here the mask lets DF and CF through. */
static void system_calls_with_few_flags_masked(void)
{
    CODE(kernel_few, "pushf\n pop %rbx\n cld\n mov %r12, %r11\n sysretq");
    CODE(call_few, "std\n stc\n syscall\n pushf\n pop %rdi\n cld");
    wrmsr(MSR_LSTAR, (uint64_t)kernel_few);
    wrmsr(MSR_SFMASK, FLAG_IF);
    for (unsigned i = 0; i < 3; i++) {
        struct context c = at_level(3);
        c.r12 = FLAG_FIXED | FLAG_OF | FLAG_DF;
        run_code(&c, call_few);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rbx & KEPT, FLAG_CF | FLAG_DF);
        CHECK_EQ(c.rdi & KEPT, FLAG_OF | FLAG_DF);
    }
    wrmsr(MSR_SFMASK, SYSCALL_ALL);
}

static void sysret_to_nowhere(void)
{
    CODE(kernel_bad, "movabs $0x800000000000, %rcx\n mov $2, %r11\n bad_sysret: sysretq");
    CODE(call_bad, "syscall");
    extern uint8_t bad_sysret[];
    wrmsr(MSR_LSTAR, (uint64_t)kernel_bad);
    for (unsigned i = 0; i < 3; i++) {
        struct context c = at_level(3);
        run_code(&c, call_bad);
        CHECK_EQ(c.vector, GP);
        CHECK_EQ(c.cs, CODE0);
        CHECK_EQ(c.rip, (uint64_t)bad_sysret);
    }
}

/* ---- IRET ---- */

/* In: RAX to RDX: SS, RSP, CS, RIP; RSI: the flags. */
CODE(iretq, "push %rax\n push %rbx\n push %rsi\n push %rcx\n push %rdx\n iretq_at: iretq");
CODE(landing, "pushf\n pop %rdi");
extern uint8_t iretq_at[];

static struct context iret_to(uint16_t cs, uint16_t ss, uint64_t rip, uint64_t flags)
{
    struct context c = at_level(0);
    c.rax = ss;
    c.rbx = (uint64_t)test_stack[3] + sizeof test_stack[3];
    c.rcx = cs;
    c.rdx = rip;
    c.rsi = flags;
    run_code(&c, iretq);
    return c;
}

static void iret_there(uint16_t cs, uint16_t ss, uint64_t flags)
{
    struct context c = iret_to(cs, ss, (uint64_t)landing, flags | FLAG_FIXED);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, cs);
    CHECK_EQ(c.ss, ss);
    CHECK_EQ(c.rsp, (uint64_t)test_stack[3] + sizeof test_stack[3]);
    CHECK_EQ(c.rdi, flags | FLAG_FIXED);
}

static void iret_refused(uint16_t cs, uint16_t ss, unsigned vector, uint64_t error)
{
    struct context c = iret_to(cs, ss, (uint64_t)landing, FLAG_FIXED);
    CHECK_EQ(c.vector, vector);
    CHECK_EQ(c.error, error);
    CHECK_EQ(c.rip, (uint64_t)iretq_at);
    CHECK_EQ(c.cs, CODE0);
}

static void iret_goes_on(void)
{
    static const uint64_t flags[] = {0, FLAG_CF | FLAG_OF, FLAG_DF, FLAG_IOPL3, FLAG_AC, FLAG_SF};
    for (unsigned i = 0; i < 5 * ARRAY_LEN(flags); i++) {
        iret_there(CODE0, DATA0, flags[i % ARRAY_LEN(flags)]);
        iret_there(CODE0, 0, flags[i % ARRAY_LEN(flags)]);
        iret_there(CODE3, DATA3, flags[i % ARRAY_LEN(flags)]);
    }
    struct context c = iret_to(CODE3, DATA3, 0x800000000000, FLAG_FIXED);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.cs, CODE0);
    CHECK_EQ(c.rip, (uint64_t)iretq_at);
}

/* A descriptor that is not what it was the last time. */
static void iret_reads_descriptors(void)
{
    enum { PRESENT = 47, DPL0 = 45, LONG = 53 };
    static const uint16_t selectors[][2] = {{CODE0, DATA0}, {CODE3, DATA3}};
    for (unsigned i = 0; i < 2; i++) {
        uint16_t cs = selectors[i][0], ss = selectors[i][1];
        uint64_t *code = &gdt[FREE / 8], *stack = &gdt[FREE / 8 + 1], old;
        uint16_t own_cs = (uint16_t)(FREE | (cs & 3)), own_ss = (uint16_t)((FREE + 8) | (ss & 3));
        *code = gdt[cs / 8];
        *stack = gdt[ss / 8];
        for (unsigned k = 0; k < 3; k++)
            iret_there(own_cs, own_ss, FLAG_CF);
        old = *code;
        *code = old & ~(1ul << PRESENT);
        iret_refused(own_cs, own_ss, NP, FREE);
        *code = old ^ 1ul << DPL0;
        iret_refused(own_cs, own_ss, GP, FREE);
        *code = old;
        iret_there(own_cs, own_ss, 0);
        old = *stack;
        *stack = old & ~(1ul << PRESENT);
        iret_refused(own_cs, own_ss, SS, FREE + 8);
        *stack = old ^ 1ul << DPL0;
        iret_refused(own_cs, own_ss, GP, FREE + 8);
        *stack = old;
        iret_there(own_cs, own_ss, FLAG_DF);
    }
}

/* ---- strings ---- */

static void fill_pattern(void)
{
    for (unsigned i = 0; i < 0x8000; i++)
        store[i] = (uint8_t)(i * 7 + i / 256);
}

static uint8_t pattern(unsigned i)
{
    return (uint8_t)(i * 7 + i / 256);
}

CODE(rep_stosb, "rep stosb");
CODE(rep_stosq, "rep stosq");
CODE(rep_movsb, "rep movsb");
CODE(rep_movsq, "rep movsq");
CODE(rep_movsb_down, "std\n rep movsb\n cld");
CODE(rep_stosw_down, "std\n rep stosw\n cld");

static struct context strings(const void *code, uint64_t to, uint64_t from, uint64_t count)
{
    struct context c = at_level(3);
    c.rdi = to;
    c.rsi = from;
    c.rcx = count;
    c.rax = 0x1122334455667788;
    c.rflags |= FLAG_CF | FLAG_PF;
    run_code(&c, code);
    return c;
}

static void fills_over_pages(void)
{
    map_window();
    for (unsigned i = 0; i < 3; i++) {
        fill_pattern();
        struct context c = strings(rep_stosb, WINDOW + 0x0ff5, 0, 0x3010);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rcx, 0);
        CHECK_EQ(c.rdi, WINDOW + 0x4005);
        CHECK_EQ(c.rflags & (KEPT | FLAG_PF), FLAG_CF | FLAG_PF);
        CHECK_EQ(store[0xff4], pattern(0xff4));
        CHECK_EQ(store[0xff5], 0x88);
        CHECK_EQ(store[0x4004], 0x88);
        CHECK_EQ(store[0x4005], pattern(0x4005));
        c = strings(rep_stosq, WINDOW + 0x1ffb, 0, 0x201); /* elements that go over the end */
        CHECK_EQ(c.rdi, WINDOW + 0x3003);
        CHECK_EQ(*(uint64_t *)(store + 0x1ffb), 0x1122334455667788);
        CHECK_EQ(*(uint64_t *)(store + 0x2ffb), 0x1122334455667788);
        CHECK_EQ(store[0x3003], 0x88);
        c = strings(rep_stosb, WINDOW + LARGE_SIZE, 0, 0); /* nothing, where nothing is */
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rdi, WINDOW + LARGE_SIZE);
    }
}

static void copies_over_pages(void)
{
    map_window();
    for (unsigned i = 0; i < 3; i++) {
        fill_pattern();
        struct context c = strings(rep_movsb, WINDOW + 0x4abc, WINDOW + 0x0123, 0x2345);
        CHECK_EQ(c.rcx, 0);
        CHECK_EQ(c.rsi, WINDOW + 0x0123 + 0x2345);
        CHECK_EQ(c.rdi, WINDOW + 0x4abc + 0x2345);
        for (unsigned k = 0; k < 0x2345; k++)
            if (store[0x4abc + k] != pattern(0x123 + k))
                CHECK_EQ(k, 0x2345);
        CHECK_EQ(store[0x4abc + 0x2345], pattern(0x4abc + 0x2345));
        fill_pattern();
        c = strings(rep_movsq, WINDOW + 0x4ff9, WINDOW + 0x0ffd, 0x300);
        CHECK_EQ(c.rdi, WINDOW + 0x4ff9 + 0x1800);
        for (unsigned k = 0; k < 0x1800; k++)
            if (store[0x4ff9 + k] != pattern(0xffd + k))
                CHECK_EQ(k, 0x1800);
    }
}

/* Each byte is the one before it: a copy onto itself, one further. */
static void copies_that_overlap(void)
{
    map_window();
    fill_pattern();
    struct context c = strings(rep_movsb, WINDOW + 0x0f01, WINDOW + 0x0f00, 0x2000);
    CHECK_EQ(c.rcx, 0);
    for (unsigned k = 0; k <= 0x2000; k++)
        if (store[0xf00 + k] != pattern(0xf00))
            CHECK_EQ(k, 0x2001);
    fill_pattern();
    c = strings(rep_movsb_down, WINDOW + 0x2f01, WINDOW + 0x2f00, 0x2000);
    CHECK_EQ(c.rcx, 0);
    CHECK_EQ(c.rsi, WINDOW + 0x0f00);
    CHECK_EQ(c.rdi, WINDOW + 0x0f01);
    for (unsigned k = 0; k < 0x2000; k++)
        if (store[0xf02 + k] != pattern(0xf01 + k))
            CHECK_EQ(k, 0x2000);
    fill_pattern();
    c = strings(rep_stosw_down, WINDOW + 0x3001, 0, 0x1000);
    CHECK_EQ(c.rdi, WINDOW + 0x1001);
    CHECK_EQ(store[0x3002], 0x77);
    CHECK_EQ(store[0x3003], pattern(0x3003));
    CHECK_EQ(store[0x1003], 0x88);
    CHECK_EQ(store[0x1002], pattern(0x1002));
}

/* The registers say how far it came. */
static void faults_in_the_middle(void)
{
    map_window();
    fill_pattern();
    for (unsigned i = 0; i < 3; i++) {
        uint64_t end = WINDOW + LARGE_SIZE;
        struct context c = strings(rep_stosb, end - 0x1803, 0, 0x5000);
        CHECK_EQ(c.vector, PF);
        CHECK_EQ(read_cr2(), end);
        CHECK_EQ(c.rdi, end);
        CHECK_EQ(c.rcx, 0x5000 - 0x1803);
        CHECK_EQ(c.rip, (uint64_t)rep_stosb);
        CHECK_EQ(store[LARGE_SIZE - 1], 0x88);
        c = strings(rep_movsb, WINDOW + 0x100, end - 0x1234, 0x5000);
        CHECK_EQ(c.vector, PF);
        CHECK_EQ(read_cr2(), end);
        CHECK_EQ(c.rsi, end);
        CHECK_EQ(c.rdi, WINDOW + 0x100 + 0x1234);
        CHECK_EQ(c.rcx, 0x5000 - 0x1234);
        c = strings(rep_movsq, end - 0x1004, WINDOW + 0x2345, 0x1000);
        CHECK_EQ(c.vector, PF);
        CHECK_EQ(c.rdi, end - 4);
        CHECK_EQ(c.rsi, WINDOW + 0x2345 + 0x1000);
        CHECK_EQ(c.rcx, 0x1000 - 0x200);
        c = strings(rep_stosb, 0x800000000000 - 1, 0, 1ul << 63); /* not canonical, or nothing */
        CHECK(c.vector == PF || c.vector == GP);
        CHECK_EQ(c.rdi, 0x800000000000 - 1);
        CHECK_EQ(c.rcx, 1ul << 63);
    }
}

/* ---- interrupts ---- */

enum { TIMER_VECTOR = 0x60, TIMER_COUNT = 100000 };

/* The instruction behind STI comes before an interrupt the first time, not each time. */
static void interrupts_of_loops_behind_sti(void)
{
    CODE(loop_jmp, "sti\n 1: jmp 1b");
    CODE(loop_jnz, "xor %eax, %eax\n inc %eax\n sti\n 1: jnz 1b");
    CODE(loop_two, "sti\n 1: sti\n jmp 1b");
    CODE(loop_loop, "sti\n 1: loop 1b");
    const void *const loops[] = {loop_jmp, loop_jnz, loop_two, loop_loop};
    apic_set(SVR, 0x1ff);
    apic_set(DIVIDE, BY_ONE);
    apic_set(LVT_TIMER, TIMER_VECTOR);
    for (unsigned i = 0; i < 3 * ARRAY_LEN(loops); i++) {
        struct context c = at_level(0);
        c.rcx = -1ul;
        apic_set(INITIAL, TIMER_COUNT);
        run_code(&c, loops[i % ARRAY_LEN(loops)]);
        CHECK_EQ(c.vector, TIMER_VECTOR);
        apic_set(EOI, 0);
    }
}

const struct guest_test guest_tests[] = {
    {"system calls there and back", system_calls_there_and_back},
    {"system calls with few flags masked", system_calls_with_few_flags_masked},
    {"SYSRET to nowhere", sysret_to_nowhere},
    {"IRET goes on", iret_goes_on},
    {"IRET reads descriptors each time", iret_reads_descriptors},
    {"interrupts of loops behind STI", interrupts_of_loops_behind_sti},
    {"fills over pages", fills_over_pages},
    {"copies over pages", copies_over_pages},
    {"copies that overlap", copies_that_overlap},
    {"faults in the middle of strings", faults_in_the_middle},
    {0},
};

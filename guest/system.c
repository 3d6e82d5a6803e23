/*
 * A kernel's own instructions among others, again and again: what they leave alone, what the next
 * instruction sees of what they did, what they refuse, and interrupts round them.
 */
#include "lib/apic.h"
#include "lib/run64.h"
#include "lib/window.h"

const char guest_name[] = "system";

enum { TURNS = 5, ALL_FLAGS = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF | FLAG_DF };

static uint8_t store[2][LARGE_SIZE] LARGE_PAGE;

extern uint64_t boot_pml4[512], boot_pdpt[512];
static uint64_t other_pml4[512] __attribute__((aligned(4096)));
static uint64_t other_pdpt[512] __attribute__((aligned(4096)));
static uint64_t other_pd[512] __attribute__((aligned(4096)));

/* Another address space, with the other page at WINDOW. */
static uint64_t other_space(void)
{
    map_page(0, store[0], W);
    memcpy(other_pml4, boot_pml4, sizeof other_pml4);
    memcpy(other_pdpt, boot_pdpt, sizeof other_pdpt);
    other_pml4[0] = (uint64_t)other_pdpt | P | W | U;
    other_pdpt[1] = (uint64_t)other_pd | P | W | U;
    other_pd[0] = (uint64_t)store[1] | P | W | U | LARGE;
    return (uint64_t)other_pml4;
}

/* ---- what they leave alone ---- */

/* With the registers that an engine may not have where the others are. */
#define BETWEEN(name, text)                                                                        \
    CODE(name, "lea 1(%r10), %r10\n lea (%r11, %r10), %r11\n" text                                 \
               "\n lea (%r11, %r10), %r11\n lea 1(%r10), %r10")
BETWEEN(cpuid_between, "cpuid");
BETWEEN(rdmsr_between, "rdmsr");
BETWEEN(wrmsr_between, "wrmsr");
BETWEEN(invlpg_between, "invlpg (%rbx)");
BETWEEN(invpcid_between, "invpcid (%rbx), %rsi");
BETWEEN(to_cr3_between, "mov %rsi, %cr3");

enum { AX = 1, CX = 2, DX = 4, BX = 8 };

static void check_kept(const struct context *c, const struct context *was, unsigned changed)
{
    CHECK_EQ(c->vector, DONE);
    CHECK_EQ(c->rflags, was->rflags);
    CHECK_EQ(c->rsp, was->rsp);
    CHECK_EQ(c->r10, was->r10 + 2);
    CHECK_EQ(c->r11, was->r11 + 2 * (was->r10 + 1));
    CHECK(memcmp(&c->r15, &was->r15, 4 * sizeof c->r15) == 0);
    CHECK(memcmp(&c->r9, &was->r9, 5 * sizeof c->r9) == 0); /* to RBP */
    CHECK((changed & BX) || c->rbx == was->rbx);
    CHECK((changed & DX) || c->rdx == was->rdx);
    CHECK((changed & CX) || c->rcx == was->rcx);
    CHECK((changed & AX) || c->rax == was->rax);
}

static struct context keeps(const void *code, unsigned level, struct context in, unsigned changed)
{
    static const uint64_t flags[] = {0, ALL_FLAGS, FLAG_CF | FLAG_AF | FLAG_SF, FLAG_DF | FLAG_ZF};
    struct context c = in;
    for (unsigned i = 0; i < 3 * ARRAY_LEN(flags); i++) {
        struct context at = at_level(level);
        c = in;
        c.cs = at.cs;
        c.ss = at.ss;
        c.rsp = at.rsp;
        c.rflags = FLAG_FIXED | flags[i % ARRAY_LEN(flags)];
        struct context was = c;
        run_code(&c, code);
        check_kept(&c, &was, changed);
    }
    return c;
}

static struct context numbered(void)
{
    struct context c = {0};
    uint64_t *reg = (uint64_t *)&c;
    for (unsigned i = 0; i < 15; i++)
        reg[i] = 0x1111222233334444ul * (i + 1);
    return c;
}

static bool has_invpcid(void)
{
    enum { FEATURES_7 = 7, INVPCID = 1 << 10 };
    uint32_t a, b, c, d;
    cpuid(0, &a, &b, &c, &d);
    if (a < FEATURES_7)
        return false;
    cpuid(FEATURES_7, &a, &b, &c, &d);
    return b & INVPCID;
}

static void registers_and_flags_are_kept(void)
{
    struct context c = numbered();
    uint32_t a, b, x, d;
    cpuid(1, &a, &b, &x, &d);
    c.rax = 0xffffffff00000001; /* the upper halves do not count */
    c.rcx = 0xffffffff00000000;
    for (unsigned level = 0; level <= 3; level += 3) {
        struct context after = keeps(cpuid_between, level, c, AX | BX | CX | DX);
        CHECK_EQ(after.rax, a);
        CHECK_EQ(after.rbx, b);
        CHECK_EQ(after.rcx, x);
        CHECK_EQ(after.rdx, d);
    }
    c = numbered();
    c.rcx = 0xabcdef0000000000 | MSR_KERNEL_GS_BASE;
    c.rax = 0xabcdef0112345678;
    c.rdx = 0xabcdef01ffff8765;
    keeps(wrmsr_between, 0, c, 0);
    CHECK_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0xffff876512345678);
    struct context after = keeps(rdmsr_between, 0, c, AX | DX);
    CHECK_EQ(after.rax, 0x12345678);
    CHECK_EQ(after.rdx, 0xffff8765);
    c = numbered();
    c.rbx = WINDOW;
    keeps(invlpg_between, 0, c, 0);
    if (has_invpcid()) {
        uint64_t descriptor[2] = {0, WINDOW};
        c.rbx = (uint64_t)descriptor;
        c.rsi = 0;
        keeps(invpcid_between, 0, c, 0);
    }
    c.rsi = read_cr3();
    keeps(to_cr3_between, 0, c, 0);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
}

/* ---- what the next instruction sees ---- */

/* R9 turns; what is read the one time is added up in R8, what the other time in R12. */
static struct context turns(unsigned level, const void *code, struct context c)
{
    struct context at = at_level(level);
    c.cs = at.cs;
    c.ss = at.ss;
    c.rsp = at.rsp;
    c.rflags = at.rflags;
    c.r8 = c.r12 = 0;
    c.r9 = TURNS;
    run_code(&c, code);
    CHECK_EQ(c.vector, DONE);
    return c;
}

static void bases_are_gone_by(void)
{
    static uint64_t cells[16] __attribute__((aligned(128))) = {[0] = 3, [8] = 5, [15] = 7};
    CODE(fs_base, "1: wrmsr\n add %fs:0, %r8\n xor $64, %eax\n wrmsr\n add %fs:(%rbx), %r12\n"
                  "xor $64, %eax\n dec %r9\n jnz 1b");
    CODE(gs_base, "1: wrmsr\n add %gs:0, %r8\n xor $64, %eax\n wrmsr\n add %gs:(%rbx), %r12\n"
                  "xor $64, %eax\n dec %r9\n jnz 1b");
    CODE(swapped, "1: wrmsr\n swapgs\n add %gs:0, %r8\n swapgs\n dec %r9\n jnz 1b");
    struct context in = {.rcx = MSR_FS_BASE, .rax = (uint64_t)cells, .rbx = 56};
    struct context c = turns(0, fs_base, in);
    CHECK_EQ(c.r8, 3 * TURNS);
    CHECK_EQ(c.r12, 7 * TURNS);
    in.rcx = MSR_GS_BASE;
    c = turns(0, gs_base, in);
    CHECK_EQ(c.r8, 3 * TURNS);
    CHECK_EQ(c.r12, 7 * TURNS);
    in.rcx = MSR_KERNEL_GS_BASE;
    c = turns(0, swapped, in);
    CHECK_EQ(c.r8, 3 * TURNS);
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, 0);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
}

static struct context two_pages(void)
{
    *(uint64_t *)store[0] = 3;
    *(uint64_t *)store[1] = 5;
    map_page(0, store[0], W);
    return (struct context){.rbx = WINDOW,
                            .r10 = WINDOW,
                            .rdi = (uint64_t)&boot_pd[1][0],
                            .rdx = boot_pd[1][0],
                            .rsi = (uint64_t)store[1] | P | W | U | LARGE};
}

/* The entry is changed between the read before it and the INVLPG. */
static void invlpg_comes_before_what_is_next(void)
{
    CODE(by_rbx, "1: add (%rbx), %r8\n mov %rsi, (%rdi)\n invlpg (%rbx)\n add (%rbx), %r12\n"
                 "mov %rdx, (%rdi)\n invlpg (%rbx)\n dec %r9\n jnz 1b");
    CODE(by_r10, "1: add (%r10), %r8\n mov %rsi, (%rdi)\n invlpg 7(%r10, %rbp)\n"
                 "add (%r10), %r12\n mov %rdx, (%rdi)\n invlpg (%r10)\n dec %r9\n jnz 1b");
    CODE(by_gs, "1: add %gs:(%rbp), %r8\n mov %rsi, (%rdi)\n invlpg %gs:(%rbp)\n"
                "add %gs:(%rbp), %r12\n mov %rdx, (%rdi)\n invlpg %gs:8\n dec %r9\n jnz 1b");
    const void *const codes[] = {by_rbx, by_r10, by_gs};
    wrmsr(MSR_GS_BASE, WINDOW);
    for (unsigned i = 0; i < ARRAY_LEN(codes); i++) {
        struct context c = turns(0, codes[i], two_pages());
        CHECK_EQ(c.r8, 3 * TURNS);
        CHECK_EQ(c.r12, 5 * TURNS);
    }
    wrmsr(MSR_GS_BASE, 0);
}

/* One address of the address space, all of it, everything, everything but what is global: all are
 * in force for the next instruction. */
static void invpcid_comes_before_what_is_next(void)
{
    CODE(by_r11, "mov %rax, %r11\n 1: add (%rbx), %r8\n mov %rsi, (%rdi)\n invpcid (%rcx), %r11\n"
                 "add (%rbx), %r12\n mov %rdx, (%rdi)\n invpcid (%rcx), %r11\n dec %r9\n jnz 1b");
    CODE(by_rbp, "1: xor %ebp, %ebp\n add (%r10), %r8\n mov %rsi, (%rdi)\n mov %rax, %rbp\n"
                 "invpcid (%rcx), %rbp\n xor %ebp, %ebp\n add (%r10), %r12\n mov %rdx, (%rdi)\n"
                 "mov %rax, %rbp\n invpcid (%rcx), %rbp\n dec %r9\n jnz 1b");
    CODE(by_r13, "1: xor %r13, %r13\n add (%r10), %r8\n mov %rsi, (%rdi)\n mov %rax, %r13\n"
                 "invpcid (%rcx), %r13\n xor %r13, %r13\n add (%r10), %r12\n mov %rdx, (%rdi)\n"
                 "mov %rax, %r13\n invpcid (%rcx), %r13\n dec %r9\n jnz 1b");
    CODE(by_rax, "1: add (%r10), %r8\n mov %rsi, (%rdi)\n invpcid (%rcx), %rax\n"
                 "add (%r10), %r12\n mov %rdx, (%rdi)\n invpcid (%rcx), %rax\n dec %r9\n jnz 1b");
    enum { TYPES = 4 };
    const void *const codes[] = {by_r11, by_rbp, by_r13, by_rax};
    for (unsigned i = 0; has_invpcid() && i < TYPES * ARRAY_LEN(codes); i++) {
        uint64_t type = i % TYPES, descriptor[2] = {0, type ? WINDOW + LARGE_SIZE : WINDOW};
        struct context in = two_pages();
        in.rax = type;
        in.rcx = (uint64_t)descriptor;
        struct context c = turns(0, codes[i / TYPES], in);
        CHECK_EQ(c.r8, 3 * TURNS);
        CHECK_EQ(c.r12, 5 * TURNS);
    }
}

/* ---- address spaces ---- */

CODE(by_rsi, "1: add (%rbx), %r8\n mov %rsi, %cr3\n add (%rbx), %r12\n mov %rdx, %cr3\n"
             "dec %r9\n jnz 1b");
CODE(from_r10, "mov %rsi, %r10\n mov %rdx, %r11\n 1: add (%rbx), %r8\n mov %r10, %cr3\n"
               "add (%rbx), %r12\n mov %r11, %cr3\n dec %r9\n jnz 1b");
/* The kernel side of a system call: the spaces are in R14 and R15. */
CODE(by_sysret, "xchg %r14, %r15\n mov %r14, %cr3\n sysretq");
CODE(by_iret, "xchg %r14, %r15\n mov %r14, %cr3\n mov %rsp, %rax\n push $0x2b\n push %rax\n"
              "push %r11\n push $0x33\n push %rcx\n iretq");
/* Without segments that an IRET to it would take away. */
CODE(user_side, "xor %eax, %eax\n mov %eax, %ds\n mov %eax, %es\n add %r9, %r9\n"
                "1: add (%rbx), %r8\n syscall\n xchg %r8, %r12\n dec %r9\n jnz 1b");

static void check_two_spaces(uint64_t keep)
{
    uint64_t here = read_cr3(), there = other_space() | (keep ? 1 : 0);
    const void *const kernels[] = {by_sysret, by_iret};
    for (unsigned i = 0; i < 2; i++) {
        struct context in = two_pages();
        in.rdx = here | keep;
        in.rsi = there | keep;
        struct context c = turns(0, i ? from_r10 : by_rsi, in);
        CHECK_EQ(c.r8, 3 * TURNS);
        CHECK_EQ(c.r12, 5 * TURNS);
        CHECK_EQ(read_cr3(), here);
        in.r14 = here | keep;
        in.r15 = there | keep;
        wrmsr(MSR_LSTAR, (uint64_t)kernels[i]);
        c = turns(3, user_side, in);
        CHECK_EQ(c.r8, 3 * TURNS);
        CHECK_EQ(c.r12, 5 * TURNS);
        CHECK_EQ(read_cr3(), here);
    }
}

static void spaces_are_switched(void)
{
    enum { PCIDE = 1 << 17 };
    uint32_t a, b, c, d;
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (uint64_t)CODE32_3 << 48 | (uint64_t)CODE0 << 32);
    wrmsr(MSR_SFMASK, 0x257fd5);
    check_two_spaces(0);
    cpuid(1, &a, &b, &c, &d);
    if (!(c & PCIDE))
        return;
    write_cr4(read_cr4() | PCIDE | CR4_PGE);
    check_two_spaces(1ul << 63);
    for (unsigned i = 0; i < 8; i++) /* our own code */
        boot_pd[0][i] |= G;
    write_cr4(read_cr4() & ~(unsigned long)CR4_PGE);
    write_cr4(read_cr4() | CR4_PGE);
    check_two_spaces(1ul << 63);
    for (unsigned i = 0; i < 8; i++)
        boot_pd[0][i] &= ~(uint64_t)G;
    write_cr4(read_cr4() & ~(unsigned long)(PCIDE | CR4_PGE));
}

/* The same bytes in both pages, but for the instruction behind them. */
static void put_code(const char *text, unsigned n)
{
    static const uint8_t inc_r8[] = {0x49, 0xff, 0xc0, 0xcd, DONE};
    static const uint8_t inc_r12[] = {0x49, 0xff, 0xc4, 0xcd, DONE};
    for (unsigned i = 0; i < 2; i++) {
        memcpy(store[i] + 0x100, text, n);
        memcpy(store[i] + 0x100 + n, i ? inc_r12 : inc_r8, sizeof inc_r8);
    }
}

static void check_moved(struct context in)
{
    for (unsigned i = 0; i < TURNS; i++) {
        map_page(0, store[0], W);
        struct context c = turns(0, (const void *)(WINDOW + 0x100), in);
        CHECK_EQ(c.r8, 0);
        CHECK_EQ(c.r12, 1);
    }
}

/* What comes next is where the new mapping says, though the code itself stands there. */
static void code_that_is_moved(void)
{
    uint64_t here = read_cr3();
    struct context in = two_pages();
    put_code("\x48\x89\x37\x0f\x01\x3b", 6); /* mov %rsi, (%rdi); invlpg (%rbx) */
    check_moved(in);
    in.rsi = other_space();
    put_code("\x90\x0f\x22\xde", 4); /* nop; mov %rsi, %cr3 */
    for (unsigned i = 0; i < TURNS; i++) {
        check_moved(in);
        write_cr3(here);
    }
}

/* ---- what they refuse ---- */

static void check_refused(unsigned level, const uint8_t *code, struct context c)
{
    struct context at = at_level(level);
    c.cs = at.cs;
    c.ss = at.ss;
    c.rsp = at.rsp;
    c.rflags = at.rflags | FLAG_CF | FLAG_DF;
    c.r9 = 0;
    run_code(&c, code);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.rip, (uint64_t)code + 3);
    CHECK_EQ(c.r9, 1);
    CHECK_EQ(c.cs, at.cs);
    CHECK_EQ(c.rflags & (FLAG_CF | FLAG_DF), FLAG_CF | FLAG_DF);
}

static void refusals(void)
{
    CODE(a_wrmsr, "inc %r9\n wrmsr\n inc %r9");
    CODE(a_rdmsr, "inc %r9\n rdmsr\n inc %r9");
    CODE(a_to_cr3, "inc %r9\n mov %rsi, %cr3\n inc %r9");
    CODE(an_invlpg, "inc %r9\n invlpg (%rbx)\n inc %r9");
    const uint8_t *const codes[] = {a_wrmsr, a_rdmsr, a_to_cr3, an_invlpg};
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < ARRAY_LEN(codes); k++)
            check_refused(3, codes[k],
                          (struct context){.rcx = MSR_KERNEL_GS_BASE, .rsi = read_cr3()});
        check_refused(0, a_wrmsr, (struct context){.rcx = MSR_FS_BASE, .rdx = 0x8000});
        check_refused(0, a_wrmsr, (struct context){.rcx = MSR_KERNEL_GS_BASE, .rdx = 0x8000});
        check_refused(0, a_wrmsr, (struct context){.rcx = 0x12345678});
        check_refused(0, a_rdmsr, (struct context){.rcx = 0x12345678});
        check_refused(0, a_to_cr3, (struct context){.rsi = read_cr3() | 1ul << 62});
    }
    CHECK_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0);
}

static void invpcid_refuses(void)
{
    static const struct {
        uint64_t type, pcid, address;
    } cases[] = {
        {0, 0, 1ul << 47}, {0, 1, 0}, {1, 1, 0}, {0, 1 << 12, 0}, {2, 1ul << 63, 0}, {4, 0, 0},
    };
    CODE(invalidate, "inc %r9\n invpcid (%rcx), %rax\n inc %r9");
    for (unsigned i = 0; has_invpcid() && i < TURNS * ARRAY_LEN(cases); i++) {
        unsigned n = i % ARRAY_LEN(cases);
        uint64_t descriptor[2] = {cases[n].pcid, cases[n].address};
        struct context c = {.rax = cases[n].type, .rcx = (uint64_t)descriptor};
        check_refused(0, invalidate, c);
        check_refused(3, invalidate, (struct context){.rax = 2, .rcx = (uint64_t)descriptor});
    }
}

/* ---- interrupts ---- */

enum { TIMER_VECTOR = 0x60, SELF_VECTOR = 0x61, TIMER_COUNT = 100000 };

/* One that comes while such an instruction is done is taken behind it. */
static void interrupts_of_loops(void)
{
    CODE(of_cpuid, "sti\n nop\n 1: xor %eax, %eax\n cpuid\n jmp 1b");
    CODE(of_rdmsr, "sti\n nop\n 1: rdmsr\n jmp 1b");
    CODE(of_invlpg, "sti\n nop\n 1: invlpg (%rbx)\n jmp 1b");
    CODE(of_to_cr3, "sti\n nop\n 1: mov %rsi, %cr3\n jmp 1b");
    CODE(behind_sti, "1: cli\n sti\n invlpg (%rbx)\n jmp 1b");
    const void *const loops[] = {of_cpuid, of_rdmsr, of_invlpg, of_to_cr3, behind_sti};
    apic_set(SVR, 0x1ff);
    apic_set(DIVIDE, BY_ONE);
    apic_set(LVT_TIMER, TIMER_VECTOR);
    for (unsigned i = 0; i < TURNS * ARRAY_LEN(loops); i++) {
        struct context c = at_level(0);
        c.rcx = MSR_KERNEL_GS_BASE;
        c.rbx = WINDOW;
        c.rsi = read_cr3();
        apic_set(INITIAL, TIMER_COUNT);
        run_code(&c, loops[i % ARRAY_LEN(loops)]);
        CHECK_EQ(c.vector, TIMER_VECTOR);
        apic_set(EOI, 0);
    }
}

enum {
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_DEADLINE = 0x6e0,
    X2APIC_TPR = 0x808,
    X2APIC_EOI = 0x80b,
    X2APIC_TIMER = 0x832,
    X2APIC_SELF = 0x83f,
    ENABLED = 1 << 11,
    EXTENDED = 1 << 10,
};

/* What a WRMSR asks for comes, and with interrupts off it waits. */
static void check_self(void)
{
    CODE(sent, "sti\n nop\n wrmsr\n 1: jmp 1b");
    CODE(waits, "cli\n wrmsr\n inc %rbx\n inc %rbx\n sti\n nop\n 1: jmp 1b");
    struct context c = at_level(0);
    c.rcx = X2APIC_SELF;
    c.rax = SELF_VECTOR;
    run_code(&c, sent);
    CHECK_EQ(c.vector, SELF_VECTOR);
    wrmsr(X2APIC_EOI, 0);
    c = at_level(0);
    c.rcx = X2APIC_SELF;
    c.rax = SELF_VECTOR;
    c.rbx = 0;
    run_code(&c, waits);
    CHECK_EQ(c.vector, SELF_VECTOR);
    CHECK_EQ(c.rbx, 2);
    wrmsr(X2APIC_EOI, 0);
}

static void check_deadline(void)
{
    CODE(at_once, "sti\n nop\n wrmsr\n 1: jmp 1b");
    struct context c = at_level(0);
    wrmsr(X2APIC_TIMER, TIMER_VECTOR | DEADLINE);
    wrmsr(MSR_TSC_DEADLINE, -1ul >> 1);
    CHECK_EQ(rdmsr(MSR_TSC_DEADLINE), -1ul >> 1);
    c.rcx = MSR_TSC_DEADLINE;
    c.rax = 1;
    run_code(&c, at_once);
    CHECK_EQ(c.vector, TIMER_VECTOR);
    CHECK_EQ(rdmsr(MSR_TSC_DEADLINE), 0);
    wrmsr(X2APIC_EOI, 0);
}

static void the_apic_by_registers(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);
    wrmsr(MSR_APIC_BASE, base | EXTENDED);
    for (unsigned i = 0; i < TURNS; i++) {
        wrmsr(X2APIC_TPR, i);
        CHECK_EQ(rdmsr(X2APIC_TPR), i);
        check_self();
        check_deadline();
    }
    wrmsr(X2APIC_TPR, 0);
    CODE(reserved, "inc %r9\n wrmsr\n inc %r9");
    check_refused(0, reserved, (struct context){.rcx = X2APIC_EOI, .rax = 1});
    check_refused(0, reserved, (struct context){.rcx = X2APIC_TPR, .rdx = 1});
    wrmsr(MSR_APIC_BASE, base & ~(uint64_t)ENABLED);
    wrmsr(MSR_APIC_BASE, base);
}

const struct guest_test guest_tests[] = {
    {"registers and flags are kept", registers_and_flags_are_kept},
    {"bases are gone by", bases_are_gone_by},
    {"INVLPG comes before what is next", invlpg_comes_before_what_is_next},
    {"INVPCID comes before what is next", invpcid_comes_before_what_is_next},
    {"address spaces are switched", spaces_are_switched},
    {"code that is moved from under itself", code_that_is_moved},
    {"refusals", refusals},
    {"INVPCID refuses", invpcid_refuses},
    {"interrupts of loops", interrupts_of_loops},
    {"the APIC by registers", the_apic_by_registers, .not_tcg = true},
    {0},
};

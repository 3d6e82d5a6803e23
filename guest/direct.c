/*
 * User code as an engine may run it as it is: 64-bit code with the selectors that Linux has, its
 * interrupts on. How it comes to the kernel and back, with which registers; whose vector registers
 * are whose; what it finds where its pages change.
 */
#include "lib/apic.h"
#include "lib/program.h"

const char guest_name[] = "direct";

enum { CR4_PCIDE = 1 << 17 };

/* Everything but what an event brings with it. */
static void check_registers(const struct context *now, const struct context *then)
{
    const uint64_t *n = &now->r15, *t = &then->r15;
    for (unsigned i = 0; i < 15; i++)
        CHECK_EQ(n[i], t[i]);
    CHECK_EQ(now->rsp, then->rsp);
    CHECK_EQ(now->cs, CODE3);
    CHECK_EQ(now->ss, DATA3);
}

/* ---- system calls ---- */

/* Notes what it got, and returns. */
CODE(kernel, "mov %rsp, seen_rsp\n mov $seen_top, %esp\n"
             "push %rax\n push %rcx\n push %rdx\n push %rbx\n push %rbp\n push %rsi\n push %rdi\n"
             "push %r8\n push %r9\n push %r10\n push %r11\n push %r12\n push %r13\n push %r14\n"
             "push %r15\n pushf\n pop seen_now\n mov seen_rsp, %rsp\n sysretq\n"
             ".balign 8\n seen_rsp: .quad 0\n seen_now: .quad 0\n"
             "seen_bottom: .skip 120\n seen_top:");
extern uint64_t seen_bottom[15], seen_rsp, seen_now;
USER(call, "push %rax\n popf\n mov $0x123456789abcdef0, %rax\n syscall\n call_next:");
extern uint8_t call_next[];

static void system_calls_keep_registers(void)
{
    static const uint64_t flags[] = {0, FLAG_CF | FLAG_OF, FLAG_DF, FLAG_NT, FLAG_AC, FLAG_ID, 0};
    prepare();
    wrmsr(MSR_LSTAR, (uint64_t)kernel);
    for (unsigned i = 0; i < 3 * ARRAY_LEN(flags); i++) {
        struct context c = user(), was;
        c.rax = flags[i % ARRAY_LEN(flags)] | FLAG_IF | FLAG_FIXED;
        was = c;
        run_code(&c, call_code);
        was.r11 = was.rax;
        was.rax = 0x123456789abcdef0;
        was.rcx = (uint64_t)call_next;
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rip, (uint64_t)call_next + 2);
        CHECK_EQ(c.rflags & ~(uint64_t)FLAG_RF, was.r11);
        check_registers(&c, &was);
        struct context seen = was; /* by the kernel */
        memcpy(&seen, seen_bottom, sizeof seen_bottom);
        seen.rsp = seen_rsp;
        check_registers(&seen, &was);
        CHECK_EQ(seen_now, was.r11 & ~(uint64_t)SYSCALL_MASK);
    }
}

static void system_calls_must_be_enabled(void)
{
    USER(call_off, "syscall");
    prepare();
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_SCE);
    struct context c = user(), was = c;
    run_code(&c, call_off_code);
    CHECK_EQ(c.vector, UD);
    CHECK_EQ(c.rip, (uint64_t)call_off_code);
    check_registers(&c, &was);
    prepare();
}

USER(set_bases, "wrfsbase %rax\n wrgsbase %rbx\n syscall\n rdfsbase %r12\n rdgsbase %r13");
USER(get_bases, "rdfsbase %r12\n rdgsbase %r13\n syscall\n rdfsbase %r14\n rdgsbase %r15");

static void bases_are_kept(void)
{
    static const uint64_t base[] = {
        0x1000,         0x7fffffffe000,     0x7fffffffeff8, 0x7ffffffff000,
        0x7fffffffffff, 0xffff800000000000, ~0ul,
    };
    prepare();
    if (!(read_cr4() & CR4_FSGSBASE))
        return;
    wrmsr(MSR_LSTAR, (uint64_t)kernel);
    for (unsigned i = 0; i < ARRAY_LEN(base); i++) {
        struct context c = user();
        c.rax = base[i];
        c.rbx = base[ARRAY_LEN(base) - 1 - i];
        struct context was = c;
        run_code(&c, set_bases_code);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.r12, was.rax);
        CHECK_EQ(c.r13, was.rbx);
        CHECK_EQ(rdmsr(MSR_FS_BASE), was.rax);
        CHECK_EQ(rdmsr(MSR_GS_BASE), was.rbx);
        wrmsr(MSR_FS_BASE, was.rbx); /* and the other way round */
        wrmsr(MSR_GS_BASE, was.rax);
        c = user();
        run_code(&c, get_bases_code);
        CHECK_EQ(c.r12, was.rbx);
        CHECK_EQ(c.r13, was.rax);
        CHECK_EQ(c.r14, was.rbx);
        CHECK_EQ(c.r15, was.rax);
    }
    wrmsr(MSR_FS_BASE, 0);
    wrmsr(MSR_GS_BASE, 0);
}

/* ---- exceptions ---- */

/* Code that raises one at label name_at, or behind which one comes, by name_behind. */
#define RAISES(name, text)                                                                         \
    USER(name, "nop\n" #name "_at:" text "\n" #name "_behind: int $0x31");                         \
    extern uint8_t name##_at[], name##_behind[]

RAISES(breakpoint, "int3");
RAISES(breakpoint_long, ".byte 0xcd, 3");
RAISES(overflow, ".byte 0xcd, 4");
RAISES(icebp, ".byte 0xf1");
RAISES(int80, "int $0x80");
RAISES(int1, ".byte 0xcd, 1");
RAISES(int21, "int $0x21");
RAISES(intcc, "int $0xcc");
RAISES(divide, "div %r8");
RAISES(undefined, "ud2");
RAISES(halt, "hlt");
RAISES(clear_if, "cli");
RAISES(port, "in $0x80, %al");
RAISES(msr, "rdmsr");
RAISES(control, "mov %cr0, %r9");
RAISES(not_canonical, "mov (%r10), %r9");
RAISES(not_canonical_stack, "mov (%rbp), %r9");
RAISES(misaligned, "movaps 1(%rsp), %xmm0");
RAISES(bad_selector, "mov %r14d, %es");
RAISES(vsyscall, "call *%r13");
/* A trap behind which there is something that the host must not answer. */
RAISES(breakpoint_before, "int3\n breakpoint_before_next: cpuid");

static void exceptions_of_all_kinds(void)
{
    static const struct {
        const uint8_t *code, *rip;
        uint64_t vector, error;
    } row[] = {
        {breakpoint_code, breakpoint_behind, BP, 0},
        {breakpoint_long_code, breakpoint_long_behind, BP, 0},
        {overflow_code, overflow_behind, OF, 0},
        {icebp_code, icebp_behind, DB, 0},
        {int80_code, int80_behind, 0x80, 0},
        {int1_code, int1_at, GP, 1 * 8 + 2},
        {int21_code, int21_at, GP, 0x21 * 8 + 2},
        {intcc_code, intcc_at, GP, 0xcc * 8 + 2},
        {divide_code, divide_at, DE, 0},
        {undefined_code, undefined_at, UD, 0},
        {halt_code, halt_at, GP, 0},
        {clear_if_code, clear_if_at, GP, 0},
        {port_code, port_at, GP, 0},
        {msr_code, msr_at, GP, 0},
        {control_code, control_at, GP, 0},
        {not_canonical_code, not_canonical_at, GP, 0},
        {not_canonical_stack_code, not_canonical_stack_at, SS, 0},
        {misaligned_code, misaligned_at, GP, 0},
        {bad_selector_code, bad_selector_at, GP, 0x1f8},
        {breakpoint_before_code, breakpoint_before_at + 1, BP, 0},
    };
    prepare();
    for (unsigned i = 0; i < 2 * ARRAY_LEN(row); i++) {
        unsigned n = i % ARRAY_LEN(row);
        struct context c = user();
        c.r8 = 0;
        c.r10 = 0x800000000000;
        c.rbp = 0xffff7ffffffffff8;
        c.r14 = 0x1f8;
        struct context was = c;
        run_code(&c, row[n].code);
        CHECK_EQ(c.vector, row[n].vector);
        CHECK_EQ(c.error, row[n].error);
        CHECK_EQ(c.rip, (uint64_t)row[n].rip);
        check_registers(&c, &was);
    }
}

/* Where Linux has something of its own. */
static void nothing_is_in_the_upper_half(void)
{
    prepare();
    for (unsigned i = 0; i < 3; i++) {
        struct context c = user();
        c.r13 = 0xffffffffff600000 + 0x400 * i;
        c.rdi = c.rsi = 0;
        struct context was = c;
        was.rsp -= 8;
        run_code(&c, vsyscall_code);
        CHECK_EQ(c.vector, PF);
        CHECK_EQ(c.error & ~(uint64_t)E_I, E_U);
        CHECK_EQ(c.rip, was.r13);
        CHECK_EQ(read_cr2(), was.r13);
        CHECK_EQ(*(uint64_t *)c.rsp, (uint64_t)vsyscall_behind);
        was.rax = c.rax;
        check_registers(&c, &was);
    }
}

/* ---- single steps ---- */

#define STEP "pushf\n orl $0x100, (%rsp)\n popf\n"
RAISES(step_nop, STEP "step_nop_next: nop");
RAISES(step_breakpoint, STEP "step_breakpoint_next: int3");
RAISES(step_onto, STEP "step_onto_next: nop\n step_onto_cpuid: cpuid\n");
RAISES(step_over, STEP "step_over_next: cpuid");
RAISES(step_icebp, STEP "step_icebp_next: .byte 0xf1");
RAISES(step_divide, STEP "step_divide_next: div %r8");
RAISES(step_call, STEP "step_call_next: syscall\n nop");
extern uint8_t step_onto_cpuid[], step_divide_next[];

static void single_steps(void)
{
    enum { BS = 1 << 14 };
    static const struct {
        const uint8_t *code, *rip;
        uint64_t vector, dr6;
    } row[] = {
        {step_nop_code, step_nop_behind, DB, BS},
        {step_breakpoint_code, step_breakpoint_behind, BP, 0},
        {step_onto_code, step_onto_cpuid, DB, BS},
        {step_over_code, step_over_behind, DB, BS},
        {step_icebp_code, step_icebp_behind, DB, 0},
        {step_divide_code, step_divide_next, DE, 0},
    };
    prepare();
    for (unsigned i = 0; i < 2 * ARRAY_LEN(row); i++) {
        unsigned n = i % ARRAY_LEN(row);
        struct context c = user();
        c.r8 = 0;
        write_dr6(0xffff0ff0);
        run_code(&c, row[n].code);
        CHECK_EQ(c.vector, row[n].vector);
        CHECK_EQ(c.rip, (uint64_t)row[n].rip);
        CHECK_EQ(c.rflags & FLAG_TF, FLAG_TF);
        CHECK_EQ(read_dr6() & 0xe00f, row[n].dr6);
    }
    /* SFMASK has TF: the step comes behind the instruction behind the call. */
    struct context c = user();
    wrmsr(MSR_LSTAR, (uint64_t)kernel);
    run_code(&c, step_call_code);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.rip, (uint64_t)step_call_behind);
    c.rflags &= ~(uint64_t)FLAG_TF;
    run(&c);
    CHECK_EQ(c.vector, 0x31);
}

/* ---- selectors ---- */

USER(load_selectors, "mov $0x2b, %eax\n mov %eax, %ds\n mov %ds, %ebx\n syscall\n"
                     "mov %ds, %edx\n mov %es, %esi\n xor %eax, %eax\n mov %eax, %ds");
USER(to_compatible, "push $0x23\n push $1f\n rex64 lret\n.code32\n"
                    "1: mov %cs, %ebx\n mov $0x12345678, %eax\n inc %eax\n int $0x31\n.code64");

static void selectors_are_the_guests(void)
{
    prepare();
    wrmsr(MSR_LSTAR, (uint64_t)kernel);
    for (unsigned i = 0; i < 2; i++) {
        struct context c = user();
        run_code(&c, load_selectors_code);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rbx, DATA3);
        CHECK_EQ(c.rdx, DATA3);
        CHECK_EQ(c.rsi, 0);
        c = user();
        run_code(&c, to_compatible_code);
        CHECK_EQ(c.vector, 0x31);
        CHECK_EQ(c.cs, CODE32_3);
        CHECK_EQ(c.rbx, CODE32_3);
        CHECK_EQ(c.rax, 0x12345679);
    }
}

/* ---- interrupts ---- */

static void endless_loops_are_interrupted(void)
{
    enum { VECTOR = 0x60, COUNT = 100000 };
    USER(endless, "1: jmp 1b");
    USER(counting, "1: inc %rax\n push %rax\n pop %rbx\n jmp 1b");
    prepare();
    apic_set(SVR, 0x1ff);
    apic_set(DIVIDE, BY_ONE);
    apic_set(LVT_TIMER, VECTOR);
    for (unsigned i = 0; i < 10; i++) {
        struct context c = user();
        c.rax = c.rbx = 0; /* it may come before the first instruction */
        struct context was = c;
        apic_set(INITIAL, COUNT);
        run_code(&c, i & 1 ? counting_code : endless_code);
        CHECK_EQ(c.vector, VECTOR);
        was.rax = c.rax;
        was.rbx = c.rbx;
        was.rsp = c.rsp;
        check_registers(&c, &was);
        CHECK(i & 1 ? c.rbx + 1 >= c.rax : c.rip == (uint64_t)endless_code);
        apic_set(EOI, 0);
    }
}

/* ---- vector registers ---- */

static uint32_t vectors[3][8] __attribute__((aligned(64)));

USER(load_all, "ldmxcsr (%rdx)\n fninit\n fildl (%rsi)\n movups (%rsi), %xmm0\n"
               "movups 16(%rsi), %xmm15");
USER(user_adds, "paddd %xmm0, %xmm15\n syscall\n paddd %xmm0, %xmm15\n stmxcsr (%rdx)\n"
                "fistpl 4(%rdx)\n movups %xmm0, (%rdi)\n movups %xmm15, 16(%rdi)\n");
/* RBP: what it does with them. */
CODE(kernel_vectors, "cmp $1, %ebp\n jb 3f\n je 2f\n paddd %xmm0, %xmm0\n"
                     "2: movups %xmm15, 16(%rdi)\n movups %xmm0, (%rdi)\n stmxcsr 4(%rdx)\n"
                     "cmp $3, %ebp\n jne 3f\n fld1\n faddp\n 3: sysretq");
USER(user_adds_wide, "vpaddd %ymm1, %ymm0, %ymm0\n syscall\n vpaddd %ymm1, %ymm0, %ymm0\n"
                     "vmovdqu %ymm0, (%rdi)");
USER(load_wide, "vmovdqu (%rsi), %ymm0\n vmovdqu 32(%rsi), %ymm1");
CODE(kernel_wide, "test %ebp, %ebp\n jz 1f\n vpaddd %ymm0, %ymm0, %ymm0\n 1: sysretq");

static struct context vector_user(unsigned what)
{
    struct context c = user();
    c.rsi = (uint64_t)vectors[0];
    c.rdi = (uint64_t)vectors[2];
    c.rdx = (uint64_t)&code_pages[0];
    c.rbp = what;
    return c;
}

static uint32_t *control_word(void)
{
    return (uint32_t *)(void *)code_pages;
}

static void vectors_of_a_system_call(void)
{
    prepare();
    wrmsr(MSR_LSTAR, (uint64_t)kernel_vectors);
    for (unsigned i = 0; i < 12; i++) {
        unsigned what = i % 4;
        for (unsigned k = 0; k < 8; k++)
            vectors[0][k] = 100 * i + k;
        *control_word() = 0x1f80 | (i & 3) << 13;
        struct context c = vector_user(what);
        run_code(&c, load_all_code);
        CHECK_EQ(c.vector, DONE);
        *control_word() = 0;
        c = vector_user(what);
        run_code(&c, user_adds_code);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(control_word()[0], 0x1f80 | (i & 3) << 13);
        CHECK_EQ(control_word()[1], 100 * i + (what == 3));
        uint32_t first = 100 * i + 3, twice = what >= 2 ? 2 * first : first;
        CHECK_EQ(vectors[2][3], twice);
        CHECK_EQ(vectors[2][7], 100 * i + 7 + first + twice);
    }
    if (!feature(1, ECX, 28))
        return;
    wrmsr(MSR_LSTAR, (uint64_t)kernel_wide);
    for (unsigned i = 0; i < 8; i++) {
        struct context c = vector_user(0);
        for (unsigned k = 0; k < 8; k++) {
            vectors[0][k] = 10 * i + k;
            vectors[1][k] = 1000 * i + k;
        }
        run_code(&c, load_wide_code);
        c = vector_user(i & 1);
        run_code(&c, user_adds_wide_code);
        CHECK_EQ(c.vector, DONE);
        for (unsigned k = 0; k < 8; k++) {
            uint32_t sum = 1010 * i + 2 * k;
            CHECK_EQ(vectors[2][k], (i & 1 ? 2 * sum : sum) + 1000 * i + k);
        }
    }
}

/* The handler of a page fault uses them, and the access is made again. */
static void vectors_over_a_page_fault(void)
{
    USER(adds_and_faults, "paddd %xmm0, %xmm15\n mov (%rbx), %eax\n paddd %xmm0, %xmm15\n"
                          "movups %xmm15, 16(%rdi)");
    CODE(read_vectors, "test %ebp, %ebp\n jz 1f\n movups %xmm15, (%rdi)\n paddd %xmm0, %xmm0\n 1:");
    prepare();
    for (unsigned i = 0; i < 4; i++) {
        struct context c = vector_user(i), kernel_c = at_level(0);
        for (unsigned k = 0; k < 8; k++)
            vectors[0][k] = 100 * i + k;
        *control_word() = 0x1f80;
        run_code(&c, load_all_code);
        c = vector_user(i);
        c.rbx = WINDOW + 2 * PAGE;
        code_table[2] = 0;
        write_cr3(read_cr3());
        run_code(&c, adds_and_faults_code);
        CHECK_EQ(c.vector, PF);
        CHECK_EQ(read_cr2(), WINDOW + 2 * PAGE);
        kernel_c.rdi = (uint64_t)vectors[2];
        kernel_c.rbp = i;
        run_code(&kernel_c, read_vectors);
        if (i)
            CHECK_EQ(vectors[2][2], 200 * i + 8);
        map_code();
        run(&c);
        CHECK_EQ(c.vector, DONE);
        uint32_t first = 100 * i + 2;
        CHECK_EQ(vectors[2][6], 100 * i + 6 + first + (i ? 2 * first : first));
    }
}

/* ---- address spaces ---- */

/* Each finds what is in its own page 2 and its own registers. */
USER(in_a_space, "paddd %xmm0, %xmm15\n mov (%rbx), %rax\n incq (%rbx)\n stmxcsr (%rdx)\n"
                 "movups %xmm15, 16(%rdi)");
CODE(keep, "movups %xmm0, (%rdi)\n movups %xmm15, 16(%rdi)");
CODE(bring, "movups (%rdi), %xmm0\n movups 16(%rdi), %xmm15");

static void kernel_moves(const void *code, uint32_t *at)
{
    struct context c = at_level(0);
    c.rdi = (uint64_t)at;
    run_code(&c, code);
    CHECK_EQ(c.vector, DONE);
}

static void switch_spaces(uint64_t other, uint64_t keep_bit, uint64_t pcid)
{
    static uint32_t kept[2][8] __attribute__((aligned(16)));
    uint64_t root[2] = {read_cr3(), other | pcid};
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < 8; k++)
            kept[i][k] = k < 4 ? i + 1 : 0;
    *(uint64_t *)(code_pages + 2 * PAGE) = 5000;
    *(uint64_t *)(code_pages + 3 * PAGE) = 7000;
    for (unsigned i = 0; i < 12; i++) {
        unsigned n = i & 1;
        write_cr3(root[n] | (i > 1 ? keep_bit : 0));
        kernel_moves(bring, kept[n]);
        struct context c = vector_user(0);
        c.rbx = WINDOW + 2 * PAGE;
        run_code(&c, in_a_space_code);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rax, (n ? 7000 : 5000) + i / 2);
        CHECK_EQ(vectors[2][5], (n + 1) * (i / 2 + 1));
        kernel_moves(keep, kept[n]);
    }
    write_cr3(root[0]);
}

static void address_spaces(void)
{
    prepare();
    uint64_t other = other_space();
    other_table[2] = code_table[3];
    switch_spaces(other, 0, 0);
    if (!feature(1, ECX, 17))
        return;
    write_cr4(read_cr4() | CR4_PCIDE);
    switch_spaces(other, 1ull << 63, 5);
    switch_spaces(other, 0, 5);
    write_cr4(read_cr4() & ~(unsigned long)CR4_PCIDE);
}

/* ---- pages ---- */

USER(load_8, "mov (%rbx), %rax");
USER(store_8, "mov %rax, (%rbx)");
USER(jump, "jmp *%rbx");
#define DATA (WINDOW + 2 * PAGE)

/* One access to DATA; error: DONE, or that of the page fault that it is to raise. */
static void touch_data(const void *code, uint64_t error)
{
    struct context c = user();
    c.rbx = DATA;
    c.rax = 0x30cd; /* INT 30H, for the jump */
    run_code(&c, code);
    CHECK_EQ(c.vector, error == DONE ? DONE : PF);
    if (c.vector != PF)
        return;
    CHECK_EQ(c.error, error);
    CHECK_EQ(read_cr2(), DATA);
}

static void set_data(uint64_t entry, unsigned how)
{
    code_table[2] = entry;
    if (how & 1)
        __asm__ volatile("invlpg (%0)" : : "r"(DATA) : "memory");
    else
        write_cr3(read_cr3());
}

static void rights_come_and_go(void)
{
    uint64_t page = (uint64_t)(code_pages + 2 * PAGE), all = page | P | W | U;
    prepare();
    for (unsigned i = 0; i < 6; i++) {
        set_data(all, i);
        touch_data(store_8_code, DONE);
        touch_data(jump_code, DONE);
        touch_data(load_8_code, DONE);
        CHECK_EQ(code_table[2] & (A | D), A | D);
        set_data(page | P | U, i);
        touch_data(load_8_code, DONE);
        touch_data(store_8_code, E_P | E_W | E_U);
        CHECK_EQ(code_table[2] & (A | D), A);
        set_data(all | NX, i);
        touch_data(jump_code, E_P | E_U | E_I);
        CHECK_EQ(code_table[2] & (A | D), 0);
        touch_data(load_8_code, DONE);
        CHECK_EQ(code_table[2] & (A | D), A);
        touch_data(store_8_code, DONE);
        CHECK_EQ(code_table[2] & (A | D), A | D);
        set_data(page | P | W, i);
        touch_data(load_8_code, E_P | E_U);
        set_data(page | W | U, i);
        touch_data(load_8_code, E_U);
        touch_data(store_8_code, E_W | E_U);
    }
    map_code();
}

static void pages_are_exchanged(void)
{
    prepare();
    for (unsigned i = 0; i < 12; i++) {
        uint64_t *page = (uint64_t *)(code_pages + (2 + i / 2 % 2) * PAGE);
        struct context c = user();
        set_data((uint64_t)page | P | W | U, i);
        *page = 0x1000 + i;
        c.rbx = DATA;
        run_code(&c, load_8_code);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rax, 0x1000 + i);
    }
    map_code();
}

/* What users write there they run there, an instruction that must be watched at times. */
static void code_is_written(void)
{
    uint32_t r[4];
    prepare();
    cpuid(0, &r[0], &r[1], &r[2], &r[3]);
    for (unsigned i = 0; i < 12; i++) {
        struct context c = user();
        c.rbx = DATA;
        /* MOV RBX, i; or XOR EAX, EAX; CPUID; INT 30H */
        c.rax = i % 3 ? 0xcd00000000c3c748 | (uint64_t)i << 24 : 0x30cda20fc031;
        run_code(&c, store_8_code);
        CHECK_EQ(c.vector, DONE);
        *(uint16_t *)(code_pages + 2 * PAGE + 7) = 0x30cd;
        c = user();
        c.rbx = DATA;
        run_code(&c, jump_code);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rbx, i % 3 ? i : r[1]);
    }
}

/* As low and as high as programs can be: the last page but one, where Linux has none. */
static void code_at_either_end(void)
{
    static const uint8_t code[] = {0x48, 0xff, 0xc0, 0xcd, DONE}; /* INC RAX; INT 30H */
    static uint64_t top[3][512] __attribute__((aligned(4096)));
    static const uint64_t at[] = {0x1000,         0x7fffffffe000,     0x7ffffffff000 - sizeof code,
                                  0x7ffffffff000, 0x7ffffffff000 - 3, 0x800000000000 - sizeof code};
    prepare();
    boot_pml4[255] = (uint64_t)top[0] | P | W | U;
    top[0][511] = (uint64_t)top[1] | P | W | U;
    top[1][511] = (uint64_t)top[2] | P | W | U;
    top[2][510] = code_table[2];
    top[2][511] = code_table[3];
    write_cr3(read_cr3());
    for (unsigned i = 0; i < 2 * ARRAY_LEN(at); i++) {
        uint64_t rip = at[i % ARRAY_LEN(at)];
        struct context c = user();
        memcpy((void *)rip, code, sizeof code);
        c.rax = 41;
        run_code(&c, (const void *)rip);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.rax, 42);
        CHECK_EQ(c.rip, rip + sizeof code);
    }
}

const struct guest_test guest_tests[] = {
    {"system calls keep registers", system_calls_keep_registers},
    {"system calls must be enabled", system_calls_must_be_enabled},
    {"bases are kept", bases_are_kept},
    {"exceptions of all kinds", exceptions_of_all_kinds},
    {"nothing is in the upper half", nothing_is_in_the_upper_half},
    {"single steps", single_steps},
    {"selectors are the guest's", selectors_are_the_guests},
    {"endless loops are interrupted", endless_loops_are_interrupted},
    {"vectors of a system call", vectors_of_a_system_call},
    {"vectors over a page fault", vectors_over_a_page_fault},
    {"address spaces", address_spaces},
    {"rights come and go", rights_come_and_go},
    {"pages are exchanged", pages_are_exchanged},
    {"code is written", code_is_written},
    {"code at either end", code_at_either_end},
    {0},
};

/*
 * Long mode: what a trap pushes, stacks and IST, compatibility mode, SYSCALL and SYSENTER, the ways
 * back, canonical addresses, and what 64-bit code no longer has.
 */
#include "lib/run64.h"

const char guest_name[] = "long";

#define NOT_CANONICAL 0x0000800000000000

/* ---- delivery ---- */

CODE(undefined, "ud2");

static void frames_are_aligned_and_whole(void)
{
    for (unsigned off = 0; off < 16; off++) {
        struct context c = at_level(0);
        uint64_t rsp = c.rsp -= off;
        run_code(&c, undefined);
        CHECK_EQ(c.vector, UD);
        CHECK_EQ(c.rsp, rsp);
        CHECK_EQ(c.ss, DATA0);
        CHECK_EQ(run_frame, (rsp & ~15ull) - 40 - 16);
        CHECK_EQ(run_handler_ss, DATA0);
    }
}

static void an_inner_level_has_its_own_stack(void)
{
    struct context c = at_level(3);
    uint64_t rsp = c.rsp;
    run_code(&c, undefined);
    CHECK_EQ(c.vector, UD);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.ss, DATA3);
    CHECK_EQ(c.rsp, rsp);
    CHECK_EQ(run_frame, tss.rsp[0] - 40 - 16);
    CHECK_EQ(run_handler_ss, 0); /* null, with the new level as RPL */
}

static void interrupt_stack_table(void)
{
    struct gate64 was = idt[UD];
    idt[UD] = gate(CODE0, trap_entry(UD), G_INTERRUPT, 1);
    for (unsigned level = 0; level < 4; level += 3) {
        struct context c = at_level(level);
        run_code(&c, undefined);
        CHECK_EQ(c.vector, UD);
        CHECK_EQ(run_frame, tss.ist[0] - 40 - 16);
    }
    idt[UD] = was;
}

static void double_faults(void)
{
    CODE(raise_gp, "mov %eax, %es");
    struct gate64 was = idt[GP], was_df = idt[DF];
    idt[GP].low &= ~(1ull << 47);
    idt[DF] = gate(CODE0, trap_entry(DF), G_INTERRUPT, 1);
    struct context c = at_level(3);
    c.rax = GDT_SLOTS * 8;
    run_code(&c, raise_gp);
    CHECK_EQ(c.vector, DF);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.rip, (uint64_t)raise_gp);
    CHECK_EQ(run_frame, tss.ist[0] - 40 - 8 - 8);
    idt[GP] = was;
    /* A bad stack for the handler: #SS, contributory only to what is so itself. */
    uint64_t rsp0 = tss.rsp[0];
    tss.rsp[0] = NOT_CANONICAL;
    c = at_level(3);
    c.rax = GDT_SLOTS * 8;
    run_code(&c, raise_gp);
    CHECK_EQ(c.vector, DF);
    tss.rsp[0] = rsp0;
    idt[DF] = was_df;
}

static void handlers_are_64_bit_code(void)
{
    CODE(int31, "int $0x31");
    struct gate64 was = idt[0x31];
    idt[0x31] = gate(CODE32_0, trap_entry(0x31), G_INTERRUPT, 0);
    struct context c = at_level(0);
    run_code(&c, int31);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, CODE32_0);
    idt[0x31] = gate(CODE0, trap_entry(0x31), 0x86, 0); /* a 16-bit gate */
    c = at_level(0);
    run_code(&c, int31);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0x31 * 8 + 2);
    idt[0x31] = was;
}

/* ---- canonical addresses ---- */

static void addresses_must_be_canonical(void)
{
    CODE(load, "mov (%rbx), %rax");
    CODE(load_rbp, "mov (%rbp), %rax");
    CODE(push, "mov %rbx, %rsp\n push_at: push %rax");
    CODE(jump, "jump_at: jmp *%rbx");
    CODE(ret, "push %rbx\n ret_at: ret");
    extern uint8_t push_at[], jump_at[], ret_at[];
    struct context c = at_level(0);
    c.rbx = NOT_CANONICAL;
    run_code(&c, load);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    c = at_level(0);
    c.rbp = NOT_CANONICAL;
    run_code(&c, load_rbp);
    CHECK_EQ(c.vector, SS);
    CHECK_EQ(c.error, 0);
    struct gate64 was = idt[SS];
    idt[SS] = gate(CODE0, trap_entry(SS), G_INTERRUPT, 1);
    c = at_level(0);
    c.rbx = NOT_CANONICAL + 16;
    run_code(&c, push);
    CHECK_EQ(c.vector, SS);
    CHECK_EQ(c.rip, (uint64_t)push_at);
    idt[SS] = was;
    c = at_level(0);
    c.rbx = NOT_CANONICAL;
    run_code(&c, jump);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.rip, (uint64_t)jump_at); /* the jump faults, not its target */
    c = at_level(0);
    c.rbx = NOT_CANONICAL;
    run_code(&c, ret);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.rip, (uint64_t)ret_at);
}

/* ---- compatibility mode ---- */

CODE32(which_mode, ".byte 0x40\n nop"); /* INC EAX, or a REX prefix */

static void compatibility_mode_is_32_bits(void)
{
    for (unsigned level = 0; level < 4; level += 3) {
        struct context c = compatible_at_level(level);
        c.rax = 0x1ffffffff;
        run_code(&c, which_mode);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ((uint32_t)c.rax, 0);
        CHECK_EQ(c.cs, level ? CODE32_3 : CODE32_0);
        c = at_level(level);
        c.rax = 5;
        run_code(&c, which_mode);
        CHECK_EQ(c.rax, 5);
    }
}

static void far_transfers_change_the_mode(void)
{
    TESTED(round, "lcall *1f\n int $0x30\n1: .long 2f, 0x18\n"
                  ".code32\n2: movl $0x1234, %eax\n .byte 0x40\n movl %cs, %ebx\n lret\n.code64");
    struct context c = at_level(0);
    uint64_t rsp = c.rsp;
    run_code(&c, round);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rax, 0x1235);
    CHECK_EQ(c.rbx & 0xffff, CODE32_0);
    CHECK_EQ(c.cs, CODE0);
    CHECK_EQ(c.rsp, rsp);
    /* L and D together mean nothing. */
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_CODE | 0xe000);
    TESTED(both, "ljmp *1f\n1: .long 0, 0x50");
    c = at_level(0);
    run_code(&c, both);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, FREE);
}

static void leaving_and_entering_long_mode(void)
{
    CODE32(leave, "movl $0xc0000080, %ecx\n rdmsr\n movl %eax, %ebx\n"
                  "movl %cr0, %edi\n andl $0x7fffffff, %edi\n movl %edi, %cr0\n"
                  "rdmsr\n movl %eax, %esi\n"
                  "orl $0x80000000, %edi\n movl %edi, %cr0\n rdmsr");
    struct context c = compatible_at_level(0);
    run_code(&c, leave);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rbx & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
    CHECK_EQ(c.rsi & (EFER_LME | EFER_LMA), EFER_LME);
    CHECK_EQ(c.rax & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
}

static void long_mode_is_not_left_in_64_bit_code(void)
{
    CODE(no_paging, "mov %cr0, %rax\n and $0x7fffffff, %eax\n no_paging_at: mov %rax, %cr0");
    CODE(no_pae, "mov %cr4, %rax\n and $~0x20, %eax\n mov %rax, %cr4");
    CODE(no_lme, "mov $0xc0000080, %ecx\n rdmsr\n and $~0x100, %eax\n wrmsr");
    static const uint8_t *const code[] = {no_paging, no_pae, no_lme};
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(run_simple(code[i]), GP);
}

/* ---- IRET ---- */

CODE(iretq, "push %rax\n push %rbx\n pushf\n push %rcx\n push %rdx\n iretq_at: iretq");
CODE(landed, "mov %ss, %edi");
extern uint8_t iretq_at[];

static struct context return_to(uint64_t cs, uint64_t ss, uint64_t rip)
{
    struct context c = at_level(0);
    c.rax = ss;
    c.rbx = (uint64_t)test_stack[3] + 2048;
    c.rcx = cs;
    c.rdx = rip;
    run_code(&c, iretq);
    return c;
}

static void iretq_goes_everywhere(void)
{
    static const struct {
        uint64_t cs, ss;
    } row[] = {{CODE0, DATA0}, {CODE0, 0}, {CODE3, DATA3}, {CODE32_3, DATA3}, {CODE32_0, DATA0}};
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = return_to(row[i].cs, row[i].ss, (uint64_t)landed);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.cs, row[i].cs);
        CHECK_EQ(c.ss, row[i].ss);
        CHECK_EQ(c.rdi, row[i].ss);
        CHECK_EQ(c.rsp, (uint64_t)test_stack[3] + 2048);
    }
}

static void iretq_checks(void)
{
    static const struct {
        uint64_t cs, ss, rip, error;
    } row[] = {
        {0, DATA0, 0, 0},
        {DATA0, DATA0, 0, DATA0},
        {CODE3, 0, 0, 0},
        {CODE3, 3, 0, 0},
        {CODE32_0, 0, 0, 0},
        {CODE3, DATA0, 0, DATA0},
        {CODE0, DATA3, 0, DATA3 & ~3u},
        {CODE0 | 3, DATA3, 0, CODE0},
        {CODE3, DATA3, NOT_CANONICAL, 0},
        {CODE32_3, DATA3, 0x100000000, 0},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = return_to(row[i].cs, row[i].ss, row[i].rip);
        CHECK_EQ(c.vector, GP);
        CHECK_EQ(c.error, row[i].error);
        CHECK_EQ(c.rip, (uint64_t)iretq_at);
        CHECK_EQ(c.cs, CODE0);
    }
    CODE(nested, "pushf\n orl $0x4000, (%rsp)\n popf\n iretq");
    CHECK_EQ(run_simple(nested), GP);
}

static void iret_of_32_bits(void)
{
    CODE(iretl, "sub $20, %rsp\n movl $iretl_to, (%rsp)\n movl $0x33, 4(%rsp)\n"
                "movl $0x2, 8(%rsp)\n movl %ebx, 12(%rsp)\n movl $0x2b, 16(%rsp)\n iretl\n"
                "iretl_to: nop");
    struct context c = at_level(0);
    c.rbx = (uint64_t)test_stack[3] + 1024;
    run_code(&c, iretl);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.ss, DATA3);
    CHECK_EQ(c.rsp, (uint64_t)test_stack[3] + 1024);
}

/* ---- call gates ---- */

static void call_gates(void)
{
    TESTED(call_gate, "lcall *1f\n int $0x31\n1: .long 0, 0x50");
    CODE(callee, "mov %cs, %eax\n mov %ss, %ebx\n mov %rsp, %rsi\n mov 24(%rsp), %rdi\n lretq");
    struct gate64 g = gate(CODE0, (uint64_t)callee, G_CALL | dpl(3), 0);
    gdt[FREE / 8] = g.low;
    gdt[FREE / 8 + 1] = g.high;
    struct context c = at_level(3);
    uint64_t rsp = c.rsp;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.rsp, rsp);
    CHECK_EQ(c.rax, CODE0);
    CHECK_EQ(c.rbx, 0);
    CHECK_EQ(c.rsi, tss.rsp[0] - 32);
    CHECK_EQ(c.rdi, DATA3);
    gdt[FREE / 8 + 1] |= 1ull << 40; /* a type where none may be */
    c = at_level(3);
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, FREE);
    g = gate(CODE32_0, (uint64_t)callee, G_CALL | dpl(3), 0);
    gdt[FREE / 8] = g.low;
    gdt[FREE / 8 + 1] = g.high;
    c = at_level(3);
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, CODE32_0);
}

/* ---- SYSCALL ---- */

CODE(kernel, "mov %ss, %edi\n mov %rcx, %rsi\n nop");
CODE(syscall, "syscall\n syscall_next: nop");
extern uint8_t syscall_next[];

static void set_up_syscall(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (uint64_t)CODE32_3 << 48 | (uint64_t)CODE0 << 32);
    wrmsr(MSR_LSTAR, (uint64_t)kernel);
    wrmsr(MSR_SFMASK, FLAG_IF | FLAG_DF | FLAG_CF);
}

static void syscall_enters(void)
{
    set_up_syscall();
    for (unsigned level = 0; level < 4; level += 3) {
        struct context c = at_level(level);
        uint64_t rsp = c.rsp;
        c.rflags |= FLAG_CF | FLAG_ZF | FLAG_DF;
        run_code(&c, syscall);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.cs, CODE0);
        CHECK_EQ(c.ss, DATA0);
        CHECK_EQ(c.rdi, DATA0);
        CHECK_EQ(c.rsp, rsp);
        CHECK_EQ(c.rsi, (uint64_t)syscall_next);
        CHECK_EQ(c.r11, FLAG_FIXED | FLAG_CF | FLAG_ZF | FLAG_DF);
        CHECK_EQ(c.rflags, FLAG_FIXED | FLAG_ZF);
    }
}

static void syscall_must_be_enabled(void)
{
    set_up_syscall();
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_SCE);
    CHECK_EQ(run_simple(syscall), UD);
    CODE(sysretq, "sysretq");
    CHECK_EQ(run_simple(sysretq), UD);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
}

static void syscall_is_for_64_bit_code(void)
{
    set_up_syscall();
    CODE32(syscall32, ".byte 0x0f, 0x05");
    struct context c = compatible_at_level(3);
    run_code(&c, syscall32);
    CHECK_EQ(c.vector, UD);
}

static void sysret_returns(void)
{
    set_up_syscall();
    CODE(sysret64, "sysretq");
    CODE(sysret32, "sysretl");
    CODE(user, "mov %ss, %edi\n pushf\n pop %rbx");
    struct context c = at_level(0);
    c.rcx = (uint64_t)user;
    c.r11 = FLAG_FIXED | FLAG_CF | FLAG_IF | FLAG_RF | FLAG_VM | FLAG_IOPL3;
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    run_code(&c, sysret64);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.ss, DATA3);
    CHECK_EQ(c.rdi, DATA3);
    CHECK_EQ(c.rbx, FLAG_FIXED | FLAG_CF | FLAG_IF | FLAG_IOPL3);

    c = at_level(0);
    c.rcx = (uint64_t)which_mode;
    c.r11 = FLAG_FIXED;
    c.rax = 5;
    run_code(&c, sysret32);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, CODE32_3);
    CHECK_EQ(c.rax, 6);

    c = at_level(0); /* the fault is the kernel's */
    c.rcx = NOT_CANONICAL;
    c.r11 = FLAG_FIXED;
    run_code(&c, sysret64);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.cs, CODE0);
    c = at_level(3);
    c.rcx = (uint64_t)user;
    run_code(&c, sysret64);
    CHECK_EQ(c.vector, GP);
}

static void syscall_takes_the_step_away(void)
{
    set_up_syscall();
    wrmsr(MSR_SFMASK, FLAG_TF);
    struct context c = at_level(3);
    c.rflags |= FLAG_TF;
    run_code(&c, syscall);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.r11 & FLAG_TF, FLAG_TF);
    set_up_syscall();
}

/* ---- SYSENTER ---- */

static void sysenter_and_sysexit(void)
{
    CODE(sysenter, "sysenter");
    CODE32(sysenter32, "sysenter");
    CODE(sysexit64, "sysexitq");
    CODE(sysexit32, "sysexitl");
    wrmsr(MSR_SYSENTER_CS, 0);
    CHECK_EQ(run_simple(sysenter), GP);
    CHECK_EQ(run_simple(sysexit32), GP);
    wrmsr(MSR_SYSENTER_CS, CODE0);
    wrmsr(MSR_SYSENTER_EIP, (uint64_t)kernel);
    wrmsr(MSR_SYSENTER_ESP, (uint64_t)test_stack[1] + 2048);
    for (unsigned i = 0; i < 2; i++) {
        struct context c = i ? compatible_at_level(3) : at_level(3);
        c.rflags |= FLAG_CF;
        run_code(&c, i ? sysenter32 : sysenter);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.cs, CODE0);
        CHECK_EQ(c.ss, DATA0);
        CHECK_EQ(c.rsp, (uint64_t)test_stack[1] + 2048);
        CHECK_EQ(c.rflags, FLAG_FIXED | FLAG_CF);
    }
    struct context c = at_level(0);
    c.rcx = (uint64_t)test_stack[3] + 2048;
    c.rdx = (uint64_t)which_mode;
    c.rax = 5;
    run_code(&c, sysexit64);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, (CODE0 + 32) | 3);
    CHECK_EQ(c.ss, (CODE0 + 40) | 3);
    CHECK_EQ(c.rsp, (uint64_t)test_stack[3] + 2048);
    CHECK_EQ(c.rax, 5);
    c = at_level(0);
    c.rcx = (uint64_t)test_stack[3] + 2048;
    c.rdx = (uint64_t)which_mode;
    c.rax = 5;
    run_code(&c, sysexit32);
    CHECK_EQ(c.cs, (CODE0 + 16) | 3);
    CHECK_EQ(c.ss, (CODE0 + 24) | 3);
    CHECK_EQ(c.rax, 6);
    c = at_level(0);
    c.rcx = NOT_CANONICAL;
    c.rdx = (uint64_t)which_mode;
    run_code(&c, sysexit64);
    CHECK_EQ(c.vector, GP);
    c = at_level(3);
    run_code(&c, sysexit64);
    CHECK_EQ(c.vector, GP);
}

/* ---- segments of 64-bit code ---- */

static void bases_of_fs_and_gs(void)
{
    static uint64_t cell = 0x1122334455667788;
    CODE(load_fs, "mov %fs:8, %rax\n mov %gs:(%rbx), %rcx");
    wrmsr(MSR_FS_BASE, (uint64_t)&cell - 8);
    wrmsr(MSR_GS_BASE, 0xffff800000000000);
    struct context c = at_level(0);
    c.rbx = (uint64_t)&cell + 0x0000800000000000; /* wraps round */
    run_code(&c, load_fs);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rax, cell);
    CHECK_EQ(c.rcx, cell);
    gdt[FREE / 8] = descriptor(0x12345678, 0xfffff, D_DATA | D_FLAT32);
    CODE(set_gs, "mov %eax, %gs");
    c = at_level(0);
    c.rax = FREE;
    run_code(&c, set_gs);
    CHECK_EQ(rdmsr(MSR_GS_BASE), 0x12345678);
    wrmsr(MSR_GS_BASE, 0x55);
    c = at_level(0);
    c.rax = 0;
    run_code(&c, set_gs);
    CHECK_EQ(rdmsr(MSR_GS_BASE), 0);
    CODE(bad_base, "wrmsr");
    c = at_level(0);
    c.rcx = MSR_FS_BASE;
    c.rdx = NOT_CANONICAL >> 32;
    run_code(&c, bad_base);
    CHECK_EQ(c.vector, GP);
    wrmsr(MSR_FS_BASE, 0);
}

static void swapgs_swaps(void)
{
    CODE(swapgs, "swapgs");
    wrmsr(MSR_GS_BASE, 0x1000);
    wrmsr(MSR_KERNEL_GS_BASE, 0xffff800000002000);
    CHECK_EQ(run_simple(swapgs), DONE);
    CHECK_EQ(rdmsr(MSR_GS_BASE), 0xffff800000002000);
    CHECK_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x1000);
    struct context c = at_level(3);
    run_code(&c, swapgs);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(rdmsr(MSR_KERNEL_GS_BASE), 0x1000);
    c = compatible_at_level(0);
    run_code(&c, swapgs);
    CHECK_EQ(c.vector, UD);
    wrmsr(MSR_GS_BASE, 0);
}

static void null_segments_are_fine(void)
{
    static uint64_t cell = 77;
    CODE(null_ds, "xor %eax, %eax\n mov %eax, %ds\n mov (%rbx), %rcx");
    struct context c = at_level(3);
    c.rbx = (uint64_t)&cell;
    run_code(&c, null_ds);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rcx, 77);
    CODE(null_ss, "xor %eax, %eax\n mov %eax, %ss\n nop");
    CHECK_EQ(run_simple(null_ss), DONE);
    CODE(null_ss3, "mov $3, %eax\n mov %eax, %ss\n nop");
    c = at_level(3);
    run_code(&c, null_ss3);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
}

/* ---- what 64-bit code no longer has ---- */

static void instructions_that_are_gone(void)
{
    static const uint8_t row[][8] = {
        {0x06}, {0x07},       {0x0e}, {0x16},     {0x17},     {0x1e}, {0x1f},
        {0x27}, {0x2f},       {0x37}, {0x3f},     {0x60},     {0x61}, {0x82, 0xc0, 0},
        {0x9a}, {0xc4, 0x00}, {0xce}, {0xd4, 10}, {0xd5, 10}, {0xd6}, {0xea},
    };
    uint8_t *code = test_stack[1];
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        memcpy(code, row[i], 8);
        CHECK_EQ(run_simple(code), UD);
    }
}

static void wide_system_descriptors(void)
{
    static uint64_t ldt[2];
    CODE(lldt, "lldt %ax\n mov %ebx, %es");
    ldt[1] = descriptor(0, 0xfffff, D_DATA | D_FLAT32);
    gdt[FREE / 8] = descriptor((uint32_t)(uint64_t)ldt, sizeof ldt - 1, D_LDT);
    gdt[FREE / 8 + 1] = (uint64_t)ldt >> 32;
    struct context c = at_level(0);
    c.rax = FREE;
    c.rbx = 0x0c;
    run_code(&c, lldt);
    CHECK_EQ(c.vector, DONE);
    gdt[FREE / 8 + 1] = 0x8000; /* the base is not canonical */
    c = at_level(0);
    c.rax = FREE;
    run_code(&c, lldt);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, FREE);
    CODE(task, "ljmp *1f\n1: .long 0, 0x38");
    c = at_level(0); /* there are no task switches */
    run_code(&c, task);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, TSS);
    load_tables();
}

static void breakpoints_of_64_bits(void)
{
    static uint64_t cell[2] __attribute__((aligned(16)));
    CODE(store, "movb $1, 7(%rbx)\n store_next: nop");
    extern uint8_t store_next[];
    write_dr0((uint64_t)cell);
    write_dr7(0x400 | 2 | 1 << 16 | 2 << 18); /* eight bytes, writes */
    struct context c = at_level(0);
    c.rbx = (uint64_t)cell;
    run_code(&c, store);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.rip, (uint64_t)store_next);
    write_dr7(0x400);
    write_dr6(0xffff0ff0);
    CODE(bad_dr7, "mov %rax, %dr7");
    c = at_level(0);
    c.rax = 1ull << 32;
    run_code(&c, bad_dr7);
    CHECK_EQ(c.vector, GP);
}

static void compare_exchange_of_16_bytes_is_aligned(void)
{
    static uint64_t cell[4] __attribute__((aligned(16)));
    CODE(cmpxchg16b, "cmpxchg16b (%rdi)");
    struct context c = at_level(0);
    c.rdi = (uint64_t)cell;
    c.rbx = 1;
    c.rcx = 2;
    run_code(&c, cmpxchg16b);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(cell[0], 1);
    CHECK_EQ(cell[1], 2);
    c.rdi = (uint64_t)cell + 8;
    run_code(&c, cmpxchg16b);
    CHECK_EQ(c.vector, GP);
}

const struct guest_test guest_tests[] = {
    {"frames are aligned and whole", frames_are_aligned_and_whole},
    {"an inner level has its own stack", an_inner_level_has_its_own_stack},
    {"interrupt stack table", interrupt_stack_table},
    {"double faults", double_faults},
    {"handlers are 64-bit code", handlers_are_64_bit_code, .not_tcg = true},
    {"addresses must be canonical", addresses_must_be_canonical, .not_tcg = true},
    {"compatibility mode is 32 bits", compatibility_mode_is_32_bits},
    {"far transfers change the mode", far_transfers_change_the_mode, .not_tcg = true},
    {"leaving and entering long mode", leaving_and_entering_long_mode},
    {"long mode is not left in 64-bit code", long_mode_is_not_left_in_64_bit_code, .not_tcg = true},
    {"IRETQ goes everywhere", iretq_goes_everywhere},
    {"IRETQ checks", iretq_checks, .not_tcg = true},
    {"IRET of 32 bits", iret_of_32_bits},
    {"call gates", call_gates},
    {"SYSCALL enters", syscall_enters, .not_tcg = true},
    {"SYSCALL must be enabled", syscall_must_be_enabled},
    {"SYSCALL is for 64-bit code", syscall_is_for_64_bit_code, .not_tcg = true},
    {"SYSRET returns", sysret_returns, .not_tcg = true},
    {"SYSCALL takes the step away", syscall_takes_the_step_away},
    {"SYSENTER and SYSEXIT", sysenter_and_sysexit, .not_tcg = true},
    {"bases of FS and GS", bases_of_fs_and_gs, .not_tcg = true},
    {"SWAPGS swaps", swapgs_swaps},
    {"null segments are fine", null_segments_are_fine},
    {"instructions that are gone", instructions_that_are_gone},
    {"wide system descriptors", wide_system_descriptors, .not_tcg = true},
    {"breakpoints of 64 bits", breakpoints_of_64_bits},
    {"compare-exchange of 16 bytes is aligned", compare_exchange_of_16_bytes_is_aligned},
    {0},
};

/*
 * Exceptions: which instruction raises which, with what error code and saved EIP and flags, and
 * what a fault in the delivery of another makes of it.
 */
#include "lib/run32.h"

const char guest_name[] = "fault";

#define ERROR_EXT 1
#define ERROR_IDT 2

/* ---- one exception each ---- */

TESTED(divide, "xorl %ecx, %ecx\n divide_at: divl %ecx");
TESTED(breakpoint, "int3\n breakpoint_next:");
TESTED(overflow, "movb $0x7f, %al\n addb $1, %al\n into\n overflow_next:");
TESTED(bounds, "movl $11, %eax\n bounds_at: bound %eax, bounds_pair\n bounds_pair: .long 0, 10");
TESTED(undefined, "ud2");
TESTED(software, "int $0x31\n software_next:");
extern uint8_t divide_at[], breakpoint_next[], overflow_next[], bounds_at[], software_next[];

static void saved_addresses_and_flags(void)
{
    static const struct {
        const uint8_t *code, *eip;
        unsigned vector;
        bool fault; /* RF is set in the saved flags */
    } row[] = {
        {divide, divide_at, DE, true},        {breakpoint, breakpoint_next, BP, false},
        {overflow, overflow_next, OF, false}, {bounds, bounds_at, BR, true},
        {undefined, undefined, UD, true},     {software, software_next, 0x31, false},
    };
    for (unsigned level = 0; level < 4; level += 3) {
        for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
            struct context c = at_level(level);
            run_code(&c, row[i].code);
            CHECK_EQ(c.vector, row[i].vector);
            CHECK_EQ(c.eip, (uint32_t)row[i].eip);
            CHECK_EQ(c.eflags & FLAG_RF, row[i].fault ? FLAG_RF : 0);
        }
    }
}

TESTED(divide_too_far, "movl $1, %edx\n movl $1, %ecx\n divl %ecx");
TESTED(divide_signed, "movl $0x80000000, %eax\n cdq\n movl $-1, %ecx\n idivl %ecx");
TESTED(lock_register, "lock; incl %eax");
TESTED(lock_move, ".byte 0xf0, 0x89, 0x03");
TESTED(too_long,
       ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66\n"
       "nop");
TESTED(long_enough, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66\n"
                    "nop\n int $0x30");
TESTED(lea_register, ".byte 0x8d, 0xc0");
TESTED(load_cs, ".byte 0x8e, 0xc8");

static void undecodable_instructions(void)
{
    CHECK_EQ(run_simple(divide_too_far), DE);
    CHECK_EQ(run_simple(divide_signed), DE);
    CHECK_EQ(run_simple(lock_register), UD);
    CHECK_EQ(run_simple(lock_move), UD);
    CHECK_EQ(run_simple(too_long), GP);
    CHECK_EQ(run_simple(long_enough), DONE);
    CHECK_EQ(run_simple(lea_register), UD);
    CHECK_EQ(run_simple(load_cs), UD);
}

/* ---- privilege ---- */

static void privileged_instructions(void)
{
    static const struct {
        uint8_t bytes[8];
    } row[] = {
        {{0xf4}},             /* HLT */
        {{0xfa}},             /* CLI */
        {{0xfb}},             /* STI */
        {{0x0f, 0x06}},       /* CLTS */
        {{0x0f, 0x20, 0xc0}}, /* MOV EAX, CR0 */
        {{0x0f, 0x22, 0xd8}}, /* MOV CR3, EAX */
        {{0x0f, 0x21, 0xf8}}, /* MOV EAX, DR7 */
        {{0x0f, 0x30}},       /* WRMSR */
        {{0x0f, 0x32}},       /* RDMSR */
        {{0x0f, 0x08}},       /* INVD */
        {{0x0f, 0x09}},       /* WBINVD */
        {{0x0f, 0x01, 0x38}}, /* INVLPG [EAX] */
        {{0x0f, 0x01, 0x10}}, /* LGDT */
        {{0x0f, 0x01, 0xf0}}, /* LMSW AX */
        {{0x0f, 0x00, 0xd0}}, /* LLDT */
        {{0x0f, 0x00, 0xd8}}, /* LTR */
        {{0xec}},             /* IN AL, DX */
        {{0xef}},             /* OUT DX, EAX */
        {{0x6c}},             /* INSB */
    };
    uint8_t *code = test_stack[3];
    for (unsigned level = 1; level < 4; level++) {
        for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
            struct context c = at_level(level);
            memcpy(code, row[i].bytes, sizeof row[i].bytes);
            c.eax = (uint32_t)test_stack[3] + 1024;
            run_code(&c, code);
            CHECK_EQ(c.vector, GP);
            CHECK_EQ(c.error, 0);
            CHECK_EQ(c.eip, (uint32_t)code);
        }
    }
}

static void iopl_opens_ports_and_if(void)
{
    CODE(cli_sti, "cli\n sti\n inb $0x80, %al\n pushf\n pop %eax\n cli");
    for (unsigned iopl = 0; iopl < 4; iopl++) {
        for (unsigned level = 1; level < 4; level++) {
            struct context c = at_level(level);
            c.eflags |= iopl << 12;
            run_code(&c, cli_sti);
            CHECK_EQ(c.vector, level <= iopl ? DONE : GP);
            if (level <= iopl)
                CHECK_EQ(c.eax & FLAG_IF, FLAG_IF);
        }
    }
}

static void popf_ignores_what_it_may_not_change(void)
{
    CODE(set_all, "push $0x3202\n popf\n pushf\n pop %eax\n push $2\n popf");
    struct context c = at_level(3);
    run_code(&c, set_all);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax & (FLAG_IF | FLAG_IOPL3), 0);
    c = at_level(1);
    c.eflags |= 1 << 12;
    run_code(&c, set_all);
    CHECK_EQ(c.eax & (FLAG_IF | FLAG_IOPL3), FLAG_IF | 1 << 12);
    c = at_level(0);
    run_code(&c, set_all);
    CHECK_EQ(c.eax & (FLAG_IF | FLAG_IOPL3), FLAG_IF | FLAG_IOPL3);
}

static void user_mode_instruction_prevention(void)
{
    static const uint8_t row[][3] = {
        {0x0f, 0x00, 0xc0}, /* SLDT EAX */
        {0x0f, 0x00, 0xc8}, /* STR EAX */
        {0x0f, 0x01, 0xe0}, /* SMSW EAX */
        {0x0f, 0x01, 0x00}, /* SGDT [EAX] */
        {0x0f, 0x01, 0x08}, /* SIDT [EAX] */
    };
    uint32_t a, b, ecx, d;
    cpuid(7, &a, &b, &ecx, &d);
    bool umip = ecx & 4;
    uint8_t *code = test_stack[3];
    for (unsigned on = 0; on <= umip; on++) {
        write_cr4(on ? read_cr4() | CR4_UMIP : read_cr4() & ~(unsigned long)CR4_UMIP);
        for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
            struct context c = at_level(3);
            memcpy(code, row[i], 3);
            code[3] = 0xcd;
            code[4] = DONE;
            c.eax = (uint32_t)test_stack[3] + 1024;
            run_code(&c, code);
            CHECK_EQ(c.vector, on ? GP : DONE);
        }
    }
    write_cr4(read_cr4() & ~(unsigned long)CR4_UMIP);
}

static void time_stamp_disable(void)
{
    CODE(rdtsc, "rdtsc");
    struct context c = at_level(3);
    run_code(&c, rdtsc);
    CHECK_EQ(c.vector, DONE);
    write_cr4(read_cr4() | CR4_TSD);
    c = at_level(3);
    run_code(&c, rdtsc);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(run_simple(rdtsc), DONE);
    write_cr4(read_cr4() & ~(unsigned long)CR4_TSD);
}

static void control_registers_refuse_nonsense(void)
{
    CODE(set_cr0, "mov %eax, %cr0");
    CODE(set_cr4, "mov %eax, %cr4");
    struct context c = at_level(0);
    c.eax = (uint32_t)(read_cr0() & ~(unsigned long)CR0_PE) | CR0_PG; /* PG without PE */
    run_code(&c, set_cr0);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    c = at_level(0);
    c.eax = (uint32_t)(read_cr0() & ~(1ul << 30)) | 1 << 29; /* NW without CD */
    run_code(&c, set_cr0);
    CHECK_EQ(c.vector, GP);
    c = at_level(0);
    c.eax = (uint32_t)read_cr4() | 1u << 31;
    run_code(&c, set_cr4);
    CHECK_EQ(c.vector, GP);
}

/* ---- gates ---- */

static void gates_check_programs_and_not_faults(void)
{
    CODE(int32, "int $0x32");
    struct context c = at_level(3);
    uint64_t was = idt[0x32];
    idt[0x32] = gate(CODE0, trap_entry(0x32), G_INTERRUPT, 0);
    run_code(&c, int32);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0x32 * 8 + ERROR_IDT);
    CHECK_EQ(c.eip, (uint32_t)int32);
    idt[0x32] = gate(CODE0, trap_entry(0x32), (G_INTERRUPT & ~0x80u) | dpl(3), 0);
    c = at_level(3);
    run_code(&c, int32);
    CHECK_EQ(c.vector, NP);
    CHECK_EQ(c.error, 0x32 * 8 + ERROR_IDT);
    idt[0x32] = gate(CODE0, trap_entry(0x32), 0x8c | dpl(3), 0); /* a call gate */
    c = at_level(3);
    run_code(&c, int32);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0x32 * 8 + ERROR_IDT);
    idt[0x32] = gate(DATA0, trap_entry(0x32), G_INTERRUPT | dpl(3), 0);
    c = at_level(3);
    run_code(&c, int32);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, DATA0);
    idt[0x32] = was;

    was = idt[BP];
    idt[BP] = gate(CODE0, trap_entry(BP), G_INTERRUPT, 0);
    c = at_level(3);
    run_code(&c, breakpoint);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, BP * 8 + ERROR_IDT);
    CHECK_EQ(c.eip, (uint32_t)breakpoint);
    idt[BP] = was;
    c = at_level(3); /* a fault needs no DPL */
    run_code(&c, undefined);
    CHECK_EQ(c.vector, UD);
}

static void interrupt_gates_clear_if_and_trap_gates_do_not(void)
{
    static const uint32_t attr[] = {G_INTERRUPT, G_TRAP};
    CODE(read_flags, "pushf\n pop %eax\n cli\n");
    CODE(int33, "int $0x33");
    uint64_t was = idt[0x33];
    for (unsigned i = 0; i < 2; i++) {
        struct context c = at_level(0);
        idt[0x33] = gate(CODE0, (uint32_t)read_flags, attr[i], 0);
        outb(0x21, 0xff); /* no interrupt may come */
        outb(0xa1, 0xff);
        c.eflags |= FLAG_IF;
        run_code(&c, int33);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.eax & FLAG_IF, i ? FLAG_IF : 0);
    }
    idt[0x33] = was;
}

static void short_tables(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) t = {0x40 * 8 - 2, (uint32_t)idt};
    CODE(int3f, "int $0x3f");
    CODE(int3e, "int $0x3e");
    __asm__ volatile("lidt %0" : : "m"(t));
    struct context c = at_level(0);
    run_code(&c, int3f);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0x3f * 8 + ERROR_IDT);
    CHECK_EQ(run_simple(int3e), 0x3e);
    load_tables();
}

/* ---- faults on the way to a handler ---- */

/* Runs code while a vector's gate is not present. */
static struct context without_gate(unsigned vector, const void *code)
{
    uint64_t was = idt[vector];
    idt[vector] &= ~(1ull << 47);
    struct context c = at_level(3);
    c.eax = GDT_SLOTS * 8;
    run_code(&c, code);
    idt[vector] = was;
    return c;
}

static void second_faults(void)
{
    CODE(raise_gp, "mov %eax, %es");
    /* Benign first: one after the other. */
    struct context c = without_gate(UD, undefined);
    CHECK_EQ(c.vector, NP);
    CHECK_EQ(c.error, UD * 8 + ERROR_IDT + ERROR_EXT);
    CHECK_EQ(c.eip, (uint32_t)undefined);
    CHECK_EQ(c.eflags & FLAG_RF, FLAG_RF);
    /* A software interrupt is nobody's fault. */
    c = without_gate(0x31, software);
    CHECK_EQ(c.vector, NP);
    CHECK_EQ(c.error, 0x31 * 8 + ERROR_IDT);
    CHECK_EQ(c.eip, (uint32_t)software);
    /* Contributory twice: a double fault, error code 0. */
    c = without_gate(GP, raise_gp);
    CHECK_EQ(c.vector, DF);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.eip, (uint32_t)raise_gp);
    c = without_gate(DE, divide);
    CHECK_EQ(c.vector, DF);
    CHECK_EQ(c.eip, (uint32_t)divide_at);
}

/* ---- floating point ---- */

static void device_not_available(void)
{
    CODE(fninit, "fninit");
    CODE(fwait, "fwait");
    TESTED(fld_bad, "fldl %es:0");
    unsigned long cr0 = read_cr0() & ~(unsigned long)(CR0_EM | CR0_TS | CR0_MP);
    static const struct {
        uint32_t bits, fninit, fwait;
    } row[] = {
        {0, DONE, DONE},      {CR0_TS, NM, DONE}, {CR0_TS | CR0_MP, NM, NM},
        {CR0_MP, DONE, DONE}, {CR0_EM, NM, DONE},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        write_cr0(cr0 | row[i].bits);
        CHECK_EQ(run_simple(fninit), row[i].fninit);
        CHECK_EQ(run_simple(fwait), row[i].fwait);
    }
    write_cr0(cr0 | CR0_TS); /* before the operand is looked at */
    struct context c = at_level(0);
    c.es = 0;
    run_code(&c, fld_bad);
    CHECK_EQ(c.vector, NM);
    write_cr0(cr0);
    c = at_level(0);
    c.es = 0;
    run_code(&c, fld_bad);
    CHECK_EQ(c.vector, GP);
    CODE(emms, "emms");
    write_cr0(cr0 | CR0_EM);
    CHECK_EQ(run_simple(emms), UD);
    write_cr0(cr0);
    CHECK_EQ(run_simple(emms), DONE);
}

static void floating_point_errors_come_late(void)
{
    CODE(zero_divide, "fninit\n fldcw 1f\n fld1\n fldz\n zero_divide_at: fdivrp\n nop\n"
                      "zero_divide_wait: fwait\n int $0x31\n1: .word 0x037b");
    extern uint8_t zero_divide_wait[];
    write_cr0((read_cr0() & ~(unsigned long)(CR0_TS | CR0_EM)) | CR0_NE);
    struct context c = at_level(0);
    run_code(&c, zero_divide);
    CHECK_EQ(c.vector, MF);
    CHECK_EQ(c.eip, (uint32_t)zero_divide_wait);
    CHECK_EQ(c.error, 0);
    CODE(clear, "fnclex\n fwait\n fninit");
    CHECK_EQ(run_simple(clear), DONE);
}

static void simd_errors_come_at_once(void)
{
    CODE(divide_ss, "ldmxcsr 1f\n xorps %xmm0, %xmm0\n movss 2f, %xmm1\n"
                    "divide_ss_at: divss %xmm0, %xmm1\n"
                    "int $0x31\n1: .long 0x1d80\n2: .long 0x3f800000");
    extern uint8_t divide_ss_at[];
    unsigned long was = read_cr4();
    write_cr4(was | CR4_OSFXSR | 1 << 10);
    struct context c = at_level(0);
    run_code(&c, divide_ss);
    CHECK_EQ(c.vector, XM);
    CHECK_EQ(c.eip, (uint32_t)divide_ss_at);
    write_cr4((was | CR4_OSFXSR) & ~(1ul << 10)); /* nobody to handle it */
    c = at_level(0);
    run_code(&c, divide_ss);
    CHECK_EQ(c.vector, UD);
    write_cr4(was & ~(unsigned long)CR4_OSFXSR);
    CODE(xorps, "xorps %xmm0, %xmm0");
    CHECK_EQ(run_simple(xorps), UD);
    write_cr4(was);
}

/* ---- alignment ---- */

static void alignment_checks(void)
{
    CODE(misaligned, "mov %esp, %eax\n movw 1(%eax), %bx\n int $0x31");
    CODE(aligned, "mov %esp, %eax\n movw 2(%eax), %bx\n movb 1(%eax), %bl");
    write_cr0(read_cr0() | CR0_AM);
    struct context c = at_level(3);
    c.eflags |= FLAG_AC;
    run_code(&c, misaligned);
    CHECK_EQ(c.vector, AC);
    CHECK_EQ(c.error, 0);
    c = at_level(3);
    c.eflags |= FLAG_AC;
    run_code(&c, aligned);
    CHECK_EQ(c.vector, DONE);
    c = at_level(3);
    run_code(&c, misaligned);
    CHECK_EQ(c.vector, 0x31);
    c = at_level(2); /* level 3 only */
    c.eflags |= FLAG_AC;
    run_code(&c, misaligned);
    CHECK_EQ(c.vector, 0x31);
    write_cr0(read_cr0() & ~(unsigned long)CR0_AM);
    c = at_level(3);
    c.eflags |= FLAG_AC;
    run_code(&c, misaligned);
    CHECK_EQ(c.vector, 0x31);
}

/* A faulting instruction has changed nothing. */
static void faults_leave_registers_alone(void)
{
    CODE(pop_bad, "push %eax\n pop %es\n int $0x31");
    struct context c = at_level(0);
    uint32_t esp = c.esp;
    c.eax = GDT_SLOTS * 8;
    run_code(&c, pop_bad);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, GDT_SLOTS * 8);
    CHECK_EQ(c.esp, esp - 4);
    CODE(les_bad, "push %eax\n push $0x1234\n les (%esp), %ebx\n int $0x31");
    c = at_level(0);
    c.eax = GDT_SLOTS * 8;
    c.ebx = 77;
    run_code(&c, les_bad);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.ebx, 77);
}

const struct guest_test guest_tests[] = {
    {"saved addresses and flags", saved_addresses_and_flags, .not_tcg = true},
    {"undecodable instructions", undecodable_instructions, .not_tcg = true},
    {"privileged instructions", privileged_instructions},
    {"IOPL opens ports and IF", iopl_opens_ports_and_if},
    {"POPF ignores what it may not change", popf_ignores_what_it_may_not_change},
    {"user mode instruction prevention", user_mode_instruction_prevention},
    {"time stamp disable", time_stamp_disable},
    {"control registers refuse nonsense", control_registers_refuse_nonsense, .not_tcg = true},
    {"gates check programs and not faults", gates_check_programs_and_not_faults},
    {"interrupt gates clear IF and trap gates do not",
     interrupt_gates_clear_if_and_trap_gates_do_not},
    {"short tables", short_tables},
    {"second faults", second_faults, .not_tcg = true},
    {"device not available", device_not_available, .not_tcg = true},
    {"floating point errors come late", floating_point_errors_come_late},
    {"SIMD errors come at once", simd_errors_come_at_once, .not_tcg = true},
    {"alignment checks", alignment_checks, .not_tcg = true},
    {"faults leave registers alone", faults_leave_registers_alone},
    {0},
};

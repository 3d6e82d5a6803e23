/*
 * Users on KVM: how they leave, what the system finds, and what the two see of each other's
 * writes. A KVM that gives up on systems runs users alone (docs/hardware.md); the tests hold on
 * any.
 */
#include <pthread.h>

#include "hardware_rig.h"
#include "x86/flags.h"

enum {
    GDT = 0x4000,
    TSS = 0x5000,
    IDT = 0x6000,
    STUBS = 0x7000, /* a HLT for each vector, and behind them for SYSCALL */
    VECTORS = 256,
    SYSTEM_STACK = 0x9000,
    WINDOW_TABLE = 0xa000, /* a page table for the 2 MiB from WINDOW on */
    PAGE_A = 0xb000,
    PAGE_B = 0xc000,
    SYSTEM = 0x20000, /* the system's code, where a test has some */
};
#define WINDOW  UINT64_C(0x200000)
#define NOTHING "0x40000000" /* where nothing is mapped */

enum { KERNEL_CS = 0x10, KERNEL_SS = 0x18, USER_SS = 0x2b, USER_CS = 0x33, TSS_SELECTOR = 0x38 };
enum { SYSTEM_CALL = VECTORS };

/* ---- a system ---- */

static void write_gate(struct rig *r, unsigned vector, unsigned dpl)
{
    uint64_t to = STUBS + vector;
    uint64_t gate[2] = {to | KERNEL_CS << 16 | (uint64_t)(0x8e | dpl << 5) << 40, 0};
    memory_write(&r->memory, IDT + 16 * vector, gate, sizeof gate);
}

static void write_system(struct rig *r)
{
    static const uint64_t gdt[] = {0,
                                   0,
                                   0x00af9b000000ffff,
                                   0x00cf93000000ffff,
                                   0,
                                   0x00cff3000000ffff,
                                   0x00affb000000ffff,
                                   0x00008b0050000067,
                                   0};
    uint64_t stack = SYSTEM_STACK, table = WINDOW_TABLE | 7, page = PAGE_A | 7;
    uint16_t no_io_map = 0x68;
    memory_write(&r->memory, GDT, gdt, sizeof gdt);
    memory_write(&r->memory, TSS + 4, &stack, sizeof stack);
    memory_write(&r->memory, TSS + 102, &no_io_map, sizeof no_io_map);
    memory_fill(&r->memory, STUBS, 0xf4, VECTORS + 1);
    for (unsigned i = 0; i < VECTORS; i++)
        write_gate(r, i, i == X86_BP ? 3 : 0);
    memory_write(&r->memory, TABLES + 0x2000 + 8, &table, sizeof table);
    memory_write(&r->memory, WINDOW_TABLE, &page, sizeof page);
}

static void segment(struct x86_segment *s, uint16_t selector, uint32_t attr)
{
    rig_segment(s, selector, attr | SEG_ACCESSED | SEG_WRITABLE | SEG_S | SEG_P | SEG_G);
}

/* A state in which a user is about to run at GUEST. */
static struct x86_state user_state(struct rig *r)
{
    struct x86_state s = rig_state(r);
    for (unsigned i = 0; i < X86_SEG_COUNT; i++)
        segment(&s.seg[i], USER_SS, SEG_DB | SEG_DPL);
    segment(&s.seg[X86_CS], USER_CS, SEG_CODE | SEG_L | SEG_DPL);
    s.tr = (struct x86_segment){
        .base = TSS, .limit = 0x67, .attr = SEG_P | 0xb, .selector = TSS_SELECTOR};
    s.gdtr = (struct x86_table){GDT, 0x47};
    s.idtr = (struct x86_table){IDT, 16 * VECTORS - 1};
    s.star = (uint64_t)0x23 << 48 | (uint64_t)KERNEL_CS << 32;
    s.lstar = STUBS + SYSTEM_CALL;
    s.sfmask = FLAG_IF | FLAG_DF;
    s.rflags = FLAG_1 | FLAG_IF;
    s.gpr[X86_RBX] = 1; /* not all are 0, as when a program begins */
    return s;
}

static bool open_user(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    if (!rig_open(r, code, end))
        return false;
    write_system(r);
    struct x86_state s = user_state(r);
    engine_hardware.set_state(r->vcpu, &s);
    return true;
}

/* Runs it to a HLT, and returns which of the stubs that is. */
static unsigned run_to_stub(struct rig *r)
{
    CHECK_EQ(engine_hardware.run(r->vcpu, UINT64_MAX), ENGINE_HALTED);
    return (unsigned)(rig_state(r).rip - STUBS - 1);
}

static uint64_t pushed(struct rig *r, unsigned word)
{
    uint64_t v = 0;
    memory_read(&r->memory, rig_state(r).gpr[X86_RSP] + 8 * word, &v, sizeof v);
    return v;
}

/* ---- how users leave ---- */

CODE(reads, "mov " NOTHING ", %eax");
CODE(writes, "mov %eax, " NOTHING);
CODE(jumps, "mov $" NOTHING ", %eax; jmp *%rax");
CODE(undefined, "ud2");
CODE(divides, "xor %ecx, %ecx; div %ecx");
CODE(breaks, "nop; int3");
CODE(breaks_long, "nop; .byte 0xcd, 3");
CODE(asks, "int $0x30");
CODE(misaligned, "movaps 1(%rsp), %xmm0");
CODE(halts, "hlt");
CODE(out, "out %al, $0x80");
CODE(steps, "pushf; orl $0x100, (%rsp); popf; nop; nop");

static const struct {
    const uint8_t *code, *end;
    unsigned vector, at; /* which RIP is pushed, from the code's first byte */
    int error;           /* -1: none */
    uint64_t cr2;
} ways[] = {
    {reads, reads_end, X86_PF, 0, 4, 0x40000000},
    {writes, writes_end, X86_PF, 0, 6, 0x40000000},
    {jumps, jumps_end, X86_PF, 0x30000000, 0x14, 0x40000000},
    {undefined, undefined_end, X86_UD, 0, -1, 0},
    {divides, divides_end, X86_DE, 2, -1, 0},
    {breaks, breaks_end, X86_BP, 2, -1, 0},
    {breaks_long, breaks_long_end, X86_BP, 3, -1, 0},
    {asks, asks_end, X86_GP, 0, 0x30 * 8 + 2, 0},
    {misaligned, misaligned_end, X86_GP, 0, 0, 0},
    {halts, halts_end, X86_GP, 0, 0, 0},
    {out, out_end, X86_GP, 0, 0, 0},
    {steps, steps_end, X86_DB, 10, -1, 0},
};

static void check_way(unsigned i)
{
    struct rig r;
    bool has_error = ways[i].error >= 0;
    bool jumped = ways[i].at >= 0x1000;
    uint64_t rip = jumped ? ways[i].cr2 : GUEST + ways[i].at;
    CHECK(open_user(&r, ways[i].code, ways[i].end));
    CHECK_EQ(run_to_stub(&r), ways[i].vector);
    if (has_error)
        CHECK_EQ(pushed(&r, 0), (uint64_t)ways[i].error);
    CHECK_EQ(pushed(&r, has_error), rip);
    CHECK_EQ(pushed(&r, has_error + 1u), USER_CS);
    CHECK_EQ(pushed(&r, has_error + 4u), USER_SS);
    CHECK_EQ(rig_state(&r).cr2, ways[i].cr2);
    rig_close(&r);
}

TEST(exceptions_of_users_reach_the_system)
{
    NEEDS_KVM();
    for (unsigned i = 0; i < ARRAY_LEN(ways); i++)
        check_way(i);
}

CODE(calls, "std; mov $7, %eax; syscall");

TEST(system_calls_reach_the_system)
{
    struct rig r;
    NEEDS_KVM();
    CHECK(open_user(&r, calls, calls_end));
    CHECK_EQ(run_to_stub(&r), SYSTEM_CALL);
    struct x86_state s = rig_state(&r);
    CHECK_EQ(s.gpr[X86_RAX], 7);
    CHECK_EQ(s.gpr[X86_RCX], GUEST + (uint64_t)(calls_end - calls) - 1);
    CHECK_EQ(s.gpr[11], FLAG_1 | FLAG_IF | FLAG_DF);
    CHECK_EQ(s.rflags, FLAG_1);
    CHECK_EQ(s.seg[X86_CS].selector, KERNEL_CS);
    CHECK_EQ(s.seg[X86_SS].selector, KERNEL_SS);
    CHECK_EQ(s.cr2, 0);
    rig_close(&r);
}

/* ---- interrupts ---- */

CODE(spins, "1: inc %rax; jmp 1b");

static int one_interrupt(void *ctx)
{
    return 0x40;
}

static void *raise_it(void *rig)
{
    struct rig *r = rig;
    engine_hardware.interrupt(r->vcpu, true);
    return NULL;
}

TEST(interrupts_stop_a_user)
{
    struct rig r;
    pthread_t thread;
    NEEDS_KVM();
    CHECK(open_user(&r, spins, spins_end));
    r.host.interrupt_acknowledge = one_interrupt;
    CHECK(rig_remake(&r, x86_model_find("x86-64-v2")));
    CHECK(pthread_create(&thread, NULL, raise_it, &r) == 0);
    CHECK_EQ(run_to_stub(&r), 0x40);
    pthread_join(thread, NULL);
    CHECK_EQ(pushed(&r, 1), USER_CS);
    CHECK_EQ(pushed(&r, 2) & FLAG_IF, FLAG_IF);
    rig_close(&r);
}

/* ---- what the two see of each other ---- */

static void *memory_at(struct rig *r, uint64_t gpa)
{
    return memory_hva(&r->memory, gpa);
}

static void put_system(struct rig *r, const uint8_t *code, const uint8_t *end)
{
    struct x86_state s = rig_state(r);
    memory_write(&r->memory, SYSTEM, code, (uint64_t)(end - code));
    s.lstar = SYSTEM;
    engine_hardware.set_state(r->vcpu, &s);
}

/* The user looks at the window before and after the system maps another page there. (An engine may
 * take a state's first instruction for itself.) */
CODE(looks, "nop; mov 0x200000, %eax; syscall; mov 0x200000, %ebx; ud2");
CODE(maps, "movq $0xc007, 0xa000; invlpg 0x200000; sysretq");

TEST(users_see_what_the_system_maps)
{
    struct rig r;
    NEEDS_KVM();
    CHECK(open_user(&r, looks, looks_end));
    put_system(&r, maps, maps_end);
    *(uint32_t *)memory_at(&r, PAGE_A) = 0x1111;
    *(uint32_t *)memory_at(&r, PAGE_B) = 0x2222;
    CHECK_EQ(run_to_stub(&r), X86_UD);
    CHECK_EQ(rig_state(&r).gpr[X86_RAX], 0x1111);
    CHECK_EQ(rig_state(&r).gpr[X86_RBX], 0x2222);
    rig_close(&r);
}

/* The user writes what the system does, and changes it between system calls. */
CODE(changes, "nop; movl $1, 0x20001; syscall; mov %eax, %r12d; movl $2, 0x20001; syscall;"
              "mov %eax, %r13d; movl $3, 0x20001; syscall; ud2");
CODE(answers, "mov $0, %eax; sysretq");

TEST(systems_run_what_users_have_written)
{
    struct rig r;
    NEEDS_KVM();
    CHECK(open_user(&r, changes, changes_end));
    put_system(&r, answers, answers_end);
    CHECK_EQ(run_to_stub(&r), X86_UD);
    CHECK_EQ(rig_state(&r).gpr[12], 1);
    CHECK_EQ(rig_state(&r).gpr[13], 2);
    CHECK_EQ(rig_state(&r).gpr[X86_RAX], 3);
    rig_close(&r);
}

/* ---- what a program is told when it begins ---- */

CODE(asks_cpuid, "mov $7, %eax; xor %ecx, %ecx; cpuid; ud2");
CODE(begins, "iretq");

TEST(programs_that_begin_see_the_machines_processor)
{
    enum { AVX2 = 1u << 5, AVX512F = 1u << 16 };
    const uint64_t frame[] = {GUEST, USER_CS, FLAG_1 | FLAG_IF, STACK, USER_SS};
    struct rig r;
    NEEDS_KVM();
    CHECK(rig_open(&r, asks_cpuid, asks_cpuid_end));
    write_system(&r);
    struct x86_state s = user_state(&r);
    s.seg[X86_CS] = rig_state(&r).seg[X86_CS];
    s.seg[X86_SS] = rig_state(&r).seg[X86_SS];
    memset(s.gpr, 0, sizeof s.gpr);
    s.gpr[X86_RSP] = SYSTEM_STACK - sizeof frame;
    s.rip = SYSTEM;
    memory_write(&r.memory, s.gpr[X86_RSP], frame, sizeof frame);
    memory_write(&r.memory, SYSTEM, begins, 2);
    engine_hardware.set_state(r.vcpu, &s);
    CHECK_EQ(run_to_stub(&r), X86_UD);
    CHECK_EQ(rig_state(&r).gpr[X86_RBX] & (AVX2 | AVX512F), 0); /* x86-64-v2 has neither */
    rig_close(&r);
}

/* One that uses them without having been told is no danger to others. */
CODE(uses_avx512, "nop; vpternlogd $0xff, %zmm17, %zmm17, %zmm17; mov $1, %eax; syscall");

TEST(registers_that_the_processor_lacks_are_undefined)
{
    struct rig r;
    NEEDS_KVM();
    CHECK(open_user(&r, uses_avx512, uses_avx512_end));
    CHECK_EQ(run_to_stub(&r), X86_UD);
    CHECK_EQ(pushed(&r, 1), USER_CS);
    rig_close(&r);
}

TESTS(T(exceptions_of_users_reach_the_system), T(system_calls_reach_the_system),
      T(interrupts_stop_a_user), T(users_see_what_the_system_maps),
      T(systems_run_what_users_have_written), T(programs_that_begin_see_the_machines_processor),
      T(registers_that_the_processor_lacks_are_undefined))

/*
 * 16-bit segments in protected mode: code, stacks and gates, and where segments end.
 */
#include "lib/run32.h"

const char guest_name[] = "sixteen";

enum { CODE_SLOT = FREE, STACK_SLOT = FREE + 8, DATA_SLOT = FREE + 16 };

/* Code of level 0 or 3 in a segment of its own that begins at the code. */
static struct context segmented(const uint8_t *code, uint32_t limit, uint32_t attr, unsigned level)
{
    gdt[CODE_SLOT / 8] = descriptor((uint32_t)code, limit, attr | dpl(level));
    struct context c = at_level(level);
    c.cs = (uint16_t)(CODE_SLOT | level);
    c.eip = 0;
    return c;
}

/* ---- where code ends ---- */

TESTED(nops, "nop\n nop\n nop\n nop\n nop\n nop\n nop\n nop");
TESTED(long_one, "nop\n movl $1, %eax\n nop");
TESTED(short_jump, "jmp 1f\n nop\n nop\n nop\n nop\n 1: nop");
TESTED(indirect, "movl $6, %eax\n jmp *%eax");
TESTED(near_call, "nop\n call 1f\n nop\n 1: nop");
TESTED(near_return, "push $0x1000\n ret");

static void code_ends_at_the_limit(void)
{
    static const struct {
        const uint8_t *code;
        uint32_t limit, eip, esp_below;
    } row[] = {
        {nops, 4, 5, 0},       /* five run */
        {long_one, 4, 1, 0},   /* the MOV is cut off: not a byte of it runs */
        {short_jump, 5, 0, 0}, /* the jump faults and not its target */
        {indirect, 5, 5, 0},   /* the JMP's own last byte is outside */
        {indirect, 6, 6, 0},   /* its target is the last byte: a fetch fault there */
        {near_call, 6, 1, 0},  /* nothing is pushed */
        {near_return, 0xfff, 5, 4},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = segmented(row[i].code, row[i].limit, D_CODE | 0x4000, 0);
        uint32_t esp = c.esp;
        run(&c);
        CHECK_EQ(c.vector, GP);
        CHECK_EQ(c.error, 0);
        CHECK_EQ(c.eip, row[i].eip);
        CHECK_EQ(c.esp, esp - row[i].esp_below);
    }
}

/* ---- 16-bit code ---- */

CODE16(sizes, "pushw $0x1234\n popw %bx\n pushl $0x12345678\n popl %ecx\n"
              "movw $0xffff, %si\n incw %si\n callw 1f\n movw $3, %cx\n 2: incw %dx\n loop 2b\n"
              "int $0x31\n 1: popw %di\n pushw %di\n retw");

static void code_of_16_bits(void)
{
    for (unsigned level = 0; level < 4; level += 3) {
        struct context c = segmented(sizes, 0xffff, D_CODE, level);
        uint32_t esp = c.esp;
        c.esi = 0xaaaa0000;
        c.edx = 0;
        run(&c);
        CHECK_EQ(c.vector, 0x31);
        CHECK_EQ(c.ebx & 0xffff, 0x1234);
        CHECK_EQ(c.ecx, 0x12340000);
        CHECK_EQ(c.esi, 0xaaaa0000);
        CHECK_EQ(c.edx, 3);
        CHECK_EQ(c.esp, esp);
    }
}

CODE16(addresses, "movw (%bx,%si), %ax\n movw (%ebx,%esi), %cx\n movb $1, %dl\n"
                  "movw -2(%bp), %di");

static void addresses_of_16_bits(void)
{
    static uint8_t bytes[0x200];
    struct context c = segmented(addresses, 0xffff, D_CODE, 3);
    gdt[DATA_SLOT / 8] = descriptor((uint32_t)bytes, 0x1ff, D_DATA | dpl(3));
    *(uint16_t *)&bytes[0x10] = 0x4321;
    c.ds = DATA_SLOT | 3;
    c.ebx = 0xfff8; /* FFF8 + 18 = 10010: wraps to 10 */
    c.esi = 0x18;
    run(&c);
    CHECK_EQ(c.vector, GP); /* the second, of 32 bits, does not */
    CHECK_EQ(c.eax & 0xffff, 0x4321);
    CHECK_EQ(c.eip, 2);
}

/* ---- 16-bit stacks ---- */

/* Level 3, 32-bit code, on a stack of 16 bits that begins at test_stack[2]. */
static struct context small_stack(const void *code, uint32_t limit, uint32_t attr, uint32_t sp)
{
    gdt[STACK_SLOT / 8] = descriptor((uint32_t)test_stack[2], limit, attr | dpl(3));
    struct context c = at_level(3);
    c.ss = STACK_SLOT | 3;
    c.esp = sp;
    c.eip = (uint32_t)code;
    return c;
}

CODE(push_pop, "push %eax\n mov %esp, %ebx\n pop %ecx\n push %eax\n int $0x31");
CODE(set_esp, "mov $0xabcd0800, %esp\n push %eax\n mov %esp, %ebx\n popl %ecx\n mov %esp, %edx");

static void stacks_of_16_bits(void)
{
    struct context c = small_stack(push_pop, 0xfff, D_DATA, 0x800);
    c.eax = 0x55667788;
    run(&c);
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(c.ebx & 0xffff, 0x7fc);
    CHECK_EQ(c.ecx, 0x55667788);
    CHECK_EQ(*(uint32_t *)&test_stack[2][0x7fc], 0x55667788);

    c = small_stack(set_esp, 0xfff, D_DATA, 0x400); /* the upper half of ESP stays what it is */
    c.eax = 0x11;
    run(&c);
    CHECK_EQ(c.ebx, 0xabcd07fc);
    CHECK_EQ(c.ecx, 0x11);
    CHECK_EQ(c.edx, 0xabcd0800);
    CHECK_EQ(c.esp, 0xabcd0800);
}

/* A return to such a stack loads SP only: what the kernel's ESP had above shows. */
static void returns_load_sp_only(void)
{
    struct context c = small_stack(push_pop, 0xfff, D_DATA, 0xabcd0800);
    run(&c);
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(c.esp & 0xffff, 0x7fc);
    CHECK_EQ(c.esp >> 16, (uint32_t)&c >> 16);
}

TESTED(push_eax, "push %eax\n int $0x31");
TESTED(pop_eax, "pop %eax\n int $0x31");
TESTED(by_ebp, "mov (%ebp), %eax\n int $0x31");
TESTED(enter_deep, "enter $0x100, $0\n push %eax\n int $0x31");

static void stacks_end_at_their_limit(void)
{
    static const struct {
        const uint8_t *code;
        uint32_t limit, attr, sp, vector;
    } row[] = {
        {push_eax, 0xfff, D_DATA, 0x1000, 0x31},    {push_eax, 0xfff, D_DATA, 0x1001, SS},
        {push_eax, 0xfff, D_DATA, 2, SS},    /* wraps to FFFE */
        {push_eax, 0xffff, D_DATA, 0, 0x31}, /* wraps to FFFC */
        {push_eax, 0xffff, D_DATA, 2, SS},   /* the doubleword would straddle */
        {pop_eax, 0xfff, D_DATA, 0xffc, 0x31},      {pop_eax, 0xfff, D_DATA, 0xffd, SS},
        {push_eax, 0x7ff, D_DATA | 4, 0x804, 0x31}, /* expand-down: above 7FF */
        {push_eax, 0x7ff, D_DATA | 4, 0x803, SS},   {push_eax, 0x7ff, D_DATA | 4, 0, 0x31},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = small_stack(row[i].code, row[i].limit, row[i].attr, row[i].sp);
        run(&c);
        CHECK_EQ(c.vector, row[i].vector);
        CHECK_EQ(c.error, 0);
        if (row[i].vector == SS)
            CHECK_EQ(c.esp & 0xffff, row[i].sp);
    }
    struct context c = small_stack(by_ebp, 0xfff, D_DATA, 0x800);
    c.ebp = 0x1000;
    run(&c);
    CHECK_EQ(c.vector, SS);
    CHECK_EQ(c.error, 0);
    c = small_stack(enter_deep, 0xfff, D_DATA, 0x80); /* ENTER looks at where it ends up */
    run(&c);
    CHECK_EQ(c.vector, SS);
    CHECK_EQ(c.eip, (uint32_t)enter_deep);
}

/* ---- 16-bit gates ---- */

static void interrupt_gates_of_16_bits(void)
{
    CODE(handler, "mov %esp, %ebp\n movzwl (%ebp), %eax\n movzwl 2(%ebp), %ebx\n"
                  "movzwl 4(%ebp), %ecx\n movzwl 6(%ebp), %edx\n movzwl 8(%ebp), %esi");
    CODE(interrupt, "stc\n int $0x32\n interrupt_next: nop");
    extern uint8_t interrupt_next[];
    uint8_t *low = (uint8_t *)0x9000;
    memcpy(low, handler, (size_t)(handler_end - handler));
    uint64_t was = idt[0x32];
    idt[0x32] = gate(CODE0, (uint32_t)low, G_INTERRUPT16 | dpl(3), 0);
    struct context c = at_level(3);
    uint32_t esp = c.esp;
    run_code(&c, interrupt);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebp, tss.esp0 - 10);
    CHECK_EQ(c.eax, (uint16_t)(uint32_t)interrupt_next);
    CHECK_EQ(c.ebx, CODE3);
    CHECK_EQ(c.ecx & FLAG_CF, FLAG_CF);
    CHECK_EQ(c.edx, (uint16_t)esp);
    CHECK_EQ(c.esi, DATA3);
    idt[0x32] = was;
}

/* The inner stack has a limit, too. */
static void inner_stacks_end_at_their_limit(void)
{
    CODE(int31, "int $0x33");
    uint32_t esp1 = tss.esp1, ss1 = tss.ss1;
    uint64_t was = idt[0x33];
    CODE(at_level_1, "nop");
    gdt[DATA_SLOT / 8] = descriptor((uint32_t)inner_stack[1], 0xff, D_DATA | 0x4000 | dpl(1));
    idt[0x33] = gate(CODE1, (uint32_t)at_level_1, G_INTERRUPT | dpl(3), 0);
    tss.ss1 = DATA_SLOT | 1;
    tss.esp1 = 20; /* just enough */
    struct context c = at_level(3);
    run_code(&c, int31);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, CODE1);
    tss.esp1 = 16;
    c = at_level(3);
    run_code(&c, int31);
    CHECK_EQ(c.vector, SS);
    CHECK_EQ(c.error, DATA_SLOT);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.eip, (uint32_t)int31);
    tss.esp1 = esp1;
    tss.ss1 = ss1;
    idt[0x33] = was;
}

/* A handler's address is checked as well. */
static void handlers_lie_inside_their_segment(void)
{
    CODE(int32, "int $0x34");
    uint64_t was = idt[0x34];
    gdt[CODE_SLOT / 8] = descriptor(0, 0xfff, D_CODE | 0x4000);
    idt[0x34] = gate(CODE_SLOT, 0x1000, G_INTERRUPT | dpl(3), 0);
    struct context c = at_level(0);
    run_code(&c, int32);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.eip, (uint32_t)int32);
    idt[0x34] = was;
}

/* ---- strings across a limit ---- */

static void strings_stop_at_the_limit(void)
{
    static uint8_t bytes[0x20];
    CODE(fill, "cld\n rep stosb");
    gdt[DATA_SLOT / 8] = descriptor((uint32_t)bytes, 0xf, D_DATA | 0x4000);
    struct context c = at_level(0);
    c.es = DATA_SLOT;
    c.edi = 0xc;
    c.ecx = 8;
    c.eax = 0x77;
    memset(bytes, 0, sizeof bytes);
    run_code(&c, fill);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.edi, 0x10);
    CHECK_EQ(c.ecx, 4);
    CHECK_EQ(bytes[0xf], 0x77);
    CHECK_EQ(bytes[0x10], 0);
    CHECK_EQ(c.eip, (uint32_t)fill + 1);
}

const struct guest_test guest_tests[] = {
    {"code ends at the limit", code_ends_at_the_limit, .not_tcg = true},
    {"code of 16 bits", code_of_16_bits},
    {"addresses of 16 bits", addresses_of_16_bits, .not_tcg = true},
    {"stacks of 16 bits", stacks_of_16_bits},
    {"returns load SP only", returns_load_sp_only},
    {"stacks end at their limit", stacks_end_at_their_limit, .not_tcg = true},
    {"interrupt gates of 16 bits", interrupt_gates_of_16_bits},
    {"inner stacks end at their limit", inner_stacks_end_at_their_limit, .not_tcg = true},
    {"handlers lie inside their segment", handlers_lie_inside_their_segment, .not_tcg = true},
    {"strings stop at the limit", strings_stop_at_the_limit, .not_tcg = true},
    {0},
};

/*
 * Virtual-8086 mode: what the 8086 program may do, what goes to its monitor, and how.
 */
#include "lib/run32.h"

const char guest_name[] = "v86";

enum { PARAGRAPH = 0x1000, STACK_PARAGRAPH = 0x2000, DATA_PARAGRAPH = 0x3000 };

static uint8_t *linear(uint32_t paragraph, uint32_t offset)
{
    return (uint8_t *)(paragraph * 16 + offset);
}

/* The 8086 program of bytes [from, to), at PARAGRAPH:0. */
static struct context program(const void *from, const void *to, uint32_t flags)
{
    memcpy(linear(PARAGRAPH, 0), from, (size_t)((const uint8_t *)to - (const uint8_t *)from));
    return (struct context){.cs = PARAGRAPH,
                            .ss = STACK_PARAGRAPH,
                            .esp = 0xf000,
                            .v86_ds = DATA_PARAGRAPH,
                            .v86_es = DATA_PARAGRAPH + 1,
                            .v86_fs = DATA_PARAGRAPH + 2,
                            .v86_gs = DATA_PARAGRAPH + 3,
                            .eflags = FLAG_FIXED | FLAG_VM | flags,
                            .gs = DATA0,
                            .fs = DATA0,
                            .es = DATA0,
                            .ds = DATA0};
}
#define PROGRAM(name, flags) program(name, name##_end, flags)

/* Runs it and says how it ended. */
static uint32_t outcome(struct context *c)
{
    run(c);
    return c->vector;
}

CODE16(nothing, "nop");

static void the_monitor_finds_everything_on_its_stack(void)
{
    struct context c = PROGRAM(nothing, FLAG_IOPL3 | FLAG_IF);
    c.eax = 0x12345678;
    CHECK_EQ(outcome(&c), DONE);
    CHECK_EQ(c.eip, 3);
    CHECK_EQ(c.cs, PARAGRAPH);
    CHECK_EQ(c.ss, STACK_PARAGRAPH);
    CHECK_EQ(c.esp, 0xf000);
    CHECK_EQ(c.v86_ds, DATA_PARAGRAPH);
    CHECK_EQ(c.v86_es, DATA_PARAGRAPH + 1);
    CHECK_EQ(c.v86_fs, DATA_PARAGRAPH + 2);
    CHECK_EQ(c.v86_gs, DATA_PARAGRAPH + 3);
    CHECK_EQ(c.eflags, FLAG_FIXED | FLAG_VM | FLAG_IOPL3 | FLAG_IF);
    CHECK_EQ(c.eax, 0x12345678);
    /* The monitor itself begins with null segments. */
    CHECK_EQ(c.ds, 0);
    CHECK_EQ(c.es, 0);
    CHECK_EQ(c.fs, 0);
    CHECK_EQ(c.gs, 0);
}

static void segments_are_paragraphs(void)
{
    CODE16(
        paragraphs,
        "movw $0x3100, %ax\n movw %ax, %ds\n movw 0x10, %bx\n movw %es:0x10, %cx\n"
        "pushw $0x1000\n pushw $(1f - paragraphs)\n lret\n nop\n1: movw %cs, %si\n movw %ds, %di");
    struct context c = PROGRAM(paragraphs, FLAG_IOPL3);
    *(uint16_t *)linear(0x3100, 0x10) = 0xabcd;
    *(uint16_t *)linear(DATA_PARAGRAPH + 1, 0x10) = 0x1234;
    CHECK_EQ(outcome(&c), DONE);
    CHECK_EQ(c.ebx & 0xffff, 0xabcd);
    CHECK_EQ(c.ecx & 0xffff, 0x1234);
    CHECK_EQ(c.esi & 0xffff, PARAGRAPH);
    CHECK_EQ(c.edi & 0xffff, 0x3100);
    CHECK_EQ(c.v86_ds, 0x3100);
}

/* What a program of one instruction ends with: its own fault, or DONE. */
static uint32_t one(const uint8_t *bytes, unsigned n, uint32_t flags, struct context *c)
{
    uint8_t code[16];
    memcpy(code, bytes, n);
    code[n] = 0xcd;
    code[n + 1] = DONE;
    *c = program(code, code + n + 2, flags);
    return outcome(c);
}

static void sensitive_instructions_mind_iopl(void)
{
    static const struct {
        uint8_t bytes[4], n;
    } row[] = {
        {{0xfa}, 1},       /* CLI */
        {{0xfb}, 1},       /* STI */
        {{0x9c}, 1},       /* PUSHF */
        {{0x9d}, 1},       /* POPF */
        {{0x66, 0x9c}, 2}, /* PUSHFD */
        {{0xcd, 0x31}, 2}, /* INT n */
        {{0xcf}, 1},       /* IRET */
    };
    struct context c;
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        CHECK_EQ(one(row[i].bytes, row[i].n, 0, &c), GP);
        CHECK_EQ(c.error, 0);
        CHECK_EQ(c.eip, 0);
        CHECK_EQ(c.esp, 0xf000);
        if (i < 5)
            CHECK_EQ(one(row[i].bytes, row[i].n, FLAG_IOPL3, &c), DONE);
    }
    CHECK_EQ(one(row[5].bytes, 2, FLAG_IOPL3, &c), 0x31);
}

static void breakpoints_and_overflow_need_no_iopl(void)
{
    static const uint8_t int3[] = {0xcc}, into[] = {0xce};
    struct context c;
    CHECK_EQ(one(int3, 1, 0, &c), BP);
    CHECK_EQ(c.eip, 1);
    CHECK_EQ(one(into, 1, FLAG_OF, &c), OF);
    CHECK_EQ(c.eip, 1);
}

static void privileged_and_missing_instructions(void)
{
    static const struct {
        uint8_t bytes[4], n, vector;
    } row[] = {
        {{0xf4}, 1, GP},                   /* HLT */
        {{0x0f, 0x20, 0xc0}, 3, GP},       /* MOV EAX, CR0 */
        {{0x0f, 0x01, 0x16, 0x00}, 4, GP}, /* LGDT */
        {{0x0f, 0x06}, 2, GP},             /* CLTS */
        {{0x0f, 0x00, 0xc0}, 3, UD},       /* SLDT */
        {{0x0f, 0x00, 0xc8}, 3, UD},       /* STR */
        {{0x0f, 0x02, 0xc0}, 3, UD},       /* LAR */
        {{0x0f, 0x00, 0xe0}, 3, UD},       /* VERR */
        {{0x63, 0xc0}, 2, UD},             /* ARPL */
        {{0x0f, 0x0b}, 2, UD},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c;
        CHECK_EQ(one(row[i].bytes, row[i].n, FLAG_IOPL3, &c), row[i].vector);
        CHECK_EQ(c.eip, 0);
        CHECK_EQ(c.eflags & FLAG_VM, FLAG_VM);
    }
}

static void flags_that_the_program_may_change(void)
{
    CODE16(popf, "pushw $0x0202\n popfw\n pushfw\n popw %ax\n pushl $0x40002\n popfl");
    struct context c = PROGRAM(popf, FLAG_IOPL3);
    CHECK_EQ(outcome(&c), DONE);
    CHECK_EQ(c.eax & 0xffff, FLAG_IOPL3 | FLAG_IF | FLAG_FIXED); /* IOPL stays */
    CHECK_EQ(c.eflags, FLAG_VM | FLAG_IOPL3 | FLAG_AC | FLAG_FIXED);

    CODE16(iret, "pushw $0x0ad7\n pushw $0x1000\n pushw $(1f - iret)\n iretw\n nop\n"
                 "1: pushfw\n popw %ax");
    c = PROGRAM(iret, FLAG_IOPL3);
    CHECK_EQ(outcome(&c), DONE);
    CHECK_EQ(c.eax & 0xffff, 0x0ad7 | FLAG_IOPL3);
}

/* ---- I/O permission bitmap ---- */

static void allow(unsigned port, bool yes)
{
    uint8_t *byte = &tss.maps[32 + port / 8];
    uint8_t bit = (uint8_t)(1u << (port & 7));
    *byte = (uint8_t)(yes ? *byte & ~bit : *byte | bit);
}

static void ports_mind_the_bitmap_only(void)
{
    static const uint8_t out8[] = {0xe6, 0x80}, out16[] = {0xe7, 0x80};
    static const uint8_t out32[] = {0x66, 0xe7, 0x80};
    struct context c;
    for (unsigned iopl = 0; iopl <= 3; iopl += 3) {
        uint32_t flags = iopl << 12;
        /* The end: INT with an IOPL of 0 is #GP behind the OUT. */
        uint32_t end = iopl ? DONE : GP;
        CHECK_EQ(one(out8, 2, flags, &c), GP);
        CHECK_EQ(c.eip, 0);
        allow(0x80, true);
        CHECK_EQ(one(out8, 2, flags, &c), end);
        CHECK(c.eip >= 2);
        CHECK_EQ(one(out16, 2, flags, &c), GP);
        CHECK_EQ(c.eip, 0);
        allow(0x81, true);
        CHECK_EQ(one(out16, 2, flags, &c), end);
        CHECK(c.eip >= 2);
        CHECK_EQ(one(out32, 3, flags, &c), GP);
        CHECK_EQ(c.eip, 0);
        allow(0x82, true);
        allow(0x83, true);
        CHECK_EQ(one(out32, 3, flags, &c), end);
        CHECK(c.eip >= 3);
        for (unsigned i = 0; i < 4; i++)
            allow(0x80 + i, false);
    }
}

static void ports_beyond_the_tss_are_closed(void)
{
    static const uint8_t out8[] = {0xe6, 0x80};
    struct context c;
    uint16_t was = tss.iomap;
    allow(0x80, true);
    tss.iomap = sizeof tss; /* no bitmap */
    CHECK_EQ(one(out8, 2, FLAG_IOPL3, &c), GP);
    tss.iomap = was;
    CHECK_EQ(one(out8, 2, FLAG_IOPL3, &c), DONE);
    allow(0x80, false);
}

static void the_bitmap_serves_level_3_too(void)
{
    CODE(out, "outb %al, $0x80\n inb $0x80, %al");
    struct context c = at_level(3);
    run_code(&c, out);
    CHECK_EQ(c.vector, GP);
    allow(0x80, true);
    c = at_level(3);
    run_code(&c, out);
    CHECK_EQ(c.vector, DONE);
    allow(0x80, false);
    c = at_level(3);
    c.eflags |= FLAG_IOPL3;
    run_code(&c, out);
    CHECK_EQ(c.vector, DONE);
}

/* ---- exceptions ---- */

static void exceptions_leave_the_mode(void)
{
    static const uint8_t divide[] = {0xf6, 0xf0}; /* DIV AL */
    struct context c;
    c.eax = 0;
    CHECK_EQ(one(divide, 2, 0, &c), DE);
    CHECK_EQ(c.eflags & FLAG_VM, FLAG_VM);
    CHECK_EQ(c.eip, 0);
}

static void handlers_must_be_of_level_0(void)
{
    uint64_t was = idt[0x31];
    idt[0x31] = gate(CODE3, trap_entry(0x31), G_INTERRUPT | 0x60, 0);
    static const uint8_t interrupt[] = {0xcd, 0x31};
    struct context c;
    CHECK_EQ(one(interrupt, 2, FLAG_IOPL3, &c), GP);
    CHECK_EQ(c.error, CODE3 & ~3u);
    CHECK_EQ(c.eip, 0);
    idt[0x31] = was;
}

static void offsets_end_at_64_kib(void)
{
    static const uint8_t word[] = {0xa1, 0xff, 0xff};                          /* MOV AX, [FFFF] */
    static const uint8_t wide[] = {0x67, 0xa0, 0x00, 0x00, 0x01, 0x00};        /* MOV AL, [10000] */
    static const uint8_t stack[] = {0x66, 0xbc, 0x01, 0x00, 0x00, 0x00, 0x50}; /* SP = 1; PUSH */
    struct context c;
    CHECK_EQ(one(word, 3, FLAG_IOPL3, &c), GP);
    CHECK_EQ(one(wide, 6, FLAG_IOPL3, &c), GP);
    CHECK_EQ(one(stack, 7, FLAG_IOPL3, &c), SS);
    CHECK_EQ(c.error, 0);
}

/* ---- CR4.VME ---- */

static bool has_vme(void)
{
    uint32_t a, b, c, d;
    cpuid(1, &a, &b, &c, &d);
    return d & 2;
}

static void virtual_interrupt_flag(void)
{
    if (!has_vme())
        return;
    write_cr4(read_cr4() | CR4_VME);
    CODE16(cli, "cli\n pushfw\n popw %ax\n sti\n pushfw\n popw %bx\n cli\n hlt");
    struct context c = PROGRAM(cli, FLAG_IF);
    CHECK_EQ(outcome(&c), GP); /* by HLT */
    CHECK_EQ(c.eax & (FLAG_IF | FLAG_IOPL3), FLAG_IOPL3);
    CHECK_EQ(c.ebx & (FLAG_IF | FLAG_IOPL3), FLAG_IF | FLAG_IOPL3);
    CHECK_EQ(c.eflags & (FLAG_IF | FLAG_VIF | FLAG_IOPL3), FLAG_IF);

    static const uint8_t sti[] = {0xfb};
    CHECK_EQ(one(sti, 1, FLAG_VIP, &c), GP); /* an interrupt waits */
    CHECK_EQ(c.eip, 0);
    write_cr4(read_cr4() & ~(unsigned long)CR4_VME);
}

static void interrupts_are_redirected(void)
{
    if (!has_vme())
        return;
    write_cr4(read_cr4() | CR4_VME);
    CODE16(redirected, "int $0x60\n hlt");
    CODE16(handler, "movw $0x7777, %dx\n pushfw\n popw %cx\n iretw");
    uint8_t *low = linear(PARAGRAPH, 0x400);
    memcpy(low, handler, (size_t)(handler_end - handler));
    uint32_t *vector = (uint32_t *)(0x60 * 4);
    uint32_t was = *vector;
    *vector = PARAGRAPH << 16 | 0x400;
    tss.maps[0x60 / 8] &= (uint8_t)~1u;
    struct context c = PROGRAM(redirected, FLAG_VIF);
    CHECK_EQ(outcome(&c), GP);
    CHECK_EQ(c.eip, 2);
    CHECK_EQ(c.edx & 0xffff, 0x7777);
    CHECK_EQ(c.ecx & FLAG_IF, 0);
    CHECK_EQ(c.eflags & FLAG_VIF, FLAG_VIF);
    CHECK_EQ(c.esp, 0xf000);
    tss.maps[0x60 / 8] |= 1;
    c = PROGRAM(redirected, FLAG_VIF);
    CHECK_EQ(outcome(&c), GP);
    CHECK_EQ(c.eip, 0);
    *vector = was;
    write_cr4(read_cr4() & ~(unsigned long)CR4_VME);
}

const struct guest_test guest_tests[] = {
    {"the monitor finds everything on its stack", the_monitor_finds_everything_on_its_stack},
    {"segments are paragraphs", segments_are_paragraphs},
    {"sensitive instructions mind IOPL", sensitive_instructions_mind_iopl},
    {"breakpoints and overflow need no IOPL", breakpoints_and_overflow_need_no_iopl},
    {"privileged and missing instructions", privileged_and_missing_instructions},
    {"flags that the program may change", flags_that_the_program_may_change},
    {"ports mind the bitmap only", ports_mind_the_bitmap_only},
    {"ports beyond the TSS are closed", ports_beyond_the_tss_are_closed},
    {"the bitmap serves level 3 too", the_bitmap_serves_level_3_too},
    {"exceptions leave the mode", exceptions_leave_the_mode},
    {"handlers must be of level 0", handlers_must_be_of_level_0},
    {"offsets end at 64 KiB", offsets_end_at_64_kib, .not_tcg = true},
    {"virtual interrupt flag", virtual_interrupt_flag},
    {"interrupts are redirected", interrupts_are_redirected},
    {0},
};

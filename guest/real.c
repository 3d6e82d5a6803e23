/*
 * Real mode: addresses, the vector table, far transfers, decimal arithmetic, strings, and what is
 * not there.
 */
#include "lib/real.h"

const char guest_name[] = "real";

/* Bytes as a program, ended by INT DONE. */
static struct real_context bytes(const uint8_t *b, unsigned n)
{
    uint8_t code[24];
    memcpy(code, b, n);
    code[n] = 0xcd;
    code[n + 1] = DONE;
    return real_program(code, code + n + 2);
}

/* ---- addresses ---- */

static void the_first_megabyte_and_a_little_more(void)
{
    CODE16(high, "movw $0xffff, %ax\n movw %ax, %ds\n movl 0x10, %ebx\n"
                 "movw $0x2345, %ax\n movw %ax, %es\n movb $0x77, %es:0x6\n movw %ds, %cx");
    struct real_context c = REAL_PROGRAM(high);
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebx, *(uint32_t *)0x100000);
    CHECK_EQ(*(uint8_t *)0x23456, 0x77);
    CHECK_EQ(c.ecx & 0xffff, 0xffff);
    CHECK_EQ(c.cs, REAL_CODE);
    CHECK_EQ(c.esp, 0x8000);
}

static void offsets_wrap_when_computed(void)
{
    CODE16(wrap, "movw $0xfff0, %bx\n movw 0x20(%bx), %ax\n movw $0xffff, %si\n movb 1(%si), %dl");
    struct real_context c = REAL_PROGRAM(wrap);
    *(uint16_t *)real_linear(REAL_DATA, 0x10) = 0x1234;
    *real_linear(REAL_DATA, 0) = 0x56;
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax & 0xffff, 0x1234);
    CHECK_EQ(c.edx & 0xff, 0x56);
}

static void operands_do_not_wrap(void)
{
    static const uint8_t word[] = {0xa1, 0xff, 0xff};        /* MOV AX, [FFFF] */
    static const uint8_t dword[] = {0x66, 0xa1, 0xfd, 0xff}; /* MOV EAX, [FFFD] */
    static const uint8_t fits[] = {0x66, 0xa1, 0xfc, 0xff};  /* MOV EAX, [FFFC] */
    static const uint8_t wide[] = {0x67, 0xa0, 0, 0, 1, 0};  /* MOV AL, [10000] */
    static const struct {
        const uint8_t *code;
        uint16_t size, vector, ip;
    } row[] = {
        {word, sizeof word, GP, 0},
        {dword, sizeof dword, GP, 0},
        {fits, sizeof fits, DONE, 6},
        {wide, sizeof wide, GP, 0},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct real_context c = bytes(row[i].code, row[i].size);
        real_run(&c);
        CHECK_EQ(c.vector, row[i].vector);
        CHECK_EQ(c.ip, row[i].ip);
    }
}

static void the_stack_wraps_at_zero(void)
{
    CODE16(push, "movw $0x1234, %ax\n xorw %sp, %sp\n pushw %ax\n movw %sp, %bx\n popw %cx\n"
                 "movw %sp, %dx\n movw $0x8000, %sp");
    struct real_context c = REAL_PROGRAM(push);
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebx & 0xffff, 0xfffe);
    CHECK_EQ(c.ecx & 0xffff, 0x1234);
    CHECK_EQ(c.edx & 0xffff, 0);
}

/* Loads a limit of 4 GiB in protected mode and keeps it. */
static void limits_survive_the_way_back(void)
{
    CODE16(unreal, "movl %cr0, %eax\n orb $1, %al\n movl %eax, %cr0\n movw $0x10, %bx\n"
                   "movw %bx, %es\n andb $0xfe, %al\n movl %eax, %cr0\n xorw %bx, %bx\n"
                   "movw %bx, %es\n movl $0x100000, %esi\n movl %es:(%esi), %ecx");
    struct real_context c = REAL_PROGRAM(unreal);
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ecx, *(uint32_t *)0x100000);
    CHECK_EQ(c.es, 0);
}

/* ---- interrupts ---- */

static void interrupts_use_the_table(void)
{
    CODE16(caller, "stc\n int $0x60\n pushfw\n popw %si");
    CODE16(handler, "pushfw\n popw %bx\n movw %sp, %bp\n movw (%bp), %cx\n movw 2(%bp), %dx\n"
                    "movw 4(%bp), %di\n iretw");
    struct real_context c = REAL_PROGRAM(caller);
    memcpy(real_linear(REAL_CODE, 0x800), handler, (size_t)(handler_end - handler));
    *real_vector(0x60) = REAL_CODE << 16 | 0x800;
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    c.flags |= FLAG_IF;
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebx & (FLAG_IF | FLAG_TF), 0);
    CHECK_EQ(c.ecx & 0xffff, 3); /* behind the INT */
    CHECK_EQ(c.edx & 0xffff, REAL_CODE);
    CHECK_EQ(c.edi & (FLAG_IF | FLAG_CF), FLAG_IF | FLAG_CF);
    CHECK_EQ(c.esi & (FLAG_IF | FLAG_CF), FLAG_IF | FLAG_CF);
    CHECK_EQ(c.esp, 0x8000);
}

static void exceptions_have_no_error_codes(void)
{
    static const struct {
        uint8_t code[6], size, vector, ip;
    } row[] = {
        {{0x30, 0xc9, 0xf6, 0xf1}, 4, DE, 2},    /* XOR CL, CL; DIV CL */
        {{0xcc}, 1, BP, 1},                      /* INT3 */
        {{0xb0, 0x7f, 0x04, 1, 0xce}, 5, OF, 5}, /* INTO */
        {{0x0f, 0x0b}, 2, UD, 0},                /* UD2 */
        {{0xf1}, 1, DB, 1},                      /* INT1 */
        {{0x62, 0x06, 0, 0}, 4, BR, 0},          /* BOUND AX, [0] */
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct real_context c = bytes(row[i].code, row[i].size);
        *(uint32_t *)real_linear(REAL_DATA, 0) = 0x00200010;
        real_run(&c);
        CHECK_EQ(c.vector, row[i].vector);
        CHECK_EQ(c.ip, row[i].ip);
        CHECK_EQ(c.esp, 0x8000);
    }
}

static void the_table_has_a_limit(void)
{
    CODE16(limited, "pushl $0\n pushw $0x7f\n movw %sp, %bp\n lidtl (%bp)\n addw $6, %sp\n"
                    "limited_at: int $0x20");
    extern uint8_t limited_at[];
    struct real_context c = REAL_PROGRAM(limited);
    real_run(&c);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.ip, limited_at - limited);
}

static void single_steps(void)
{
    CODE16(steps, "nop\n movw $1, %ax\n nop");
    struct real_context c = REAL_PROGRAM(steps);
    c.flags |= FLAG_TF;
    real_run(&c);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.ip, 1);
    CHECK_EQ(c.flags & FLAG_TF, FLAG_TF);
    write_dr6(0xffff0ff0);
}

/* ---- far transfers ---- */

static void far_calls_and_returns(void)
{
    CODE16(far, "lcall $0x1040, $0\n movw %sp, %dx\n lcallw *0x10\n movw %sp, %si\n"
                "pushw $7\n pushw $8\n lcall $0x1040, $0x100\n movw %sp, %di");
    CODE16(first, "movw %cs, %ax\n addw $1, %cx\n lretw");
    CODE16(with_parameters, "movw %sp, %bp\n movw 4(%bp), %bx\n lretw $4");
    struct real_context c = REAL_PROGRAM(far);
    memcpy(real_linear(0x1040, 0), first, (size_t)(first_end - first));
    memcpy(real_linear(0x1040, 0x100), with_parameters,
           (size_t)(with_parameters_end - with_parameters));
    *(uint32_t *)real_linear(REAL_DATA, 0x10) = 0x10400000;
    c.ecx = 0;
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax & 0xffff, 0x1040);
    CHECK_EQ(c.ecx & 0xffff, 2);
    CHECK_EQ(c.ebx & 0xffff, 8);
    CHECK_EQ(c.edx & 0xffff, 0x8000);
    CHECK_EQ(c.esi & 0xffff, 0x8000);
    CHECK_EQ(c.edi & 0xffff, 0x8000);
    CHECK_EQ(c.cs, REAL_CODE);
}

static void far_pointers(void)
{
    CODE16(pointers, "ldsw 0x10, %si\n movw %ds, %ax\n lesw %cs:0x200, %di\n lfsw %cs:0x200, %bx");
    struct real_context c = REAL_PROGRAM(pointers);
    *(uint32_t *)real_linear(REAL_DATA, 0x10) = 0x12345678;
    *(uint32_t *)real_linear(REAL_CODE, 0x200) = 0x45673210;
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.esi & 0xffff, 0x5678);
    CHECK_EQ(c.ds, 0x1234);
    CHECK_EQ(c.edi & 0xffff, 0x3210);
    CHECK_EQ(c.es, 0x4567);
    CHECK_EQ(c.fs, 0x4567);
}

static void returns_beyond_the_segment(void)
{
    CODE16(beyond, "pushl $0x1000\n pushl $0x10000\n beyond_at: lretl");
    extern uint8_t beyond_at[];
    struct real_context c = REAL_PROGRAM(beyond);
    real_run(&c);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.ip, beyond_at - beyond);
}

/* ---- decimal arithmetic ---- */

static void decimal_arithmetic(void)
{
    static const struct {
        uint8_t code[2], size;
        uint16_t ax, flags, result, expected; /* CF, AF, ZF, SF, PF where defined */
        uint16_t defined;
    } row[] = {
        {{0x37}, 1, 0x000b, 0, 0x0101, FLAG_CF | FLAG_AF, FLAG_CF | FLAG_AF}, /* AAA */
        {{0x37}, 1, 0x0005, FLAG_AF, 0x010b, FLAG_CF | FLAG_AF, FLAG_CF | FLAG_AF},
        {{0x37}, 1, 0x0235, 0, 0x0205, 0, FLAG_CF | FLAG_AF},
        {{0x3f}, 1, 0x000b, 0, 0xff05, FLAG_CF | FLAG_AF, FLAG_CF | FLAG_AF}, /* AAS */
        {{0x3f}, 1, 0x0105, 0, 0x0105, 0, FLAG_CF | FLAG_AF},
        {{0x27}, 1, 0x009c, 0, 0x0002, FLAG_CF | FLAG_AF, FLAG_CF | FLAG_AF | FLAG_ZF}, /* DAA */
        {{0x27},
         1,
         0x0035,
         FLAG_CF,
         0x0095,
         FLAG_CF | FLAG_SF | FLAG_PF,
         FLAG_CF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_PF},
        {{0x2f},
         1,
         0x0047,
         FLAG_CF | FLAG_AF,
         0x00e1,
         FLAG_CF | FLAG_AF,
         FLAG_CF | FLAG_AF | FLAG_ZF}, /* DAS */
        {{0x2f}, 1, 0x0047, 0, 0x0047, 0, FLAG_CF | FLAG_AF},
        {{0xd4, 10}, 2, 0x0063, 0, 0x0909, FLAG_PF, FLAG_ZF | FLAG_SF | FLAG_PF}, /* AAM */
        {{0xd4, 16}, 2, 0x00f3, 0, 0x0f03, FLAG_PF, FLAG_ZF | FLAG_SF | FLAG_PF},
        {{0xd5, 10}, 2, 0x0905, 0, 0x005f, FLAG_PF, FLAG_ZF | FLAG_SF | FLAG_PF}, /* AAD */
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct real_context c = bytes(row[i].code, row[i].size);
        c.eax = row[i].ax;
        c.flags |= row[i].flags;
        real_run(&c);
        CHECK_EQ(c.vector, DONE);
        CHECK_EQ(c.eax, row[i].result);
        CHECK_EQ(c.flags & row[i].defined, row[i].expected);
    }
    static const uint8_t by_zero[] = {0xd4, 0};
    struct real_context c = bytes(by_zero, 2);
    real_run(&c);
    CHECK_EQ(c.vector, DE);
}

/* ---- strings ---- */

static void strings_wrap_with_their_index(void)
{
    CODE16(forward, "movw $0xfffd, %si\n movw $0x100, %di\n movw $6, %cx\n rep movsb");
    struct real_context c = REAL_PROGRAM(forward);
    for (unsigned i = 0; i < 3; i++) {
        *real_linear(REAL_DATA, 0xfffd + i) = (uint8_t)(1 + i);
        *real_linear(REAL_DATA, i) = (uint8_t)(4 + i);
    }
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.esi & 0xffff, 3);
    CHECK_EQ(c.edi & 0xffff, 0x106);
    CHECK_EQ(c.ecx & 0xffff, 0);
    static const uint8_t want[] = {1, 2, 3, 4, 5, 6};
    CHECK(memcmp(real_linear(REAL_DATA, 0x100), want, 6) == 0);
}

static void strings_run_both_ways(void)
{
    CODE16(back, "std\n movw $0x202, %si\n movw $0x303, %di\n movw $3, %cx\n rep movsb\n cld\n"
                 "movw $0x301, %si\n lodsw\n movw $0x200, %di\n movw $10, %cx\n movb $0x33, %al\n"
                 "repne scasb\n movw %cx, %bx\n movw $0x200, %si\n movw $0x301, %di\n"
                 "movw $3, %cx\n repe cmpsb");
    struct real_context c = REAL_PROGRAM(back);
    memcpy(real_linear(REAL_DATA, 0x200), "\x11\x22\x33", 3);
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK(memcmp(real_linear(REAL_DATA, 0x301), "\x11\x22\x33", 3) == 0);
    CHECK_EQ(c.ebx & 0xffff, 7);
    CHECK_EQ(c.ecx & 0xffff, 0);
    CHECK_EQ(c.flags & FLAG_ZF, FLAG_ZF);
}

static void counts_are_of_16_bits(void)
{
    CODE16(count, "movl $0x10003, %ecx\n movw $0x400, %di\n movb $0x5a, %al\n rep stosb\n"
                  "movl $0x20002, %ebx\n xchgl %ebx, %ecx\n again: incw %dx\n loop again\n"
                  "jcxz out\n movw $0xbad, %dx\n out: nop");
    struct real_context c = REAL_PROGRAM(count);
    c.edx = 0;
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebx, 0x10000);
    CHECK_EQ(c.ecx, 0x20000);
    CHECK_EQ(c.edx & 0xffff, 2);
    CHECK_EQ(c.edi & 0xffff, 0x403);
}

/* ---- the rest ---- */

static void stack_instructions(void)
{
    CODE16(stack, "pushaw\n movw %sp, %bp\n movw 6(%bp), %bx\n popaw\n movw $0x1111, %bp\n"
                  "enter $8, $0\n movw %sp, %si\n movw (%bp), %di\n leave\n"
                  "pushl $0x12345678\n popl %ecx\n pushw $-2\n popw %dx\n"
                  "movw $0x10, %bx\n movb $3, %al\n xlatb");
    struct real_context c = REAL_PROGRAM(stack);
    *real_linear(REAL_DATA, 0x13) = 0x99;
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.esp, 0x8000);
    CHECK_EQ(c.esi & 0xffff, 0x8000 - 10);
    CHECK_EQ(c.edi & 0xffff, 0x1111);
    CHECK_EQ(c.ebp & 0xffff, 0x1111);
    CHECK_EQ(c.ecx, 0x12345678);
    CHECK_EQ(c.edx & 0xffff, 0xfffe);
    CHECK_EQ(c.eax & 0xff, 0x99);
}

static void what_needs_protected_mode(void)
{
    static const uint8_t row[][3] = {
        {0x0f, 0x00, 0xc0}, /* SLDT */
        {0x0f, 0x00, 0xc8}, /* STR */
        {0x0f, 0x00, 0xd0}, /* LLDT */
        {0x0f, 0x00, 0xd8}, /* LTR */
        {0x0f, 0x00, 0xe0}, /* VERR */
        {0x0f, 0x00, 0xe8}, /* VERW */
        {0x0f, 0x02, 0xc0}, /* LAR */
        {0x0f, 0x03, 0xc0}, /* LSL */
        {0x63, 0xc0, 0x90}, /* ARPL */
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct real_context c = bytes(row[i], 3);
        real_run(&c);
        CHECK_EQ(c.vector, UD);
        CHECK_EQ(c.ip, 0);
    }
    static const uint8_t sysenter[] = {0x0f, 0x34};
    struct real_context c = bytes(sysenter, 2);
    real_run(&c);
    CHECK_EQ(c.vector, GP);
}

static void what_is_allowed(void)
{
    CODE16(allowed, "cli\n sti\n cli\n movl %cr0, %eax\n movl %eax, %cr0\n smsw %bx\n"
                    "pushw $0x3002\n popfw\n pushfw\n popw %cx\n wbinvd\n clts");
    struct real_context c = REAL_PROGRAM(allowed);
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebx & 1, 0);
    CHECK_EQ(c.ecx & 0xffff, 0x3002);
}

static void mode_switches_keep_the_code_running(void)
{
    /* PE set and cleared without a far jump: CS stays as it was. */
    CODE16(pe, "movl %cr0, %eax\n orb $1, %al\n movl %eax, %cr0\n movw %cs, %bx\n smsw %cx\n"
               "andb $0xfe, %al\n movl %eax, %cr0\n movw $1, %ax\n lmsw %ax\n smsw %dx\n"
               "movw $0, %ax\n lmsw %ax\n smsw %si\n movl %cr0, %eax\n andb $0xfe, %al\n"
               "movl %eax, %cr0");
    struct real_context c = REAL_PROGRAM(pe);
    real_run(&c);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ebx & 0xffff, REAL_CODE);
    CHECK_EQ(c.ecx & 1, 1);
    CHECK_EQ(c.edx & 1, 1);
    CHECK_EQ(c.esi & 1, 1); /* LMSW can't clear PE */
}

const struct guest_test guest_tests[] = {
    {"the first megabyte and a little more", the_first_megabyte_and_a_little_more},
    {"offsets wrap when computed", offsets_wrap_when_computed},
    {"operands do not wrap", operands_do_not_wrap, .not_tcg = true},
    {"the stack wraps at zero", the_stack_wraps_at_zero},
    {"limits survive the way back", limits_survive_the_way_back},
    {"interrupts use the table", interrupts_use_the_table},
    {"exceptions have no error codes", exceptions_have_no_error_codes, .not_tcg = true},
    {"the table has a limit", the_table_has_a_limit},
    {"single steps", single_steps},
    {"far calls and returns", far_calls_and_returns},
    {"far pointers", far_pointers},
    {"returns beyond the segment", returns_beyond_the_segment, .not_tcg = true},
    {"decimal arithmetic", decimal_arithmetic},
    {"strings wrap with their index", strings_wrap_with_their_index},
    {"strings run both ways", strings_run_both_ways},
    {"counts are of 16 bits", counts_are_of_16_bits},
    {"stack instructions", stack_instructions},
    {"what needs protected mode", what_needs_protected_mode},
    {"what is allowed", what_is_allowed},
    {"mode switches keep the code running", mode_switches_keep_the_code_running},
    {0},
};

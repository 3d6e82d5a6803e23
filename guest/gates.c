/*
 * Privilege levels: segment checks, call gates between all levels, returns, accessed bits.
 */
#include "lib/run32.h"

const char guest_name[] = "gates";

/* ---- direct transfers ---- */

CODE(jump_far_eax, "movl %eax, 1f+4\n movl $2f, 1f\n ljmp *1f\n2: int $0x30\n1: .long 0, 0");

static uint32_t far_jump(unsigned level, uint16_t selector, struct context *c)
{
    *c = at_level(level);
    c->eax = selector;
    /* The pointer is written through DS: levels above 0 may, the page is theirs too. */
    run_code(c, jump_far_eax);
    return c->vector;
}

static void jumps_keep_the_level(void)
{
    struct context c;
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_CONFORMING | D_FLAT);
    for (unsigned level = 0; level < 4; level++) {
        static const uint16_t code[] = {CODE0, CODE1, CODE2, CODE3};
        for (unsigned to = 0; to < 4; to++) {
            uint32_t got = far_jump(level, code[to], &c);
            CHECK_EQ(got, to == level ? DONE : GP);
            if (to == level)
                CHECK_EQ(c.cs, code[to]);
            else
                CHECK_EQ(c.error, code[to] & ~3u);
        }
        CHECK_EQ(far_jump(level, FREE, &c), DONE);
        CHECK_EQ(c.cs & 3, level);
    }
}

static void jump_faults(void)
{
    struct context c;
    CHECK_EQ(far_jump(0, 0, &c), GP);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(far_jump(0, GDT_SLOTS * 8, &c), GP);
    CHECK_EQ(c.error, GDT_SLOTS * 8);
    CHECK_EQ(far_jump(0, DATA0, &c), GP);
    CHECK_EQ(c.error, DATA0);
    CHECK_EQ(far_jump(0, 0x0c, &c), GP); /* there is no LDT */
    CHECK_EQ(c.error, 0x0c);
    gdt[FREE / 8] = descriptor(0, 0xfffff, (D_CODE & ~0x80u) | D_FLAT);
    CHECK_EQ(far_jump(0, FREE, &c), NP);
    CHECK_EQ(c.error, FREE);
    CHECK_EQ(gdt[FREE / 8] >> 40 & 1, 1);
}

static void code_limits(void)
{
    struct context c;
    gdt[FREE / 8] = descriptor(0, 0xf, D_CODE | D_FLAT); /* 64 KiB: we are beyond */
    CHECK_EQ(far_jump(0, FREE, &c), GP);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.cs, CODE0);
}

/* ---- call gates ---- */

/* Calls through the gate in EAX with two parameters; the callee leaves its view in registers. */
CODE(call_gate, "movl %eax, 1f+4\n push $0x22222222\n push $0x11111111\n lcall *1f\n"
                "int $0x31\n1: .long 0, 0");
CODE(callee, "mov %cs, %eax\n mov %ss, %ebx\n mov 8(%esp), %ecx\n mov 12(%esp), %edx\n"
             "mov %esp, %esi\n lret $8");

static const uint16_t code_of[] = {CODE0, CODE1, CODE2, CODE3};
static const uint16_t data_of[] = {DATA0, DATA1, DATA2, DATA3};

static void gates_between_all_levels(void)
{
    for (unsigned from = 0; from < 4; from++) {
        for (unsigned to = 0; to < 4; to++) {
            gdt[FREE / 8] = gate(code_of[to] & ~3u, (uint32_t)callee, G_CALL | dpl(3), 2);
            struct context c = at_level(from);
            uint32_t esp = c.esp;
            c.eax = FREE;
            run_code(&c, call_gate);
            if (to > from) {
                CHECK_EQ(c.vector, GP);
                CHECK_EQ(c.error, code_of[to] & ~3u);
                continue;
            }
            CHECK_EQ(c.vector, 0x31);
            CHECK_EQ(c.eax, code_of[to]);
            CHECK_EQ(c.ebx, data_of[to]);
            CHECK_EQ(c.ecx, 0x11111111);
            CHECK_EQ(c.edx, 0x22222222);
            CHECK_EQ(c.cs, code_of[from]);
            CHECK_EQ(c.ss, data_of[from]);
            CHECK_EQ(c.esp, esp);
            if (to < from) {
                const uint32_t top[] = {tss.esp0, tss.esp1, tss.esp2};
                CHECK_EQ(c.esi, top[to] - 24);
            }
        }
    }
}

static void gate_privileges(void)
{
    struct context c = at_level(3);
    gdt[FREE / 8] = gate(CODE0, (uint32_t)callee, G_CALL | dpl(2), 2);
    c.eax = FREE;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, FREE);

    c = at_level(0); /* the RPL counts too */
    c.eax = FREE | 3;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, FREE);

    gdt[FREE / 8] = gate(CODE0, (uint32_t)callee, (G_CALL & ~0x80u) | dpl(3), 2);
    c = at_level(3);
    c.eax = FREE;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, NP);
    CHECK_EQ(c.error, FREE);

    gdt[FREE / 8] = gate(0, (uint32_t)callee, G_CALL | dpl(3), 2);
    c = at_level(3);
    c.eax = FREE;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);

    gdt[FREE / 8] = gate(DATA0, (uint32_t)callee, G_CALL | dpl(3), 2);
    c = at_level(3);
    c.eax = FREE;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, DATA0);
}

static void gates_need_an_inner_stack(void)
{
    gdt[FREE / 8] = gate(CODE1, (uint32_t)callee, G_CALL | dpl(3), 2);
    static const uint16_t bad[] = {0, DATA0, CODE1, DATA3, GDT_SLOTS * 8 | 1};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct context c = at_level(3);
        tss.ss1 = bad[i];
        c.eax = FREE;
        run_code(&c, call_gate);
        CHECK_EQ(c.vector, TS);
        CHECK_EQ(c.error, bad[i] & ~3u);
        CHECK_EQ(c.cs, CODE3);
    }
    tss.ss1 = DATA1;
}

static void gates_need_a_present_inner_stack(void)
{
    gdt[FREE / 8] = gate(CODE1, (uint32_t)callee, G_CALL | dpl(3), 2);
    gdt[FREE / 8 + 1] = descriptor(0, 0xfffff, (D_DATA & ~0x80u) | D_FLAT | dpl(1));
    tss.ss1 = (FREE + 8) | 1;
    struct context c = at_level(3);
    c.eax = FREE;
    run_code(&c, call_gate);
    CHECK_EQ(c.vector, SS);
    CHECK_EQ(c.error, FREE + 8);
    tss.ss1 = DATA1;
}

CODE(callee16, "mov %cs, %eax\n mov (%esp), %ebx\n mov 4(%esp), %ecx\n mov 8(%esp), %edx\n"
               "lretw $4");
CODE(call_gate16, "movl %eax, 1f+4\n pushw $0x2222\n pushw $0x1111\n lcall *1f\n"
                  "int $0x31\n1: .long 0, 0");

static void gates_of_16_bits(void)
{
    /* Offsets and pointers are cut to 16 bits: the code must lie low. */
    uint8_t *low = (uint8_t *)0x9000;
    memcpy(low, callee16, (size_t)(callee16_end - callee16));
    gdt[FREE / 8] = gate(CODE0, (uint32_t)low, G_CALL16 | dpl(3), 2);
    gdt[FREE / 8 + 1] = descriptor((uint32_t)call_gate16, 0xffff, D_CODE | 0x4000 | dpl(3));
    struct context c = at_level(3);
    c.cs = (FREE + 8) | 3;
    c.eax = FREE;
    c.eip = 0;
    run(&c);
    CHECK_EQ(c.vector, 0x31);
    CHECK_EQ(c.eax, CODE0);
    CHECK_EQ(c.ebx >> 16, (FREE + 8) | 3);
    CHECK_EQ(c.ecx, 0x22221111);
    CHECK_EQ(c.edx >> 16, DATA3);
}

CODE(jump_gate, "movl %eax, 1f+4\n ljmp *1f\n1: .long 0, 0");
CODE(jump_target, "mov %cs, %eax");

static void jumps_through_gates(void)
{
    for (unsigned from = 0; from < 4; from++) {
        for (unsigned to = 0; to < 4; to++) {
            gdt[FREE / 8] = gate(code_of[to], (uint32_t)jump_target, G_CALL | dpl(3), 0);
            struct context c = at_level(from);
            c.eax = FREE;
            run_code(&c, jump_gate);
            CHECK_EQ(c.vector, from == to ? DONE : GP);
            if (from == to)
                CHECK_EQ(c.eax, code_of[to]);
        }
    }
}

/* ---- returns ---- */

CODE(far_return, "push %eax\n push %ebx\n push %ecx\n push %edx\n lret");
CODE(landed, "mov %ds, %eax\n mov %es, %ebx\n mov %fs, %ecx\n mov %gs, %edx");

static void outer_returns_null_segments(void)
{
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_CONFORMING | D_FLAT);
    struct context c = at_level(0);
    c.eax = DATA3;
    c.ebx = (uint32_t)test_stack[3] + 2048;
    c.ecx = CODE3;
    c.edx = (uint32_t)landed;
    c.es = DATA3;
    c.fs = FREE;
    c.gs = DATA1;
    run_code(&c, far_return);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.cs, CODE3);
    CHECK_EQ(c.esp, (uint32_t)test_stack[3] + 2048);
    CHECK_EQ(c.eax, 0); /* DS was of level 0 */
    CHECK_EQ(c.ebx, DATA3);
    CHECK_EQ(c.ecx, FREE); /* conforming code stays */
    CHECK_EQ(c.edx, 0);
}

static void returns_are_checked(void)
{
    static const struct {
        uint16_t cs, ss;
        uint32_t vector, error;
    } row[] = {
        {0, DATA3, GP, 0},
        {DATA3, DATA3, GP, DATA3 & ~3u},
        {CODE0 | 3, DATA3, GP, CODE0}, /* RPL is not the DPL */
        {CODE3 & ~3u, DATA3, GP, CODE3 & ~3u},
        {CODE3, 0, GP, 0},
        {CODE3, DATA0, GP, DATA0},
        {CODE3, DATA3 & ~3u, GP, DATA3 & ~3u},
        {CODE3, CODE3, GP, CODE3 & ~3u},
        {GDT_SLOTS * 8, DATA3, GP, GDT_SLOTS * 8},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = at_level(0);
        uint32_t esp = c.esp;
        c.eax = row[i].ss;
        c.ebx = (uint32_t)test_stack[3] + 2048;
        c.ecx = row[i].cs;
        c.edx = (uint32_t)landed;
        run_code(&c, far_return);
        CHECK_EQ(c.vector, row[i].vector);
        CHECK_EQ(c.error, row[i].error);
        CHECK_EQ(c.cs, CODE0);
        CHECK_EQ(c.esp, esp - 16);
    }
    struct context c = at_level(3); /* never inward */
    c.ecx = CODE0;
    run_code(&c, far_return);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, CODE0);
}

/* ---- data segments ---- */

CODE(load_es, "mov %eax, %es");
CODE(load_ss, "mov %eax, %ss");

static void data_segment_checks(void)
{
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_CONFORMING | D_FLAT);
    gdt[FREE / 8 + 1] = descriptor(0, 0xfffff, (D_CODE & ~2u) | D_FLAT | dpl(3));
    gdt[FREE / 8 + 2] = descriptor(0, 0xfffff, (D_DATA & ~0x80u) | D_FLAT | dpl(3));
    static const struct {
        uint16_t selector, level;
        uint32_t vector, error;
    } row[] = {
        {0, 3, DONE, 0},
        {3, 3, DONE, 0},
        {DATA3, 3, DONE, 0},
        {DATA3 & ~3u, 3, DONE, 0},
        {DATA3, 0, DONE, 0},
        {DATA0, 3, GP, DATA0},
        {DATA0, 0, DONE, 0},
        {DATA0 | 3, 0, GP, DATA0},
        {DATA1, 2, GP, DATA1 & ~3u},
        {DATA2, 1, DONE, 0},
        {CODE3, 3, DONE, 0}, /* readable code */
        {FREE | 3, 3, DONE, 0},
        {FREE + 8, 0, GP, FREE + 8}, /* execute only */
        {FREE + 16, 0, NP, FREE + 16},
        {TSS, 0, GP, TSS},
        {GDT_SLOTS * 8, 0, GP, GDT_SLOTS * 8},
        {0x0c, 0, GP, 0x0c},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = at_level(row[i].level);
        c.eax = row[i].selector;
        run_code(&c, load_es);
        CHECK_EQ(c.vector, row[i].vector);
        CHECK_EQ(c.error, row[i].error);
        if (row[i].vector == DONE)
            CHECK_EQ(c.es, row[i].selector);
    }
}

static void stack_segment_checks(void)
{
    gdt[FREE / 8] = descriptor(0, 0xfffff, (D_DATA & ~2u) | D_FLAT);
    gdt[FREE / 8 + 1] = descriptor(0, 0xfffff, (D_DATA & ~0x80u) | D_FLAT);
    static const struct {
        uint16_t selector;
        uint32_t vector, error;
    } row[] = {
        {DATA0, DONE, 0},   {0, GP, 0},       {DATA3, GP, DATA3 & ~3u}, {DATA0 | 1, GP, DATA0},
        {CODE0, GP, CODE0}, {FREE, GP, FREE}, {FREE + 8, SS, FREE + 8}, {0x0c, GP, 0x0c},
    };
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        struct context c = at_level(0);
        c.eax = row[i].selector;
        run_code(&c, load_ss);
        CHECK_EQ(c.vector, row[i].vector);
        CHECK_EQ(c.error, row[i].error);
    }
}

static const uint64_t accessed = 1ull << 40;

static void accessed_bits(void)
{
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_DATA | D_FLAT) & ~accessed;
    struct context c = at_level(0);
    c.eax = FREE;
    run_code(&c, load_es);
    CHECK(gdt[FREE / 8] & accessed);

    gdt[FREE / 8] &= ~accessed; /* VERR and LAR only look */
    c = at_level(0);
    c.eax = FREE;
    CODE(look, "verr %ax\n lar %eax, %ebx\n lsl %eax, %ecx");
    run_code(&c, look);
    CHECK(!(gdt[FREE / 8] & accessed));
    CHECK_EQ(c.ebx & 0xf0ff00, 0xc09200);
    CHECK_EQ(c.ecx, 0xffffffff);
}

static void accessed_bits_of_code(void)
{
    struct context c;
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_CODE | D_FLAT) & ~accessed;
    CHECK_EQ(far_jump(0, FREE, &c), DONE);
    CHECK(gdt[FREE / 8] & accessed);
}

CODE(read_es, "mov %eax, %es\n movl %es:(%ebx), %ecx");
CODE(write_es, "mov %eax, %es\n movl %ecx, %es:(%ebx)");
CODE(read_cs, "movl %cs:(%ebx), %ecx");

static uint32_t access_es(const void *code, uint16_t selector, uint32_t offset)
{
    struct context c = at_level(0);
    c.eax = selector;
    c.ebx = offset;
    run_code(&c, code);
    return c.vector == DONE ? DONE : c.vector << 16 | c.error;
}

static void limits_and_types(void)
{
    static uint8_t bytes[0x2000];
    gdt[FREE / 8] = descriptor((uint32_t)bytes, 0xfff, D_DATA);
    CHECK_EQ(access_es(read_es, FREE, 0xffc), DONE);
    CHECK_EQ(access_es(read_es, FREE, 0xffd), GP << 16);
    CHECK_EQ(access_es(write_es, FREE, 0x1000), GP << 16);
    CHECK_EQ(access_es(read_es, FREE, 0xfffffffe), GP << 16);
    gdt[FREE / 8] = descriptor((uint32_t)bytes, 0xfff, D_DATA & ~2u);
    CHECK_EQ(access_es(read_es, FREE, 0), DONE);
    CHECK_EQ(access_es(write_es, FREE, 0), GP << 16);
    CHECK_EQ(access_es(write_es, CODE0, (uint32_t)bytes), GP << 16);
    CHECK_EQ(access_es(read_es, CODE0, (uint32_t)bytes), DONE);
    CHECK_EQ(access_es(read_es, 0, 0), GP << 16);
    /* Expand-down: above the limit, to 64 KiB or 4 GiB. */
    gdt[FREE / 8] = descriptor((uint32_t)bytes, 0xfff, D_DATA | 4);
    CHECK_EQ(access_es(read_es, FREE, 0xfff), GP << 16);
    CHECK_EQ(access_es(read_es, FREE, 0x1000), DONE);
    CHECK_EQ(access_es(read_es, FREE, 0xfffd), GP << 16);
    gdt[FREE / 8] |= 1ull << 54;
    CHECK_EQ(access_es(read_es, FREE, 0xfffd), DONE);
}

static void arpl_adjusts_the_rpl(void)
{
    CODE(arpl, "arpl %bx, %ax\n pushf\n pop %edx");
    struct context c = at_level(3);
    c.eax = 0x11110010;
    c.ebx = 3;
    run_code(&c, arpl);
    CHECK_EQ(c.eax, 0x11110013);
    CHECK_EQ(c.edx & FLAG_ZF, FLAG_ZF);
    c = at_level(3);
    c.eax = 0x13;
    c.ebx = 1;
    run_code(&c, arpl);
    CHECK_EQ(c.eax, 0x13);
    CHECK_EQ(c.edx & FLAG_ZF, 0);
}

static void local_descriptors(void)
{
    static uint64_t ldt[4];
    ldt[1] = descriptor(0, 0xfffff, D_DATA | D_FLAT);
    gdt[FREE / 8] = descriptor((uint32_t)ldt, sizeof ldt - 1, D_LDT);
    CODE(with_ldt, "lldt %ax\n mov %ebx, %es\n sldt %ecx");
    struct context c = at_level(0);
    c.eax = FREE;
    c.ebx = 0x0c;
    run_code(&c, with_ldt);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ecx, FREE);
    c = at_level(0);
    c.eax = FREE;
    c.ebx = 0x24;
    run_code(&c, with_ldt);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0x24);
    c = at_level(0);
    c.eax = DATA0;
    run_code(&c, with_ldt);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, DATA0);
    c = at_level(3);
    c.eax = FREE;
    run_code(&c, with_ldt);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    __asm__ volatile("lldt %w0" : : "r"(0));
}

const struct guest_test guest_tests[] = {
    {"jumps keep the level", jumps_keep_the_level},
    {"jump faults", jump_faults},
    {"code limits", code_limits},
    {"gates between all levels", gates_between_all_levels},
    {"gate privileges", gate_privileges},
    {"gates need an inner stack", gates_need_an_inner_stack},
    {"gates need a present inner stack", gates_need_a_present_inner_stack, .not_tcg = true},
    {"gates of 16 bits", gates_of_16_bits},
    {"jumps through gates", jumps_through_gates},
    {"outer returns null segments", outer_returns_null_segments},
    {"returns are checked", returns_are_checked},
    {"data segment checks", data_segment_checks},
    {"stack segment checks", stack_segment_checks},
    {"accessed bits", accessed_bits},
    {"accessed bits of code", accessed_bits_of_code, .not_tcg = true},
    {"limits and types", limits_and_types, .not_tcg = true},
    {"ARPL adjusts the RPL", arpl_adjusts_the_rpl},
    {"local descriptors", local_descriptors},
    {0},
};

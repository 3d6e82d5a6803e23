/*
 * Debugging: single steps, the four breakpoint registers, and everything that delays or hides them.
 */
#include "lib/run32.h"

const char guest_name[] = "debug";

enum {
    DR6_CLEAR = 0xffff0ff0u,
    BD = 1 << 13,
    BS = 1 << 14,
    GD = 1 << 13,
    EXECUTE = 0,
    WRITE = 1,
    IO = 2,
    ACCESS = 3,
};

static uint32_t cell[4] __attribute__((aligned(16)));

static uint32_t enable(unsigned n, unsigned kind, unsigned length)
{
    return 2u << (2 * n) | kind << (16 + 4 * n) | (length - 1) << (18 + 4 * n);
}

/* Runs code at a level and returns the bits that DR6 got. */
static uint32_t dr6_of(struct context *c, const void *code)
{
    write_dr6(DR6_CLEAR);
    run_code(c, code);
    return (uint32_t)read_dr6() & 0xe00f;
}

/* ---- single step ---- */

TESTED(steps, "nop\n steps1: movl $5, %eax\n steps2: jmp steps3\n nop\n steps3: int $0x31");
extern uint8_t steps1[], steps2[], steps3[];

static void each_instruction_traps(void)
{
    static uint8_t *const at[] = {steps1, steps2, steps3};
    for (unsigned level = 0; level < 4; level += 3) {
        struct context c = at_level(level);
        const void *code = steps;
        for (unsigned i = 0; i < 3; i++) {
            c.eflags |= FLAG_TF;
            CHECK_EQ(dr6_of(&c, code), BS);
            CHECK_EQ(c.vector, DB);
            CHECK_EQ(c.eip, (uint32_t)at[i]);
            CHECK_EQ(c.eflags & FLAG_TF, FLAG_TF);
            CHECK_EQ(c.eflags & FLAG_RF, 0);
            code = at[i];
        }
        c.eflags |= FLAG_TF; /* INT takes TF away without a trap */
        CHECK_EQ(dr6_of(&c, code), 0);
        CHECK_EQ(c.vector, 0x31);
        CHECK_EQ(c.eflags & FLAG_TF, FLAG_TF);
    }
}

static void popf_takes_effect_behind_the_next(void)
{
    CODE(popf, "pushf\n orl $0x100, (%esp)\n popf\n nop\n popf_trap: nop");
    extern uint8_t popf_trap[];
    struct context c = at_level(0);
    CHECK_EQ(dr6_of(&c, popf), BS);
    CHECK_EQ(c.eip, (uint32_t)popf_trap);
    CODE(popf_off, "popf\n popf_off_trap: nop");
    extern uint8_t popf_off_trap[];
    c = at_level(0);
    c.esp -= 4;
    *(uint32_t *)c.esp = FLAG_FIXED;
    c.eflags |= FLAG_TF;
    CHECK_EQ(dr6_of(&c, popf_off), BS);
    CHECK_EQ(c.eip, (uint32_t)popf_off_trap);
    CHECK_EQ(c.eflags & FLAG_TF, 0);
}

static void repeated_strings_trap_in_between(void)
{
    CODE(rep, "rep stosb\n rep_next: nop");
    extern uint8_t rep_next[];
    struct context c = at_level(0);
    uint32_t edi = (uint32_t)cell;
    c.edi = edi;
    c.ecx = 3;
    for (unsigned left = 2;; left--) {
        c.eflags |= FLAG_TF;
        CHECK_EQ(dr6_of(&c, rep), BS);
        CHECK_EQ(c.ecx, left);
        CHECK_EQ(c.edi, edi + 3 - left);
        CHECK_EQ(c.eip, left ? (uint32_t)rep : (uint32_t)rep_next);
        CHECK_EQ(c.eflags & FLAG_RF, left ? FLAG_RF : 0);
        if (left == 0)
            break;
    }
}

static void loads_of_ss_hold_the_trap(void)
{
    CODE(mov_ss, "mov %ss, %eax\n mov %eax, %ss\n nop\n mov_ss_trap: nop");
    extern uint8_t mov_ss_trap[];
    struct context c = at_level(0);
    c.eflags |= FLAG_TF;
    c.eip = (uint32_t)mov_ss + 2;
    c.eax = DATA0;
    write_dr6(DR6_CLEAR);
    run(&c);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.eip, (uint32_t)mov_ss_trap);
    CODE(pop_ss, "pop %ss\n nop\n pop_ss_trap: nop");
    extern uint8_t pop_ss_trap[];
    c = at_level(0);
    c.esp -= 4;
    *(uint32_t *)c.esp = DATA0;
    c.eflags |= FLAG_TF;
    CHECK_EQ(dr6_of(&c, pop_ss), BS);
    CHECK_EQ(c.eip, (uint32_t)pop_ss_trap);
}

static void faults_come_before_the_step(void)
{
    CODE(fault, "ud2");
    struct context c = at_level(0);
    c.eflags |= FLAG_TF;
    CHECK_EQ(dr6_of(&c, fault), 0);
    CHECK_EQ(c.vector, UD);
    CHECK_EQ(c.eflags & FLAG_TF, FLAG_TF);
}

/* ---- instruction breakpoints ---- */

CODE(loop, "loop_at: nop\n decl %ecx\n jnz loop_at");
extern uint8_t loop_at[];

static void instructions_break_before_they_run(void)
{
    CODE(target, "movl $1, %eax\n target_at: movl $2, %eax\n nop");
    extern uint8_t target_at[];
    static void (*const set[])(unsigned long) = {write_dr0, write_dr1, write_dr2, write_dr3};
    for (unsigned n = 0; n < 4; n++) {
        struct context c = at_level(n == 3 ? 3 : 0);
        set[n]((uint32_t)target_at);
        write_dr7(0x400 | enable(n, EXECUTE, 1));
        CHECK_EQ(dr6_of(&c, target), 1u << n);
        CHECK_EQ(c.vector, DB);
        CHECK_EQ(c.eip, (uint32_t)target_at);
        CHECK_EQ(c.eax, 1);
        set[n](0);
    }
    write_dr7(0x400);
}

static void resume_flag_lasts_for_one_instruction(void)
{
    write_dr0((uint32_t)loop_at);
    write_dr7(0x400 | enable(0, EXECUTE, 1));
    struct context c = at_level(0);
    c.ecx = 3;
    CHECK_EQ(dr6_of(&c, loop), 1);
    CHECK_EQ(c.ecx, 3);
    c.eflags |= FLAG_RF; /* over it, once */
    CHECK_EQ(dr6_of(&c, loop), 1);
    CHECK_EQ(c.ecx, 2);
    CHECK_EQ(c.eip, (uint32_t)loop_at);
    c.eflags |= FLAG_RF;
    write_dr7(0x400);
    CHECK_EQ(dr6_of(&c, loop), 0);
    CHECK_EQ(c.vector, DONE);
}

static void a_repeated_string_breaks_once(void)
{
    CODE(fill_cell, "rep stosb\n nop");
    write_dr0((uint32_t)fill_cell);
    write_dr7(0x400 | enable(0, EXECUTE, 1));
    struct context c = at_level(0);
    c.edi = (uint32_t)cell;
    c.ecx = 5;
    CHECK_EQ(dr6_of(&c, fill_cell), 1);
    CHECK_EQ(c.ecx, 5);
    c.eflags |= FLAG_RF;
    CHECK_EQ(dr6_of(&c, fill_cell), 0);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.ecx, 0);
    write_dr7(0x400);
}

static void breakpoints_must_be_enabled(void)
{
    write_dr0((uint32_t)loop_at);
    write_dr7(0x400);
    struct context c = at_level(0);
    c.ecx = 1;
    CHECK_EQ(dr6_of(&c, loop), 0);
    CHECK_EQ(c.vector, DONE);
    write_dr7(0x400 | 1); /* the local bit will do */
    c = at_level(0);
    c.ecx = 1;
    CHECK_EQ(dr6_of(&c, loop), 1);
    write_dr7(0x400);
}

static void no_breakpoint_behind_mov_ss(void)
{
    CODE(shadow, "mov %eax, %ss\n shadow_at: nop\n nop");
    extern uint8_t shadow_at[];
    write_dr0((uint32_t)shadow_at);
    write_dr7(0x400 | enable(0, EXECUTE, 1));
    struct context c = at_level(0);
    c.eax = DATA0;
    CHECK_EQ(dr6_of(&c, shadow), 0);
    CHECK_EQ(c.vector, DONE);
    write_dr7(0x400);
}

/* ---- data breakpoints ---- */

CODE(store_byte, "movb $1, (%ebx)\n store_byte_next: nop");
CODE(store_dword, "movl $1, (%ebx)\n store_dword_next: nop");
CODE(load_dword, "movl (%ebx), %eax\n load_dword_next: nop");
CODE(add_dword, "addl $1, (%ebx)\n add_dword_next: nop");
extern uint8_t store_byte_next[], store_dword_next[], load_dword_next[], add_dword_next[];

static uint32_t hit(const void *code, const void *at, struct context *c)
{
    *c = at_level(0);
    c->ebx = (uint32_t)at;
    return dr6_of(c, code);
}

static void data_breakpoints_trap_behind_the_access(void)
{
    struct context c;
    write_dr1((uint32_t)&cell[1]);
    write_dr7(0x400 | enable(1, WRITE, 4));
    CHECK_EQ(hit(store_dword, &cell[1], &c), 2);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.eip, (uint32_t)store_dword_next);
    CHECK_EQ(cell[1], 1);
    CHECK_EQ(hit(add_dword, &cell[1], &c), 2);
    CHECK_EQ(c.eip, (uint32_t)add_dword_next);
    CHECK_EQ(hit(load_dword, &cell[1], &c), 0);
    CHECK_EQ(c.vector, DONE);
    write_dr7(0x400 | enable(1, ACCESS, 4));
    CHECK_EQ(hit(load_dword, &cell[1], &c), 2);
    CHECK_EQ(c.eip, (uint32_t)load_dword_next);
    CHECK_EQ(hit(store_dword, &cell[1], &c), 2);
    write_dr7(0x400);
    CHECK_EQ(hit(store_dword, &cell[1], &c), 0);
}

static void data_breakpoints_cover_their_length(void)
{
    static const uint8_t lengths[] = {1, 2, 4};
    uint8_t *base = (uint8_t *)&cell[1];
    for (unsigned i = 0; i < ARRAY_LEN(lengths); i++) {
        write_dr3((uint32_t)base);
        write_dr7(0x400 | enable(3, WRITE, lengths[i]));
        struct context c;
        for (int at = -4; at < 5; at++) {
            bool inside = at >= 0 && at < lengths[i];
            CHECK_EQ(hit(store_byte, base + at, &c), inside ? 8 : 0);
            bool touches = at + 3 >= 0 && at < lengths[i];
            CHECK_EQ(hit(store_dword, base + at, &c), touches ? 8 : 0);
        }
    }
    write_dr7(0x400);
}

static void several_reasons_at_once(void)
{
    write_dr0((uint32_t)&cell[0]);
    write_dr2((uint32_t)&cell[0]);
    write_dr7(0x400 | enable(0, WRITE, 1) | enable(2, ACCESS, 4));
    struct context c = at_level(0);
    c.ebx = (uint32_t)cell;
    c.eflags |= FLAG_TF;
    CHECK_EQ(dr6_of(&c, store_byte), BS | 5);
    write_dr7(0x400);
}

static void strings_stop_where_they_hit(void)
{
    CODE(fill, "rep stosl\n nop");
    write_dr0((uint32_t)&cell[1]);
    write_dr7(0x400 | enable(0, WRITE, 4));
    struct context c = at_level(0);
    c.edi = (uint32_t)cell;
    c.ecx = 4;
    CHECK_EQ(dr6_of(&c, fill), 1);
    CHECK_EQ(c.ecx, 2);
    CHECK_EQ(c.edi, (uint32_t)&cell[2]);
    CHECK_EQ(c.eip, (uint32_t)fill);
    write_dr7(0x400);
}

static void pushes_count_as_writes(void)
{
    CODE(push, "subl $256, %esp\n push %eax\n push_next: nop");
    extern uint8_t push_next[];
    struct context c = at_level(0);
    write_dr0(c.esp - 260); /* below what run() itself pushes */
    write_dr7(0x400 | enable(0, WRITE, 4));
    CHECK_EQ(dr6_of(&c, push), 1);
    CHECK_EQ(c.eip, (uint32_t)push_next);
    write_dr7(0x400);
}

static void loads_of_ss_hold_data_breakpoints(void)
{
    CODE(load_ss, "mov (%ebx), %ss\n nop\n load_ss_trap: nop");
    extern uint8_t load_ss_trap[];
    struct context c;
    cell[2] = DATA0;
    write_dr0((uint32_t)&cell[2]);
    write_dr7(0x400 | enable(0, ACCESS, 2));
    CHECK_EQ(hit(load_ss, &cell[2], &c), 1);
    CHECK_EQ(c.eip, (uint32_t)load_ss_trap);
    write_dr7(0x400);
}

/* ---- ports ---- */

static void port_breakpoints(void)
{
    CODE(out, "outb %al, $0x80\n out_next: nop");
    extern uint8_t out_next[];
    write_cr4(read_cr4() | CR4_DE);
    write_dr0(0x80);
    write_dr7(0x400 | enable(0, IO, 1));
    struct context c = at_level(0);
    CHECK_EQ(dr6_of(&c, out), 1);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.eip, (uint32_t)out_next);
    write_dr0(0x81);
    c = at_level(0);
    CHECK_EQ(dr6_of(&c, out), 0);
    write_dr7(0x400);
    write_cr4(read_cr4() & ~(unsigned long)CR4_DE);
}

/* ---- the registers themselves ---- */

static void general_detect(void)
{
    CODE(read, "mov %dr0, %eax\n int $0x31");
    struct context c = at_level(0);
    write_dr7(0x400 | GD);
    c.eip = (uint32_t)read;
    run(&c);
    CHECK_EQ(c.vector, DB);
    CHECK_EQ(c.eip, (uint32_t)read);
    CHECK_EQ(read_dr6() & BD, BD);
    CHECK_EQ(read_dr7() & GD, 0);
    write_dr6(DR6_CLEAR);
}

static void old_names(void)
{
    CODE(dr4, ".byte 0x0f, 0x21, 0xe0"); /* MOV EAX, DR4 */
    CODE(dr5, ".byte 0x0f, 0x21, 0xe8");
    struct context c = at_level(0);
    write_dr6(DR6_CLEAR | BS);
    run_code(&c, dr4);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.eax, DR6_CLEAR | BS);
    run_code(&c, dr5);
    CHECK_EQ(c.eax, read_dr7());
    write_cr4(read_cr4() | CR4_DE);
    CHECK_EQ(run_simple(dr4), UD);
    CHECK_EQ(run_simple(dr5), UD);
    write_cr4(read_cr4() & ~(unsigned long)CR4_DE);
    write_dr6(0);
    CHECK_EQ(read_dr6(), DR6_CLEAR);
}

static void int1_is_open_to_everyone(void)
{
    CODE(int1, ".byte 0xf1\n int1_next: nop");
    extern uint8_t int1_next[];
    for (unsigned level = 0; level < 4; level += 3) {
        struct context c = at_level(level);
        CHECK_EQ(dr6_of(&c, int1), 0);
        CHECK_EQ(c.vector, DB);
        CHECK_EQ(c.eip, (uint32_t)int1_next);
    }
}

const struct guest_test guest_tests[] = {
    {"each instruction traps", each_instruction_traps},
    {"POPF takes effect behind the next", popf_takes_effect_behind_the_next},
    {"repeated strings trap in between", repeated_strings_trap_in_between, .not_tcg = true},
    {"loads of SS hold the trap", loads_of_ss_hold_the_trap},
    {"faults come before the step", faults_come_before_the_step},
    {"instructions break before they run", instructions_break_before_they_run},
    {"resume flag lasts for one instruction", resume_flag_lasts_for_one_instruction},
    {"a repeated string breaks once", a_repeated_string_breaks_once, .not_tcg = true},
    {"breakpoints must be enabled", breakpoints_must_be_enabled},
    {"no breakpoint behind MOV SS", no_breakpoint_behind_mov_ss, .not_tcg = true},
    {"data breakpoints trap behind the access", data_breakpoints_trap_behind_the_access},
    {"data breakpoints cover their length", data_breakpoints_cover_their_length, .not_tcg = true},
    {"several reasons at once", several_reasons_at_once, .not_tcg = true},
    {"strings stop where they hit", strings_stop_where_they_hit},
    {"pushes count as writes", pushes_count_as_writes},
    {"loads of SS hold data breakpoints", loads_of_ss_hold_data_breakpoints, .not_tcg = true},
    {"port breakpoints", port_breakpoints},
    {"general detect", general_detect, .not_tcg = true},
    {"old names", old_names},
    {"INT1 is open to everyone", int1_is_open_to_everyone, .not_tcg = true},
    {0},
};

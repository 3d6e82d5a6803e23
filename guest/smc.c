/*
 * Self-modifying code: the processor runs what was last written, wherever the write was.
 */
#include "lib/run32.h"

const char guest_name[] = "smc";

static uint8_t page[3][4096] __attribute__((aligned(4096)));

/* MOV EAX, imm32; RET */
static void put_return(uint8_t *at, uint32_t value)
{
    at[0] = 0xb8;
    memcpy(at + 1, &value, 4);
    at[5] = 0xc3;
}

static uint32_t call(const void *at)
{
    return ((uint32_t(*)(void))at)();
}

static void code_can_be_replaced(void)
{
    for (uint32_t i = 0; i < 1000; i++) {
        put_return(page[0], i);
        if (call(page[0]) != i) {
            CHECK_EQ(call(page[0]), i);
            return;
        }
    }
}

static void the_next_instruction(void)
{
    CODE(next, "movb $0x42, next_at + 1\n next_at: movb $0x11, %al\n nop");
    struct context c = at_level(0);
    run_code(&c, next);
    CHECK_EQ(c.eax & 0xff, 0x42);
}

static void further_on_in_the_same_block(void)
{
    CODE(block, "movb $0x42, block_at + 1\n nop\n incl %ecx\n incl %ecx\n"
                "block_at: movb $0x11, %al\n nop");
    struct context c = at_level(0);
    c.ecx = 0;
    run_code(&c, block);
    CHECK_EQ(c.eax & 0xff, 0x42);
    CHECK_EQ(c.ecx, 2); /* nothing ran twice */
}

static void in_a_loop(void)
{
    /* Each round adds the immediate and increments it. */
    CODE(loop, "loop_again: addl $1, %eax\n incb loop_again + 2\n decl %ecx\n jnz loop_again");
    struct context c = at_level(0);
    c.eax = 0;
    c.ecx = 10;
    run_code(&c, loop);
    CHECK_EQ(c.eax, 55);
}

static void backwards_by_a_string(void)
{
    CODE(fill, "movb $0x90, %al\n movl $fill_over, %edi\n movl $5, %ecx\n xorl %ebx, %ebx\n"
               "rep stosb\n fill_over: movl $7, %ebx\n nop");
    struct context c = at_level(0);
    c.es = DATA0;
    run_code(&c, fill);
    CHECK_EQ(c.ebx, 0); /* five NOPs */
    CHECK_EQ(c.vector, DONE);
}

static void an_instruction_across_pages(void)
{
    uint8_t *at = page[1] - 3;
    put_return(at, 0x11223344);
    CHECK_EQ(call(at), 0x11223344);
    page[1][0] = 0x55; /* the third byte of the immediate */
    CHECK_EQ(call(at), 0x11553344);
    page[0][4095] = 0x66;
    CHECK_EQ(call(at), 0x11556644);
}

static void a_write_across_pages(void)
{
    put_return(page[1], 0x01010101);
    put_return(page[1] - 16, 0x02020202);
    CHECK_EQ(call(page[1]), 0x01010101);
    CHECK_EQ(call(page[1] - 16), 0x02020202);
    *(volatile uint32_t *)(page[1] - 1) = 0x0707b800; /* MOV EAX, 01010707 */
    CHECK_EQ(call(page[1]), 0x01010707);
    CHECK_EQ(call(page[1] - 16), 0x02020202);
}

static void through_another_address(void)
{
    /* The same byte by way of a segment with another base. */
    CODE(alias, "movb $0x42, %es:(%ebx)\n alias_at: movb $0x11, %al\n nop");
    extern uint8_t alias_at[];
    gdt[FREE / 8] = descriptor(0x1000, 0xfffff, D_DATA | D_FLAT);
    struct context c = at_level(0);
    c.es = FREE;
    c.ebx = (uint32_t)alias_at + 1 - 0x1000;
    run_code(&c, alias);
    CHECK_EQ(c.eax & 0xff, 0x42);
}

static void by_push(void)
{
    /* A PUSH that replaces what follows it. */
    CODE(push, "movl %esp, %ebp\n movl $push_at + 4, %esp\n push $0x90909090\n"
               "push_at: incl %eax\n incl %eax\n incl %eax\n incl %eax\n movl %ebp, %esp");
    struct context c = at_level(0);
    c.eax = 0;
    run_code(&c, push);
    CHECK_EQ(c.eax, 0);
}

static void by_locked_instructions(void)
{
    CODE(locked, "movl $locked_at + 1, %ebx\n movb $0x42, %cl\n xchgb %cl, (%ebx)\n"
                 "locked_at: movb $0x11, %al\n nop");
    struct context c = at_level(0);
    run_code(&c, locked);
    CHECK_EQ(c.eax & 0xff, 0x42);
    CHECK_EQ(c.ecx & 0xff, 0x11);
}

static void data_beside_code(void)
{
    /* A counter in the page of the loop that counts it. */
    CODE(count, "count_again: incl count_cell\n cmpl $20000, count_cell\n jne count_again\n"
                "jmp 1f\n count_cell: .long 0\n1:");
    CHECK_EQ(run_simple(count), DONE);
}

static void many_places(void)
{
    /* More code than any cache of ours keeps small. */
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i + 8 <= sizeof page; i += 8)
            put_return(&page[0][i], i + round);
        for (unsigned i = 0; i + 8 <= sizeof page; i += 8) {
            if (call(&page[0][i]) != i + round) {
                CHECK_EQ(call(&page[0][i]), i + round);
                return;
            }
        }
    }
}

const struct guest_test guest_tests[] = {
    {"code can be replaced", code_can_be_replaced},
    {"the next instruction", the_next_instruction},
    {"further on in the same block", further_on_in_the_same_block},
    {"in a loop", in_a_loop},
    {"backwards by a string", backwards_by_a_string},
    {"an instruction across pages", an_instruction_across_pages},
    {"a write across pages", a_write_across_pages},
    {"through another address", through_another_address},
    {"by PUSH", by_push},
    {"by locked instructions", by_locked_instructions},
    {"data beside code", data_beside_code},
    {"many places", many_places},
    {0},
};

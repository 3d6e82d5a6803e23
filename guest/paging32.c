/*
 * Paging in 32-bit protected mode: two levels, and PAE's three.
 */
#include "lib/paging.h"
#include "lib/run32.h"

const char guest_name[] = "paging32";

/* Both modes map the first 16 MiB (and, for the test page, 1 GiB and on) where they are. */
static uint32_t directory[1024] __attribute__((aligned(4096)));
static uint32_t tables[4][1024] __attribute__((aligned(4096)));
static uint32_t test_table[1024] __attribute__((aligned(4096)));

static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint64_t directories[2][512] __attribute__((aligned(4096)));
static uint64_t wide_tables[8][512] __attribute__((aligned(4096)));
static uint64_t wide_test_table[512] __attribute__((aligned(4096)));

uint8_t test_frame[2][4096] __attribute__((aligned(4096)));
unsigned paging_levels;
bool paging_wide;

uint64_t get_entry(unsigned level, unsigned long at)
{
    if (!paging_wide)
        return level ? directory[at >> 22] : test_table[at >> 12 & 1023];
    return level == 0   ? wide_test_table[at >> 12 & 511]
           : level == 1 ? directories[1][at >> 21 & 511]
                        : pdpt[at >> 30];
}

void put_entry(unsigned level, unsigned long at, uint64_t v)
{
    if (!paging_wide)
        *(volatile uint32_t *)(level ? &directory[at >> 22] : &test_table[at >> 12 & 1023]) =
            (uint32_t)v;
    else if (level == 0)
        *(volatile uint64_t *)&wide_test_table[at >> 12 & 511] = v;
    else
        *(volatile uint64_t *)&directories[1][at >> 21 & 511] = v;
}

CODE(read_code, "movl (%ebx), %eax");
CODE(write_code, "movl %eax, (%ebx)");
CODE(update_code, "lock; addl %eax, (%ebx)");
CODE(execute_code, "jmp *%ebx");

struct outcome touch(unsigned level, enum kind kind, unsigned long at)
{
    static uint8_t *const code[] = {read_code, write_code, execute_code, update_code};
    struct context c = at_level(level);
    c.ebx = at;
    if (kind == EXECUTE && (at & 4095) == 0) {
        test_frame[0][0] = 0xcd;
        test_frame[0][1] = DONE;
    }
    write_cr3(read_cr3());
    write_cr2(0);
    run_code(&c, code[kind]);
    return (struct outcome){c.vector, c.error, read_cr2()};
}

uint32_t read_at(unsigned level, unsigned long at)
{
    struct context c = at_level(level);
    c.ebx = at;
    run_code(&c, read_code);
    return c.eax;
}

uint32_t run_at(unsigned level, unsigned long at)
{
    struct context c = at_level(level);
    run_code(&c, (void *)at);
    return c.eax;
}

static void off(void)
{
    write_cr0(read_cr0() & ~CR0_PG);
    write_cr4(read_cr4() & ~(unsigned long)(CR4_PAE | CR4_PSE | CR4_PGE));
}

static void two_levels(void)
{
    off();
    paging_levels = 1;
    paging_wide = false;
    for (unsigned i = 0; i < 4096; i++)
        tables[i / 1024][i % 1024] = i << 12 | P | W | U;
    for (unsigned i = 0; i < 4; i++)
        directory[i] = (uint32_t)tables[i] | P | W | U;
    directory[TEST_LINEAR >> 22] = (uint32_t)test_table | P | W | U;
    write_cr3((uint32_t)directory);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void three_levels(void)
{
    off();
    paging_levels = 1; /* PDPTEs have no rights and no accessed bit */
    paging_wide = true;
    for (unsigned i = 0; i < 4096; i++)
        wide_tables[i / 512][i % 512] = i << 12 | P | W | U;
    for (unsigned i = 0; i < 8; i++)
        directories[0][i] = (uint32_t)wide_tables[i] | P | W | U;
    directories[1][0] = (uint32_t)wide_test_table | P | W | U;
    pdpt[0] = (uint32_t)directories[0] | P;
    pdpt[1] = (uint32_t)directories[1] | P;
    write_cr4(read_cr4() | CR4_PAE);
    write_cr3((uint32_t)pdpt);
    write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

/* Runs a shared check in both modes. */
#define IN_BOTH(name)                                                                              \
    static void name##_32(void)                                                                    \
    {                                                                                              \
        two_levels();                                                                              \
        name();                                                                                    \
        off();                                                                                     \
    }                                                                                              \
    static void name##_pae(void)                                                                   \
    {                                                                                              \
        three_levels();                                                                            \
        name();                                                                                    \
        off();                                                                                     \
    }
IN_BOTH(accessed_and_dirty)
IN_BOTH(not_present)
IN_BOTH(user_and_supervisor)
IN_BOTH(read_only)
IN_BOTH(rights_combine_over_levels)
IN_BOTH(straddles)
IN_BOTH(stale_entries_go_with_invlpg)
IN_BOTH(large_pages)
IN_BOTH(large_pages_go_with_invlpg)
IN_BOTH(execute_disable)
IN_BOTH(reserved_bits)
IN_BOTH(fetches_across_pages)

static void pse_must_be_on(void)
{
    two_levels();
    /* Without CR4.PSE the bit means nothing, and the entry leads to a table. */
    set_entry(0, TEST_LINEAR, frame_of(0) | P | W | U);
    uint64_t was = get_entry(1, TEST_LINEAR);
    set_entry(1, TEST_LINEAR, was | LARGE);
    *(uint32_t *)test_frame[0] = 0x87654321;
    CHECK_EQ(*(volatile uint32_t *)TEST_LINEAR, 0x87654321);
    set_entry(1, TEST_LINEAR, was);
    off();
}

static void pdptes_are_loaded_with_cr3(void)
{
    CODE(load_cr3, "mov %eax, %cr3");
    three_levels();
    set_entry(0, TEST_LINEAR, frame_of(0) | P | W | U);
    pdpt[1] = 0; /* nobody looks */
    invlpg(TEST_LINEAR);
    struct context c = at_level(3);
    c.ebx = TEST_LINEAR;
    run_code(&c, read_code);
    CHECK_EQ(c.vector, DONE);
    write_cr3(read_cr3());
    c = at_level(3);
    c.ebx = TEST_LINEAR;
    run_code(&c, read_code);
    CHECK_EQ(c.vector, PF);
    CHECK_EQ(c.error, E_U);
    pdpt[1] = (uint32_t)directories[1] | P | W; /* W is reserved there */
    c = at_level(0);
    c.eax = (uint32_t)pdpt;
    run_code(&c, load_cr3);
    CHECK_EQ(c.vector, GP);
    CHECK_EQ(c.error, 0);
    pdpt[1] = (uint32_t)directories[1] | P;
    off();
}

static void limits_come_before_pages(void)
{
    two_levels();
    set_entry(0, TEST_LINEAR, 0);
    gdt[FREE / 8] = descriptor(0, 0xfffff, D_DATA);
    CODE(limited, "mov %eax, %es\n movl %es:(%ebx), %ecx");
    struct context c = at_level(0);
    c.eax = FREE;
    c.ebx = TEST_LINEAR;
    run_code(&c, limited);
    CHECK_EQ(c.vector, GP);
    off();
}

static void task_switches_load_cr3(void)
{
    static struct tss other;
    static uint32_t other_directory[1024] __attribute__((aligned(4096)));
    static uint8_t stack[1024];
    two_levels();
    set_entry(0, TEST_LINEAR, frame_of(0) | P | W | U);
    memcpy(other_directory, directory, sizeof directory);
    other_directory[TEST_LINEAR >> 22] = 0;
    other = (struct tss){.cr3 = (uint32_t)other_directory,
                         .eip = (uint32_t)read_code,
                         .eflags = FLAG_FIXED,
                         .ebx = TEST_LINEAR,
                         .esp = (uint32_t)stack + 512,
                         .cs = CODE0,
                         .ss = DATA0,
                         .ds = DATA0,
                         .es = DATA0};
    gdt[FREE / 8] = descriptor((uint32_t)&other, 103, D_TSS);
    TESTED(jump_task, "movl (%ebx), %eax\n ljmp $0x60, $0");
    struct context c = at_level(0);
    c.ebx = TEST_LINEAR;
    run_code(&c, jump_task);
    CHECK_EQ(c.vector, PF);
    CHECK_EQ(c.eip, (uint32_t)read_code);
    CHECK_EQ(read_cr3(), (uint32_t)other_directory);
    off();
    load_tables();
}

/* The tables that hold descriptors are read as the supervisor, whoever runs. */
static void tables_belong_to_the_supervisor(void)
{
    two_levels();
    unsigned page = (uint32_t)gdt >> 12, idt_page = (uint32_t)idt >> 12;
    uint32_t *entry = &tables[page / 1024][page % 1024];
    uint32_t *idt_entry = &tables[idt_page / 1024][idt_page % 1024];
    *entry &= ~(uint32_t)U;
    *idt_entry &= ~(uint32_t)U;
    write_cr3(read_cr3());
    CODE(load_es, "mov %eax, %es");
    struct context c = at_level(3);
    c.eax = DATA3;
    run_code(&c, load_es);
    CHECK_EQ(c.vector, DONE);
    off();
}

#define BOTH(text, name, ...)                                                                      \
    {text ", two levels", name##_32, __VA_ARGS__},                                                 \
    {                                                                                              \
        text ", PAE", name##_pae, __VA_ARGS__                                                      \
    }

const struct guest_test guest_tests[] = {
    BOTH("accessed and dirty", accessed_and_dirty, .not_tcg = false),
    BOTH("not present", not_present, .not_tcg = true),
    BOTH("user and supervisor", user_and_supervisor, .not_tcg = false),
    BOTH("read only", read_only, .not_tcg = false),
    BOTH("rights combine over levels", rights_combine_over_levels, .not_tcg = false),
    BOTH("straddles", straddles, .not_tcg = false),
    BOTH("stale entries go", stale_entries_go_with_invlpg, .not_tcg = false),
    BOTH("large pages", large_pages, .not_tcg = true),
    BOTH("large pages go with INVLPG", large_pages_go_with_invlpg, .not_tcg = false),
    BOTH("execute disable", execute_disable, .not_tcg = true),
    BOTH("reserved bits", reserved_bits, .not_tcg = true),
    BOTH("fetches across pages", fetches_across_pages, .not_tcg = false),
    {"PSE must be on", pse_must_be_on},
    {"PDPTEs are loaded with CR3", pdptes_are_loaded_with_cr3, .not_tcg = true},
    {"limits come before pages", limits_come_before_pages, .not_tcg = true},
    {"task switches load CR3", task_switches_load_cr3},
    {"tables belong to the supervisor", tables_belong_to_the_supervisor},
    {0},
};

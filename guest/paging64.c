/*
 * Paging in long mode: four levels, large and huge pages, supervisor access prevention, protection
 * keys, process-context identifiers.
 */
#include "lib/paging.h"
#include "lib/run64.h"

const char guest_name[] = "paging64";

/* start64.S maps the first 4 GiB in large pages; here the second GiB gets tables of its own. */
extern uint64_t boot_pml4[512], boot_pdpt[512], boot_pd[4][512];
static uint64_t test_table[512] __attribute__((aligned(4096)));

uint8_t test_frame[2][4096] __attribute__((aligned(4096)));
unsigned paging_levels = 3;
bool paging_wide = true;

static uint64_t *entry(unsigned level, unsigned long at)
{
    switch (level) {
    case 0: return &test_table[at >> 12 & 511];
    case 1: return &boot_pd[at >> 30 & 3][at >> 21 & 511];
    case 2: return &boot_pdpt[at >> 30 & 511];
    default: return &boot_pml4[at >> 39 & 511];
    }
}

uint64_t get_entry(unsigned level, unsigned long at)
{
    return *entry(level, at);
}

void put_entry(unsigned level, unsigned long at, uint64_t v)
{
    *(volatile uint64_t *)entry(level, at) = v;
}

CODE(read_code, "movl (%rbx), %eax");
CODE(write_code, "movl %eax, (%rbx)");
CODE(update_code, "lock addl %eax, (%rbx)");
CODE(execute_code, "jmp *%rbx");

static struct outcome touch_with(unsigned level, enum kind kind, unsigned long at, uint64_t flags)
{
    static uint8_t *const code[] = {read_code, write_code, execute_code, update_code};
    struct context c = at_level(level);
    c.rbx = at;
    c.rflags |= flags;
    if (kind == EXECUTE && (at & 4095) == 0) {
        test_frame[0][0] = 0xcd;
        test_frame[0][1] = DONE;
    }
    write_cr3(read_cr3());
    write_cr2(0);
    run_code(&c, code[kind]);
    return (struct outcome){(uint32_t)c.vector, (uint32_t)c.error, read_cr2()};
}

struct outcome touch(unsigned level, enum kind kind, unsigned long at)
{
    return touch_with(level, kind, at, 0);
}

uint32_t read_at(unsigned level, unsigned long at)
{
    struct context c = at_level(level);
    c.rbx = at;
    run_code(&c, read_code);
    return (uint32_t)c.rax;
}

uint32_t run_at(unsigned level, unsigned long at)
{
    struct context c = at_level(level);
    run_code(&c, (void *)at);
    return (uint32_t)c.rax;
}

static void set_up(void)
{
    set_entry(1, TEST_LINEAR, (uint64_t)test_table | P | W | U);
}

#define IN_LONG_MODE(name)                                                                         \
    static void name##_64(void)                                                                    \
    {                                                                                              \
        set_up();                                                                                  \
        name();                                                                                    \
    }
IN_LONG_MODE(accessed_and_dirty)
IN_LONG_MODE(user_and_supervisor)
IN_LONG_MODE(read_only)
IN_LONG_MODE(straddles)
IN_LONG_MODE(stale_entries_go_with_invlpg)
IN_LONG_MODE(large_pages)
IN_LONG_MODE(large_pages_go_with_invlpg)
IN_LONG_MODE(execute_disable)
IN_LONG_MODE(reserved_bits)
IN_LONG_MODE(fetches_across_pages)

/* The levels above the page directory serve all of our own memory: only the directory's entry and
 * the huge page's can be played with. */
static void with_one_level(void (*check)(void))
{
    set_up();
    paging_levels = 1;
    check();
    paging_levels = 3;
}
static void not_present_64(void)
{
    with_one_level(not_present);
}
static void rights_combine_64(void)
{
    with_one_level(rights_combine_over_levels);
}

static uint32_t features(unsigned leaf, unsigned reg)
{
    uint32_t r[4];
    cpuid(leaf, &r[0], &r[1], &r[2], &r[3]);
    return r[reg];
}

static void huge_pages(void)
{
    if (!(features(0x80000001, 3) & 1 << 26))
        return;
    uint64_t was = boot_pdpt[5];
    unsigned long at = 5ul << 30;
    set_entry(2, at, 0ull | P | W | U | LARGE);
    *(uint32_t *)test_frame[0] = 0x13572468;
    CHECK_EQ(*(volatile uint32_t *)(at + frame_of(0)), 0x13572468);
    CHECK_EQ(boot_pdpt[5] & (A | D), A);
    CHECK_TOUCHED(3, WRITE, at + (unsigned long)frame_of(0));
    CHECK_EQ(boot_pdpt[5] & (A | D), A | D);
    set_entry(2, at, 0ull | P | W | U | LARGE | 1 << 21);
    CHECK_FAULTS(3, READ, at, E_P | E_U | E_RSVD);
    set_entry(2, at, was);
}

/* The second GiB's table has the second place where the first GiB's has the first. */
static void huge_pages_go_with_invlpg(void)
{
    unsigned long at = 5ul << 30;
    uint64_t was = boot_pdpt[5], first = boot_pd[1][PLACES >> 21];
    if (!(features(0x80000001, 3) & 1 << 26))
        return;
    boot_pd[1][PLACES >> 21] = (PLACES + PLACE_SIZE) | P | W | U | LARGE;
    invlpg_takes_all(2, at + PLACES, P | W | U | LARGE, (uint64_t)boot_pd[1] | P | W | U);
    boot_pd[1][PLACES >> 21] = first;
    set_entry(2, at, was);
}

static void upper_levels(void)
{
    unsigned long at = 1ul << 39;
    CHECK_FAULTS(3, READ, at, E_U);
    boot_pml4[1] = (uint64_t)boot_pdpt | P | W | U;
    CHECK_TOUCHED(3, READ, at + (unsigned long)frame_of(0));
    CHECK_EQ(boot_pml4[1] & (A | D), A);
    boot_pml4[1] = (uint64_t)boot_pdpt | P | W;
    CHECK_FAULTS(3, READ, at + 4, E_P | E_U);
    boot_pml4[1] = (uint64_t)boot_pdpt | P | U;
    CHECK_FAULTS(3, WRITE, at + 4, E_P | E_U | E_W);
    boot_pml4[1] = (uint64_t)boot_pdpt | P | W | U | LARGE; /* there are none so large */
    CHECK_FAULTS(3, READ, at + 4, E_P | E_U | E_RSVD);
    boot_pml4[1] = 0;
    boot_pml4[256] = (uint64_t)boot_pdpt | P | W | U; /* the other half */
    CHECK_TOUCHED(3, READ, 0xffff800000000000 + (unsigned long)frame_of(0));
    boot_pml4[256] = 0;
    CHECK_FAULTS(3, READ, 0xffff800000000000, E_U);
}

/* Takes U from the large pages that hold the guest while a check of level 0 runs. */
static void ours(bool user)
{
    for (unsigned i = 0; i < 8; i++)
        boot_pd[0][i] = user ? boot_pd[0][i] | U : boot_pd[0][i] & ~(uint64_t)U;
    write_cr3(read_cr3());
}

static void supervisor_execution_prevention(void)
{
    if (!(features(7, 1) & 1 << 7))
        return;
    set_up();
    set_entry(0, TEST_LINEAR, frame_of(0) | P | W | U);
    ours(false);
    write_cr4(read_cr4() | CR4_SMEP);
    CHECK_FAULTS(0, EXECUTE, TEST_LINEAR, E_P | E_I);
    CHECK_TOUCHED(0, READ, TEST_LINEAR);
    write_cr4(read_cr4() & ~(unsigned long)CR4_SMEP);
    CHECK_TOUCHED(0, EXECUTE, TEST_LINEAR);
    ours(true);
}

static void supervisor_access_prevention(void)
{
    if (!(features(7, 1) & 1 << 20))
        return;
    set_up();
    set_entry(0, TEST_LINEAR, frame_of(0) | P | W | U);
    ours(false);
    write_cr4(read_cr4() | CR4_SMAP);
    CHECK_FAULTS(0, READ, TEST_LINEAR, E_P);
    CHECK_FAULTS(0, WRITE, TEST_LINEAR, E_P | E_W);
    CHECK_EQ(touch_with(0, READ, TEST_LINEAR, FLAG_AC).vector, DONE);
    CHECK_EQ(touch_with(0, WRITE, TEST_LINEAR, FLAG_AC).vector, DONE);
    CHECK_TOUCHED(0, EXECUTE, TEST_LINEAR);
    CODE(stac, "stac\n movl (%rbx), %eax\n clac\n stac_at: movl (%rbx), %eax");
    extern uint8_t stac_at[];
    struct context c = at_level(0);
    c.rbx = TEST_LINEAR;
    run_code(&c, stac);
    CHECK_EQ(c.vector, PF);
    CHECK_EQ(c.rip, (uint64_t)stac_at);
    write_cr4(read_cr4() & ~(unsigned long)CR4_SMAP);
    ours(true);
}

static void protection_keys(void)
{
    if (!(features(7, 2) & 1 << 3))
        return;
    const uint64_t key5 = 5ull << 59;
    set_up();
    set_entry(0, TEST_LINEAR, frame_of(0) | P | W | U | key5);
    write_cr4(read_cr4() | 1 << 22);
    CODE(wrpkru, "xor %ecx, %ecx\n xor %edx, %edx\n wrpkru\n rdpkru");
    struct context c = at_level(3);
    c.rax = 1u << 10; /* access disabled for key 5 */
    run_code(&c, wrpkru);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rax, 1u << 10);
    CHECK_FAULTS(3, READ, TEST_LINEAR, E_P | E_U | E_PK);
    CHECK_FAULTS(0, READ, TEST_LINEAR, E_P | E_PK); /* a user page is one for both */
    CHECK_TOUCHED(3, EXECUTE, TEST_LINEAR);
    c = at_level(3);
    c.rax = 2u << 10; /* writes disabled */
    run_code(&c, wrpkru);
    CHECK_TOUCHED(3, READ, TEST_LINEAR);
    CHECK_FAULTS(3, WRITE, TEST_LINEAR, E_P | E_U | E_W | E_PK);
    CHECK_FAULTS(0, WRITE, TEST_LINEAR, E_P | E_W | E_PK);
    write_cr0(read_cr0() & ~(unsigned long)CR0_WP);
    CHECK_TOUCHED(0, WRITE, TEST_LINEAR);
    write_cr0(read_cr0() | CR0_WP);
    c = at_level(3);
    run_code(&c, wrpkru);
    write_cr4(read_cr4() & ~(1ul << 22));
    CHECK_EQ(run_simple(wrpkru), UD);
}

static void process_context_identifiers(void)
{
    if (!(features(1, 2) & 1 << 17))
        return;
    CODE(set_cr4, "mov %rax, %cr4");
    CODE(set_cr3, "mov %rax, %cr3");
    struct context c = at_level(0);
    uint64_t cr3 = read_cr3(), cr4 = read_cr4();
    write_cr3(cr3 | 0x18); /* PCD, PWT */
    c.rax = cr4 | 1 << 17;
    run_code(&c, set_cr4);
    CHECK_EQ(c.vector, GP); /* bits 11:0 must be clear */
    write_cr3(cr3);
    write_cr4(cr4 | 1 << 17);
    c = at_level(0);
    c.rax = cr3 | 5 | 1ull << 63;
    run_code(&c, set_cr3);
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(read_cr3(), cr3 | 5); /* bit 63 is not kept */
    CODE(no_paging, "mov %cr0, %rax\n and $0x7fffffff, %eax\n mov %rax, %cr0");
    CHECK_EQ(run_simple(no_paging), GP);
    write_cr3(cr3);
    write_cr4(cr4);
    c = at_level(0);
    c.rax = cr3 | 1ull << 63;
    run_code(&c, set_cr3);
    CHECK_EQ(c.vector, GP);
}

/* A fault on the way to the handler of another. */
static void faults_on_the_way_to_a_handler(void)
{
    uint64_t rsp0 = tss.rsp[0];
    struct gate64 was = idt[PF], was_df = idt[DF];
    set_up();
    set_entry(0, TEST_LINEAR, 0);
    CODE(undefined, "ud2");
    tss.rsp[0] = TEST_LINEAR + 64;
    idt[PF] = gate(CODE0, trap_entry(PF), G_INTERRUPT, 1);
    idt[DF] = gate(CODE0, trap_entry(DF), G_INTERRUPT, 1);
    struct context c = at_level(3);
    run_code(&c, undefined); /* #UD, benign: the page fault is delivered instead */
    CHECK_EQ(c.vector, PF);
    CHECK_EQ(c.error, E_W);
    CHECK_EQ(c.rip, (uint64_t)undefined);
    CHECK_EQ(read_cr2() & ~63ul, TEST_LINEAR);
    idt[PF] = was;
    c = at_level(3);
    c.rbx = TEST_LINEAR;
    run_code(&c, read_code); /* #PF twice */
    CHECK_EQ(c.vector, DF);
    CHECK_EQ(c.error, 0);
    CHECK_EQ(c.rip, (uint64_t)read_code);
    tss.rsp[0] = rsp0;
    idt[DF] = was_df;
}

const struct guest_test guest_tests[] = {
    {"accessed and dirty", accessed_and_dirty_64},
    {"not present", not_present_64, .not_tcg = true},
    {"user and supervisor", user_and_supervisor_64},
    {"read only", read_only_64},
    {"rights combine over levels", rights_combine_64},
    {"straddles", straddles_64},
    {"stale entries go", stale_entries_go_with_invlpg_64},
    {"large pages", large_pages_64, .not_tcg = true},
    {"huge pages", huge_pages, .not_tcg = true},
    {"large pages go with INVLPG", large_pages_go_with_invlpg_64},
    {"huge pages go with INVLPG", huge_pages_go_with_invlpg},
    {"upper levels", upper_levels, .not_tcg = true},
    {"execute disable", execute_disable_64, .not_tcg = true},
    {"reserved bits", reserved_bits_64, .not_tcg = true},
    {"fetches across pages", fetches_across_pages_64},
    {"supervisor execution prevention", supervisor_execution_prevention},
    {"supervisor access prevention", supervisor_access_prevention},
    {"protection keys", protection_keys},
    {"process-context identifiers", process_context_identifiers},
    {"faults on the way to a handler", faults_on_the_way_to_a_handler},
    {0},
};

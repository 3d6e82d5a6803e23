/*
 * FXSAVE, the XSAVE family, MXCSR and XCR0: what silicon writes and reads at CPL 3, and what it
 * can't be asked (supervisor forms, components the host may lack, control registers).
 */
#include "simd_fixture.h"

#include "x86/xsave.h"

extern const struct sem fxsave_sem, fxrstor_sem, xsave_sem, xsaveopt_sem, xsavec_sem, xrstor_sem,
    xsaves_sem, xrstors_sem, xgetbv_sem, xsetbv_sem, ldmxcsr_sem;

/* ---- save areas against silicon ---- */

/* The instruction at [rdi], with REX.W or without: 0F opcode /group. */
static void assemble_area(uint8_t opcode, unsigned group, bool wide)
{
    uint8_t code[] = {0x48, 0x0f, opcode, (uint8_t)(group << 3 | 7), 0xc3};
    memcpy(code_page, wide ? code : code + 1, sizeof code - !wide);
}

enum { AREA = 1024 };

struct area_trial {
    const char *name;
    const struct sem *sem;
    uint8_t opcode, group;
};

/* A state that is now and then the initial one, or nearly so. */
static void random_area_state(struct native *n)
{
    random_state_into(n);
    if (below(3) == 0) {
        memset(n->fx, 0, 24);
        memset(n->fx + 32, 0, 128);
        store_u16(n->fx, 0x37f);
    }
    if (below(3) == 0)
        memset(n->fx + 160, 0, 256);
    if (below(3) == 0)
        store_u32(n->fx + 24, 0x1f80);
    n->rax = below(4);
    n->rdx = 0;
}

/* Something that may pass as an area. */
static void random_area(uint8_t *area)
{
    struct native n;
    for (unsigned i = 0; i < AREA; i += 8)
        store_u64(area + i, random64());
    random_area_state(&n);
    memcpy(area, n.fx, 416);
    if (below(8) == 0)
        store_u32(area + 24, below(2) ? 0x10000 << below(2) * 8 : 0x1f80);
    memset(area + 512, 0, 64);
    store_u64(area + 512, below(8) ? below(4) : BIT(32 + below(31)));
    if (below(2))
        store_u64(area + 520, (below(8) ? BIT(63) : 0) | (below(8)   ? 3
                                                          : below(2) ? below(4)
                                                                     : BIT(40)));
    if (below(8) == 0)
        area[528 + below(48)] = 1;
}

/* What hosts may write as they like: MXCSR_MASK's bit for AMD's misaligned mode, and the reserved
 * bytes behind each x87 register. */
static void hide_unspecified(uint8_t *area)
{
    area[30] &= 0xfd;
    for (unsigned i = 32; i < 160; i += 16)
        memset(area + i + 10, 0, 6);
}

static bool same_native(const struct native *a, const struct native *b)
{
    return same_x87(a->fx, b->fx) && memcmp(a->fx + 160, b->fx + 160, 256) == 0 &&
           load_u32(a->fx + 24) == load_u32(b->fx + 24);
}

/* A host that was interrupted between loading the state and saving it may take initial registers
 * for used ones. So what differs is tried again, silently at first. */
enum { AREA_TRIALS = 2000, AREA_TRIES = 4 };

static bool run_area_trial(const struct area_trial *t, bool silent)
{
    struct native before, host, ours;
    uint8_t area[AREA];
    bool wide = below(2);
    unsigned misaligned = below(8) ? 0 : 16;
    assemble_area(t->opcode, t->group, wide);
    random_area_state(&before);
    random_area(area);
    uint8_t *host_area = native_ram + 4096 - AREA, *our_area = memory_hva(&ram, RAM_SIZE - AREA);
    memcpy(host_area, area, AREA);
    memcpy(our_area, area, AREA);

    host = before;
    host.rdi = (uint64_t)(uintptr_t)(host_area + misaligned);
    int host_fault = run_native(&host, code_page);

    struct op op = {
        .size = wide ? 8 : 4, .ea = EA_FLAT, .base = X86_RDI, .index = X86_GPR_ZERO, .seg = X86_DS};
    load_ours(&before);
    cpu->s.gpr[X86_RDI] = RAM_SIZE - AREA + misaligned;
    int our_fault = run_ours(t->sem, &op);
    ours = before;
    store_ours(&ours);

    hide_unspecified(host_area);
    hide_unspecified(our_area);
    bool same = host_fault == our_fault && same_native(&host, &ours) &&
                memcmp(host_area, our_area, AREA) == 0;
    if (!same && !silent) {
        printf("# %s, %s, components %x\n", t->name, wide ? "wide" : "narrow", (int)before.rax);
        print_state("before", &before, -1);
        print_state("host", &host, host_fault);
        print_state("ours", &ours, our_fault);
        for (unsigned i = 0; i < AREA; i++)
            if (host_area[i] != our_area[i])
                printf("#   byte %u: was %02x, host %02x, ours %02x\n", i, area[i], host_area[i],
                       our_area[i]);
        print_bytes("header ", area + 512, 32);
    }
    return same;
}

static bool try_area(const struct area_trial *t)
{
    uint64_t seed = random_state;
    for (unsigned i = 1; i < AREA_TRIES; i++) {
        if (run_area_trial(t, true))
            return true;
        random_state = seed;
    }
    return run_area_trial(t, false);
}

TEST(save_areas_are_what_silicon_writes_and_reads)
{
    static const struct area_trial trials[] = {
        {"fxsave", &fxsave_sem, 0xae, 0},     {"fxrstor", &fxrstor_sem, 0xae, 1},
        {"xsave", &xsave_sem, 0xae, 4},       {"xrstor", &xrstor_sem, 0xae, 5},
        {"xsaveopt", &xsaveopt_sem, 0xae, 6}, {"xsavec", &xsavec_sem, 0xc7, 4},
    };
    CHECK(set_up());
    cpu->s.xcr0 = XCR0_X87 | XCR0_SSE;
    for (unsigned i = 0; i < ARRAY_LEN(trials); i++)
        for (unsigned j = 0; j < AREA_TRIALS && !test_failed; j++)
            test_failed = !try_area(&trials[i]);
}

/* ---- XSAVE beyond what is compared with the host ---- */

static int area_op(const struct sem *sem, uint64_t components)
{
    struct op op = {
        .size = 8, .ea = EA_FLAT, .base = X86_RDI, .index = X86_GPR_ZERO, .seg = X86_DS};
    cpu->s.gpr[X86_RDI] = 0x4000;
    cpu->s.gpr[X86_RAX] = (uint32_t)components;
    cpu->s.gpr[X86_RDX] = components >> 32;
    return run_ours(sem, &op);
}

static void fill_avx_state(void)
{
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 4; j++)
            cpu->s.vec[i].u64[j] = 0x0101010101010101 * (16 * j + i + 1);
    cpu->s.pkru = 0x12345678;
}

/* What is saved comes back, at the offsets that CPUID leaf 0Dh tells. */
static void round_trip(const struct sem *save, const struct sem *restore, unsigned pkru_offset)
{
    const uint64_t all = XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_PKRU;
    uint8_t *area = memory_hva(&ram, 0x4000);
    union x86_vec kept[16];
    CHECK(fresh());
    cpu->s.xcr0 = all;
    memset(area, 0, 4096);
    fill_avx_state();
    memcpy(kept, cpu->s.vec, sizeof kept);
    CHECK_EQ(area_op(save, all), -1);
    CHECK_EQ(load_u32(area + pkru_offset), 0x12345678);
    CHECK_EQ(load_u64(area + 576 + 16), cpu->s.vec[1].u64[2]);
    memset(cpu->s.vec, 0xaa, sizeof cpu->s.vec);
    cpu->s.pkru = 1;
    CHECK_EQ(area_op(restore, all), -1);
    CHECK(memcmp(kept, cpu->s.vec, sizeof kept) == 0);
    CHECK_EQ(cpu->s.pkru, 0x12345678);

    /* Without AVX's bit in the header, it is initial. */
    store_u64(area + 512, load_u64(area + 512) & ~(uint64_t)XCR0_AVX);
    CHECK_EQ(area_op(restore, XCR0_AVX), -1);
    CHECK_EQ(cpu->s.vec[1].u64[2], 0);
    CHECK_EQ(cpu->s.vec[1].u64[0], kept[1].u64[0]);
}

TEST(saved_components_come_back)
{
    round_trip(&xsave_sem, &xrstor_sem, 2688);
    round_trip(&xsaveopt_sem, &xrstor_sem, 2688);
    round_trip(&xsavec_sem, &xrstor_sem, 832);
    round_trip(&xsaves_sem, &xrstors_sem, 832);
}

TEST(xsave_asks_for_its_permissions)
{
    CHECK(fresh());
    cpu->s.cr4 &= ~(uint64_t)CR4_OSXSAVE;
    CHECK_EQ(area_op(&xsave_sem, 3), X86_UD);
    cpu->s.cr4 |= CR4_OSXSAVE;
    cpu->s.cr0 |= CR0_TS;
    CHECK_EQ(area_op(&xsave_sem, 3), X86_NM);
    cpu->s.cr0 &= ~(uint64_t)CR0_TS;
    cpu->cpl = 3;
    CHECK_EQ(area_op(&xsaves_sem, 3), X86_GP);
    CHECK_EQ(area_op(&xrstors_sem, 3), X86_GP);
    cpu->cpl = 0;
    /* XRSTORS takes no area in the standard form. */
    memset(memory_hva(&ram, 0x4000), 0, 4096);
    CHECK_EQ(area_op(&xrstor_sem, 3), -1);
    CHECK_EQ(area_op(&xrstors_sem, 3), X86_GP);
}

static int set_xcr0(uint64_t v, uint32_t which)
{
    struct op op = {.size = 4, .ea = EA_REG};
    cpu->s.gpr[X86_RCX] = which;
    cpu->s.gpr[X86_RAX] = (uint32_t)v;
    cpu->s.gpr[X86_RDX] = v >> 32;
    return run_ours(&xsetbv_sem, &op);
}

TEST(xcr0_takes_what_the_model_offers)
{
    CHECK(fresh());
    CHECK_EQ(set_xcr0(XCR0_X87 | XCR0_SSE | XCR0_PKRU, 0), -1);
    CHECK_EQ(cpu->s.xcr0, XCR0_X87 | XCR0_SSE | XCR0_PKRU);
    struct op op = {.size = 4, .ea = EA_REG};
    cpu->s.gpr[X86_RCX] = 0;
    CHECK_EQ(run_ours(&xgetbv_sem, &op), -1);
    CHECK_EQ(cpu->s.gpr[X86_RAX], XCR0_X87 | XCR0_SSE | XCR0_PKRU);
    CHECK_EQ(set_xcr0(XCR0_SSE, 0), X86_GP);
    CHECK_EQ(set_xcr0(XCR0_X87 | BIT(62), 0), X86_GP);
    CHECK_EQ(set_xcr0(XCR0_X87, 2), X86_GP);
    cpu->cpl = 3;
    CHECK_EQ(set_xcr0(XCR0_X87, 0), X86_GP);
    cpu->cpl = 0;
}

TEST(mxcsr_has_no_reserved_bits)
{
    CHECK(fresh());
    struct op op = {
        .size = 4, .ea = EA_FLAT, .base = X86_RDI, .index = X86_GPR_ZERO, .seg = X86_DS};
    cpu->s.gpr[X86_RDI] = 0x4000;
    store_u32(memory_hva(&ram, 0x4000), 0xffbf);
    CHECK_EQ(run_ours(&ldmxcsr_sem, &op), -1);
    CHECK_EQ(cpu->s.mxcsr, 0xffbf);
    store_u32(memory_hva(&ram, 0x4000), 0x10000);
    CHECK_EQ(run_ours(&ldmxcsr_sem, &op), X86_GP);
    CHECK_EQ(cpu->s.mxcsr, 0xffbf);
}

TESTS(T(save_areas_are_what_silicon_writes_and_reads), T(saved_components_come_back),
      T(xsave_asks_for_its_permissions), T(xcr0_takes_what_the_model_offers),
      T(mxcsr_has_no_reserved_bits))

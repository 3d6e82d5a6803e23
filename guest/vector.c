/*
 * YMM registers and VEX-encoded instructions, as far as a system has to do with them: when they may
 * run, what XCR0 takes, what XSAVE saves, faults in the middle of a gather.
 *
 * On a processor without AVX all there is to see is #UD.
 */
#include "lib/vector.h"
#include "lib/window.h"

const char guest_name[] = "vector";

enum { CPUID_XSAVE = 1 << 26, CPUID_AVX = 1 << 28 };

union vector {
    uint8_t u8[32];
    uint32_t u32[8];
    uint64_t u64[4];
} __attribute__((aligned(64)));

static uint8_t area[1024] __attribute__((aligned(64)));
static union vector in[3], out;

static bool has(uint32_t feature)
{
    uint32_t a, b, c, d;
    cpuid(1, &a, &b, &c, &d);
    return c & feature;
}

/* ---- what code may run ---- */

CODE(vex_256, "vpxor %ymm1, %ymm2, %ymm3");
CODE(vex_128, "vaddps %xmm1, %xmm2, %xmm3");
CODE(vex_zero, "vzeroupper");
CODE(vex_general, "andn %eax, %ecx, %edx");

/* All kinds end alike. */
static uint64_t run_vex(void)
{
    uint64_t vector = run_simple(vex_256);
    CHECK_EQ(run_simple(vex_128), vector);
    CHECK_EQ(run_simple(vex_zero), vector);
    return vector;
}

static void vex_must_be_enabled(void)
{
    if (!has(CPUID_AVX)) {
        CHECK_EQ(run_vex(), UD);
        return;
    }
    enable_vectors(XCR0_TO_AVX);
    CHECK_EQ(run_vex(), DONE);
    write_cr0(read_cr0() | CR0_EM);
    CHECK_EQ(run_vex(), DONE);
    write_cr0((read_cr0() & ~(unsigned long)CR0_EM) | CR0_TS);
    CHECK_EQ(run_vex(), NM);
    write_cr4(read_cr4() & ~CR4_OSXSAVE);
    CHECK_EQ(run_vex(), UD);
    write_cr0(read_cr0() & ~(unsigned long)CR0_TS);
    CHECK_EQ(run_vex(), UD);
    CHECK_EQ(run_simple(vex_general), DONE);
    enable_vectors(XCR0_X87 | XCR0_SSE);
    CHECK_EQ(run_vex(), UD);
    enable_vectors(XCR0_X87);
    CHECK_EQ(run_vex(), UD);
    enable_vectors(XCR0_TO_AVX);
    CHECK_EQ(run_vex(), DONE);
}

static void xcr0_takes_avx_with_sse(void)
{
    static const struct {
        uint64_t value;
        bool taken;
        uint32_t size; /* of XSAVE's area */
    } row[] = {{1, true, 576},  {3, true, 576}, {7, true, 832},      {5, false, 832},
               {2, false, 832}, {6, false, 0},  {1ull << 63, false}, {0, false}};
    if (!has(CPUID_AVX))
        return;
    write_cr4(read_cr4() | CR4_OSXSAVE);
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        uint32_t a, b, c, d;
        CHECK_EQ(try_xcr0(row[i].value), row[i].taken ? DONE : GP);
        cpuid(0xd, &a, &b, &c, &d);
        if (row[i].taken)
            CHECK_EQ(b, row[i].size);
        CHECK_EQ(a & XCR0_TO_AVX, XCR0_TO_AVX);
    }
}

/* ---- upper halves ---- */

CODE(load, "vmovdqu (%rsi), %ymm0\n vmovdqu 64(%rsi), %ymm1\n vmovdqu 128(%rsi), %ymm2");
CODE(store, "vmovdqu %ymm0, (%rdi)");
CODE(legacy_add, "paddd %xmm1, %xmm0");
CODE(vex_add, "vpaddd %xmm1, %xmm0, %xmm0");

static uint64_t run_vector(const uint8_t *code)
{
    struct context c = at_level(3);
    c.rsi = (uint64_t)in;
    c.rdi = (uint64_t)&out;
    c.rbx = (uint64_t)area;
    run_code(&c, code);
    return c.vector;
}

static void fill(void)
{
    for (unsigned i = 0; i < 8; i++) {
        in[0].u32[i] = 0x1000 + i;
        in[1].u32[i] = 0x20000 + i;
        in[2].u32[i] = 0;
    }
    CHECK_EQ(run_vector(load), DONE);
}

static void legacy_forms_keep_upper_halves(void)
{
    if (!has(CPUID_AVX))
        return;
    enable_vectors(XCR0_TO_AVX);
    fill();
    CHECK_EQ(run_vector(legacy_add), DONE);
    CHECK_EQ(run_vector(store), DONE);
    CHECK_EQ(out.u32[3], 0x21006);
    CHECK_EQ(out.u32[7], 0x1007);
    CHECK_EQ(run_vector(vex_add), DONE);
    CHECK_EQ(run_vector(store), DONE);
    CHECK_EQ(out.u32[3], 0x41009);
    CHECK_EQ(out.u64[2] | out.u64[3], 0);
}

CODE(save, "mov $7, %eax\n xor %edx, %edx\n xsave (%rbx)");
CODE(restore, "vzeroall\n mov $7, %eax\n xor %edx, %edx\n xrstor (%rbx)");

static void xsave_has_the_upper_halves(void)
{
    if (!has(CPUID_AVX))
        return;
    enable_vectors(XCR0_TO_AVX);
    fill();
    memset(area, 0, sizeof area);
    CHECK_EQ(run_vector(save), DONE);
    CHECK_EQ(area[512] & XCR0_AVX, XCR0_AVX);
    CHECK_EQ(memcmp(area + 160, in[0].u8, 16), 0);
    CHECK_EQ(memcmp(area + 576, in[0].u8 + 16, 16), 0);
    CHECK_EQ(memcmp(area + 576 + 16, in[1].u8 + 16, 16), 0);
    CHECK_EQ(run_vector(restore), DONE);
    CHECK_EQ(run_vector(store), DONE);
    CHECK_EQ(memcmp(out.u8, in[0].u8, 32), 0);
    area[512] &= ~XCR0_AVX; /* then it is in its initial state */
    CHECK_EQ(run_vector(restore), DONE);
    CHECK_EQ(run_vector(store), DONE);
    CHECK_EQ(memcmp(out.u8, in[0].u8, 16), 0);
    CHECK_EQ(out.u64[2] | out.u64[3], 0);
}

/* ---- faults among elements ---- */

static uint32_t table[LARGE_SIZE / 4] LARGE_PAGE;

/* Indices in YMM1, the mask in YMM2. */
CODE(gather, "vpgatherdd %ymm2, (%rbx,%ymm1,4), %ymm0");
CODE(store_mask, "vmovdqu %ymm2, (%rdi)");

/* Elements 0 to 3 are in a page that is there, 4 to 7 in one that comes when it is asked for. */
static void a_gather_goes_on_after_a_fault(void)
{
    if (!has(CPUID_AVX))
        return;
    enable_vectors(XCR0_TO_AVX);
    for (unsigned i = 0; i < 8; i++) {
        in[0].u32[i] = 0xdead0000 + i;
        in[1].u32[i] = i * 100 + (i < 4 ? 0 : LARGE_SIZE / 4);
        in[2].u32[i] = i == 1 ? 0x7fffffff : 0x80000000;
        table[i * 100] = 0x5000 + i;
    }
    map_page(0, table, W);
    map_page(1, NULL, 0);
    CHECK_EQ(run_vector(load), DONE);
    struct context c = at_level(3);
    c.rbx = WINDOW;
    run_code(&c, gather);
    CHECK_EQ(c.vector, PF);
    CHECK_EQ(c.rip, (uint64_t)gather);
    CHECK_EQ(read_cr2(), WINDOW + LARGE_SIZE + 400 * 4);
    run_vector(store_mask);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(out.u32[i] >> 31, i >= 4);
    table[0] = 0; /* is not read again */
    map_page(1, table, W);
    run(&c);
    CHECK_EQ(c.vector, DONE);
    run_vector(store_mask);
    CHECK_EQ(out.u64[0] | out.u64[1] | out.u64[2] | out.u64[3], 0);
    run_vector(store);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(out.u32[i], i == 1 ? 0xdead0001 : 0x5000 + i);
}

CODE(masked_load, "vpmaskmovd (%rbx), %ymm2, %ymm0");
CODE(masked_store, "vpmaskmovd %ymm0, %ymm2, (%rbx)");

/* The operand ends in a page that is not there; the mask has what is before it, or one more. */
static void masked_moves_touch_what_is_chosen(void)
{
    if (!has(CPUID_AVX))
        return;
    enable_vectors(XCR0_TO_AVX);
    map_page(0, table, W);
    map_page(1, NULL, 0);
    uint32_t *last = &table[LARGE_SIZE / 4 - 5];
    for (unsigned chosen = 5; chosen < 7; chosen++) {
        for (unsigned i = 0; i < 8; i++) {
            in[0].u32[i] = 0x7000 + i;
            in[2].u32[i] = i < chosen ? 0xffffffff : 0;
        }
        memset(last, 0, 5 * 4);
        run_vector(load);
        struct context c = at_level(3);
        c.rbx = WINDOW + LARGE_SIZE - 5 * 4;
        run_code(&c, masked_store);
        CHECK_EQ(c.vector, chosen == 5 ? DONE : PF);
        CHECK_EQ(last[0], chosen == 5 ? 0x7000 : 0); /* all or nothing */
        CHECK_EQ(last[4], chosen == 5 ? 0x7004 : 0);
        last[4] = 0x1234;
        c = at_level(3);
        c.rbx = WINDOW + LARGE_SIZE - 5 * 4;
        run_code(&c, masked_load);
        CHECK_EQ(c.vector, chosen == 5 ? DONE : PF);
        run_vector(store);
        CHECK_EQ(out.u32[4], chosen == 5 ? 0x1234 : 0x7004);
        CHECK_EQ(out.u32[7], chosen == 5 ? 0 : 0x7007);
    }
}

const struct guest_test guest_tests[] = {
    {"VEX must be enabled", vex_must_be_enabled},
    {"XCR0 takes AVX with SSE", xcr0_takes_avx_with_sse},
    {"legacy forms keep upper halves", legacy_forms_keep_upper_halves},
    {"XSAVE has the upper halves", xsave_has_the_upper_halves},
    {"a gather goes on after a fault", a_gather_goes_on_after_a_fault},
    {"masked moves touch what is chosen", masked_moves_touch_what_is_chosen},
    {0},
};

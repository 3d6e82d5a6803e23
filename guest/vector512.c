/*
 * ZMM and mask registers, as far as a system has to do with them: when they may be used, what XSAVE
 * saves, and vector accesses that can't be made in one go: over a page's end, half-way into a
 * fault, to a device, to code, and of which a mask leaves something out.
 *
 * On a processor without AVX-512 all there is to see is #UD.
 */
#include "lib/apic.h"
#include "lib/vector.h"
#include "lib/window.h"

const char guest_name[] = "vector512";

/* Both pages of the window, one behind the other; MIDDLE is where the second begins. */
static uint8_t low[LARGE_SIZE] LARGE_PAGE;
static uint8_t high[LARGE_SIZE] LARGE_PAGE;
#define MIDDLE (WINDOW + LARGE_SIZE)

static uint8_t area[4096] __attribute__((aligned(64)));
static uint8_t in[64] __attribute__((aligned(64))), out[64] __attribute__((aligned(64)));

static bool has_avx512(void)
{
    uint32_t a, b, c, d;
    cpuid(7, &a, &b, &c, &d);
    return b & 1 << 16;
}

/* ---- what may run ---- */

CODE(evex, "vpxord %zmm1, %zmm2, %zmm18");
CODE(evex_short, "vpxord %xmm1, %xmm2, %xmm18");
CODE(on_masks, "kxnorw %k1, %k2, %k3");
CODE(vex, "vpxor %ymm1, %ymm2, %ymm3");

/* False: there is nothing to test. */
static bool enable(void)
{
    if (!has_avx512())
        return false;
    write_cr0(read_cr0() | CR0_WP);
    enable_vectors(XCR0_TO_AVX512);
    return true;
}

static uint64_t run_evex(void)
{
    uint64_t vector = run_simple(evex);
    CHECK_EQ(run_simple(evex_short), vector);
    CHECK_EQ(run_simple(on_masks), vector);
    return vector;
}

static void evex_must_be_enabled(void)
{
    if (!enable()) {
        CHECK_EQ(run_evex(), UD);
        return;
    }
    CHECK_EQ(run_evex(), DONE);
    write_cr0(read_cr0() | CR0_TS);
    CHECK_EQ(run_evex(), NM);
    write_cr4(read_cr4() & ~CR4_OSXSAVE);
    CHECK_EQ(run_evex(), UD);
    enable();
    CHECK_EQ(try_xcr0(XCR0_TO_AVX), DONE);
    CHECK_EQ(run_evex(), UD);
    CHECK_EQ(run_simple(vex), DONE);
    static const uint8_t wrong[] = {0x27, 0x67, 0xa7, 0xe3, 0xe1};
    for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
        CHECK_EQ(try_xcr0(wrong[i]), GP);
}

/* ---- registers ---- */

CODE(load_all, "vmovdqu64 (%rsi), %zmm0\n vmovdqu64 (%rsi), %zmm15\n vmovdqu64 (%rsi), %zmm31\n"
               "kmovq (%rsi), %k7");
CODE(save, "mov $0xe7, %eax\n xor %edx, %edx\n xsave (%rbx)");
CODE(wipe, "vpxord %zmm0, %zmm0, %zmm0\n vpxord %zmm15, %zmm15, %zmm15\n"
           "vpxord %zmm31, %zmm31, %zmm31\n kxorq %k7, %k7, %k7");
CODE(restore, "mov $0xe7, %eax\n xor %edx, %edx\n xrstor (%rbx)");
CODE(store_15, "vmovdqu64 %zmm15, (%rdi)");
CODE(store_31, "vmovdqu64 %zmm31, (%rdi)");
CODE(store_mask, "kmovq %k7, (%rdi)");
CODE(add_vex, "vpaddd %xmm15, %xmm15, %xmm15");

static uint64_t run_vector(const uint8_t *code)
{
    struct context c = at_level(3);
    c.rsi = (uint64_t)in;
    c.rdi = (uint64_t)out;
    c.rbx = (uint64_t)area;
    run_code(&c, code);
    return c.vector;
}

static void fill(void)
{
    for (unsigned i = 0; i < 64; i++)
        in[i] = (uint8_t)(3 * i + 1);
    CHECK_EQ(run_vector(load_all), DONE);
}

static void check_stored(const uint8_t *code, unsigned size)
{
    memset(out, 0, sizeof out);
    CHECK_EQ(run_vector(code), DONE);
    CHECK_EQ(memcmp(out, in, size), 0);
}

static void xsave_has_it_all(void)
{
    uint32_t offset[3], size[3], c, d;
    if (!enable())
        return;
    for (unsigned i = 0; i < 3; i++) {
        __asm__ volatile("cpuid"
                         : "=a"(size[i]), "=b"(offset[i]), "=c"(c), "=d"(d)
                         : "a"(0xd), "c"(5 + i));
        CHECK_EQ(size[i], i == 0 ? 64 : i == 1 ? 512 : 1024);
    }
    fill();
    memset(area, 0, sizeof area);
    CHECK_EQ(run_vector(save), DONE);
    CHECK_EQ(area[512] & 0xe0, 0xe0);
    CHECK_EQ(memcmp(area + offset[0] + 7 * 8, in, 8), 0);
    CHECK_EQ(memcmp(area + offset[1] + 15 * 32, in + 32, 32), 0);
    CHECK_EQ(memcmp(area + offset[2] + 15 * 64, in, 64), 0);
    CHECK_EQ(run_vector(wipe), DONE);
    CHECK_EQ(run_vector(restore), DONE);
    check_stored(store_15, 64);
    check_stored(store_31, 64);
    check_stored(store_mask, 8);
    area[512] &= 0x1f; /* then they are in their initial state */
    CHECK_EQ(run_vector(restore), DONE);
    run_vector(store_31);
    for (unsigned i = 0; i < 64; i++)
        CHECK_EQ(out[i], 0);
}

static void vex_clears_what_is_above(void)
{
    if (!enable())
        return;
    fill();
    CHECK_EQ(run_vector(add_vex), DONE);
    CHECK_EQ(run_vector(store_15), DONE);
    CHECK_EQ(out[0], 2 * in[0]);
    for (unsigned i = 16; i < 64; i++)
        CHECK_EQ(out[i], 0);
}

/* ---- accesses over a page's end ---- */

static void map_window(bool first, bool second)
{
    map_page(0, first ? low : NULL, W);
    map_page(1, second ? high : NULL, W);
}

/* The byte at an address of the window. */
static uint8_t *byte_at(uint64_t at)
{
    return at < MIDDLE ? &low[at - WINDOW] : &high[at - MIDDLE];
}

/* 64 bytes from 20 in front of the second page. */
#define OVER (MIDDLE - 20)

CODE(load, "vmovdqu8 (%rbx), %zmm20");
CODE(store, "vmovdqu8 %zmm20, (%rbx)");
CODE(masked_load, "kmovq %rdx, %k1\n vmovdqu8 (%rbx), %zmm20{%k1}{z}");
CODE(masked_store, "kmovq %rdx, %k1\n vmovdqu8 %zmm20, (%rbx){%k1}");
CODE(masked_add, "kmovq %rdx, %k1\n vpaddd (%rbx), %zmm20, %zmm20{%k1}");
CODE(expand, "kmovq %rdx, %k1\n vpexpandd (%rbx), %zmm20{%k1}{z}");
CODE(compress, "kmovq %rdx, %k1\n vpcompressd %zmm20, (%rbx){%k1}");
CODE(get, "vmovdqu64 %zmm20, (%rdi)");
CODE(put, "vmovdqu64 (%rsi), %zmm20");

static struct context at_window(const uint8_t *code, uint64_t at, uint64_t mask)
{
    struct context c = at_level(3);
    c.rbx = at;
    c.rdx = mask;
    run_code(&c, code);
    return c;
}

static void fill_window(void)
{
    for (uint64_t at = OVER - 64; at < OVER + 128; at++)
        *byte_at(at) = (uint8_t)(at * 7);
}

static void check_window(uint64_t mask)
{
    for (unsigned i = 0; i < 64; i++)
        CHECK_EQ(*byte_at(OVER + i), mask >> i & 1 ? in[i] : (uint8_t)((OVER + i) * 7));
    CHECK_EQ(*byte_at(OVER - 1), (uint8_t)((OVER - 1) * 7));
    CHECK_EQ(*byte_at(OVER + 64), (uint8_t)((OVER + 64) * 7));
}

static void check_register(uint64_t mask)
{
    CHECK_EQ(run_vector(get), DONE);
    for (unsigned i = 0; i < 64; i++)
        CHECK_EQ(out[i], mask >> i & 1 ? (uint8_t)((OVER + i) * 7) : 0);
}

static void straddles_are_whole(void)
{
    static const uint64_t masks[] = {~0ull, 0x5555555555555555, 0xfffff, 0xfff00000};
    if (!enable())
        return;
    map_window(true, true);
    fill();
    for (unsigned k = 0; k < 8; k++) { /* several times: engines learn */
        fill_window();
        CHECK_EQ(at_window(load, OVER, 0).vector, DONE);
        check_register(~0ull);
        run_vector(put);
        CHECK_EQ(at_window(store, OVER, 0).vector, DONE);
        check_window(~0ull);
        uint64_t mask = masks[k % 4];
        fill_window();
        CHECK_EQ(at_window(masked_load, OVER, mask).vector, DONE);
        check_register(mask);
        run_vector(put);
        CHECK_EQ(at_window(masked_store, OVER, mask).vector, DONE);
        check_window(mask);
    }
}

static void check_fault(const struct context *c, const uint8_t *code, uint64_t at, unsigned error)
{
    CHECK_EQ(c->vector, PF);
    CHECK_EQ(c->error, error);
    CHECK_EQ(read_cr2(), at);
    CHECK(c->rip >= (uint64_t)code && c->rip < (uint64_t)code + 16);
}

static void faults_half_way_change_nothing(void)
{
    struct context c;
    if (!enable())
        return;
    fill();
    run_vector(put);
    fill_window();
    map_window(true, false);
    c = at_window(load, OVER, 0);
    check_fault(&c, load, MIDDLE, 4);
    c = at_window(store, OVER, 0);
    check_fault(&c, store, MIDDLE, 6);
    map_page(1, high, 0);
    c = at_window(store, OVER, 0);
    check_fault(&c, store, MIDDLE, 7);
    map_window(false, true);
    c = at_window(load, OVER, 0);
    check_fault(&c, load, OVER, 4);
    c = at_window(store, OVER, 0);
    check_fault(&c, store, OVER, 6);
    check_window(0);
    check_stored(get, 64);
}

/* With the first 20 bytes chosen or the last 44, and the page of the others missing. */
static void what_is_not_chosen_does_not_fault(void)
{
    if (!enable())
        return;
    for (unsigned i = 0; i < 4; i++) {
        bool first = i & 1, dwords = i & 2;
        uint64_t mask = first ? 0xfffff : ~0xfffffull;
        uint64_t mask32 = first ? 0x1f : 0xffe0;
        map_window(first, !first);
        fill_window();
        fill();
        run_vector(put);
        if (dwords) {
            CHECK_EQ(at_window(masked_add, OVER, mask32).vector, DONE);
            CHECK_EQ(at_window(masked_add, OVER, 0).vector, DONE);
            continue;
        }
        CHECK_EQ(at_window(masked_store, OVER, mask).vector, DONE);
        check_window(mask);
        fill_window();
        CHECK_EQ(at_window(masked_load, OVER, mask).vector, DONE);
        check_register(mask);
        CHECK_EQ(at_window(masked_load, OVER, 0).vector, DONE);
        check_register(0);
        fill();
        run_vector(put);
        struct context c = at_window(masked_store, OVER, ~0ull);
        check_fault(&c, masked_store, first ? MIDDLE : OVER, 6);
        check_window(0);
    }
}

/* They access as many elements as are chosen, wherever those are. */
static void packed_elements(void)
{
    if (!enable())
        return;
    map_window(true, false);
    fill();
    run_vector(put);
    fill_window();
    CHECK_EQ(at_window(compress, OVER, 0xf801).vector, PF);
    CHECK_EQ(at_window(compress, OVER, 0xf001).vector, DONE);
    CHECK_EQ(memcmp(byte_at(OVER), in, 4), 0);
    CHECK_EQ(memcmp(byte_at(OVER + 4), in + 48, 16), 0);
    CHECK_EQ(at_window(expand, OVER, 0xf801).vector, PF);
    CHECK_EQ(at_window(expand, OVER, 0xf001).vector, DONE);
    run_vector(get);
    CHECK_EQ(memcmp(out, in, 4), 0);
    CHECK_EQ(memcmp(out + 48, in + 48, 16), 0);
    CHECK_EQ(out[4] | out[47], 0);
}

/* ---- gathers and scatters ---- */

CODE(gather, "kmovq %rdx, %k1\n vmovdqu64 (%rsi), %zmm21\n"
             "vpgatherdd (%rbx, %zmm21, 4), %zmm20{%k1}\n kmovq %k1, %rax");
CODE(scatter, "kmovq %rdx, %k1\n vmovdqu64 (%rsi), %zmm21\n"
              "vpscatterdd %zmm20, (%rbx, %zmm21, 4){%k1}\n kmovq %k1, %rax");
CODE(get_k1, "kmovq %k1, (%rdi)");

static void elements_before_a_fault_are_done(void)
{
    uint32_t *index = (uint32_t *)(void *)in, *at = (uint32_t *)(void *)&low[LARGE_SIZE - 40];
    if (!enable())
        return;
    map_window(true, false);
    fill();
    run_vector(put);
    for (unsigned i = 0; i < 16; i++)
        index[i] = i;
    memset(at, 0xaa, 40);
    struct context c = at_level(3);
    c.rbx = MIDDLE - 40;
    c.rdx = 0xfdff;
    c.rsi = (uint64_t)in;
    struct context again = c;
    run_code(&c, scatter);
    CHECK_EQ(c.vector, PF);
    CHECK_EQ(read_cr2(), MIDDLE);
    CHECK_EQ(at[8], 0x6a676461);
    CHECK_EQ(at[9], 0xaaaaaaaa); /* was not chosen */
    run_vector(get_k1);
    CHECK_EQ(*(uint64_t *)(void *)out, 0xfc00);
    map_window(true, true);
    run_code(&again, gather);
    CHECK_EQ(again.vector, DONE);
    CHECK_EQ(again.rax, 0);
}

/* ---- devices and code ---- */

/* The local APIC's version and its task priority, which are registers of 32 bits. */
CODE(device_load, "vmovd (%rbx), %xmm20");
CODE(device_masked, "kmovq %rdx, %k1\n vmovdqu32 (%rbx), %zmm20{%k1}{z}");
CODE(device_store, "kmovq %rdx, %k1\n vmovdqu32 %zmm20, (%rbx){%k1}");

static uint64_t on_device(const uint8_t *code, unsigned reg, uint64_t mask)
{
    struct context c = at_level(0);
    c.rbx = APIC + reg;
    c.rdx = mask;
    run_code(&c, code);
    return c.vector;
}

static void devices_are_reached(void)
{
    if (!enable())
        return;
    fill();
    run_vector(put);
    CHECK_EQ(on_device(device_load, VERSION, 0), DONE);
    run_vector(get);
    CHECK_EQ(*(uint32_t *)(void *)out, apic_get(VERSION));
    CHECK_EQ(*(uint32_t *)(void *)(out + 4), 0);
    CHECK_EQ(on_device(device_masked, VERSION, 1), DONE);
    run_vector(get);
    CHECK_EQ(*(uint32_t *)(void *)out, apic_get(VERSION));
    CHECK_EQ(*(uint32_t *)(void *)(out + 4), 0);
    apic_set(TPR, 0);
    memset(in, 0x20, sizeof in);
    run_vector(put);
    CHECK_EQ(on_device(device_store, TPR, 0), DONE);
    CHECK_EQ(apic_get(TPR), 0);
    CHECK_EQ(on_device(device_store, TPR, 1), DONE);
    CHECK_EQ(apic_get(TPR), 0x20);
    apic_set(TPR, 0);
}

/* With what ends a piece of code for run() behind it. */
CODE(model, "mov $0x11111111, %eax");

static void stores_to_code_are_seen(void)
{
    if (!enable())
        return;
    uint8_t *code = &high[0x1000 - 8]; /* the constant goes over a page's end */
    memcpy(code, model, 64);
    for (unsigned i = 1; i < 6; i++) {
        struct context c = at_level(3);
        run_code(&c, code);
        CHECK_EQ(c.rax, 0x11111111u * i);
        memcpy(in, code, 64);
        memset(in + 1, (int)(0x11 * (i + 1)), 4);
        run_vector(put);
        c = at_level(3);
        c.rbx = (uint64_t)code;
        run_code(&c, store);
        CHECK_EQ(c.vector, DONE);
    }
}

/* ---- floating point ---- */

CODE(divide, "vdivps (%rbx){1to16}, %zmm20, %zmm20");

static void exceptions_are_reported(void)
{
    static const uint32_t unmasked = 0x1f80 & ~(1u << 9), normal = 0x1f80;
    if (!enable())
        return;
    map_window(true, true);
    *(uint32_t *)(void *)low = 0;
    for (unsigned i = 0; i < 64; i += 4)
        *(uint32_t *)(void *)(in + i) = 0x3f800000;
    run_vector(put);
    __asm__ volatile("ldmxcsr %0" : : "m"(unmasked));
    struct context c = at_window(divide, WINDOW, 0);
    CHECK_EQ(c.vector, 19);
    CHECK_EQ(c.rip, (uint64_t)divide);
    check_stored(get, 64);
    __asm__ volatile("ldmxcsr %0" : : "m"(normal));
    CHECK_EQ(at_window(divide, WINDOW, 0).vector, DONE);
    run_vector(get);
    CHECK_EQ(*(uint32_t *)(void *)(out + 60), 0x7f800000);
}

const struct guest_test guest_tests[] = {
    {"EVEX must be enabled", evex_must_be_enabled},
    {"XSAVE has it all", xsave_has_it_all},
    {"VEX clears what is above", vex_clears_what_is_above},
    {"straddles are whole", straddles_are_whole},
    {"faults half-way change nothing", faults_half_way_change_nothing},
    {"what is not chosen does not fault", what_is_not_chosen_does_not_fault},
    {"packed elements", packed_elements},
    {"elements before a fault are done", elements_before_a_fault_are_done},
    {"devices are reached", devices_are_reached},
    {"stores to code are seen", stores_to_code_are_seen},
    {"exceptions are reported", exceptions_are_reported},
    {0},
};

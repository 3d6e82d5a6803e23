/*
 * What instructions tell user code of the processor: all that do so without a fault, wherever in a
 * page they lie, alone and in crowds, and where code is rewritten that has some.
 */
#include "lib/program.h"

const char guest_name[] = "told";

enum { NOPS = 16 };

/* Puts code there, with what leads to it and behind it, and runs it. */
static struct context run_at(unsigned at, const uint8_t *code, unsigned size, struct context c)
{
    uint8_t *to = code_pages + at;
    memset(code_pages, 0x90, sizeof code_pages);
    memcpy(to, code, size);
    to[size] = 0xcd;
    to[size + 1] = DONE;
    run_code(&c, (const void *)(WINDOW + at - NOPS));
    CHECK_EQ(c.vector, DONE);
    CHECK_EQ(c.rip, WINDOW + at + size + 2);
    return c;
}

/* In the middle of a page, over its end in every way, at its end and behind it. */
static unsigned place(unsigned n, unsigned size)
{
    return n ? PAGE - size + n - 1 : 0x345;
}

static void check_cpuid(unsigned at, const uint8_t *code, unsigned size, uint32_t leaf)
{
    uint32_t r[4];
    struct context c = user();
    cpuid(leaf, &r[0], &r[1], &r[2], &r[3]);
    c.rax = leaf;
    c.rcx = 0;
    c = run_at(at, code, size, c);
    CHECK_EQ(c.rax, r[0]);
    CHECK_EQ(c.rbx, r[1]);
    CHECK_EQ(c.rcx, r[2]);
    CHECK_EQ(c.rdx, r[3]);
}

static void cpuid_is_the_guests(void)
{
    static const uint32_t leaves[] = {0,    1,    4,          7,          0xb,        0xd,
                                      0x15, 0x16, 0x40000000, 0x80000000, 0x80000002, 0x80000008};
    static const uint8_t plain[] = {0x0f, 0xa2}, wide[] = {0x48, 0x0f, 0xa2},
                         twice[] = {0x66, 0x66, 0x0f, 0xa2};
    prepare();
    for (unsigned i = 0; i < ARRAY_LEN(leaves); i++) {
        check_cpuid(0x200, plain, sizeof plain, leaves[i]);
        for (unsigned n = 0; n < sizeof twice + 2; n++) {
            if (n < sizeof plain + 2)
                check_cpuid(place(n, sizeof plain), plain, sizeof plain, leaves[i]);
            if (n < sizeof wide + 2)
                check_cpuid(place(n, sizeof wide), wide, sizeof wide, leaves[i]);
            check_cpuid(place(n, sizeof twice), twice, sizeof twice, leaves[i]);
        }
    }
}

/* The page ran before, with as many in it as can be watched, and runs again with others. */
static void cpuid_in_crowds(void)
{
    static const uint8_t one[] = {0x31, 0xc9, 0x0f, 0xa2, 0x01, 0xc7, 0xb8, 1, 0, 0, 0};
    uint8_t code[sizeof one * 8];
    uint32_t r[4], want;
    prepare();
    for (unsigned i = 0; i < 40; i++) {
        unsigned count = i * 3 % 8 + 1;
        struct context c = user();
        for (unsigned k = 0; k < count; k++)
            memcpy(code + k * sizeof one, one, sizeof one);
        c.rax = want = 0;
        c.rdi = 0;
        for (unsigned k = 0; k < count; k++) {
            cpuid(k ? 1 : 0, &r[0], &r[1], &r[2], &r[3]);
            want += r[0];
        }
        c = run_at(0x100 + i * 8, code, (unsigned)sizeof one * count, c);
        CHECK_EQ(c.rdi, want);
    }
}

static uint64_t read_tsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

/* More of them in a page than can be watched. RDI: what is run of it; R9: what comes of that. */
#define TOLD                                                                                       \
    "mov %r8d, %eax\n xor %ecx, %ecx\n cpuid\n"                                                    \
    "add %rax, %r9\n add %rbx, %r9\n add %rcx, %r9\n add %rdx, %r9\n"
USER(crowd, "dec %rdi\n jz crowd_loop\n dec %rdi\n jz crowd_rare\n dec %rdi\n jz crowd_time\n"
            ".rept 6\n" TOLD ".endr\n xor %ecx, %ecx\n xgetbv\n add %rax, %r9\n int $0x31\n"
            "crowd_loop: mov $3000, %ecx\n 1: add %rcx, %r9\n loop 1b\n int $0x31\n"
            "crowd_rare: .rept 4\n" TOLD ".endr\n int $0x31\n"
            "crowd_time: .rept 3\n rdtsc\n shl $32, %rdx\n or %rax, %rdx\n mov %rdx, %r9\n"
            ".endr");

static void crowds_are_watched_again(void)
{
    enum { OFTEN, LOOP, RARE, TIME };
    static const uint8_t what[] = {OFTEN, LOOP, OFTEN, LOOP, LOOP, RARE, LOOP, TIME, OFTEN, RARE};
    prepare();
    if (!feature(1, ECX, 27))
        return;
    uint32_t xcr0;
    __asm__("xgetbv" : "=a"(xcr0) : "c"(0) : "edx");
    for (unsigned i = 0; i < 4 * ARRAY_LEN(what); i++) {
        unsigned now = what[i % ARRAY_LEN(what)];
        struct context c = user();
        uint32_t r[4];
        c.rdi = now ? now : 4;
        c.r8 = i / ARRAY_LEN(what) % 2 ? 7 : 1;
        c.r9 = 0;
        cpuid((uint32_t)c.r8, &r[0], &r[1], &r[2], &r[3]);
        uint64_t told = (uint64_t)r[0] + r[1] + r[2] + r[3], before = read_tsc();
        const uint64_t want[] = {6 * told + xcr0, 3000 * 3001 / 2, 4 * told};
        run_code(&c, crowd_code);
        CHECK_EQ(c.vector, now == TIME ? DONE : 0x31);
        if (now == TIME)
            CHECK(c.r9 >= before && c.r9 <= read_tsc());
        else
            CHECK_EQ(c.r9, want[now]);
    }
}

static void time_is_the_guests(void)
{
    static const uint8_t rdtsc[] = {0x0f, 0x31}, rdtscp[] = {0x0f, 0x01, 0xf9},
                         rdpid[] = {0xf3, 0x0f, 0xc7, 0xf9};
    bool has_rdtscp = feature(0x80000001, EDX, 27), has_rdpid = feature(7, ECX, 22);
    prepare();
    for (unsigned n = 0; n < 5; n++) {
        uint64_t before = read_tsc();
        struct context c = run_at(place(n, 2), rdtsc, 2, user());
        CHECK((c.rdx << 32 | c.rax) >= before && (c.rdx << 32 | c.rax) <= read_tsc());
        if (has_rdtscp || has_rdpid)
            wrmsr(0xc0000103, 0x4711 + n);
        if (has_rdtscp) {
            c = run_at(place(n, 3), rdtscp, 3, user());
            CHECK_EQ(c.rcx, 0x4711 + n);
            CHECK((c.rdx << 32 | c.rax) >= before && (c.rdx << 32 | c.rax) <= read_tsc());
        }
        if (has_rdpid) {
            c = run_at(place(n, 4), rdpid, 4, user());
            CHECK_EQ(c.rcx, 0x4711 + n);
        }
    }
}

static void tables_are_the_guests(void)
{
    static const uint8_t sgdt[] = {0x0f, 0x01, 0x07}, sidt[] = {0x0f, 0x01, 0x0f},
                         sldt[] = {0x0f, 0x00, 0xc0}, str[] = {0x0f, 0x00, 0xc8},
                         smsw[] = {0x48, 0x0f, 0x01, 0xe0}, lsl[] = {0x0f, 0x03, 0xc1},
                         lar[] = {0x0f, 0x02, 0xc1}, xgetbv[] = {0x0f, 0x01, 0xd0};
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) table;
    prepare();
    for (unsigned n = 0; n < 5; n++) {
        struct context c = user();
        c.rdi = (uint64_t)&table;
        run_at(place(n, 3), sgdt, 3, c);
        CHECK_EQ(table.limit, sizeof gdt - 1);
        CHECK_EQ(table.base, (uint64_t)gdt);
        run_at(place(n, 3), sidt, 3, c);
        CHECK_EQ(table.limit, sizeof idt - 1);
        CHECK_EQ(table.base, (uint64_t)idt);
        CHECK_EQ((uint32_t)run_at(place(n, 3), sldt, 3, c).rax, 0);
        CHECK_EQ((uint32_t)run_at(place(n, 3), str, 3, c).rax, TSS);
        CHECK_EQ(run_at(place(n, 4), smsw, 4, c).rax, read_cr0());
        c.rcx = 0x7b; /* what Linux tells the processor's number by */
        c.rax = 0x1234;
        c.rflags |= FLAG_ZF;
        CHECK_EQ(run_at(place(n, 3), lsl, 3, c).rax, 0x1234);
        CHECK_EQ(run_at(place(n, 3), lar, 3, c).rax, 0x1234);
        c.rcx = 0;
        c = run_at(place(n, 3), xgetbv, 3, c);
        CHECK_EQ(c.rax, feature(1, ECX, 28) ? XCR0_TO_AVX : XCR0_X87 | XCR0_SSE);
        CHECK_EQ(c.rdx, 0);
    }
}

static void shared_code_is_rewritten(void)
{
    prepare();
    uint64_t root[2] = {read_cr3(), other_space()};
    static const uint8_t crowds[] = {8, 1, 8, 2};
    for (unsigned j = 0, crowd; j < 4 && (crowd = crowds[j]); j++) {
        uint8_t *at = code_pages;
        for (unsigned i = 0; i < PAGE; i++)
            at[i] = 0x90;
        memcpy(at, "\xbd\1\0\0\0", 5);
        at += 5;
        for (unsigned i = 0; i < crowd; i++, at += 9)
            memcpy(at, "\xb8\1\0\0\0\x31\xc9\x0f\xa2", 9);
        memcpy(at, "\xcd\x30", 2);
        for (unsigned i = 0; i < 12; i++) {
            unsigned want = i < 8 ? 1 : 2;
            if (i == 8)
                code_pages[1] = 2;
            write_cr3(root[i < 8 ? i & 1 : i > 9]);
            struct context c = user();
            run_code(&c, (void *)WINDOW);
            CHECK_EQ(c.vector, 0x30);
            CHECK_EQ(c.rbp, want);
            uint32_t r[4];
            cpuid(1, &r[0], &r[1], &r[2], &r[3]);
            CHECK_EQ(c.rax, r[0]);
            CHECK_EQ(c.rcx, r[2]);
            CHECK_EQ(c.rdx, r[3]);
        }
    }
    write_cr3(root[0]);
}

static void guarded_again_and_again(void)
{
    prepare();
    for (unsigned i = 0; i < 300; i++) {
        uint32_t r[4];
        memcpy(code_pages, "\x31\xc9\x0f\xa2\xbd\1\0\0\0\xcd\x30", 11);
        *(volatile uint8_t *)(code_pages + 5) = (uint8_t)i;
        cpuid(1, &r[0], &r[1], &r[2], &r[3]);
        struct context c = user();
        c.rax = 1;
        run_code(&c, (void *)WINDOW);
        CHECK_EQ(c.vector, 0x30);
        CHECK_EQ(c.rbx, r[1]);
        CHECK_EQ(c.rcx, r[2]);
        CHECK_EQ(c.rdx, r[3]);
        CHECK_EQ(c.rbp, i & 255);
    }
}

const struct guest_test guest_tests[] = {
    {"CPUID is the guest's", cpuid_is_the_guests},
    {"CPUID in crowds", cpuid_in_crowds},
    {"crowds are watched again", crowds_are_watched_again},
    {"shared code is rewritten", shared_code_is_rewritten},
    {"guarded again and again", guarded_again_and_again},
    {"time is the guest's", time_is_the_guests},
    {"tables are the guest's", tables_are_the_guests},
    {0},
};

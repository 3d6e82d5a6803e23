/*
 * What every guest of ours has: a table of tests, checks that say what failed, and the way out.
 *
 * A guest is one program on a bare machine. It runs its tests in order, prints what failed on COM1,
 * and leaves through the debug exit port: GUEST_PASSED, or GUEST_FAILED plus the index of the first
 * test that failed.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest_test {
    const char *name;
    void (*run)(void);
    bool not_tcg; /* QEMU's translator does not do this (segment limits and types, for one) */
};

/* Each guest defines these. The table ends with an entry without a name. */
extern const char guest_name[];
extern const struct guest_test guest_tests[];

/* What is written to the debug exit port. The monitor's status is then 2 * n + 1. */
enum { GUEST_PASSED = 0x10, GUEST_PANIC = 0x1f, GUEST_FAILED = 0x20 };

void print(const char *s);
void print_hex(uint64_t v);
_Noreturn void guest_exit(uint32_t v);
_Noreturn void guest_panic(const char *why, uint64_t a, uint64_t b);

void check_failed(const char *file, int line, const char *what);
void check_differs(const char *file, int line, const char *what, uint64_t got, uint64_t want);

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            check_failed(__FILE__, __LINE__, #cond);                                               \
    } while (0)

#define CHECK_EQ(got, want)                                                                        \
    do {                                                                                           \
        uint64_t got_ = (uint64_t)(got), want_ = (uint64_t)(want);                                 \
        if (got_ != want_)                                                                         \
            check_differs(__FILE__, __LINE__, #got, got_, want_);                                  \
    } while (0)

/* The compiler may call these. */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);

static inline void outb(uint16_t port, uint8_t v)
{
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline void outl(uint16_t port, uint32_t v)
{
    __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline void cpuid(uint32_t leaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}
static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (uint64_t)high << 32 | low;
}
static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)));
}

#define GUEST_REGISTER(name)                                                                       \
    static inline unsigned long read_##name(void)                                                  \
    {                                                                                              \
        unsigned long v;                                                                           \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v));                                         \
        return v;                                                                                  \
    }                                                                                              \
    static inline void write_##name(unsigned long v)                                               \
    {                                                                                              \
        __asm__ volatile("mov %0, %%" #name : : "r"(v) : "memory");                                \
    }
GUEST_REGISTER(cr0)
GUEST_REGISTER(cr2)
GUEST_REGISTER(cr3)
GUEST_REGISTER(cr4)
GUEST_REGISTER(dr0)
GUEST_REGISTER(dr1)
GUEST_REGISTER(dr2)
GUEST_REGISTER(dr3)
GUEST_REGISTER(dr6)
GUEST_REGISTER(dr7)
#undef GUEST_REGISTER

/* Exception vectors; DONE is the INT that ends a piece of tested code. */
enum {
    DE = 0,
    DB = 1,
    NMI = 2,
    BP = 3,
    OF = 4,
    BR = 5,
    UD = 6,
    NM = 7,
    DF = 8,
    TS = 10,
    NP = 11,
    SS = 12,
    GP = 13,
    PF = 14,
    MF = 16,
    AC = 17,
    XM = 19,
    DONE = 0x30,
};

enum {
    FLAG_CF = 1 << 0,
    FLAG_FIXED = 1 << 1,
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL3 = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
};

enum {
    CR0_PE = 1 << 0,
    CR0_MP = 1 << 1,
    CR0_EM = 1 << 2,
    CR0_TS = 1 << 3,
    CR0_NE = 1 << 5,
    CR0_WP = 1 << 16,
    CR0_AM = 1 << 18,
    CR4_VME = 1 << 0,
    CR4_TSD = 1 << 2,
    CR4_DE = 1 << 3,
    CR4_PSE = 1 << 4,
    CR4_PAE = 1 << 5,
    CR4_PGE = 1 << 7,
    CR4_OSFXSR = 1 << 9,
    CR4_OSXMMEXCPT = 1 << 10,
    CR4_UMIP = 1 << 11,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
    CR4_SMAP = 1 << 21,
};
#define CR0_PG (1ul << 31)

enum {
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
};
#define MSR_EFER           0xc0000080u
#define MSR_STAR           0xc0000081u
#define MSR_LSTAR          0xc0000082u
#define MSR_SFMASK         0xc0000084u
#define MSR_FS_BASE        0xc0000100u
#define MSR_GS_BASE        0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
enum { EFER_SCE = 1 << 0, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* A piece of code under test, from label `name` to `name_end`; it ends with "int $0x30". */
#define TESTED(name, text)                                                                         \
    extern __attribute__((unused)) uint8_t name[], name##_end[];                                   \
    __asm__(".pushsection .tested, \"awx\", @progbits\n" #name ":\n" text "\n" #name               \
            "_end:\n.popsection")
#define CODE(name, text)   TESTED(name, text "\nint $0x30")
#define CODE16(name, text) TESTED(name, ".code16\n" text "\nint $0x30\n.code32")

#endif

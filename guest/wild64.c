/*
 * A 64-bit guest that runs wild, for engines that run such code as it is. Its command line: SEED.
 *
 * A megabyte of random bytes, among them the beginnings of instructions that touch memory in many
 * ways, is run as code at level 0 or 3, from some place with some registers, until an exception or
 * the timer ends it; then from another. What it does to this program on the way is its business.
 */
#include "lib/apic.h"
#include "lib/run64.h"

enum { CODE_BYTES = 1 << 20, FRAGMENT = 24 };

static uint8_t code[CODE_BYTES] __attribute__((aligned(4096)));
static uint64_t state;

/* The compiler may call these. */
void *memcpy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return to;
}
void *memset(void *to, int byte, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return to;
}

/* SplitMix64. */
static uint64_t chance(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Beginnings: what follows them is random. */
static const struct {
    uint8_t length, bytes[5];
} fragments[] = {
    {2, {0x48, 0x8b}},                   /* mov r64, r/m64 */
    {2, {0x4c, 0x89}},                   /* mov r/m64, r8 to r15 */
    {2, {0x4d, 0x8b}},                   /* both extended */
    {2, {0x48, 0x01}},                   /* add r/m64, r64 */
    {3, {0x64, 0x48, 0x8b}},             /* mov r64, fs:m */
    {3, {0x65, 0x4c, 0x89}},             /* mov gs:m, r64 */
    {2, {0x67, 0x8b}},                   /* 32-bit addresses */
    {3, {0x0f, 0x10, 0x00}},             /* movups */
    {4, {0xc5, 0xfc, 0x11, 0x00}},       /* vmovups ymm */
    {5, {0x62, 0xf1, 0xfe, 0x48, 0x6f}}, /* vmovdqu64 zmm */
    {5, {0x62, 0x01, 0x7e, 0x4a, 0x7f}}, /* vmovdqu32 of zmm16 to zmm31, masked */
    {5, {0x62, 0x92, 0xfd, 0x41, 0xa1}}, /* vpscatterqq */
    {1, {0x62}},                         /* EVEX */
    {3, {0x48, 0x0f, 0xab}},             /* bts m, r64 */
    {3, {0x48, 0x0f, 0xc7}},             /* cmpxchg16b and more */
    {2, {0x48, 0xbc}},                   /* mov rsp, imm64 */
    {2, {0x49, 0xbe}},                   /* mov r14, imm64 */
    {1, {0x50}},                         /* push */
    {1, {0x58}},                         /* pop */
    {1, {0xe8}},                         /* call */
    {1, {0xc3}},                         /* ret */
    {1, {0xc9}},                         /* leave */
    {2, {0xff, 0xe0}},                   /* jmp rax */
    {1, {0xeb}},                         /* jmp */
    {1, {0x75}},                         /* jnz */
    {2, {0x48, 0xab}},                   /* stos */
    {3, {0xf3, 0x48, 0xab}},             /* rep stos */
    {3, {0xf3, 0x48, 0xa5}},             /* rep movs */
    {2, {0xf3, 0xa4}},                   /* of bytes */
    {2, {0x48, 0xcf}},                   /* iret */
    {3, {0x48, 0x0f, 0x07}},             /* sysret */
    {2, {0x0f, 0x31}},                   /* rdtsc */
    {1, {0xfb}},                         /* sti */
    {1, {0xd9}},                         /* x87 */
    {2, {0x0f, 0xae}},                   /* fxsave and more */
    {5, {0xf3, 0x48, 0x0f, 0xae, 0xd8}}, /* wrgsbase rax */
    {2, {0x0f, 0x05}},                   /* syscall */
    {3, {0x0f, 0x01, 0xf8}},             /* swapgs */
    {3, {0x4b, 0x64, 0x48}},             /* REX that counts for nothing */
    {5, {0x66, 0x66, 0x66, 0x66, 0xf3}}, /* more prefixes than there are kinds */
    {1, {0x9d}},                         /* popf */
};

static void write_code(void)
{
    for (unsigned i = 0; i + FRAGMENT < CODE_BYTES;) {
        unsigned k = (unsigned)(chance() % ARRAY_LEN(fragments));
        memcpy(code + i, fragments[k].bytes, fragments[k].length);
        i += fragments[k].length;
        unsigned tail = (unsigned)(chance() % 7);
        for (uint64_t bytes = chance(); tail--; bytes >>= 8)
            code[i++] = (uint8_t)bytes;
    }
}

static uint64_t somewhere(void)
{
    return (uint64_t)code + chance() % (CODE_BYTES - 64);
}

/* Of the local APIC. */
enum { TIMER_VECTOR = 0x60, TIMER_COUNT = 20000 };

/* Numbers, addresses of the code and the stack, and what is near their edges. */
static uint64_t some_register(void)
{
    uint64_t v = chance();
    switch (v & 7) {
    case 0: return somewhere();
    case 1: return (uint64_t)test_stack + (v >> 8) % sizeof test_stack;
    case 2: return ((uint64_t)code | 4095) - (v >> 8) % 40;
    case 3: return ~(v >> (v >> 58));
    case 4: return (v >> 32) << 32;
    default: return v >> (v >> 58);
    }
}

static void run_wild(unsigned level)
{
    struct context c = at_level(level);
    uint64_t *registers = (uint64_t *)&c, rsp = c.rsp;
    for (unsigned i = 0; i < 15; i++)
        registers[i] = some_register();
    c.rsp = chance() & 3 ? rsp : some_register();
    c.rflags |= FLAG_IF | (chance() & (FLAG_CF | FLAG_ZF | FLAG_SF | FLAG_OF | FLAG_DF));
    apic_set(INITIAL, TIMER_COUNT);
    run_code(&c, (const void *)somewhere());
    apic_set(EOI, 0);
}

_Noreturn void guest_panic(const char *why, uint64_t a, uint64_t b)
{
    for (;;)
        __asm__ volatile("cli; hlt" : : "r"(why), "r"(a), "r"(b));
}

/* RBX: Multiboot information; the command line's address is its fifth word. */
_Noreturn void wild_main(const uint32_t *info);
__asm__(".globl guest_main\n"
        "guest_main: mov %ebx, %edi\n"
        "    call wild_main\n");
_Noreturn void wild_main(const uint32_t *info)
{
    const char *line = (const char *)(uint64_t)info[4];
    while (*line && *line++ != ' ') /* the loader puts the image's name first */
        ;
    for (; *line >= '0' && *line <= '9'; line++)
        state = state * 10 + (uint64_t)(*line - '0');
    unsigned level = state & 1 ? 3 : 0;
    write_cr0((read_cr0() | CR0_MP | CR0_NE) & ~(unsigned long)(CR0_EM | CR0_TS));
    write_cr4(read_cr4() | CR4_OSFXSR | 1 << 10 | 1 << 16 | 1 << 18);
    uint32_t a, b, c, d;
    cpuid(0xd, &a, &b, &c, &d);
    __asm__ volatile("xsetbv" : : "a"(a & 0xe7), "d"(0), "c"(0));
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    write_code();
    wrmsr(MSR_LSTAR, somewhere());
    wrmsr(MSR_STAR, (uint64_t)CODE0 << 32 | (uint64_t)(CODE32_3 & ~3) << 48);
    wrmsr(MSR_GS_BASE, chance() >> 17);
    wrmsr(MSR_KERNEL_GS_BASE, ~(chance() >> 17));
    for (unsigned v = 0; v < 256; v++)
        idt[v] = gate(CODE0, trap_entry(v), G_INTERRUPT | dpl(v & 1 ? 3 : 0), 1);
    apic_set(SVR, 0x1ff);
    apic_set(DIVIDE, BY_ONE);
    apic_set(LVT_TIMER, TIMER_VECTOR);
    for (;;)
        run_wild(level);
}

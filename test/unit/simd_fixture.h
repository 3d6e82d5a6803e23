/*
 * What the tests of vector instructions stand on: a processor made by hand, the host's processor
 * behind a function call, and random states to put into both.
 */
#ifndef DOPPEL_TEST_SIMD_FIXTURE_H
#define DOPPEL_TEST_SIMD_FIXTURE_H

#include "test.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "memory/memory.h"
#include "special.h"
#include "x86/cpuid.h"
#include "x86/sem/simd.h"

/* ---- random numbers: the same ones in each run ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static inline uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

static inline unsigned below(unsigned n)
{
    return (unsigned)(random64() >> 33) % n;
}

static inline uint32_t special32(void)
{
    uint32_t v = special_floats[below(ARRAY_LEN(special_floats))];
    return below(4) ? v : v + below(5) - 2;
}

static inline uint64_t special64(void)
{
    uint64_t v = special_doubles[below(ARRAY_LEN(special_doubles))];
    return below(4) ? v : v + below(5) - 2;
}

/* Operands of one kind, or (as often) of mixed kinds. */
static inline void random_lane(union simd_lane *v)
{
    unsigned kind = below(8);
    for (unsigned i = 0; i < 2; i++) {
        switch (kind) {
        case 0:
        case 1: v->u64[i] = special32() | (uint64_t)special32() << 32; break;
        case 2:
        case 3: v->u64[i] = special64(); break;
        case 4: /* a string of few letters */
            for (unsigned j = 8 * i; j < 8 * i + 8; j++)
                v->u8[j] = below(6) ? (uint8_t)('a' + below(3)) : 0;
            break;
        case 5: /* close to each other, not far from 1 */
            v->u32[2 * i] = 0x3f000000 + (uint32_t)below(0x1000000);
            v->u32[2 * i + 1] = 0x3f000000 + (uint32_t)below(0x1000000);
            break;
        case 6: v->u64[i] = below(40); break;
        default: v->u64[i] = random64(); break;
        }
    }
}

/* ---- the host's processor ---- */

struct native {
    _Alignas(16) uint8_t fx[512];
    uint64_t rax, rcx, rdx, rdi, flags;
    uint32_t mxcsr_default;
};

void native_run(struct native *n, const void *code);
__asm__(".text\n"
        "native_run:\n"
        "   push %rbx\n   push %rbp\n   mov %rdi, %rbx\n   mov %rsi, %rbp\n"
        "   fxrstor64 (%rbx)\n"
        "   mov 512(%rbx), %rax\n   mov 520(%rbx), %rcx\n   mov 528(%rbx), %rdx\n"
        "   mov 536(%rbx), %rdi\n   push 544(%rbx)\n   popfq\n"
        "   call *%rbp\n"
        "   pushfq\n   pop 544(%rbx)\n"
        "   mov %rax, 512(%rbx)\n   mov %rcx, 520(%rbx)\n   mov %rdx, 528(%rbx)\n"
        "   fxsave64 (%rbx)\n"
        "   emms\n   ldmxcsr 552(%rbx)\n   pop %rbp\n   pop %rbx\n   ret\n");

static sigjmp_buf native_fault;
static struct native *native_now;

static inline void on_signal(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    (void)info;
    memcpy(native_now->fx, u->uc_mcontext.fpregs, sizeof native_now->fx);
    native_now->rax = (uint64_t)u->uc_mcontext.gregs[REG_RAX];
    native_now->rcx = (uint64_t)u->uc_mcontext.gregs[REG_RCX];
    native_now->rdx = (uint64_t)u->uc_mcontext.gregs[REG_RDX];
    native_now->flags = (uint64_t)u->uc_mcontext.gregs[REG_EFL];
    siglongjmp(native_fault, signal);
}

/* Returns the vector of the fault taken, or -1. */
static inline int run_native(struct native *n, const void *code)
{
    native_now = n;
    n->mxcsr_default = 0x1f80;
    int signal = sigsetjmp(native_fault, 1);
    if (signal == 0) {
        native_run(n, code);
        return -1;
    }
    __asm__ volatile("emms\n\tldmxcsr %0" : : "m"(n->mxcsr_default));
    return signal == SIGFPE ? X86_XM : signal == SIGILL ? X86_UD : X86_GP;
}

/* ---- ours ---- */

enum { RAM_SIZE = 1 << 20, WINDOW = 64 };

static struct x86_cpu *cpu;
static struct memory ram;
static uint8_t *native_ram; /* a page; behind it nothing is mapped, as behind the guest's RAM */
static uint8_t *code_page;
static unsigned outside_reads;

static inline uint64_t count_outside(void *ctx, uint64_t gpa, unsigned size)
{
    (void)ctx, (void)gpa, (void)size;
    outside_reads++;
    return ~UINT64_C(0);
}

static inline void ignore_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)ctx, (void)gpa, (void)size, (void)value;
    outside_reads++;
}

static inline bool set_up(void)
{
    if (cpu)
        return true;
    struct error err;
    cpu = calloc(1, sizeof *cpu);
    native_ram = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    code_page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!cpu || native_ram == MAP_FAILED || code_page == MAP_FAILED ||
        mprotect(native_ram + 4096, 4096, PROT_NONE) != 0 || !memory_create(&ram, RAM_SIZE, &err))
        return false;
    cpu->memory = &ram;
    cpu->host.mmio_read = count_outside;
    cpu->host.mmio_write = ignore_write;
    cpu->model = x86_model_at(0);
    x86_tlb_init(cpu);
    x86_state_reset(&cpu->s, true, false);
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->s.efer = EFER_LMA | EFER_LME;
    cpu->s.seg[X86_CS].attr = SEG_P | SEG_S | SEG_CODE | SEG_WRITABLE | SEG_L;
    x86_update_mode(cpu);

    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGFPE, &action, NULL);
    sigaction(SIGILL, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    return true;
}

static inline int run_ours(const struct sem *sem, struct op *op)
{
    op->len = op->end = 1;
    if (setjmp(cpu->fault_jump) != 0)
        return cpu->fault.vector;
    sem->any(cpu, op);
    return -1;
}

/* A processor with all registers clear, in the mode that set_up() made. */
static inline bool fresh(void)
{
    if (!set_up())
        return false;
    memset(cpu->s.vec, 0, sizeof cpu->s.vec);
    memset(cpu->s.gpr, 0, sizeof cpu->s.gpr);
    x86_x87_init(&cpu->s, true);
    cpu->s.mxcsr = 0x1f80;
    cpu->s.pkru = 0;
    cpu->s.xcr0 = XCR0_X87 | XCR0_SSE;
    cpu->s.cr0 = CR0_PE | CR0_ET | CR0_NE;
    cpu->s.cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    x86_update_mode(cpu);
    return true;
}

/* ---- states ---- */

static inline void random_state_into(struct native *n)
{
    memset(n, 0, sizeof *n);
    for (unsigned i = 0; i < 16; i++) {
        union simd_lane v;
        random_lane(&v);
        memcpy(n->fx + 160 + 16 * i, &v, 16);
    }
    for (unsigned i = 0; i < 8; i++) {
        union simd_lane v;
        random_lane(&v);
        memcpy(n->fx + 32 + 16 * i, &v, 8);
        store_u16(n->fx + 40 + 16 * i, (uint16_t)random64());
    }
    store_u16(n->fx, 0x37f);
    store_u16(n->fx + 2, (uint16_t)(below(8) << 11));
    n->fx[4] = (uint8_t)random64();
    uint32_t mxcsr = below(3) ? 0x1f80 : 0x1f80 & (uint32_t)random64();
    mxcsr |= (uint32_t)below(4) << 13 | (below(4) ? 0 : 0x40) | (below(4) ? 0 : 0x8000);
    mxcsr |= below(8) ? 0 : below(0x40);
    store_u32(n->fx + 24, mxcsr);
    n->rax = below(2) ? below(40) - 20 : random64();
    n->rcx = below(2) ? special64() : random64();
    n->rdx = below(2) ? below(40) - 20 : special32();
    n->flags = 0x202 | (random64() & FLAGS_STATUS);
}

static inline void load_ours(const struct native *n)
{
    x86_fxrstor_x87(cpu, n->fx, true);
    for (unsigned i = 0; i < 16; i++)
        memcpy(&cpu->s.vec[i], n->fx + 160 + 16 * i, 16);
    cpu->s.mxcsr = load_u32(n->fx + 24);
    cpu->s.gpr[X86_RAX] = n->rax;
    cpu->s.gpr[X86_RCX] = n->rcx;
    cpu->s.gpr[X86_RDX] = n->rdx;
    x86_set_status(cpu, n->flags);
}

static inline void store_ours(struct native *n)
{
    x86_fxsave_x87(cpu, n->fx, true);
    for (unsigned i = 0; i < 16; i++)
        memcpy(n->fx + 160 + 16 * i, &cpu->s.vec[i], 16);
    store_u32(n->fx + 24, cpu->s.mxcsr);
    n->rax = cpu->s.gpr[X86_RAX];
    n->rcx = cpu->s.gpr[X86_RCX];
    n->rdx = cpu->s.gpr[X86_RDX];
    n->flags = x86_rflags(cpu);
}

/* The x87 and MMX registers and the words round them, without the pointers. */
static inline bool same_x87(const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 32; i < 160; i += 16)
        if (memcmp(a + i, b + i, 10) != 0)
            return false;
    return memcmp(a, b, 5) == 0;
}

static inline void print_bytes(const char *what, const uint8_t *p, unsigned n)
{
    printf("#   %s", what);
    for (unsigned i = n; i-- > 0;)
        printf("%02x%s", p[i], i % 8 ? "" : " ");
    printf("\n");
}

static inline void print_state(const char *who, const struct native *n, int fault)
{
    printf("#  %s: fault %d mxcsr %04x flags %03x rax %llx rcx %llx rdx %llx\n", who, fault,
           load_u32(n->fx + 24), (unsigned)(n->flags & FLAGS_STATUS), (unsigned long long)n->rax,
           (unsigned long long)n->rcx, (unsigned long long)n->rdx);
    for (unsigned i = 0; i < 3; i++)
        print_bytes("xmm ", n->fx + 160 + 16 * i, 16);
    for (unsigned i = 0; i < 3; i++)
        print_bytes("st  ", n->fx + 32 + 16 * i, 10);
    print_bytes("cw, sw, tag ", n->fx, 5);
}

#endif

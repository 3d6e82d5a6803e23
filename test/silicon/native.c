/*
 * A child goes from case to case inside of its signal handler: the handler notes how the last case
 * ended, changes the signal frame into the next case's state, and returns; the kernel loads it.
 * Nothing of the C library runs in the child then: its FS is the case's. This file is compiled
 * without sanitizers for the same reason.
 */
#include "native.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/* What parent and children share. */
struct shared {
    volatile unsigned next, count; /* the case that runs, or is about to */
    struct silicon_case cases[NATIVE_BATCH];
    struct case_end ends[NATIVE_BATCH];
    uint8_t status[NATIVE_BATCH]; /* enum native_status */
};

struct native {
    struct shared *shared;
    const struct case_pattern *pattern;
    uint8_t *code, *data; /* other mappings of the pages, that can be written */
    uint8_t *stack;       /* for signals */
    bool segments, avx, avx512;
    unsigned offset[3]; /* of AVX-512's components in the host's XSAVE area */
};

/* In the XSAVE image of a signal frame. */
enum { XSTATE_BV = 512, XSAVE_UPPER = 576 };

enum { SIGNAL_STACK = 256 << 10 };

/* A child that hangs in a case is ended after so many seconds. */
enum { CHILD_SECONDS = 20 };

/* The handler's; a child has one thread and one purpose. */
static const struct native *running;
static bool started;

/* ---- without the C library ---- */

static inline void copy(void *to, const void *from, size_t n)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
}

static inline void fill(void *to, uint8_t byte, size_t n)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
}

static inline long system_call(long number, long a, long b, long c)
{
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return result;
}

/* ---- AVX-512's components in a signal's XSAVE area ---- */

enum { FIRST_AVX512 = 5, AVX512_COMPONENTS = 3 };

static inline uint8_t *component(struct case_regs *regs, unsigned i, unsigned *size)
{
    switch (i) {
    case 0: *size = CASE_MASKS; return regs->masks;
    case 1: *size = CASE_ZMM_UPPER; return regs->zmm_upper;
    default: *size = CASE_ZMM_MORE; return regs->zmm_more;
    }
}

static void note_avx512(const uint8_t *xsave, struct case_regs *regs)
{
    for (unsigned i = 0; i < AVX512_COMPONENTS; i++) {
        unsigned size;
        uint8_t *to = component(regs, i, &size);
        if (running->avx512 && xsave[XSTATE_BV] >> (FIRST_AVX512 + i) & 1)
            copy(to, xsave + running->offset[i], size);
        else
            fill(to, 0, size);
    }
}

static void load_avx512(uint8_t *xsave, const struct case_regs *regs)
{
    for (unsigned i = 0; running->avx512 && i < AVX512_COMPONENTS; i++) {
        unsigned size;
        const uint8_t *from = component((struct case_regs *)regs, i, &size);
        copy(xsave + running->offset[i], from, size);
        xsave[XSTATE_BV] |= (uint8_t)(1u << (FIRST_AVX512 + i));
    }
}

/* ---- the handler ---- */

static const uint8_t greg_order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                       REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                       REG_R12, REG_R13, REG_R14, REG_R15};

static void note_end(const ucontext_t *u, struct case_end *e)
{
    const greg_t *g = u->uc_mcontext.gregs;
    for (unsigned i = 0; i < 16; i++)
        e->after.gpr[i] = (uint64_t)g[greg_order[i]];
    e->after.rip = (uint64_t)g[REG_RIP];
    e->after.rflags = (uint64_t)g[REG_EFL];
    e->vector = (uint32_t)g[REG_TRAPNO];
    e->error = (uint32_t)g[REG_ERR];
    e->cr2 = e->vector == X86_PF ? (uint64_t)g[REG_CR2] : 0;
    const uint8_t *xsave = (const uint8_t *)u->uc_mcontext.fpregs;
    copy(e->after.fx, xsave, CASE_FX);
    if (!running->avx)
        copy(e->after.upper, running->shared->cases[running->shared->next].before.upper,
             CASE_UPPER);
    else if (xsave[XSTATE_BV] & XCR0_AVX)
        copy(e->after.upper, xsave + XSAVE_UPPER, CASE_UPPER);
    else
        fill(e->after.upper, 0, CASE_UPPER);
    note_avx512(xsave, &e->after);
    copy(e->data, running->data, CASE_WRITABLE);
}

static void put_code(const struct silicon_case *c, bool in)
{
    uint8_t *to = running->code + (c->before.rip - CASE_CODE);
    uint64_t room = CASE_CODE + CASE_CODE_SIZE - c->before.rip;
    uint64_t n = c->len < room ? c->len : room;
    if (in)
        copy(to, c->bytes, n);
    else
        fill(to, 0xcc, n);
}

static void load_case(ucontext_t *u, const struct silicon_case *c)
{
    greg_t *g = u->uc_mcontext.gregs;
    uint8_t *xsave = (uint8_t *)u->uc_mcontext.fpregs;
    for (unsigned i = 0; i < 16; i++)
        g[greg_order[i]] = (greg_t)c->before.gpr[i];
    g[REG_RIP] = (greg_t)c->before.rip;
    g[REG_EFL] = (greg_t)c->before.rflags;
    uint64_t cs = c->code == X86_CODE64 ? CASE_CS64 : CASE_CS32;
    g[REG_CSGSFS] = (greg_t)(cs | (uint64_t)CASE_DS << 48);
    u->uc_flags |= 6; /* UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
    copy(xsave, c->before.fx, 28);
    copy(xsave + 32, c->before.fx + 32, CASE_FX - 32);
    xsave[XSTATE_BV] |= XCR0_X87 | XCR0_SSE; /* their state is there */
    if (running->avx) {
        copy(xsave + XSAVE_UPPER, c->before.upper, CASE_UPPER);
        xsave[XSTATE_BV] |= XCR0_AVX;
    }
    load_avx512(xsave, &c->before);
    copy(running->data, running->pattern->bytes, CASE_READABLE);
    for (unsigned i = 0; i < c->patches; i++)
        copy(running->data + c->patch[i].at, c->patch[i].bytes, c->patch[i].size);
    put_code(c, true);
}

void native_handler(int signal, siginfo_t *info, void *context);

__attribute__((used)) void native_handler(int signal, siginfo_t *info, void *context)
{
    struct shared *s = running->shared;
    ucontext_t *u = context;
    if (started) {
        note_end(u, &s->ends[s->next]);
        put_code(&s->cases[s->next], false);
        s->status[s->next] = NATIVE_ENDED;
        s->next++;
    }
    started = true;
    if (s->next == s->count)
        system_call(SYS_exit_group, 0, 0, 0);
    load_case(u, &s->cases[s->next]);
}

/* Signals begin with the AC, NT and ID flags that the case left. */
void native_entry(int signal, siginfo_t *info, void *context);
__asm__(".text\n"
        "native_entry:\n"
        "   push %rbp\n"
        "   mov %rsp, %rbp\n"
        "   push $2\n"
        "   popfq\n"
        "   call native_handler\n"
        "   pop %rbp\n"
        "   ret\n");

/* ---- a child ---- */

static void set_segments(const struct native *n, unsigned code)
{
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"(CASE_DS));
    if (code == X86_CODE64) {
        system_call(SYS_arch_prctl, ARCH_SET_GS, (long)CASE_GS64_BASE, 0);
        system_call(SYS_arch_prctl, ARCH_SET_FS, (long)CASE_FS64_BASE, 0);
    } else {
        __asm__ volatile("mov %0, %%fs" : : "r"(n->segments ? CASE_FS32 : 0));
        __asm__ volatile("mov %0, %%gs" : : "r"(n->segments ? CASE_GS32 : 0));
    }
}

/* Whatever else lies below 4 GiB (a sanitizer's shadow) is not there for the child. */
static void clear_low_memory(void)
{
    const uint64_t keep[] = {0x1000,
                             CASE_DATA,
                             CASE_DATA + CASE_READABLE,
                             CASE_CODE,
                             CASE_CODE + CASE_CODE_SIZE,
                             UINT64_C(1) << 32};
    for (unsigned i = 0; i < ARRAY_LEN(keep); i += 2)
        system_call(SYS_munmap, (long)keep[i], (long)(keep[i + 1] - keep[i]), 0);
}

/* Pages that are not in the page tables yet would be reported as not present. */
static void touch_pages(void)
{
    for (uint64_t at = 0; at < CASE_READABLE; at += CASE_PAGE)
        (void)*(volatile uint8_t *)(uintptr_t)(CASE_DATA + at);
    for (uint64_t at = 0; at < CASE_CODE_SIZE; at += CASE_PAGE)
        (void)*(volatile uint8_t *)(uintptr_t)(CASE_CODE + at);
}

static _Noreturn void child(const struct native *n)
{
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    stack_t stack = {.ss_sp = n->stack, .ss_size = SIGNAL_STACK};
    struct sigaction action = {.sa_sigaction = native_entry, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGALRM);
    sigaltstack(&stack, NULL);
    signal(SIGALRM, SIG_DFL);
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &action, NULL);
    alarm(CHILD_SECONDS);
    running = n;
    unsigned code = n->shared->cases[n->shared->next].code;
    clear_low_memory();
    touch_pages();
    set_segments(n, code);
    __asm__ volatile("int3");
    system_call(SYS_exit_group, 1, 0, 0);
    __builtin_unreachable();
}

bool native_run(struct native *n, unsigned count, struct error *err)
{
    struct shared *s = n->shared;
    memset(s->status, NATIVE_NOT_RUN, sizeof s->status);
    memset(n->code, 0xcc, CASE_CODE_SIZE);
    s->next = 0;
    s->count = count;
    while (s->next < count) {
        pid_t pid = fork();
        if (pid < 0)
            return error_set(err, "fork: %s", strerror(errno));
        if (pid == 0)
            child(n);
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (s->next < count) {
            memset(n->code, 0xcc, CASE_CODE_SIZE);
            s->status[s->next++] = NATIVE_LOST;
        }
    }
    return true;
}

/* ---- setting up ---- */

/* Pages at a fixed address, and a second mapping of them to write through. */
static uint8_t *map_pages(uint64_t at, size_t size, int protection, uint8_t **alias)
{
    int fd = memfd_create("silicon", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0)
        return NULL;
    void *p =
        mmap((void *)(uintptr_t)at, size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    *alias = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED || *alias == MAP_FAILED ? NULL : p;
}

/* The LDT is the parent's; children have a copy of it. */
static bool set_ldt(void)
{
    struct user_desc fs = {.entry_number = 0,
                           .base_addr = (unsigned)CASE_FS32_BASE,
                           .limit = CASE_WRITABLE - 1,
                           .seg_32bit = 1,
                           .useable = 1};
    struct user_desc gs = {.entry_number = 1,
                           .base_addr = (unsigned)CASE_GS32_BASE,
                           .limit = 0xfffff,
                           .seg_32bit = 1,
                           .read_exec_only = 1,
                           .limit_in_pages = 1,
                           .useable = 1};
    return syscall(SYS_modify_ldt, 0x11, &fs, sizeof fs) == 0 &&
           syscall(SYS_modify_ldt, 0x11, &gs, sizeof gs) == 0;
}

bool native_open(struct native **out, const struct case_pattern *pattern, struct error *err)
{
    struct native *n = calloc(1, sizeof *n);
    *out = n;
    if (!n)
        return error_set(err, "no memory");
    n->pattern = pattern;
    n->shared =
        mmap(NULL, sizeof *n->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    n->stack = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *data = map_pages(CASE_DATA, CASE_READABLE, PROT_READ | PROT_WRITE, &n->data);
    uint8_t *code = map_pages(CASE_CODE, CASE_CODE_SIZE, PROT_READ | PROT_EXEC, &n->code);
    if (n->shared == MAP_FAILED || n->stack == MAP_FAILED || !data || !code ||
        mprotect(data + CASE_WRITABLE, CASE_PAGE, PROT_READ) != 0)
        return error_set(err, "mapping the pages that cases use: %s", strerror(errno));
    n->segments = set_ldt();
    n->avx = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    n->avx512 = __builtin_cpu_supports("avx512f");
    for (unsigned i = 0; n->avx512 && i < AVX512_COMPONENTS; i++) {
        unsigned a, c, d;
        n->avx512 = __get_cpuid_count(0xd, FIRST_AVX512 + i, &a, &n->offset[i], &c, &d);
    }
    return true;
}

void native_close(struct native *n)
{
    munmap((void *)(uintptr_t)CASE_DATA, CASE_READABLE);
    munmap((void *)(uintptr_t)CASE_CODE, CASE_CODE_SIZE);
    munmap(n->data, CASE_READABLE);
    munmap(n->code, CASE_CODE_SIZE);
    munmap(n->stack, SIGNAL_STACK);
    munmap(n->shared, sizeof *n->shared);
    free(n);
}

struct silicon_case *native_cases(struct native *n)
{
    return n->shared->cases;
}

enum native_status native_status(const struct native *n, unsigned i)
{
    return (enum native_status)n->shared->status[i];
}

const struct case_end *native_end(const struct native *n, unsigned i)
{
    return &n->shared->ends[i];
}

bool native_has_segments(const struct native *n)
{
    return n->segments;
}

bool native_has_avx(const struct native *n)
{
    return n->avx;
}

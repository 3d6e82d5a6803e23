#include "engine/binary/cage.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/bytes.h"

extern const uint8_t cage_code[], cage_code_work[], cage_code_go[], cage_code_frame[],
    cage_code_end[];

enum { PAGE = 4096 };

/* What a cage maps of the monitor's: a page with an ELF header and the code behind it, and the
 * calls, of which the last place holds the filter for its system calls. Its own pages follow in the
 * file. */
enum { CALLS_SIZE = 16 * PAGE, IMAGE_SIZE = PAGE + CALLS_SIZE };
enum { FILE_SIZE = IMAGE_SIZE + CAGE_PAGES * PAGE };
enum { FILTER_SIZE = 256, CALLS = (CALLS_SIZE - FILTER_SIZE) / sizeof(struct cage_call) };
enum { MEMORY_FD = 0, FILE_FD = 1 }; /* in the cage */

struct header {
    Elf64_Ehdr elf;
    Elf64_Phdr load;
};

/* ---- its beginning ---- */

static uint64_t code_at(const struct cage *c)
{
    return c->base + sizeof(struct header);
}

/* How far a place in cage_code.S is from its beginning; and where it is, in the cage. */
static size_t offset_of(const uint8_t *place)
{
    return (uintptr_t)place - (uintptr_t)cage_code;
}

static uint64_t place_at(const struct cage *c, const uint8_t *place)
{
    return code_at(c) + offset_of(place);
}

/* A program of one segment, that Linux loads at c->base. */
static bool write_image(const struct cage *c, int fd)
{
    const struct header h = {
        .elf = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
                            EV_CURRENT},
                .e_type = ET_EXEC,
                .e_machine = EM_X86_64,
                .e_version = EV_CURRENT,
                .e_entry = code_at(c),
                .e_phoff = offsetof(struct header, load),
                .e_ehsize = sizeof(Elf64_Ehdr),
                .e_phentsize = sizeof(Elf64_Phdr),
                .e_phnum = 1},
        .load = {.p_type = PT_LOAD,
                 .p_flags = PF_R | PF_X,
                 .p_vaddr = c->base,
                 .p_paddr = c->base,
                 .p_filesz = IMAGE_SIZE,
                 .p_memsz = IMAGE_SIZE,
                 .p_align = PAGE},
    };
    size_t code = offset_of(cage_code_end);
    return ftruncate(fd, FILE_SIZE) == 0 && pwrite(fd, &h, sizeof h, 0) == sizeof h &&
           pwrite(fd, cage_code, code, sizeof h) == (ssize_t)code;
}

struct beginning {
    int image, memory;
};

/* In the new process, which shares the monitor's memory until it executes the image. */
static int begin(void *argument)
{
    const struct beginning *b = argument;
    char name[] = "doppel-cage", *arguments[] = {name, NULL}, *environment[] = {NULL};
    int image = fcntl(b->image, F_DUPFD, FILE_FD + 1), /* out of each other's way */
        memory = fcntl(b->memory, F_DUPFD, FILE_FD + 1);
    sigset_t none;
    sigemptyset(&none);
    setsid(); /* the terminal's signals are not for it */
    if (dup2(image, FILE_FD) < 0 || dup2(memory, MEMORY_FD) < 0 ||
        syscall(SYS_close_range, 2, ~0u, 0) != 0)
        _exit(1);
    sigprocmask(SIG_SETMASK, &none, NULL);
    syscall(SYS_execveat, FILE_FD, "", arguments, environment, AT_EMPTY_PATH);
    _exit(1);
}

enum { BEGINNING_STACK = 32 << 10 };

static pid_t start(int image, int memory_fd)
{
    struct beginning b = {image, memory_fd};
    uint8_t *stack = malloc(BEGINNING_STACK);
    sigset_t all, old;
    pid_t pid = -1;
    if (!stack)
        return -1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* our handlers are not for it */
    pid = clone(begin, stack + BEGINNING_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &b);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    free(stack);
    return pid;
}

static long trace(const struct cage *c, int request, uintptr_t address, uintptr_t data)
{
    return ptrace((enum __ptrace_request)request, c->pid, (void *)address, (void *)data);
}

/* Waits until it stops. Returns waitpid()'s status, or -1: it is gone. */
static int wait_for(const struct cage *c)
{
    int status;
    while (waitpid(c->pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return -1;
    return WIFSTOPPED(status) ? status : -1;
}

static int event(int status)
{
    return status >> 16;
}

/* ---- what it is let do ---- */

static struct cage_call *add_call(struct cage *c, uint64_t number)
{
    if (c->queued == CALLS && !cage_settle(c))
        return NULL;
    struct cage_call *call = &c->calls[c->queued++];
    *call = (struct cage_call){.number = number};
    return call;
}

/* Adds one with up to three arguments. */
static bool call(struct cage *c, uint64_t number, uint64_t a, uint64_t b, uint64_t d)
{
    struct cage_call *added = add_call(c, number);
    if (!added)
        return false;
    added->argument[0] = a;
    added->argument[1] = b;
    added->argument[2] = d;
    return true;
}

static uint64_t calls_at(const struct cage *c)
{
    return c->base + PAGE;
}

#define LOAD(member) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, member))
#define UPPER_HALF_OF(n)                                                                           \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[n]) + 4)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (skip))
#define IF(value, skip)     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (skip), 0)

/* From here on it maps, unmaps and asks for faults (prctl(2)), where it knows the two numbers, and
 * does nothing more. */
static bool restrict_calls(struct cage *c)
{
    uint32_t secret[2];
    if (getrandom(secret, sizeof secret, 0) != sizeof secret)
        return false;
    const struct sock_filter filter[] = {
        LOAD(arch),
        UNLESS(AUDIT_ARCH_X86_64, 9),
        LOAD(nr),
        IF(SYS_mmap, 2),
        IF(SYS_prctl, 1),
        UNLESS(SYS_munmap, 5),
        UPPER_HALF_OF(3),
        UNLESS(secret[0], 3),
        UPPER_HALF_OF(4),
        UNLESS(secret[1], 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {ARRAY_LEN(filter), NULL};
    uint8_t *there = (uint8_t *)c->calls + CALLS_SIZE - FILTER_SIZE;
    uint64_t at = calls_at(c) + CALLS_SIZE - FILTER_SIZE, code = at + sizeof program;
    _Static_assert(sizeof program + sizeof filter <= FILTER_SIZE, "they fit");
    memcpy(there, &program, sizeof program);
    memcpy(there + offsetof(struct sock_fprog, filter), &code, sizeof code);
    memcpy(there + sizeof program, filter, sizeof filter);
    bool done = call(c, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0) &&
                call(c, SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, at) && cage_settle(c);
    memset(there, 0, FILTER_SIZE); /* nobody in it is to read them */
    for (unsigned i = 0; i < ARRAY_LEN(secret); i++)
        c->secret[i] = (uint64_t)secret[i] << 32;
    return done;
}

/* What is queued, done by cage_code_work. */
static struct user_regs_struct at_work(const struct cage *c)
{
    return (struct user_regs_struct){.rip = place_at(c, cage_code_work),
                                     .rbx = calls_at(c),
                                     .r12 = c->queued,
                                     .r13 = c->secret[0],
                                     .r14 = c->secret[1],
                                     .cs = CAGE_CS,
                                     .ss = CAGE_SS,
                                     .eflags = 0x202,
                                     .orig_rax = ~UINT64_C(0)};
}

static void forget_calls(struct cage *c)
{
    bytes_fill(c->calls, 0, c->queued * sizeof *c->calls);
    c->queued = 0;
}

static bool is_fault(int signal)
{
    return signal == SIGTRAP || signal == SIGILL || signal == SIGSEGV || signal == SIGBUS ||
           signal == SIGFPE || signal == SIGSYS;
}

static bool wait_for_calls(const struct cage *c, const struct user_regs_struct *r)
{
    int status;
    if (trace(c, PTRACE_SETREGS, 0, (uintptr_t)r) != 0)
        return false;
    do {
        if (trace(c, PTRACE_CONT, 0, 0) != 0)
            return false;
        status = wait_for(c);
    } while (status >= 0 && (event(status) || !is_fault(WSTOPSIG(status))));
    return status >= 0 && WSTOPSIG(status) == SIGTRAP;
}

/* From `r` on to the INT3 behind the calls. Signals from elsewhere, and cage_interrupt(), wait. */
static bool finish_calls(struct cage *c, const struct user_regs_struct *r)
{
    c->stuck |= !wait_for_calls(c, r);
    forget_calls(c);
    return !c->stuck;
}

bool cage_settle(struct cage *c)
{
    struct user_regs_struct r = at_work(c);
    return !c->queued || finish_calls(c, &r);
}

bool cage_map(struct cage *c, uint64_t at, uint64_t size, uint64_t offset, unsigned rights)
{
    if (c->queued) { /* it may go on where the one before ends */
        struct cage_call *last = &c->calls[c->queued - 1];
        uint64_t *a = last->argument;
        if (last->number == SYS_mmap && a[0] + a[1] == at && a[5] + a[1] == offset &&
            a[2] == rights && a[4] == MEMORY_FD) {
            a[1] += size;
            return true;
        }
    }
    struct cage_call *new = add_call(c, SYS_mmap);
    if (!new)
        return false;
    const uint64_t a[] = {at, size, rights, MAP_SHARED | MAP_FIXED, MEMORY_FD, offset};
    bytes_copy(new->argument, a, sizeof a);
    return true;
}

bool cage_map_page(struct cage *c, uint64_t at, unsigned n, unsigned rights)
{
    struct cage_call *new = add_call(c, SYS_mmap);
    const uint64_t a[] = {at, PAGE, rights, MAP_SHARED | MAP_FIXED, FILE_FD, IMAGE_SIZE + n * PAGE};
    if (new)
        bytes_copy(new->argument, a, sizeof a);
    return new;
}

uint8_t *cage_page(const struct cage *c, unsigned n)
{
    return c->image + IMAGE_SIZE + (size_t)n * PAGE;
}

bool cage_unmap(struct cage *c, uint64_t at, uint64_t size)
{
    if (c->queued) {
        struct cage_call *last = &c->calls[c->queued - 1];
        if (last->number == SYS_munmap && last->argument[0] + last->argument[1] == at) {
            last->argument[1] += size;
            return true;
        }
    }
    return call(c, SYS_munmap, at, size, 0);
}

bool cage_clear(struct cage *c)
{
    uint64_t behind = c->base + IMAGE_SIZE;
    c->queued = 0; /* it is for nothing now */
    return cage_unmap(c, 0, c->base) && cage_unmap(c, behind, CAGE_TOP - behind) && cage_settle(c);
}

bool cage_overlaps(const struct cage *c, uint64_t at, uint64_t size)
{
    return at < c->base + IMAGE_SIZE && c->base < at + size;
}

/* ---- making one ---- */

/* Somewhere that no guest expects anything. */
static bool choose_base(struct cage *c)
{
    uint64_t number;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return false;
    c->base = (UINT64_C(1) << 32) + (number % (UINT64_C(1) << 46) & ~(uint64_t)(PAGE - 1));
    return true;
}

/* Under our control, and with nothing in it but its own. */
static bool take_control(struct cage *c)
{
    int status = -1;
    if (trace(c, PTRACE_SEIZE, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) != 0 ||
        trace(c, PTRACE_INTERRUPT, 0, 0) != 0)
        return false;
    status = wait_for(c);
    return status >= 0 && restrict_calls(c) && cage_clear(c);
}

static size_t area_size(const struct cage *c)
{
    static const size_t most = 1 << 16;
    uint8_t *area = malloc(most);
    struct iovec v = {area, most};
    if (!area || trace(c, PTRACE_GETREGSET, NT_X86_XSTATE, (uintptr_t)&v) != 0)
        v.iov_len = 0;
    free(area);
    return v.iov_len;
}

static bool make(struct cage *c, int memory_fd, struct error *err)
{
    int fd = memfd_create("cage", MFD_CLOEXEC);
    bool written = fd >= 0 && choose_base(c) && write_image(c, fd);
    void *image =
        written ? mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (image != MAP_FAILED) {
        c->image = image;
        c->calls = (struct cage_call *)(void *)(c->image + PAGE);
        c->pid = start(fd, memory_fd);
    }
    if (fd >= 0)
        close(fd);
    if (c->pid < 0)
        return error_errno(err, "a process for the guest's user code can't be made");
    if (!take_control(c) || !(c->area = area_size(c)))
        return error_errno(err, "the host does not let processes be traced (ptrace)");
    return true;
}

/* Its tracer waits for it, and nobody else is to be woken at each stop: vCPU threads block signals,
 * so that SIGCHLD, which by default nobody gets, would go to whatever thread does not. */
static void be_quiet_about_stops(void)
{
    struct sigaction a;
    if (sigaction(SIGCHLD, NULL, &a) == 0 && !(a.sa_flags & SA_NOCLDSTOP)) {
        a.sa_flags |= SA_NOCLDSTOP;
        sigaction(SIGCHLD, &a, NULL);
    }
}

struct cage *cage_create(int memory_fd, struct error *err)
{
    struct cage *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, "no memory");
        return NULL;
    }
    be_quiet_about_stops();
    c->pid = -1;
    c->cpu = -1;
    c->tracer = gettid();
    sched_getaffinity(0, sizeof c->cpus, &c->cpus);
    if (make(c, memory_fd, err))
        return c;
    cage_destroy(c);
    return NULL;
}

void cage_destroy(struct cage *c)
{
    if (!c)
        return;
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        while (waitpid(c->pid, NULL, __WALL) < 0 && errno == EINTR)
            continue;
    }
    if (c->image)
        munmap(c->image, FILE_SIZE);
    free(c);
}

bool cage_is_mine(const struct cage *c)
{
    return c->tracer == gettid();
}

bool cage_is_gone(const struct cage *c)
{
    struct user_regs_struct r;
    return trace(c, PTRACE_GETREGS, 0, (uintptr_t)&r) != 0;
}

/* ---- running ---- */

/* A call to Linux' vsyscall page is done on the way into it, but for what the filter forbids, which
 * is reported behind it: back to before. */
static enum cage_stop after_filter(const struct cage *c, struct user_regs_struct *regs)
{
    siginfo_t info;
    if (trace(c, PTRACE_GETSIGINFO, 0, (uintptr_t)&info) != 0)
        return CAGE_LOST;
    if ((uintptr_t)info.si_call_addr == regs->rip)
        return CAGE_CALL;
    regs->rip = (uintptr_t)info.si_call_addr;
    regs->rsp -= 8;
    return CAGE_EXCEPTION;
}

static enum cage_stop after_fault(const struct cage *c, uint64_t *address)
{
    siginfo_t info;
    if (trace(c, PTRACE_GETSIGINFO, 0, (uintptr_t)&info) != 0)
        return CAGE_LOST;
    if (info.si_code <= 0 || info.si_code == SI_KERNEL)
        return CAGE_EXCEPTION;
    *address = (uintptr_t)info.si_addr;
    return CAGE_FAULT;
}

/* Which of them it is, nothing else says: the instruction behind an INT3 may have a breakpoint, and
 * the guest may take single steps. */
static enum cage_stop after_trap(const struct cage *c)
{
    siginfo_t info;
    if (trace(c, PTRACE_GETSIGINFO, 0, (uintptr_t)&info) != 0)
        return CAGE_LOST;
    return info.si_code == TRAP_TRACE    ? CAGE_STEP
           : info.si_code == TRAP_HWBKPT ? CAGE_BREAK
                                         : CAGE_TRAP;
}

static enum cage_stop why(const struct cage *c, int status, struct user_regs_struct *regs,
                          uint64_t *address)
{
    *address = ~UINT64_C(0);
    if (event(status))
        return CAGE_ASKED;
    switch (WSTOPSIG(status)) {
    case SIGTRAP | 0x80:            /* PTRACE_O_TRACESYSGOOD */
        regs->rax = regs->orig_rax; /* RAX is what such a call would return: -ENOSYS */
        return CAGE_CALL;
    case SIGSYS: return after_filter(c, regs);
    case SIGTRAP: return after_trap(c);
    case SIGSEGV:
    case SIGBUS: return after_fault(c, address);
    case SIGILL:
    case SIGFPE: return CAGE_EXCEPTION;
    default: return CAGE_ASKED; /* someone else's signal: it is not passed on */
    }
}

/* Bytes of the area that the host has and the caller does not are left out: components in their
 * initial state. */
bool cage_set_vectors(const struct cage *c, void *area, size_t size)
{
    if (c->area <= size) {
        struct iovec v = {area, c->area};
        return trace(c, PTRACE_SETREGSET, NT_X86_XSTATE, (uintptr_t)&v) == 0;
    }
    uint8_t *whole = calloc(1, c->area);
    struct iovec v = {whole, c->area};
    if (whole)
        bytes_copy(whole, area, size);
    bool set = whole && trace(c, PTRACE_SETREGSET, NT_X86_XSTATE, (uintptr_t)&v) == 0;
    free(whole);
    return set;
}

bool cage_get_vectors(const struct cage *c, void *area, size_t size)
{
    struct iovec v = {area, size};
    return trace(c, PTRACE_GETREGSET, NT_X86_XSTATE, (uintptr_t)&v) == 0;
}

/* The guest's registers as cage_code_go takes them. */
static void write_frame(struct cage *c, const struct user_regs_struct *r)
{
    const uint64_t frame[] = {r->eflags, r->rax, r->rcx, r->rdx, r->rbx, r->rbp,
                              r->rsi,    r->rdi, r->r8,  r->r9,  r->r10, r->r11,
                              r->r12,    r->r13, r->r14, r->r15, r->rsp, r->rip};
    bytes_copy(c->image + sizeof(struct header) + offset_of(cage_code_frame), frame, sizeof frame);
}

static bool is_ours(const struct cage *c, uint64_t rip)
{
    return rip - code_at(c) < offset_of(cage_code_frame);
}

/* Stopped for the status while it was still about the monitor's calls, or about to go on from
 * there: nothing of the guest has run. */
static enum cage_stop before_guest(struct cage *c, int status, struct user_regs_struct *at)
{
    if (!event(status) && is_fault(WSTOPSIG(status)))
        return CAGE_STUCK;
    if (at->rip >= place_at(c, cage_code_go)) {
        forget_calls(c);
        return CAGE_ASKED;
    }
    at->rbp = 0;
    at->orig_rax = ~UINT64_C(0);
    return finish_calls(c, at) ? CAGE_ASKED : CAGE_STUCK;
}

/* Whether the signal of a fault, trap or call that has happened waits behind the present stop: it
 * is told of next, before anything else runs. */
static bool fault_waits(const struct cage *c)
{
    siginfo_t info[4];
    struct __ptrace_peeksiginfo_args of = {.nr = ARRAY_LEN(info)};
    long n = trace(c, PTRACE_PEEKSIGINFO, (uintptr_t)&of, (uintptr_t)info);
    for (long i = 0; i < n; i++)
        if (is_fault(info[i].si_signo))
            return true;
    return false;
}

/* Lets it run until it stops, and says why: waitpid()'s status, or -1. A request comes after what
 * the guest has done by then. */
static int run_to_stop(const struct cage *c, int request)
{
    int status;
    do {
        if (trace(c, request, 0, 0) != 0)
            return -1;
        status = wait_for(c);
    } while (status >= 0 && event(status) && fault_waits(c));
    return status;
}

enum cage_stop cage_run(struct cage *c, struct user_regs_struct *regs, uint64_t *address)
{
    struct user_regs_struct r = at_work(c);
    bool calls = c->queued;
    if (c->stuck)
        return cage_is_gone(c) ? CAGE_LOST : CAGE_STUCK;
    regs->cs = CAGE_CS;
    regs->ss = CAGE_SS;
    regs->orig_rax = ~UINT64_C(0); /* it is in no system call that could be begun again */
    if (calls) {
        write_frame(c, regs);
        r.rbp = 1;
        r.fs_base = regs->fs_base;
        r.gs_base = regs->gs_base;
    }
    if (trace(c, PTRACE_SETREGS, 0, (uintptr_t)(calls ? &r : regs)) != 0)
        return CAGE_LOST;
    int status = run_to_stop(c, calls ? PTRACE_CONT : PTRACE_SYSEMU);
    if (status < 0 || trace(c, PTRACE_GETREGS, 0, (uintptr_t)&r) != 0)
        return CAGE_LOST;
    if (calls && is_ours(c, r.rip))
        return before_guest(c, status, &r);
    forget_calls(c);
    *regs = r;
    return why(c, status, regs, address);
}

static bool set_debug_register(const struct cage *c, unsigned n, uint64_t value)
{
    return trace(c, PTRACE_POKEUSER, offsetof(struct user, u_debugreg) + n * 8, value) == 0;
}

bool cage_break(struct cage *c, unsigned n, uint64_t address)
{
    uint64_t enabled = 0; /* DR7: a bit for each, for instructions (SDM 3, 17.2.4) */
    c->breakpoint[n] = 0;
    for (unsigned i = 0; i < CAGE_BREAKPOINTS; i++)
        enabled |= (uint64_t)(c->breakpoint[i] != 0) << (2 * i);
    if (!set_debug_register(c, 7, enabled))
        return false;
    if (!address)
        return true;
    c->breakpoint[n] = address;
    return set_debug_register(c, n, address) && set_debug_register(c, 7, enabled | BIT(2 * n));
}

bool cage_fault_tsc(struct cage *c, bool fault)
{
    if (c->tsc_faults == fault)
        return true;
    if (!call(c, SYS_prctl, PR_SET_TSC, fault ? PR_TSC_SIGSEGV : PR_TSC_ENABLE, 0) ||
        !cage_settle(c))
        return false;
    c->tsc_faults = fault;
    return true;
}

void cage_interrupt(const struct cage *c)
{
    int before = errno;
    syscall(SYS_ptrace, PTRACE_INTERRUPT, c->pid, 0, 0);
    errno = before;
}

void cage_stay(struct cage *c)
{
    int cpu = sched_getcpu();
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(cpu, &here);
    if (cpu < 0 || sched_setaffinity(0, sizeof here, &here) != 0)
        return;
    if (c->cpu != cpu && sched_setaffinity(c->pid, sizeof here, &here) == 0)
        c->cpu = cpu;
}

void cage_roam(const struct cage *c)
{
    sched_setaffinity(0, sizeof c->cpus, &c->cpus);
}

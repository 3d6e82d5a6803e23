/*
 * What /dev/kvm is worth: some hosts have one that runs guest kernels in software, slower than an
 * engine of ours would, and not all of them show guests the CPUID that they are given. Guests of a
 * few bytes tell, in less than 5 ms.
 */
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "engine/hardware/hardware.h"
#include "x86/msr.h"

/* mov %edx,%ecx; 1: dec %ecx; jnz 1b; out %al,$0x80; jmp 0: the time between two exits is the
 * loop's and one exit's. */
static const uint8_t loop_code[] = {0x89, 0xd1, 0x49, 0x75, 0xfd, 0xe6, 0x80, 0xeb, 0xf7};

/* lock cmpxchg16b (%rsi); hlt: what no processor in long mode gives up on */
static const uint8_t system_code[] = {0xf0, 0x48, 0x0f, 0xc7, 0x0e, 0xf4};

/* How users leave: mov 0x200000,%eax, where nothing is mapped; int3; syscall */
static const uint8_t fault_code[] = {0x8b, 0x04, 0x25, 0, 0, 0x20, 0};
static const uint8_t trap_code[] = {0xcc};
static const uint8_t syscall_code[] = {0x0f, 0x05};

/* cpuid; out %al,$0x80; rdtsc; out %al,$0x80 */
static const uint8_t facts_code[] = {0x0f, 0xa2, 0xe6, 0x80, 0x0f, 0x31, 0xe6, 0x80};

enum {
    PAGE = 4096,
    TABLES = PAGE, /* three page tables: the first 2 MiB are mapped one to one, for users too */
    MEMORY = TABLES + 3 * PAGE,
    DATA = 0x100,
    ROUNDS = 32,        /* exits at the most */
    LOOPS = 500,        /* times round the loop between two exits, of two instructions each */
    BUDGET_NS = 500000, /* for each of the two figures */
};

/* What still counts as the processor's own speed. An exit under nested virtualization takes some
 * 10 us or even more; instructions run at full speed there all the same. */
enum { SLOW_PICOSECONDS = 5000, SLOW_EXIT_NS = 100000 };

struct probe {
    int vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void probe_close(struct probe *p)
{
    if (p->run != MAP_FAILED)
        munmap(p->run, p->run_size);
    if (p->memory != MAP_FAILED)
        munmap(p->memory, MEMORY);
    if (p->vcpu >= 0)
        close(p->vcpu);
    if (p->vm >= 0)
        close(p->vm);
}

/* At CPL 0, without paging. */
static bool set_protected_mode(const struct probe *p)
{
    struct kvm_sregs s;
    if (ioctl(p->vcpu, KVM_GET_SREGS, &s) != 0)
        return false;
    struct kvm_segment data = {
        .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    s.ds = s.es = s.fs = s.gs = s.ss = data;
    s.cs = data;
    s.cs.selector = 8;
    s.cs.type = 11;
    s.cr0 |= CR0_PE;
    return ioctl(p->vcpu, KVM_SET_SREGS, &s) == 0;
}

/* KVM keeps the local APIC, if the I/O APIC that it does not keep has any pins. */
static bool probe_open_with(struct probe *p, const struct kvm *k, unsigned pins)
{
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = pins};
    uint64_t identity_map = 0xfeffc000;
    *p = (struct probe){
        .vm = -1, .vcpu = -1, .memory = MAP_FAILED, .run = MAP_FAILED, .run_size = k->run_size};
    p->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p->vm = ioctl(k->fd, KVM_CREATE_VM, 0);
    if (p->memory == MAP_FAILED || p->vm < 0)
        return false;
    struct kvm_userspace_memory_region slot = {.memory_size = MEMORY,
                                               .userspace_addr = (uintptr_t)p->memory};
    if ((pins && ioctl(p->vm, KVM_ENABLE_CAP, &split) != 0) ||
        ioctl(p->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) != 0 ||
        ioctl(p->vm, KVM_SET_TSS_ADDR, 0xfeffd000ul) != 0 ||
        ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &slot) != 0)
        return false;
    p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
    if (p->vcpu < 0)
        return false;
    p->run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
    return p->run != MAP_FAILED;
}

static bool probe_open(struct probe *p, const struct kvm *k, const uint8_t *code, size_t n)
{
    if (!probe_open_with(p, k, 0))
        return false;
    memcpy(p->memory, code, n);
    return set_protected_mode(p);
}

/* Nanoseconds from exit to exit with so many times round the loop between; 0: the guest did not
 * run. */
static uint64_t round_ns(const struct probe *p, uint32_t loops)
{
    struct kvm_regs regs = {.rdx = loops, .rflags = FLAG_1};
    if (ioctl(p->vcpu, KVM_SET_REGS, &regs) != 0)
        return 0;
    /* The first one warms up (page tables, caches), unless it tells enough by itself. */
    uint64_t start = now_ns(), end = start;
    unsigned rounds = 0;
    for (unsigned i = 0; i <= ROUNDS && end - start < BUDGET_NS; i++) {
        if (ioctl(p->vcpu, KVM_RUN, 0) != 0 || p->run->exit_reason != KVM_EXIT_IO)
            return 0;
        uint64_t now = now_ns();
        bool warming = i == 0 && now - start < BUDGET_NS;
        start = warming ? now : start;
        rounds += !warming;
        end = now;
    }
    return (end - start) / (rounds ? rounds : 1) + 1;
}

static bool judge(uint64_t exit_ns, uint64_t loop_ns, char *why, size_t size)
{
    uint64_t picoseconds =
        loop_ns > exit_ns ? (loop_ns - exit_ns) * 1000 / (UINT64_C(2) * LOOPS) : 0;
    bool fine = picoseconds <= SLOW_PICOSECONDS && exit_ns <= SLOW_EXIT_NS;
    snprintf(why, size,
             fine ? "an instruction takes %.1f ns, an exit %.1f us"
                  : "too slow: an instruction of a guest's kernel takes %.1f ns and an exit %.1f "
                    "us, because this /dev/kvm works in software; ask for a host with VT-x or "
                    "AMD-V, or leave it to --engine auto",
             (double)picoseconds / 1000, (double)exit_ns / 1000);
    return fine;
}

/* Behind what is told so far. */
static void tell_offer(const struct kvm *k, char *why, size_t size)
{
    struct offer o;
    size_t n = strlen(why);
    if (kvm_find_offer(k, x86_model_find("host"), &o, NULL) && offer_name(&o) &&
        kvm_serves_interrupts(k))
        snprintf(why + n, size - n, "; --cpu host adds %s", offer_name(&o));
}

bool kvm_measure(char *why, size_t size)
{
    struct kvm k;
    struct probe p;
    struct error err = {0};
    if (!kvm_open(&k, &err)) {
        snprintf(why, size, "%s", err.text);
        return false;
    }
    bool made = probe_open(&p, &k, loop_code, sizeof loop_code);
    uint64_t exit_ns = made ? round_ns(&p, 1) : 0;
    uint64_t loop_ns = exit_ns ? round_ns(&p, LOOPS) : 0;
    probe_close(&p);
    bool fine = loop_ns && judge(exit_ns, loop_ns, why, size);
    if (fine)
        tell_offer(&k, why, size);
    kvm_close(&k);
    if (loop_ns)
        return fine;
    snprintf(why, size, "KVM does not run even a guest of a few bytes; see the kernel's log");
    return false;
}

static bool run_to_exit(const struct probe *p, struct kvm_regs *regs)
{
    return ioctl(p->vcpu, KVM_RUN, 0) == 0 && p->run->exit_reason == KVM_EXIT_IO &&
           ioctl(p->vcpu, KVM_GET_REGS, regs) == 0;
}

/* Given a leaf 1 without features: more than KVM has to add by itself is not obeyed. */
static bool sees_own_cpuid(const struct probe *p)
{
    enum { OSXSAVE = 1u << 27 };
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[2];
    } table = {.head = {.nent = 2}, .entry = {{.function = 0, .eax = 1}, {.function = 1}}};
    struct kvm_regs regs = {.rax = 1, .rflags = FLAG_1};
    return ioctl(p->vcpu, KVM_SET_CPUID2, &table.head) == 0 &&
           ioctl(p->vcpu, KVM_SET_REGS, &regs) == 0 && run_to_exit(p, &regs) &&
           (regs.rcx & ~(uint64_t)OSXSAVE) == 0;
}

/* With an offset that makes the counter begin at 0 it can't show as much as the host's does. */
static bool sees_own_tsc(const struct probe *p)
{
    uint64_t host = __rdtsc(), offset = -host;
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};
    struct kvm_regs regs;
    return ioctl(p->vcpu, KVM_SET_DEVICE_ATTR, &attr) == 0 && run_to_exit(p, &regs) &&
           (regs.rdx << 32 | (regs.rax & UINT32_MAX)) < host;
}

/* 64-bit code, with no IDT. */
static bool set_long_mode(const struct probe *p, unsigned cpl)
{
    struct kvm_sregs s;
    if (ioctl(p->vcpu, KVM_GET_SREGS, &s) != 0)
        return false;
    for (unsigned i = 0; i < 3; i++)
        store_u64(p->memory + TABLES + i * PAGE, i == 2 ? 0x87 : (TABLES + (i + 1) * PAGE) | 7u);
    s.cs.selector = (uint16_t)(0x30 | cpl);
    s.ss.selector = (uint16_t)(0x28 | cpl);
    s.cs.dpl = s.ss.dpl = (uint8_t)cpl;
    s.cs.l = 1;
    s.cs.db = 0;
    s.idt.limit = 0;
    s.cr0 |= CR0_PE | CR0_PG | CR0_NE;
    s.cr4 |= CR4_PAE;
    s.cr3 = TABLES;
    s.efer = EFER_SCE | EFER_LME | EFER_LMA;
    return ioctl(p->vcpu, KVM_SET_SREGS, &s) == 0;
}

/* Whether a system in long mode is something that KVM gives up on. */
static bool gives_up(const struct probe *p)
{
    struct kvm_regs regs = {.rflags = FLAG_1, .rsi = DATA};
    return set_long_mode(p, 0) && ioctl(p->vcpu, KVM_SET_REGS, &regs) == 0 &&
           ioctl(p->vcpu, KVM_RUN, 0) == 0 && p->run->exit_reason == KVM_EXIT_INTERNAL_ERROR;
}

/* Runs a user's code, who is to leave by shutting the vCPU down. Returns the exception that it says
 * it was, or NO_EXCEPTION. */
static unsigned leave(const struct probe *p, const uint8_t *code, size_t n, struct kvm_regs *regs)
{
    struct kvm_vcpu_events events;
    *regs = (struct kvm_regs){.rflags = FLAG_1 | FLAG_IF};
    memcpy(p->memory, code, n);
    bool left = ioctl(p->vcpu, KVM_SET_REGS, regs) == 0 && ioctl(p->vcpu, KVM_RUN, 0) == 0 &&
                p->run->exit_reason == KVM_EXIT_SHUTDOWN &&
                ioctl(p->vcpu, KVM_GET_REGS, regs) == 0 &&
                ioctl(p->vcpu, KVM_GET_VCPU_EVENTS, &events) == 0;
    return left ? events.exception.nr : NO_EXCEPTION;
}

/* Whether users leave with their registers as users.c wants them. */
static bool runs_users(const struct probe *p)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[3];
    } msrs = {.head = {.nmsrs = 3},
              .entry = {{.index = MSR_STAR, .data = UINT64_C(0x0023001000000000)},
                        {.index = MSR_LSTAR, .data = USERS_SYSCALL},
                        {.index = MSR_SFMASK, .data = FLAG_IF}}};
    struct kvm_regs fault, trap, syscall;
    return set_long_mode(p, 3) && ioctl(p->vcpu, KVM_SET_MSRS, &msrs.head) == 3 &&
           leave(p, fault_code, sizeof fault_code, &fault) == X86_PF && fault.rip == 0 &&
           leave(p, trap_code, sizeof trap_code, &trap) == X86_BP && trap.rip == 1 &&
           leave(p, syscall_code, sizeof syscall_code, &syscall) != NO_EXCEPTION &&
           syscall.rip == USERS_SYSCALL && syscall.rcx == sizeof syscall_code &&
           syscall.r11 == (FLAG_1 | FLAG_IF) && !(syscall.rflags & FLAG_IF);
}

/* Which of these bits KVM lets CR4 have in long mode. */
static uint64_t cr4_bits(const struct probe *p)
{
    const uint64_t bits[] = {CR4_UMIP, CR4_FSGSBASE, CR4_PCIDE, CR4_OSXSAVE,
                             CR4_SMEP, CR4_SMAP,     CR4_PKE};
    uint64_t accepted = 0;
    struct kvm_sregs s;
    if (ioctl(p->vcpu, KVM_GET_SREGS, &s) != 0)
        return 0;
    for (unsigned i = 0; i < ARRAY_LEN(bits); i++) {
        struct kvm_sregs with = s;
        with.cr4 |= bits[i];
        accepted |= ioctl(p->vcpu, KVM_SET_SREGS, &with) == 0 ? bits[i] : 0;
    }
    return accepted;
}

static void look_at_long_mode(const struct kvm *k, struct kvm_facts *facts)
{
    struct probe p;
    bool made = probe_open(&p, k, system_code, sizeof system_code);
    facts->users_only = made && gives_up(&p) && runs_users(&p);
    facts->cr4 = made ? cr4_bits(&p) : 0;
    probe_close(&p);
}

/* ---- the local APIC ---- */

/* sti; 1: out %al,$0x81; jmp 1b; and, at HANDLER, out %al,$0x80 */
static const uint8_t waiting_code[] = {0xfb, 0xe6, 0x81, 0xeb, 0xfc};
static const uint8_t handler_code[] = {0xe6, 0x80};
enum { HANDLED = 0x80, VECTOR = 0x20, WAITING = 0x400, HANDLER = 0x410, STACK_TOP = 0xf00 };
enum { APIC_SVR = 0xf0, APIC_SVR_ENABLED = 0x1ff, APIC_ISR = 0x100 };

static bool set_real_mode(const struct probe *p)
{
    struct kvm_sregs s;
    struct kvm_regs regs = {.rip = WAITING, .rsp = STACK_TOP, .rflags = FLAG_1};
    if (ioctl(p->vcpu, KVM_GET_SREGS, &s) != 0)
        return false;
    s.cs.base = s.cs.selector = 0;
    memcpy(p->memory + WAITING, waiting_code, sizeof waiting_code);
    memcpy(p->memory + HANDLER, handler_code, sizeof handler_code);
    store_u32(p->memory + 4 * VECTOR, HANDLER);
    return ioctl(p->vcpu, KVM_SET_SREGS, &s) == 0 && ioctl(p->vcpu, KVM_SET_REGS, &regs) == 0;
}

static bool run_to_handler(const struct probe *p)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (ioctl(p->vcpu, KVM_RUN, 0) != 0 || p->run->exit_reason != KVM_EXIT_IO)
            return false;
        if (p->run->io.port == HANDLED)
            return true;
    }
    return false;
}

/* Runs as far as the handler of an interrupt. */
static bool take_interrupt(const struct probe *p, struct kvm_lapic_state *apic)
{
    struct kvm_msi msi = {.address_lo = 0xfee00000, .data = VECTOR};
    if (ioctl(p->vcpu, KVM_GET_LAPIC, apic) != 0)
        return false;
    store_u32(apic->regs + APIC_SVR, APIC_SVR_ENABLED);
    return ioctl(p->vcpu, KVM_SET_LAPIC, apic) == 0 && ioctl(p->vm, KVM_SIGNAL_MSI, &msi) == 1 &&
           run_to_handler(p) && ioctl(p->vcpu, KVM_GET_LAPIC, apic) == 0;
}

bool kvm_serves_interrupts(const struct kvm *k)
{
    enum { PINS = 24 };
    struct probe p;
    struct kvm_lapic_state apic;
    bool taken = probe_open_with(&p, k, PINS) && set_real_mode(&p) && take_interrupt(&p, &apic);
    probe_close(&p);
    return taken && (apic.regs[APIC_ISR + VECTOR / 32 * 16] & 1u << VECTOR % 32);
}

bool kvm_find_out(const struct kvm *k, struct kvm_facts *facts)
{
    struct probe p;
    bool made = probe_open(&p, k, facts_code, sizeof facts_code);
    int khz = made ? ioctl(p.vcpu, KVM_GET_TSC_KHZ, 0) : -1;
    *facts = (struct kvm_facts){.tsc_khz = khz > 0 ? (unsigned)khz : 0};
    facts->obeys_cpuid = made && sees_own_cpuid(&p);
    facts->obeys_tsc_offset = made && sees_own_tsc(&p);
    probe_close(&p);
    look_at_long_mode(k, facts);
    return made;
}

/*
 * kvm-case: a few bytes of 64-bit code on /dev/kvm, with nothing of Doppel's between: what this
 * host's KVM makes of an instruction. The evidence in docs/hardware.md comes from it.
 *
 * The first 2 MiB are mapped one to one, for users too. Behind the code is an OUT (at CPL 0) or an
 * INT3 (at CPL 3); each exception's handler writes to a port of its own.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/bits.h"

enum {
    RAM = 2 << 20,
    GDT = 0x2000,
    TSS = 0x3000,
    IDT = 0x4000,
    HANDLERS = 0x6000, /* 16 bytes each */
    CODE = 0x8000,
    KERNEL_STACK = 0x9000,
    SYSCALL_ENTRY = 0x9800,
    STACK = 0xa000,
    DATA = 0xb000, /* RBX and RSI; RDI is 4 KiB behind */
    TABLES = 0x10000,
};
enum { VECTORS = 32, PORT_VECTOR = 0x40, PORT_DONE = 0x3f, PORT_SYSCALL = 0x3e };
enum { KERNEL_CS = 0x10, KERNEL_SS = 0x18, USER_SS = 0x2b, USER_CS = 0x33, TSS_SELECTOR = 0x38 };

static void write_system(uint8_t *ram)
{
    static const uint64_t gdt[] = {0,
                                   0,
                                   0x00af9b000000ffff,
                                   0x00cf93000000ffff,
                                   0,
                                   0x00cff3000000ffff,
                                   0x00affb000000ffff,
                                   0x0000890030000067,
                                   0};
    memcpy(ram + GDT, gdt, sizeof gdt);
    store_u64(ram + TSS + 4, KERNEL_STACK);
    store_u16(ram + TSS + 102, 0x68);
    for (unsigned i = 0; i < 3; i++)
        store_u64(ram + TABLES + 0x1000 * i, i == 2 ? 0x87 : TABLES + 0x1000 * (i + 1) + 7);
    for (unsigned i = 0; i < VECTORS; i++) {
        uint64_t at = HANDLERS + 16 * i, dpl = i == 3 ? 3 : 0;
        store_u64(ram + IDT + 16 * i, at | KERNEL_CS << 16 | (0x8e | dpl << 5) << 40);
        store_u16(ram + at, (uint16_t)(0xe6 | (PORT_VECTOR + i) << 8));
    }
    store_u16(ram + SYSCALL_ENTRY, 0xe6 | PORT_SYSCALL << 8);
}

static void write_code(uint8_t *ram, const char *hex, int user)
{
    uint8_t *to = ram + CODE;
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1 && to < ram + KERNEL_STACK - 0x800; hex += 2)
        *to++ = (uint8_t)byte;
    store_u16(to, user ? 0xcccc : 0xe6 | PORT_DONE << 8);
}

static int set_state(int vcpu, int user)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[2];
    } msrs = {{.nmsrs = 2},
              {{.index = 0xc0000081, .data = UINT64_C(0x0023001000000000)},
               {.index = 0xc0000082, .data = SYSCALL_ENTRY}}};
    struct kvm_regs r = {
        .rip = CODE, .rflags = 2, .rsp = STACK, .rbx = DATA, .rsi = DATA, .rdi = DATA + 0x1000};
    struct kvm_sregs s;
    if (ioctl(vcpu, KVM_GET_SREGS, &s) != 0)
        return 0;
    uint8_t dpl = user ? 3 : 0;
    s.ss = (struct kvm_segment){.limit = UINT32_MAX,
                                .selector = user ? USER_SS : KERNEL_SS,
                                .type = 3,
                                .present = 1,
                                .dpl = dpl,
                                .db = 1,
                                .s = 1,
                                .g = 1};
    s.ds = s.es = s.fs = s.gs = s.cs = s.ss;
    s.cs.selector = user ? USER_CS : KERNEL_CS;
    s.cs.type = 11;
    s.cs.db = 0;
    s.cs.l = 1;
    s.tr = (struct kvm_segment){
        .base = TSS, .limit = 0x67, .selector = TSS_SELECTOR, .type = 11, .present = 1};
    s.gdt = (struct kvm_dtable){.base = GDT, .limit = 0x47};
    s.idt = (struct kvm_dtable){.base = IDT, .limit = VECTORS * 16 - 1};
    s.cr0 = 0x80010033;
    s.cr3 = TABLES;
    s.cr4 = 0x40620; /* PAE, OSFXSR, OSXMMEXCPT, OSXSAVE */
    s.efer = 0xd01;
    return ioctl(vcpu, KVM_SET_SREGS, &s) == 0 && ioctl(vcpu, KVM_SET_MSRS, &msrs.head) == 2 &&
           ioctl(vcpu, KVM_SET_REGS, &r) == 0;
}

static void tell(const struct kvm_run *run, int vcpu)
{
    struct kvm_regs r = {0};
    struct kvm_sregs s = {0};
    ioctl(vcpu, KVM_GET_REGS, &r);
    ioctl(vcpu, KVM_GET_SREGS, &s);
    if (run->exit_reason == KVM_EXIT_IO && run->io.port >= PORT_VECTOR)
        printf("exception %d", run->io.port - PORT_VECTOR);
    else if (run->exit_reason == KVM_EXIT_IO)
        printf(run->io.port == PORT_SYSCALL ? "system call" : "done");
    else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
        printf("internal error %u", run->internal.suberror);
    else
        printf("exit %u", run->exit_reason);
    printf(": rip %llx cs %x ss %x rflags %llx rax %llx rbx %llx rcx %llx rdx %llx cr2 %llx\n",
           r.rip, s.cs.selector, s.ss.selector, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, s.cr2);
}

int main(int argc, char **argv)
{
    int user = argc > 1 && strcmp(argv[1], "--user") == 0;
    if (argc != 2 + user) {
        fprintf(stderr, "usage: kvm-case [--user] BYTES, as in: kvm-case --user cd30\n");
        return 2;
    }
    static struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[256];
    } cpuid = {.head = {.nent = 256}};
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = ioctl(kvm, KVM_CREATE_VM, 0);
    uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region slot = {.memory_size = RAM,
                                               .userspace_addr = (uintptr_t)ram};
    if (vm < 0 || ram == MAP_FAILED || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot) != 0) {
        perror("kvm-case: /dev/kvm");
        return 1;
    }
    write_system(ram);
    write_code(ram, argv[1 + user], user);
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    size_t size = (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED || ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid.head) != 0 ||
        ioctl(vcpu, KVM_SET_CPUID2, &cpuid.head) != 0 || !set_state(vcpu, user) ||
        ioctl(vcpu, KVM_RUN, 0) != 0) {
        perror("kvm-case");
        return 1;
    }
    tell(run, vcpu);
    return 0;
}

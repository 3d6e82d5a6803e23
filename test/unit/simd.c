/*
 * MMX, SSE, AES, SHA and CRC32 against the processor underneath: every register and memory form of
 * these features is put together from its row in the forms' table, run natively and by its semantic
 * function, on random and on special operands, under every rounding mode and random exception
 * masks; registers, flags, MXCSR, memory and the fault taken must be the same.
 *
 * What the host can't run is left out; what it can't be asked (published vectors, XSAVE) is below.
 */
#include "test.h"

#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "memory/memory.h"
#include "x86/cpuid.h"
#include "x86/forms.h"
#include "x86/sem/simd.h"
#include "x86/xsave.h"

/* ---- random numbers: the same ones in each run ---- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned n)
{
    return (unsigned)(random64() >> 33) % n;
}

static uint32_t special32(void)
{
    static const uint32_t values[] = {
        0,          1,          0x80000000, 0x80000001, 0x007fffff, 0x00800000, 0x00800001,
        0x3f800000, 0xbf800000, 0x3fc00000, 0x40200000, 0x7f7fffff, 0xff7fffff, 0x7f800000,
        0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffabcdef, 0x7fc12345, 0x4effffff,
        0x4f000000, 0xcf000000, 0xcf000001, 0x5f000000, 0x3effffff, 0x3f000000, 0x3f000001,
        0x4b000001, 0x33800000, 0x1f800000, 0x20000001, 0x00400000, 0x7fffffff, 0xffffffff};
    uint32_t v = values[below(ARRAY_LEN(values))];
    return below(4) ? v : v + below(5) - 2;
}

static uint64_t special64(void)
{
    static const uint64_t values[] = {
        0x0000000000000000, 0x0000000000000001, 0x8000000000000000, 0x8000000000000001,
        0x000fffffffffffff, 0x0010000000000000, 0x3ff0000000000000, 0xbff0000000000000,
        0x3ff8000000000000, 0x4004000000000000, 0x7fefffffffffffff, 0xffefffffffffffff,
        0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
        0x7ff0000000000001, 0xfff7ffffffffffff, 0x7ff8000012345678, 0x41dfffffffc00000,
        0x41dfffffffe00000, 0x41e0000000000000, 0xc1e0000000000000, 0xc1e0000000200000,
        0x43e0000000000000, 0xc3e0000000000000, 0x3fdfffffffffffff, 0x3fe0000000000000,
        0x380fffffffffffff, 0x36a0000000000000, 0x3690000000000001, 0x47efffffe0000000,
        0x47effffff0000000, 0x1ff0000000000000, 0x2000000000000001, 0x0008000000000000};
    uint64_t v = values[below(ARRAY_LEN(values))];
    return below(4) ? v : v + below(5) - 2;
}

/* Operands of one kind, or (as often) of mixed kinds. */
static void random_lane(union simd_lane *v)
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

static void on_signal(int signal, siginfo_t *info, void *context)
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
static int run_native(struct native *n, const void *code)
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

static uint64_t count_outside(void *ctx, uint64_t gpa, unsigned size)
{
    (void)ctx, (void)gpa, (void)size;
    outside_reads++;
    return ~UINT64_C(0);
}

static void ignore_write(void *ctx, uint64_t gpa, unsigned size, uint64_t value)
{
    (void)ctx, (void)gpa, (void)size, (void)value;
    outside_reads++;
}

static bool set_up(void)
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

static int run_ours(const struct sem *sem, struct op *op)
{
    op->len = op->end = 1;
    if (setjmp(cpu->fault_jump) != 0)
        return cpu->fault.vector;
    sem->any(cpu, op);
    return -1;
}

/* ---- an instruction from its form ---- */

struct encoding {
    uint8_t prefix, map, opcode; /* map: 1 for 0F, 2 for 0F38, 3 for 0F3A */
    int group;                   /* ModRM.reg, or -1 */
    bool w1;
};

static bool parse_encoding(const char *text, struct encoding *e)
{
    *e = (struct encoding){.group = -1};
    bool opcode = false;
    for (const char *p = text; *p;) {
        size_t n = strcspn(p, " ");
        if (n == 2 && e->map == 0 && strncmp(p, "NP", 2) != 0 && strncmp(p, "0F", 2) != 0)
            e->prefix = (uint8_t)strtoul(p, NULL, 16);
        else if (strncmp(p, "0F38", 4) == 0)
            e->map = 2;
        else if (strncmp(p, "0F3A", 4) == 0)
            e->map = 3;
        else if (n == 2 && strncmp(p, "0F", 2) == 0 && e->map == 0)
            e->map = 1;
        else if (n == 2 && e->map && !opcode && p[0] != '/') {
            e->opcode = (uint8_t)strtoul(p, NULL, 16);
            opcode = true;
        } else if (n == 2 && p[0] == '/' && p[1] != 'r')
            e->group = p[1] - '0';
        else if (strncmp(p, "W1", 2) == 0)
            e->w1 = true;
        p += n;
        p += strspn(p, " ");
    }
    return opcode;
}

static bool has_kind(const struct x86_form *f, const char *kinds)
{
    static const struct {
        char letter;
        uint8_t kind;
    } map[] = {{'V', OPK_V}, {'W', OPK_W}, {'U', OPK_U}, {'P', OPK_P}, {'Q', OPK_Q}, {'N', OPK_N},
               {'E', OPK_E}, {'G', OPK_G}, {'R', OPK_R}, {'M', OPK_M}, {'I', OPK_I}};
    for (unsigned i = 0; i < ARRAY_LEN(f->operand); i++)
        for (unsigned j = 0; j < ARRAY_LEN(map); j++)
            if (f->operand[i].kind == map[j].kind && strchr(kinds, map[j].letter))
                return true;
    return false;
}

static bool has_type(const struct x86_form *f, unsigned type)
{
    for (unsigned i = 0; i < ARRAY_LEN(f->operand); i++)
        if (f->operand[i].type == type)
            return true;
    return false;
}

/* Ours to test: what lies between MMX and SHA and works on vectors. */
static bool is_ours(const struct x86_form *f, const struct sem *sem)
{
    static const char *const others[] = {"crc32", "movnti"};
    if (!sem || !sem->any || !f->sem)
        return false;
    for (unsigned i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(f->sem, others[i]) == 0)
            return true;
    return has_kind(f, "VWUPQN") && (f->flags & X86_FORM_MODRM) &&
           !(f->flags & (X86_FORM_VEX | X86_FORM_EVEX));
}

struct trial {
    const struct x86_form *form;
    const struct sem *sem;
    struct encoding encoding;
    bool memory;
    struct op op;
    uint8_t code[16];
    unsigned length;
};

static unsigned size_of(const struct trial *t, bool wide)
{
    const struct x86_form *f = t->form;
    if (strcmp(f->sem, "crc32") == 0 && (f->flags & X86_FORM_RM_BYTE))
        return 1;
    if (strncmp(f->sem, "cvt", 3) == 0 && has_kind(f, "EG"))
        return wide ? 8 : 4;
    if (!has_kind(f, "VWUPQN"))
        return wide ? 8 : 4;
    return has_kind(f, "VWU") ? 16 : 8;
}

/* Random registers out of the first three and a random immediate, as machine code and as op. */
static void assemble(struct trial *t)
{
    const struct encoding *e = &t->encoding;
    bool wide = e->w1 || ((has_type(t->form, OPT_Y) || has_type(t->form, OPT_V)) && below(2));
    unsigned reg = e->group >= 0 ? (unsigned)e->group : below(3), rm = below(3);
    bool stores = t->form->flags & X86_FORM_STORE;
    t->op = (struct op){.size = (uint8_t)size_of(t, wide),
                        .ea = t->memory ? EA_FLAT : EA_REG,
                        .reg = (uint8_t)reg,
                        .rm = (uint8_t)rm,
                        .base = X86_RDI,
                        .index = X86_GPR_ZERO,
                        .seg = X86_DS,
                        .flags = stores ? OPF_STORE : 0};
    if (t->form->flags & X86_FORM_RM_BYTE)
        t->op.rm = (uint8_t)(rm * 8);
    uint8_t *p = t->code;
    if (e->prefix)
        *p++ = e->prefix;
    if (wide)
        *p++ = 0x48;
    *p++ = 0x0f;
    if (e->map > 1)
        *p++ = e->map == 2 ? 0x38 : 0x3a;
    *p++ = e->opcode;
    *p++ = (uint8_t)(t->memory ? reg << 3 | 7 : 0xc0 | reg << 3 | rm);
    if (has_kind(t->form, "I")) {
        *p = (uint8_t)(below(4) ? random64() : below(16));
        t->op.imm = *p++;
    }
    *p++ = 0xc3;
    t->length = (unsigned)(p - t->code);
}

/* ---- one trial: the same state into both ---- */

static void random_state_into(struct native *n)
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

static void load_ours(const struct native *n)
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

static void store_ours(struct native *n)
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

/* Approximations may differ by twice their relative error of 1.5 * 2^-12, in units of 2^-23. */
static bool close_enough(uint32_t a, uint32_t b)
{
    int64_t d = (int64_t)a - (int64_t)b;
    return a == b || (d < 2 * 1.5 * 2048 + 2 && d > -(2 * 1.5 * 2048 + 2));
}

static bool same_vectors(const struct trial *t, const uint8_t *a, const uint8_t *b)
{
    bool approximate = strncmp(t->form->sem, "rcp", 3) == 0 || strncmp(t->form->sem, "rsq", 3) == 0;
    if (!approximate)
        return memcmp(a, b, 256) == 0;
    for (unsigned i = 0; i < 256; i += 4)
        if (!close_enough(load_u32(a + i), load_u32(b + i)))
            return false;
    return true;
}

/* The x87 and MMX registers and the words round them, without the pointers. */
static bool same_x87(const uint8_t *a, const uint8_t *b)
{
    for (unsigned i = 32; i < 160; i += 16)
        if (memcmp(a + i, b + i, 10) != 0)
            return false;
    return memcmp(a, b, 5) == 0;
}

static void print_bytes(const char *what, const uint8_t *p, unsigned n)
{
    printf("#   %s", what);
    for (unsigned i = n; i-- > 0;)
        printf("%02x%s", p[i], i % 8 ? "" : " ");
    printf("\n");
}

static void print_state(const char *who, const struct native *n, int fault)
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

/* False: they differ (and it is said how). *unsupported: the host raised #UD. */
static bool run_trial(struct trial *t, bool *unsupported)
{
    struct native before, host, ours;
    assemble(t);
    memcpy(code_page, t->code, t->length);
    random_state_into(&before);

    /* The operand ends where memory does, if it is aligned as it mostly is. */
    unsigned bytes = t->memory ? 0 : 16;
    for (unsigned i = 0; t->memory && i < ARRAY_LEN(t->form->operand); i++) {
        unsigned kind = t->form->operand[i].kind;
        struct x86_insn insn = {.form = (uint16_t)(t->form - x86_forms),
                                .opsize = t->op.size,
                                .is_mem = true,
                                .mode64 = true,
                                .rex = t->op.size == 8 ? 0x48 : 0};
        if (kind == OPK_W || kind == OPK_Q || kind == OPK_M || kind == OPK_E)
            bytes = x86_operand_size(&insn, i);
    }
    unsigned back = below(8) ? bytes : bytes + below(17);
    uint8_t window[WINDOW];
    union simd_lane operand[WINDOW / 16];
    for (unsigned i = 0; i < ARRAY_LEN(operand); i++)
        random_lane(&operand[i]);
    /* What the instruction reads starts with a whole lane. */
    for (unsigned i = 0; i < WINDOW; i++)
        window[(WINDOW - back + i) % WINDOW] = operand[i / 16].u8[i % 16];
    uint8_t *host_window = native_ram + 4096 - WINDOW;
    uint8_t *our_window = memory_hva(&ram, RAM_SIZE - WINDOW);
    memcpy(host_window, window, WINDOW);
    memcpy(our_window, window, WINDOW);

    host = before;
    host.rdi = (uint64_t)(uintptr_t)(native_ram + 4096 - back);
    int host_fault = run_native(&host, code_page);
    if (host_fault == X86_UD) {
        *unsupported = true;
        return true;
    }

    load_ours(&before);
    cpu->s.gpr[X86_RDI] = RAM_SIZE - back;
    outside_reads = 0;
    int our_fault = run_ours(t->sem, &t->op);
    ours = before;
    store_ours(&ours);

    bool same = host_fault == our_fault && same_vectors(t, host.fx + 160, ours.fx + 160) &&
                same_x87(host.fx, ours.fx) && load_u32(host.fx + 24) == load_u32(ours.fx + 24) &&
                ((host.flags ^ ours.flags) & FLAGS_STATUS) == 0 && host.rax == ours.rax &&
                host.rcx == ours.rcx && host.rdx == ours.rdx && outside_reads == 0 &&
                memcmp(host_window, our_window, WINDOW) == 0;
    if (!same) {
        printf("# %s %s (%s) reg %u rm %u%s imm %02x, %u accesses outside\n", t->form->mnemonic,
               t->form->operands, t->form->encoding, t->op.reg, t->op.rm,
               t->memory ? " memory" : "", (unsigned)t->op.imm, outside_reads);
        print_state("before", &before, -1);
        if (t->memory)
            print_bytes("mem ", window + WINDOW - back, bytes);
        print_state("host", &host, host_fault);
        print_state("ours", &ours, our_fault);
        if (t->memory) {
            print_bytes("host memory ", host_window, WINDOW);
            print_bytes("our memory  ", our_window, WINDOW);
        }
    }
    return same;
}

enum { TRIALS = 1200 };

static void try_form(unsigned index, bool memory, unsigned *tried, unsigned *skipped)
{
    struct trial t = {.form = &x86_forms[index], .sem = x86_form_sem[index], .memory = memory};
    if (!is_ours(t.form, t.sem))
        return;
    if (memory ? !has_kind(t.form, "WQEM") : !has_kind(t.form, "WQEUNR"))
        return;
    bool parsed = parse_encoding(t.form->encoding, &t.encoding);
    CHECK(parsed);
    bool unsupported = false;
    for (unsigned i = 0; parsed && i < TRIALS && !unsupported; i++) {
        if (!run_trial(&t, &unsupported)) {
            test_failed = true;
            return;
        }
    }
    *(unsupported ? skipped : tried) += 1;
}

static void try_all(bool memory, unsigned at_least)
{
    unsigned tried = 0, skipped = 0;
    CHECK(set_up());
    if (!cpu)
        return;
    for (unsigned i = 0; i < x86_form_count; i++)
        try_form(i, memory, &tried, &skipped);
    printf("# %u forms tried, %u not offered by this host\n", tried, skipped);
    CHECK(tried + skipped >= at_least);
}

TEST(register_forms_do_what_silicon_does)
{
    try_all(false, 280);
}

TEST(memory_forms_do_what_silicon_does)
{
    try_all(true, 250);
}

/* ---- save areas against silicon ---- */

/* The instruction at [rdi], with REX.W or without: 0F opcode /group. */
static void assemble_area(uint8_t opcode, unsigned group, bool wide)
{
    uint8_t code[] = {0x48, 0x0f, opcode, (uint8_t)(group << 3 | 7), 0xc3};
    memcpy(code_page, wide ? code : code + 1, sizeof code - !wide);
}

enum { AREA = 1024 };

struct area_trial {
    const char *name;
    const struct sem *sem;
    uint8_t opcode, group;
};

/* A state that is now and then the initial one, or nearly so. */
static void random_area_state(struct native *n)
{
    random_state_into(n);
    if (below(3) == 0) {
        memset(n->fx, 0, 24);
        memset(n->fx + 32, 0, 128);
        store_u16(n->fx, 0x37f);
    }
    if (below(3) == 0)
        memset(n->fx + 160, 0, 256);
    if (below(3) == 0)
        store_u32(n->fx + 24, 0x1f80);
    n->rax = below(4);
    n->rdx = 0;
}

/* Something that may pass as an area. */
static void random_area(uint8_t *area)
{
    struct native n;
    for (unsigned i = 0; i < AREA; i += 8)
        store_u64(area + i, random64());
    random_area_state(&n);
    memcpy(area, n.fx, 416);
    if (below(8) == 0)
        store_u32(area + 24, below(2) ? 0x10000 << below(2) * 8 : 0x1f80);
    memset(area + 512, 0, 64);
    store_u64(area + 512, below(8) ? below(4) : BIT(32 + below(31)));
    if (below(2))
        store_u64(area + 520, (below(8) ? BIT(63) : 0) | (below(8)   ? 3
                                                          : below(2) ? below(4)
                                                                     : BIT(40)));
    if (below(8) == 0)
        area[528 + below(48)] = 1;
}

/* What hosts may write as they like: MXCSR_MASK's bit for AMD's misaligned mode, and the reserved
 * bytes behind each x87 register. */
static void hide_unspecified(uint8_t *area)
{
    area[30] &= 0xfd;
    for (unsigned i = 32; i < 160; i += 16)
        memset(area + i + 10, 0, 6);
}

static bool same_native(const struct native *a, const struct native *b)
{
    return same_x87(a->fx, b->fx) && memcmp(a->fx + 160, b->fx + 160, 256) == 0 &&
           load_u32(a->fx + 24) == load_u32(b->fx + 24);
}

/* A host that was interrupted between loading the state and saving it may take initial registers
 * for used ones. So what differs is tried again, silently at first. */
enum { AREA_TRIES = 4 };

static bool run_area_trial(const struct area_trial *t, bool silent)
{
    struct native before, host, ours;
    uint8_t area[AREA];
    bool wide = below(2);
    unsigned misaligned = below(8) ? 0 : 16;
    assemble_area(t->opcode, t->group, wide);
    random_area_state(&before);
    random_area(area);
    uint8_t *host_area = native_ram + 4096 - AREA, *our_area = memory_hva(&ram, RAM_SIZE - AREA);
    memcpy(host_area, area, AREA);
    memcpy(our_area, area, AREA);

    host = before;
    host.rdi = (uint64_t)(uintptr_t)(host_area + misaligned);
    int host_fault = run_native(&host, code_page);

    struct op op = {
        .size = wide ? 8 : 4, .ea = EA_FLAT, .base = X86_RDI, .index = X86_GPR_ZERO, .seg = X86_DS};
    load_ours(&before);
    cpu->s.gpr[X86_RDI] = RAM_SIZE - AREA + misaligned;
    int our_fault = run_ours(t->sem, &op);
    ours = before;
    store_ours(&ours);

    hide_unspecified(host_area);
    hide_unspecified(our_area);
    bool same = host_fault == our_fault && same_native(&host, &ours) &&
                memcmp(host_area, our_area, AREA) == 0;
    if (!same && !silent) {
        printf("# %s, %s, components %x\n", t->name, wide ? "wide" : "narrow", (int)before.rax);
        print_state("before", &before, -1);
        print_state("host", &host, host_fault);
        print_state("ours", &ours, our_fault);
        for (unsigned i = 0; i < AREA; i++)
            if (host_area[i] != our_area[i])
                printf("#   byte %u: was %02x, host %02x, ours %02x\n", i, area[i], host_area[i],
                       our_area[i]);
        print_bytes("header ", area + 512, 32);
    }
    return same;
}

static bool try_area(const struct area_trial *t)
{
    uint64_t seed = random_state;
    for (unsigned i = 1; i < AREA_TRIES; i++) {
        if (run_area_trial(t, true))
            return true;
        random_state = seed;
    }
    return run_area_trial(t, false);
}

extern const struct sem fxsave_sem, fxrstor_sem, xsave_sem, xsaveopt_sem, xsavec_sem, xrstor_sem,
    xsaves_sem, xrstors_sem, xgetbv_sem, xsetbv_sem;

TEST(save_areas_are_what_silicon_writes_and_reads)
{
    static const struct area_trial trials[] = {
        {"fxsave", &fxsave_sem, 0xae, 0},     {"fxrstor", &fxrstor_sem, 0xae, 1},
        {"xsave", &xsave_sem, 0xae, 4},       {"xrstor", &xrstor_sem, 0xae, 5},
        {"xsaveopt", &xsaveopt_sem, 0xae, 6}, {"xsavec", &xsavec_sem, 0xc7, 4},
    };
    CHECK(set_up());
    cpu->s.xcr0 = XCR0_X87 | XCR0_SSE;
    for (unsigned i = 0; i < ARRAY_LEN(trials); i++)
        for (unsigned j = 0; j < TRIALS && !test_failed; j++)
            test_failed = !try_area(&trials[i]);
}

/* ---- what the host can't be asked ---- */

/* A processor with all registers clear, in the mode that set_up() made. */
static bool fresh(void)
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

/* destination <- destination op source, both XMM registers. */
static int xmm_op(const struct sem *sem, unsigned reg, unsigned rm, uint8_t imm)
{
    struct op op = {.size = 16, .ea = EA_REG, .reg = (uint8_t)reg, .rm = (uint8_t)rm, .imm = imm};
    return run_ours(sem, &op);
}

static void set_xmm_words(unsigned n, uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3)
{
    *xmm(cpu, n) = (union simd_lane){.u32 = {w0, w1, w2, w3}};
}

extern const struct sem sha1rnds4_sem, sha1nexte_sem, sha1msg1_sem, sha1msg2_sem, sha256rnds2_sem,
    sha256msg1_sem, sha256msg2_sem, paddd_sem, palignr_sem, pxor_sem, pshufd_sem, aesenc_sem,
    aesenclast_sem, aesdec_sem, aesdeclast_sem, aesimc_sem, aeskeygenassist_sem, crc32_sem,
    addps_sem, divps_sem, movaps_sem, paddb_sem, emms_sem, ldmxcsr_sem;

/* FIPS 180-4's first example, the message "abc", by the sequence the instructions are made for. */
TEST(sha1_of_abc_is_the_published_one)
{
    enum { ABCD = 0, E = 1, OLD = 2, W = 4, T = 8 };
    CHECK(fresh());
    set_xmm_words(ABCD, 0x10325476, 0x98badcfe, 0xefcdab89, 0x67452301);
    set_xmm_words(E, 0, 0, 0, 0xc3d2e1f0);
    set_xmm_words(W, 0, 0, 0, 0x61626380);
    set_xmm_words(W + 3, 24, 0, 0, 0);
    for (unsigned round = 0; round < 20; round++) {
        unsigned now = W + round % 4, next = W + (round + 1) % 4, third = W + (round + 2) % 4,
                 fourth = W + (round + 3) % 4;
        if (round >= 4) { /* the message schedule: now holds the words of 16 steps ago */
            xmm_op(&sha1msg1_sem, now, next, 0);
            xmm_op(&pxor_sem, now, third, 0);
            xmm_op(&sha1msg2_sem, now, fourth, 0);
        }
        if (round == 0) {
            xmm_op(&paddd_sem, E, now, 0);
        } else {
            *xmm(cpu, T) = *xmm(cpu, OLD);
            xmm_op(&sha1nexte_sem, T, now, 0);
            *xmm(cpu, E) = *xmm(cpu, T);
        }
        *xmm(cpu, OLD) = *xmm(cpu, ABCD);
        xmm_op(&sha1rnds4_sem, ABCD, E, (uint8_t)(round / 5));
    }
    set_xmm_words(T, 0, 0, 0, 0xc3d2e1f0);
    xmm_op(&sha1nexte_sem, OLD, T, 0);
    CHECK_EQ(xmm(cpu, ABCD)->u32[3] + 0x67452301, 0xa9993e36);
    CHECK_EQ(xmm(cpu, ABCD)->u32[2] + 0xefcdab89, 0x4706816a);
    CHECK_EQ(xmm(cpu, ABCD)->u32[1] + 0x98badcfe, 0xba3e2571);
    CHECK_EQ(xmm(cpu, ABCD)->u32[0] + 0x10325476, 0x7850c26c);
    CHECK_EQ(xmm(cpu, OLD)->u32[3], 0x9cd0d89d);
}

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

TEST(sha256_of_abc_is_the_published_one)
{
    enum { WK = 0, ABEF = 1, CDGH = 2, T = 3, W = 4 };
    CHECK(fresh());
    set_xmm_words(ABEF, 0x9b05688c, 0x510e527f, 0xbb67ae85, 0x6a09e667);
    set_xmm_words(CDGH, 0x5be0cd19, 0x1f83d9ab, 0xa54ff53a, 0x3c6ef372);
    set_xmm_words(W, 0x61626380, 0, 0, 0);
    set_xmm_words(W + 3, 0, 0, 0, 24);
    for (unsigned round = 0; round < 16; round++) {
        unsigned now = W + round % 4, next = W + (round + 1) % 4, third = W + (round + 2) % 4,
                 fourth = W + (round + 3) % 4;
        if (round >= 4) {
            xmm_op(&sha256msg1_sem, now, next, 0);
            *xmm(cpu, T) = *xmm(cpu, fourth);
            xmm_op(&palignr_sem, T, third, 4);
            xmm_op(&paddd_sem, now, T, 0);
            xmm_op(&sha256msg2_sem, now, fourth, 0);
        }
        for (unsigned i = 0; i < 4; i++)
            xmm(cpu, WK)->u32[i] = xmm(cpu, now)->u32[i] + sha256_k[4 * round + i];
        xmm_op(&sha256rnds2_sem, CDGH, ABEF, 0);
        xmm_op(&pshufd_sem, WK, WK, 0x0e);
        xmm_op(&sha256rnds2_sem, ABEF, CDGH, 0);
    }
    CHECK_EQ(xmm(cpu, ABEF)->u32[3] + 0x6a09e667, 0xba7816bf);
    CHECK_EQ(xmm(cpu, ABEF)->u32[2] + 0xbb67ae85, 0x8f01cfea);
    CHECK_EQ(xmm(cpu, CDGH)->u32[3] + 0x3c6ef372, 0x414140de);
    CHECK_EQ(xmm(cpu, CDGH)->u32[2] + 0xa54ff53a, 0x5dae2223);
    CHECK_EQ(xmm(cpu, ABEF)->u32[1] + 0x510e527f, 0xb00361a3);
    CHECK_EQ(xmm(cpu, ABEF)->u32[0] + 0x9b05688c, 0x96177a9c);
    CHECK_EQ(xmm(cpu, CDGH)->u32[1] + 0x1f83d9ab, 0xb410ff61);
    CHECK_EQ(xmm(cpu, CDGH)->u32[0] + 0x5be0cd19, 0xf20015ad);
}

/* FIPS 197, appendix C.1: the key 00 01 ... 0f, the block 00 11 ... ff. */
TEST(aes_128_gives_the_published_block_and_takes_it_back)
{
    enum { DATA = 0, T = 1, ROUNDS = 10 };
    union simd_lane key[ROUNDS + 1], plain;
    CHECK(fresh());
    for (unsigned i = 0; i < 16; i++) {
        key[0].u8[i] = (uint8_t)i;
        plain.u8[i] = (uint8_t)(0x11 * i);
    }
    uint8_t rcon = 1;
    for (unsigned r = 1; r <= ROUNDS; r++, rcon = (uint8_t)(rcon << 1 ^ (rcon & 0x80 ? 0x1b : 0))) {
        struct op op = {.size = 16, .ea = EA_REG, .reg = T, .rm = 2, .imm = rcon};
        *xmm(cpu, 2) = key[r - 1];
        run_ours(&aeskeygenassist_sem, &op);
        uint32_t word = xmm(cpu, T)->u32[3];
        for (unsigned i = 0; i < 4; i++)
            word = key[r].u32[i] = key[r - 1].u32[i] ^ word;
    }

    *xmm(cpu, DATA) = plain;
    *xmm(cpu, T) = key[0];
    xmm_op(&pxor_sem, DATA, T, 0);
    for (unsigned r = 1; r <= ROUNDS; r++) {
        *xmm(cpu, T) = key[r];
        xmm_op(r < ROUNDS ? &aesenc_sem : &aesenclast_sem, DATA, T, 0);
    }
    static const uint8_t cipher[16] = {0x69, 0xc4, 0xe0, 0xd8, 0x6a, 0x7b, 0x04, 0x30,
                                       0xd8, 0xcd, 0xb7, 0x80, 0x70, 0xb4, 0xc5, 0x5a};
    CHECK(memcmp(xmm(cpu, DATA), cipher, 16) == 0);

    *xmm(cpu, T) = key[ROUNDS];
    xmm_op(&pxor_sem, DATA, T, 0);
    for (unsigned r = ROUNDS; r-- > 0;) {
        *xmm(cpu, T) = key[r];
        if (r > 0)
            xmm_op(&aesimc_sem, T, T, 0);
        xmm_op(r > 0 ? &aesdec_sem : &aesdeclast_sem, DATA, T, 0);
    }
    CHECK(memcmp(xmm(cpu, DATA), &plain, 16) == 0);
}

TEST(crc32_of_the_digits_is_the_published_one)
{
    CHECK(fresh());
    cpu->s.gpr[X86_RAX] = 0xffffffff;
    for (const char *p = "123456789"; *p; p++) {
        struct op op = {.size = 1, .ea = EA_REG, .reg = X86_RAX, .rm = 8 * X86_RCX};
        cpu->s.gpr[X86_RCX] = (uint8_t)*p;
        run_ours(&crc32_sem, &op);
    }
    CHECK_EQ((uint32_t)~cpu->s.gpr[X86_RAX], 0xe3069283);
}

/* ---- control registers ---- */

static int with_control(const struct sem *sem, unsigned size, uint64_t cr0, uint64_t cr4)
{
    struct op op = {.size = (uint8_t)size, .ea = EA_REG, .reg = 1, .rm = 2};
    cpu->s.cr0 = cr0;
    cpu->s.cr4 = cr4;
    x86_update_mode(cpu);
    return run_ours(sem, &op);
}

TEST(control_registers_switch_sse_and_mmx_off)
{
    CHECK(fresh());
    const uint64_t cr0 = CR0_PE | CR0_NE, cr4 = CR4_OSFXSR;
    CHECK_EQ(with_control(&paddb_sem, 16, cr0, cr4), -1);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0, 0), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0 | CR0_EM, cr4), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0 | CR0_TS, cr4), X86_NM);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0 | CR0_TS | CR0_EM, cr4), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 8, cr0, 0), -1);
    CHECK_EQ(with_control(&paddb_sem, 8, cr0 | CR0_EM, cr4), X86_UD);
    CHECK_EQ(with_control(&paddb_sem, 8, cr0 | CR0_TS, cr4), X86_NM);
    cpu->s.fcw = 0x37e; /* a pending invalid operation */
    cpu->s.fsw = 0x8081;
    CHECK_EQ(with_control(&paddb_sem, 8, cr0, cr4), X86_MF);
    CHECK_EQ(with_control(&paddb_sem, 16, cr0, cr4), -1);
}

TEST(unmasked_simd_exceptions_are_xm_or_ud)
{
    CHECK(fresh());
    const uint64_t cr0 = CR0_PE | CR0_NE, cr4 = CR4_OSFXSR;
    set_xmm_words(1, 0x3f800000, 0, 0, 0);
    set_xmm_words(2, 0, 0x3f800000, 0x3f800000, 0x3f800000);
    cpu->s.mxcsr = 0x1f80 & ~(uint32_t)(SF_ZE << 7);
    CHECK_EQ(with_control(&divps_sem, 16, cr0, cr4), X86_UD);
    CHECK_EQ(with_control(&divps_sem, 16, cr0, cr4 | CR4_OSXMMEXCPT), X86_XM);
    CHECK_EQ(cpu->s.mxcsr & SF_ALL, SF_ZE);
    CHECK_EQ(xmm(cpu, 1)->u32[0], 0x3f800000);
    cpu->s.mxcsr = 0x1f80;
    CHECK_EQ(with_control(&divps_sem, 16, cr0, cr4), -1);
    CHECK_EQ(xmm(cpu, 1)->u32[0], 0x7f800000);
}

TEST(legacy_instructions_keep_the_upper_half_of_ymm)
{
    CHECK(fresh());
    for (unsigned i = 0; i < 4; i++)
        cpu->s.vec[1].u64[i] = cpu->s.vec[2].u64[i] = 0x1111111111111111 * (i + 1);
    xmm_op(&paddb_sem, 1, 2, 0);
    xmm_op(&movaps_sem, 1, 2, 0);
    CHECK_EQ(cpu->s.vec[1].u64[0], 0x1111111111111111);
    CHECK_EQ(cpu->s.vec[1].u64[2], 0x3333333333333333);
    CHECK_EQ(cpu->s.vec[1].u64[3], 0x4444444444444444);
}

/* ---- XSAVE beyond what is compared with the host ---- */

static int area_op(const struct sem *sem, uint64_t components)
{
    struct op op = {
        .size = 8, .ea = EA_FLAT, .base = X86_RDI, .index = X86_GPR_ZERO, .seg = X86_DS};
    cpu->s.gpr[X86_RDI] = 0x4000;
    cpu->s.gpr[X86_RAX] = (uint32_t)components;
    cpu->s.gpr[X86_RDX] = components >> 32;
    return run_ours(sem, &op);
}

static void fill_avx_state(void)
{
    for (unsigned i = 0; i < 16; i++)
        for (unsigned j = 0; j < 4; j++)
            cpu->s.vec[i].u64[j] = 0x0101010101010101 * (16 * j + i + 1);
    cpu->s.pkru = 0x12345678;
}

/* What is saved comes back, at the offsets that CPUID leaf 0Dh tells. */
static void round_trip(const struct sem *save, const struct sem *restore, unsigned pkru_offset)
{
    const uint64_t all = XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_PKRU;
    uint8_t *area = memory_hva(&ram, 0x4000);
    union x86_vec kept[16];
    CHECK(fresh());
    cpu->s.xcr0 = all;
    memset(area, 0, 4096);
    fill_avx_state();
    memcpy(kept, cpu->s.vec, sizeof kept);
    CHECK_EQ(area_op(save, all), -1);
    CHECK_EQ(load_u32(area + pkru_offset), 0x12345678);
    CHECK_EQ(load_u64(area + 576 + 16), cpu->s.vec[1].u64[2]);
    memset(cpu->s.vec, 0xaa, sizeof cpu->s.vec);
    cpu->s.pkru = 1;
    CHECK_EQ(area_op(restore, all), -1);
    CHECK(memcmp(kept, cpu->s.vec, sizeof kept) == 0);
    CHECK_EQ(cpu->s.pkru, 0x12345678);

    /* Without AVX's bit in the header, it is initial. */
    store_u64(area + 512, load_u64(area + 512) & ~(uint64_t)XCR0_AVX);
    CHECK_EQ(area_op(restore, XCR0_AVX), -1);
    CHECK_EQ(cpu->s.vec[1].u64[2], 0);
    CHECK_EQ(cpu->s.vec[1].u64[0], kept[1].u64[0]);
}

TEST(saved_components_come_back)
{
    round_trip(&xsave_sem, &xrstor_sem, 2688);
    round_trip(&xsaveopt_sem, &xrstor_sem, 2688);
    round_trip(&xsavec_sem, &xrstor_sem, 832);
    round_trip(&xsaves_sem, &xrstors_sem, 832);
}

TEST(xsave_asks_for_its_permissions)
{
    CHECK(fresh());
    cpu->s.cr4 &= ~(uint64_t)CR4_OSXSAVE;
    CHECK_EQ(area_op(&xsave_sem, 3), X86_UD);
    cpu->s.cr4 |= CR4_OSXSAVE;
    cpu->s.cr0 |= CR0_TS;
    CHECK_EQ(area_op(&xsave_sem, 3), X86_NM);
    cpu->s.cr0 &= ~(uint64_t)CR0_TS;
    cpu->cpl = 3;
    CHECK_EQ(area_op(&xsaves_sem, 3), X86_GP);
    CHECK_EQ(area_op(&xrstors_sem, 3), X86_GP);
    cpu->cpl = 0;
    /* XRSTORS takes no area in the standard form. */
    memset(memory_hva(&ram, 0x4000), 0, 4096);
    CHECK_EQ(area_op(&xrstor_sem, 3), -1);
    CHECK_EQ(area_op(&xrstors_sem, 3), X86_GP);
}

static int set_xcr0(uint64_t v, uint32_t which)
{
    struct op op = {.size = 4, .ea = EA_REG};
    cpu->s.gpr[X86_RCX] = which;
    cpu->s.gpr[X86_RAX] = (uint32_t)v;
    cpu->s.gpr[X86_RDX] = v >> 32;
    return run_ours(&xsetbv_sem, &op);
}

TEST(xcr0_takes_what_the_model_offers)
{
    CHECK(fresh());
    CHECK_EQ(set_xcr0(XCR0_X87 | XCR0_SSE | XCR0_PKRU, 0), -1);
    CHECK_EQ(cpu->s.xcr0, XCR0_X87 | XCR0_SSE | XCR0_PKRU);
    struct op op = {.size = 4, .ea = EA_REG};
    cpu->s.gpr[X86_RCX] = 0;
    CHECK_EQ(run_ours(&xgetbv_sem, &op), -1);
    CHECK_EQ(cpu->s.gpr[X86_RAX], XCR0_X87 | XCR0_SSE | XCR0_PKRU);
    CHECK_EQ(set_xcr0(XCR0_SSE, 0), X86_GP);
    CHECK_EQ(set_xcr0(XCR0_X87 | BIT(62), 0), X86_GP);
    CHECK_EQ(set_xcr0(XCR0_X87, 2), X86_GP);
    cpu->cpl = 3;
    CHECK_EQ(set_xcr0(XCR0_X87, 0), X86_GP);
    cpu->cpl = 0;
}

TEST(mxcsr_has_no_reserved_bits)
{
    CHECK(fresh());
    struct op op = {
        .size = 4, .ea = EA_FLAT, .base = X86_RDI, .index = X86_GPR_ZERO, .seg = X86_DS};
    cpu->s.gpr[X86_RDI] = 0x4000;
    store_u32(memory_hva(&ram, 0x4000), 0xffbf);
    CHECK_EQ(run_ours(&ldmxcsr_sem, &op), -1);
    CHECK_EQ(cpu->s.mxcsr, 0xffbf);
    store_u32(memory_hva(&ram, 0x4000), 0x10000);
    CHECK_EQ(run_ours(&ldmxcsr_sem, &op), X86_GP);
    CHECK_EQ(cpu->s.mxcsr, 0xffbf);
}

TESTS(T(register_forms_do_what_silicon_does), T(memory_forms_do_what_silicon_does),
      T(save_areas_are_what_silicon_writes_and_reads), T(sha1_of_abc_is_the_published_one),
      T(sha256_of_abc_is_the_published_one), T(aes_128_gives_the_published_block_and_takes_it_back),
      T(crc32_of_the_digits_is_the_published_one), T(control_registers_switch_sse_and_mmx_off),
      T(unmasked_simd_exceptions_are_xm_or_ud), T(legacy_instructions_keep_the_upper_half_of_ymm),
      T(saved_components_come_back), T(xsave_asks_for_its_permissions),
      T(xcr0_takes_what_the_model_offers), T(mxcsr_has_no_reserved_bits))

/*
 * The decoder against the processor under it: what is an instruction, and how long it is.
 *
 * Random bytes are laid at the end of a page of a traced child, with nothing mapped behind, and one
 * instruction is stepped with registers that point nowhere. SIGILL says that it is none; a fetch
 * from behind the page says that it is longer. What the model lacks is not asked: this processor
 * may have it. DOPPEL_DECODE_SILICON_COUNT=N changes how many are tried in each mode.
 */
#include "test.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bits.h"
#include "x86/cpu.h"
#include "x86/forms.h"

#ifdef __x86_64__

enum { PAGE = 4096, COUNT = 30000, REPORTS = 30, CODE32 = 0x23, CODE64 = 0x33 };

/* Code lies below 4 GiB, for 32-bit code, and far from all else. */
static const uintptr_t page_address = 0x70000000;

struct child {
    pid_t pid;
    uint8_t *page; /* shared with it */
    struct user_regs_struct regs;
};

/* What one step did. */
struct outcome {
    int signal;
    uintptr_t address; /* of a memory fault */
    uintptr_t rip;
};

static bool child_start(struct child *c)
{
    c->page = mmap((void *)page_address, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (c->page == MAP_FAILED)
        return false;
    c->pid = fork();
    if (c->pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0)
            raise(SIGSTOP);
        _exit(0);
    }
    int status;
    return c->pid > 0 && waitpid(c->pid, &status, 0) == c->pid && WIFSTOPPED(status) &&
           ptrace(PTRACE_GETREGS, c->pid, 0, &c->regs) == 0;
}

static void child_end(struct child *c)
{
    if (c->pid > 0) {
        kill(c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
    }
    if (c->page != MAP_FAILED)
        munmap(c->page, PAGE);
}

/* Steps the n bytes, laid so that they end with the page. False: the child is gone. */
static bool child_step(struct child *c, const uint8_t *bytes, unsigned n, unsigned code,
                       struct outcome *out)
{
    struct user_regs_struct regs = {
        .rip = page_address + PAGE - n,
        .cs = code == X86_CODE64 ? CODE64 : CODE32,
        .ss = c->regs.ss,
        .ds = code == X86_CODE64 ? 0 : c->regs.ss,
        .es = code == X86_CODE64 ? 0 : c->regs.ss,
        .eflags = FLAG_1 | FLAG_IF,
        .rax = (unsigned long long)-1, /* no such system call */
        .orig_rax = (unsigned long long)-1,
    };
    int status;
    siginfo_t info;
    memset(c->page, 0x90, PAGE);
    memcpy(c->page + PAGE - n, bytes, n);
    if (ptrace(PTRACE_SETREGS, c->pid, 0, &regs) || ptrace(PTRACE_SINGLESTEP, c->pid, 0, 0) ||
        waitpid(c->pid, &status, 0) != c->pid || !WIFSTOPPED(status) ||
        ptrace(PTRACE_GETSIGINFO, c->pid, 0, &info) || ptrace(PTRACE_GETREGS, c->pid, 0, &regs))
        return false;
    *out = (struct outcome){WSTOPSIG(status), (uintptr_t)info.si_addr, regs.rip};
    return true;
}

static bool is_fetch_fault(const struct outcome *o)
{
    return o->signal == SIGSEGV && o->address == page_address + PAGE;
}

/* Forms that this processor may lack, or that raise #UD at CPL 3 or for other reasons that are not
 * the decoder's. */
static bool is_left_out(const struct x86_insn *insn)
{
    static const char *const names[] = {"ud", "clac", "stac", "rsm", "rdpkru", "wrpkru"};
    const struct x86_form *f = x86_form(insn);
    if (!(f->flags & X86_FORM_MODELLED))
        return true;
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(f->sem, names[i]) == 0)
            return true;
    bool vector = f->feature == X86_FEATURE_AVX || f->feature == X86_FEATURE_AVX2 ||
                  f->feature == X86_FEATURE_FMA || f->feature == X86_FEATURE_F16C;
    if (vector && !(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")))
        return true;
    return f->feature == X86_FEATURE_SHA || f->feature == X86_FEATURE_RDPID;
}

/* Where AMD's processors differ from Intel's, which the decoder follows. */
static bool is_amds_own(const struct x86_insn *insn, bool valid)
{
    static const struct {
        uint8_t map, opcode;
        const char *reason;
        uint8_t prefix; /* with this one only */
    } opcodes[] = {
        {1, 0x00, "LOCK with VERW", X86_PREFIX_LOCK},
        {1, 0x01, "VMCALL with F2, under a hypervisor", X86_PREFIX_REPNE},
        {1, 0x20, "LOCK MOV CR0 for CR8", X86_PREFIX_LOCK},
        {1, 0x22, "LOCK MOV CR0 for CR8", X86_PREFIX_LOCK},
        {0, 0x8f, "XOP"},
        {1, 0x05, "SYSCALL in 32-bit code"},
        {1, 0x07, "SYSRET in 32-bit code"},
        {1, 0x0d, "no prefetch with a register"},
        {1, 0x0e, "FEMMS"},
        {1, 0x0f, "3DNow!"},
        {1, 0x2b, "SSE4A: MOVNTSS, MOVNTSD"},
        {1, 0x34, "no SYSENTER in long mode"},
        {1, 0x35, "no SYSEXIT in long mode"},
        {1, 0x78, "SSE4A: EXTRQ, INSERTQ"},
        {1, 0x79, "SSE4A: EXTRQ, INSERTQ"},
    };
    if (valid && insn->mode64 && (x86_form(insn)->flags & X86_FORM_F64) &&
        (x86_form(insn)->flags & X86_FORM_BRANCH) && (insn->prefixes & X86_PREFIX_OPSIZE))
        return true; /* 66 makes near branches 16 bits wide there */
    for (unsigned i = 0; i < ARRAY_LEN(opcodes); i++)
        if (insn->map == opcodes[i].map && insn->opcode == opcodes[i].opcode &&
            (insn->prefixes & opcodes[i].prefix) == opcodes[i].prefix)
            return true;
    /* VPEXTRD and VPINSRD with VEX.W outside 64-bit code */
    if ((insn->prefixes & X86_PREFIX_VEX) && !insn->mode64 && (insn->rex & 8) && insn->map == 3 &&
        (insn->opcode == 0x16 || insn->opcode == 0x22))
        return true;
    /* the fourth bit of a mask register's number is ignored */
    if ((insn->prefixes & X86_PREFIX_VEX) && insn->map == 1 && (insn->opcode & 0xf0) == 0x40)
        return true;
    /* EVEX.V' is ignored outside 64-bit code */
    return (insn->prefixes & X86_PREFIX_EVEX) && !insn->mode64 && !(insn->evex & 8);
}

/* NULL when the processor agrees. */
static const char *disagreement(struct child *c, const uint8_t *bytes, unsigned code,
                                const struct x86_insn *insn, enum x86_decode_status status)
{
    struct outcome o;
    if (status != X86_DECODED) {
        if (!child_step(c, bytes, X86_INSN_MAX, code, &o))
            return "the child is gone";
        bool right = status == X86_DECODE_INVALID ? o.signal == SIGILL : o.signal == SIGSEGV;
        return right ? NULL : "it is an instruction";
    }
    if (!child_step(c, bytes, insn->len, code, &o))
        return "the child is gone";
    if (o.signal == SIGILL)
        return "it is no instruction";
    if (is_fetch_fault(&o) && o.rip != page_address + PAGE)
        return "it is longer";
    if (insn->len > 1 && !child_step(c, bytes, insn->len - 1u, code, &o))
        return "the child is gone";
    return insn->len == 1 || is_fetch_fault(&o) ? NULL : "it is shorter";
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Random bytes behind a beginning that looks like an instruction's. */
static void make_bytes(uint8_t bytes[16], uint64_t *seed)
{
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e, 0x48, 0x41};
    store_u64(bytes, next_random(seed));
    store_u64(bytes + 8, next_random(seed));
    uint64_t r = next_random(seed);
    uint8_t *p = bytes;
    for (unsigned n = r & 3; n > 1; n--, r >>= 3)
        *p++ = prefixes[r >> 3 & 7];
    r >>= 8;
    if ((r & 7) >= 3)
        *p++ = 0x0f;
    if ((r & 7) >= 6)
        *p++ = r & 1 ? 0x38 : 0x3a;
}

static void report(const char *what, const uint8_t *bytes, const struct x86_insn *insn,
                   enum x86_decode_status status)
{
    printf("# %s:", what);
    for (unsigned i = 0; i < X86_INSN_MAX; i++)
        printf(" %02x", bytes[i]);
    printf(" (we say status %u, %u bytes, %s)\n", status, insn->len,
           status == X86_DECODED ? x86_form(insn)->mnemonic : "nothing");
}

static void compare(struct child *c, unsigned code, unsigned long count)
{
    uint64_t seed = 0x2545f4914f6cdd1d + code;
    unsigned long differences = 0, asked = 0;
    bool amd = __builtin_cpu_is("amd");
    for (unsigned long i = 0; i < count; i++) {
        uint8_t bytes[16];
        struct x86_insn insn;
        make_bytes(bytes, &seed);
        enum x86_decode_status status = x86_decode(bytes, sizeof bytes, code, &insn);
        bool valid = status == X86_DECODED;
        if ((valid && is_left_out(&insn)) || (amd && is_amds_own(&insn, valid)))
            continue;
        asked++;
        const char *what = disagreement(c, bytes, code, &insn, status);
        if (what && differences++ < REPORTS)
            report(what, bytes, &insn, status);
    }
    printf("# %lu asked, %lu differ\n", asked, differences);
    CHECK(asked > count / 2);
    CHECK_EQ(differences, 0);
}

static void run_mode(unsigned code)
{
    const char *count = getenv("DOPPEL_DECODE_SILICON_COUNT");
    struct child c = {.page = MAP_FAILED};
    bool started = child_start(&c);
    if (started)
        compare(&c, code, count ? strtoul(count, NULL, 0) : COUNT);
    child_end(&c);
    if (!started)
        SKIP("no traced child can be had here");
}

TEST(the_processor_decodes_64_bit_code_alike)
{
    run_mode(X86_CODE64);
}

TEST(the_processor_decodes_32_bit_code_alike)
{
    run_mode(X86_CODE32);
}

#else

TEST(the_processor_decodes_64_bit_code_alike)
{
    SKIP("this processor is no x86-64");
}

TEST(the_processor_decodes_32_bit_code_alike)
{
    SKIP("this processor is no x86-64");
}

#endif

TESTS(T(the_processor_decodes_64_bit_code_alike), T(the_processor_decodes_32_bit_code_alike))

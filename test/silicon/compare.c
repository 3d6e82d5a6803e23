#include "compare.h"

#include <string.h>

#include "tables.h"

/* Linux's TASK_SIZE_MAX: above it, page faults are said to be protection faults whatever they are.
 */
#define USER_END UINT64_C(0x7ffffffff000)

static uint32_t compared_error(const struct case_end *e)
{
    return e->vector == X86_PF && e->cr2 >= USER_END ? e->error | 1 : e->error;
}

static bool is_approximate(const struct silicon_case *c)
{
    const char *m = x86_forms[c->form].mnemonic;
    m += *m == 'v';
    return strncmp(m, "rcpp", 4) == 0 || strncmp(m, "rcps", 4) == 0 || strncmp(m, "rsqrt", 5) == 0;
}

/* Approximations may differ by twice their relative error of 1.5 * 2^-12, in units of 2^-23 (SDM 2,
 * RCPPS). */
static bool close_enough(uint32_t a, uint32_t b)
{
    enum { BOUND = 2 * 3 * 1024 + 2 };
    int64_t d = (int64_t)a - (int64_t)b;
    return d < BOUND && d > -BOUND;
}

static bool same_vectors(const struct silicon_case *c, const uint8_t *a, const uint8_t *b)
{
    if (memcmp(a, b, 256) == 0)
        return true;
    for (unsigned i = 0; i < 256; i += 4)
        if (!is_approximate(c) || !close_enough(load_u32(a + i), load_u32(b + i)))
            return false;
    return true;
}

/* What an x87 pointer can hold: the processor's linear addresses, of up to 57 bits. */
static int64_t pointer(const uint8_t *p)
{
    return bits_sign_extend(load_u64(p), 57);
}

/* AMD's processors save the last instruction's opcode and pointers only while an exception is
 * pending (APM 2, 11.4.4). */
static bool same_pointers(const uint8_t *a, const uint8_t *b)
{
    bool pending = load_u16(a + FX_FSW) & 0x80;
    return !pending || (load_u16(a + FX_FOP) == load_u16(b + FX_FOP) &&
                        pointer(a + FX_FIP) == pointer(b + FX_FIP) &&
                        pointer(a + FX_FDP) == pointer(b + FX_FDP));
}

static bool is_transcendental(const struct silicon_case *c)
{
    static const char *const names[] = {"f2xm1",  "fyl2x", "fyl2xp1", "fptan",
                                        "fpatan", "fsin",  "fcos",    "fsincos"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(x86_forms[c->form].mnemonic, names[i]) == 0)
            return true;
    return false;
}

/* One unit in the last place, across powers of two as well (SDM 1, 8.3.10). Numbers of one sign are
 * ordered as their exponents and mantissas are. */
static bool within_an_ulp(const uint8_t *a, const uint8_t *b)
{
    uint64_t d = load_u64(a) - load_u64(b);
    int exponents = load_u16(a + 8) - load_u16(b + 8);
    uint64_t step = exponents == 0 ? 1 : UINT64_C(1) + (UINT64_C(1) << 63);
    return exponents * exponents <= 1 && (d == step || d == -step);
}

static bool same_x87(const struct silicon_case *c, const uint8_t *a, const uint8_t *b,
                     bool no_pointers)
{
    bool near = is_transcendental(c);
    for (unsigned i = FX_ST; i < FX_XMM; i += 16)
        if (memcmp(a + i, b + i, 10) != 0 && !(near && within_an_ulp(a + i, b + i)))
            return false;
    uint16_t status = load_u16(a + FX_FSW) ^ load_u16(b + FX_FSW);
    return load_u16(a) == load_u16(b) && a[FX_FTW] == b[FX_FTW] &&
           (no_pointers || same_pointers(a, b)) && (status & ~(near ? 0x200u : 0)) == 0;
}

static bool same_gprs(const struct silicon_case *c, const uint64_t *a, const uint64_t *b)
{
    if (c->code == X86_CODE64)
        return memcmp(a, b, 16 * 8) == 0;
    for (unsigned i = 0; i < 8; i++)
        if ((uint32_t)a[i] != (uint32_t)b[i])
            return false;
    return true;
}

/* ---- memory ---- */

/* Bytes of an FXSAVE or XSAVE image that hold no state: reserved, or MXCSR_MASK. */
static bool is_unused_image(unsigned i)
{
    if (i >= FX_MXCSR + 4 && i < FX_ST)
        return true;
    if (i >= FX_ST && i < FX_XMM)
        return (i - FX_ST) % 16 >= 10;
    return i == FX_FTW + 1 || (i >= CASE_FX && i < 512);
}

/* Bytes of what FXSAVE, FNSAVE and their like write that are the opcode and the pointers. */
static bool is_pointer(const struct silicon_case *c, uint64_t at)
{
    static const struct {
        const char *mnemonic;
        unsigned opsize, from, to; /* opsize 0: any */
    } images[] = {{"fxsave", 0, FX_FOP, FX_MXCSR},
                  {"xsave", 0, FX_FOP, FX_MXCSR},
                  {"xsaveopt", 0, FX_FOP, FX_MXCSR},
                  {"xsavec", 0, FX_FOP, FX_MXCSR},
                  {"fnsave", 2, 6, 14},
                  {"fnstenv", 2, 6, 14},
                  {"fnsave", 4, 12, 28},
                  {"fnstenv", 4, 12, 28}};
    unsigned opsize = c->insn.opsize == 2 ? 2 : 4;
    for (unsigned i = 0; i < ARRAY_LEN(images); i++)
        if (strcmp(images[i].mnemonic, x86_forms[c->form].mnemonic) == 0 &&
            (!images[i].opsize || images[i].opsize == opsize))
            return at >= images[i].from && at < images[i].to;
    return false;
}

/* Where code is run as it is, a CALL whose target is not canonical has written its return address
 * below RSP when it faults. */
static bool is_below_call(const struct silicon_case *c, unsigned i)
{
    return strcmp(x86_forms[c->form].mnemonic, "call") == 0 &&
           c->before.gpr[X86_RSP] - (CASE_DATA + i) - 1 < 8;
}

static bool same_data(const struct silicon_case *c, const uint8_t *a, const uint8_t *b,
                      bool no_pointers)
{
    if (memcmp(a, b, CASE_WRITABLE) == 0)
        return true;
    const struct x86_form *f = &x86_forms[c->form];
    bool image = strncmp(f->mnemonic, "fxsave", 6) == 0 || strncmp(f->mnemonic, "xsave", 5) == 0;
    for (unsigned i = 0; i < CASE_WRITABLE; i++) {
        uint64_t at = CASE_DATA + i - c->operand;
        bool unused = image && at < 512 && is_unused_image((unsigned)at);
        bool open = no_pointers && (is_pointer(c, at) || is_below_call(c, i));
        if (a[i] != b[i] && !unused && !open)
            return false;
    }
    return true;
}

/* RF after a single step between two iterations of a string instruction: Intel's processors set it
 * (SDM 3, 17.3.1.1), AMD's do not. */
static uint32_t makers_flags(const struct silicon_case *c, const struct case_end *host)
{
    bool inside = host->vector == X86_DB && host->after.rip == c->before.rip;
    return inside ? FLAG_RF : 0;
}

/* CMPS whose operands both fault: AMD's processors begin with either, by prefix and size. */
static bool same_fault(const struct silicon_case *c, const struct case_end *host,
                       const struct case_end *ours)
{
    bool access = host->vector >= X86_SS_FAULT && ours->vector >= X86_SS_FAULT;
    if (strcmp(x86_forms[c->form].mnemonic, "cmps") == 0 && access)
        return true;
    return host->vector == ours->vector && compared_error(host) == compared_error(ours) &&
           host->cr2 == ours->cr2;
}

/* MXCSR.MM, which only AMD's processors have, was loaded: the model raises #GP. */
static bool has_misaligned_mode(const struct case_end *host)
{
    return load_u32(host->after.fx + FX_MXCSR) & 1u << 17;
}

static bool same_avx512(const struct case_regs *a, const struct case_regs *b)
{
    return memcmp(a->masks, b->masks, CASE_MASKS) == 0 &&
           memcmp(a->zmm_upper, b->zmm_upper, CASE_ZMM_UPPER) == 0 &&
           memcmp(a->zmm_more, b->zmm_more, CASE_ZMM_MORE) == 0;
}

bool case_same(const struct silicon_case *c, const struct case_end *host,
               const struct case_end *ours, const uint8_t *our_data)
{
    const struct case_regs *a = &host->after, *b = &ours->after;
    if (has_misaligned_mode(host))
        return true;
    uint32_t open = (host_is_amd() ? 0 : undefined_flags(c)) | makers_flags(c, host);
    uint64_t flags = (a->rflags ^ b->rflags) & ~(uint64_t)open;
    return same_fault(c, host, ours) && a->rip == b->rip && flags == 0 &&
           same_gprs(c, a->gpr, b->gpr) && same_x87(c, a->fx, b->fx, ours->no_pointers) &&
           load_u32(a->fx + FX_MXCSR) == load_u32(b->fx + FX_MXCSR) &&
           same_vectors(c, a->fx + FX_XMM, b->fx + FX_XMM) && same_vectors(c, a->upper, b->upper) &&
           (!c->avx512 || same_avx512(a, b)) &&
           same_data(c, host->data, our_data, ours->no_pointers);
}

/* ---- telling ---- */

static const char *const gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

static void print_bytes(const char *what, const uint8_t *p, unsigned n)
{
    printf("%s ", what);
    for (unsigned i = 0; i < n; i++)
        printf("%02x", p[i]);
}

static void print_high_first(const uint8_t *p, unsigned n)
{
    for (unsigned i = n; i-- > 0;)
        printf("%02x", p[i]);
}

static void print_operand(const struct silicon_case *c)
{
    enum { MOST = 32 };
    printf("#   operand at %llx, %u bytes", (unsigned long long)c->operand, c->operand_size);
    for (unsigned i = 0; i < c->patches; i++) {
        const struct case_patch *p = &c->patch[i];
        if (p->at == c->operand - CASE_DATA && p->size >= c->operand_size)
            print_bytes(", holds", p->bytes, p->size < MOST ? p->size : MOST);
    }
    printf("\n");
}

void case_print(const struct silicon_case *c)
{
    const struct x86_form *f = &x86_forms[c->form];
    const struct case_regs *s = &c->before;
    printf("# %s | %s %s, %u bit, seed 0x%llx: ", f->encoding, f->mnemonic, f->operands,
           c->code == X86_CODE64 ? 64 : 32, (unsigned long long)c->seed);
    print_bytes("bytes", c->bytes, c->len);
    printf("\n#   rip %llx rflags %llx fcw %04x fsw %04x tags %02x mxcsr %04x\n#  ",
           (unsigned long long)s->rip, (unsigned long long)s->rflags, load_u16(s->fx + FX_FCW),
           load_u16(s->fx + FX_FSW), s->fx[FX_FTW], load_u32(s->fx + FX_MXCSR));
    for (unsigned i = 0; i < (c->code == X86_CODE64 ? 16 : 8); i++)
        printf(" %s %llx", gpr_names[i], (unsigned long long)s->gpr[i]);
    printf("\n");
    if (c->operand_size)
        print_operand(c);
}

static void print_value(const char *name, uint64_t before, uint64_t host, uint64_t ours)
{
    if (host != ours)
        printf("#   %s: before %llx, silicon %llx, engine %llx\n", name, (unsigned long long)before,
               (unsigned long long)host, (unsigned long long)ours);
}

static void print_vector(const char *name, unsigned i, unsigned n, const uint8_t *before,
                         const uint8_t *host, const uint8_t *ours)
{
    if (memcmp(host, ours, n) == 0)
        return;
    printf("#   %s%u: before ", name, i);
    print_high_first(before, n);
    printf(", silicon ");
    print_high_first(host, n);
    printf(", engine ");
    print_high_first(ours, n);
    printf("\n");
}

static void print_data(const uint8_t *host, const uint8_t *ours)
{
    enum { MOST = 24 };
    unsigned told = 0;
    for (unsigned i = 0; i < CASE_WRITABLE; i++) {
        if (host[i] == ours[i])
            continue;
        if (++told > MOST)
            continue;
        printf("%s%llx: silicon %02x, engine %02x", told == 1 ? "#   memory " : "; ",
               (unsigned long long)(CASE_DATA + i), host[i], ours[i]);
    }
    if (told)
        printf(" (%u bytes differ)\n", told);
}

void case_report(const struct silicon_case *c, const struct case_end *host,
                 const struct case_end *ours, const uint8_t *our_data)
{
    const struct case_regs *a = &host->after, *b = &ours->after, *s = &c->before;
    case_print(c);
    if (host->vector != ours->vector || compared_error(host) != compared_error(ours) ||
        host->cr2 != ours->cr2)
        printf("#   ended with: silicon %u (%x) cr2 %llx, engine %u (%x) cr2 %llx\n", host->vector,
               host->error, (unsigned long long)host->cr2, ours->vector, ours->error,
               (unsigned long long)ours->cr2);
    print_value("rip", s->rip, a->rip, b->rip);
    print_value("rflags", s->rflags, a->rflags, b->rflags);
    for (unsigned i = 0; i < (c->code == X86_CODE64 ? 16 : 8); i++)
        print_value(gpr_names[i], s->gpr[i], a->gpr[i], b->gpr[i]);
    print_value("fcw", load_u16(s->fx), load_u16(a->fx), load_u16(b->fx));
    print_value("fsw", load_u16(s->fx + 2), load_u16(a->fx + 2), load_u16(b->fx + 2));
    print_value("tags", s->fx[FX_FTW], a->fx[FX_FTW], b->fx[FX_FTW]);
    print_value("fop", load_u16(s->fx + 6), load_u16(a->fx + 6), load_u16(b->fx + 6));
    print_value("fip", load_u64(s->fx + 8), load_u64(a->fx + 8), load_u64(b->fx + 8));
    print_value("fdp", load_u64(s->fx + 16), load_u64(a->fx + 16), load_u64(b->fx + 16));
    print_value("mxcsr", load_u32(s->fx + 24), load_u32(a->fx + 24), load_u32(b->fx + 24));
    for (unsigned i = 0; i < 8; i++)
        print_vector("st", i, 10, s->fx + FX_ST + 16 * i, a->fx + FX_ST + 16 * i,
                     b->fx + FX_ST + 16 * i);
    for (unsigned i = 0; i < 16; i++) {
        print_vector("xmm", i, 16, s->fx + FX_XMM + 16 * i, a->fx + FX_XMM + 16 * i,
                     b->fx + FX_XMM + 16 * i);
        print_vector("upper ymm", i, 16, s->upper + 16 * i, a->upper + 16 * i, b->upper + 16 * i);
    }
    for (unsigned i = 0; i < 8; i++)
        print_vector("k", i, 8, s->masks + 8 * i, a->masks + 8 * i, b->masks + 8 * i);
    for (unsigned i = 0; i < 16; i++) {
        print_vector("upper zmm", i, 32, s->zmm_upper + 32 * i, a->zmm_upper + 32 * i,
                     b->zmm_upper + 32 * i);
        print_vector("zmm", 16 + i, 64, s->zmm_more + 64 * i, a->zmm_more + 64 * i,
                     b->zmm_more + 64 * i);
    }
    print_data(host->data, our_data);
}

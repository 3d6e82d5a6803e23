/*
 * The x87 against silicon: random state, random operands, one instruction, run by the host's x87
 * between FXRSTOR and FXSAVE and by the semantics; registers, tags, words, pointers, memory and
 * RFLAGS must agree. Transcendental instructions must agree but for the last bit of the result.
 */
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "memory/memory.h"
#include "test.h"
#include "x86/fpu.h"
#include "x86/sem/op.h"
#include "x86/softfloat.h"

/* What memory operand a form has. */
enum kind {
    NONE,
    STI,
    REAL32,
    REAL64,
    REAL80,
    INT16,
    INT32,
    INT64,
    BCD,
    WORD,
    ENV,
    STATE,
    ENV16, /* the same two with an operand-size prefix */
    STATE16,
    NEAR, /* none; results are compared within one unit in the last place */
};

/* Every form but the transcendental ones: semantic, two opcode bytes (memory operands are at
 * [RSI]), condition, operand. */
#define FORMS(F)                                                                                   \
    F(fadd_m32, 0xd8, 0x06, 0, REAL32)                                                             \
    F(fmul_m32, 0xd8, 0x0e, 0, REAL32)                                                             \
    F(fcom_m32, 0xd8, 0x16, 0, REAL32)                                                             \
    F(fcomp_m32, 0xd8, 0x1e, 0, REAL32)                                                            \
    F(fsub_m32, 0xd8, 0x26, 0, REAL32)                                                             \
    F(fsubr_m32, 0xd8, 0x2e, 0, REAL32)                                                            \
    F(fdiv_m32, 0xd8, 0x36, 0, REAL32)                                                             \
    F(fdivr_m32, 0xd8, 0x3e, 0, REAL32)                                                            \
    F(fadd_st0_sti, 0xd8, 0xc0, 0, STI)                                                            \
    F(fmul_st0_sti, 0xd8, 0xc8, 0, STI)                                                            \
    F(fcom_st0_sti, 0xd8, 0xd0, 0, STI)                                                            \
    F(fcomp_st0_sti, 0xd8, 0xd8, 0, STI)                                                           \
    F(fsub_st0_sti, 0xd8, 0xe0, 0, STI)                                                            \
    F(fsubr_st0_sti, 0xd8, 0xe8, 0, STI)                                                           \
    F(fdiv_st0_sti, 0xd8, 0xf0, 0, STI)                                                            \
    F(fdivr_st0_sti, 0xd8, 0xf8, 0, STI)                                                           \
    F(fld_m32, 0xd9, 0x06, 0, REAL32)                                                              \
    F(fst_m32, 0xd9, 0x16, 0, REAL32)                                                              \
    F(fstp_m32, 0xd9, 0x1e, 0, REAL32)                                                             \
    F(fldenv, 0xd9, 0x26, 0, ENV)                                                                  \
    F(fldcw, 0xd9, 0x2e, 0, WORD)                                                                  \
    F(fnstenv, 0xd9, 0x36, 0, ENV)                                                                 \
    F(fnstcw, 0xd9, 0x3e, 0, WORD)                                                                 \
    F(fld_st, 0xd9, 0xc0, 0, STI)                                                                  \
    F(fxch, 0xd9, 0xc8, 0, STI)                                                                    \
    F(fnop, 0xd9, 0xd0, 0, NONE)                                                                   \
    F(fstpnce, 0xd9, 0xd8, 0, STI)                                                                 \
    F(fchs, 0xd9, 0xe0, 0, NONE)                                                                   \
    F(fabs, 0xd9, 0xe1, 0, NONE)                                                                   \
    F(ftst, 0xd9, 0xe4, 0, NONE)                                                                   \
    F(fxam, 0xd9, 0xe5, 0, NONE)                                                                   \
    F(fld1, 0xd9, 0xe8, 0, NONE)                                                                   \
    F(fldl2t, 0xd9, 0xe9, 0, NONE)                                                                 \
    F(fldl2e, 0xd9, 0xea, 0, NONE)                                                                 \
    F(fldpi, 0xd9, 0xeb, 0, NONE)                                                                  \
    F(fldlg2, 0xd9, 0xec, 0, NONE)                                                                 \
    F(fldln2, 0xd9, 0xed, 0, NONE)                                                                 \
    F(fldz, 0xd9, 0xee, 0, NONE)                                                                   \
    F(fxtract, 0xd9, 0xf4, 0, NONE)                                                                \
    F(fprem1, 0xd9, 0xf5, 0, NONE)                                                                 \
    F(fdecstp, 0xd9, 0xf6, 0, NONE)                                                                \
    F(fincstp, 0xd9, 0xf7, 0, NONE)                                                                \
    F(fprem, 0xd9, 0xf8, 0, NONE)                                                                  \
    F(fsqrt, 0xd9, 0xfa, 0, NONE)                                                                  \
    F(frndint, 0xd9, 0xfc, 0, NONE)                                                                \
    F(fscale, 0xd9, 0xfd, 0, NONE)                                                                 \
    F(fiadd_m32, 0xda, 0x06, 0, INT32)                                                             \
    F(fimul_m32, 0xda, 0x0e, 0, INT32)                                                             \
    F(ficom_m32, 0xda, 0x16, 0, INT32)                                                             \
    F(ficomp_m32, 0xda, 0x1e, 0, INT32)                                                            \
    F(fisub_m32, 0xda, 0x26, 0, INT32)                                                             \
    F(fisubr_m32, 0xda, 0x2e, 0, INT32)                                                            \
    F(fidiv_m32, 0xda, 0x36, 0, INT32)                                                             \
    F(fidivr_m32, 0xda, 0x3e, 0, INT32)                                                            \
    F(fcmovcc, 0xda, 0xc0, 0, STI)                                                                 \
    F(fcmovcc, 0xda, 0xc8, 1, STI)                                                                 \
    F(fcmovcc, 0xda, 0xd0, 2, STI)                                                                 \
    F(fcmovcc, 0xda, 0xd8, 3, STI)                                                                 \
    F(fucompp, 0xda, 0xe9, 0, NONE)                                                                \
    F(fild_m32, 0xdb, 0x06, 0, INT32)                                                              \
    F(fisttp_m32, 0xdb, 0x0e, 0, INT32)                                                            \
    F(fist_m32, 0xdb, 0x16, 0, INT32)                                                              \
    F(fistp_m32, 0xdb, 0x1e, 0, INT32)                                                             \
    F(fld_m80, 0xdb, 0x2e, 0, REAL80)                                                              \
    F(fstp_m80, 0xdb, 0x3e, 0, REAL80)                                                             \
    F(fcmovcc, 0xdb, 0xc0, 4, STI)                                                                 \
    F(fcmovcc, 0xdb, 0xc8, 5, STI)                                                                 \
    F(fcmovcc, 0xdb, 0xd0, 6, STI)                                                                 \
    F(fcmovcc, 0xdb, 0xd8, 7, STI)                                                                 \
    F(fnop, 0xdb, 0xe0, 0, NONE)                                                                   \
    F(fnop, 0xdb, 0xe1, 0, NONE)                                                                   \
    F(fnclex, 0xdb, 0xe2, 0, NONE)                                                                 \
    F(fninit, 0xdb, 0xe3, 0, NONE)                                                                 \
    F(fnop, 0xdb, 0xe4, 0, NONE)                                                                   \
    F(fucomi, 0xdb, 0xe8, 0, STI)                                                                  \
    F(fcomi, 0xdb, 0xf0, 0, STI)                                                                   \
    F(fadd_m64, 0xdc, 0x06, 0, REAL64)                                                             \
    F(fmul_m64, 0xdc, 0x0e, 0, REAL64)                                                             \
    F(fcom_m64, 0xdc, 0x16, 0, REAL64)                                                             \
    F(fcomp_m64, 0xdc, 0x1e, 0, REAL64)                                                            \
    F(fsub_m64, 0xdc, 0x26, 0, REAL64)                                                             \
    F(fsubr_m64, 0xdc, 0x2e, 0, REAL64)                                                            \
    F(fdiv_m64, 0xdc, 0x36, 0, REAL64)                                                             \
    F(fdivr_m64, 0xdc, 0x3e, 0, REAL64)                                                            \
    F(fadd_sti_st0, 0xdc, 0xc0, 0, STI)                                                            \
    F(fmul_sti_st0, 0xdc, 0xc8, 0, STI)                                                            \
    F(fcom_st0_sti, 0xdc, 0xd0, 0, STI)                                                            \
    F(fcomp_st0_sti, 0xdc, 0xd8, 0, STI)                                                           \
    F(fsubr_sti_st0, 0xdc, 0xe0, 0, STI)                                                           \
    F(fsub_sti_st0, 0xdc, 0xe8, 0, STI)                                                            \
    F(fdivr_sti_st0, 0xdc, 0xf0, 0, STI)                                                           \
    F(fdiv_sti_st0, 0xdc, 0xf8, 0, STI)                                                            \
    F(fld_m64, 0xdd, 0x06, 0, REAL64)                                                              \
    F(fisttp_m64, 0xdd, 0x0e, 0, INT64)                                                            \
    F(fst_m64, 0xdd, 0x16, 0, REAL64)                                                              \
    F(fstp_m64, 0xdd, 0x1e, 0, REAL64)                                                             \
    F(frstor, 0xdd, 0x26, 0, STATE)                                                                \
    F(fnsave, 0xdd, 0x36, 0, STATE)                                                                \
    F(fnstsw_m, 0xdd, 0x3e, 0, WORD)                                                               \
    F(ffree, 0xdd, 0xc0, 0, STI)                                                                   \
    F(fxch, 0xdd, 0xc8, 0, STI)                                                                    \
    F(fst_st, 0xdd, 0xd0, 0, STI)                                                                  \
    F(fstp_st, 0xdd, 0xd8, 0, STI)                                                                 \
    F(fucom, 0xdd, 0xe0, 0, STI)                                                                   \
    F(fucomp, 0xdd, 0xe8, 0, STI)                                                                  \
    F(fiadd_m16, 0xde, 0x06, 0, INT16)                                                             \
    F(fimul_m16, 0xde, 0x0e, 0, INT16)                                                             \
    F(ficom_m16, 0xde, 0x16, 0, INT16)                                                             \
    F(ficomp_m16, 0xde, 0x1e, 0, INT16)                                                            \
    F(fisub_m16, 0xde, 0x26, 0, INT16)                                                             \
    F(fisubr_m16, 0xde, 0x2e, 0, INT16)                                                            \
    F(fidiv_m16, 0xde, 0x36, 0, INT16)                                                             \
    F(fidivr_m16, 0xde, 0x3e, 0, INT16)                                                            \
    F(faddp, 0xde, 0xc0, 0, STI)                                                                   \
    F(fmulp, 0xde, 0xc8, 0, STI)                                                                   \
    F(fcomp_st0_sti, 0xde, 0xd0, 0, STI)                                                           \
    F(fcompp, 0xde, 0xd9, 0, NONE)                                                                 \
    F(fsubrp, 0xde, 0xe0, 0, STI)                                                                  \
    F(fsubp, 0xde, 0xe8, 0, STI)                                                                   \
    F(fdivrp, 0xde, 0xf0, 0, STI)                                                                  \
    F(fdivp, 0xde, 0xf8, 0, STI)                                                                   \
    F(fild_m16, 0xdf, 0x06, 0, INT16)                                                              \
    F(fisttp_m16, 0xdf, 0x0e, 0, INT16)                                                            \
    F(fist_m16, 0xdf, 0x16, 0, INT16)                                                              \
    F(fistp_m16, 0xdf, 0x1e, 0, INT16)                                                             \
    F(fbld, 0xdf, 0x26, 0, BCD)                                                                    \
    F(fild_m64, 0xdf, 0x2e, 0, INT64)                                                              \
    F(fbstp, 0xdf, 0x36, 0, BCD)                                                                   \
    F(fistp_m64, 0xdf, 0x3e, 0, INT64)                                                             \
    F(ffreep, 0xdf, 0xc0, 0, STI)                                                                  \
    F(fxch, 0xdf, 0xc8, 0, STI)                                                                    \
    F(fstp_st, 0xdf, 0xd0, 0, STI)                                                                 \
    F(fstp_st, 0xdf, 0xd8, 0, STI)                                                                 \
    F(fnstsw_ax, 0xdf, 0xe0, 0, NONE)                                                              \
    F(fucomip, 0xdf, 0xe8, 0, STI)                                                                 \
    F(fcomip, 0xdf, 0xf0, 0, STI)

/* The 16-bit layouts. */
#define MORE_FORMS(F)                                                                              \
    F(fnstenv, 0xd9, 0x36, 0, ENV16)                                                               \
    F(fldenv, 0xd9, 0x26, 0, ENV16)                                                                \
    F(fnsave, 0xdd, 0x36, 0, STATE16)                                                              \
    F(frstor, 0xdd, 0x26, 0, STATE16)

#define TRANSCENDENTAL(F)                                                                          \
    F(f2xm1, 0xd9, 0xf0, 0, NEAR)                                                                  \
    F(fyl2x, 0xd9, 0xf1, 0, NEAR)                                                                  \
    F(fptan, 0xd9, 0xf2, 0, NEAR)                                                                  \
    F(fpatan, 0xd9, 0xf3, 0, NEAR)                                                                 \
    F(fyl2xp1, 0xd9, 0xf9, 0, NEAR)                                                                \
    F(fsincos, 0xd9, 0xfb, 0, NEAR)                                                                \
    F(fsin, 0xd9, 0xfe, 0, NEAR)                                                                   \
    F(fcos, 0xd9, 0xff, 0, NEAR)

/* ---- a processor to run semantics on ---- */

enum { OPERAND = 0x8000, OPERAND_SIZE = 128 };

static struct memory memory;
static struct x86_cpu *cpu;

static bool cpu_start(void)
{
    if (cpu)
        return true;
    struct error error = {0};
    cpu = calloc(1, sizeof *cpu);
    if (!cpu || !memory_create(&memory, 1 << 20, &error)) {
        printf("# %s\n", error.text);
        return false;
    }
    cpu->memory = &memory;
    x86_tlb_init(cpu);
    x86_state_reset(&cpu->s, true, false);
    cpu->s.cr0 = CR0_PE | CR0_NE | CR0_MP | CR0_ET;
    cpu->code = X86_CODE64;
    return true;
}

static uint8_t *operand(void)
{
    return memory_hva(&memory, OPERAND);
}

static struct op make_op(unsigned b0, unsigned b1, unsigned cc)
{
    struct op op = {.imm = (b0 & 7) << 8 | b1,
                    .ea = b1 < 0xc0 ? EA_FLAT : EA_REG,
                    .end = 2,
                    .len = 2,
                    .size = 4,
                    .base = X86_RSI,
                    .index = X86_GPR_ZERO,
                    .seg = X86_DS,
                    .rm = b1 & 7,
                    .cc = (uint8_t)cc};
    return op;
}

/* Runs one instruction. Returns the vector of the fault it raised, or -1. */
static int run(const struct sem *sem, const struct op *op)
{
    cpu->s.gpr[X86_RSI] = OPERAND;
    if (setjmp(cpu->fault_jump))
        return cpu->fault.vector;
    sem->any(cpu, op);
    return -1;
}

#define DECLARE(name, b0, b1, cc, kind) extern const struct sem name##_sem;
FORMS(DECLARE)
TRANSCENDENTAL(DECLARE)
#undef DECLARE

/* ---- what does not need a host ---- */

static void x87_reset(void)
{
    x86_x87_init(&cpu->s, true);
    cpu->no_x87 = false;
    cpu->s.cr0 |= CR0_NE;
}

TEST(pending_exceptions_raise_mf_at_the_next_waiting_instruction)
{
    if (!cpu_start())
        SKIP("no memory");
    x87_reset();
    cpu->s.fcw = 0x37e; /* invalid operation unmasked */
    struct op fchs = make_op(0xd9, 0xe0, 0), fnstsw = make_op(0xdf, 0xe0, 0);
    CHECK_EQ(run(&fchs_sem, &fchs), -1); /* a stack fault */
    CHECK_EQ(cpu->s.fsw, 0x80c1);
    CHECK_EQ(run(&fchs_sem, &fchs), X86_MF);
    CHECK_EQ(run(&fnstsw_ax_sem, &fnstsw), -1);
    CHECK_EQ(cpu->s.gpr[X86_RAX] & 0xffff, 0x80c1);
}

TEST(no_x87_raises_nm)
{
    if (!cpu_start())
        SKIP("no memory");
    x87_reset();
    cpu->no_x87 = true;
    struct op fld1 = make_op(0xd9, 0xe8, 0), fninit = make_op(0xdb, 0xe3, 0);
    CHECK_EQ(run(&fld1_sem, &fld1), X86_NM);
    CHECK_EQ(run(&fninit_sem, &fninit), X86_NM);
    CHECK_EQ(cpu->s.ftag, 0);
    x87_reset();
}

TEST(a_store_that_faults_changes_nothing)
{
    if (!cpu_start())
        SKIP("no memory");
    x87_reset();
    struct op fld1 = make_op(0xd9, 0xe8, 0), fstp = make_op(0xdd, 0x1e, 0);
    CHECK_EQ(run(&fld1_sem, &fld1), -1);
    struct x86_state before = cpu->s;
    fstp.base = X86_RDI;
    cpu->s.gpr[X86_RDI] = before.gpr[X86_RDI] = UINT64_C(0x8000000000000000);
    before.gpr[X86_RSI] = OPERAND;
    CHECK_EQ(run(&fstp_m64_sem, &fstp), X86_GP);
    CHECK(memcmp(&before, &cpu->s, sizeof before) == 0);
}

static bool ferr;
static void on_ferr(void *ctx, bool level)
{
    (void)ctx;
    ferr = level;
}

TEST(without_ne_exceptions_drive_ferr)
{
    if (!cpu_start())
        SKIP("no memory");
    x87_reset();
    cpu->s.cr0 &= ~(uint64_t)CR0_NE;
    cpu->host.fpu_error = on_ferr;
    cpu->s.fcw = 0x37e;
    struct op fchs = make_op(0xd9, 0xe0, 0), fnclex = make_op(0xdb, 0xe2, 0);
    run(&fchs_sem, &fchs);
    CHECK(ferr);
    run(&fnclex_sem, &fnclex);
    CHECK(!ferr);
    cpu->host.fpu_error = NULL;
    x87_reset();
}

TEST(mmx_makes_all_registers_valid)
{
    if (!cpu_start())
        SKIP("no memory");
    x87_reset();
    cpu->s.fsw = 0x2800;
    x86_mmx_enter(cpu);
    CHECK_EQ(cpu->s.ftag, 0xff);
    CHECK_EQ(cpu->s.fsw, 0);
    x86_mmx_write(cpu, 3, 42);
    CHECK_EQ(cpu->s.st[3].se, 0xffff);
    CHECK_EQ(x86_mmx_read(cpu, 3), 42);
    x87_reset();
}

/* The environment in 16-bit protected mode, and in real mode of both widths. */
TEST(environment_layouts_are_the_manuals)
{
    if (!cpu_start())
        SKIP("no memory");
    x87_reset();
    cpu->s.fip = 0x12345678;
    cpu->s.fdp = 0x9abcdef0;
    cpu->s.fop = 0x5a5;
    struct op op = make_op(0xd9, 0x36, 0);
    uint64_t cr0 = cpu->s.cr0;
    op.size = 2;
    CHECK_EQ(run(&fnstenv_sem, &op), -1);
    CHECK_EQ(load_u16(operand() + 4), 0xffff);
    CHECK_EQ(load_u16(operand() + 6), 0x5678);
    CHECK_EQ(load_u16(operand() + 8), 0);
    CHECK_EQ(load_u16(operand() + 10), 0xdef0);
    cpu->s.cr0 &= ~(uint64_t)CR0_PE;
    CHECK_EQ(run(&fnstenv_sem, &op), -1);
    CHECK_EQ(load_u16(operand() + 6), 0x5678);
    CHECK_EQ(load_u16(operand() + 8), 0x45a5);
    CHECK_EQ(load_u16(operand() + 12), 0xc000);
    op.size = 4;
    CHECK_EQ(run(&fnstenv_sem, &op), -1);
    CHECK_EQ(load_u32(operand() + 12), 0xffff5678);
    CHECK_EQ(load_u32(operand() + 16), 0x12345a5 & 0xffff7ff);
    CHECK_EQ(run(&fldenv_sem, &op), -1);
    CHECK_EQ(cpu->s.fip, 0x12345678);
    CHECK_EQ(cpu->s.fdp, 0x9abcdef0);
    CHECK_EQ(cpu->s.fop, 0x5a5);
    cpu->s.cr0 = cr0;
    x87_reset();
}

#ifdef __x86_64__

/* What the manuals leave to the maker (the pointers without a pending exception, condition codes,
 * how far FPREM gets, unmasked responses here and there) the semantics do as AMD's processors do.
 * Other hosts are compared in what is everybody's: masked responses. */
static bool host_is_reference(void)
{
    return __builtin_cpu_is("amd");
}

/* ---- random numbers ---- */

static uint64_t seed;

static uint64_t rnd(void) /* xorshift64* */
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return seed * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t random_fraction(unsigned bits)
{
    uint64_t r = rnd(), mask = bits_mask(bits);
    switch (r & 7) {
    case 0: return 0;
    case 1: return mask << (r >> 8 & 63) % bits & mask;
    case 2: return UINT64_C(1) << (r >> 8 & 63) % bits;
    case 3: return mask - (r >> 8 & 3);
    case 4: return r >> 8 & 7;
    default: return rnd() & mask;
    }
}

/* An exponent field of a format whose largest is max: special ones and edges are likely. */
static unsigned random_exponent(unsigned max)
{
    uint64_t r = rnd();
    unsigned bias = max / 2, small = r >> 8 & 15;
    switch (r & 15) {
    case 0: return 0;
    case 1: return max;
    case 2: return 1 + (small & 7);
    case 3: return max - 1 - (small & 7);
    case 4: return bias / 2 + small - 8;
    case 5: return bias + bias / 2 + small - 8;
    case 6: return bias + (r >> 8 & 127) - 20;
    case 7: return (r >> 8) % max;
    default: return bias + small - 8;
    }
}

static sf80 random_f80(void)
{
    uint64_t r = rnd();
    unsigned exp = random_exponent(0x7fff);
    uint64_t fraction = random_fraction(63);
    if ((r & 15) == 1) /* near the edges of single and double precision */
        exp = (r & 16 ? 0x3fff + 128 : 0x3fff - 127 - 20) + (r >> 8 & 31) - 4;
    if ((r & 15) == 2)
        exp = (r & 16 ? 0x3fff + 1024 : 0x3fff - 1023 - 50) + (r >> 8 & 63) - 4;
    bool integer = exp ? (r >> 32 & 63) != 0 : (r >> 32 & 7) == 0;
    return (sf80){.mantissa = fraction | (uint64_t)integer << 63,
                  .se = (uint16_t)((r >> 63) << 15 | exp)};
}

static uint64_t random_real(unsigned fraction, unsigned exp_bits)
{
    return rnd() >> 63 << (fraction + exp_bits) |
           (uint64_t)random_exponent((1u << exp_bits) - 1) << fraction | random_fraction(fraction);
}

static uint16_t random_fcw(void)
{
    uint64_t r = rnd();
    unsigned fcw = 0x40 | (r & 0xc00) | (r >> 16 & 0x300);
    bool masked = (r >> 32 & 3) || !host_is_reference();
    return (uint16_t)(fcw | (masked ? 0x3f : r >> 40 & 0x3f));
}

/* Flags only where they are masked: nothing is pending. */
static uint16_t random_fsw(uint16_t fcw)
{
    uint64_t r = rnd();
    unsigned fsw = r & 0x7f00;
    if ((r >> 32 & 3) == 0)
        fsw |= r >> 40 & 0x7f & (fcw | 0x40);
    return (uint16_t)fsw;
}

static void random_area(uint8_t *area)
{
    uint16_t fcw = random_fcw();
    uint64_t r = rnd();
    memset(area, 0, 512);
    store_u16(area, fcw);
    store_u16(area + 2, random_fsw(fcw));
    area[4] = r & 7 ? 0xff : (uint8_t)(r >> 8);
    if ((r & 7) > 4) /* room for a push */
        area[4] = (uint8_t) ~(1u << (((area[3] >> 3 & 7) + 7) & 7));
    store_u16(area + 6, r >> 16 & 0x7ff);
    store_u64(area + 8, rnd() >> 17);
    store_u64(area + 16, rnd() >> 17);
    store_u32(area + 24, 0x1f80);
    for (unsigned i = 0; i < 8; i++) {
        sf80 v = random_f80();
        store_u64(area + 32 + 16 * i, v.mantissa);
        store_u16(area + 40 + 16 * i, v.se);
    }
    if ((r >> 32 & 7) == 0) /* operands that nearly cancel, or are equal */
        memcpy(area + 48, area + 32, 10), area[48] ^= r >> 40 & 3, area[57] ^= r >> 48 & 0x80;
}

static void random_operand(enum kind kind, uint8_t *to)
{
    uint64_t r = rnd();
    sf80 v = random_f80();
    for (unsigned i = 0; i < OPERAND_SIZE; i += 8)
        store_u64(to + i, rnd());
    switch (kind) {
    case REAL32: store_u32(to, (uint32_t)random_real(23, 8)); break;
    case REAL64: store_u64(to, random_real(52, 11)); break;
    case INT16:
    case INT32:
    case INT64: store_u64(to, (r & 3) ? rnd() >> (r >> 8 & 63) : (r >> 8 & 3) - 1); break;
    case REAL80:
        store_u64(to, v.mantissa);
        store_u16(to + 8, v.se);
        break;
    case WORD: store_u16(to, random_fcw()); break;
    case BCD:
        for (unsigned i = 0; i < 9; i++)
            to[i] = (uint8_t)((to[i] & 15) % 10 | (to[i] >> 4) % 10 << 4);
        break;
    case ENV:
    case STATE:
    case ENV16:
    case STATE16: {
        uint16_t fcw = random_fcw();
        store_u16(to, fcw);
        bool wide = kind == ENV || kind == STATE;
        store_u16(to + (wide ? 4 : 2), random_fsw(fcw) | (r & 0x80ff & (r >> 16)));
        break;
    }
    default: break;
    }
}

/* ---- the host ---- */

/* Code at `page` that loads the state at RDI and the flags in RCX, runs the instruction (two bytes,
 * and a prefix or a NOP before them), and saves the state to RDX, RAX to *R8, and returns the
 * flags.
 */
typedef uint64_t host_fn(const uint8_t *in, uint8_t *mem, uint8_t *out, uint64_t flags,
                         uint64_t *rax);
static uint8_t *code_page;
enum { INSN_AT = 8 };

static bool host_start(void)
{
    if (code_page)
        return true;
    void *p =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return false;
    static const uint8_t code[] = {
        0x48, 0x0f, 0xae, 0x0f, /* fxrstor64 [rdi] */
        0x31, 0xc0,             /* xor eax, eax */
        0x51,                   /* push rcx */
        0x9d,                   /* popfq */
        0x90, 0xd9, 0xd0,       /* the instruction */
        0x9c,                   /* pushfq */
        0x48, 0x0f, 0xae, 0x02, /* fxsave64 [rdx] */
        0xdb, 0xe3,             /* fninit */
        0x49, 0x89, 0x00,       /* mov [r8], rax */
        0x58,                   /* pop rax */
        0xc3,                   /* ret */
    };
    code_page = p;
    memcpy(code_page, code, sizeof code);
    return true;
}

static uint64_t host_run(const uint8_t insn[3], const uint8_t *in, uint8_t *mem, uint8_t *out,
                         uint64_t flags, uint64_t *rax)
{
    host_fn *fn;
    uint8_t *entry = code_page;
    memcpy(code_page + INSN_AT, insn, 3);
    memcpy(&fn, &entry, sizeof fn);
    return fn(in, mem, out, flags, rax);
}

/* ---- the comparison ---- */

struct form {
    const char *name;
    const struct sem *sem;
    uint8_t b0, b1, cc;
    enum kind kind;
};

#define FORM(name, b0, b1, cc, kind) {#name, &name##_sem, b0, b1, cc, kind},
static const struct form forms[] = {FORMS(FORM) MORE_FORMS(FORM)};
static const struct form transcendental[] = {TRANSCENDENTAL(FORM)};

struct outcome {
    _Alignas(16) uint8_t area[512];
    uint8_t mem[OPERAND_SIZE];
    uint64_t rax, flags;
};

static void dump(const char *who, const struct outcome *o)
{
    printf("# %s fcw %04x fsw %04x tag %02x fop %03x fip %llx fdp %llx ax %04x flags %03x\n#  ",
           who, load_u16(o->area), load_u16(o->area + 2), o->area[4], load_u16(o->area + 6),
           (unsigned long long)load_u64(o->area + 8), (unsigned long long)load_u64(o->area + 16),
           (unsigned)o->rax, (unsigned)o->flags);
    for (unsigned i = 0; i < 8; i++)
        printf(" %04x:%016llx", load_u16(o->area + 40 + 16 * i),
               (unsigned long long)load_u64(o->area + 32 + 16 * i));
    printf("\n#   mem");
    for (unsigned i = 0; i < 28; i++)
        printf("%s%02x", i % 4 ? "" : " ", o->mem[i]);
    printf("\n");
}

static bool same_outcome(const struct outcome *a, const struct outcome *b)
{
    return memcmp(a->area, b->area, 24) == 0 && memcmp(a->area + 32, b->area + 32, 128) == 0 &&
           memcmp(a->mem, b->mem, OPERAND_SIZE) == 0 && a->rax == b->rax && a->flags == b->flags;
}

static const uint64_t status = 0x8d5;

static void run_host(const struct form *f, unsigned b1, const uint8_t *in, struct outcome *o)
{
    bool narrow = f->kind == ENV16 || f->kind == STATE16;
    const uint8_t insn[3] = {narrow ? 0x66 : 0x90, f->b0, (uint8_t)b1};
    o->flags = host_run(insn, in, o->mem, o->area, 0x202 | o->flags, &o->rax) & status;
    /* The pointers as they are in the guest's terms. */
    if (load_u64(o->area + 16) == (uintptr_t)o->mem)
        store_u64(o->area + 16, OPERAND);
    if (load_u64(o->area + 8) == (uintptr_t)code_page + INSN_AT + !narrow)
        store_u64(o->area + 8, 0x1000);
}

static void run_soft(const struct form *f, unsigned b1, const uint8_t *in, struct outcome *o)
{
    struct op op = make_op(f->b0, b1, f->cc);
    if (f->kind == ENV16 || f->kind == STATE16)
        op.size = 2;
    cpu->s.gpr[X86_GPR_BLOCK] = 0x1000;
    cpu->s.gpr[X86_RAX] = 0;
    x86_set_status(cpu, o->flags);
    x86_fxrstor_x87(cpu, in, true);
    memcpy(operand(), o->mem, OPERAND_SIZE);
    CHECK_EQ(run(f->sem, &op), -1);
    memcpy(o->mem, operand(), OPERAND_SIZE);
    x86_fxsave_x87(cpu, o->area, true);
    o->rax = cpu->s.gpr[X86_RAX];
    o->flags = x86_rflags(cpu) & status;
}

/* Moves ST(0) into the range where the function is defined, mostly. */
static void tame(uint8_t *area)
{
    uint64_t r = rnd();
    uint16_t se = load_u16(area + 40);
    if (r & 3)
        store_u16(area + 40, (uint16_t)((se & 0x8000) | (0x3fff - 10 + (r >> 8 & 15))));
}

/* Whether the outcomes agree but for one unit in the last place of what may be results, ST(0) and
 * ST(1), and then for C1. */
static bool close_outcome(const struct outcome *a, const struct outcome *b)
{
    struct outcome c = *b;
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *st = a->area + 32 + 16 * i;
        __int128 x = (__int128)load_u16(st + 8) << 63 | (load_u64(st) & INT64_MAX);
        __int128 y = (__int128)load_u16(c.area + 40 + 16 * i) << 63 |
                     (load_u64(c.area + 32 + 16 * i) & INT64_MAX);
        if (x - y == 1 || y - x == 1)
            memcpy(c.area + 32 + 16 * i, st, 10);
    }
    c.area[3] = (uint8_t)((c.area[3] & ~2) | (a->area[3] & 2));
    return same_outcome(a, &c);
}

static void forget_what_is_the_makers(struct outcome *o)
{
    if (host_is_reference())
        return;
    memset(o->area + 6, 0, 18);
    o->area[3] &= 0xb8;
}

enum agreement { DIFFERENT, CLOSE, SAME };

static enum agreement agree(const struct form *f)
{
    static struct outcome host, soft, before;
    unsigned b1 = f->kind == STI ? f->b1 + (rnd() & 7) : f->b1;
    memset(&before, 0, sizeof before);
    random_area(before.area);
    if (f->kind == NEAR)
        tame(before.area);
    random_operand(f->kind, before.mem);
    before.flags = rnd() & status;
    soft = before;
    run_soft(f, b1, before.area, &soft);
    forget_what_is_the_makers(&soft);
    /* A context switch in the wrong place loses the host's pointers: once more then. */
    for (unsigned tries = 0; tries < 3; tries++) {
        host = before;
        run_host(f, b1, before.area, &host);
        forget_what_is_the_makers(&host);
        if (same_outcome(&host, &soft))
            return SAME;
        if (f->kind == NEAR && close_outcome(&host, &soft))
            return CLOSE;
    }
    printf("# %s (%02x %02x) differs\n", f->name, f->b0, b1);
    dump("before", &before);
    dump("host  ", &host);
    dump("soft  ", &soft);
    return DIFFERENT;
}

static unsigned cases(unsigned n)
{
    const char *scale = getenv("DOPPEL_TEST_SCALE");
    return n * (scale ? (unsigned)atoi(scale) : 1);
}

TEST(every_form_is_the_hosts)
{
    if (!cpu_start() || !host_start())
        SKIP("no memory");
    seed = UINT64_C(0x9e3779b97f4a7c15);
    const char *only = getenv("X87_ONLY");
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        unsigned wrong = 0;
        if (only && strcmp(only, forms[i].name) != 0)
            continue;
        if (!host_is_reference() && strncmp(forms[i].name, "fprem", 5) == 0)
            continue;
        for (unsigned n = 0; n < cases(20000) && wrong < 2; n++)
            wrong += agree(&forms[i]) != SAME;
        CHECK(wrong == 0);
    }
}

/* Most results are the host's to the last bit; where they are not, its own are rounded the other
 * way. */
TEST(transcendental_forms_are_the_hosts_within_one_ulp)
{
    if (!cpu_start() || !host_start())
        SKIP("no memory");
    if (!host_is_reference())
        SKIP("the host's results differ from AMD's beyond what is defined");
    seed = UINT64_C(0x9e3779b97f4a7c15);
    const char *only = getenv("X87_ONLY");
    for (size_t i = 0; i < ARRAY_LEN(transcendental); i++) {
        unsigned count[3] = {0};
        if (only && strcmp(only, transcendental[i].name) != 0)
            continue;
        for (unsigned n = 0; n < cases(20000) && count[DIFFERENT] < 5; n++)
            count[agree(&transcendental[i])]++;
        printf("# %s: %u the same, %u within 1 ulp\n", transcendental[i].name, count[SAME],
               count[CLOSE]);
        CHECK_EQ(count[DIFFERENT], 0);
    }
}

/* FXRSTOR and FXSAVE with nothing between them, of any control and status word. */
TEST(fxrstor_and_fxsave_are_the_hosts)
{
    static const uint8_t nops[3] = {0x90, 0x90, 0x90};
    if (!cpu_start() || !host_start())
        SKIP("no memory");
    if (!host_is_reference())
        SKIP("the host saves the pointers at other times than AMD's processors");
    seed = UINT64_C(0x9e3779b97f4a7c15);
    for (unsigned n = 0, wrong = 0; n < cases(20000) && wrong < 5; n++) {
        static struct outcome before, host, soft;
        random_area(before.area);
        store_u64(before.area, rnd());
        host = soft = before;
        x86_fxrstor_x87(cpu, before.area, true);
        x86_fxsave_x87(cpu, soft.area, true);
        bool same = false;
        for (unsigned tries = 0; tries < 3 && !same; tries++) {
            host_run(nops, before.area, host.mem, host.area, 0x202, &host.rax);
            host.flags = soft.flags;
            same = same_outcome(&host, &soft);
        }
        if (!same) {
            dump("before", &before);
            dump("host  ", &host);
            dump("soft  ", &soft);
            wrong++;
        }
        CHECK(same);
    }
}

#define SILICON                                                                                    \
    , T(fxrstor_and_fxsave_are_the_hosts), T(transcendental_forms_are_the_hosts_within_one_ulp),   \
        T(every_form_is_the_hosts)
#else
#define SILICON
#endif

TESTS(T(pending_exceptions_raise_mf_at_the_next_waiting_instruction), T(no_x87_raises_nm),
      T(a_store_that_faults_changes_nothing), T(without_ne_exceptions_drive_ferr),
      T(mmx_makes_all_registers_valid), T(environment_layouts_are_the_manuals) SILICON)

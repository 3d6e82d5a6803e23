#include "shape.h"

#include <string.h>

#include "values.h"

typedef void shape_fn(struct rng *r, struct silicon_case *c);

static uint64_t *gpr(struct silicon_case *c)
{
    return c->before.gpr;
}

/* The mnemonic, without the V of vector forms that are VEX-encoded. */
static const char *legacy_name(const struct silicon_case *c)
{
    const char *name = x86_forms[c->form].mnemonic;
    return name + ((c->insn.prefixes & X86_PREFIX_VEX) && *name == 'v');
}

/* The register operand that ModRM.rm names, when it is one of the general registers. */
static void set_rm(struct silicon_case *c, uint64_t v)
{
    if (!c->insn.is_mem && c->insn.rm < 16)
        gpr(c)[c->insn.rm] = v;
}

static void set_string_register(struct rng *r, struct silicon_case *c, unsigned reg)
{
    uint64_t a = value_address(r, c->insn.opsize, c->code);
    if (reg == X86_RSI && c->insn.segment == X86_FS)
        a -= c->code == X86_CODE64 ? CASE_FS64_BASE : CASE_FS32_BASE;
    if (reg == X86_RSI && c->insn.segment == X86_GS)
        a -= c->code == X86_CODE64 ? CASE_GS64_BASE : CASE_GS32_BASE;
    if (c->insn.addrsize == 4 && c->code == X86_CODE64 && rng_one_in(r, 2))
        a |= rng_next(r) << 32;
    gpr(c)[reg] = c->code == X86_CODE64 ? a : (uint32_t)a;
}

static void shape_string(struct rng *r, struct silicon_case *c)
{
    set_string_register(r, c, X86_RSI);
    set_string_register(r, c, X86_RDI);
    if (rng_below(r, 16))
        gpr(c)[X86_RCX] = rng_one_in(r, 8) ? rng_below(r, 3000) : rng_below(r, 40);
    if (c->insn.addrsize == 4 && c->code == X86_CODE64 && rng_one_in(r, 4))
        gpr(c)[X86_RCX] |= rng_next(r) << 32;
}

/* Dividends whose quotient has a chance to fit. */
static void shape_divide(struct rng *r, struct silicon_case *c)
{
    bool is_signed = x86_forms[c->form].mnemonic[0] == 'i';
    uint64_t *g = gpr(c), rax = g[X86_RAX];
    if (rng_one_in(r, 5) || c->insn.opsize > 8) /* DIVPS and the like begin so, too */
        return;
    if (c->insn.opsize == 1) {
        g[X86_RAX] = is_signed ? (uint64_t)(int8_t)rax : (uint8_t)rax;
        if (rng_one_in(r, 2))
            g[X86_RAX] += (uint64_t)rng_below(r, 8) << 8;
        return;
    }
    unsigned bits = c->insn.opsize * 8;
    bool negative = rax >> (bits - 1) & 1;
    g[X86_RDX] = is_signed && negative ? UINT64_MAX : 0;
    if (rng_one_in(r, 2))
        g[X86_RDX] += rng_below(r, 8);
    if (rng_one_in(r, 4) && bits > 16)
        g[X86_RDX] = rng_next(r) >> rng_below(r, 64);
}

/* Bit offsets that stay in the data pages. */
static void shape_bit(struct rng *r, struct silicon_case *c)
{
    if (!c->insn.is_mem || x86_forms[c->form].operand[1].kind != OPK_G || rng_one_in(r, 12))
        return;
    gpr(c)[c->insn.reg] = (uint64_t)((int64_t)rng_below(r, 0x2000) - 0x1000);
    if (rng_one_in(r, 3)) /* what is above the operand's size does not count */
        gpr(c)[c->insn.reg] ^= rng_next(r) << (c->insn.opsize * 8u % 64);
    if (c->code != X86_CODE64)
        gpr(c)[c->insn.reg] = (uint32_t)gpr(c)[c->insn.reg];
}

static void shape_count(struct rng *r, struct silicon_case *c)
{
    if (rng_one_in(r, 2))
        gpr(c)[X86_RCX] = (gpr(c)[X86_RCX] & ~UINT64_C(0xff)) | rng_below(r, 70);
}

static void shape_loop(struct rng *r, struct silicon_case *c)
{
    if (rng_below(r, 3))
        gpr(c)[X86_RCX] = rng_below(r, 3);
    if (c->code == X86_CODE64 && rng_one_in(r, 6))
        gpr(c)[X86_RCX] |= rng_next(r) << 32;
}

static void shape_xlat(struct rng *r, struct silicon_case *c)
{
    uint64_t base =
        c->insn.segment == X86_FS   ? (c->code == X86_CODE64 ? CASE_FS64_BASE : CASE_FS32_BASE)
        : c->insn.segment == X86_GS ? (c->code == X86_CODE64 ? CASE_GS64_BASE : CASE_GS32_BASE)
                                    : 0;
    uint64_t a = value_address(r, 1, c->code) - (uint8_t)gpr(c)[X86_RAX] - base;
    gpr(c)[X86_RBX] = c->code == X86_CODE64 ? a : (uint32_t)a;
}

static void shape_maskmov(struct rng *r, struct silicon_case *c)
{
    set_string_register(r, c, X86_RDI);
}

static void shape_frame(struct rng *r, struct silicon_case *c)
{
    if (rng_below(r, 8))
        gpr(c)[X86_RBP] = CASE_DATA + 0x400 + rng_below(r, 0x1800);
    else
        gpr(c)[X86_RBP] = value_address(r, 8, c->code);
    if (c->code != X86_CODE64)
        gpr(c)[X86_RBP] = (uint32_t)gpr(c)[X86_RBP];
}

/* POPA that faults halfway has changed registers or not: that is not compared. */
static void shape_popa(struct rng *r, struct silicon_case *c)
{
    gpr(c)[X86_RSP] = CASE_DATA + 0x400 + rng_below(r, 0x2800);
}

static void shape_target(struct rng *r, struct silicon_case *c)
{
    if (rng_below(r, 4))
        set_rm(c, value_code_pointer(r));
}

static uint64_t random_selector(struct rng *r)
{
    static const uint16_t selectors[] = {0,    1,    2,    3,    0x08, 0x0b, 0x10, 0x13, 0x18,
                                         0x20, 0x23, 0x28, 0x2b, 0x2a, 0x30, 0x33, 0x07, 0x06,
                                         0x0f, 0x04, 0x14, 0x17, 0x40, 0x43, 0x50, 0x80, 0xffff};
    return RNG_PICK(r, selectors);
}

static void shape_selector(struct rng *r, struct silicon_case *c)
{
    set_rm(c, random_selector(r) |
                  (rng_next(r) << 16 & (c->code == X86_CODE64 ? UINT64_MAX : UINT32_MAX)));
}

static void shape_lengths(struct rng *r, struct silicon_case *c)
{
    if (rng_below(r, 4))
        gpr(c)[X86_RAX] = (uint64_t)((int64_t)rng_below(r, 42) - 21);
    if (rng_below(r, 4))
        gpr(c)[X86_RDX] = (uint64_t)((int64_t)rng_below(r, 42) - 21);
    if (c->code != X86_CODE64) {
        gpr(c)[X86_RAX] = (uint32_t)gpr(c)[X86_RAX];
        gpr(c)[X86_RDX] = (uint32_t)gpr(c)[X86_RDX];
    }
}

/* Only the components that both sides have in use. */
static void shape_components(struct rng *r, struct silicon_case *c)
{
    gpr(c)[X86_RAX] = rng_below(r, XCR0_AVX << 1);
    gpr(c)[X86_RDX] = 0;
}

static void shape_compare(struct rng *r, struct silicon_case *c)
{
    if (rng_one_in(r, 2) && !c->insn.is_mem && c->insn.rm < 16)
        gpr(c)[X86_RAX] = gpr(c)[c->insn.rm];
}

/* By the beginning of the mnemonic. */
static const struct {
    const char *prefix;
    shape_fn *shape;
} shapes[] = {
    {"movs", shape_string},      {"stos", shape_string},      {"lods", shape_string},
    {"cmps", shape_string},      {"scas", shape_string},      {"ins", shape_string},
    {"outs", shape_string},      {"div", shape_divide},       {"idiv", shape_divide},
    {"bt", shape_bit},           {"sh", shape_count},         {"ro", shape_count},
    {"rc", shape_count},         {"sar", shape_count},        {"loop", shape_loop},
    {"jcxz", shape_loop},        {"xlat", shape_xlat},        {"maskmov", shape_maskmov},
    {"enter", shape_frame},      {"leave", shape_frame},      {"call", shape_target},
    {"jmp", shape_target},       {"lar", shape_selector},     {"lsl", shape_selector},
    {"verr", shape_selector},    {"verw", shape_selector},    {"arpl", shape_selector},
    {"pcmpestr", shape_lengths}, {"xsave", shape_components}, {"xrstor", shape_components},
    {"cmpxchg", shape_compare},  {"popa", shape_popa},
};

void shape_registers(struct rng *r, struct silicon_case *c)
{
    const char *name = legacy_name(c);
    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++)
        if (strncmp(name, shapes[i].prefix, strlen(shapes[i].prefix)) == 0)
            shapes[i].shape(r, c);
}

/* ---- memory ---- */

typedef void operand_fn(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size);

static void operand_target(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size)
{
    uint64_t v = value_code_pointer(r);
    if (rng_below(r, 4))
        memcpy(to, &v, size < 8 ? size : 8);
}

static void operand_selector(struct rng *r, const struct silicon_case *c, uint8_t *to,
                             unsigned size)
{
    uint64_t v = random_selector(r);
    memcpy(to, &v, 2);
}

static void operand_compare(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size)
{
    const uint64_t *g = c->before.gpr;
    uint64_t pair[2] = {g[X86_RAX], g[X86_RDX]};
    bool both = x86_forms[c->form].mnemonic[7]; /* CMPXCHG8B, CMPXCHG16B */
    if (rng_one_in(r, 2))
        return;
    if (both && size == 8)
        pair[0] = (uint32_t)pair[0] | pair[1] << 32;
    memcpy(to, pair, size < 16 ? size : 16);
}

/* Low and high, with the index between them half of the time. */
static void operand_bound(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size)
{
    unsigned half = size / 2;
    uint64_t index = c->before.gpr[c->insn.reg];
    uint64_t low = index - rng_below(r, 3), high = index + rng_below(r, 3);
    memcpy(to, &low, half);
    memcpy(to + half, &high, half);
}

static void operand_mxcsr(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size)
{
    if (rng_below(r, 8))
        to[2] = to[3] = 0;
}

static void operand_fx(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size)
{
    memset(to, 0, size);
    value_fx(r, to);
    for (unsigned i = CASE_FX; i < size && i < 512; i++)
        to[i] = (uint8_t)rng_next(r);
    if (rng_one_in(r, 10))
        to[FX_MXCSR + 2] = 1; /* a reserved bit */
    if (size < 576)
        return;
    /* XSTATE_BV, XCOMP_BV and the zeros behind them. */
    to[512] = (uint8_t)rng_below(r, XCR0_AVX << 1);
    if (rng_one_in(r, 3)) { /* the compacted form */
        to[520] = (uint8_t)(to[512] | rng_below(r, XCR0_AVX << 1));
        to[527] = 0x80;
    }
    for (unsigned i = 576; i < size; i++)
        to[i] = (uint8_t)rng_next(r);
    if (rng_one_in(r, 12))
        to[513 + rng_below(r, 63)] |= (uint8_t)(1u << rng_below(r, 8));
}

static const struct {
    const char *prefix;
    operand_fn *shape;
} operands[] = {
    {"call", operand_target},     {"jmp", operand_target},   {"lar", operand_selector},
    {"lsl", operand_selector},    {"ver", operand_selector}, {"arpl", operand_selector},
    {"cmpxchg", operand_compare}, {"bound", operand_bound},  {"ldmxcsr", operand_mxcsr},
    {"fxrstor", operand_fx},      {"xrstor", operand_fx},    {"xsave", operand_fx},
};

unsigned shape_operand(struct rng *r, const struct silicon_case *c, uint8_t *to, unsigned size)
{
    const char *name = legacy_name(c);
    for (unsigned i = 0; i < ARRAY_LEN(operands); i++)
        if (strncmp(name, operands[i].prefix, strlen(operands[i].prefix)) == 0)
            operands[i].shape(r, c, to, size);
    return size;
}

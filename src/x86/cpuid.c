#include "x86/cpuid.h"

#include "x86/cpu.h"
#include "x86/msr.h"
#include "x86/xsave.h"

/* ---- features ---- */

/* Where each feature's bit is; names are those of Linux's /proc/cpuinfo. */
static const struct {
    const char *name;
    uint8_t word, bit;
} features[] = {
    {"fpu", X86_WORD_1_EDX, 0},
    {"vme", X86_WORD_1_EDX, 1},
    {"de", X86_WORD_1_EDX, 2},
    {"pse", X86_WORD_1_EDX, 3},
    {"tsc", X86_WORD_1_EDX, 4},
    {"msr", X86_WORD_1_EDX, 5},
    {"pae", X86_WORD_1_EDX, 6},
    {"mce", X86_WORD_1_EDX, 7},
    {"cx8", X86_WORD_1_EDX, 8},
    {"apic", X86_WORD_1_EDX, 9},
    {"sep", X86_WORD_1_EDX, 11},
    {"mtrr", X86_WORD_1_EDX, 12},
    {"pge", X86_WORD_1_EDX, 13},
    {"mca", X86_WORD_1_EDX, 14},
    {"cmov", X86_WORD_1_EDX, 15},
    {"pat", X86_WORD_1_EDX, 16},
    {"pse36", X86_WORD_1_EDX, 17},
    {"clflush", X86_WORD_1_EDX, 19},
    {"mmx", X86_WORD_1_EDX, 23},
    {"fxsr", X86_WORD_1_EDX, 24},
    {"sse", X86_WORD_1_EDX, 25},
    {"sse2", X86_WORD_1_EDX, 26},
    {"sse3", X86_WORD_1_ECX, 0},
    {"pclmulqdq", X86_WORD_1_ECX, 1},
    {"monitor", X86_WORD_1_ECX, 3},
    {"ssse3", X86_WORD_1_ECX, 9},
    {"fma", X86_WORD_1_ECX, 12},
    {"cx16", X86_WORD_1_ECX, 13},
    {"pcid", X86_WORD_1_ECX, 17},
    {"sse4_1", X86_WORD_1_ECX, 19},
    {"sse4_2", X86_WORD_1_ECX, 20},
    {"x2apic", X86_WORD_1_ECX, 21},
    {"movbe", X86_WORD_1_ECX, 22},
    {"popcnt", X86_WORD_1_ECX, 23},
    {"tsc_deadline_timer", X86_WORD_1_ECX, 24},
    {"aes", X86_WORD_1_ECX, 25},
    {"xsave", X86_WORD_1_ECX, 26},
    {"avx", X86_WORD_1_ECX, 28},
    {"f16c", X86_WORD_1_ECX, 29},
    {"rdrand", X86_WORD_1_ECX, 30},
    {"hypervisor", X86_WORD_1_ECX, 31},
    {"fsgsbase", X86_WORD_7_EBX, 0},
    {"tsc_adjust", X86_WORD_7_EBX, 1},
    {"bmi1", X86_WORD_7_EBX, 3},
    {"avx2", X86_WORD_7_EBX, 5},
    {"smep", X86_WORD_7_EBX, 7},
    {"bmi2", X86_WORD_7_EBX, 8},
    {"erms", X86_WORD_7_EBX, 9},
    {"invpcid", X86_WORD_7_EBX, 10},
    {"avx512f", X86_WORD_7_EBX, 16},
    {"avx512dq", X86_WORD_7_EBX, 17},
    {"rdseed", X86_WORD_7_EBX, 18},
    {"adx", X86_WORD_7_EBX, 19},
    {"smap", X86_WORD_7_EBX, 20},
    {"avx512ifma", X86_WORD_7_EBX, 21},
    {"clflushopt", X86_WORD_7_EBX, 23},
    {"clwb", X86_WORD_7_EBX, 24},
    {"avx512cd", X86_WORD_7_EBX, 28},
    {"sha_ni", X86_WORD_7_EBX, 29},
    {"avx512bw", X86_WORD_7_EBX, 30},
    {"avx512vl", X86_WORD_7_EBX, 31},
    {"avx512vbmi", X86_WORD_7_ECX, 1},
    {"umip", X86_WORD_7_ECX, 2},
    {"pku", X86_WORD_7_ECX, 3},
    {"avx512_vbmi2", X86_WORD_7_ECX, 6},
    {"gfni", X86_WORD_7_ECX, 8},
    {"vaes", X86_WORD_7_ECX, 9},
    {"vpclmulqdq", X86_WORD_7_ECX, 10},
    {"avx512_vnni", X86_WORD_7_ECX, 11},
    {"avx512_bitalg", X86_WORD_7_ECX, 12},
    {"avx512_vpopcntdq", X86_WORD_7_ECX, 14},
    {"rdpid", X86_WORD_7_ECX, 22},
    {"fsrm", X86_WORD_7_EDX, 4},
    {"md_clear", X86_WORD_7_EDX, 10},
    {"spec_ctrl", X86_WORD_7_EDX, 26},
    {"stibp", X86_WORD_7_EDX, 27},
    {"flush_l1d", X86_WORD_7_EDX, 28},
    {"arch_capabilities", X86_WORD_7_EDX, 29},
    {"ssbd", X86_WORD_7_EDX, 31},
    {"avx512_bf16", X86_WORD_7_1_EAX, 5},
    {"bhi_ctrl", X86_WORD_7_2_EDX, 4},
    {"xsaveopt", X86_WORD_D_1_EAX, 0},
    {"xsavec", X86_WORD_D_1_EAX, 1},
    {"xgetbv1", X86_WORD_D_1_EAX, 2},
    {"xsaves", X86_WORD_D_1_EAX, 3},
    {"syscall", X86_WORD_80000001_EDX, 11},
    {"nx", X86_WORD_80000001_EDX, 20},
    {"pdpe1gb", X86_WORD_80000001_EDX, 26},
    {"rdtscp", X86_WORD_80000001_EDX, 27},
    {"lm", X86_WORD_80000001_EDX, 29},
    {"lahf_lm", X86_WORD_80000001_ECX, 0},
    {"abm", X86_WORD_80000001_ECX, 5},
    {"3dnowprefetch", X86_WORD_80000001_ECX, 8},
    {"constant_tsc", X86_WORD_80000007_EDX, 8},
    {"arat", X86_WORD_6_EAX, 2},
};

bool x86_model_has(const struct x86_model *m, const char *feature)
{
    for (unsigned i = 0; i < ARRAY_LEN(features); i++)
        if (strcmp(features[i].name, feature) == 0)
            return (m->features[features[i].word] >> features[i].bit) & 1;
    return false;
}

/* ---- models ---- */

/* A mask from bit numbers, up to eight at a time. */
#define B(n) (1u << (n))

#define LEVEL_2_1_EDX                                                                              \
    (B(0) | B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(8) | B(9) | B(11) | B(12) | B(13) | \
     B(14) | B(15) | B(16) | B(17) | B(19) | B(23) | B(24) | B(25) | B(26))
#define LEVEL_2_1_ECX                                                                              \
    (B(0) | B(1) | B(9) | B(13) | B(17) | B(19) | B(20) | B(21) | B(22) | B(23) | B(24) | B(25) |  \
     B(26) | B(30) | B(31))
#define LEVEL_2_7_EBX                                                                              \
    (B(0) | B(1) | B(3) | B(7) | B(8) | B(9) | B(10) | B(13) /* no FCS and FDS: sem/x87.h */ |     \
     B(18) | B(19) | B(20) | B(23) | B(24) | B(29))
#define LEVEL_2_7_ECX        (B(2) | B(3) | B(22))
#define LEVEL_2_7_EDX        (B(4) | B(10) | B(26) | B(27) | B(28) | B(29) | B(31))
#define LEVEL_2_7_2_EDX      B(4) /* BHI_DIS_S: else Linux clears branch history in a loop */
#define LEVEL_2_D_1_EAX      (B(0) | B(1) | B(2) | B(3))
#define LEVEL_2_80000001_EDX (B(11) | B(20) | B(26) | B(27) | B(29))
#define LEVEL_2_80000001_ECX (B(0) | B(5) | B(8))

/* What the model promises to be free of, so that guests leave their costly workarounds off
 * (docs/cpu.md says what that means for isolation inside a guest). The family and model numbers are
 * ones that no processor has, so that no table of flawed processors lists them. */
#define ARCH_CAPABILITIES                                                                          \
    (ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_L1DFL_VMENTRY | ARCH_CAP_SSB_NO |        \
     ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_MC_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO |         \
     ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO |                  \
     ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | ARCH_CAP_ITS_NO)

#define LEVEL_3_1_ECX (LEVEL_2_1_ECX | B(12) | B(28) | B(29))
#define LEVEL_3_7_EBX (LEVEL_2_7_EBX | B(5))

/* What the models share: all but the level of the instruction set. One tick of the TSC or of the
 * crystal is one nanosecond: nothing is ever rounded. */
#define MODEL(called, text, words_1_ecx, words_7_ebx, components, ...)                             \
    {                                                                                              \
        .name = called, .summary = text, .vendor = "GenuineIntel",                                 \
        .brand = "Doppel " called " processor", .family = 6, .model = 0xf0, .stepping = 1,         \
        .physical_bits = 40, .linear_bits = 48, .tsc_hz = 1000000000, .crystal_hz = 1000000000,    \
        .arch_capabilities = ARCH_CAPABILITIES,                                                    \
        .xcr0 = XCR0_X87 | XCR0_SSE | XCR0_PKRU | (components),                                    \
        .features =                                                                                \
            {                                                                                      \
                [X86_WORD_1_EDX] = LEVEL_2_1_EDX,                                                  \
                [X86_WORD_1_ECX] = words_1_ecx,                                                    \
                [X86_WORD_7_EBX] = words_7_ebx,                                                    \
                [X86_WORD_7_ECX] = LEVEL_2_7_ECX,                                                  \
                [X86_WORD_7_EDX] = LEVEL_2_7_EDX,                                                  \
                [X86_WORD_7_2_EDX] = LEVEL_2_7_2_EDX,                                              \
                [X86_WORD_D_1_EAX] = LEVEL_2_D_1_EAX,                                              \
                [X86_WORD_80000001_EDX] = LEVEL_2_80000001_EDX,                                    \
                [X86_WORD_80000001_ECX] = LEVEL_2_80000001_ECX,                                    \
                [X86_WORD_80000007_EDX] = B(8),                                                    \
                [X86_WORD_6_EAX] = B(2),                                                           \
            },                                                                                     \
        __VA_ARGS__                                                                                \
    }

/* The first is the default. */
static const struct x86_model models[] = {
    MODEL("x86-64-v3",
          "x86-64 level 3 (AVX2, FMA) with AES, SHA and the system features of a server",
          LEVEL_3_1_ECX, LEVEL_3_7_EBX, XCR0_AVX),
    MODEL("x86-64-v2", "x86-64 level 2 with AES, SHA, BMI and the system features of a server",
          LEVEL_2_1_ECX, LEVEL_2_7_EBX, 0),
    MODEL("host", "level 3 and the user instructions that the host adds to it, such as AVX-512",
          LEVEL_3_1_ECX, LEVEL_3_7_EBX, XCR0_AVX, .host = true),
};

const struct x86_model *x86_model_at(unsigned index)
{
    return index < ARRAY_LEN(models) ? &models[index] : NULL;
}

const struct x86_model *x86_model_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(models); i++)
        if (strcmp(models[i].name, name) == 0)
            return &models[i];
    return NULL;
}

/* ---- the leaves ---- */

enum { EAX, EBX, ECX, EDX };

enum {
    BASIC_MAX = 0x16,
    HYPERVISOR_BASE = 0x40000000,
    EXTENDED_BASE = 0x80000000,
    EXTENDED_MAX = 0x80000008,
};

static unsigned cpu_count(const struct x86_cpu *c)
{
    return c->peer_count ? c->peer_count : 1;
}

/* Bits of the APIC id that tell the cores of the one package apart. */
static unsigned core_bits(const struct x86_cpu *c)
{
    unsigned bits = 0;
    while ((1u << bits) < cpu_count(c))
        bits++;
    return bits;
}

static uint32_t text4(const char *text)
{
    uint32_t v;
    memcpy(&v, text, sizeof v);
    return v;
}

static void leaf_vendor(const struct x86_cpu *c, uint32_t out[4])
{
    bool limited = c->s.misc_enable & MISC_ENABLE_LIMIT_CPUID;
    out[EAX] = limited ? 3 : BASIC_MAX;
    out[EBX] = text4(c->model->vendor);
    out[EDX] = text4(c->model->vendor + 4);
    out[ECX] = text4(c->model->vendor + 8);
}

static bool apic_disabled(const struct x86_cpu *c)
{
    uint64_t base;
    return c->host.msr_read && c->host.msr_read(c->host.ctx, MSR_APIC_BASE, &base) &&
           !(base & BIT(11));
}

static void leaf_features(const struct x86_cpu *c, uint32_t out[4])
{
    enum { CLFLUSH_LINE = 64 / 8 };
    out[EAX] = x86_model_signature(c->model);
    out[EBX] = c->index << 24 | 1u << (core_bits(c) + 16) | CLFLUSH_LINE << 8;
    out[ECX] = c->model->features[X86_WORD_1_ECX];
    out[EDX] = c->model->features[X86_WORD_1_EDX];
    if (c->s.cr4 & CR4_OSXSAVE)
        out[ECX] |= B(27);
    if (cpu_count(c) > 1)
        out[EDX] |= B(28); /* HTT: EBX holds a count */
    if (apic_disabled(c))
        out[EDX] &= ~B(9);
}

/* Leaf 4, deterministic cache parameters. */
static const struct {
    uint8_t type, level, ways;
    bool shared; /* by the package */
    uint32_t sets;
} caches[] = {
    {1, 1, 8, false, 64},    /* 32 KiB of data */
    {2, 1, 8, false, 64},    /* 32 KiB of instructions */
    {3, 2, 16, false, 1024}, /* 1 MiB */
    {3, 3, 16, true, 16384}, /* 16 MiB */
};

static void leaf_caches(const struct x86_cpu *c, uint32_t subleaf, uint32_t out[4])
{
    if (subleaf >= ARRAY_LEN(caches))
        return;
    uint32_t sharing = caches[subleaf].shared ? (1u << core_bits(c)) - 1 : 0;
    out[EAX] = caches[subleaf].type | (uint32_t)caches[subleaf].level << 5 |
               B(8) /* self-initializing */ | sharing << 14 | ((1u << core_bits(c)) - 1) << 26;
    out[EBX] = (64 - 1) | (uint32_t)(caches[subleaf].ways - 1) << 22;
    out[ECX] = caches[subleaf].sets - 1;
}

static void leaf_extended_features(const struct x86_cpu *c, uint32_t subleaf, uint32_t out[4])
{
    enum { LAST = 2 };
    if (subleaf == 1)
        out[EAX] = c->model->features[X86_WORD_7_1_EAX];
    if (subleaf == 2)
        out[EDX] = c->model->features[X86_WORD_7_2_EDX];
    if (subleaf != 0)
        return;
    out[EAX] = LAST;
    out[EBX] = c->model->features[X86_WORD_7_EBX];
    out[ECX] = c->model->features[X86_WORD_7_ECX];
    out[EDX] = c->model->features[X86_WORD_7_EDX];
    if (c->s.cr4 & CR4_PKE)
        out[ECX] |= B(4);
}

/* Leaf 0Bh: one thread a core, all cores in one package. */
static void leaf_topology(const struct x86_cpu *c, uint32_t subleaf, uint32_t out[4])
{
    enum { LEVEL_INVALID, LEVEL_THREAD, LEVEL_CORE };
    uint32_t level = subleaf == 0 ? LEVEL_THREAD : subleaf == 1 ? LEVEL_CORE : LEVEL_INVALID;
    if (level == LEVEL_THREAD)
        out[EBX] = 1;
    if (level == LEVEL_CORE) {
        out[EAX] = core_bits(c);
        out[EBX] = cpu_count(c);
    }
    out[ECX] = (subleaf & 0xff) | level << 8;
    out[EDX] = c->index;
}

/* ---- leaf 0Dh: XSAVE's sizes (SDM 1, 13.2) ---- */

uint32_t x86_xsave_size(uint64_t xcr0)
{
    uint32_t size = XSAVE_MIN_SIZE;
    for (unsigned i = 0; i < XSAVE_COMPONENTS; i++) {
        const struct x86_xsave_component *component = &x86_xsave_component[i];
        if ((xcr0 & BIT(i)) && component->size)
            size = component->offset + component->size;
    }
    return size;
}

uint32_t x86_xsavec_size(uint64_t xcr0)
{
    return x86_xsave_compacted_offset(xcr0, XSAVE_COMPONENTS);
}

static void leaf_xsave(const struct x86_cpu *c, uint32_t subleaf, uint32_t out[4])
{
    uint64_t offered = c->model->xcr0;
    if (subleaf == 0) {
        out[EAX] = (uint32_t)offered;
        out[EBX] = x86_xsave_size(c->s.xcr0);
        out[ECX] = x86_xsave_size(offered);
        out[EDX] = (uint32_t)(offered >> 32);
    } else if (subleaf == 1) {
        out[EAX] = c->model->features[X86_WORD_D_1_EAX];
        out[EBX] = x86_xsavec_size(c->s.xcr0 | c->s.xss);
    }
    if (subleaf < XSAVE_COMPONENTS && (offered & BIT(subleaf)) &&
        x86_xsave_component[subleaf].size) {
        out[EAX] = x86_xsave_component[subleaf].size;
        out[EBX] = x86_xsave_component[subleaf].offset;
    }
}

static void leaf_basic(const struct x86_cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct x86_model *m = c->model;
    switch (leaf) {
    case 0: leaf_vendor(c, out); break;
    case 1: leaf_features(c, out); break;
    case 2: out[EAX] = 0x00ff5a01; break; /* caches: see leaf 4; a data TLB for large pages */
    case 4: leaf_caches(c, subleaf, out); break;
    case 6: out[EAX] = m->features[X86_WORD_6_EAX]; break;
    case 7: leaf_extended_features(c, subleaf, out); break;
    case 0xb: leaf_topology(c, subleaf, out); break;
    case 0xd: leaf_xsave(c, subleaf, out); break;
    case 0x15: /* the counter may be a host's, at no round rate: the guest finds out then */
        if (m->tsc_hz % m->crystal_hz)
            break;
        out[EAX] = 1;
        out[EBX] = (uint32_t)(m->tsc_hz / m->crystal_hz);
        out[ECX] = (uint32_t)m->crystal_hz;
        break;
    case 0x16:
        out[EAX] = out[EBX] = (uint32_t)(m->tsc_hz / 1000000);
        out[ECX] = 100; /* the bus, in MHz; nothing runs at that rate */
        break;
    default: break; /* 3, 5, 9, 0Ah and the reserved ones: nothing */
    }
}

static void leaf_brand(const struct x86_cpu *c, uint32_t leaf, uint32_t out[4])
{
    char brand[48] = {0};
    const char *from = c->model->brand;
    for (unsigned i = 0; i < sizeof brand - 1 && from[i]; i++)
        brand[i] = from[i];
    memcpy(out, brand + 16 * (leaf - 0x80000002), 16);
}

static void leaf_extended(const struct x86_cpu *c, uint32_t leaf, uint32_t out[4])
{
    const struct x86_model *m = c->model;
    switch (leaf) {
    case 0x80000000: out[EAX] = EXTENDED_MAX; break;
    case 0x80000001:
        out[ECX] = m->features[X86_WORD_80000001_ECX];
        out[EDX] = m->features[X86_WORD_80000001_EDX];
        if (c->code != X86_CODE64)
            out[EDX] &= ~B(11); /* SYSCALL is Intel's in 64-bit mode only */
        if (c->s.misc_enable & MISC_ENABLE_XD_DISABLE)
            out[EDX] &= ~B(20);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: leaf_brand(c, leaf, out); break;
    case 0x80000006: out[ECX] = 1024u << 16 | 8u << 12 | 64; break; /* level 2: 1 MiB, 16 ways */
    case 0x80000007: out[EDX] = m->features[X86_WORD_80000007_EDX]; break;
    case 0x80000008: out[EAX] = m->physical_bits | (uint32_t)m->linear_bits << 8; break;
    default: break;
    }
}

void x86_cpuid(const struct x86_cpu *c, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    memset(out, 0, 4 * sizeof out[0]);
    if (leaf >> 28 == HYPERVISOR_BASE >> 28) {
        if (leaf == HYPERVISOR_BASE) {
            out[EAX] = HYPERVISOR_BASE;
            memcpy(&out[EBX], "DoppelDoppel", 12);
        }
        return;
    }
    /* Past the end Intel's processors give their last basic leaf. */
    if (leaf >= EXTENDED_BASE && leaf <= EXTENDED_MAX)
        leaf_extended(c, leaf, out);
    else
        leaf_basic(c, leaf <= BASIC_MAX ? leaf : BASIC_MAX, subleaf, out);
}

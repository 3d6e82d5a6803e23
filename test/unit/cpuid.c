/* What the guest is told: CPUID and the model-specific registers. */
#include "x86/cpuid.h"

#include "x86/msr.h"
#include "x86_fixture.h"

enum { EAX, EBX, ECX, EDX };

static uint32_t leaf(const struct x86_cpu *c, uint32_t number, uint32_t sub, unsigned reg)
{
    uint32_t out[4];
    x86_cpuid(c, number, sub, out);
    return out[reg];
}

/* ---- CPUID ---- */

TEST(models_are_found_by_name)
{
    CHECK(x86_model_find("x86-64-v3") == x86_model_at(0));
    CHECK(x86_model_find("x86-64-v2") == x86_model_at(1));
    CHECK(x86_model_find("host") == x86_model_at(2));
    CHECK(x86_model_find("") == NULL);
    CHECK(x86_model_find("x86-64") == NULL);
    CHECK(x86_model_at(1000) == NULL);
}

static void check_features(const struct x86_model *m, const char *const *names, unsigned n,
                           bool wanted)
{
    for (unsigned i = 0; i < n; i++) {
        if (x86_model_has(m, names[i]) != wanted)
            printf("# %s: %s\n", m->name, names[i]);
        CHECK(x86_model_has(m, names[i]) == wanted);
    }
}

/* The x86-64 psABI's levels, and what the models add. */
TEST(models_have_the_features_of_their_level)
{
    static const char *const common[] = {
        "fpu",
        "cmov",
        "cx8",
        "fxsr",
        "mmx",
        "sse",
        "sse2",
        "syscall",
        "lm",
        "cx16",
        "lahf_lm",
        "popcnt",
        "sse3",
        "sse4_1",
        "sse4_2",
        "ssse3",
        "aes",
        "pclmulqdq",
        "sha_ni",
        "bmi1",
        "bmi2",
        "adx",
        "abm",
        "movbe",
        "xsave",
        "xsaves",
        "pku",
        "umip",
        "smap",
        "smep",
        "invpcid",
        "fsgsbase",
        "rdpid",
        "pcid",
        "x2apic",
        "nx",
        "pdpe1gb",
        "rdtscp",
        "rdrand",
        "rdseed",
        "arat",
        "hypervisor",
        "erms",
        "fsrm",
        "pse36",
        "clflushopt",
        "clwb",
        "constant_tsc",
        "spec_ctrl",
        "stibp",
        "ssbd",
        "arch_capabilities",
        "tsc_deadline_timer",
    };
    static const char *const level_3[] = {"avx", "avx2", "fma", "f16c"};
    static const char *const none[] = {"monitor", "nonsense"};
    for (unsigned i = 0; i < 2; i++) {
        const struct x86_model *m = x86_model_at(i);
        check_features(m, common, ARRAY_LEN(common), true);
        check_features(m, none, ARRAY_LEN(none), false);
        check_features(m, level_3, ARRAY_LEN(level_3), i == 0);
        CHECK_EQ(!!(m->xcr0 & XCR0_AVX), i == 0);
    }
}

TEST(names_are_spelled_out)
{
    struct fixture *f = fixture_new();
    uint32_t out[4];
    x86_cpuid(f->c, 0, 0, out);
    uint32_t vendor[3] = {out[EBX], out[EDX], out[ECX]};
    CHECK(memcmp(vendor, "GenuineIntel", 12) == 0);
    x86_cpuid(f->c, 0x40000000, 0, out);
    CHECK(memcmp(&out[EBX], "DoppelDoppel", 12) == 0);
    char brand[48];
    for (unsigned i = 0; i < 3; i++) {
        x86_cpuid(f->c, 0x80000002 + i, 0, out);
        memcpy(brand + 16 * i, out, 16);
    }
    CHECK(memchr(brand, 0, sizeof brand) != NULL);
    CHECK(strcmp(brand, "Doppel x86-64-v3 processor") == 0);
    fixture_free(f);
}

TEST(state_shows_in_features)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    CHECK(!(leaf(c, 1, 0, ECX) & BIT(27)));
    c->s.cr4 = CR4_OSXSAVE;
    CHECK(leaf(c, 1, 0, ECX) & BIT(27));
    CHECK(!(leaf(c, 7, 0, ECX) & BIT(4)));
    c->s.cr4 = CR4_PKE;
    CHECK(leaf(c, 7, 0, ECX) & BIT(4));
    CHECK(!(leaf(c, 0x80000001, 0, EDX) & BIT(11)));
    c->code = X86_CODE64;
    CHECK(leaf(c, 0x80000001, 0, EDX) & BIT(11));
    c->s.misc_enable |= MISC_ENABLE_LIMIT_CPUID | MISC_ENABLE_XD_DISABLE;
    CHECK_EQ(leaf(c, 0, 0, EAX), 3);
    CHECK(!(leaf(c, 0x80000001, 0, EDX) & BIT(20)));
    fixture_free(f);
}

TEST(processors_are_cores_of_one_package)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    CHECK(!(leaf(c, 1, 0, EDX) & BIT(28)));
    CHECK_EQ(leaf(c, 0xb, 1, EBX), 1);
    c->peer_count = 6;
    c->index = 5;
    CHECK(leaf(c, 1, 0, EDX) & BIT(28));
    CHECK_EQ(leaf(c, 1, 0, EBX) >> 24, 5);
    CHECK_EQ((leaf(c, 1, 0, EBX) >> 16) & 0xff, 8);
    CHECK_EQ(leaf(c, 4, 0, EAX) >> 26, 7);
    CHECK_EQ((leaf(c, 4, 0, EAX) >> 14) & 0xfff, 0);
    CHECK_EQ((leaf(c, 4, 3, EAX) >> 14) & 0xfff, 7);
    CHECK_EQ(leaf(c, 4, 4, EAX), 0);
    CHECK_EQ(leaf(c, 0xb, 0, EBX), 1);
    CHECK_EQ(leaf(c, 0xb, 1, EAX), 3);
    CHECK_EQ(leaf(c, 0xb, 1, EBX), 6);
    CHECK_EQ(leaf(c, 0xb, 1, ECX), 0x201);
    CHECK_EQ(leaf(c, 0xb, 2, ECX), 2);
    for (unsigned sub = 0; sub < 3; sub++)
        CHECK_EQ(leaf(c, 0xb, sub, EDX), 5);
    fixture_free(f);
}

TEST(xsave_areas_have_their_size)
{
    struct fixture *f = fixture_new();
    struct x86_cpu *c = f->c;
    c->s.xcr0 = XCR0_X87;
    CHECK_EQ(leaf(c, 0xd, 0, EBX), 576);
    CHECK_EQ(leaf(c, 0xd, 0, ECX), 2696);
    CHECK_EQ(leaf(c, 0xd, 0, EAX), XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_PKRU);
    c->s.xcr0 |= XCR0_SSE | XCR0_PKRU;
    CHECK_EQ(leaf(c, 0xd, 0, EBX), 2696);
    CHECK_EQ(leaf(c, 0xd, 1, EBX), 584);
    CHECK_EQ(leaf(c, 0xd, 9, EAX), 8);
    CHECK_EQ(leaf(c, 0xd, 9, EBX), 2688);
    CHECK_EQ(leaf(c, 0xd, 2, EAX), 256);
    CHECK_EQ(leaf(c, 0xd, 2, EBX), 576);
    c->s.xcr0 |= XCR0_AVX;
    CHECK_EQ(leaf(c, 0xd, 1, EBX), 584 + 256);
    CHECK_EQ(x86_xsave_size(7), 832);
    c->model = x86_model_find("x86-64-v2");
    CHECK_EQ(leaf(c, 0xd, 0, EAX), XCR0_X87 | XCR0_SSE | XCR0_PKRU);
    CHECK_EQ(leaf(c, 0xd, 2, EAX), 0); /* AVX is not offered */
    fixture_free(f);
}

/* Whatever the host is: its level is kept, and what it adds hangs together. */
TEST(the_hosts_model_adds_to_its_level)
{
    struct fixture *f = fixture_new();
    struct x86_model m = *x86_model_find("host");
    const struct x86_model *v3 = x86_model_find("x86-64-v3");
    x86_model_add_host(&m);
    f->c->model = &m;
    for (unsigned i = 0; i < X86_FEATURE_WORDS; i++)
        CHECK_EQ(m.features[i] & v3->features[i], v3->features[i]);
    CHECK(strlen(m.brand) > 0);
    CHECK(strcmp(m.vendor, v3->vendor) == 0);
    CHECK_EQ(x86_model_signature(&m), x86_model_signature(v3));
    bool avx512 = m.xcr0 & XCR0_AVX512;
    CHECK_EQ(m.xcr0 & XCR0_AVX512, avx512 ? XCR0_AVX512 : 0);
    static const char *const foundation[] = {"avx512f", "avx512dq", "avx512cd", "avx512bw",
                                             "avx512vl"};
    for (unsigned i = 0; i < ARRAY_LEN(foundation); i++)
        CHECK(x86_model_has(&m, foundation[i]) == avx512);
    CHECK(avx512 || !x86_model_has(&m, "avx512vbmi"));
    f->c->s.xcr0 = m.xcr0;
    static const unsigned size[] = {64, 512, 1024}, offset[] = {1088, 1152, 1664};
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(leaf(f->c, 0xd, 5 + i, EAX), avx512 ? size[i] : 0);
        CHECK_EQ(leaf(f->c, 0xd, 5 + i, EBX), avx512 ? offset[i] : 0);
        CHECK_EQ(leaf(f->c, 0xd, 5 + i, ECX), 0);
    }
    CHECK_EQ(leaf(f->c, 0xd, 0, EBX), 2696);
    CHECK_EQ(leaf(f->c, 0xd, 1, EBX), 576 + 256 + 8 + (avx512 ? 64 + 512 + 1024 : 0));
    struct x86_model same = *v3; /* the others are what they are on every host */
    x86_model_add_host(&same);
    CHECK(memcmp(&same, v3, sizeof same) == 0);
    fixture_free(f);
}

TEST(any_leaf_has_an_answer)
{
    struct fixture *f = fixture_new();
    uint32_t last[4], got[4];
    x86_cpuid(f->c, 0x16, 0, last);
    static const uint32_t past[] = {0x17, 0x1000, 0x3fffffff, 0x80000009, 0xffffffff, 0x50000000};
    for (unsigned i = 0; i < ARRAY_LEN(past); i++) {
        x86_cpuid(f->c, past[i], 0, got);
        CHECK(memcmp(last, got, sizeof got) == 0);
    }
    static const uint32_t empty[] = {3, 5, 9, 0xa, 0x40000001, 0x40000010};
    for (unsigned i = 0; i < ARRAY_LEN(empty); i++) {
        x86_cpuid(f->c, empty[i], 0, got);
        CHECK_EQ(got[0] | got[1] | got[2] | got[3], 0);
    }
    CHECK_EQ(leaf(f->c, 0x80000008, 0, EAX), 0x3028);
    CHECK_EQ((uint64_t)leaf(f->c, 0x15, 0, ECX) * leaf(f->c, 0x15, 0, EBX), f->c->model->tsc_hz);
    fixture_free(f);
}

/* ---- model-specific registers ---- */

static uint64_t machine_value;
static bool machine_read(void *ctx, uint32_t msr, uint64_t *value)
{
    *value = machine_value + msr;
    return msr != 0x8ff;
}
static bool machine_write(void *ctx, uint32_t msr, uint64_t value)
{
    machine_value = value - msr;
    return msr != 0x8ff;
}
static void nothing(struct x86_cpu *c) {}

static struct fixture *with_msrs(void)
{
    struct fixture *f = fixture_new();
    f->c->host.msr_read = machine_read;
    f->c->host.msr_write = machine_write;
    f->c->mappings_changed = nothing;
    return f;
}

/* Whether a value can be written and is then read back. */
static bool holds(struct x86_cpu *c, uint32_t msr, uint64_t value)
{
    uint64_t got = ~value;
    return x86_msr_write(c, msr, value) && x86_msr_read(c, msr, &got) && got == value;
}

/* Whether a write is refused and leaves the register alone. */
static bool refuses(struct x86_cpu *c, uint32_t msr, uint64_t value)
{
    uint64_t before = 0, after = 0;
    return x86_msr_read(c, msr, &before) && !x86_msr_write(c, msr, value) &&
           x86_msr_read(c, msr, &after) && before == after;
}

TEST(registers_hold_what_they_can)
{
    struct fixture *f = with_msrs();
    struct x86_cpu *c = f->c;
    const uint64_t canonical = UINT64_C(0xffff800000000000), not = UINT64_C(0x0000800000000000);
    static const uint32_t addresses[] = {MSR_SYSENTER_ESP,  MSR_SYSENTER_EIP, MSR_LSTAR,
                                         MSR_CSTAR,         MSR_FS_BASE,      MSR_GS_BASE,
                                         MSR_KERNEL_GS_BASE};
    for (unsigned i = 0; i < ARRAY_LEN(addresses); i++) {
        CHECK(holds(c, addresses[i], canonical + i));
        CHECK(refuses(c, addresses[i], not ));
    }
    CHECK_EQ(c->s.seg[X86_GS].base, canonical + 5);
    CHECK_EQ(c->s.kernel_gs_base, canonical + 6);
    static const struct {
        uint32_t msr;
        uint64_t good, bad;
    } rows[] = {
        {MSR_TSC_AUX, 0xffffffff, BIT(32)},
        {MSR_SFMASK, 0x47700, BIT(32)},
        {MSR_SYSENTER_CS, 0x10, BIT(32)},
        {MSR_SPEC_CTRL, 0x407, 8},
        {MSR_MCG_STATUS, 4, 8},
        {MSR_XSS, 0, 1},
        {MSR_DEBUGCTL, 2, 4},
        {MSR_EFER, EFER_SCE | EFER_NXE, BIT(1)},
        {MSR_PAT, 0x0007010600070106, 2},
        {MSR_PAT, 0x0606060606060606, 3ull << 56},
        {MSR_MTRR_DEF_TYPE, 0xc06, 0xc02},
        {MSR_MTRR_DEF_TYPE, 0x800, 0x1000},
        {MSR_MTRR_FIX64K_00000, 0x0605040100060606, 7},
        {MSR_MTRR_FIX16K_A0000, 0, 2},
        {MSR_MTRR_FIX4K_C0000 + 7, 5, 3},
        {MSR_MTRR_PHYSBASE0, 0xfe00000006, 7},
        {MSR_MTRR_PHYSBASE0 + 14, 0, 0x100},
        {MSR_MTRR_PHYSBASE0 + 15, 0xff80000800, 1},
        {MSR_MTRR_PHYSBASE0, 0, BIT(40)},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        CHECK(holds(c, rows[i].msr, rows[i].good));
        CHECK(refuses(c, rows[i].msr, rows[i].bad));
    }
    CHECK(holds(c, MSR_STAR, UINT64_MAX));
    fixture_free(f);
}

TEST(firmware_leaves_memory_cached)
{
    struct fixture *f = with_msrs();
    x86_firmware_mtrrs(&f->c->s, 40, MEMORY_LOW_TOP);
    uint64_t v = 0;
    CHECK(x86_msr_read(f->c, MSR_MTRR_DEF_TYPE, &v));
    CHECK_EQ(v, 0xc06);
    CHECK(holds(f->c, MSR_MTRR_PHYSBASE0, f->c->s.mtrr_base[0]));
    CHECK(holds(f->c, MSR_MTRR_PHYSBASE0 + 1, f->c->s.mtrr_mask[0]));
    CHECK_EQ(f->c->s.mtrr_mask[0], 0xffc0000800);
    CHECK(x86_msr_read(f->c, MSR_MTRR_FIX16K_A0000, &v));
    CHECK_EQ(v, 0);
    fixture_free(f);
}

TEST(efer_keeps_its_rules)
{
    struct fixture *f = with_msrs();
    struct x86_cpu *c = f->c;
    CHECK(holds(c, MSR_EFER, EFER_LME));
    /* LMA is not the software's to set. */
    CHECK(x86_msr_write(c, MSR_EFER, EFER_LME | EFER_LMA));
    CHECK_EQ(c->s.efer, EFER_LME);
    c->s.cr0 |= CR0_PG | CR0_PE;
    c->s.efer |= EFER_LMA;
    CHECK(refuses(c, MSR_EFER, EFER_LMA));
    CHECK(x86_msr_write(c, MSR_EFER, EFER_LME | EFER_SCE));
    CHECK_EQ(c->s.efer, EFER_LME | EFER_LMA | EFER_SCE);
    c->s.misc_enable |= MISC_ENABLE_XD_DISABLE;
    CHECK(refuses(c, MSR_EFER, EFER_LME | EFER_NXE));
    fixture_free(f);
}

TEST(constants_and_commands)
{
    struct fixture *f = with_msrs();
    struct x86_cpu *c = f->c;
    uint64_t v = 0;
    CHECK(x86_msr_read(c, MSR_MTRRCAP, &v));
    CHECK_EQ(v & 0xff, X86_MTRR_VARIABLE);
    CHECK(refuses(c, MSR_MTRRCAP, 0));
    CHECK(x86_msr_read(c, MSR_ARCH_CAPABILITIES, &v));
    CHECK_EQ(v & (ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_MDS_NO | BIT(2)),
             ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_MDS_NO); /* bit 2, RSBA, is clear */
    CHECK(refuses(c, MSR_ARCH_CAPABILITIES, 0));
    CHECK(x86_msr_read(c, MSR_MCG_CAP, &v));
    CHECK_EQ(v, 0);
    CHECK(x86_msr_write(c, MSR_PRED_CMD, 1) && !x86_msr_write(c, MSR_PRED_CMD, 2));
    CHECK(!x86_msr_read(c, MSR_PRED_CMD, &v));
    CHECK(x86_msr_write(c, MSR_FLUSH_CMD, 1) && !x86_msr_write(c, MSR_FLUSH_CMD, 4));
    CHECK(x86_msr_write(c, MSR_BIOS_SIGN_ID, 0) && x86_msr_read(c, MSR_BIOS_SIGN_ID, &v));
    CHECK_EQ(v >> 32, 1);
    fixture_free(f);
}

TEST(the_machine_answers_for_its_own)
{
    struct fixture *f = with_msrs();
    static const uint32_t own[] = {MSR_APIC_BASE,    MSR_TSC,          MSR_TSC_ADJUST,
                                   MSR_TSC_DEADLINE, MSR_X2APIC_FIRST, 0x830};
    for (unsigned i = 0; i < ARRAY_LEN(own); i++)
        CHECK(holds(f->c, own[i], 0x123456789 + i));
    uint64_t v;
    CHECK(!x86_msr_read(f->c, 0x8ff, &v) && !x86_msr_write(f->c, 0x8ff, 0));
    fixture_free(f);
}

/* Every number there is in the ranges that have any: a read and a write end well, whatever they
 * say. */
TEST(no_number_does_harm)
{
    struct fixture *f = with_msrs();
    static const uint32_t start[] = {0, 0xc0000000, 0xc0010000, 0x40000000, 0xfffff000};
    unsigned known = 0;
    for (unsigned i = 0; i < ARRAY_LEN(start); i++) {
        for (uint32_t n = 0; n < 0x1000; n++) {
            uint64_t v = 0;
            known += x86_msr_read(f->c, start[i] + n, &v);
            x86_msr_write(f->c, start[i] + n, v ^ UINT64_MAX);
            x86_msr_write(f->c, start[i] + n, v);
        }
    }
    CHECK(known > 255 + 50 && known < 255 + 100);
    fixture_free(f);
}

TESTS(T(models_are_found_by_name), T(models_have_the_features_of_their_level),
      T(names_are_spelled_out), T(state_shows_in_features), T(processors_are_cores_of_one_package),
      T(xsave_areas_have_their_size), T(the_hosts_model_adds_to_its_level),
      T(any_leaf_has_an_answer), T(registers_hold_what_they_can), T(firmware_leaves_memory_cached),
      T(efer_keeps_its_rules), T(constants_and_commands), T(the_machine_answers_for_its_own),
      T(no_number_does_harm))

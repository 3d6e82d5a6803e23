/*
 * What the host's processor adds to a model: the instructions that user programs find by CPUID and
 * XCR0, the registers they need, and the name that people read. The system side (vendor and family,
 * by which a kernel chooses model-specific registers, SYSCALL's variants and workarounds) stays the
 * model's, since that is what the guest's processor is made of.
 */
#include "base/bits.h"
#include "base/bytes.h"
#include "x86/cpuid.h"
#include "x86/forms.h"
#include "x86/state.h"

#ifdef __x86_64__

/* What is offered is what could be tried. */
static const struct {
    uint8_t feature; /* enum x86_feature: the forms that come with it */
    uint8_t word;    /* enum x86_feature_word */
    uint8_t bit;
    bool avx512; /* wants AVX-512's registers and its foundation */
} offered[] = {
    {X86_FEATURE_GFNI, X86_WORD_7_ECX, 8, false},
    {X86_FEATURE_VAES, X86_WORD_7_ECX, 9, false},
    {X86_FEATURE_VPCLMUL, X86_WORD_7_ECX, 10, false},
    {X86_FEATURE_AVX512F, X86_WORD_7_EBX, 16, true},
    {X86_FEATURE_AVX512DQ, X86_WORD_7_EBX, 17, true},
    {X86_FEATURE_AVX512IFMA, X86_WORD_7_EBX, 21, true},
    {X86_FEATURE_AVX512CD, X86_WORD_7_EBX, 28, true},
    {X86_FEATURE_AVX512BW, X86_WORD_7_EBX, 30, true},
    {X86_FEATURE_AVX512VBMI, X86_WORD_7_ECX, 1, true},
    {X86_FEATURE_AVX512VBMI2, X86_WORD_7_ECX, 6, true},
    {X86_FEATURE_AVX512VNNI, X86_WORD_7_ECX, 11, true},
    {X86_FEATURE_AVX512BITALG, X86_WORD_7_ECX, 12, true},
    {X86_FEATURE_AVX512VPOPCNTDQ, X86_WORD_7_ECX, 14, true},
    {X86_FEATURE_AVX512BF16, X86_WORD_7_1_EAX, 5, true},
};

/* F, DQ, CD, BW and VL: without all of them AVX-512 is not offered, so that no form has to be told
 * apart by its vector length. */
enum { VL = 1u << 31, FOUNDATION = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 };
_Static_assert(X86_FEATURES <= X86_NATIVE_WORDS * 64, "x86_model.native");

enum { EAX, EBX, ECX, EDX };

struct host_words {
    uint32_t word[X86_FEATURE_WORDS];
    uint64_t xcr0;
};

static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    __asm__("cpuid"
            : "=a"(out[EAX]), "=b"(out[EBX]), "=c"(out[ECX]), "=d"(out[EDX])
            : "a"(leaf), "c"(subleaf));
}

/* The highest leaf of the range that begins at `first`. */
static uint32_t host_last_leaf(uint32_t first)
{
    uint32_t out[4];
    host_cpuid(first, 0, out);
    return out[EAX];
}

static void read_host(struct host_words *h)
{
    enum { OSXSAVE = 1u << 27 };
    uint32_t out[4];
    *h = (struct host_words){.xcr0 = 0};
    if (host_last_leaf(0) < 7)
        return;
    host_cpuid(1, 0, out);
    if (out[ECX] & OSXSAVE)
        h->xcr0 = read_xcr0();
    host_cpuid(7, 0, out);
    h->word[X86_WORD_7_EBX] = out[EBX];
    h->word[X86_WORD_7_ECX] = out[ECX];
    if (out[EAX] >= 1) {
        host_cpuid(7, 1, out);
        h->word[X86_WORD_7_1_EAX] = out[EAX];
    }
}

static void take_name(struct x86_model *m)
{
    enum { LEAVES = 3 };
    const uint32_t range = 0x80000000, first = range + 2;
    uint32_t name[LEAVES][4];
    if (host_last_leaf(range) < first + LEAVES - 1)
        return;
    for (unsigned i = 0; i < LEAVES; i++)
        host_cpuid(first + i, 0, name[i]);
    bytes_copy((uint8_t *)m->brand, (const uint8_t *)name, sizeof m->brand);
    m->brand[sizeof m->brand - 1] = 0;
}

static bool has_avx512(const struct host_words *h)
{
    uint32_t need = FOUNDATION | VL;
    return (h->word[X86_WORD_7_EBX] & need) == need && (h->xcr0 & XCR0_AVX512) == XCR0_AVX512;
}

void x86_model_add_host(struct x86_model *m)
{
    struct host_words h;
    if (!m->host)
        return;
    read_host(&h);
    take_name(m);
    bool avx512 = has_avx512(&h);
    if (avx512) {
        m->xcr0 |= XCR0_AVX512;
        m->features[X86_WORD_7_EBX] |= VL;
    }
    for (unsigned i = 0; i < ARRAY_LEN(offered); i++) {
        if (!(h.word[offered[i].word] >> offered[i].bit & 1) || (offered[i].avx512 && !avx512))
            continue;
        m->features[offered[i].word] |= 1u << offered[i].bit;
        m->native[offered[i].feature / 64] |= BIT(offered[i].feature % 64);
    }
}

#else

/* No guest instruction runs on such a host's processor: no engine takes this model. */
void x86_model_add_host(struct x86_model *m)
{
    (void)m;
}

#endif

/*
 * What the guest is told its processor is: the machine's model, from which is taken what this
 * host's KVM can't give, so that the same words hold whatever engine runs the guest.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/msr.h"

enum { ENTRIES = 256 };

/* A struct kvm_cpuid2 with room. */
struct table {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entry[ENTRIES];
};

enum reg { EAX, EBX, ECX, EDX };

/* Where each word of features is. `own`: bits that need nothing of KVM's, because the machine (its
 * local APIC, its TSC_ADJUST) or this engine does the work. */
static const struct {
    uint32_t leaf, subleaf;
    enum reg reg;
    uint32_t own;
} words[X86_FEATURE_WORDS] = {
    [X86_WORD_1_EDX] = {1, 0, EDX, 0},
    [X86_WORD_1_ECX] = {1, 0, ECX,
                        1u << 21 /* x2APIC */ | 1u << 24 /* TSC deadline */ | 1u << 31 /* guest */},
    [X86_WORD_7_EBX] = {7, 0, EBX, 1u << 1 /* TSC_ADJUST */ | 1u << 13 /* no FCS and FDS */},
    [X86_WORD_7_ECX] = {7, 0, ECX, 0},
    [X86_WORD_7_EDX] = {7, 0, EDX, 0},
    [X86_WORD_7_1_EAX] = {7, 1, EAX, 0},
    [X86_WORD_7_2_EDX] = {7, 2, EDX, 0},
    [X86_WORD_D_1_EAX] = {0xd, 1, EAX, 0},
    [X86_WORD_80000001_EDX] = {0x80000001, 0, EDX, 0},
    [X86_WORD_80000001_ECX] = {0x80000001, 0, ECX, 0},
    [X86_WORD_80000007_EDX] = {0x80000007, 0, EDX, 0},
    [X86_WORD_6_EAX] = {6, 0, EAX, 1u << 2 /* the APIC's timer always runs */},
};

enum { FEATURE_XSAVE = 1u << 26 }; /* CPUID.1:ECX */

static uint32_t supported(const struct table *t, uint32_t leaf, uint32_t subleaf, enum reg reg)
{
    for (unsigned i = 0; i < t->head.nent; i++) {
        const struct kvm_cpuid_entry2 *e = &t->entry[i];
        bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        if (e->function == leaf && (!indexed || e->index == subleaf))
            return (const uint32_t[]){e->eax, e->ebx, e->ecx, e->edx}[reg];
    }
    return 0;
}

static void limit_features(struct x86_model *m, const struct table *t)
{
    for (unsigned i = 0; i < X86_FEATURE_WORDS; i++)
        m->features[i] &=
            words[i].own | supported(t, words[i].leaf, words[i].subleaf, words[i].reg);
}

/* Without its registers there is nothing of AVX-512, which `--cpu host` may have added. */
static void drop_avx512(struct x86_model *m)
{
    m->xcr0 &= ~(uint64_t)XCR0_AVX512;
    m->features[X86_WORD_7_EBX] &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 28 | 3u << 30);
    m->features[X86_WORD_7_ECX] &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
    m->features[X86_WORD_7_1_EAX] &= ~(1u << 5);
}

/* The components of XSAVE that KVM can hold; a component that is lost takes its features along. */
static void limit_components(struct x86_model *m, const struct table *t)
{
    enum { PKU = 1u << 3, FMA = 1u << 12, AVX = 1u << 28, F16C = 1u << 29, AVX2 = 1u << 5 };
    m->xcr0 &= supported(t, 0xd, 0, EAX) | (uint64_t)supported(t, 0xd, 0, EDX) << 32;
    if (!(m->xcr0 & XCR0_PKRU))
        m->features[X86_WORD_7_ECX] &= ~(uint32_t)PKU;
    if (!(m->xcr0 & XCR0_AVX)) {
        m->features[X86_WORD_1_ECX] &= ~(uint32_t)(FMA | AVX | F16C);
        m->features[X86_WORD_7_EBX] &= ~(uint32_t)AVX2;
    }
    if ((m->xcr0 & XCR0_AVX512) != XCR0_AVX512)
        drop_avx512(m);
}

/* Where the guest sees the host's processor anyway, what KVM says of CPUID is about nothing, and
 * what KVM lets be turned on counts. */
static void limit_by_cr4(struct x86_model *m, uint64_t cr4)
{
    static const struct {
        uint64_t bit;
        enum x86_feature_word word;
        unsigned shift;
    } features[] = {
        {CR4_UMIP, X86_WORD_7_ECX, 2},   {CR4_FSGSBASE, X86_WORD_7_EBX, 0},
        {CR4_PCIDE, X86_WORD_1_ECX, 17}, {CR4_OSXSAVE, X86_WORD_1_ECX, 26},
        {CR4_SMEP, X86_WORD_7_EBX, 7},   {CR4_SMAP, X86_WORD_7_EBX, 20},
        {CR4_PKE, X86_WORD_7_ECX, 3},
    };
    for (unsigned i = 0; i < ARRAY_LEN(features); i++)
        if (!(cr4 & features[i].bit))
            m->features[features[i].word] &= ~(1u << features[i].shift);
}

/* Nor does KVM walk page tables with pages of 1 GiB that it says it does not know. */
static void limit_pages(struct x86_model *m, const struct table *t)
{
    enum { PAGES_OF_1_GIB = 1u << 26 };
    m->features[X86_WORD_80000001_EDX] &=
        ~(uint32_t)PAGES_OF_1_GIB | supported(t, 0x80000001, 0, EDX);
}

/* Without XSAVE there is none of what hangs on it. */
static void limit_to_xsave(struct x86_model *m)
{
    if (m->features[X86_WORD_1_ECX] & FEATURE_XSAVE)
        return;
    m->features[X86_WORD_D_1_EAX] = 0;
    m->xcr0 = XCR0_X87;
}

/* What the processor promises to be free of: no more than the host's is. */
static void limit_promises(struct x86_model *m, const struct kvm *k)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msr = {.head = {.nmsrs = 1}, .entry = {.index = MSR_ARCH_CAPABILITIES}};
    bool told = ioctl(k->fd, KVM_GET_MSRS, &msr) == 1;
    m->arch_capabilities &= told ? msr.entry.data : 0;
}

/* The guest's counter is the host's, which only some processors can scale. */
static bool limit_tsc(struct x86_model *m, const struct kvm_facts *facts)
{
    m->tsc = facts->obeys_tsc_offset ? X86_TSC_HOST : X86_TSC_FIXED;
    m->tsc_hz = (uint64_t)facts->tsc_khz * 1000;
    return facts->tsc_khz != 0;
}

static bool get_supported(const struct kvm *k, struct table *t, struct error *err)
{
    t->head.nent = ENTRIES;
    return ioctl(k->fd, KVM_GET_SUPPORTED_CPUID, &t->head) == 0 ||
           error_errno(err, "engine hardware: KVM_GET_SUPPORTED_CPUID");
}

static bool limit(struct x86_model *m, const struct kvm *k, struct table *t, struct error *err)
{
    struct kvm_facts facts;
    if (!get_supported(k, t, err))
        return false;
    if (!kvm_find_out(k, &facts))
        return error_set(err, "engine hardware: KVM does not run even a guest of a few bytes");
    if (m->host && facts.users_only)
        return error_usage(err, "--cpu host: this host's KVM gives up on kernels, and the engine "
                                "that runs them for it does not know what the host adds; use "
                                "--engine binary or another --cpu");
    if (facts.obeys_cpuid) {
        limit_features(m, t);
        limit_promises(m, k);
    } else {
        limit_by_cr4(m, facts.cr4);
        limit_pages(m, t);
    }
    limit_to_xsave(m);
    limit_components(m, t);
    return limit_tsc(m, &facts) ||
           error_set(err, "engine hardware: KVM does not tell the rate of the host's TSC");
}

bool hardware_limit(struct x86_model *m, struct error *err)
{
    struct kvm k;
    if (!kvm_open(&k, err))
        return false;
    struct table *t = calloc(1, sizeof *t);
    bool ok = t ? limit(m, &k, t, err) : error_errno(err, "engine hardware: CPUID");
    free(t);
    kvm_close(&k);
    return ok;
}

/* ---- what the model does not say ---- */

bool kvm_find_offer(const struct kvm *k, const struct x86_model *model, struct offer *o,
                    struct error *err)
{
    struct table *t = calloc(1, sizeof *t);
    bool ok = t ? get_supported(k, t, err) : error_errno(err, "engine hardware: CPUID");
    *o = ok ? offer_find(&t->head, model) : (struct offer){0};
    free(t);
    if (ioctl(k->fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) <= 0)
        o->vmx = false; /* nobody could tell who runs (assist.c) */
    return ok;
}

bool hardware_make_offer(struct engine_vm *vm, struct error *err)
{
    if (!vm->model->host || !vm->keeps_apics || !vm->facts.obeys_cpuid)
        return true;
    return kvm_find_offer(&vm->kvm, vm->model, &vm->offer, err) &&
           (!vm->offer.vmx || hardware_tell_failures(vm, false, err));
}

/* ---- telling KVM ---- */

static void add(struct engine_vcpu *v, struct table *t, uint32_t leaf, uint32_t subleaf,
                bool indexed)
{
    uint32_t out[4];
    if (t->head.nent == ENTRIES)
        return;
    x86_cpuid(&v->cpu, leaf, subleaf, out);
    struct kvm_cpuid_entry2 *e = &t->entry[t->head.nent++];
    *e = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = subleaf,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = out[EAX],
        .ebx = out[EBX],
        .ecx = out[ECX],
        .edx = out[EDX],
    };
    offer_tell(&v->vm->offer, e);
}

/* How many subleaves a leaf has; 0: ECX does not matter. */
static unsigned subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 4: return 5;
    case 7: return 3;
    case 0xb: return 3;
    case 0xd: return 32;
    default: return 0;
    }
}

static void add_range(struct engine_vcpu *v, struct table *t, uint32_t first)
{
    uint32_t out[4];
    x86_cpuid(&v->cpu, first, 0, out);
    for (uint32_t leaf = first; leaf <= out[EAX] && leaf - first < 0x100; leaf++) {
        unsigned n = subleaves(leaf);
        if (n == 0)
            add(v, t, leaf, 0, false);
        for (unsigned i = 0; i < n; i++)
            add(v, t, leaf, i, true);
    }
}

bool hardware_set_cpuid(struct engine_vcpu *v, struct error *err)
{
    struct table *t = calloc(1, sizeof *t);
    if (!t)
        return error_errno(err, "engine hardware: CPUID");
    /* As 64-bit code sees it that has a local APIC: what depends on the mode KVM sees to by itself.
     * The machine is not to be asked now, whatever it is doing. */
    uint8_t code = v->cpu.code;
    struct x86_host host = v->cpu.host;
    v->cpu.code = X86_CODE64;
    v->cpu.host = (struct x86_host){0};
    add_range(v, t, 0);
    add_range(v, t, 0x40000000);
    add_range(v, t, 0x80000000);
    v->cpu.code = code;
    v->cpu.host = host;
    bool ok = ioctl(v->fd, KVM_SET_CPUID2, &t->head) == 0;
    if (!ok)
        error_errno(err, "engine hardware: KVM_SET_CPUID2");
    free(t);
    return ok;
}

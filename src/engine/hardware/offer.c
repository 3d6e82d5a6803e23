#include "engine/hardware/offer.h"

#include "base/bits.h"
#include "x86/msr.h"

enum { EAX, EBX, ECX, EDX };

/* The registers by the manual's names (SDM 4). */
enum {
    FEATURE_CONTROL = 0x3a,
    PMC0 = 0xc1,
    PERFEVTSEL0 = 0x186,
    FIXED_CTR0 = 0x309,
    FIXED_CTR_CTRL = 0x38d, /* and PERF_GLOBAL_STATUS */
    PERF_GLOBAL_CTRL = 0x38f,
    PERF_GLOBAL_OVF_CTRL = 0x390,
    VMX_BASIC = 0x480,
    VMX_VMFUNC = 0x491,
};
enum { FEATURE_CONTROL_LOCKED = 1u << 0, FEATURE_CONTROL_VMX = 1u << 2 /* outside SMX */ };
enum { MISC_ENABLE_PERFMON = 1u << 7 };
enum { FEATURE_VMX = 1u << 5 }; /* CPUID.1:ECX */

/* ---- leaf 0AH (SDM 2, CPUID) ---- */

/* Versions from 3 on have registers more. KVM has had no more counters than these. */
enum { VERSION_MOST = 2, GENERAL_MOST = 8, FIXED_MOST = 3 };

static unsigned version(const struct offer *o)
{
    return o->pmu[EAX] & 0xff;
}

static unsigned general_counters(const struct offer *o)
{
    return o->pmu[EAX] >> 8 & 0xff;
}

static unsigned fixed_counters(const struct offer *o)
{
    return o->pmu[EDX] & 0x1f;
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static void find_pmu(struct offer *o, const struct kvm_cpuid_entry2 *leaf)
{
    const struct offer all = {.pmu = {leaf->eax, leaf->ebx, leaf->ecx, leaf->edx}};
    unsigned level = least(version(&all), VERSION_MOST);
    if (level == 0 || general_counters(&all) == 0)
        return;
    unsigned general = least(general_counters(&all), GENERAL_MOST);
    o->pmu[EAX] = (all.pmu[EAX] & 0xffff0000) | general << 8 | level;
    o->pmu[EBX] = all.pmu[EBX];
    /* Fixed counters, and how wide they are. */
    if (level >= 2)
        o->pmu[EDX] = (all.pmu[EDX] & 0x1fe0) | least(fixed_counters(&all), FIXED_MOST);
}

/* ---- what there is ---- */

static const struct kvm_cpuid_entry2 *find_leaf(const struct kvm_cpuid2 *t, uint32_t leaf)
{
    for (unsigned i = 0; i < t->nent; i++)
        if (t->entries[i].function == leaf)
            return &t->entries[i];
    return NULL;
}

/* Counters and virtualization are of each maker's kind, and systems look for those of the maker
 * that CPUID tells, which is the model's: VMX and Intel's counters. */
static bool is_models_maker(const struct kvm_cpuid2 *t, const struct x86_model *model)
{
    const struct kvm_cpuid_entry2 *leaf = find_leaf(t, 0);
    return leaf && memcmp(&leaf->ebx, model->vendor, 4) == 0 &&
           memcmp(&leaf->edx, model->vendor + 4, 4) == 0 &&
           memcmp(&leaf->ecx, model->vendor + 8, 4) == 0;
}

struct offer offer_find(const struct kvm_cpuid2 *supported, const struct x86_model *model)
{
    struct offer o = {0};
    if (!model->host || !is_models_maker(supported, model))
        return o;
    const struct kvm_cpuid_entry2 *features = find_leaf(supported, 1);
    const struct kvm_cpuid_entry2 *pmu = find_leaf(supported, 0xa);
    o.vmx = features && features->ecx & FEATURE_VMX;
    if (pmu)
        find_pmu(&o, pmu);
    return o;
}

const char *offer_name(const struct offer *o)
{
    if (!offer_has_pmu(o))
        return o->vmx ? "VMX" : NULL;
    return o->vmx ? "performance counters and VMX" : "performance counters";
}

void offer_tell(const struct offer *o, struct kvm_cpuid_entry2 *leaf)
{
    if (leaf->function == 1 && o->vmx)
        leaf->ecx |= FEATURE_VMX;
    if (leaf->function == 0xa && offer_has_pmu(o)) {
        leaf->eax = o->pmu[EAX];
        leaf->ebx = o->pmu[EBX];
        leaf->ecx = o->pmu[ECX];
        leaf->edx = o->pmu[EDX];
    }
}

/* ---- its registers ---- */

unsigned offer_msrs(const struct offer *o, struct offer_msrs to[OFFER_RUNS])
{
    unsigned n = 0;
    if (offer_has_pmu(o)) {
        to[n++] = (struct offer_msrs){PMC0, general_counters(o), false};
        to[n++] = (struct offer_msrs){PERFEVTSEL0, general_counters(o), false};
        if (version(o) >= 2)
            to[n++] = (struct offer_msrs){FIXED_CTR_CTRL, PERF_GLOBAL_OVF_CTRL - FIXED_CTR_CTRL + 1,
                                          false};
        if (fixed_counters(o))
            to[n++] = (struct offer_msrs){FIXED_CTR0, fixed_counters(o), false};
    }
    if (o->vmx) {
        to[n++] = (struct offer_msrs){FEATURE_CONTROL, 1, false};
        to[n++] = (struct offer_msrs){VMX_BASIC, VMX_VMFUNC - VMX_BASIC + 1, false};
        /* A guest in it that may read the counter by RDMSR reads one with an offset of its own. */
        to[n++] = (struct offer_msrs){MSR_TSC, 1, true};
    }
    return n;
}

bool offer_has_msr(const struct offer *o, uint32_t msr)
{
    struct offer_msrs runs[OFFER_RUNS];
    unsigned n = offer_msrs(o, runs);
    for (unsigned i = 0; i < n; i++)
        if (msr - runs[i].first < runs[i].count)
            return !runs[i].read_only;
    return false;
}

uint64_t offer_misc_enable(const struct offer *o)
{
    return offer_has_pmu(o) ? MISC_ENABLE_PERFMON : 0;
}

/* ---- a reset ---- */

static unsigned clear(struct kvm_msr_entry *to, uint32_t first, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        to[i] = (struct kvm_msr_entry){.index = first + i};
    return count;
}

/* Counters stop before they are cleared, and the general ones are enabled as a whole then (SDM 3,
 * "Processor State After Reset"). */
static unsigned reset_pmu(const struct offer *o, struct kvm_msr_entry *to)
{
    unsigned n = clear(to, PERFEVTSEL0, general_counters(o));
    n += clear(to + n, FIXED_CTR_CTRL, version(o) >= 2);
    n += clear(to + n, PMC0, general_counters(o));
    n += clear(to + n, FIXED_CTR0, fixed_counters(o));
    if (version(o) >= 2)
        to[n++] = (struct kvm_msr_entry){.index = PERF_GLOBAL_CTRL,
                                         .data = bits_mask(general_counters(o))};
    return n;
}

unsigned offer_reset(const struct offer *o, struct kvm_msr_entry to[OFFER_RESETS])
{
    _Static_assert(2 * GENERAL_MOST + FIXED_MOST + 4 <= OFFER_RESETS, "room for all");
    unsigned n = 0;
    if (offer_has_pmu(o))
        n += reset_pmu(o, to);
    if (o->vmx) {
        /* KVM leaves VMX operation, with whatever runs in it, when this is cleared from here. */
        to[n++] = (struct kvm_msr_entry){.index = FEATURE_CONTROL};
        to[n++] = (struct kvm_msr_entry){.index = FEATURE_CONTROL,
                                         .data = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX};
    }
    return n;
}

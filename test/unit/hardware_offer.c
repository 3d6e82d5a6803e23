/*
 * What `--cpu host` adds on KVM, from what different hosts' KVM says of itself: which of it a guest
 * gets, which registers are KVM's then, and what a reset makes of them.
 */
#include "engine/hardware/offer.h"

#include <string.h>
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "hardware_rig.h"
#include "x86/msr.h"

enum { LEAVES = 5 };

struct table {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 leaf[LEAVES];
};

enum { VMX = 1u << 5, SVM = 1u << 2, PERFCTR_CORE = 1u << 23 };

static struct table table(const char *maker)
{
    struct table t = {.leaf = {{.function = 0, .eax = 0x1f}, {.function = 1, .ecx = 1}}};
    memcpy(&t.leaf[0].ebx, maker, 4);
    memcpy(&t.leaf[0].edx, maker + 4, 4);
    memcpy(&t.leaf[0].ecx, maker + 8, 4);
    t.head.nent = 2;
    return t;
}

static void add(struct table *t, struct kvm_cpuid_entry2 leaf)
{
    t->leaf[t->head.nent++] = leaf;
}

/* As a server of Intel's has it: version 2 of KVM's, 8 general counters of 48 bits, 3 fixed ones.
 */
static struct table intel(bool nested, bool counters)
{
    struct table t = table("GenuineIntel");
    t.leaf[1].ecx |= nested ? VMX : 0;
    struct kvm_cpuid_entry2 pmu = {.function = 0xa};
    if (counters) {
        pmu.eax = 0x07300802;
        pmu.edx = 0x00008603;
    }
    add(&t, pmu);
    return t;
}

static struct table amd(bool nested, bool counters)
{
    struct table t = table("AuthenticAMD");
    add(&t, (struct kvm_cpuid_entry2){
                .function = 0x80000001,
                .ecx = 1u | (nested ? SVM : 0) | (counters ? PERFCTR_CORE : 0),
            });
    if (nested)
        add(&t, (struct kvm_cpuid_entry2){.function = 0x8000000a, .eax = 1, .ebx = 8, .edx = 9});
    if (counters)
        add(&t, (struct kvm_cpuid_entry2){.function = 0x80000022, .eax = 1, .ebx = 6});
    return t;
}

static struct offer find(const struct table *t, const char *model)
{
    return offer_find(&t->head, x86_model_find(model));
}

static bool is_nothing(const struct offer *o)
{
    struct offer_msrs runs[OFFER_RUNS];
    struct kvm_msr_entry entries[OFFER_RESETS];
    struct kvm_cpuid_entry2 leaf = {.function = 1}, counters = {.function = 0xa};
    offer_tell(o, &leaf);
    offer_tell(o, &counters);
    return !o->vmx && !offer_has_pmu(o) && !offer_name(o) && offer_msrs(o, runs) == 0 &&
           offer_reset(o, entries) == 0 && !leaf.ecx && !counters.eax && !counters.edx &&
           !offer_misc_enable(o);
}

/* ---- which guests ---- */

TEST(a_host_of_the_models_maker_adds_what_it_has)
{
    struct table with = intel(true, true), counters = intel(false, true), vmx = intel(true, false),
                 bare = intel(false, false);
    struct offer both = find(&with, "host"), some = find(&counters, "host"),
                 other = find(&vmx, "host"), none = find(&bare, "host");
    CHECK(both.vmx && offer_has_pmu(&both));
    CHECK(strcmp(offer_name(&both), "performance counters and VMX") == 0);
    CHECK(!some.vmx && offer_has_pmu(&some));
    CHECK(strcmp(offer_name(&some), "performance counters") == 0);
    CHECK(other.vmx && !offer_has_pmu(&other));
    CHECK(strcmp(offer_name(&other), "VMX") == 0);
    CHECK(is_nothing(&none));
}

TEST(no_other_model_gets_anything)
{
    struct table t = intel(true, true);
    struct offer v3 = find(&t, "x86-64-v3"), v2 = find(&t, "x86-64-v2");
    CHECK(is_nothing(&v3));
    CHECK(is_nothing(&v2));
}

/* Nobody looks for SVM in a processor of Intel's. */
TEST(another_makers_host_adds_nothing)
{
    for (unsigned i = 0; i < 4; i++) {
        struct table t = amd(i & 1, i & 2);
        struct offer o = find(&t, "host");
        CHECK(is_nothing(&o));
    }
    struct table centaur = table("  Shanghai  ");
    centaur.leaf[1].ecx |= VMX;
    struct offer o = find(&centaur, "host");
    CHECK(is_nothing(&o));
}

TEST(a_table_without_the_leaves_adds_nothing)
{
    struct table t = {.head.nent = 0};
    struct offer o = find(&t, "host");
    CHECK(is_nothing(&o));
}

/* ---- what they are told ---- */

static struct offer counters(uint32_t eax, uint32_t ebx, uint32_t edx)
{
    struct table t = intel(false, false);
    t.leaf[2] =
        (struct kvm_cpuid_entry2){.function = 0xa, .eax = eax, .ebx = ebx, .ecx = 0xff, .edx = edx};
    return find(&t, "host");
}

static struct kvm_cpuid_entry2 told(const struct offer *o, uint32_t leaf)
{
    struct kvm_cpuid_entry2 e = {.function = leaf, .ecx = leaf == 1 ? 1u << 31 : 0};
    offer_tell(o, &e);
    return e;
}

TEST(leaves_are_told_beside_what_is_there)
{
    struct table t = intel(true, true);
    struct offer o = find(&t, "host");
    CHECK_EQ(told(&o, 1).ecx, 1u << 31 | VMX);
    CHECK_EQ(told(&o, 0xa).eax, 0x07300802);
    CHECK_EQ(told(&o, 0xa).edx, 0x603);
    CHECK_EQ(told(&o, 7).ecx, 0);
    CHECK_EQ(offer_misc_enable(&o), BIT(7));
}

/* Later versions have registers that are not KVM's here. */
TEST(counters_are_told_as_far_as_their_registers_are_known)
{
    struct offer newer = counters(0x07300a05, 1, 0x8604), first = counters(0x07280201, 0x40, 0x603),
                 odd = counters(0x07300002, 0, 0x603);
    CHECK_EQ(newer.pmu[0], 0x07300802);
    CHECK_EQ(newer.pmu[1], 1);
    CHECK_EQ(newer.pmu[2], 0);
    CHECK_EQ(newer.pmu[3], 0x603);
    CHECK_EQ(first.pmu[0], 0x07280201);
    CHECK_EQ(first.pmu[1], 0x40);
    CHECK_EQ(first.pmu[3], 0); /* no fixed ones yet */
    CHECK(is_nothing(&odd));
}

/* ---- their registers ---- */

TEST(registers_are_those_of_what_is_there)
{
    struct table t = intel(true, true), u = intel(true, false);
    struct offer all = find(&t, "host"), vmx = find(&u, "host"), first = counters(0x07280201, 0, 0);
    static const uint32_t of_pmu[] = {0xc1, 0xc8, 0x186, 0x18d, 0x309, 0x30b, 0x38d, 0x390};
    static const uint32_t of_vmx[] = {0x3a, 0x480, 0x491};
    static const uint32_t nobodys[] = {0xc0,  0xc9,  0x185, 0x18e,        0x308,          0x30c,
                                       0x38c, 0x391, 0x345, 0x47f,        0x492,          0x1d9,
                                       0x10a, 0x1a0, 0x174, MSR_TSC + 1u, MSR_TSC_ADJUST, MSR_EFER};
    for (unsigned i = 0; i < ARRAY_LEN(of_pmu); i++)
        CHECK(offer_has_msr(&all, of_pmu[i]) && !offer_has_msr(&vmx, of_pmu[i]));
    for (unsigned i = 0; i < ARRAY_LEN(of_vmx); i++)
        CHECK(offer_has_msr(&all, of_vmx[i]) && offer_has_msr(&vmx, of_vmx[i]) &&
              !offer_has_msr(&first, of_vmx[i]));
    for (unsigned i = 0; i < ARRAY_LEN(nobodys); i++)
        CHECK(!offer_has_msr(&all, nobodys[i]));
    CHECK(offer_has_msr(&first, 0xc2) && !offer_has_msr(&first, 0xc3));
    CHECK(!offer_has_msr(&first, 0x38f) && !offer_has_msr(&first, 0x309));
}

/* KVM knows the offset of a guest's guest; what the counter is set to goes to the machine. */
TEST(the_time_stamp_counter_is_read_from_kvm_by_one_with_vmx)
{
    struct table t = intel(true, true), u = intel(false, true);
    struct offer with = find(&t, "host"), without = find(&u, "host");
    struct offer_msrs runs[OFFER_RUNS];
    unsigned found = 0;
    for (unsigned i = offer_msrs(&with, runs); i-- > 0;)
        found += runs[i].first == MSR_TSC && runs[i].count == 1 && runs[i].read_only;
    CHECK_EQ(found, 1);
    CHECK(!offer_has_msr(&with, MSR_TSC));
    for (unsigned i = offer_msrs(&without, runs); i-- > 0;)
        CHECK(runs[i].first != MSR_TSC && !runs[i].read_only);
}

/* ---- a reset ---- */

static int last_of(const struct kvm_msr_entry *entries, unsigned n, uint32_t msr)
{
    for (int i = (int)n - 1; i >= 0; i--)
        if (entries[i].index == msr)
            return i;
    return -1;
}

TEST(a_reset_writes_every_register_that_keeps_something)
{
    struct table t = intel(true, true);
    struct offer o = find(&t, "host");
    struct kvm_msr_entry entries[OFFER_RESETS];
    unsigned n = offer_reset(&o, entries);
    for (uint32_t i = 0; i < 8; i++)
        CHECK(last_of(entries, n, 0xc1 + i) > last_of(entries, n, 0x186 + i));
    for (uint32_t i = 0; i < 3; i++)
        CHECK(last_of(entries, n, 0x309 + i) > last_of(entries, n, 0x38d));
    int enable = last_of(entries, n, 0x38f);
    CHECK(enable >= 0 && entries[enable].data == 0xff);
    /* Cleared, that KVM leaves VMX operation, and then as firmware leaves it. */
    int last = last_of(entries, n, 0x3a);
    CHECK(last > 0);
    if (last <= 0)
        return;
    CHECK_EQ(entries[last].data, 5);
    CHECK_EQ(entries[last - 1].index, 0x3a);
    CHECK_EQ(entries[last - 1].data, 0);
    for (unsigned i = 0; i < n; i++)
        CHECK(offer_has_msr(&o, entries[i].index));
}

/* ---- this host ---- */

static bool make(struct rig *r, struct x86_model *model, struct error *err)
{
    const struct engine_tuning t = {.apics = ENGINE_APICS_KEPT};
    *model = *x86_model_find("x86-64-v2");
    bool made = memory_create(&r->memory, GUEST_MEMORY, err) && engine_hardware.limit(model, err);
    model->host = true; /* a KVM that gives up on systems refuses the model itself */
    return made && engine_hardware.vm_create(&r->vm, &r->memory, model, 1, err) &&
           engine_hardware.tune(r->vm, &t, err) &&
           engine_hardware.vcpu_create(&r->vcpu, r->vm, 0, &r->host, err);
}

static struct kvm_cpuid_entry2 leaf_in_kvm(const struct engine_vcpu *v, uint32_t leaf)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entry[256];
    } k = {.head.nent = 256};
    CHECK_EQ(ioctl(v->fd, KVM_GET_CPUID2, &k.head), 0);
    for (unsigned i = 0; i < k.head.nent; i++)
        if (k.entry[i].function == leaf)
            return k.entry[i];
    return (struct kvm_cpuid_entry2){0};
}

/* A leaf, and registers as after a reset, twice. Where KVM offers nothing, nothing is there. */
TEST(this_hosts_kvm_takes_what_it_offers)
{
    NEEDS_KVM();
    struct rig r = {0};
    struct x86_model model;
    static struct error err;
    if (!make(&r, &model, &err))
        SKIP(err.text);
    const struct offer *o = &r.vm->offer;
    const char *name = engine_hardware.untold(r.vm);
    printf("# this host's KVM offers %s\n", name ? name : "nothing");
    CHECK_EQ(!(leaf_in_kvm(r.vcpu, 1).ecx & VMX), !o->vmx);
    CHECK_EQ(leaf_in_kvm(r.vcpu, 0xa).eax, o->pmu[0]);
    for (unsigned i = 0; i < 2; i++) {
        struct x86_state s;
        x86_state_reset(&s, true, false);
        engine_hardware.set_state(r.vcpu, &s);
        CHECK(hardware_load(r.vcpu));
    }
    engine_hardware.vcpu_destroy(r.vcpu);
    engine_hardware.vm_destroy(r.vm);
    memory_destroy(&r.memory);
}

CODE(reads_misc_enable, "mov $0x1a0, %ecx; rdmsr");

static uint64_t misc_enable_with(struct offer offer)
{
    struct rig r = {0};
    CHECK(rig_open(&r, reads_misc_enable, reads_misc_enable_end));
    r.vm->facts.users_only = false;
    CHECK(hardware_load(r.vcpu));
    r.vm->offer = offer;
    CHECK_EQ(engine_hardware.run(r.vcpu, UINT64_MAX), ENGINE_HALTED);
    uint64_t value = rig_state(&r).gpr[X86_RAX];
    rig_close(&r);
    return value;
}

/* The machine's register, in which the counters show. */
TEST(a_guest_with_counters_reads_of_them_in_misc_enable)
{
    NEEDS_KVM();
    struct table t = intel(false, true);
    uint64_t without = misc_enable_with((struct offer){0}),
             with = misc_enable_with(find(&t, "host"));
    CHECK(!(without & BIT(7)));
    CHECK_EQ(with, without | BIT(7));
}

TEST(kvm_takes_a_filter_with_all_there_can_be)
{
    NEEDS_KVM();
    struct rig r = {0};
    struct x86_model model;
    struct table t = intel(true, true);
    static struct error err;
    if (!make(&r, &model, &err))
        SKIP(err.text);
    r.vm->offer = find(&t, "host");
    CHECK(hardware_filter_msrs(r.vm, &err));
    engine_hardware.vcpu_destroy(r.vcpu);
    engine_hardware.vm_destroy(r.vm);
    memory_destroy(&r.memory);
}

TESTS(T(a_host_of_the_models_maker_adds_what_it_has), T(no_other_model_gets_anything),
      T(another_makers_host_adds_nothing), T(a_table_without_the_leaves_adds_nothing),
      T(leaves_are_told_beside_what_is_there),
      T(counters_are_told_as_far_as_their_registers_are_known),
      T(registers_are_those_of_what_is_there),
      T(the_time_stamp_counter_is_read_from_kvm_by_one_with_vmx),
      T(a_reset_writes_every_register_that_keeps_something), T(this_hosts_kvm_takes_what_it_offers),
      T(a_guest_with_counters_reads_of_them_in_misc_enable),
      T(kvm_takes_a_filter_with_all_there_can_be))

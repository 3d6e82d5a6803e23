/*
 * Model-specific registers. Those that make the processor run (syscalls, segment bases, PAT) are
 * KVM's; all others go through the same code as in every engine, so that the guest finds the
 * model's registers and not the host's.
 */
#include <stdlib.h>
#include <sys/ioctl.h>

#include "engine/hardware/hardware.h"
#include "x86/msr.h"

/* What KVM keeps while it runs the vCPU. EFER and the bases of FS and GS go with the segments. */
static const struct native {
    uint32_t msr;
    uint16_t offset; /* in struct x86_state, a uint64_t */
} native[] = {
    {MSR_SYSENTER_CS, offsetof(struct x86_state, sysenter_cs)},
    {MSR_SYSENTER_ESP, offsetof(struct x86_state, sysenter_esp)},
    {MSR_SYSENTER_EIP, offsetof(struct x86_state, sysenter_eip)},
    {MSR_STAR, offsetof(struct x86_state, star)},
    {MSR_LSTAR, offsetof(struct x86_state, lstar)},
    {MSR_CSTAR, offsetof(struct x86_state, cstar)},
    {MSR_SFMASK, offsetof(struct x86_state, sfmask)},
    {MSR_KERNEL_GS_BASE, offsetof(struct x86_state, kernel_gs_base)},
    {MSR_TSC_AUX, offsetof(struct x86_state, tsc_aux)},
    {MSR_PAT, offsetof(struct x86_state, pat)},
    {MSR_SPEC_CTRL, offsetof(struct x86_state, spec_ctrl)},
    {MSR_XSS, offsetof(struct x86_state, xss)},
};

/* Of the local APIC, where that is KVM's; x2APIC registers never leave KVM then. */
static bool is_apics(uint32_t msr)
{
    return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
           (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

/* Runs of registers that the guest reaches without an exit, and how many each has. */
static const struct {
    uint32_t first, count;
} allowed[] = {
    {MSR_SPEC_CTRL, 2 /* and PRED_CMD */},
    {MSR_SYSENTER_CS, 3},
    {MSR_PAT, 1},
    {MSR_XSS, 1},
    {MSR_EFER, 5 /* to SFMASK */},
    {MSR_FS_BASE, 4 /* to TSC_AUX */},
    /* The local APIC's, if it is KVM's. */
    {MSR_APIC_BASE, 1},
    {MSR_TSC_DEADLINE, 1},
};
enum { ALLOWED = ARRAY_LEN(allowed), ALLOWED_APICS = 2 };
_Static_assert(ALLOWED + OFFER_RUNS <= KVM_MSR_FILTER_MAX_RANGES, "one range each");

static uint64_t *place(struct engine_vcpu *v, const struct native *n)
{
    return (uint64_t *)((uint8_t *)&v->cpu.s + n->offset);
}

/* ---- what the host's KVM has ---- */

enum { LIST_MAX = 4096 };

struct list {
    struct kvm_msr_list head;
    uint32_t msr[LIST_MAX];
};

static bool find_native(struct engine_vm *vm, struct error *err)
{
    struct list *list = calloc(1, sizeof *list);
    if (!list)
        return error_errno(err, "engine hardware: MSRs");
    list->head.nmsrs = LIST_MAX;
    bool ok = ioctl(vm->kvm.fd, KVM_GET_MSR_INDEX_LIST, &list->head) == 0;
    if (!ok)
        error_errno(err, "engine hardware: KVM_GET_MSR_INDEX_LIST");
    for (unsigned i = 0; ok && i < list->head.nmsrs; i++)
        for (unsigned j = 0; j < ARRAY_LEN(native); j++)
            if (list->msr[i] == native[j].msr)
                vm->native_msrs |= 1u << j;
    free(list);
    return ok;
}

static void allow(struct kvm_msr_filter_range *range, uint32_t first, uint32_t count,
                  uint32_t access)
{
    static uint8_t ones[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    *range = (struct kvm_msr_filter_range){
        .flags = access, .base = first, .nmsrs = count, .bitmap = ones};
}

static void fill_filter(const struct engine_vm *vm, struct kvm_msr_filter *filter)
{
    enum { BOTH = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE };
    struct offer_msrs offered[OFFER_RUNS];
    unsigned runs = offer_msrs(&vm->offer, offered);
    unsigned n = ALLOWED - (vm->keeps_apics ? 0 : ALLOWED_APICS);
    *filter = (struct kvm_msr_filter){.flags = KVM_MSR_FILTER_DEFAULT_DENY};
    for (unsigned i = 0; i < n; i++)
        allow(&filter->ranges[i], allowed[i].first, allowed[i].count, BOTH);
    for (unsigned i = 0; i < runs; i++)
        allow(&filter->ranges[n + i], offered[i].first, offered[i].count,
              offered[i].read_only ? KVM_MSR_FILTER_READ : BOTH);
}

bool hardware_filter_msrs(struct engine_vm *vm, struct error *err)
{
    struct kvm_enable_cap exits = {
        .cap = KVM_CAP_X86_USER_SPACE_MSR,
        .args[0] =
            KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER,
    };
    struct kvm_msr_filter filter;
    fill_filter(vm, &filter);
    if (!find_native(vm, err))
        return false;
    if (ioctl(vm->fd, KVM_ENABLE_CAP, &exits) != 0)
        return error_errno(err, "engine hardware: KVM_CAP_X86_USER_SPACE_MSR");
    if (ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter) != 0)
        return error_errno(err, "engine hardware: KVM_X86_SET_MSR_FILTER");
    return true;
}

/* ---- state ---- */

struct native_msrs {
    struct kvm_msrs head;
    struct kvm_msr_entry entry[ARRAY_LEN(native)];
};

static void list_native(const struct engine_vm *vm, struct native_msrs *k)
{
    *k = (struct native_msrs){0};
    for (unsigned i = 0; i < ARRAY_LEN(native); i++)
        if (vm->native_msrs & 1u << i)
            k->entry[k->head.nmsrs++].index = native[i].msr;
}

bool hardware_load_msrs(struct engine_vcpu *v)
{
    struct native_msrs k;
    list_native(v->vm, &k);
    for (unsigned i = 0, n = 0; i < ARRAY_LEN(native); i++)
        if (v->vm->native_msrs & 1u << i)
            k.entry[n++].data = *place(v, &native[i]);
    return ioctl(v->fd, KVM_SET_MSRS, &k.head) == (int)k.head.nmsrs ||
           hardware_fail(v, "KVM_SET_MSRS");
}

bool hardware_fetch_msrs(struct engine_vcpu *v)
{
    struct native_msrs k;
    list_native(v->vm, &k);
    if (ioctl(v->fd, KVM_GET_MSRS, &k.head) != (int)k.head.nmsrs)
        return hardware_fail(v, "KVM_GET_MSRS");
    for (unsigned i = 0, n = 0; i < ARRAY_LEN(native); i++)
        if (v->vm->native_msrs & 1u << i)
            *place(v, &native[i]) = k.entry[n++].data;
    return true;
}

bool hardware_reset_offered_msrs(struct engine_vcpu *v)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[OFFER_RESETS];
    } k = {0};
    k.head.nmsrs = offer_reset(&v->vm->offer, k.entry);
    return k.head.nmsrs == 0 || ioctl(v->fd, KVM_SET_MSRS, &k.head) == (int)k.head.nmsrs ||
           hardware_fail(v, "KVM_SET_MSRS, of counters and VMX");
}

/* Where SYSCALL leads (users.c); SYSENTER leads nowhere. */
bool hardware_load_user_msrs(struct engine_vcpu *v)
{
    const struct kvm_msr_entry wanted[] = {
        {.index = MSR_STAR, .data = v->cpu.s.star},
        {.index = MSR_LSTAR, .data = USERS_SYSCALL},
        {.index = MSR_CSTAR, .data = USERS_SYSCALL},
        {.index = MSR_SFMASK, .data = FLAG_IF},
        {.index = MSR_TSC_AUX, .data = v->cpu.s.tsc_aux},
        {.index = MSR_SYSENTER_CS},
    };
    struct native_msrs k = {.head = {.nmsrs = ARRAY_LEN(wanted)}};
    _Static_assert(ARRAY_LEN(wanted) <= ARRAY_LEN(k.entry), "fits");
    memcpy(k.entry, wanted, sizeof wanted);
    return ioctl(v->fd, KVM_SET_MSRS, &k.head) == (int)k.head.nmsrs ||
           hardware_fail(v, "KVM_SET_MSRS");
}

/* ---- exits ---- */

static bool is_native(const struct engine_vm *vm, uint32_t msr)
{
    for (unsigned i = 0; i < ARRAY_LEN(native); i++)
        if (native[i].msr == msr)
            return vm->native_msrs & 1u << i;
    if ((vm->keeps_apics && is_apics(msr)) || offer_has_msr(&vm->offer, msr))
        return true;
    return msr == MSR_EFER || msr == MSR_FS_BASE || msr == MSR_GS_BASE;
}

void hardware_msr_exit(struct engine_vcpu *v)
{
    struct kvm_run *run = v->run;
    uint32_t msr = run->msr.index;
    uint64_t value = run->msr.data;
    bool ok = false;
    /* An access to one of KVM's own only comes here because KVM finds fault with it. */
    if (is_native(v->vm, msr))
        ok = false;
    else if (run->exit_reason == KVM_EXIT_X86_RDMSR)
        ok = x86_msr_read(&v->cpu, msr, &value);
    else
        ok = x86_msr_write(&v->cpu, msr, value);
    if (msr == MSR_MISC_ENABLE)
        value |= offer_misc_enable(&v->vm->offer);
    run->msr.data = value;
    run->msr.error = !ok;
    v->incomplete = true;
    if (!ok || run->exit_reason != KVM_EXIT_X86_WRMSR)
        return;
    if (msr == MSR_TSC || msr == MSR_TSC_ADJUST)
        hardware_set_tsc(v, true);
}

/*
 * /dev/kvm: whether it is there, may be opened and can what this engine needs; and if not, what a
 * person can do about it.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/hardware/hardware.h"

static const char device[] = "/dev/kvm";

/* What this engine can't do without. */
static const struct {
    int capability;
    const char *name, *since; /* of Linux */
} needed[] = {
    {KVM_CAP_USER_MEMORY, "guest memory", "2.6.25"},
    {KVM_CAP_VCPU_EVENTS, "pending events", "2.6.33"},
    {KVM_CAP_DEBUGREGS, "debug registers", "2.6.35"},
    {KVM_CAP_XSAVE, "XSAVE state", "2.6.36"},
    {KVM_CAP_SYNC_REGS, "registers in shared memory", "4.18"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exits", "4.13"},
    {KVM_CAP_X86_USER_SPACE_MSR, "MSRs in user space", "5.10"},
    {KVM_CAP_X86_MSR_FILTER, "MSR filters", "5.10"},
    {KVM_CAP_VCPU_ATTRIBUTES, "TSC offsets", "5.16"},
};

/* ---- why there is none ---- */

enum maker { MAKER_OTHER, MAKER_INTEL, MAKER_AMD };

/* What the processor says of itself (SDM 3, 24.6; APM 2, 15.4). */
static void look_at_processor(enum maker *maker, bool *virtualizes, bool *is_guest)
{
    unsigned a, b, c, d;
    *maker = MAKER_OTHER;
    *virtualizes = *is_guest = false;
    if (!__get_cpuid(0, &a, &b, &c, &d))
        return;
    *maker = b == signature_INTEL_ebx ? MAKER_INTEL
             : b == signature_AMD_ebx ? MAKER_AMD
                                      : MAKER_OTHER;
    if (__get_cpuid(1, &a, &b, &c, &d)) {
        *is_guest = c & BIT(31);
        *virtualizes = c & BIT(5); /* VMX */
    }
    if (__get_cpuid(0x80000001, &a, &b, &c, &d))
        *virtualizes |= (c & BIT(2)) != 0; /* SVM */
}

static const char *bios_name(enum maker maker)
{
    return maker == MAKER_AMD ? "SVM (AMD-V)" : "Intel VT-x";
}

static bool explain_absence(struct error *err)
{
    enum maker maker;
    bool virtualizes, is_guest;
    look_at_processor(&maker, &virtualizes, &is_guest);
    if (access("/sys/module/kvm", F_OK) == 0)
        return error_set(err,
                         "no %s, though the kernel has KVM: load the processor's module (modprobe "
                         "%s), or let this container have the device",
                         device, maker == MAKER_AMD ? "kvm_amd" : "kvm_intel");
    if (virtualizes)
        return error_set(err, "no %s: load the kernel's module (modprobe %s)", device,
                         maker == MAKER_AMD ? "kvm_amd" : "kvm_intel");
    if (is_guest)
        return error_set(err,
                         "no %s: this host is itself a virtual machine; have nested virtualization "
                         "turned on for it where it runs",
                         device);
    return error_set(err,
                     "no %s: the processor offers no virtualization; turn %s on in the firmware's "
                     "setup",
                     device, bios_name(maker));
}

static bool explain_permission(struct error *err)
{
    struct stat st;
    struct group entry, *group = NULL;
    char buffer[1024];
    if (stat(device, &st) != 0 || getgrgid_r(st.st_gid, &entry, buffer, sizeof buffer, &group) != 0)
        group = NULL;
    if (!group || st.st_gid == 0 || !(st.st_mode & S_IRGRP))
        return error_set(err,
                         "no permission to open %s: give it to a group that you are in (chgrp kvm "
                         "%s; chmod g+rw %s)",
                         device, device, device);
    return error_set(err,
                     "no permission to open %s: join its group (usermod -aG %s $USER, then log in "
                     "again)",
                     device, group->gr_name);
}

static bool explain(struct error *err)
{
    enum maker maker;
    bool virtualizes, is_guest;
    switch (errno) {
    case ENOENT: return explain_absence(err);
    case EACCES:
    case EPERM: return explain_permission(err);
    case ENODEV:
    case ENXIO:
    case EOPNOTSUPP:
        look_at_processor(&maker, &virtualizes, &is_guest);
        return error_set(err,
                         "%s: the processor's virtualization is locked; turn %s on in the "
                         "firmware's setup",
                         device, bios_name(maker));
    default: return error_errno(err, "%s", device);
    }
}

/* ---- opening ---- */

static bool check(struct kvm *k, struct error *err)
{
    if (ioctl(k->fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
        return error_set(err, "%s: speaks another version of its interface than %d", device,
                         KVM_API_VERSION);
    for (unsigned i = 0; i < ARRAY_LEN(needed); i++)
        if (ioctl(k->fd, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
            return error_set(err, "%s: lacks %s; use Linux %s or newer", device, needed[i].name,
                             needed[i].since);
    int run_size = ioctl(k->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < (int)sizeof(struct kvm_run))
        return error_errno(err, "%s: KVM_GET_VCPU_MMAP_SIZE", device);
    int xsave_size = ioctl(k->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    k->run_size = (size_t)run_size;
    k->xsave_size = xsave_size > (int)sizeof(struct kvm_xsave) ? (size_t)xsave_size : 0;
    k->sregs2 = ioctl(k->fd, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) > 0;
    return true;
}

bool kvm_open(struct kvm *k, struct error *err)
{
    *k = (struct kvm){.fd = open(device, O_RDWR | O_CLOEXEC)};
    if (k->fd < 0)
        return explain(err);
    if (check(k, err))
        return true;
    kvm_close(k);
    return false;
}

void kvm_close(struct kvm *k)
{
    if (k->fd >= 0)
        close(k->fd);
    k->fd = -1;
}

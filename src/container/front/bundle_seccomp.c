/*
 * System calls that no container of the front needs and that reach what namespaces don't cover:
 * the keyrings, the kernel's own code, other clocks, and interfaces known for their holes. They
 * fail with EPERM. What capabilities guard already is listed too: a container may be given more of
 * those.
 */
#include "base/bits.h"
#include "container/front/bundle.h"

static const char *const refused[] = {
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "perf_event_open",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "_sysctl",
    "sysfs",
    "syslog",
    "uselib",
    "userfaultfd",
    "ustat",
    "vm86",
    "vm86old",
};

json_t *bundle_seccomp(void)
{
    json_t *names = json_array(), *seccomp;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        json_array_append_new(names, json_string(refused[i]));
    seccomp = json_pack("{s:s, s:[{s:o, s:s, s:i}]}", "defaultAction", "SCMP_ACT_ALLOW", "syscalls",
                        "names", names, "action", "SCMP_ACT_ERRNO", "errnoRet", 1);
#ifdef __x86_64__
    /* A list of refusals that covered only the native numbers would be no list. */
    json_object_set_new(
        seccomp, "architectures",
        json_pack("[s, s, s]", "SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"));
#endif
    return seccomp;
}

/* What this runtime can do, in the form that the specification gives `features`. */
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>

#include "base/bits.h"
#include "container/container.h"
#include "container/mounts.h"

static json_t *strings(const char *const *list, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(list[i]));
    return array;
}

static json_t *mount_options(void)
{
    json_t *array = json_array();
    for (size_t i = 0; mount_option_name(i); i++)
        json_array_append_new(array, json_string(mount_option_name(i)));
    return array;
}

static json_t *capabilities(void)
{
    json_t *array = json_array();
    for (cap_value_t cap = 0; cap < 64; cap++) {
        char *name = cap_to_name(cap), upper[64];
        if (!name)
            break;
        size_t n = 0;
        bool known = strncmp(name, "cap_", 4) == 0;
        for (; n < sizeof upper - 1 && name[n]; n++)
            upper[n] = name[n] >= 'a' && name[n] <= 'z' ? (char)(name[n] - 32) : name[n];
        upper[n] = 0;
        cap_free(name);
        if (!known)
            break;
        json_array_append_new(array, json_string(upper));
    }
    return array;
}

static json_t *seccomp(void)
{
    static const char *const actions[] = {
        "SCMP_ACT_ALLOW",        "SCMP_ACT_ERRNO",       "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",       "SCMP_ACT_TRACE",       "SCMP_ACT_TRAP"};
    static const char *const operators[] = {"SCMP_CMP_NE",       "SCMP_CMP_LT", "SCMP_CMP_LE",
                                            "SCMP_CMP_EQ",       "SCMP_CMP_GE", "SCMP_CMP_GT",
                                            "SCMP_CMP_MASKED_EQ"};
    static const char *const archs[] = {"SCMP_ARCH_X86",   "SCMP_ARCH_X86_64",  "SCMP_ARCH_X32",
                                        "SCMP_ARCH_ARM",   "SCMP_ARCH_AARCH64", "SCMP_ARCH_RISCV64",
                                        "SCMP_ARCH_S390X", "SCMP_ARCH_PPC64LE"};
    static const char *const flags[] = {"SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG",
                                        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                                        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"};
    return json_pack(
        "{s:b,s:o,s:o,s:o,s:o,s:o}", "enabled", true, "actions",
        strings(actions, ARRAY_LEN(actions)), "operators", strings(operators, ARRAY_LEN(operators)),
        "archs", strings(archs, ARRAY_LEN(archs)), "knownFlags", strings(flags, ARRAY_LEN(flags)),
        "supportedFlags", strings(flags, ARRAY_LEN(flags)));
}

json_t *container_features(void)
{
    static const char *const hooks[] = {"prestart",       "createRuntime", "createContainer",
                                        "startContainer", "poststart",     "poststop"};
    static const char *const namespaces[] = {"cgroup", "ipc",  "mount", "network",
                                             "pid",    "time", "user",  "uts"};
    const struct scmp_version *version = seccomp_version();
    char text[48];
    snprintf(text, sizeof text, "%u.%u.%u", version->major, version->minor, version->micro);
    json_t *parts = json_pack(
        "{s:o,s:o,s:{s:b,s:b,s:b,s:b,s:b},s:o,s:{s:b},s:{s:b},s:{s:{s:b}},s:{s:b}}", "namespaces",
        strings(namespaces, ARRAY_LEN(namespaces)), "capabilities", capabilities(), "cgroup", "v1",
        true, "v2", true, "systemd", false, "systemdUser", false, "rdma", true, "seccomp",
        seccomp(), "apparmor", "enabled", true, "selinux", "enabled", true, "mountExtensions",
        "idmap", "enabled", true, "intelRdt", "enabled", false);
    return json_pack("{s:s,s:s,s:o,s:o,s:o,s:{s:s}}", "ociVersionMin", "1.0.0", "ociVersionMax",
                     "1.1.0", "hooks", strings(hooks, ARRAY_LEN(hooks)), "mountOptions",
                     mount_options(), "linux", parts, "annotations",
                     "io.github.seccomp.libseccomp.version", text);
}

#include "container/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bits.h"

/* ---- limits ---- */

static bool set_rlimits(const struct process_config *p, struct error *err)
{
    for (size_t i = 0; i < p->rlimit_count; i++) {
        const struct rlimit_config *r = &p->rlimits[i];
        struct rlimit now;
        if (setrlimit(r->resource, &r->limit) == 0)
            continue;
        if (errno == EPERM && getrlimit(r->resource, &now) == 0)
            return error_set(err,
                             "config.json: process.rlimits[%zu]: %s: to raise its hard limit from "
                             "%llu to %llu CAP_SYS_RESOURCE is missing; who started this process "
                             "can grant it",
                             i, r->name, (unsigned long long)now.rlim_max,
                             (unsigned long long)r->limit.rlim_max);
        return error_errno(err, "config.json: process.rlimits[%zu]: %s", i, r->name);
    }
    return true;
}

static bool set_oom_score(const struct process_config *p, struct error *err)
{
    char text[16];
    if (!p->has_oom_score)
        return true;
    int n = snprintf(text, sizeof text, "%d", p->oom_score);
    int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (!ok && fd >= 0 && errno == EACCES) {
        /* Not ours to lower: fine if it is what it shall be, or lower than we may. */
        char now[16] = "";
        ssize_t size = pread(fd, now, sizeof now - 1, 0);
        int score = 0;
        ok = size > 0 && sscanf(now, "%d", &score) == 1 && score == p->oom_score;
        if (!ok)
            error_set(err,
                      "config.json: process.oomScoreAdj: to lower it from %d to %d "
                      "CAP_SYS_RESOURCE is missing; who started this process can grant it",
                      score, p->oom_score);
    } else if (!ok) {
        error_errno(err, "config.json: process.oomScoreAdj: can't be set");
    }
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool set_scheduler(const struct process_config *p, struct error *err)
{
    struct sched_attr attr = {
        .size = sizeof attr,
        .sched_policy = p->scheduler_policy,
        .sched_flags = p->scheduler_flags,
        .sched_nice = p->scheduler_nice,
        .sched_priority = p->scheduler_priority,
        .sched_runtime = p->scheduler_runtime,
        .sched_deadline = p->scheduler_deadline,
        .sched_period = p->scheduler_period,
    };
    if (p->has_scheduler && syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
        return error_errno(err, "config.json: process.scheduler: can't be set");
    if (p->has_io_priority && syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, p->io_priority) < 0)
        return error_errno(err, "config.json: process.ioPriority: can't be set");
    return true;
}

bool identity_limits(const struct process_config *p, struct error *err)
{
    return set_oom_score(p, err) && set_scheduler(p, err) && set_rlimits(p, err);
}

/* ---- user and capabilities ---- */

static bool drop_bounding(uint64_t keep, struct error *err)
{
    for (unsigned cap = 0; cap < 64; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap);
        if (has < 0)
            return true; /* past the last that the kernel knows */
        if (has == 1 && !(keep & BIT(cap)) && prctl(PR_CAPBSET_DROP, cap) < 0)
            return error_errno(err, "capabilities: CAP_SETPCAP is missing, so the bounding set "
                                    "can't be made smaller");
    }
    return true;
}

static bool set_capabilities(const struct capability_config *c, struct error *err)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct now[2], data[2];
    if (syscall(SYS_capget, &header, now) < 0)
        return error_errno(err, "capabilities: can't be read");
    /* What we do not have we can't give; as other runtimes do, the rest is given. */
    for (int i = 0; i < 2; i++) {
        uint32_t have = now[i].permitted;
        data[i].permitted = (uint32_t)(c->permitted >> 32 * i) & have;
        data[i].effective = (uint32_t)(c->effective >> 32 * i) & data[i].permitted;
        data[i].inheritable = (uint32_t)(c->inheritable >> 32 * i) & have;
    }
    if (syscall(SYS_capset, &header, data) < 0)
        return error_errno(err, "capabilities: can't be set");
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    for (unsigned cap = 0; cap < 64; cap++)
        /* Only what is permitted and inheritable can be raised; the rest is left out. */
        if (c->ambient & BIT(cap))
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0);
    return true;
}

static bool set_groups(const struct process_config *p, struct error *err)
{
    if (setgroups(p->group_count, p->groups) == 0)
        return true;
    if (errno != EPERM)
        return error_errno(err, "process.user.additionalGids: can't be set");
    /* In a user namespace of one user's own making groups are as they are, which is no loss where
     * none is asked for beyond the one that is to be had anyway. */
    for (size_t i = 0; i < p->group_count; i++)
        if (p->groups[i] != p->gid)
            return error_set(err,
                             "process.user.additionalGids[%zu]: setgroups() is denied in this "
                             "user namespace; map the groups with newgidmap, or leave %u out",
                             i, (unsigned)p->groups[i]);
    return true;
}

bool identity_become(const struct process_config *p, struct error *err)
{
    if (p->has_umask)
        umask(p->umask);
    if (p->capabilities.present && !drop_bounding(p->capabilities.bounding, err))
        return false;
    prctl(PR_SET_KEEPCAPS, 1);
    if (!set_groups(p, err))
        return false;
    if (setresgid(p->gid, p->gid, p->gid) < 0)
        return error_errno(err, "process.user.gid: %u can't be taken; is it mapped?", p->gid);
    if (setresuid(p->uid, p->uid, p->uid) < 0)
        return error_errno(err, "process.user.uid: %u can't be taken; is it mapped?", p->uid);
    prctl(PR_SET_KEEPCAPS, 0);
    static const struct capability_config none = {0};
    if (p->capabilities.present && !set_capabilities(&p->capabilities, err))
        return false;
    if (!p->capabilities.present && p->uid != 0 && !set_capabilities(&none, err))
        return false;
    if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return error_errno(err, "process.noNewPrivileges: can't be set");
    return true;
}

/* ---- labels ---- */

static ssize_t read_proc(int proc, const char *name, char *text, size_t size)
{
    int fd = openat(proc, name, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[n < 0 ? 0 : n] = 0;
    return n;
}

/* Its files are there wherever it is compiled in; where it is off they can't be read. */
static bool has_apparmor(int proc)
{
    char text[256];
    return read_proc(proc, "self/attr/apparmor/current", text, sizeof text) > 0;
}

/* The files are all such modules'; its own file system is known where it is on. */
static bool has_selinux(int proc)
{
    char text[4096];
    return read_proc(proc, "filesystems", text, sizeof text) > 0 && strstr(text, "selinuxfs");
}

bool identity_open_label(const struct process_config *p, int proc, int *fd, struct error *err)
{
    const char *profile = p->apparmor_profile ? p->apparmor_profile : "";
    *fd = -1;
    if (*profile && strcmp(profile, "unconfined") != 0) {
        if (has_apparmor(proc))
            *fd = openat(proc, "self/attr/apparmor/exec", O_WRONLY | O_CLOEXEC);
        return *fd >= 0 || error_set(err, "config.json: process.apparmorProfile: AppArmor is not "
                                          "on in this host's kernel; leave the profile out");
    }
    if (p->selinux_label && *p->selinux_label) {
        if (has_selinux(proc))
            *fd = openat(proc, "self/attr/exec", O_WRONLY | O_CLOEXEC);
        return *fd >= 0 || error_set(err, "config.json: process.selinuxLabel: SELinux is not on in "
                                          "this host's kernel; leave the label out");
    }
    return true;
}

bool identity_write_label(const struct process_config *p, int fd, struct error *err)
{
    char text[512];
    if (fd < 0)
        return true;
    bool apparmor = p->apparmor_profile && *p->apparmor_profile;
    int n = snprintf(text, sizeof text, "%s%s", apparmor ? "exec " : "",
                     apparmor ? p->apparmor_profile : p->selinux_label);
    if (n > 0 && (size_t)n < sizeof text && write(fd, text, (size_t)n) == n)
        return true;
    const char *name = apparmor ? "apparmorProfile" : "selinuxLabel";
    if (errno == ENOENT || errno == EINVAL)
        return error_set(err,
                         "config.json: process.%s: the kernel knows no %.200s; load it, or "
                         "correct it",
                         name, apparmor ? p->apparmor_profile : p->selinux_label);
    return error_errno(err, "config.json: process.%s: can't be set", name);
}

#include "container/scope.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "base/bits.h"
#include "container/process.h"

/* ---- names ---- */

static bool is_unit_name(const char *name)
{
    for (const char *c = name; *c; c++)
        if (!(*c >= 'a' && *c <= 'z') && !(*c >= 'A' && *c <= 'Z') && !(*c >= '0' && *c <= '9') &&
            !strchr(":-_.\\@", *c))
            return false;
    return *name && strlen(name) < 240;
}

static bool ends_in_slice(const char *name)
{
    size_t length = strlen(name);
    return length >= 7 && strcmp(name + length - 6, ".slice") == 0;
}

bool scope_parse(struct scope *s, const char *path, const char *id, bool user, struct error *err)
{
    char copy[sizeof s->slice];
    const char *slice = user ? "user.slice" : "system.slice", *prefix = "doppel", *name = id;
    char *second, *third;
    *s = (struct scope){.user = user};
    if (path && strlen(path) >= sizeof copy)
        return error_set(err, "config.json: linux.cgroupsPath: too long; shorten it");
    strcpy(copy, path ? path : "");
    if (*copy) {
        second = strchr(copy, ':');
        third = second ? strchr(second + 1, ':') : NULL;
        if (!third)
            return error_set(err, "config.json: linux.cgroupsPath: with --systemd-cgroup it has "
                                  "the form slice:prefix:name; correct it");
        *second = *third = 0;
        slice = *copy ? copy : slice;
        prefix = second + 1;
        name = third + 1;
    }
    snprintf(s->slice, sizeof s->slice, "%s", slice);
    snprintf(s->unit, sizeof s->unit, "%s%s%s.scope", prefix, *prefix ? "-" : "", name);
    if (!ends_in_slice(s->slice) || !is_unit_name(s->slice) || !is_unit_name(s->unit) || !*name)
        return error_set(err,
                         "config.json: linux.cgroupsPath: %.200s is no slice:prefix:name of "
                         "systemd's; correct it",
                         path ? path : id);
    return true;
}

/* ---- asking ---- */

/* A command line that grows: more than fits is dropped, and the call refused. */
struct words {
    char *list[96];
    size_t count;
    char text[4096];
    size_t used;
};

static void add(struct words *w, const char *word)
{
    size_t size = strlen(word) + 1;
    if (w->count + 1 >= ARRAY_LEN(w->list) || size > sizeof w->text - w->used) {
        w->count = ARRAY_LEN(w->list);
        return;
    }
    w->list[w->count++] = memcpy(w->text + w->used, word, size);
    w->used += size;
    w->list[w->count] = NULL;
}

static void add_all(struct words *w, const char *const *words)
{
    for (; *words; words++)
        add(w, *words);
}

static void add_number(struct words *w, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    add(w, text);
}

static void begin(struct words *w, bool user, const char *method, const char *signature)
{
    *w = (struct words){0};
    add_all(w, (const char *const[]){"busctl", user ? "--user" : "--system", "--quiet", "call",
                                     "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                     "org.freedesktop.systemd1.Manager", method, signature, NULL});
}

/* What it says last of why it failed. */
static void read_reason(int output, char *text, size_t size)
{
    ssize_t n = pread(output, text, size - 1, 0);
    text[n < 0 ? 0 : n] = 0;
    text[strcspn(text, "\n")] = 0;
}

static int run(struct words *w, int output)
{
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    int failed = posix_spawnp(&pid, w->list[0], &actions, NULL, w->list, environ);
    posix_spawn_file_actions_destroy(&actions);
    return failed ? 127 : process_wait(pid);
}

static bool ask(struct words *w, struct error *err)
{
    char reason[200] = "too much to say at once";
    int output = memfd_create("busctl", MFD_CLOEXEC), status = -1;
    if (output >= 0 && w->count < ARRAY_LEN(w->list)) {
        status = run(w, output);
        read_reason(output, reason, sizeof reason);
    }
    if (output >= 0)
        close(output);
    if (status == 0)
        return true;
    if (status == 127)
        return error_set(err, "--systemd-cgroup: there is no busctl to reach systemd by; leave the "
                              "option out where systemd does not run");
    return error_set(err,
                     "--systemd-cgroup: systemd does not do it: %s; leave the option out where "
                     "systemd does not run",
                     reason);
}

/* ---- properties ---- */

static const struct {
    const char *file, *property; /* of either version */
} limits[] = {
    {"memory.max", "MemoryMax"}, {"memory.limit_in_bytes", "MemoryLimit"},
    {"memory.low", "MemoryLow"}, {"memory.swap.max", "MemorySwapMax"},
    {"pids.max", "TasksMax"},    {"cpu.weight", "CPUWeight"},
    {"cpu.shares", "CPUShares"}, {"io.weight", "IOWeight"},
};

static const char *planned(const struct cgroup_plan *plan, const char *file)
{
    for (size_t i = 0; i < plan->count; i++)
        if (strcmp(plan->settings[i].file, file) == 0)
            return plan->settings[i].value;
    return NULL;
}

/* All ones is systemd's infinity. */
static uint64_t limit_value(const char *text)
{
    return *text == 'm' || *text == '-' ? UINT64_MAX : strtoull(text, NULL, 10);
}

/* How much of each second: microseconds; 0: it is not said. */
static uint64_t quota_value(const struct cgroup_plan *plan)
{
    const char *v2 = planned(plan, "cpu.max"), *quota = v2 ? v2 : planned(plan, "cpu.cfs_quota_us");
    const char *cycle = v2 ? strchr(v2, ' ') : planned(plan, "cpu.cfs_period_us");
    uint64_t period = cycle ? strtoull(cycle, NULL, 10) : 100000;
    if (!quota || period == 0)
        return 0;
    if (*quota == 'm' || *quota == '-')
        return UINT64_MAX;
    return (uint64_t)((unsigned __int128)strtoull(quota, NULL, 10) * 1000000 / period);
}

static void add_limits(struct words *w, const struct cgroup_plan *plan)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const char *value = planned(plan, limits[i].file);
        if (!value)
            continue;
        add(w, limits[i].property);
        add(w, "t");
        add_number(w, limit_value(value));
    }
    uint64_t quota = quota_value(plan);
    if (quota == 0)
        return;
    add(w, "CPUQuotaPerSecUSec");
    add(w, "t");
    add_number(w, quota);
}

static uint64_t count_limits(const struct cgroup_plan *plan)
{
    uint64_t count = quota_value(plan) != 0;
    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        count += planned(plan, limits[i].file) != NULL;
    return count;
}

/* ---- making ---- */

/* Dies with us, so that a command that is killed leaves no scope. */
static pid_t make_holder(void)
{
    pid_t parent = getpid(), pid = process_clone(0, -1, NULL);
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close_range(0, ~0u, 0);
    while (getppid() == parent)
        pause();
    _exit(0);
}

/* Where the holder is, once that is the scope; systemd moves it in its own time: up to 10 s. */
static bool find_path(struct scope *s, struct error *err)
{
    char file[32], line[PATH_MAX];
    snprintf(file, sizeof file, "/proc/%d/cgroup", (int)s->holder);
    for (int tries = 0; tries < 1000; tries++) {
        FILE *groups = fopen(file, "re");
        bool found = false;
        while (groups && !found && fgets(line, sizeof line, groups)) {
            line[strcspn(line, "\n")] = 0;
            const char *last = strrchr(line, '/'), *path = strchr(line, '/');
            if ((found = last && strcmp(last + 1, s->unit) == 0))
                snprintf(s->path, sizeof s->path, "%s", path);
        }
        if (groups)
            fclose(groups);
        if (found)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    return error_set(err, "--systemd-cgroup: systemd has not made %s; see its journal", s->unit);
}

bool scope_start(struct scope *s, const struct cgroup_plan *plan, struct error *err)
{
    struct words w;
    s->holder = make_holder();
    if (s->holder < 0) {
        s->holder = 0;
        return error_errno(err, "--systemd-cgroup: no process can be made to begin with");
    }
    begin(&w, s->user, "StartTransientUnit", "ssa(sv)a(sa(sv))");
    add(&w, s->unit);
    add(&w, "fail");
    add_number(&w, 6 + count_limits(plan));
    add_all(&w, (const char *const[]){"Description", "s", "doppel-oci container", "Slice", "s",
                                      s->slice, "Delegate", "b", "true", "DefaultDependencies", "b",
                                      "false", "CollectMode", "s", "inactive-or-failed", "PIDs",
                                      "au", "1", NULL});
    add_number(&w, (uint64_t)s->holder);
    add_limits(&w, plan);
    add(&w, "0");
    if (ask(&w, err) && find_path(s, err))
        return true;
    scope_release(s);
    return false;
}

void scope_release(struct scope *s)
{
    if (s->holder <= 0)
        return;
    kill(s->holder, SIGKILL);
    process_wait(s->holder);
    s->holder = 0;
}

bool scope_update(const struct scope *s, const struct cgroup_plan *plan, struct error *err)
{
    struct words w;
    if (!s->unit[0] || count_limits(plan) == 0)
        return true;
    begin(&w, s->user, "SetUnitProperties", "sba(sv)");
    add(&w, s->unit);
    add(&w, "true");
    add_number(&w, count_limits(plan));
    add_limits(&w, plan);
    return ask(&w, err);
}

/* As a rule it has gone with its last process. */
void scope_stop(const struct scope *s)
{
    struct words w;
    struct error ignored = {0};
    if (!s->unit[0])
        return;
    begin(&w, s->user, "StopUnit", "ss");
    add(&w, s->unit);
    add(&w, "replace");
    ask(&w, &ignored);
}

#include "container/front/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct range {
    unsigned long start, count; /* count 0: none */
};

bool rootless_is(void)
{
    char map[64] = "";
    unsigned inside = 1, outside = 1, count = 0;
    if (geteuid() != 0)
        return true;
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, map, sizeof map - 1);
    close(fd);
    return n > 0 && (sscanf(map, "%u %u %u", &inside, &outside, &count) != 3 || inside != 0 ||
                     outside != 0 || count != UINT32_MAX);
}

/* ------------------------------------------------------------------------------------------- *
 * The map of ids
 * ------------------------------------------------------------------------------------------- */

/* The first range that the file (subuid(5)) grants the user, by name or by number. */
static struct range granted(const char *path, const char *user, uid_t uid)
{
    struct range r = {0};
    char line[256], name[128], number[16];
    snprintf(number, sizeof number, "%u", uid);
    FILE *file = fopen(path, "re");
    while (file && r.count == 0 && fgets(line, sizeof line, file))
        if (sscanf(line, "%127[^:]:%lu:%lu", name, &r.start, &r.count) != 3 ||
            (strcmp(name, user) != 0 && strcmp(name, number) != 0))
            r = (struct range){0};
    if (file)
        fclose(file);
    return r;
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

/* One helper, left outside the namespace, that maps us once it is told to: newuidmap has the right
 * to. */
struct mapper {
    pid_t pid;
    int go;
};

static bool mapper_start(struct mapper *m, const char *program, uid_t id, struct range r)
{
    int ends[2];
    char of[16], self[16], start[24], count[24], byte;
    snprintf(of, sizeof of, "%d", (int)getpid());
    snprintf(self, sizeof self, "%u", id);
    snprintf(start, sizeof start, "%lu", r.start);
    snprintf(count, sizeof count, "%lu", r.count);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return false;
    m->pid = fork();
    if (m->pid == 0) {
        close(ends[1]);
        if (read(ends[0], &byte, 1) == 1)
            execlp(program, program, of, "0", self, "1", "1", start, count, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    m->go = ends[1];
    return m->pid > 0;
}

static bool mapper_finish(struct mapper *m, bool go)
{
    int status = -1;
    bool told = go && write(m->go, "g", 1) == 1;
    close(m->go);
    while (waitpid(m->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return told && status == 0;
}

static bool map_one(uid_t uid, gid_t gid, struct error *err)
{
    char map[40];
    snprintf(map, sizeof map, "0 %u 1", uid);
    if (!write_file("/proc/self/setgroups", "deny") || !write_file("/proc/self/uid_map", map))
        return error_errno(err, "user namespace: it can't be given its user");
    snprintf(map, sizeof map, "0 %u 1", gid);
    return write_file("/proc/self/gid_map", map) ||
           error_errno(err, "user namespace: it can't be given its group");
}

static bool unshare_user(struct error *err)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0)
        return true;
    return error_errno(err, "user namespaces: refused here; run as root, or have the administrator "
                            "set user.max_user_namespaces (or, where there is one, "
                            "kernel.apparmor_restrict_unprivileged_userns=0)");
}

static bool enter(uid_t uid, gid_t gid, struct error *err)
{
    const struct passwd *pw = getpwuid(uid);
    struct range uids = granted("/etc/subuid", pw ? pw->pw_name : "", uid);
    struct range gids = granted("/etc/subgid", pw ? pw->pw_name : "", uid);
    struct mapper um, gm;
    if (!uids.count || !gids.count || !mapper_start(&um, "newuidmap", uid, uids))
        return unshare_user(err) && map_one(uid, gid, err);
    if (!mapper_start(&gm, "newgidmap", gid, gids)) {
        mapper_finish(&um, false);
        return unshare_user(err) && map_one(uid, gid, err);
    }
    bool ok = unshare_user(err);
    bool mapped = mapper_finish(&um, ok);
    mapped &= mapper_finish(&gm, ok);
    return ok && (mapped || map_one(uid, gid, err));
}

bool rootless_enter(struct error *err)
{
    uid_t uid = geteuid();
    if (uid == 0)
        return true;
    if (!enter(uid, getegid(), err))
        return false;
    if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0)
        return error_errno(err, "user namespace: its root can't be taken");
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        return error_errno(err, "mount namespace: its mounts can't be kept to itself");
    return true;
}

static bool map_has(const char *path, uint32_t id)
{
    unsigned long inside, outside, count;
    bool has = false;
    FILE *map = fopen(path, "re");
    while (map && !has && fscanf(map, "%lu %lu %lu", &inside, &outside, &count) == 3)
        has = id >= inside && id - inside < count;
    if (map)
        fclose(map);
    return has;
}

bool rootless_has_ids(uint32_t uid, uint32_t gid)
{
    return map_has("/proc/self/uid_map", uid) && map_has("/proc/self/gid_map", gid);
}

bool rootless_may_set_groups(void)
{
    char text[8] = "";
    int fd = open("/proc/self/setgroups", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n < 4 || strncmp(text, "deny", 4) != 0;
}

/* ------------------------------------------------------------------------------------------- *
 * Joining
 * ------------------------------------------------------------------------------------------- */

static bool same_file(const char *a, const char *b)
{
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

bool rootless_join(const struct front *f, const struct front_record *r, struct error *err)
{
    char path[48];
    const struct record_process *p = record_process_alive(&r->monitor) ? &r->monitor : &r->init;
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)p->pid);
    if (!f->rootless || same_file(path, "/proc/self/ns/user"))
        return true;
    int fd = record_process_open(p);
    if (fd < 0)
        return error_set(err, "%s: it does not run; see `doppel container ps`", r->name);
    bool ok = setns(fd, CLONE_NEWUSER) == 0 && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0;
    if (!ok)
        error_errno(err, "%s: its user namespace can't be entered; run as the user who started it",
                    r->name);
    close(fd);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * Acting on a container
 * ------------------------------------------------------------------------------------------- */

static bool join_or_enter(const struct front *f, const char *name, struct error *err)
{
    struct front_record r;
    struct error damaged = {0};
    if (!record_load(f, name, &r, &damaged))
        return rootless_enter(err);
    bool alive = record_process_alive(&r.monitor) || record_process_alive(&r.init);
    bool ok = alive ? rootless_join(f, &r, err) : rootless_enter(err);
    record_free(&r);
    return ok;
}

bool rootless_do(const struct front *f, const char *name,
                 bool (*act)(const struct front *f, const char *name, const void *how,
                             struct error *err),
                 const void *how, struct error *err)
{
    if (geteuid() == 0)
        return act(f, name, how, err);
    /* The child's error comes back as it is, in memory that both have. */
    struct error *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return error_errno(err, "%.80s: no memory", name);
    int status = -1;
    pid_t child = fork();
    if (child == 0)
        _exit(!(join_or_enter(f, name, shared) && act(f, name, how, shared)));
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (shared->status != EXIT_STATUS_OK)
        *err = *shared;
    else if (status != 0)
        error_set(err, "%.80s: the process that was to do it ended; try again", name);
    munmap(shared, sizeof *shared);
    return child > 0 && status == 0;
}

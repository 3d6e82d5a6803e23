/* Device rules of version 2: the program that is made of them, attached to a cgroup of our own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "container/cgroup.h"
#include "container/process.h"
#include "test.h"

/* A cgroup of version 2 anywhere; NULL: this host has none that we can write. */
static struct cgroup_hierarchy *make_group(struct cgroups *g, struct error *err)
{
    if (geteuid() != 0 || !cgroups_find(g, err))
        return NULL;
    for (size_t i = 0; i < g->count; i++) {
        struct cgroup_hierarchy *h = &g->list[i];
        if (h->unified && asprintf(&h->folder, "%s/doppel-test-%d", h->mount, getpid()) > 0 &&
            mkdir(h->folder, 0755) == 0)
            return h;
    }
    return NULL;
}

/* The errno of opening path in the group; 0: it can be opened. */
static int open_inside(const struct cgroup_hierarchy *h, const char *path, int flags)
{
    int folder = open(h->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), status = 0;
    pid_t pid = process_clone(0, folder, NULL);
    if (pid == 0)
        _exit(open(path, flags) < 0 ? errno : 0);
    close(folder);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WEXITSTATUS(status);
}

TEST(the_last_rule_that_matches_decides)
{
    static const struct device_rule rules[] = {
        {false, 'a', -1, -1, true, true, true}, /* nothing */
        {true, 'c', 1, 5, true, false, false},  /* but to read /dev/zero */
        {true, 'c', 1, -1, true, true, false},  /* and all memory devices */
        {false, 'c', 1, 7, false, true, false}, /* but to write /dev/full */
    };
    struct cgroups g = {0};
    struct error err = {0};
    struct cgroup_hierarchy *h = make_group(&g, &err);
    if (!h) {
        cgroups_free(&g);
        SKIP("no cgroup of version 2 can be made here");
    }
    CHECK(cgroup_devices_apply(rules, 2, &g, &err));
    CHECK_EQ(open_inside(h, "/dev/zero", O_RDONLY), 0);
    CHECK_EQ(open_inside(h, "/dev/zero", O_RDWR), EPERM);
    CHECK_EQ(open_inside(h, "/dev/null", O_RDONLY), EPERM);
    rmdir(h->folder);
    CHECK_EQ(mkdir(h->folder, 0755), 0);
    CHECK(cgroup_devices_apply(rules, 4, &g, &err));
    CHECK_EQ(open_inside(h, "/dev/null", O_RDWR), 0);
    CHECK_EQ(open_inside(h, "/dev/full", O_RDONLY), 0);
    CHECK_EQ(open_inside(h, "/dev/full", O_WRONLY), EPERM);
    CHECK_EQ(open_inside(h, "/dev/tty", O_RDONLY), EPERM);
    CHECK_EQ(rmdir(h->folder), 0);
    cgroups_free(&g);
}

TESTS({"the_last_rule_that_matches_decides", the_last_rule_that_matches_decides})

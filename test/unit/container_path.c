/* Paths inside a root that does not want to be a root. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/path.h"
#include "test.h"

static char base[64];

/* base/root is the root, base/outside what must not be reached. */
static int make_root(void)
{
    strcpy(base, "/tmp/doppel-path-XXXXXX");
    CHECK(mkdtemp(base) != NULL);
    int at = open(base, O_PATH | O_DIRECTORY);
    mkdirat(at, "root", 0755);
    mkdirat(at, "outside", 0755);
    int root = openat(at, "root", O_PATH | O_DIRECTORY);
    close(at);
    return root;
}

static void remove_all(int root)
{
    char command[128];
    close(root);
    snprintf(command, sizeof command, "rm -rf %s", base);
    CHECK_EQ(system(command), 0);
}

static bool outside_is_empty(void)
{
    char path[96];
    snprintf(path, sizeof path, "%s/outside", base);
    return rmdir(path) == 0 && mkdir(path, 0755) == 0;
}

/* What stands at the path is the same as at the one from the root. */
static bool leads_to(int fd, int root, const char *path)
{
    struct stat a, b;
    return fd >= 0 && fstat(fd, &a) == 0 && fstatat(root, path, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
           a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

TEST(makes_what_is_missing)
{
    int root = make_root();
    int fd = path_make(root, "/a/b/c", PATH_DIRECTORY, 0755);
    CHECK(leads_to(fd, root, "a/b/c"));
    close(fd);
    fd = path_make(root, "a/b/file", PATH_FILE, 0644);
    struct stat st;
    CHECK(leads_to(fd, root, "a/b/file") && fstat(fd, &st) == 0 && S_ISREG(st.st_mode));
    close(fd);
    remove_all(root);
}

TEST(absolute_links_count_from_the_root)
{
    int root = make_root();
    char target[96];
    snprintf(target, sizeof target, "%s/outside", base);
    CHECK_EQ(symlinkat(target, root, "link"), 0);
    CHECK(path_open(root, "/link", O_PATH) < 0 && errno == ENOENT);
    int fd = path_make(root, "/link/deep", PATH_DIRECTORY, 0755);
    snprintf(target, sizeof target, "%s/outside/deep", base + 1);
    CHECK(leads_to(fd, root, target));
    CHECK(outside_is_empty());
    close(fd);
    remove_all(root);
}

TEST(nothing_climbs_out)
{
    int root = make_root();
    CHECK_EQ(symlinkat("../../../outside", root, "up"), 0);
    CHECK_EQ(mkdirat(root, "dir", 0755), 0);
    int fd = path_make(root, "/../../outside/x", PATH_DIRECTORY, 0755);
    CHECK(leads_to(fd, root, "outside/x"));
    close(fd);
    fd = path_make(root, "/dir/../up/y", PATH_DIRECTORY, 0755);
    CHECK(leads_to(fd, root, "outside/y"));
    CHECK(outside_is_empty());
    close(fd);
    remove_all(root);
}

TEST(endless_links_end)
{
    int root = make_root();
    CHECK_EQ(symlinkat("loop", root, "loop"), 0);
    CHECK_EQ(symlinkat("b/x", root, "a"), 0);
    CHECK_EQ(symlinkat("a/x", root, "b"), 0);
    CHECK(path_make(root, "/loop/x", PATH_DIRECTORY, 0755) < 0 && errno == ELOOP);
    CHECK(path_make(root, "/a/x", PATH_FILE, 0644) < 0 && errno == ELOOP);
    remove_all(root);
}

TEST(magic_links_are_not_followed)
{
    int host = open("/", O_PATH | O_DIRECTORY);
    CHECK(path_open(host, "/proc/self/root/etc", O_PATH) < 0);
    close(host);
}

TEST(parents)
{
    char name[256];
    int root = make_root();
    int fd = path_make_parent(root, "/dev/sub/null", name, sizeof name);
    CHECK(leads_to(fd, root, "dev/sub") && strcmp(name, "null") == 0);
    close(fd);
    CHECK(path_make_parent(root, "/dev/..", name, sizeof name) < 0);
    CHECK(path_make_parent(root, "/", name, sizeof name) < 0);
    remove_all(root);
}

TESTS({"makes_what_is_missing", makes_what_is_missing},
      {"absolute_links_count_from_the_root", absolute_links_count_from_the_root},
      {"nothing_climbs_out", nothing_climbs_out}, {"endless_links_end", endless_links_end},
      {"magic_links_are_not_followed", magic_links_are_not_followed}, {"parents", parents})

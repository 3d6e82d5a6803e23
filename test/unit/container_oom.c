/* Notices that memory ran out, in version 2 of cgroups: its file is one of ours here. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "container/oom.h"
#include "test.h"

static char folder[64];

static void write_events(unsigned low, unsigned killed)
{
    char path[96], text[96];
    snprintf(path, sizeof path, "%s/memory.events", folder);
    int n =
        snprintf(text, sizeof text, "low %u\noom 9\noom_kill %u\noom_group_kill 0\n", low, killed);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, text, (size_t)n) == n);
    close(fd);
}

static bool readable(const struct oom_watch *w)
{
    struct pollfd fd = {w->fd, POLLIN, 0};
    return poll(&fd, 1, 0) == 1;
}

TEST(version_2_counts)
{
    struct error err = {0};
    struct oom_watch w;
    strcpy(folder, "/tmp/doppel-oom-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    struct cgroups g = {.count = 1, .list[0] = {.unified = true, .folder = folder}};
    CHECK(oom_open(&w, &g, &err) && w.fd < 0); /* no memory controller here */
    write_events(1, 2);
    CHECK(oom_open(&w, &g, &err) && w.fd >= 0);
    CHECK(!readable(&w));
    write_events(5, 2); /* something else changed */
    CHECK(readable(&w));
    CHECK_EQ(oom_take(&w), 0);
    CHECK(!readable(&w));
    write_events(5, 4);
    CHECK(readable(&w));
    CHECK_EQ(oom_take(&w), 2);
    CHECK_EQ(oom_take(&w), 0);
    oom_close(&w);
    char path[96];
    snprintf(path, sizeof path, "%s/memory.events", folder);
    unlink(path);
    rmdir(folder);
}

TESTS({"version_2_counts", version_2_counts})

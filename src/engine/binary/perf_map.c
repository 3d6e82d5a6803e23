#include "engine/binary/perf_map.h"

#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

static void add(struct perf_map *p, const void *host, unsigned size)
{
    fprintf(p->file, "%" PRIxPTR " %x ", (uintptr_t)host, size);
}

bool perf_map_open(struct perf_map *p, const struct code *c, struct error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%ld.map", (long)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    p->file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!p->file) {
        error_errno(err, "--perf-map: %s", path);
        if (fd >= 0)
            close(fd);
        return false;
    }
    /* Whole lines, also when the process is killed. */
    setvbuf(p->file, NULL, _IOLBF, BUFSIZ);
    add(p, c->run, c->fixed);
    fprintf(p->file, "ways out of translated code\n");
    return true;
}

void perf_map_close(struct perf_map *p)
{
    if (p->file)
        fclose(p->file);
    p->file = NULL;
}

void perf_map_add(struct perf_map *p, const struct code *c, uint32_t b, uint64_t rip)
{
    if (!p->file)
        return;
    const struct translation *t = &c->block[b];
    add(p, code_run(c, t->code), t->size);
    fprintf(p->file, "guest %" PRIx64 "\n", rip);
}

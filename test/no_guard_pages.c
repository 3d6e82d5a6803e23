/*
 * Preloaded, makes the host one without guard pages (Linux before 6.15), for the engine that would
 * use them.
 */
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { GUARD_INSTALL = 102, GUARD_REMOVE = 103 };

int madvise(void *at, size_t size, int advice);
int madvise(void *at, size_t size, int advice)
{
    if (advice != GUARD_INSTALL && advice != GUARD_REMOVE)
        return (int)syscall(SYS_madvise, at, size, advice);
    errno = EINVAL;
    return -1;
}

#include "boot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/memory.h"

/* Up to n bytes, less only at the file's end; -1: they can't be read. A file that grows or shrinks
 * meanwhile is taken as long as it was, or is. */
static ssize_t read_some(int fd, uint8_t *to, size_t n, const char *what, const char *path,
                         struct error *err)
{
    size_t done = 0;
    while (done < n) {
        ssize_t got = read(fd, to + done, n - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            error_set(err, "%s %s: %s while reading it; check the file", what, path,
                      strerror(errno));
            return -1;
        }
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static bool check_file(int fd, const char *what, const char *path, uint64_t limit, uint64_t *size,
                       struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set(err, "%s %s: %s; check the file", what, path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, "%s %s: is a directory; name a file", what, path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, "%s %s: not a regular file; copy it to one", what, path);
    if (st.st_size == 0)
        return error_set(err, "%s %s: the file is empty; give another", what, path);
    if ((uint64_t)st.st_size > limit)
        return error_set(err,
                         "%s %s: its %" PRIu64 " MiB are more than the guest's memory of %" PRIu64
                         " MiB; raise --memory",
                         what, path, (uint64_t)st.st_size >> 20, limit >> 20);
    *size = (uint64_t)st.st_size;
    return true;
}

int image_open(const char *what, const char *path, uint64_t limit, uint64_t *size,
               struct error *err)
{
    /* Non-blocking, so that a FIFO without a writer is refused and not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        error_set(err, "%s %s: %s; check the path", what, path, strerror(errno));
        return -1;
    }
    if (check_file(fd, what, path, limit, size, err))
        return fd;
    close(fd);
    return -1;
}

bool image_read(struct image *image, const char *what, const char *path, uint64_t limit,
                struct scratch *scratch, struct error *err)
{
    *image = (struct image){.path = path};
    uint64_t size = 0;
    int fd = image_open(what, path, limit, &size, err);
    if (fd < 0)
        return false;
    ssize_t n = -1;
    uint8_t *data = scratch_take(scratch, size);
    if (data)
        n = read_some(fd, data, size, what, path, err);
    else
        error_set(err, "%s %s: no host memory to read it into; free some", what, path);
    close(fd);
    if (n < 0)
        return false;
    image->data = data;
    image->size = (size_t)n;
    return true;
}

bool image_copy(struct memory *memory, uint64_t gpa, int fd, const char *what, const char *path,
                uint64_t *size, struct error *err)
{
    uint8_t part[32 << 10];
    uint64_t done = 0;
    while (done < *size) {
        uint64_t want = *size - done < sizeof part ? *size - done : sizeof part;
        ssize_t n = read_some(fd, part, want, what, path, err);
        if (n < 0)
            return false;
        if (n == 0)
            break;
        if (!memory_write(memory, gpa + done, part, (uint64_t)n))
            return error_set(err, "%s %s: is to go where the guest has no memory; raise --memory",
                             what, path);
        done += (uint64_t)n;
    }
    *size = done;
    return true;
}

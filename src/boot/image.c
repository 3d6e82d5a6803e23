#include "boot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file that grows or shrinks while it is read is taken as long as it was, or is. */
static bool read_all(struct image *image, int fd, size_t size, const char *what, struct error *err)
{
    while (image->size < size) {
        ssize_t n = read(fd, image->data + image->size, size - image->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, "%s %s: %s while reading it; check the file", what, image->path,
                             strerror(errno));
        if (n == 0)
            break;
        image->size += (size_t)n;
    }
    return true;
}

/* Non-blocking, so that a FIFO without a writer is refused and not waited for. */
static int open_image(const struct image *image, const char *what, struct error *err)
{
    int fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        error_set(err, "%s %s: %s; check the path", what, image->path, strerror(errno));
    return fd;
}

static bool check_image(const struct image *image, int fd, const char *what, uint64_t limit,
                        size_t *size, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set(err, "%s %s: %s; check the file", what, image->path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, "%s %s: is a directory; name a file", what, image->path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, "%s %s: not a regular file; copy it to one", what, image->path);
    if (st.st_size == 0)
        return error_set(err, "%s %s: the file is empty; give another", what, image->path);
    if ((uint64_t)st.st_size > limit)
        return error_set(err,
                         "%s %s: its %" PRIu64 " MiB are more than the guest's memory of %" PRIu64
                         " MiB; raise --memory",
                         what, image->path, (uint64_t)st.st_size >> 20, limit >> 20);
    *size = (size_t)st.st_size;
    return true;
}

bool image_read(struct image *image, const char *what, const char *path, uint64_t limit,
                struct error *err)
{
    *image = (struct image){.path = path};
    size_t size = 0;
    int fd = open_image(image, what, err);
    if (fd < 0)
        return false;
    bool ok = check_image(image, fd, what, limit, &size, err);
    if (ok) {
        image->data = malloc(size);
        ok = image->data
                 ? read_all(image, fd, size, what, err)
                 : error_set(err, "%s %s: no host memory to read it into; free some", what, path);
    }
    close(fd);
    if (!ok)
        image_free(image);
    return ok;
}

void image_free(struct image *image)
{
    free(image->data);
    image->data = NULL;
    image->size = 0;
}

#include "boot/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_CHUNK = 1 << 16 };

static bool image_grow(struct image *image, size_t *capacity)
{
    size_t larger = *capacity ? *capacity * 2 : READ_CHUNK;
    uint8_t *data = realloc(image->data, larger);
    if (!data)
        return false;
    image->data = data;
    *capacity = larger;
    return true;
}

static bool read_all(struct image *image, int fd, size_t capacity, const char *what, uint64_t limit,
                     struct error *err)
{
    for (;;) {
        if (image->size == capacity && !image_grow(image, &capacity))
            return error_set(err, "%s %s: no host memory to read it into; free some", what,
                             image->path);
        ssize_t n = read(fd, image->data + image->size, capacity - image->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno(err, "%s %s: can't be read", what, image->path);
        if (n == 0)
            return true;
        image->size += (size_t)n;
        if (image->size > limit)
            return error_set(
                err, "%s %s: larger than the guest's memory of %" PRIu64 " MiB; raise --memory",
                what, image->path, limit >> 20);
    }
}

/* Opens the file and makes a first buffer, large enough for all of a regular file and one byte more
 * (so that its end is seen without growing). */
static int open_image(struct image *image, const char *what, uint64_t limit, size_t *capacity,
                      struct error *err)
{
    int fd = open(image->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOENT)
            error_set(err, "%s %s: there is no such file; check the path", what, image->path);
        else
            error_errno(err, "%s %s: can't be opened", what, image->path);
        return -1;
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
        error_errno(err, "%s %s: can't be examined", what, image->path);
    } else if (S_ISDIR(st.st_mode)) {
        error_set(err, "%s %s: is a directory; name a file", what, image->path);
    } else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > limit) {
        error_set(err,
                  "%s %s: its %" PRIu64 " MiB are more than the guest's memory of %" PRIu64
                  " MiB; raise --memory",
                  what, image->path, (uint64_t)st.st_size >> 20, limit >> 20);
    } else {
        *capacity = S_ISREG(st.st_mode) ? (size_t)st.st_size + 1 : READ_CHUNK;
        image->data = malloc(*capacity);
        if (image->data)
            return fd;
        error_set(err, "%s %s: no host memory to read it into; free some", what, image->path);
    }
    close(fd);
    return -1;
}

bool image_read(struct image *image, const char *what, const char *path, uint64_t limit,
                struct error *err)
{
    *image = (struct image){.path = path};
    size_t capacity = 0;
    int fd = open_image(image, what, limit, &capacity, err);
    if (fd < 0)
        return false;
    bool ok = read_all(image, fd, capacity, what, limit, err);
    close(fd);
    if (ok && image->size == 0)
        ok = error_set(err, "%s %s: the file is empty; give another", what, path);
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

#include "container/image/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/image/tree.h"

enum { ORIGIN_MAX = 64 << 10 };

static const char temporary_prefix[] = ".unpacking-";

bool store_open(struct store *s, int state, bool alone, struct error *err)
{
    *s = (struct store){.fd = -1};
    /* 0700: a layer's set-user-ID programs are for containers, not for the host's users. */
    if (mkdirat(state, "layers", 0700) != 0 && errno != EEXIST)
        return error_errno(err, "layers: their folder can't be made");
    s->fd = openat(state, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s->fd < 0)
        return error_errno(err, "layers: their folder");
    while (flock(s->fd, alone ? LOCK_EX : LOCK_SH) != 0)
        if (errno != EINTR)
            return error_errno(err, "layers: their folder can't be locked");
    return true;
}

void store_close(struct store *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void store_path(char path[96], const char *digest)
{
    snprintf(path, 96, "layers/%s/files", digest);
}

static bool has(struct store *s, const char *digest)
{
    return faccessat(s->fd, digest, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool store_has(struct store *s, const struct oci_image *i)
{
    for (unsigned n = 0; n < i->layer_count; n++)
        if (!has(s, i->layers[n].content.hex))
            return false;
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * Adding
 * ------------------------------------------------------------------------------------------- */

static int make_temporary(struct store *s, char name[40], struct error *err)
{
    uint64_t random;
    if (getrandom(&random, sizeof random, 0) != sizeof random) {
        error_errno(err, "random numbers");
        return -1;
    }
    snprintf(name, 40, "%s%016llx", temporary_prefix, (unsigned long long)random);
    int fd = -1;
    if (mkdirat(s->fd, name, 0700) == 0)
        fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        error_errno(err, "layers: no folder to unpack one into");
    return fd;
}

static bool fill(int folder, struct oci_image *i, unsigned n, const struct layer_how *how,
                 struct error *err)
{
    int files = -1;
    if (mkdirat(folder, "files", 0755) == 0)
        files = openat(folder, "files", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (files < 0)
        return error_errno(err, "layers: no folder to unpack one into");
    fchmod(files, 0755); /* whatever the umask: a layer need not say what its root is like */
    bool ok = oci_image_unpack(i, n, files, how, err);
    close(files);
    return ok && tree_write(folder, "origin", i->path, strlen(i->path), 0600, err);
}

static bool add(struct store *s, struct oci_image *i, unsigned n, const struct layer_how *how,
                struct error *err)
{
    char name[40];
    struct error quiet = {0};
    const char *digest = i->layers[n].content.hex;
    int folder = make_temporary(s, name, err);
    if (folder < 0)
        return false;
    bool ok = fill(folder, i, n, how, err);
    close(folder);
    /* Someone else who unpacked the same was faster: theirs is as good. */
    if (ok && renameat(s->fd, name, s->fd, digest) == 0)
        return true;
    if (ok && errno != EEXIST && errno != ENOTEMPTY)
        ok = error_errno(err, "layer %.12s: it can't be put in place", digest);
    tree_remove(s->fd, name, &quiet);
    return ok;
}

bool store_add(struct store *s, struct oci_image *i, const struct layer_how *how, struct error *err)
{
    for (unsigned n = 0; n < i->layer_count; n++)
        if (!has(s, i->layers[n].content.hex) && !add(s, i, n, how, err))
            return false;
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * Listing and removing
 * ------------------------------------------------------------------------------------------- */

bool store_list(struct store *s, struct strings *digests, struct error *err)
{
    return tree_list(s->fd, "", digests, err);
}

bool store_remove(struct store *s, const char *digest, struct error *err)
{
    /* Out of sight in one step, so that nobody finds half a layer if we are killed. */
    char name[128];
    snprintf(name, sizeof name, "%s%.64s", temporary_prefix, digest);
    return (renameat(s->fd, digest, s->fd, name) == 0 ||
            error_errno(err, "layer %.12s: it can't be removed", digest)) &&
           tree_remove(s->fd, name, err);
}

bool store_remove_leftovers(struct store *s, struct error *err)
{
    struct strings names = {0};
    bool ok = tree_list(s->fd, temporary_prefix, &names, err);
    for (unsigned i = 0; ok && i < names.count; i++)
        ok = tree_remove(s->fd, names.items[i], err);
    strings_free(&names);
    return ok;
}

char *store_origin(struct store *s, const char *digest)
{
    struct error quiet = {0};
    size_t size;
    int folder = openat(s->fd, digest, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    char *text =
        folder >= 0 ? tree_read(folder, "origin", ORIGIN_MAX, &size, "origin", &quiet) : NULL;
    if (folder >= 0)
        close(folder);
    return text;
}

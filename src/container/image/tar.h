/*
 * Reading tar archives: ustar and pax (POSIX.1-2017, pax), and GNU tar's long names and sparse
 * files, old and new. Names and links are bytes, taken as they are.
 *
 * It is ours because a layer is more than its text: libarchive, which reads these well, puts names
 * in Unicode's composed form and in the locale's character set, so that two files of a layer can
 * become one.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_TAR_H
#define DOPPEL_CONTAINER_IMAGE_TAR_H

#include <time.h>

#include "container/image/stream.h"

enum {
    TAR_PATH_MAX = 4095,
    TAR_XATTRS_MAX = 128,
    TAR_SPARSE_MAX = 1 << 16,   /* parts of one sparse file */
    TAR_EXTENDED_MAX = 1 << 20, /* bytes of pax records before one entry */
};

enum tar_type {
    TAR_FILE,
    TAR_HARD_LINK,
    TAR_SYMBOLIC_LINK,
    TAR_CHARACTER,
    TAR_BLOCK,
    TAR_FOLDER,
    TAR_FIFO,
    TAR_OTHER, /* something that is no file: to be passed over */
};

struct tar_xattr {
    const char *name;
    const uint8_t *value;
    size_t size;
};

/* A part of a file that is stored; what lies between is a hole. */
struct tar_part {
    uint64_t at, size;
};

/* Valid until the next one is read. */
struct tar_entry {
    enum tar_type type;
    const char *name, *link; /* without zero bytes inside; at most TAR_PATH_MAX long */
    uint64_t size;           /* of the file; the sum of its parts and holes */
    uint32_t mode;           /* permissions alone: at most 07777 */
    uint32_t uid, gid;
    uint32_t major, minor;
    struct timespec mtime;
    const struct tar_xattr *xattrs;
    unsigned xattr_count;
    const struct tar_part *parts; /* in order, apart from each other, within size */
    unsigned part_count;
};

struct tar;

/* Reads from a stream, which stays the caller's. NULL: no memory. */
struct tar *tar_open(struct stream *s, struct error *err);
void tar_close(struct tar *t);

/* The next entry; *e is NULL behind the last. What was not read of the one before is passed over.
 */
bool tar_next(struct tar *t, const struct tar_entry **e, struct error *err);

/* Bytes of the entry's parts, one part behind the other; 0: their end; -1: failed. */
ssize_t tar_read(struct tar *t, void *to, size_t n, struct error *err);

/* Where in the stream those bytes begin. */
uint64_t tar_offset(const struct tar *t);

#endif

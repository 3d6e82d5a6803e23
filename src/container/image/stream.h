/*
 * The bytes of a blob, unpacked: a part of a file, plain, gzip (RFC 1952) or Zstandard (RFC 8878),
 * with the SHA-256 of what is stored and of what comes out of it.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_STREAM_H
#define DOPPEL_CONTAINER_IMAGE_STREAM_H

#include <nettle/sha2.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"

enum { STREAM_BUFFER = 64 << 10, DIGEST_HEX = 64 };

/* What "sha256:..." says, in lower case. */
struct digest {
    char hex[DIGEST_HEX + 1];
};

/* "sha256:" and 64 hexadecimal digits; the specification's other algorithms are refused. */
bool digest_parse(struct digest *d, const char *text, struct error *err);
bool digest_equal(const struct digest *a, const struct digest *b);
void digest_of(struct digest *d, const void *data, size_t size);

enum stream_kind { STREAM_PLAIN, STREAM_GZIP, STREAM_ZSTD };

struct stream {
    const char *name; /* for errors; the caller's */
    int fd;
    uint64_t at, left; /* what of the file is still to be read */
    enum stream_kind kind;
    bool hashed;
    struct sha256_ctx stored, plain;
    uint64_t produced; /* bytes that came out */
    z_stream gzip;
    ZSTD_DCtx *zstd;
    bool member_ended; /* gzip: the next bytes begin another member; zstd: at a frame's end */
    bool ended;
    uint8_t in[STREAM_BUFFER];
    size_t in_at, in_end;
};

/* Opens `size` bytes of fd from `offset` on; the descriptor stays the caller's. hashed: with the
 * digests, so that nothing can be skipped without being read. */
bool stream_open(struct stream *s, const char *name, int fd, uint64_t offset, uint64_t size,
                 bool hashed, struct error *err);

/* Up to n unpacked bytes; 0: the end; -1: failed. */
ssize_t stream_read(struct stream *s, void *to, size_t n, struct error *err);
bool stream_skip(struct stream *s, uint64_t n, struct error *err);

/* Reads the rest and gives the digests: of what is stored, and of what came out. */
bool stream_finish(struct stream *s, struct digest *stored, struct digest *plain,
                   struct error *err);
void stream_close(struct stream *s);

#endif

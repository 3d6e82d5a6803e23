#include "container/image/stream.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------------------- *
 * Digests
 * ------------------------------------------------------------------------------------------- */

static void digest_take(struct digest *d, struct sha256_ctx *c)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[SHA256_DIGEST_SIZE];
    sha256_digest(c, sizeof bytes, bytes);
    for (size_t i = 0; i < sizeof bytes; i++) {
        d->hex[2 * i] = digits[bytes[i] >> 4];
        d->hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    d->hex[DIGEST_HEX] = 0;
}

bool digest_parse(struct digest *d, const char *text, struct error *err)
{
    static const char prefix[] = "sha256:";
    size_t n = sizeof prefix - 1;
    if (strncmp(text, prefix, n) != 0)
        return error_set(err, "%.100s: not a sha256 digest; other kinds are not taken", text);
    text += n;
    for (n = 0; n < DIGEST_HEX && isxdigit((unsigned char)text[n]); n++)
        d->hex[n] = (char)tolower((unsigned char)text[n]);
    d->hex[n] = 0;
    return (n == DIGEST_HEX && !text[n]) ||
           error_set(err,
                     "sha256:%.100s: not the 64 hexadecimal digits of a digest; the image is "
                     "damaged",
                     text);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
    return strcmp(a->hex, b->hex) == 0;
}

void digest_of(struct digest *d, const void *data, size_t size)
{
    struct sha256_ctx c;
    sha256_init(&c);
    sha256_update(&c, size, data);
    digest_take(d, &c);
}

/* ------------------------------------------------------------------------------------------- *
 * The stored bytes
 * ------------------------------------------------------------------------------------------- */

/* More of the file behind what is buffered and not used yet; false: there is none, or failed. */
static bool fill(struct stream *s, struct error *err)
{
    if (s->in_at == s->in_end)
        s->in_at = s->in_end = 0;
    size_t room = sizeof s->in - s->in_end;
    if (room > s->left)
        room = (size_t)s->left;
    if (room == 0)
        return false;
    ssize_t n;
    do
        n = pread(s->fd, s->in + s->in_end, room, (off_t)s->at);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_errno(err, "%.200s", s->name);
    if (n == 0)
        return error_set(err, "%.200s: it ends too soon; the file is cut off", s->name);
    if (s->hashed)
        sha256_update(&s->stored, (size_t)n, s->in + s->in_end);
    s->in_end += (size_t)n;
    s->at += (uint64_t)n;
    s->left -= (uint64_t)n;
    return true;
}

static bool failed(const struct error *err)
{
    return err->status != EXIT_STATUS_OK;
}

/* ------------------------------------------------------------------------------------------- *
 * Unpacking: each reads up to n bytes; 0 only at the end
 * ------------------------------------------------------------------------------------------- */

static ssize_t read_plain(struct stream *s, uint8_t *to, size_t n, struct error *err)
{
    if (s->in_at == s->in_end && !fill(s, err))
        return failed(err) ? -1 : 0;
    size_t have = s->in_end - s->in_at;
    n = n < have ? n : have;
    memcpy(to, s->in + s->in_at, n);
    s->in_at += n;
    return (ssize_t)n;
}

static ssize_t cut_off(struct stream *s, struct error *err)
{
    if (!failed(err))
        error_set(err, "%.200s: its compressed data ends too soon; the file is cut off", s->name);
    return -1;
}

static ssize_t damaged(struct stream *s, const char *why, struct error *err)
{
    error_set(err, "%.200s: its compressed data is damaged: %s; get it again", s->name, why);
    return -1;
}

/* A gzip file is a row of members (RFC 1952, section 2.2). */
static ssize_t read_gzip(struct stream *s, uint8_t *to, size_t n, struct error *err)
{
    z_stream *z = &s->gzip;
    z->next_out = to;
    z->avail_out = (unsigned)n;
    while (z->avail_out == n) {
        if (s->in_at == s->in_end && !fill(s, err)) {
            if (failed(err) || !s->member_ended)
                return cut_off(s, err);
            return 0;
        }
        if (s->member_ended && inflateReset(z) != Z_OK)
            return damaged(s, "it can't begin again", err);
        s->member_ended = false;
        z->next_in = s->in + s->in_at;
        z->avail_in = (unsigned)(s->in_end - s->in_at);
        int status = inflate(z, Z_NO_FLUSH);
        s->in_at = s->in_end - z->avail_in;
        if (status == Z_STREAM_END)
            s->member_ended = true;
        else if (status != Z_OK && status != Z_BUF_ERROR)
            return damaged(s, z->msg ? z->msg : "not gzip", err);
    }
    return (ssize_t)(n - z->avail_out);
}

static ssize_t read_zstd(struct stream *s, uint8_t *to, size_t n, struct error *err)
{
    ZSTD_outBuffer out = {to, n, 0};
    while (out.pos == 0) {
        if (s->in_at == s->in_end && !fill(s, err)) {
            if (failed(err) || !s->member_ended)
                return cut_off(s, err);
            return 0;
        }
        ZSTD_inBuffer in = {s->in, s->in_end, s->in_at};
        size_t status = ZSTD_decompressStream(s->zstd, &out, &in);
        s->in_at = in.pos;
        if (ZSTD_isError(status))
            return damaged(s, ZSTD_getErrorName(status), err);
        s->member_ended = status == 0;
    }
    return (ssize_t)out.pos;
}

/* ------------------------------------------------------------------------------------------- *
 * The stream
 * ------------------------------------------------------------------------------------------- */

static bool open_kind(struct stream *s, struct error *err)
{
    static const uint8_t gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
    size_t n = s->in_end;
    if (n >= sizeof gzip && memcmp(s->in, gzip, sizeof gzip) == 0) {
        s->kind = STREAM_GZIP;
        return inflateInit2(&s->gzip, 15 + 16) == Z_OK ||
               error_set(err, "%.200s: no memory left to unpack it", s->name);
    }
    if (n >= sizeof zstd && memcmp(s->in, zstd, sizeof zstd) == 0) {
        s->kind = STREAM_ZSTD;
        s->zstd = ZSTD_createDCtx();
        return s->zstd || error_set(err, "%.200s: no memory left to unpack it", s->name);
    }
    s->kind = STREAM_PLAIN;
    return true;
}

bool stream_open(struct stream *s, const char *name, int fd, uint64_t offset, uint64_t size,
                 bool hashed, struct error *err)
{
    *s = (struct stream){.name = name, .fd = fd, .at = offset, .left = size, .hashed = hashed};
    sha256_init(&s->stored);
    sha256_init(&s->plain);
    if (offset > INT64_MAX || size > INT64_MAX - offset)
        return error_set(err, "%.200s: its size can't be; the image is damaged", name);
    struct error none = {0};
    if (!fill(s, &none) && failed(&none)) {
        *err = none;
        return false;
    }
    return open_kind(s, err);
}

ssize_t stream_read(struct stream *s, void *to, size_t n, struct error *err)
{
    ssize_t got;
    struct error mine = {0};
    if (s->ended || n == 0)
        return 0;
    switch (s->kind) {
    case STREAM_GZIP: got = read_gzip(s, to, n, &mine); break;
    case STREAM_ZSTD: got = read_zstd(s, to, n, &mine); break;
    default: got = read_plain(s, to, n, &mine); break;
    }
    if (got < 0) {
        *err = mine;
        return -1;
    }
    s->ended = got == 0;
    s->produced += (uint64_t)got;
    if (s->hashed)
        sha256_update(&s->plain, (size_t)got, to);
    return got;
}

/* What is plain and not hashed need not be read. */
static void jump(struct stream *s, uint64_t *n)
{
    uint64_t buffered = s->in_end - s->in_at;
    uint64_t part = *n < buffered ? *n : buffered;
    s->in_at += (size_t)part;
    *n -= part;
    s->produced += part;
    part = *n < s->left ? *n : s->left;
    s->at += part;
    s->left -= part;
    *n -= part;
    s->produced += part;
}

bool stream_skip(struct stream *s, uint64_t n, struct error *err)
{
    uint8_t scratch[16 << 10];
    if (s->kind == STREAM_PLAIN && !s->hashed)
        jump(s, &n);
    while (n) {
        ssize_t got = stream_read(s, scratch, n < sizeof scratch ? (size_t)n : sizeof scratch, err);
        if (got < 0)
            return false;
        if (got == 0)
            return error_set(err, "%.200s: it ends too soon; the file is cut off", s->name);
        n -= (uint64_t)got;
    }
    return true;
}

bool stream_finish(struct stream *s, struct digest *stored, struct digest *plain, struct error *err)
{
    uint8_t scratch[16 << 10];
    ssize_t n;
    while ((n = stream_read(s, scratch, sizeof scratch, err)) > 0)
        continue;
    if (n < 0)
        return false;
    digest_take(stored, &s->stored);
    digest_take(plain, &s->plain);
    return true;
}

void stream_close(struct stream *s)
{
    if (s->kind == STREAM_GZIP)
        inflateEnd(&s->gzip);
    ZSTD_freeDCtx(s->zstd);
    s->zstd = NULL;
    s->kind = STREAM_PLAIN;
}

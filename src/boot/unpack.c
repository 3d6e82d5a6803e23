/*
 * Each format is a function that feeds a growing, bounded buffer. None trusts a size that the data
 * states: sizes are hints.
 */
#include "boot/unpack.h"

#include <bzlib.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/bits.h"

enum { SINK_FIRST = 1 << 20 };

enum unpack_result { UNPACK_OK, UNPACK_DAMAGED, UNPACK_TOO_LARGE, UNPACK_NO_MEMORY };

/* Where unpacked bytes go: a piece of the scratch that grows. */
struct sink {
    struct scratch *scratch;
    uint8_t *data;
    size_t size, capacity;
    uint64_t limit;
};

/* Makes room for at least n more bytes. */
static enum unpack_result sink_reserve(struct sink *s, size_t n)
{
    if (s->capacity - s->size >= n)
        return UNPACK_OK;
    if (n > s->limit || s->size > s->limit - n)
        return UNPACK_TOO_LARGE;
    uint64_t want = s->capacity ? (uint64_t)s->capacity * 2 : SINK_FIRST;
    uint64_t room = scratch_room(s->scratch, s->data);
    if (want < s->size + n)
        want = s->size + n;
    if (want > s->limit)
        want = s->limit;
    if (want > room && s->size + n <= room)
        want = room;
    uint8_t *data = scratch_grow(s->scratch, s->data, want);
    if (!data)
        return UNPACK_NO_MEMORY;
    s->data = data;
    s->capacity = want;
    return UNPACK_OK;
}

static size_t sink_room(const struct sink *s)
{
    return s->capacity - s->size;
}

static enum unpack_result unpack_gzip(const uint8_t *data, size_t size, struct sink *s)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)data,
                  .avail_in = size > UINT32_MAX ? UINT32_MAX : (uInt)size};
    if (inflateInit2(&z, 15 + 16) != Z_OK) /* 16: expect a gzip header */
        return UNPACK_NO_MEMORY;
    enum unpack_result result = UNPACK_OK;
    int status = Z_OK;
    while (status == Z_OK && (result = sink_reserve(s, 1)) == UNPACK_OK) {
        uInt room = sink_room(s) > UINT32_MAX ? UINT32_MAX : (uInt)sink_room(s);
        z.next_out = s->data + s->size;
        z.avail_out = room;
        status = inflate(&z, Z_NO_FLUSH);
        s->size += room - z.avail_out;
    }
    if (result == UNPACK_OK && status != Z_STREAM_END)
        result = UNPACK_DAMAGED;
    inflateEnd(&z);
    return result;
}

static enum unpack_result unpack_lzma_stream(lzma_stream *l, const uint8_t *data, size_t size,
                                             struct sink *s)
{
    l->next_in = data;
    l->avail_in = size;
    enum unpack_result result = UNPACK_OK;
    lzma_ret status = LZMA_OK;
    while (status == LZMA_OK && (result = sink_reserve(s, 1)) == UNPACK_OK) {
        size_t room = sink_room(s);
        l->next_out = s->data + s->size;
        l->avail_out = room;
        status = lzma_code(l, LZMA_RUN);
        s->size += room - l->avail_out;
    }
    if (result == UNPACK_OK && status != LZMA_STREAM_END)
        result = status == LZMA_MEM_ERROR ? UNPACK_NO_MEMORY : UNPACK_DAMAGED;
    lzma_end(l);
    return result;
}

/* A dictionary that the headers may ask for: larger ones are a hostile file's. */
#define LZMA_MEMORY (UINT64_C(1) << 30)

/* The dictionary, tens of MiB, goes to the scratch where that is the guest's memory. */
static void *lzma_take(void *scratch, size_t count, size_t size)
{
    size_t n;
    return __builtin_mul_overflow(count, size, &n) ? NULL : scratch_take(scratch, n);
}

static void lzma_leave(void *scratch, void *piece) {}

static enum unpack_result unpack_xz(const uint8_t *data, size_t size, struct sink *s)
{
    const lzma_allocator allocator = {lzma_take, lzma_leave, s->scratch};
    lzma_stream l = LZMA_STREAM_INIT;
    l.allocator = s->scratch->memory ? &allocator : NULL;
    if (lzma_stream_decoder(&l, LZMA_MEMORY, 0) != LZMA_OK)
        return UNPACK_NO_MEMORY;
    return unpack_lzma_stream(&l, data, size, s);
}

static enum unpack_result unpack_lzma(const uint8_t *data, size_t size, struct sink *s)
{
    const lzma_allocator allocator = {lzma_take, lzma_leave, s->scratch};
    lzma_stream l = LZMA_STREAM_INIT;
    l.allocator = s->scratch->memory ? &allocator : NULL;
    if (lzma_alone_decoder(&l, LZMA_MEMORY) != LZMA_OK)
        return UNPACK_NO_MEMORY;
    return unpack_lzma_stream(&l, data, size, s);
}

static enum unpack_result unpack_bzip2(const uint8_t *data, size_t size, struct sink *s)
{
    bz_stream b = {.next_in = (char *)(uintptr_t)data,
                   .avail_in = size > UINT32_MAX ? UINT32_MAX : (unsigned)size};
    if (BZ2_bzDecompressInit(&b, 0, 0) != BZ_OK)
        return UNPACK_NO_MEMORY;
    enum unpack_result result = UNPACK_OK;
    int status = BZ_OK;
    while (status == BZ_OK && (result = sink_reserve(s, 1)) == UNPACK_OK) {
        unsigned room = sink_room(s) > UINT32_MAX ? UINT32_MAX : (unsigned)sink_room(s);
        unsigned input = b.avail_in;
        b.next_out = (char *)s->data + s->size;
        b.avail_out = room;
        status = BZ2_bzDecompress(&b);
        s->size += room - b.avail_out;
        /* bzip2 says "fine" for ever when its input ends early. */
        if (status == BZ_OK && b.avail_out == room && b.avail_in == input)
            break;
    }
    if (result == UNPACK_OK && status != BZ_STREAM_END)
        result = UNPACK_DAMAGED;
    BZ2_bzDecompressEnd(&b);
    return result;
}

/* One block into what is left of the sink, or of the limit: the library does not say whether a
 * block is damaged or too large, but within the limit it can only be the former. */
static enum unpack_result lz4_block(const uint8_t *data, size_t packed, size_t max, struct sink *s,
                                    int *n)
{
    size_t room = s->limit - s->size < max ? s->limit - s->size : max;
    if (room == 0)
        return UNPACK_TOO_LARGE;
    enum unpack_result result = sink_reserve(s, room);
    if (result != UNPACK_OK)
        return result;
    *n = LZ4_decompress_safe((const char *)data, (char *)s->data + s->size, (int)packed, (int)room);
    if (*n < 0)
        return room < max ? UNPACK_TOO_LARGE : UNPACK_DAMAGED;
    s->size += (size_t)*n;
    return UNPACK_OK;
}

/* The legacy frame of lz4 (its doc/lz4_Frame_format.md, "Legacy frame"): the magic number, then
 * blocks with their packed size before them, each but the last unpacking to 8 MiB. There is no end
 * mark: what is too short for a block, or can't be one's size, ends it. */
static enum unpack_result unpack_lz4(const uint8_t *data, size_t size, struct sink *s)
{
    enum { MAGIC_SIZE = 4, BLOCK = 8 << 20 };
    const size_t packed_max = LZ4_COMPRESSBOUND(BLOCK);
    enum unpack_result result = UNPACK_OK;
    size_t at = MAGIC_SIZE;
    int n = BLOCK;
    while (result == UNPACK_OK && n == BLOCK && size - at >= 4) {
        size_t packed = load_u32(data + at);
        at += 4;
        if (packed == 0 || packed > packed_max || packed > size - at) {
            result = UNPACK_DAMAGED;
            break;
        }
        result = lz4_block(data + at, packed, BLOCK, s, &n);
        at += packed;
    }
    /* A last block that happens to be full may be followed by the file's own trailer. */
    return result == UNPACK_DAMAGED && s->size && s->size % BLOCK == 0 && size - at < 4 ? UNPACK_OK
                                                                                        : result;
}

static uint32_t big_u32(const uint8_t *p)
{
    return __builtin_bswap32(load_u32(p));
}
static uint16_t big_u16(const uint8_t *p)
{
    return __builtin_bswap16(load_u16(p));
}

/* lzop's file header: its length, or 0 when it is damaged, and its flags. */
static size_t lzop_header(const uint8_t *data, size_t size, uint32_t *flags)
{
    enum { MAGIC_SIZE = 9, FIXED = 64, NEW_VERSION = 0x0940, HAS_FILTER = 0x800, HAS_EXTRA = 0x40 };
    if (size < FIXED)
        return 0;
    size_t at = MAGIC_SIZE;
    uint16_t version = big_u16(data + at);
    bool newer = version >= NEW_VERSION;
    at += 4 + (newer ? 2 : 0); /* version, library's version, version needed */
    at += newer ? 2 : 1;       /* method, level */
    *flags = big_u32(data + at);
    at += 4 + (*flags & HAS_FILTER ? 4 : 0);
    at += 4 + 4 + (newer ? 4 : 0);  /* mode, time */
    at += 1 + (size_t)data[at] + 4; /* name, checksum */
    if (!(*flags & HAS_EXTRA))
        return at <= size ? at : 0;
    if (at > size || size - at < 4)
        return 0;
    size_t extra = big_u32(data + at);
    at += 4;
    return extra <= size - at && size - at - extra >= 4 ? at + extra + 4 : 0;
}

static enum unpack_result unpack_lzo(const uint8_t *data, size_t size, struct sink *s)
{
    enum { ADLER_PLAIN = 1, ADLER_PACKED = 2, CRC_PLAIN = 0x100, CRC_PACKED = 0x200 };
    enum { BLOCK_MAX = 64 << 20 };
    uint32_t flags = 0;
    size_t at = lzop_header(data, size, &flags);
    if (!at || lzo_init() != LZO_E_OK)
        return UNPACK_DAMAGED;
    size_t plain_sums = (flags & ADLER_PLAIN ? 4u : 0u) + (flags & CRC_PLAIN ? 4u : 0u);
    size_t packed_sums = (flags & ADLER_PACKED ? 4u : 0u) + (flags & CRC_PACKED ? 4u : 0u);
    for (;;) {
        if (size - at < 4)
            return UNPACK_DAMAGED;
        size_t plain = big_u32(data + at);
        at += 4;
        if (plain == 0)
            return UNPACK_OK;
        if (size - at < 4)
            return UNPACK_DAMAGED;
        size_t packed = big_u32(data + at);
        at += 4;
        size_t sums = plain_sums + (packed < plain ? packed_sums : 0);
        if (plain > BLOCK_MAX || packed > plain || size - at < sums || size - at - sums < packed)
            return UNPACK_DAMAGED;
        at += sums;
        enum unpack_result result = sink_reserve(s, plain);
        if (result != UNPACK_OK)
            return result;
        lzo_uint n = plain;
        if (packed == plain)
            memcpy(s->data + s->size, data + at, plain);
        else if (lzo1x_decompress_safe(data + at, packed, s->data + s->size, &n, NULL) !=
                     LZO_E_OK ||
                 n != plain)
            return UNPACK_DAMAGED;
        s->size += plain;
        at += packed;
    }
}

/* In one go, which needs no window besides the result. */
static enum unpack_result unpack_zstd(const uint8_t *data, size_t size, struct sink *s)
{
    size_t packed = ZSTD_findFrameCompressedSize(data, size);
    if (ZSTD_isError(packed))
        return UNPACK_DAMAGED;
    unsigned long long stated = ZSTD_getFrameContentSize(data, size);
    uint64_t room = scratch_room(s->scratch, s->data);
    if (stated <= s->limit)
        room = stated;
    else if (room > s->limit)
        room = s->limit;
    enum unpack_result result = room ? sink_reserve(s, room) : UNPACK_OK;
    if (result != UNPACK_OK)
        return result;
    ZSTD_DCtx *z = ZSTD_createDCtx();
    if (!z)
        return UNPACK_NO_MEMORY;
    size_t n = ZSTD_decompressDCtx(z, s->data + s->size, s->capacity - s->size, data, packed);
    ZSTD_freeDCtx(z);
    if (!ZSTD_isError(n)) {
        s->size += n;
        return UNPACK_OK;
    }
    if (ZSTD_getErrorCode(n) != ZSTD_error_dstSize_tooSmall)
        return UNPACK_DAMAGED;
    return sink_reserve(s, s->limit - s->size) == UNPACK_OK ? UNPACK_TOO_LARGE : UNPACK_NO_MEMORY;
}

static const struct format {
    const char *name;
    uint8_t magic[9];
    uint8_t magic_size;
    enum unpack_result (*unpack)(const uint8_t *data, size_t size, struct sink *s);
} formats[] = {
    {"gzip", {0x1f, 0x8b}, 2, unpack_gzip},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
    {"lzma", {0x5d, 0, 0}, 3, unpack_lzma},
    {"bzip2", {'B', 'Z', 'h'}, 3, unpack_bzip2},
    {"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
    {"lzo", {0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a}, 9, unpack_lzo},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
};

static const struct format *find_format(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        const struct format *f = &formats[i];
        if (size >= f->magic_size && memcmp(data, f->magic, f->magic_size) == 0)
            return f;
    }
    return NULL;
}

const char *unpack_format(const uint8_t *data, size_t size)
{
    const struct format *f = find_format(data, size);
    return f ? f->name : NULL;
}

bool unpack(struct scratch *scratch, const uint8_t *data, size_t size, uint64_t hint,
            uint64_t limit, const char *what, uint8_t **out, size_t *out_size, struct error *err)
{
    const struct format *f = find_format(data, size);
    if (!f)
        return error_set(err, "%s: not compressed in a way that is known; unpack it first", what);
    struct sink s = {.scratch = scratch, .limit = limit};
    enum unpack_result result = sink_reserve(&s, hint && hint <= limit ? hint : 1);
    if (result == UNPACK_OK)
        result = f->unpack(data, size, &s);
    if (result == UNPACK_OK) {
        *out = s.data;
        *out_size = s.size;
        return true;
    }
    switch (result) {
    case UNPACK_TOO_LARGE:
        return error_set(
            err, "%s: unpacks to more than the guest's memory of %" PRIu64 " MiB; raise --memory",
            what, limit >> 20);
    case UNPACK_NO_MEMORY:
        return error_set(err, "%s: no host memory to unpack it into; free some", what);
    default: return error_set(err, "%s: its %s data are damaged; fetch it again", what, f->name);
    }
}

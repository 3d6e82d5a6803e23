/*
 * Unpacking: each format that Linux kernels come in, packed here by the same libraries, comes out
 * as it went in; cut short, flipped or too large, it is refused.
 */
#include <bzlib.h>
#include <lz4hc.h>
#include <lzma.h>
#include <lzo/lzo1x.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bits.h"
#include "boot/boot.h"
#include "boot/unpack.h"
#include "memory/memory.h"
#include "test.h"

/* Larger than one block of a format, but for lz4, whose blocks of 8 MiB are tested by themselves.
 */
enum { PLAIN = (1 << 20) + 12345, PACKED_MAX = 12 << 20, LZO_BLOCK = 256 << 10 };

static uint8_t *make_bytes(size_t n)
{
    uint8_t *p = malloc(n);
    uint32_t x = 1;
    for (size_t i = 0; p && i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (uint8_t)((x >> 29) + (i >> 12));
    }
    return p;
}

static uint8_t *make_plain(void)
{
    return make_bytes(PLAIN);
}

static size_t pack_gzip(const uint8_t *in, uint8_t *out)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = PLAIN, .next_out = out};
    z.avail_out = PACKED_MAX;
    deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return z.total_out;
}

static size_t pack_xz(const uint8_t *in, uint8_t *out)
{
    /* As the kernel's build does it: with the x86 filter and a CRC32. */
    lzma_options_lzma options;
    lzma_lzma_preset(&options, 0);
    lzma_filter filters[] = {
        {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
    size_t at = 0;
    CHECK_EQ(
        lzma_stream_buffer_encode(filters, LZMA_CHECK_CRC32, NULL, in, PLAIN, out, &at, PACKED_MAX),
        LZMA_OK);
    return at;
}

static size_t pack_lzma(const uint8_t *in, uint8_t *out)
{
    lzma_options_lzma options;
    lzma_stream l = LZMA_STREAM_INIT;
    lzma_lzma_preset(&options, 0);
    CHECK_EQ(lzma_alone_encoder(&l, &options), LZMA_OK);
    l.next_in = in;
    l.avail_in = PLAIN;
    l.next_out = out;
    l.avail_out = PACKED_MAX;
    CHECK_EQ(lzma_code(&l, LZMA_FINISH), LZMA_STREAM_END);
    lzma_end(&l);
    return l.total_out;
}

static size_t pack_bzip2(const uint8_t *in, uint8_t *out)
{
    unsigned n = PACKED_MAX;
    BZ2_bzBuffToBuffCompress((char *)out, &n, (char *)(uintptr_t)in, PLAIN, 1, 0, 0);
    return n;
}

static size_t pack_lz4_bytes(const uint8_t *in, size_t size, uint8_t *out)
{
    enum { BLOCK = 8 << 20 };
    size_t at = 4;
    store_u32(out, 0x184c2102);
    for (size_t i = 0; i < size; i += BLOCK) {
        int n = size - i < BLOCK ? (int)(size - i) : BLOCK;
        int packed = LZ4_compress_default((const char *)in + i, (char *)out + at + 4, n,
                                          PACKED_MAX - (int)at - 4);
        store_u32(out + at, (uint32_t)packed);
        at += 4 + (size_t)packed;
    }
    return at;
}

static size_t pack_lz4(const uint8_t *in, uint8_t *out)
{
    return pack_lz4_bytes(in, PLAIN, out);
}

static void put_big(uint8_t *p, uint32_t v)
{
    store_u32(p, __builtin_bswap32(v));
}

/* lzop's container: a header with a name, blocks with an Adler-32 of the plain bytes. */
static size_t pack_lzo(const uint8_t *in, uint8_t *out)
{
    static const uint8_t head[] = {0x89, 'L',  'Z',  'O',  0, 0x0d, 0x0a, 0x1a, 0x0a, 0x10, 0x40,
                                   0x20, 0xa0, 0x09, 0x40, 1, 5,    0,    0,    0,    1};
    static uint8_t work[LZO1X_1_MEM_COMPRESS];
    memcpy(out, head, sizeof head);
    size_t at = sizeof head + 12; /* mode, time low and high */
    memset(out + sizeof head, 0, 12);
    out[at++] = 4;
    memcpy(out + at, "file", 4);
    at += 4 + 4; /* and the header's checksum */
    for (size_t i = 0; i < PLAIN; i += LZO_BLOCK) {
        size_t n = PLAIN - i < LZO_BLOCK ? PLAIN - i : LZO_BLOCK;
        lzo_uint packed = 0;
        lzo1x_1_compress(in + i, n, out + at + 12, &packed, work);
        if (packed >= n) {
            memcpy(out + at + 12, in + i, n);
            packed = n;
        }
        put_big(out + at, (uint32_t)n);
        put_big(out + at + 4, (uint32_t)packed);
        put_big(out + at + 8, 0);
        at += 12 + packed;
    }
    put_big(out + at, 0);
    return at + 4;
}

static size_t pack_zstd(const uint8_t *in, uint8_t *out)
{
    return ZSTD_compress(out, PACKED_MAX, in, PLAIN, 1);
}

static const struct {
    const char *name;
    size_t (*pack)(const uint8_t *in, uint8_t *out);
    bool sums; /* it notices every flipped bit */
} formats[] = {
    {"gzip", pack_gzip, true},   {"xz", pack_xz, true},    {"lzma", pack_lzma, false},
    {"bzip2", pack_bzip2, true}, {"lz4", pack_lz4, false}, {"lzo", pack_lzo, false},
    {"zstd", pack_zstd, false},
};

/* In host memory, where the sanitizers see every byte; what comes out is the scratch's. */
static struct scratch scratch;

static bool try_unpack(const uint8_t *data, size_t size, uint64_t limit, uint8_t **out, size_t *n,
                       struct error *err)
{
    memset(err, 0, sizeof *err);
    scratch_close(&scratch);
    return unpack(&scratch, data, size, 0, limit, "kernel", out, n, err);
}

/* With what follows the payload in a kernel image: its size, which is not part of the stream. */
static void check_every_format(void)
{
    uint8_t *plain = make_plain(), *packed = malloc(PACKED_MAX + 4), *out = NULL;
    size_t n = 0;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        size_t size = formats[i].pack(plain, packed);
        store_u32(packed + size, PLAIN);
        const char *name = unpack_format(packed, size);
        CHECK(name && strcmp(name, formats[i].name) == 0);
        if (!try_unpack(packed, size + 4, 64 << 20, &out, &n, &err)) {
            printf("# %s: %s\n", formats[i].name, err.text);
            CHECK(false);
            continue;
        }
        CHECK_EQ(n, PLAIN);
        CHECK(n == PLAIN && memcmp(out, plain, PLAIN) == 0);
    }
    scratch_close(&scratch);
    free(packed);
    free(plain);
}

TEST(every_format_comes_out_as_it_went_in)
{
    check_every_format();
}

/* Also where files are held in the guest's own memory, and then nothing of them is left there. */
TEST(every_format_unpacks_into_guest_memory)
{
    enum { SIZE = 64 << 20 };
    static const struct boot_range map[] = {{0, SIZE, BOOT_RANGE_RAM}};
    struct memory memory;
    CHECK(memory_create(&memory, SIZE, NULL));
    CHECK(memory_fill(&memory, SIZE / 2, 0x5a, 4));
    scratch_init(&scratch, &memory, map, 1);
    CHECK(scratch.memory != NULL);
    check_every_format();
    for (uint64_t gpa = 0; gpa < SIZE; gpa += sizeof(uint64_t))
        if (*(const uint64_t *)memory_hva(&memory, gpa) != 0) {
            CHECK_EQ(gpa, SIZE);
            break;
        }
    scratch = (struct scratch){0};
    memory_destroy(&memory);
}

/* Two blocks, and one that is exactly full and has only the size behind it. */
TEST(lz4_in_several_blocks)
{
    static const size_t sizes[] = {(8 << 20) + 4321, 8 << 20};
    uint8_t *plain = make_bytes(sizes[0]), *packed = malloc(PACKED_MAX), *out = NULL;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        size_t n = 0, size = pack_lz4_bytes(plain, sizes[i], packed);
        store_u32(packed + size, (uint32_t)sizes[i]);
        CHECK(try_unpack(packed, size + 4, 64 << 20, &out, &n, &err));
        CHECK_EQ(n, sizes[i]);
        CHECK(n == sizes[i] && memcmp(out, plain, n) == 0);
    }
    scratch_close(&scratch);
    free(packed);
    free(plain);
}

TEST(what_is_too_large_is_refused)
{
    uint8_t *plain = make_plain(), *packed = malloc(PACKED_MAX), *out = NULL;
    size_t n = 0;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        size_t size = formats[i].pack(plain, packed);
        CHECK(!try_unpack(packed, size, PLAIN - 1, &out, &n, &err));
        CHECK(strstr(err.text, "--memory") != NULL);
    }
    scratch_close(&scratch);
    free(packed);
    free(plain);
}

TEST(what_is_cut_short_is_refused)
{
    uint8_t *plain = make_plain(), *packed = malloc(PACKED_MAX), *out = NULL;
    size_t n = 0;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        size_t size = formats[i].pack(plain, packed);
        size_t cuts[] = {size / 2, size / 100, 20, 12};
        for (size_t c = 0; c < ARRAY_LEN(cuts); c++) {
            bool ok = try_unpack(packed, cuts[c], 64 << 20, &out, &n, &err);
            if (ok)
                printf("# %s of %zu bytes cut to %zu\n", formats[i].name, size, cuts[c]);
            CHECK(!ok);
        }
    }
    scratch_close(&scratch);
    free(packed);
    free(plain);
}

TEST(damage_is_refused_where_the_format_can_tell)
{
    uint8_t *plain = make_plain(), *packed = malloc(PACKED_MAX), *out = NULL;
    size_t n = 0;
    struct error err;
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        size_t size = formats[i].pack(plain, packed);
        packed[size / 2] ^= 0x10;
        bool ok = try_unpack(packed, size, 64 << 20, &out, &n, &err);
        CHECK(!ok || !formats[i].sums);
    }
    scratch_close(&scratch);
    free(packed);
    free(plain);
}

TEST(unknown_formats_are_unknown)
{
    uint8_t *out = NULL;
    size_t n = 0;
    struct error err;
    CHECK(unpack_format((const uint8_t *)"plain text", 10) == NULL);
    CHECK(unpack_format((const uint8_t *)"\x1f", 1) == NULL);
    CHECK(!try_unpack((const uint8_t *)"plain text", 10, 1 << 20, &out, &n, &err));
}

TESTS(T(every_format_comes_out_as_it_went_in), T(every_format_unpacks_into_guest_memory),
      T(lz4_in_several_blocks), T(what_is_too_large_is_refused), T(what_is_cut_short_is_refused),
      T(damage_is_refused_where_the_format_can_tell), T(unknown_formats_are_unknown))

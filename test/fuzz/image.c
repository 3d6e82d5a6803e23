/*
 * fuzz-image SEED COUNT: hostile images.
 *
 * Each case takes an archive or a document of an image, damages it (fields set to values that
 * invite overflows, bytes flipped, the end cut off, parts moved) and reads it as far as it goes.
 * Layers are unpacked into a folder of their own beside one that must stay as it is. Whatever it
 * is, it is refused with one sentence or taken; the sanitizers watch the rest.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bits.h"
#include "container/image/layer.h"
#include "container/image/parse.h"
#include "container/image/tree.h"

enum { BLOCK = 512, ARCHIVE_MAX = 64 << 10 };

struct archive {
    uint8_t data[ARCHIVE_MAX];
    size_t size;
};

static uint64_t random_state;

/* xorshift64*: the same cases for the same seed everywhere. */
static uint64_t next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t n)
{
    return next() % n;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- archives ---- */

static const char *const names[] = {
    "a",          "a/b",   "a/../../up",    "../up",          "/abs",
    "./",         "",      "a/b/c/d",       "a//b/./c",       "out",
    "out/victim", ".wh.a", "a/.wh.b",       ".wh..wh..opq",   ".wh.",
    ".wh...",     ".wh..", "a/.wh..wh.x/y", "out/.wh.victim", "out/.wh..wh..opq",
};

static const char *const links[] = {
    "a", "../../../outside", "/outside", "..", ".", "", "a/b", "out", "out/victim", "/",
};

static const char *const records[] = {
    "path=a/b/c",
    "path=../up",
    "linkpath=../../outside",
    "size=18446744073709551615",
    "size=512",
    "uid=4294967295",
    "mtime=-1.5",
    "mtime=99999999999999",
    "SCHILY.xattr.user.a=b",
    "SCHILY.xattr.trusted.overlay.redirect=/etc",
    "GNU.sparse.map=0,1,512,1",
    "GNU.sparse.map=9223372036854775807,1",
    "GNU.sparse.realsize=9223372036854775807",
    "GNU.sparse.major=1",
    "GNU.sparse.offset=5",
    "GNU.sparse.numbytes=5",
    "GNU.sparse.name=b",
    "comment=nothing",
};

static void fit_checksum(uint8_t *h)
{
    unsigned sum = 8 * ' ';
    for (int i = 0; i < BLOCK; i++)
        sum += i >= 148 && i < 156 ? 0 : h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
    h[155] = ' ';
}

static uint8_t *add_block(struct archive *a)
{
    uint8_t *p = a->data + a->size;
    memset(p, 0, BLOCK);
    a->size += BLOCK;
    return p;
}

static void add_header(struct archive *a, char type, const char *name, const char *link,
                       size_t size)
{
    uint8_t *h = add_block(a);
    snprintf((char *)h, 100, "%s", name);
    snprintf((char *)h + 100, 8, "%07o", (unsigned)below(010000));
    snprintf((char *)h + 108, 8, "%07o", (unsigned)below(3));
    snprintf((char *)h + 116, 8, "%07o", (unsigned)below(3));
    snprintf((char *)h + 124, 12, "%011o", (unsigned)size & 077777777);
    snprintf((char *)h + 136, 12, "%011o", (unsigned)below(1 << 30));
    h[156] = (uint8_t)type;
    snprintf((char *)h + 157, 100, "%s", link);
    memcpy(h + 257, below(2) ? "ustar\00000" : "ustar  ", 8);
    fit_checksum(h);
}

static void add_text(struct archive *a, char type, const char *text)
{
    add_header(a, type, "x", "", strlen(text));
    memcpy(add_block(a), text, strlen(text));
}

static void add_record(struct archive *a)
{
    char text[256];
    const char *record = records[below(ARRAY_LEN(records))];
    snprintf(text, sizeof text, "%zu %s\n", strlen(record) + 4, record);
    add_text(a, 'x', text);
}

static void add_entry(struct archive *a)
{
    static const char types[] = "0012345567S";
    char type = types[below(sizeof types - 1)];
    const char *name = names[below(ARRAY_LEN(names))];
    size_t size = type == '0' || type == 'S' ? below(2 * BLOCK) : 0;
    if (below(4) == 0)
        add_record(a);
    if (below(8) == 0)
        add_text(a, below(2) ? 'L' : 'K', names[below(ARRAY_LEN(names))]);
    add_header(a, type, name, links[below(ARRAY_LEN(links))], size);
    for (size_t n = 0; n < size; n += BLOCK)
        memset(add_block(a), 'x', BLOCK);
}

static void make_archive(struct archive *a)
{
    a->size = 0;
    for (uint64_t n = 1 + below(12); n; n--)
        add_entry(a);
    add_block(a);
    add_block(a);
}

/* ---- damage ---- */

static void damage_header(struct archive *a)
{
    static const uint16_t fields[] = {0,   100, 108, 116, 124, 136, 156, 157,
                                      257, 329, 337, 345, 386, 398, 482, 483};
    static const char *const values[] = {"77777777777",
                                         "9",
                                         "\377\377\377\377\377\377\377\377\377",
                                         "\200\377\377\377\377\377\377\377\377\377\377\377",
                                         " ",
                                         "0",
                                         "1"};
    uint8_t *h = a->data + below(a->size / BLOCK) * BLOCK;
    const char *value = values[below(ARRAY_LEN(values))];
    memcpy(h + fields[below(ARRAY_LEN(fields))], value, strlen(value));
    fit_checksum(h);
}

static void damage(struct archive *a)
{
    for (uint64_t n = below(4); n; n--)
        damage_header(a);
    for (uint64_t n = below(2) * below(8); n; n--)
        a->data[below(a->size)] = (uint8_t)next();
    if (below(8) == 0)
        a->size = below(a->size);
}

/* Plain, or packed; packed ones are damaged once more sometimes. */
static int file_of(const struct archive *a, size_t *size)
{
    static uint8_t packed[ARCHIVE_MAX * 2];
    const uint8_t *data = a->data;
    *size = a->size;
    uint64_t kind = below(4);
    if (kind == 1) {
        *size = ZSTD_compress(packed, sizeof packed, a->data, a->size, 1);
    } else if (kind == 2) {
        z_stream z = {0};
        if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
            die("zlib");
        z.next_in = (uint8_t *)a->data;
        z.avail_in = (unsigned)a->size;
        z.next_out = packed;
        z.avail_out = sizeof packed;
        deflate(&z, Z_FINISH);
        *size = z.total_out;
        deflateEnd(&z);
    }
    if (kind == 1 || kind == 2) {
        data = packed;
        for (uint64_t n = below(4) == 0 ? below(4) : 0; n; n--)
            packed[below(*size)] = (uint8_t)next();
    }
    int fd = memfd_create("archive", MFD_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, *size, 0) != (ssize_t)*size)
        die("memfd");
    return fd;
}

/* ---- cases ---- */

static void check_error(const struct error *err)
{
    if (err->status == EXIT_STATUS_OK || !err->text[0] || strchr(err->text, '\n')) {
        fprintf(stderr, "fuzz-image: it failed without one sentence: %s\n", err->text);
        abort();
    }
}

static void unpack_archive(int place)
{
    static struct archive a;
    static struct stream s;
    struct error err = {0};
    size_t size;
    make_archive(&a);
    damage(&a);
    int fd = file_of(&a, &size);
    if (mkdirat(place, "root", 0755) != 0)
        die("root");
    int root = openat(place, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct layer_how how = {(enum layer_form)below(3), true, true, NULL};
    struct digest stored, plain;
    struct tar *t = NULL;
    bool ok = stream_open(&s, "archive", fd, 0, size, below(2), &err) && (t = tar_open(&s, &err)) &&
              layer_unpack(t, root, &how, &err) && stream_finish(&s, &stored, &plain, &err);
    if (!ok)
        check_error(&err);
    tar_close(t);
    stream_close(&s);
    close(root);
    close(fd);
    err = (struct error){0};
    if (!tree_remove(place, "root", &err)) {
        fprintf(stderr, "fuzz-image: %s\n", err.text);
        abort();
    }
    if (faccessat(place, "outside/victim", F_OK, 0) != 0 || faccessat(place, "up", F_OK, 0) == 0) {
        fprintf(stderr, "fuzz-image: it got out\n");
        abort();
    }
}

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static const char *const documents[] = {
    "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"" DIGEST "\",\"size\":7,\"annotations\":"
    "{\"org.opencontainers.image.ref.name\":\"a:b\"},\"platform\":{\"os\":\"linux\"}}]}",
    "{\"schemaVersion\":2,\"config\":{\"digest\":\"" DIGEST "\",\"size\":7},\"layers\":[{"
    "\"digest\":\"" DIGEST "\",\"size\":7},{\"digest\":\"" DIGEST "\",\"size\":7}]}",
    "{\"os\":\"linux\",\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=b\"],\"Cmd\":[\"x\"],"
    "\"Entrypoint\":null,\"User\":\"1:2\",\"WorkingDir\":\"/\"},\"rootfs\":{\"diff_ids\":[\"" DIGEST
    "\"]}}",
    "[{\"Config\":\"a.json\",\"RepoTags\":[\"a:b\"],\"Layers\":[\"a/layer.tar\",\"b\"]}]",
};

/* Bytes that keep JSON good more often than others do. */
static void damage_document(char *text)
{
    static const char bytes[] = "0123456789\"[]{},:ntse- ";
    size_t n = strlen(text);
    for (uint64_t i = below(5); i; i--)
        text[below(n)] = bytes[below(sizeof bytes - 1)];
}

static void parse_document(void)
{
    char text[1024];
    struct error err = {0};
    struct parse p = {"image", "document", &err};
    struct parse_descriptor config, layers[4];
    struct digest ids[4];
    struct image_config c = {0};
    const char *name, *files[4];
    unsigned count;
    uint64_t kind = below(ARRAY_LEN(documents));
    snprintf(text, sizeof text, "%s", documents[kind]);
    damage_document(text);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    const char *reference = below(2) ? "b" : NULL;
    bool ok =
        !json || (kind == 0   ? parse_index(&p, json, reference, "amd64", &config)
                  : kind == 1 ? parse_manifest(&p, json, &config, layers, 4, &count)
                  : kind == 2 ? parse_platform(&p, json, "amd64") && parse_config(&p, json, &c) &&
                                    parse_diff_ids(&p, json, ids, 4, &count)
                              : parse_docker(&p, json, reference, &name, files, 4, &count));
    if (!ok)
        check_error(&err);
    image_config_free(&c);
    json_decref(json);
}

static int make_place(char *path)
{
    int place = mkdtemp(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (place < 0 || mkdirat(place, "outside", 0755) != 0)
        die(path);
    close(openat(place, "outside/victim", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    return place;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 2000;
    char path[] = "/tmp/doppel-fuzz-image-XXXXXX";
    struct error err = {0};
    int place = make_place(path);
    umask(0);
    for (uint64_t i = 0; i < count; i++) {
        random_state = (seed + i) * 0x9e3779b97f4a7c15 | 1;
        if (below(3))
            unpack_archive(place);
        else
            parse_document();
    }
    tree_remove_content(place, &err);
    close(place);
    rmdir(path);
    printf("fuzz-image: %llu cases from seed %llu\n", (unsigned long long)count,
           (unsigned long long)seed);
    return 0;
}

#include "container/image/tar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

enum { BLOCK = 512 };

/* A header block (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar
 * Format"). */
enum {
    AT_NAME = 0,
    AT_MODE = 100,
    AT_UID = 108,
    AT_GID = 116,
    AT_SIZE = 124,
    AT_MTIME = 136,
    AT_CHECKSUM = 148,
    AT_TYPE = 156,
    AT_LINK = 157,
    AT_MAGIC = 257,
    AT_MAJOR = 329,
    AT_MINOR = 337,
    AT_PREFIX = 345,
    AT_GNU_SPARSE = 386,   /* 4 pairs of 12 digits each */
    AT_GNU_EXTENDED = 482, /* whether a block of 21 more follows */
    AT_GNU_REAL_SIZE = 483,
    SIZE_NAME = 100,
    SIZE_PREFIX = 155,
};

/* What pax records and GNU's long names say of the next entry. */
struct extended {
    char *path, *link; /* owned; NULL: not said */
    bool has_size, has_uid, has_gid, has_mtime;
    uint64_t size, uid, gid;
    struct timespec mtime;
    bool sparse;   /* GNU.sparse.*, versions 0.0 and 0.1 */
    bool sparse_1; /* version 1.0: the map is in the data */
    bool has_real_size;
    uint64_t real_size;
    char *sparse_name; /* owned */
};

struct tar {
    struct stream *s;
    struct tar_entry entry;
    struct extended ext;
    uint8_t *records; /* the pax records that ext and the xattrs point into; owned */
    char name[TAR_PATH_MAX + 1], link[TAR_PATH_MAX + 1];
    struct tar_xattr xattrs[TAR_XATTRS_MAX];
    unsigned xattr_count;
    struct tar_part *parts; /* owned */
    unsigned part_count, part_capacity;
    uint64_t left;    /* bytes of the entry's data that are not read yet */
    unsigned padding; /* behind them */
    bool pair_begun;  /* sparse 0.0: an offset was read, its size not yet */
};

static bool bad(const struct tar *t, const char *what, struct error *err)
{
    return error_set(err, "%.200s: not a good tar archive: %s, at byte %" PRIu64 "; get it again",
                     t->s->name, what, t->s->produced);
}

static bool no_memory(const struct tar *t, struct error *err)
{
    return error_set(err, "%.200s: no memory left to read it", t->s->name);
}

/* ------------------------------------------------------------------------------------------- *
 * Numbers
 * ------------------------------------------------------------------------------------------- */

/* A header's number: octal digits between spaces and a space or zero byte, or, with the top bit
 * set, binary, most significant byte first. Negative ones are refused: only times could be. */
static bool header_number(const uint8_t *p, size_t size, uint64_t *value)
{
    uint64_t v = 0;
    if (p[0] & 0x80) {
        if (p[0] & 0x40)
            return false;
        v = p[0] & 0x3f;
        for (size_t i = 1; i < size; i++) {
            if (v >> 55)
                return false;
            v = v << 8 | p[i];
        }
        *value = v;
        return true;
    }
    size_t i = 0;
    while (i < size && p[i] == ' ')
        i++;
    for (; i < size && p[i] >= '0' && p[i] <= '7'; i++) {
        if (v >> 60)
            return false;
        v = v << 3 | (uint64_t)(p[i] - '0');
    }
    *value = v;
    return i == size || p[i] == ' ' || p[i] == 0;
}

/* Decimal digits up to the end of a text; at most 2^63 - 1. */
static bool decimal(const char *p, size_t size, uint64_t *value)
{
    uint64_t v = 0;
    for (size_t i = 0; i < size; i++) {
        if (p[i] < '0' || p[i] > '9' || v > (INT64_MAX - 9) / 10)
            return false;
        v = v * 10 + (uint64_t)(p[i] - '0');
    }
    *value = v;
    return size != 0;
}

/* Seconds with a fraction, as pax writes times. */
static bool decimal_time(const char *p, size_t size, struct timespec *t)
{
    bool negative = size && *p == '-';
    p += negative;
    size -= negative;
    const char *point = memchr(p, '.', size);
    size_t whole = point ? (size_t)(point - p) : size;
    uint64_t seconds;
    if (!decimal(p, whole, &seconds))
        return false;
    long ns = 0, unit = 100000000;
    for (size_t i = whole + 1; i < size; i++, unit /= 10) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        ns += unit * (p[i] - '0');
    }
    t->tv_sec = negative ? -(time_t)seconds - (ns != 0) : (time_t)seconds;
    t->tv_nsec = negative && ns ? 1000000000 - ns : ns;
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * Blocks
 * ------------------------------------------------------------------------------------------- */

/* Exactly n bytes; *end: there was not one, which only a place between entries allows. */
static bool read_bytes(struct tar *t, void *to, size_t n, bool *end, struct error *err)
{
    size_t have = 0;
    while (have < n) {
        ssize_t got = stream_read(t->s, (uint8_t *)to + have, n - have, err);
        if (got < 0)
            return false;
        if (got == 0 && have == 0 && end) {
            *end = true;
            return true;
        }
        if (got == 0)
            return bad(t, "it ends too soon", err);
        have += (size_t)got;
    }
    return true;
}

static bool is_zero(const uint8_t *block)
{
    for (size_t i = 0; i < BLOCK; i++)
        if (block[i])
            return false;
    return true;
}

/* The sum of all bytes, the checksum's own counted as spaces; some old writers took them signed. */
static bool checksum_holds(const uint8_t *h)
{
    uint64_t want;
    int64_t is_unsigned = 0, is_signed = 0;
    for (int i = 0; i < BLOCK; i++) {
        uint8_t b = i >= AT_CHECKSUM && i < AT_CHECKSUM + 8 ? ' ' : h[i];
        is_unsigned += b;
        is_signed += (int8_t)b;
    }
    return header_number(h + AT_CHECKSUM, 8, &want) &&
           ((int64_t)want == is_unsigned || (int64_t)want == is_signed);
}

static unsigned padding_of(uint64_t size)
{
    return (unsigned)(-size % BLOCK);
}

/* ------------------------------------------------------------------------------------------- *
 * Sparse files
 * ------------------------------------------------------------------------------------------- */

static bool add_part(struct tar *t, uint64_t at, uint64_t size, struct error *err)
{
    if (t->part_count == TAR_SPARSE_MAX)
        return bad(t, "a sparse file has too many parts", err);
    if (t->part_count == t->part_capacity) {
        unsigned capacity = t->part_capacity ? t->part_capacity * 2 : 16;
        struct tar_part *more = realloc(t->parts, capacity * sizeof *more);
        if (!more)
            return no_memory(t, err);
        t->parts = more;
        t->part_capacity = capacity;
    }
    t->parts[t->part_count++] = (struct tar_part){at, size};
    return true;
}

/* Old GNU: pairs in the header, and in further blocks of 21. */
static bool read_gnu_pairs(struct tar *t, const uint8_t *p, unsigned count, struct error *err)
{
    for (unsigned i = 0; i < count; i++, p += 24) {
        uint64_t at, size;
        if (p[0] == 0 && p[12] == 0)
            return true;
        if (!header_number(p, 12, &at) || !header_number(p + 12, 12, &size))
            return bad(t, "a sparse file's map has a bad number", err);
        if (!add_part(t, at, size, err))
            return false;
    }
    return true;
}

static bool read_gnu_sparse(struct tar *t, const uint8_t *h, uint64_t *real_size, struct error *err)
{
    uint8_t block[BLOCK];
    if (!header_number(h + AT_GNU_REAL_SIZE, 12, real_size))
        return bad(t, "a sparse file's size is bad", err);
    bool ok = read_gnu_pairs(t, h + AT_GNU_SPARSE, 4, err);
    for (bool more = h[AT_GNU_EXTENDED]; ok && more; more = block[504])
        ok = read_bytes(t, block, BLOCK, NULL, err) && read_gnu_pairs(t, block, 21, err);
    return ok;
}

/* "1,2,3,4": sparse version 0.1. */
static bool parse_map(struct tar *t, const char *p, size_t size, struct error *err)
{
    uint64_t value[2];
    unsigned have = 0;
    for (const char *end = p + size; p < end;) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        size_t n = (size_t)((comma ? comma : end) - p);
        if (!decimal(p, n, &value[have]))
            return bad(t, "a sparse file's map has a bad number", err);
        p += n + 1;
        if (++have == 2 && !add_part(t, value[0], value[1], err))
            return false;
        have %= 2;
    }
    return have == 0 || bad(t, "a sparse file's map ends in the middle of a pair", err);
}

/* One decimal line of version 1.0's map, which the data begins with. */
static bool map_number(struct tar *t, uint64_t *value, struct error *err)
{
    char digits[24];
    for (size_t n = 0; n < sizeof digits && t->left; n++) {
        if (!read_bytes(t, digits + n, 1, NULL, err))
            return false;
        t->left--;
        if (digits[n] == '\n')
            return decimal(digits, n, value) || bad(t, "a sparse file's map has a bad number", err);
    }
    return bad(t, "a sparse file's map has a bad number", err);
}

static bool read_map_1(struct tar *t, struct error *err)
{
    uint64_t before = t->left, count, at, size;
    if (!map_number(t, &count, err))
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (!map_number(t, &at, err) || !map_number(t, &size, err) || !add_part(t, at, size, err))
            return false;
    unsigned rest = padding_of(before - t->left);
    if (rest > t->left)
        return bad(t, "a sparse file's map ends too soon", err);
    t->left -= rest;
    return stream_skip(t->s, rest, err);
}

/* Parts in order, apart, within the file, and as long together as what is stored. */
static bool check_parts(struct tar *t, struct error *err)
{
    uint64_t end = 0, sum = 0;
    for (unsigned i = 0; i < t->part_count; i++) {
        const struct tar_part *p = &t->parts[i];
        if (p->at < end || p->at > t->entry.size || p->size > t->entry.size - p->at)
            return bad(t, "a sparse file's parts overlap or lie outside of it", err);
        end = p->at + p->size;
        sum += p->size;
    }
    return sum == t->left || bad(t, "a sparse file's parts are not what is stored", err);
}

/* ------------------------------------------------------------------------------------------- *
 * pax records
 * ------------------------------------------------------------------------------------------- */

static bool set_text(struct tar *t, char **to, const char *value, size_t size, struct error *err)
{
    if (size > TAR_PATH_MAX || memchr(value, 0, size))
        return bad(t, "a name is too long or has a zero byte", err);
    free(*to);
    *to = strndup(value, size);
    return *to || no_memory(t, err);
}

static bool set_number(struct tar *t, uint64_t *to, bool *has, const char *value, size_t size,
                       struct error *err)
{
    *has = true;
    return decimal(value, size, to) || bad(t, "a pax record has a bad number", err);
}

static bool take_xattr(struct tar *t, const char *name, const char *value, size_t size,
                       struct error *err)
{
    if (t->xattr_count == TAR_XATTRS_MAX)
        return bad(t, "a file has too many extended attributes", err);
    t->xattrs[t->xattr_count++] = (struct tar_xattr){name, (const uint8_t *)value, size};
    return true;
}

/* The pairs of version 0.0, each in two records. */
static bool take_sparse_0(struct tar *t, bool offset, const char *value, size_t size,
                          struct error *err)
{
    uint64_t n;
    if (!decimal(value, size, &n) || offset == t->pair_begun)
        return bad(t, "a sparse file's map has a bad number", err);
    t->pair_begun = offset;
    if (offset)
        return add_part(t, n, 0, err);
    t->parts[t->part_count - 1].size = n;
    return true;
}

static bool take_sparse(struct tar *t, const char *key, const char *value, size_t size,
                        struct error *err)
{
    struct extended *x = &t->ext;
    if (strcmp(key, "major") == 0)
        x->sparse_1 = size == 1 && *value == '1';
    else if (strcmp(key, "name") == 0)
        return set_text(t, &x->sparse_name, value, size, err);
    else if (strcmp(key, "realsize") == 0 || strcmp(key, "size") == 0)
        return set_number(t, &x->real_size, &x->has_real_size, value, size, err);
    else if (strcmp(key, "map") == 0)
        return x->sparse = true, parse_map(t, value, size, err);
    else if (strcmp(key, "offset") == 0)
        return x->sparse = true, take_sparse_0(t, true, value, size, err);
    else if (strcmp(key, "numbytes") == 0)
        return take_sparse_0(t, false, value, size, err);
    return true;
}

/* One record, its key ended with a zero byte. Keys that say nothing to us are passed over, as the
 * standard wants. */
static bool take_record(struct tar *t, const char *key, const char *value, size_t size,
                        struct error *err)
{
    static const char xattr[] = "SCHILY.xattr.", sparse[] = "GNU.sparse.";
    struct extended *x = &t->ext;
    if (strcmp(key, "path") == 0)
        return set_text(t, &x->path, value, size, err);
    if (strcmp(key, "linkpath") == 0)
        return set_text(t, &x->link, value, size, err);
    if (strcmp(key, "size") == 0)
        return set_number(t, &x->size, &x->has_size, value, size, err);
    if (strcmp(key, "uid") == 0)
        return set_number(t, &x->uid, &x->has_uid, value, size, err);
    if (strcmp(key, "gid") == 0)
        return set_number(t, &x->gid, &x->has_gid, value, size, err);
    if (strcmp(key, "mtime") == 0) {
        x->has_mtime = decimal_time(value, size, &x->mtime);
        return x->has_mtime || bad(t, "a pax record has a bad time", err);
    }
    if (strncmp(key, xattr, sizeof xattr - 1) == 0)
        return take_xattr(t, key + sizeof xattr - 1, value, size, err);
    if (strncmp(key, sparse, sizeof sparse - 1) == 0)
        return take_sparse(t, key + sizeof sparse - 1, value, size, err);
    return true;
}

/* "LENGTH KEY=VALUE\n", LENGTH being that of the whole record. */
static bool parse_records(struct tar *t, size_t size, struct error *err)
{
    char *p = (char *)t->records, *end = p + size;
    while (p < end) {
        char *space = memchr(p, ' ', (size_t)(end - p));
        uint64_t length;
        if (!space || !decimal(p, (size_t)(space - p), &length) || length > (uint64_t)(end - p) ||
            length < (uint64_t)(space - p) + 3 || p[length - 1] != '\n')
            return bad(t, "a pax record has a bad length", err);
        char *key = space + 1, *last = p + length - 1;
        char *equals = memchr(key, '=', (size_t)(last - key));
        if (!equals || memchr(key, 0, (size_t)(equals - key)))
            return bad(t, "a pax record has no key", err);
        *equals = 0;
        if (!take_record(t, key, equals + 1, (size_t)(last - equals - 1), err))
            return false;
        p += length;
    }
    return true;
}

/* The data of an entry that describes the next one, with a zero byte behind it. */
static uint8_t *read_description(struct tar *t, uint64_t size, struct error *err)
{
    if (size > TAR_EXTENDED_MAX) {
        bad(t, "what describes an entry is too long", err);
        return NULL;
    }
    uint8_t *data = malloc((size_t)size + 1);
    if (!data) {
        no_memory(t, err);
        return NULL;
    }
    data[size] = 0;
    if (!read_bytes(t, data, (size_t)size, NULL, err) ||
        !stream_skip(t->s, padding_of(size), err)) {
        free(data);
        return NULL;
    }
    return data;
}

static bool read_pax(struct tar *t, uint64_t size, struct error *err)
{
    if (t->records)
        return bad(t, "an entry is described twice", err);
    t->records = read_description(t, size, err);
    return t->records && parse_records(t, (size_t)size, err);
}

static bool read_long_name(struct tar *t, char **to, uint64_t size, struct error *err)
{
    char *data = (char *)read_description(t, size, err);
    bool ok = data && set_text(t, to, data, strlen(data), err);
    free(data);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * Entries
 * ------------------------------------------------------------------------------------------- */

static enum tar_type type_of(uint8_t c, const char *name)
{
    size_t n = strlen(name);
    switch (c) {
    case 0:
    case '0':
    case '7':
    case 'S': return n && name[n - 1] == '/' && c == 0 ? TAR_FOLDER : TAR_FILE;
    case '1': return TAR_HARD_LINK;
    case '2': return TAR_SYMBOLIC_LINK;
    case '3': return TAR_CHARACTER;
    case '4': return TAR_BLOCK;
    case '5': return TAR_FOLDER;
    case '6': return TAR_FIFO;
    default: return TAR_OTHER;
    }
}

/* The name in the header: in two parts where the magic is POSIX's. */
static void header_name(struct tar *t, const uint8_t *h)
{
    size_t n = 0;
    if (memcmp(h + AT_MAGIC, "ustar", 6) == 0 && h[AT_PREFIX]) {
        n = strnlen((const char *)h + AT_PREFIX, SIZE_PREFIX);
        memcpy(t->name, h + AT_PREFIX, n);
        t->name[n++] = '/';
    }
    size_t m = strnlen((const char *)h + AT_NAME, SIZE_NAME);
    memcpy(t->name + n, h + AT_NAME, m);
    t->name[n + m] = 0;
    m = strnlen((const char *)h + AT_LINK, SIZE_NAME);
    memcpy(t->link, h + AT_LINK, m);
    t->link[m] = 0;
}

static bool header_ids(struct tar *t, const uint8_t *h, struct error *err)
{
    struct tar_entry *e = &t->entry;
    const struct extended *x = &t->ext;
    uint64_t uid, gid, mode, mtime, major = 0, minor = 0;
    if (!header_number(h + AT_MODE, 8, &mode) || !header_number(h + AT_MTIME, 12, &mtime) ||
        !header_number(h + AT_UID, 8, &uid) || !header_number(h + AT_GID, 8, &gid))
        return bad(t, "a header has a bad number", err);
    if ((e->type == TAR_CHARACTER || e->type == TAR_BLOCK) &&
        (!header_number(h + AT_MAJOR, 8, &major) || !header_number(h + AT_MINOR, 8, &minor)))
        return bad(t, "a device has a bad number", err);
    uid = x->has_uid ? x->uid : uid;
    gid = x->has_gid ? x->gid : gid;
    /* 2^32 - 1 is "no change" to chown(). */
    if (uid >= UINT32_MAX || gid >= UINT32_MAX || major > UINT32_MAX || minor > UINT32_MAX)
        return bad(t, "an owner or device is out of range", err);
    e->uid = (uint32_t)uid;
    e->gid = (uint32_t)gid;
    e->major = (uint32_t)major;
    e->minor = (uint32_t)minor;
    e->mode = (uint32_t)(mode & 07777);
    e->mtime = x->has_mtime ? x->mtime : (struct timespec){.tv_sec = (time_t)mtime};
    return true;
}

/* What is stored of the entry, and what file it makes. */
static bool entry_data(struct tar *t, const uint8_t *h, uint64_t size, struct error *err)
{
    struct tar_entry *e = &t->entry;
    struct extended *x = &t->ext;
    bool old_sparse = h[AT_TYPE] == 'S';
    t->left = x->has_size ? x->size : size;
    if (t->left > INT64_MAX)
        return bad(t, "a file is too large", err);
    t->padding = padding_of(t->left);
    e->size = x->has_real_size ? x->real_size : t->left;
    if ((x->sparse || x->sparse_1) && t->pair_begun)
        return bad(t, "a sparse file's map ends in the middle of a pair", err);
    if (old_sparse && !read_gnu_sparse(t, h, &e->size, err))
        return false;
    if (x->sparse_1 && !read_map_1(t, err))
        return false;
    if (e->size > INT64_MAX)
        return bad(t, "a file is too large", err);
    if (!old_sparse && !x->sparse && !x->sparse_1) {
        e->size = t->left;
        t->part_count = 0;
        if (t->left && !add_part(t, 0, t->left, err))
            return false;
    }
    e->parts = t->parts;
    e->part_count = t->part_count;
    return check_parts(t, err);
}

static void use_long_names(struct tar *t)
{
    const struct extended *x = &t->ext;
    const char *name = x->sparse_name ? x->sparse_name : x->path;
    if (name)
        snprintf(t->name, sizeof t->name, "%s", name);
    if (x->link)
        snprintf(t->link, sizeof t->link, "%s", x->link);
}

static bool take_entry(struct tar *t, const uint8_t *h, uint64_t size, struct error *err)
{
    struct tar_entry *e = &t->entry;
    header_name(t, h);
    use_long_names(t);
    *e = (struct tar_entry){
        .type = type_of(h[AT_TYPE], t->name),
        .name = t->name,
        .link = t->link,
        .xattrs = t->xattrs,
        .xattr_count = t->xattr_count,
    };
    /* Links and folders store nothing, whatever their size says: some writers put the size of the
     * link's target there (POSIX: "should be 0"; old pax archives of hard links may have data). */
    if (e->type == TAR_SYMBOLIC_LINK || e->type == TAR_FOLDER || e->type == TAR_HARD_LINK) {
        size = e->type == TAR_HARD_LINK && t->records ? size : 0;
        t->ext.has_size &= size != 0;
    }
    return header_ids(t, h, err) && entry_data(t, h, size, err);
}

static void forget(struct tar *t)
{
    free(t->ext.path);
    free(t->ext.link);
    free(t->ext.sparse_name);
    free(t->records);
    t->ext = (struct extended){0};
    t->records = NULL;
    t->xattr_count = t->part_count = 0;
    t->pair_begun = false;
}

/* One header; *done: it was an entry's, or the end (then t->entry.name is NULL). */
static bool read_header(struct tar *t, bool *done, struct error *err)
{
    uint8_t h[BLOCK];
    uint64_t size;
    bool end = false;
    if (!read_bytes(t, h, BLOCK, &end, err))
        return false;
    if (end || is_zero(h)) {
        t->entry.name = NULL;
        *done = true;
        return true;
    }
    if (!checksum_holds(h))
        return bad(t, "a header's checksum is wrong", err);
    if (!header_number(h + AT_SIZE, 12, &size))
        return bad(t, "a header has a bad size", err);
    switch (h[AT_TYPE]) {
    case 'x':
    case 'X': return read_pax(t, size, err);
    case 'L': return read_long_name(t, &t->ext.path, size, err);
    case 'K': return read_long_name(t, &t->ext.link, size, err);
    case 'g': { /* of the archive, not of a file: comments, mostly */
        uint8_t *data = read_description(t, size, err);
        free(data);
        return data != NULL;
    }
    default: *done = true; return take_entry(t, h, size, err);
    }
}

bool tar_next(struct tar *t, const struct tar_entry **e, struct error *err)
{
    if (!stream_skip(t->s, t->left, err) || !stream_skip(t->s, t->padding, err))
        return false;
    t->left = t->padding = 0;
    forget(t);
    for (bool done = false; !done;)
        if (!read_header(t, &done, err))
            return false;
    *e = t->entry.name ? &t->entry : NULL;
    return true;
}

ssize_t tar_read(struct tar *t, void *to, size_t n, struct error *err)
{
    if (n > t->left)
        n = (size_t)t->left;
    ssize_t got = n ? stream_read(t->s, to, n, err) : 0;
    if (n && got == 0) {
        bad(t, "it ends too soon", err);
        return -1;
    }
    if (got > 0)
        t->left -= (uint64_t)got;
    return got;
}

uint64_t tar_offset(const struct tar *t)
{
    return t->s->produced;
}

struct tar *tar_open(struct stream *s, struct error *err)
{
    struct tar *t = calloc(1, sizeof *t);
    if (t)
        t->s = s;
    else
        error_set(err, "%.200s: no memory left to read it", s->name);
    return t;
}

void tar_close(struct tar *t)
{
    if (!t)
        return;
    forget(t);
    free(t->parts);
    free(t);
}

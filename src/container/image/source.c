#include "container/image/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/image/layer.h"
#include "container/image/tar.h"
#include "container/image/tree.h"

/* An image has a few files for each layer. */
enum { MEMBERS_MAX = 1 << 16, LINKS_MAX = 8 };

struct member {
    char *name, *link; /* owned, both in layer_path()'s form; link: NULL for a file */
    uint64_t offset, size;
};

struct source {
    char *path;             /* owned; for errors */
    int folder;             /* -1: it is an archive */
    int file;               /* the archive, unpacked; -1 */
    struct member *members; /* sorted by name; of equal ones the last counts */
    size_t count, capacity;
};

/* ------------------------------------------------------------------------------------------- *
 * Archives
 * ------------------------------------------------------------------------------------------- */

/* Where a symbolic link in `name` leads. `..` is taken out as text: there is nothing else that a
 * folder of an archive could be. */
static char *link_target(const char *name, const char *link, struct error *err)
{
    char joined[2 * TAR_PATH_MAX + 2], path[TAR_PATH_MAX + 1];
    const char *slash = strrchr(name, '/');
    size_t n = 0;
    snprintf(joined, sizeof joined, "%.*s/%s", *link != '/' && slash ? (int)(slash - name) : 0,
             name, link);
    for (char *p = joined; *p;) {
        p += strspn(p, "/");
        size_t length = strcspn(p, "/");
        if (length == 2 && p[0] == '.' && p[1] == '.') {
            while (n && joined[--n] != '/')
                continue;
        } else if (length && !(length == 1 && *p == '.')) {
            if (n)
                joined[n++] = '/';
            memmove(joined + n, p, length);
            n += length;
        }
        p += length;
        if (!*p)
            break;
    }
    joined[n] = 0;
    return layer_path(joined, path, err) ? strdup(path) : NULL;
}

static bool add_member(struct source *s, struct tar *t, const struct tar_entry *e,
                       struct error *err)
{
    char path[TAR_PATH_MAX + 1];
    if (e->type != TAR_FILE && e->type != TAR_SYMBOLIC_LINK && e->type != TAR_HARD_LINK)
        return true;
    if (s->count == MEMBERS_MAX)
        return error_set(err, "%.200s: it has more than %d files; that is no image", s->path,
                         MEMBERS_MAX);
    if (s->count == s->capacity) {
        size_t capacity = s->capacity ? s->capacity * 2 : 64;
        struct member *more = realloc(s->members, capacity * sizeof *more);
        if (!more)
            return error_set(err, "%.200s: no memory left for its list of files", s->path);
        s->members = more;
        s->capacity = capacity;
    }
    if (!layer_path(e->name, path, err))
        return false;
    struct member *m = &s->members[s->count];
    *m = (struct member){.name = strdup(path), .offset = tar_offset(t), .size = e->size};
    if (!m->name)
        return error_set(err, "%.200s: no memory left for its list of files", s->path);
    s->count++;
    if (e->type == TAR_FILE)
        return e->part_count <= 1 || error_set(err,
                                               "%.200s: %.100s in it is a sparse file; make "
                                               "the archive without",
                                               s->path, e->name);
    m->link = e->type == TAR_SYMBOLIC_LINK     ? link_target(path, e->link, err)
              : layer_path(e->link, path, err) ? strdup(path)
                                               : NULL;
    return m->link != NULL ||
           error_set(err, "%.200s: %.100s in it links to nothing", s->path, e->name);
}

static int compare(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->offset > y->offset) - (x->offset < y->offset);
}

static struct member *find(struct source *s, const char *name)
{
    size_t low = 0, high = s->count;
    while (low < high) { /* the first that is greater */
        size_t middle = low + (high - low) / 2;
        if (strcmp(s->members[middle].name, name) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low && strcmp(s->members[low - 1].name, name) == 0 ? &s->members[low - 1] : NULL;
}

static bool list_members(struct source *s, struct stream *stream, struct error *err)
{
    const struct tar_entry *e = NULL;
    struct tar *t = tar_open(stream, err);
    bool ok = t != NULL;
    while (ok && (ok = tar_next(t, &e, err)) && e)
        ok = add_member(s, t, e, err);
    tar_close(t);
    if (ok && s->count == 0)
        ok = error_set(err, "%.200s: there is nothing in it; name an image", s->path);
    if (ok)
        qsort(s->members, s->count, sizeof *s->members, compare);
    return ok;
}

bool room_take(struct room *room, uint64_t bytes, struct error *err)
{
    if (!room || bytes <= room->bytes) {
        if (room)
            room->bytes -= bytes;
        return true;
    }
    return error_set(
        err, "image: it unpacks to more than is allowed; raise --unpack-limit if it is to be "
             "trusted");
}

/* Puts what comes out of the stream into a file of its own: only then can parts of it be found. */
static bool unpack(struct source *s, struct stream *from, int scratch, struct room *room,
                   struct error *err)
{
    char data[16 << 10];
    ssize_t n;
    int fd = openat(scratch, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_errno(err, "%.200s: no file to unpack it into", s->path);
    while ((n = stream_read(from, data, sizeof data, err)) > 0) {
        bool ok = room_take(room, (uint64_t)n, err);
        for (ssize_t done = 0, m; ok && done < n; done += m)
            if ((m = write(fd, data + done, (size_t)(n - done))) < 0)
                ok = error_errno(err, "%.200s: it can't be unpacked", s->path);
        if (!ok) {
            close(fd);
            return false;
        }
    }
    close(s->file);
    s->file = fd;
    return n == 0;
}

static bool open_archive(struct source *s, int scratch, struct room *room, struct error *err)
{
    struct stat st;
    struct stream *stream = malloc(sizeof *stream);
    if (!stream)
        return error_set(err, "%.200s: no memory left to read it", s->path);
    bool ok = fstat(s->file, &st) == 0 || error_errno(err, "%.200s", s->path);
    ok = ok && stream_open(stream, s->path, s->file, 0, (uint64_t)st.st_size, false, err);
    if (ok && stream->kind != STREAM_PLAIN) {
        ok = unpack(s, stream, scratch, room, err);
        stream_close(stream);
        ok = ok && (fstat(s->file, &st) == 0 || error_errno(err, "%.200s", s->path)) &&
             stream_open(stream, s->path, s->file, 0, (uint64_t)st.st_size, false, err);
    }
    ok = ok && list_members(s, stream, err);
    stream_close(stream);
    free(stream);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * Both kinds
 * ------------------------------------------------------------------------------------------- */

struct source *source_open(const char *path, int scratch, struct room *room, struct error *err)
{
    struct source *s = calloc(1, sizeof *s);
    char *copy = strdup(path);
    if (!s || !copy) {
        free(s);
        free(copy);
        error_set(err, "%.200s: no memory left to open it", path);
        return NULL;
    }
    *s = (struct source){.path = copy, .folder = -1, .file = -1};
    struct stat st;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    bool ok = fd >= 0 && fstat(fd, &st) == 0;
    if (!ok)
        error_errno(err, "%.200s", path);
    else if (S_ISDIR(st.st_mode))
        s->folder = fd, fd = -1;
    else if (!S_ISREG(st.st_mode))
        ok = error_set(err, "%.200s: neither a folder nor a file; name an image", path);
    else
        s->file = fd, fd = -1, ok = open_archive(s, scratch, room, err);
    if (fd >= 0)
        close(fd);
    if (ok)
        return s;
    source_close(s);
    return NULL;
}

void source_close(struct source *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++) {
        free(s->members[i].name);
        free(s->members[i].link);
    }
    free(s->members);
    if (s->folder >= 0)
        close(s->folder);
    if (s->file >= 0)
        close(s->file);
    free(s->path);
    free(s);
}

static bool missing(struct source *s, const char *name, struct error *err)
{
    return error_set(err, "%.200s: it has no %.200s; the image is not complete", s->path, name);
}

static bool find_in_folder(struct source *s, const char *name, struct source_file *f,
                           struct error *err)
{
    struct stat st;
    int fd = tree_open(s->folder, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0 && errno == ENOENT)
        return missing(s, name, err);
    if (fd < 0)
        return error_errno(err, "%.200s: its %.200s", s->path, name);
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return error_set(err, "%.200s: its %.200s is not a file; the image is damaged", s->path,
                         name);
    }
    *f = (struct source_file){fd, true, 0, (uint64_t)st.st_size};
    return true;
}

bool source_find(struct source *s, const char *name, struct source_file *f, struct error *err)
{
    char path[TAR_PATH_MAX + 1];
    if (!layer_path(name, path, err))
        return false;
    if (s->folder >= 0)
        return find_in_folder(s, path, f, err);
    struct member *m = find(s, path);
    for (int i = 0; m && m->link && i < LINKS_MAX; i++)
        m = find(s, m->link);
    if (!m || m->link)
        return missing(s, name, err);
    *f = (struct source_file){s->file, false, m->offset, m->size};
    return true;
}

bool source_has(struct source *s, const char *name)
{
    struct source_file f;
    struct error quiet = {0};
    bool has = source_find(s, name, &f, &quiet);
    if (has)
        source_file_close(&f);
    return has;
}

void source_file_close(struct source_file *f)
{
    if (f->owned)
        close(f->fd);
    f->owned = false;
}

char *source_read(struct source *s, const char *name, size_t most, size_t *size, struct error *err)
{
    struct source_file f;
    if (!source_find(s, name, &f, err))
        return NULL;
    char *data = NULL;
    if (f.size > most)
        error_set(err, "%.200s: its %.200s is larger than %zu bytes; that is not what it should be",
                  s->path, name, most);
    else if (!(data = malloc((size_t)f.size + 1)))
        error_set(err, "%.200s: no memory left for its %.200s", s->path, name);
    size_t have = 0;
    while (data && have < f.size) {
        ssize_t n = pread(f.fd, data + have, (size_t)f.size - have, (off_t)(f.offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            error_set(err, "%.200s: its %.200s ends too soon; the file is cut off", s->path, name);
            free(data);
            data = NULL;
            break;
        }
        have += (size_t)n;
    }
    source_file_close(&f);
    if (data)
        data[have] = 0;
    *size = have;
    return data;
}

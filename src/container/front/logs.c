/*
 * Reading a container's log back.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "container/front/log.h"
#include "container/front/record.h"

/* A line can't be longer than what the monitor reads at once; files that others damaged may have
 * any. */
enum { LINE_MAX_BYTES = 128 << 10 };

struct reader {
    const struct front_logs *how;
    int folder;
    FILE *out, *error, *log;
    bool line_begins[2]; /* per stream: a timestamp is due */
};

static void print_line(struct reader *r, const char *text, size_t size)
{
    struct log_line l;
    if (!log_parse(text, size, &l))
        return;
    FILE *to = l.is_error ? r->error : r->out;
    if (r->how->timestamps && r->line_begins[l.is_error])
        fprintf(to, "%.*s ", (int)l.time_size, l.time);
    fwrite(l.text, 1, l.text_size, to);
    if (!l.partial)
        fputc('\n', to);
    r->line_begins[l.is_error] = !l.partial;
}

/* Prints what whole lines there are from here on. */
static void print_rest(struct reader *r)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    clearerr(r->log);
    long before = ftell(r->log);
    while ((n = getline(&line, &capacity, r->log)) > 0 && n < LINE_MAX_BYTES) {
        if (line[n - 1] != '\n') { /* still being written */
            fseek(r->log, before, SEEK_SET);
            break;
        }
        print_line(r, line, (size_t)n - 1);
        before += n;
    }
    free(line);
    fflush(r->out);
    fflush(r->error);
}

/* How many lines of output there are from here on; at most `most` of them are passed. */
static uint64_t pass_lines(FILE *log, uint64_t most)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    uint64_t seen = 0;
    struct log_line l;
    while (log && seen < most && (n = getline(&line, &capacity, log)) > 0)
        seen += log_parse(line, (size_t)n - 1, &l) && !l.partial;
    free(line);
    return seen;
}

static void go_back(FILE *log)
{
    if (log)
        rewind(log);
}

/* Leaves both files at the beginning of the last `lines` lines of output. */
static void skip_to_tail(FILE *older, FILE *log, uint64_t lines)
{
    uint64_t total = pass_lines(older, UINT64_MAX) + pass_lines(log, UINT64_MAX);
    uint64_t skip = total > lines ? total - lines : 0;
    go_back(older);
    go_back(log);
    skip -= pass_lines(older, skip);
    pass_lines(log, skip);
}

static FILE *open_log(int folder, const char *name)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    FILE *log = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (fd >= 0 && !log)
        close(fd);
    return log;
}

static bool is_same(FILE *a, FILE *b)
{
    struct stat one, two;
    return fstat(fileno(a), &one) == 0 && fstat(fileno(b), &two) == 0 && one.st_ino == two.st_ino;
}

static bool watch(int changes, int fd, uint32_t events)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return inotify_add_watch(changes, path, events) >= 0;
}

/* Where the log was moved because it had grown: goes over to the new one. */
static bool turn(struct reader *r, int changes)
{
    FILE *next = open_log(r->folder, LOG_NAME);
    if (!next || is_same(next, r->log)) {
        if (next)
            fclose(next);
        return true;
    }
    print_rest(r);
    fclose(r->log);
    r->log = next;
    return watch(changes, fileno(r->log), IN_MODIFY);
}

/* Until the monitor, the log's only writer, has ended. */
static bool follow(struct reader *r, const struct record_process *monitor, struct error *err)
{
    int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), process = record_process_open(monitor);
    char events[4096];
    /* The folder tells of a new log, which comes a moment after the old one has gone. */
    bool ok = changes >= 0 && watch(changes, r->folder, IN_CREATE) &&
              watch(changes, fileno(r->log), IN_MODIFY);
    struct pollfd p[] = {{process, POLLIN, 0}, {changes, POLLIN, 0}};
    while (ok && process >= 0) {
        ok = turn(r, changes);
        print_rest(r); /* after the watch was made, so that nothing falls between */
        if (ok && poll(p, 2, -1) < 0)
            ok = errno == EINTR;
        while (read(changes, events, sizeof events) > 0)
            continue;
        if (p[0].revents)
            break;
    }
    ok = ok && turn(r, changes);
    print_rest(r);
    if (!ok)
        error_errno(err, "logs --follow: the log can't be watched");
    if (changes >= 0)
        close(changes);
    if (process >= 0)
        close(process);
    return ok;
}

/* What is there already: the older file first. One that was moved while we opened them is both. */
static void print_both(struct reader *r)
{
    FILE *newer = r->log, *older = open_log(r->folder, LOG_OLDER_NAME);
    if (older && is_same(older, newer)) {
        fclose(older);
        older = NULL;
    }
    if (r->how->tail)
        skip_to_tail(older, newer, r->how->lines);
    if (older) {
        r->log = older;
        print_rest(r);
        fclose(older);
        r->log = newer;
    }
    print_rest(r);
}

bool front_logs(const struct front *f, const char *name, const struct front_logs *how, FILE *out,
                FILE *error, struct error *err)
{
    struct front_record record;
    if (!record_load(f, name, &record, err))
        return false;
    int folder = record_folder(f, name, err);
    FILE *log = folder >= 0 ? open_log(folder, LOG_NAME) : NULL;
    bool ok = log != NULL;
    if (log) {
        struct reader r = {how, folder, out, error, log, {true, true}};
        print_both(&r);
        ok = !how->follow || follow(&r, &record.monitor, err);
        fclose(r.log);
    } else if (folder >= 0) {
        error_errno(err, "%.80s: its log", name);
    }
    if (folder >= 0)
        close(folder);
    record_free(&record);
    return ok;
}

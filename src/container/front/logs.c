/*
 * Reading a container's log back.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "container/front/log.h"
#include "container/front/record.h"

/* A line can't be longer than what the monitor reads at once; files that others damaged may have
 * any. */
enum { LINE_MAX_BYTES = 128 << 10 };

struct reader {
    const struct front_logs *how;
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

/* Leaves the log at the beginning of its last `lines` lines of output. */
static void skip_to_tail(struct reader *r)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    uint64_t total = 0, seen = 0;
    struct log_line l;
    while ((n = getline(&line, &capacity, r->log)) > 0)
        total += log_parse(line, (size_t)n - 1, &l) && !l.partial;
    rewind(r->log);
    uint64_t skip = total > r->how->lines ? total - r->how->lines : 0;
    while (seen < skip && (n = getline(&line, &capacity, r->log)) > 0)
        seen += log_parse(line, (size_t)n - 1, &l) && !l.partial;
    free(line);
}

/* Until the monitor, the log's only writer, has ended. */
static bool follow(struct reader *r, const struct record_process *monitor, struct error *err)
{
    int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), process = record_process_open(monitor);
    char path[64], events[4096];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(r->log));
    bool ok = changes >= 0 && inotify_add_watch(changes, path, IN_MODIFY) >= 0;
    if (!ok)
        error_errno(err, "logs --follow: the log can't be watched");
    struct pollfd p[] = {{process, POLLIN, 0}, {changes, POLLIN, 0}};
    while (ok && process >= 0) {
        print_rest(r); /* after the watch was made, so that nothing falls between */
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            ok = error_errno(err, "logs --follow");
        while (read(changes, events, sizeof events) > 0)
            continue;
        if (p[0].revents)
            break;
    }
    print_rest(r);
    if (changes >= 0)
        close(changes);
    if (process >= 0)
        close(process);
    return ok;
}

bool front_logs(const struct front *f, const char *name, const struct front_logs *how, FILE *out,
                FILE *error, struct error *err)
{
    struct front_record record;
    if (!record_load(f, name, &record, err))
        return false;
    int folder = record_folder(f, name, err);
    int fd = folder >= 0 ? openat(folder, "log", O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    FILE *log = fd >= 0 ? fdopen(fd, "r") : NULL;
    bool ok = log != NULL;
    if (log) {
        struct reader r = {how, out, error, log, {true, true}};
        if (how->tail)
            skip_to_tail(&r);
        if (how->follow)
            ok = follow(&r, &record.monitor, err);
        else
            print_rest(&r);
        fclose(log);
    } else if (folder >= 0) {
        error_errno(err, "%.80s: its log", name);
    }
    if (folder >= 0)
        close(folder);
    record_free(&record);
    return ok;
}

#include "container/front/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static bool write_pieces(int fd, struct iovec *v, int count)
{
    while (count) {
        ssize_t n = writev(fd, v, count);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        while (count && (size_t)n >= v->iov_len) {
            n -= (ssize_t)v->iov_len;
            v++;
            count--;
        }
        if (count) {
            v->iov_base = (char *)v->iov_base + n;
            v->iov_len -= (size_t)n;
        }
    }
    return true;
}

bool log_open(struct log_file *l, int folder, uint64_t limit)
{
    *l = (struct log_file){.folder = folder, .limit = limit};
    l->fd = openat(folder, LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return l->fd >= 0;
}

void log_close(struct log_file *l)
{
    if (l->fd >= 0)
        close(l->fd);
    l->fd = -1;
}

/* Whoever follows the log sees that it is moved, and reads the rest of it first. */
static bool turn(struct log_file *l)
{
    if (l->size < l->limit / 2)
        return true;
    struct log_file next;
    if (renameat(l->folder, LOG_NAME, l->folder, LOG_OLDER_NAME) != 0 ||
        !log_open(&next, l->folder, l->limit))
        return false;
    log_close(l);
    *l = next;
    return true;
}

bool log_append(struct log_file *l, const char *stream, const char *data, size_t size)
{
    struct timespec now;
    struct tm utc;
    char time[40];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t n = strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(time + n, sizeof time - n, ".%09ldZ", now.tv_nsec);
    while (size) {
        const char *end = memchr(data, '\n', size);
        size_t length = end ? (size_t)(end - data) : size;
        char head[80];
        int head_size = snprintf(head, sizeof head, "%s %s %c ", time, stream, end ? 'F' : 'P');
        struct iovec v[] = {{head, (size_t)head_size}, {(void *)data, length}, {(void *)"\n", 1}};
        if (!turn(l) || !write_pieces(l->fd, v, 3))
            return false;
        l->size += (size_t)head_size + length + 1;
        length += end != NULL;
        data += length;
        size -= length;
    }
    return true;
}

bool log_parse(const char *line, size_t size, struct log_line *l)
{
    const char *end = line + size;
    const char *stream = memchr(line, ' ', size);
    if (!stream || end - stream < 10)
        return false;
    stream++;
    l->is_error = memcmp(stream, "stderr ", 7) == 0;
    if (!l->is_error && memcmp(stream, "stdout ", 7) != 0)
        return false;
    if ((stream[7] != 'F' && stream[7] != 'P') || stream[8] != ' ')
        return false;
    l->partial = stream[7] == 'P';
    l->time = line;
    l->time_size = (size_t)(stream - 1 - line);
    l->text = stream + 9;
    l->text_size = (size_t)(end - l->text);
    return true;
}

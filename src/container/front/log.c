#include "container/front/log.h"

#include <errno.h>
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

bool log_append(int fd, const char *stream, const char *data, size_t size)
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
        if (!write_pieces(fd, v, 3))
            return false;
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

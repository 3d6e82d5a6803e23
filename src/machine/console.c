#include "machine/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- nothing ---- */

static bool null_start(struct console *c, struct loop *loop, const struct console_line *line,
                       struct error *err)
{
    return true;
}

static void null_transmit(struct console *c, const uint8_t *bytes, size_t n) {}

static void null_call(struct console *c) {}

const struct console console_null = {null_start, null_transmit, null_call, null_call};

/* ---- output ---- */

static struct console_fds *of(struct console *c)
{
    return (struct console_fds *)c; /* its first member */
}

/* Only memory is touched here: the loop's thread writes. What does not fit is dropped, so that the
 * oldest output, which a late reader needs first, is kept. */
static void transmit(struct console *console, const uint8_t *bytes, size_t n)
{
    struct console_fds *c = of(console);
    pthread_mutex_lock(&c->lock);
    bool was_empty = c->count == 0;
    for (size_t i = 0; i < n; i++) {
        if (c->count == CONSOLE_BUFFER) {
            c->dropped += n - i;
            break;
        }
        c->buffer[(c->head + c->count++) % CONSOLE_BUFFER] = bytes[i];
    }
    pthread_mutex_unlock(&c->lock);
    if (was_empty && n)
        loop_ask(c->flush);
}

/* The bytes that lie together at the buffer's head. They stay where they are while the lock is
 * free: only the loop's thread takes bytes out. */
static size_t pending(struct console_fds *c, const uint8_t **bytes)
{
    pthread_mutex_lock(&c->lock);
    *bytes = c->buffer + c->head;
    size_t n = c->count < CONSOLE_BUFFER - c->head ? c->count : CONSOLE_BUFFER - c->head;
    pthread_mutex_unlock(&c->lock);
    return n;
}

static void taken(struct console_fds *c, size_t n)
{
    pthread_mutex_lock(&c->lock);
    c->count -= n;
    c->head = c->count ? (c->head + n) % CONSOLE_BUFFER : 0;
    pthread_mutex_unlock(&c->lock);
}

/* Writes what is held. False when the rest must wait for the descriptor to be ready. */
static bool write_out(struct console_fds *c)
{
    const uint8_t *bytes;
    for (size_t n; (n = pending(c, &bytes)) > 0;) {
        ssize_t done = c->out_socket ? send(c->out, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL)
                                     : write(c->out, bytes, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return false;
        taken(c, done > 0 ? (size_t)done : n); /* nobody will ever take what failed */
    }
    return true;
}

static void flush(void *ctx)
{
    struct console_fds *c = ctx;
    if (c->out >= 0 && c->out_watch)
        loop_want(c->out_watch, write_out(c) ? 0 : LOOP_WRITE);
}

static void out_ready(void *ctx, unsigned events)
{
    flush(ctx);
}

/* ---- input ---- */

/* Hands over what waits, as far as the guest has room. */
static void hand_over(struct console_fds *c)
{
    size_t n = c->input_count ? c->line.receive(c->line.ctx, c->input, c->input_count) : 0;
    c->input_count -= n;
    memmove(c->input, c->input + n, c->input_count);
    if (c->in_watch)
        loop_want(c->in_watch, c->input_count == 0 || c->filter ? LOOP_READ : 0);
}

static void in_ready(void *ctx, unsigned events)
{
    struct console_fds *c = ctx;
    uint8_t bytes[256];
    ssize_t got = read(c->in, bytes, sizeof bytes);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got <= 0) {
        loop_unwatch(c->in_watch);
        c->in_watch = NULL;
        if (c->closed)
            c->closed(c->ctx);
        return;
    }
    size_t n = c->filter ? c->filter(c->ctx, bytes, (size_t)got) : (size_t)got;
    size_t room = CONSOLE_INPUT - c->input_count;
    n = n < room ? n : room;
    memcpy(c->input + c->input_count, bytes, n);
    c->input_count += n;
    hand_over(c);
}

static void wanted(struct console *console)
{
    hand_over(of(console));
}

/* ---- descriptors ---- */

/* A descriptor of our own for fd's file, non-blocking where that can be had without touching the
 * file description that others share. */
static int own_descriptor(int fd, bool *is_socket)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return -1;
    *is_socket = S_ISSOCK(st.st_mode);
    /* Not where it is non-blocking already; a pseudo-terminal's master could not be opened anew. */
    bool blocks = !(fcntl(fd, F_GETFL) & O_NONBLOCK);
    if (blocks && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode))) {
        char path[32];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        int anew = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (anew >= 0)
            return anew;
    }
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static bool watch(struct console_fds *c, struct error *err)
{
    if (c->in >= 0) {
        c->in_watch = loop_watch(c->loop, c->in, LOOP_READ, in_ready, c, err);
        if (!c->in_watch)
            return false;
    }
    if (c->out >= 0) {
        c->out_watch = loop_watch(c->loop, c->out, 0, out_ready, c, err);
        if (!c->out_watch)
            return false;
    }
    return true;
}

static void unwatch(struct console_fds *c)
{
    loop_unwatch(c->in_watch);
    loop_unwatch(c->out_watch);
    c->in_watch = c->out_watch = NULL;
}

void console_fds_attach(struct console_fds *c, int in, int out)
{
    unwatch(c);
    if (c->out >= 0)
        close(c->out);
    c->in = in;
    c->out = own_descriptor(out, &c->out_socket);
    if (c->loop && watch(c, NULL))
        flush(c);
}

/* ---- a run ---- */

static bool start(struct console *console, struct loop *loop, const struct console_line *line,
                  struct error *err)
{
    struct console_fds *c = of(console);
    c->flush = loop_task(loop, flush, c, err);
    if (!c->flush)
        return false;
    c->loop = loop;
    c->line = *line;
    return watch(c, err);
}

/* How long to wait for a reader at the end, in milliseconds: without progress, and in all. */
enum { STOP_STEP = 100, STOP_STEPS = 20 };

static void stop(struct console *console)
{
    struct console_fds *c = of(console);
    unwatch(c);
    loop_task_free(c->flush);
    c->flush = NULL;
    c->loop = NULL;
    for (unsigned i = 0; c->out >= 0 && i < STOP_STEPS && !write_out(c); i++) {
        struct pollfd p = {.fd = c->out, .events = POLLOUT};
        if (poll(&p, 1, STOP_STEP) <= 0)
            break;
    }
}

void console_fds_init(struct console_fds *c, int in, int out)
{
    c->console = (struct console){start, transmit, wanted, stop};
    c->filter = NULL;
    c->closed = NULL;
    c->loop = NULL;
    c->in_watch = c->out_watch = NULL;
    c->flush = NULL;
    c->input_count = c->head = c->count = 0;
    c->dropped = 0;
    c->out = -1;
    pthread_mutex_init(&c->lock, NULL);
    console_fds_attach(c, in, out);
}

void console_fds_destroy(struct console_fds *c)
{
    if (c->out >= 0)
        close(c->out);
    c->out = -1;
    pthread_mutex_destroy(&c->lock);
}

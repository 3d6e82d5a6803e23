#include "container/sync.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* As it goes over the wire. */
struct frame {
    int kind, number;
    char text[512];
};

bool sync_pair(int pair[2], struct error *err)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0 ||
           error_errno(err, "socket pair: can't be made");
}

bool sync_send(int socket, enum sync_kind kind, int number, int fd, const char *text)
{
    struct frame frame = {.kind = (int)kind, .number = number};
    size_t length = text ? strnlen(text, sizeof frame.text - 1) : 0;
    if (text)
        memcpy(frame.text, text, length);
    struct iovec part = {&frame, offsetof(struct frame, text) + length + 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n >= 0;
}

void sync_receive(int socket, struct sync_message *m)
{
    struct frame frame = {0};
    struct iovec part = {&frame, sizeof frame};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n;
    /* A peer that went without having read everything is told of first; what it sent comes after.
     */
    do
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    *m = (struct sync_message){.kind = SYNC_END, .fd = -1};
    if (n <= 0)
        return;
    m->kind = (enum sync_kind)frame.kind;
    m->number = frame.number;
    frame.text[sizeof frame.text - 1] = 0;
    memcpy(m->text, frame.text, sizeof m->text);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
        header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&m->fd, CMSG_DATA(header), sizeof m->fd);
}

bool sync_wait(int socket)
{
    struct sync_message m;
    sync_receive(socket, &m);
    if (m.fd >= 0)
        close(m.fd);
    return m.kind == SYNC_GO;
}

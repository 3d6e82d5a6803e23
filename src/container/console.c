#include "container/console.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* ---- in the container ---- */

static int open_master(struct error *err)
{
    struct stat st;
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0) {
        error_errno(err, "/dev/ptmx: can't be opened; mount a devpts on /dev/pts");
        return -1;
    }
    /* The image may have put anything there. */
    if (fstat(master, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2)) {
        error_set(err, "/dev/ptmx: is no terminal multiplexer; mount a devpts on /dev/pts");
        close(master);
        return -1;
    }
    return master;
}

static bool bind_console(int slave)
{
    int target = open("/dev/console",
                      O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_RDONLY | O_NONBLOCK | O_NOCTTY, 0600);
    if (target < 0 && errno != ENXIO && errno != ENODEV && errno != EIO)
        return false;
    if (target >= 0)
        close(target);
    target = open("/dev/console", O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int tree = open_tree(slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    bool ok =
        target >= 0 && tree >= 0 &&
        move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0;
    if (tree >= 0)
        close(tree);
    if (target >= 0)
        close(target);
    return ok;
}

static bool use_slave(int slave, bool bind, uid_t owner, struct error *err)
{
    if (owner != 0 && fchown(slave, owner, (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL)
        return error_errno(err, "terminal: can't be given to the user");
    if (bind && !bind_console(slave))
        return error_errno(err, "/dev/console: can't be made");
    if (ioctl(slave, TIOCSCTTY, 0) < 0)
        return error_errno(err, "terminal: can't be taken");
    for (int fd = 0; fd <= 2; fd++)
        if (dup2(slave, fd) < 0)
            return error_errno(err, "terminal: can't be used");
    return true;
}

int console_make(uint16_t rows, uint16_t columns, bool bind, uid_t owner, struct error *err)
{
    int unlocked = 0, master = open_master(err);
    if (master < 0)
        return -1;
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    int slave = ioctl(master, TIOCSPTLCK, &unlocked) < 0
                    ? -1
                    : ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    bool ok = slave >= 0 || error_errno(err, "terminal: can't be opened");
    if (ok && rows && columns)
        ioctl(master, TIOCSWINSZ, &size);
    ok = ok && use_slave(slave, bind, owner, err);
    if (slave > 2)
        close(slave);
    if (!ok) {
        close(master);
        return -1;
    }
    return master;
}

/* ---- handing it out ---- */

int console_connect(const char *path, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int pin = open(path, O_PATH | O_CLOEXEC);
    bool ok = fd >= 0 && pin >= 0;
    if (ok) {
        /* Paths of sockets are short; the way through the descriptor always is. */
        snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", pin);
        ok = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    }
    if (!ok)
        error_errno(err, "%s: can't be connected to", path);
    if (pin >= 0)
        close(pin);
    if (!ok && fd >= 0)
        close(fd);
    return ok ? fd : -1;
}

bool console_send(int socket, int master, struct error *err)
{
    static char name[] = "/dev/ptmx";
    struct iovec part = {name, sizeof name - 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof master),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &master, sizeof master);
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    return sendmsg(socket, &message, MSG_NOSIGNAL) >= 0 ||
           error_errno(err, "--console-socket: the terminal can't be sent");
}

/* ---- relaying ---- */

void console_block_signals(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
}

static void copy_size(int from, int to)
{
    struct winsize size;
    if (ioctl(from, TIOCGWINSZ, &size) == 0)
        ioctl(to, TIOCSWINSZ, &size);
}

static bool write_all(int fd, const char *text, ssize_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, (size_t)size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            struct pollfd room = {fd, POLLOUT, 0};
            poll(&room, 1, -1);
            continue;
        }
        if (n <= 0)
            return false;
        text += n;
        size -= n;
    }
    return true;
}

/* Copies what is there; false: there will be no more. */
static bool pass_on(int from, int to)
{
    char buffer[8192];
    ssize_t n = read(from, buffer, sizeof buffer);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return true;
    return n > 0 && write_all(to, buffer, n);
}

/* A child's end, or a signal for the container. True: pid has ended. */
static bool take_signal(int number, int master, pid_t pid, int *status)
{
    if (number == SIGCHLD) {
        pid_t ended;
        int how;
        while ((ended = waitpid(-1, &how, WNOHANG | __WALL)) > 0)
            if (ended == pid) {
                *status = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
                return true;
            }
        return ended < 0 && errno == ECHILD;
    }
    if (number == SIGWINCH && master >= 0)
        copy_size(STDIN_FILENO, master);
    else if (number != SIGURG && number != SIGPIPE)
        kill(pid, number);
    return false;
}

static int wait_with_signals(pid_t pid)
{
    sigset_t all;
    siginfo_t info;
    int status = 255;
    sigfillset(&all);
    for (;;) {
        int number = sigwaitinfo(&all, &info);
        if (number > 0 && take_signal(number, -1, pid, &status))
            return status;
    }
}

static int relay(int master, int signals, pid_t pid)
{
    struct pollfd fds[3] = {{signals, POLLIN, 0}, {master, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    int status = 255;
    bool ended = false;
    while (!ended) {
        struct signalfd_siginfo info;
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[1].revents && !pass_on(master, STDOUT_FILENO))
            fds[1].fd = -1;
        if (fds[2].revents && !pass_on(STDIN_FILENO, master))
            fds[2].fd = -1;
        if (fds[0].revents && read(signals, &info, sizeof info) == sizeof info)
            ended = take_signal((int)info.ssi_signo, master, pid, &status);
    }
    /* What it wrote last is still in the terminal. */
    struct pollfd rest = {master, POLLIN, 0};
    while (poll(&rest, 1, 0) > 0 && (rest.revents & POLLIN) && pass_on(master, STDOUT_FILENO))
        ;
    return status;
}

int console_relay(int master, pid_t pid)
{
    if (master < 0)
        return wait_with_signals(pid);
    struct termios old, raw;
    sigset_t all;
    sigfillset(&all);
    int signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    bool is_terminal = tcgetattr(STDIN_FILENO, &old) == 0;
    if (is_terminal) {
        raw = old;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        copy_size(STDIN_FILENO, master);
    }
    int status = signals < 0 ? wait_with_signals(pid) : relay(master, signals, pid);
    if (is_terminal)
        tcsetattr(STDIN_FILENO, TCSANOW, &old);
    if (signals >= 0)
        close(signals);
    return status;
}

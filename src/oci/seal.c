#include "oci/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* Those who can't write the file from outside can't from inside: a container gives nobody more
 * rights over the host's files than its maker has. */
static bool is_safe(int program)
{
    return fcntl(program, F_GET_SEALS) == SEALS ||
           (geteuid() != 0 && faccessat(AT_FDCWD, "/proc/self/exe", W_OK, AT_EACCESS) < 0);
}

static int copy(int program)
{
    struct stat st;
    int fd = memfd_create("doppel-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || fstat(program, &st) < 0)
        return fd;
    off_t left = st.st_size;
    while (left > 0) {
        ssize_t n = sendfile(fd, program, NULL, (size_t)left);
        if (n <= 0)
            break;
        left -= n;
    }
    if (left > 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool seal_ourselves(char **argv, struct error *err)
{
    int program = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (program < 0)
        return error_errno(err, "/proc/self/exe: can't be opened; is /proc mounted?");
    bool safe = is_safe(program);
    int sealed = safe ? -1 : copy(program);
    close(program);
    if (safe)
        return true;
    if (sealed >= 0)
        fexecve(sealed, argv, environ);
    error_errno(err, "doppel-oci: can't make a sealed copy of itself in memory");
    if (sealed >= 0)
        close(sealed);
    return false;
}

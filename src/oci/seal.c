#include "oci/seal.h"

#include <elf.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* Those who can't write the file from outside can't from inside: a container gives nobody more
 * rights over the host's files than its maker has. */
static bool is_safe(int program)
{
    struct statvfs fs;
    if (fstatvfs(program, &fs) == 0 && (fs.f_flag & ST_RDONLY))
        return true;
    return fcntl(program, F_GET_SEALS) == SEALS ||
           (geteuid() != 0 && faccessat(AT_FDCWD, "/proc/self/exe", W_OK, AT_EACCESS) < 0);
}

/* The file on a read-only mount of its own, which is in no mount namespace: nobody can change its
 * flags any more once our descriptor is closed, which execve() does. */
static int view(void)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};
    int tree = open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree >= 0 && mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0) {
        close(tree);
        return -1;
    }
    return tree;
}

/* How much of the file is ever loaded: what stands behind that is for debuggers. */
static off_t loaded_size(int program)
{
    Elf64_Ehdr header;
    Elf64_Phdr part;
    off_t end = 0;
    struct stat st;
    if (fstat(program, &st) < 0)
        return 0;
    if (pread(program, &header, sizeof header, 0) != sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
        return st.st_size;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        off_t at = (off_t)(header.e_phoff + i * sizeof part);
        if (pread(program, &part, sizeof part, at) != sizeof part)
            return st.st_size;
        off_t last = (off_t)(part.p_offset + part.p_filesz);
        end = last > end ? last : end;
    }
    return end < st.st_size ? end : st.st_size;
}

static int copy(int program)
{
    int fd = memfd_create("doppel-oci", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return fd;
    off_t left = loaded_size(program);
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
    int sealed = safe ? -1 : view();
    if (sealed >= 0)
        execveat(sealed, "", argv, environ, AT_EMPTY_PATH);
    if (sealed >= 0)
        close(sealed);
    sealed = safe ? -1 : copy(program);
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

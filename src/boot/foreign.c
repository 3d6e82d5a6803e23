/*
 * Files that are no kernel for us: what they are, and what to do instead.
 */
#include "boot/loaders.h"

static const struct foreign {
    uint32_t offset;
    const char *magic;
    uint8_t size;
    const char *what; /* "why; what to do" */
} table[] = {
    {0x38, "ARM\x64", 4, "a Linux image for ARM processors; give one for the x86"},
    {0x30, "RISCV", 5, "a Linux image for RISC-V processors; give one for the x86"},
    {0x24, "\x18\x28\x6f\x01", 4, "a Linux image for ARM processors; give one for the x86"},
    {0, "\x27\x05\x19\x56", 4, "a U-Boot image; give a bzImage or ELF kernel for the x86"},
    {0, "070701", 6, "an initramfs; give it with --initrd, and a kernel with --kernel"},
    {0, "QFI\xfb", 4, "a qcow2 disk image; give the kernel that is on it"},
    {0x8001, "CD001", 5, "an ISO 9660 image; give the kernel that is on it"},
    {0, "!<arch>\n", 8, "an archive (a Debian package?); unpack it and give the kernel in it"},
    {0, "PK\x03\x04", 4, "a ZIP archive; unpack it and give the kernel in it"},
    {0, "#!", 2, "a script; give a kernel"},
    {0, "MZ", 2, "an EFI or Windows program; give a bzImage or ELF kernel"},
    {0x1fe, "\x55\xaa", 2, "a disk or boot-sector image; give the kernel that is on it"},
    {257, "ustar", 5, "a tar archive; unpack it and give the kernel in it"},
};

bool foreign_refuse(const struct image *kernel, struct error *err)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        const struct foreign *f = &table[i];
        if (image_has(kernel, f->offset, f->size) &&
            memcmp(kernel->data + f->offset, f->magic, f->size) == 0)
            return error_set(err, "kernel %s: %s", kernel->path, f->what);
    }
    return error_set(err,
                     "kernel %s: not a kernel that is known; give a Linux bzImage, an ELF file for "
                     "the x86, or a Multiboot image",
                     kernel->path);
}

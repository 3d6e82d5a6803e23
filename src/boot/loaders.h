/*
 * What boot.c picks from, and what the loaders share; not for other rooms.
 */
#ifndef DOPPEL_BOOT_LOADERS_H
#define DOPPEL_BOOT_LOADERS_H

#include "boot/boot.h"
#include "boot/elf.h"
#include "boot/image.h"
#include "boot/place.h"

/* One run of boot_load(). */
struct load {
    const struct boot_options *options;
    struct place place;
    struct x86_state *state;
    struct scratch scratch;
    struct image kernel; /* empty once a module was loaded */
};

/* A Linux bzImage (Linux, Documentation/arch/x86/boot.rst). */
bool linux_is_image(const struct image *kernel);
bool linux_load_image(struct load *l, struct error *err);
/* An ELF file, entered as the Linux kernel proper is. */
bool linux_load_elf(struct load *l, struct error *err);

/* PVH (Xen, docs/misc/pvh.pandoc). */
bool pvh_is_elf(const struct elf *elf);
bool pvh_load(struct load *l, const struct elf *elf, struct error *err);

/* Multiboot 1 (the Multiboot Specification, version 0.6.96). */
bool multiboot_is_image(const struct image *kernel);
bool multiboot_load(struct load *l, struct error *err);

/* Says what a file is that no loader takes. Returns false. */
bool foreign_refuse(const struct image *kernel, struct error *err);

/* Writes the command line to PLACE_CMDLINE; max: the most characters the kernel takes. prefix: put
 * before it, with a space, or NULL. */
bool load_cmdline(struct load *l, const char *prefix, unsigned max, struct error *err);

/* Copies a module to the highest (top) or lowest place in [floor, limit). The kernel must be where
 * it belongs: its file's contents are given up, to make room. */
struct loaded_module {
    uint64_t gpa, size;
};
bool load_module(struct load *l, const char *what, const char *path, bool top, uint64_t floor,
                 uint64_t limit, struct loaded_module *out, struct error *err);

#endif

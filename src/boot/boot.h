/*
 * Ways into a guest: boot_load() puts a kernel and what it needs into guest memory and the boot
 * processor's registers where the kernel's boot protocol wants them. It picks the loader from the
 * file's contents.
 */
#ifndef DOPPEL_BOOT_BOOT_H
#define DOPPEL_BOOT_BOOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct memory;
struct x86_state;

/* How the kernel is entered, where there is a choice (--boot). */
enum boot_way {
    BOOT_AUTO,
    BOOT_PAYLOAD,   /* the kernel proper, unpacked on the host, at its ELF entry */
    BOOT_64,        /* a Linux image's own decompressor, at its 64-bit entry */
    BOOT_32,        /* the same at its 32-bit entry */
    BOOT_16,        /* the same at its real-mode setup code, as a BIOS's boot loader would */
    BOOT_PVH,       /* an ELF file's PVH entry */
    BOOT_MULTIBOOT, /* an image's Multiboot 1 entry */
    BOOT_WAYS,
};

/* The way's name on the command line, and the way of a name (BOOT_WAYS: no such). */
const char *boot_way_name(enum boot_way way);
enum boot_way boot_way_find(const char *name);

/* A span of guest-physical addresses as the E820 map describes it (ACPI 6.4, table 15.4). */
enum boot_range_type {
    BOOT_RANGE_RAM = 1,
    BOOT_RANGE_RESERVED = 2,
    BOOT_RANGE_ACPI = 3,
    BOOT_RANGE_NVS = 4,
};
struct boot_range {
    uint64_t gpa, size;
    uint32_t type; /* enum boot_range_type */
};

/* The most ranges that a map may have: what a Linux zero page holds. */
enum { BOOT_RANGES = 128 };

struct boot_module {
    const char *path;
    const char *args; /* may be NULL */
};

/* Strings and arrays are the caller's and are only read. */
struct boot_options {
    const char *kernel; /* path */
    const char *initrd; /* path, or NULL */
    const char *append; /* the command line, or NULL */
    const struct boot_module *modules;
    unsigned module_count;
    enum boot_way way;

    /* What the machine tells the guest: the memory map, sorted by address, and where ACPI's root
     * pointer is (0: none). */
    const struct boot_range *map;
    unsigned map_count;
    uint64_t rsdp;

    /* Random bytes for the guest's generator, or NULL. */
    const uint8_t *seed;
    size_t seed_size;
};

/* Loads the guest. *state comes in as after a reset and gets what the protocol demands. On failure
 * guest memory may have been written, and the guest must not be run. Can be called again for a
 * reboot. */
bool boot_load(struct memory *memory, const struct boot_options *options, struct x86_state *state,
               struct error *err);

#endif

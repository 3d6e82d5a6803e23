/*
 * Where things go in guest memory: writes checked against the memory map, and room found for
 * modules and initrds.
 */
#ifndef DOPPEL_BOOT_PLACE_H
#define DOPPEL_BOOT_PLACE_H

#include "boot/boot.h"
#include "boot/scratch.h"
#include "memory/memory.h"

/* Guest-physical addresses that the loaders use themselves, all below the 640 KiB that every PC
 * has, clear of the interrupt table and the BIOS data area (below 0x500) and the extended one. */
enum {
    PLACE_GDT = 0x1000,
    PLACE_PAGE_TABLES = 0x2000, /* six pages */
    PLACE_PARAMS = 0x8000,      /* zero page, PVH start info or Multiboot information: a page */
    PLACE_TABLES = 0x9000,      /* what the former points to */
    PLACE_TABLES_END = 0x10000,
    PLACE_CMDLINE = 0x20000,
    PLACE_CMDLINE_MAX = 0x10000, /* with its final 0 */
    PLACE_STACK = 0x80000,       /* grows down from here */
};

struct place {
    struct memory *memory;
    struct scratch *scratch; /* nothing is written over it; may be NULL */
    const struct boot_range *map;
    unsigned map_count;
    const char *kernel; /* path, for messages */
};

/* Whether all of [gpa, gpa + size) is usable RAM by the map. */
bool place_is_ram(const struct place *p, uint64_t gpa, uint64_t size);

/* The first byte behind the highest RAM below limit, or 0. */
uint64_t place_ram_end(const struct place *p, uint64_t limit);

/* Writes filesz bytes and zeros up to memsz. Refuses, with a sentence about the kernel, what is not
 * RAM. */
bool place_put(struct place *p, uint64_t gpa, const void *data, uint64_t filesz, uint64_t memsz,
               struct error *err);

/* That sentence: the kernel needs [gpa, gpa + size), which is not RAM. Returns false. */
bool place_refuse(const struct place *p, uint64_t gpa, uint64_t size, struct error *err);

/* The highest page-aligned address of size bytes of RAM in [floor, limit), and the lowest, or
 * UINT64_MAX: there is none. */
uint64_t place_find_top(const struct place *p, uint64_t size, uint64_t floor, uint64_t limit);
uint64_t place_find_low(const struct place *p, uint64_t size, uint64_t floor, uint64_t limit);

#endif

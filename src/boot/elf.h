/*
 * ELF executables of the x86: what the loaders need of them, checked against the file's end
 * (System V ABI, chapters 4 and 5).
 */
#ifndef DOPPEL_BOOT_ELF_H
#define DOPPEL_BOOT_ELF_H

#include "boot/image.h"
#include "boot/place.h"

struct elf_segment {
    uint32_t type; /* ELF_LOAD, ELF_NOTE, ... */
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

enum { ELF_LOAD = 1, ELF_NOTE = 4 };
enum { ELF_SEGMENTS = 64 };

struct elf {
    const struct image *image;
    bool is64;
    uint64_t entry; /* as the file has it */
    struct elf_segment segment[ELF_SEGMENTS];
    unsigned segment_count;
};

bool elf_is(const struct image *image);

/* Reads and checks the headers. */
bool elf_parse(struct elf *elf, const struct image *image, struct error *err);

/* Puts the loadable segments at their physical addresses; *end gets the first address behind all of
 * them. */
bool elf_load(const struct elf *elf, struct place *place, uint64_t *end, struct error *err);

/* The physical address of an address that lies in a loadable segment, taken as virtual where a
 * segment has it so, else as physical. False: it is in none. */
bool elf_physical(const struct elf *elf, uint64_t address, uint64_t *physical);

/* The description of the note with that owner and type: its offset in the file and its size, or
 * false. */
bool elf_note(const struct elf *elf, const char *owner, uint32_t type, uint64_t *offset,
              uint32_t *size);

#endif

/*
 * Multiboot 1 (the Multiboot Specification, version 0.6.96; field names are its own).
 */
#include <inttypes.h>

#include "boot/entry.h"
#include "boot/loaders.h"
#include "x86/state.h"

#define HEADER_MAGIC UINT32_C(0x1badb002)
#define LOADER_MAGIC UINT32_C(0x2badb002)

enum { HEADER_SEARCH = 8192, HEADER_SIZE = 12, HEADER_ADDRESSES = 32 };
enum { FLAG_ADDRESSES = 1 << 16, FLAGS_REQUIRED = 0xffff, FLAGS_KNOWN = 3 };

/* The information structure. */
enum {
    INFO_FLAGS = 0,
    INFO_MEM_LOWER = 4,
    INFO_MEM_UPPER = 8,
    INFO_CMDLINE = 16,
    INFO_MODS_COUNT = 20,
    INFO_MODS_ADDR = 24,
    INFO_MMAP_LENGTH = 44,
    INFO_MMAP_ADDR = 48,
    INFO_LOADER_NAME = 64,
    INFO_SIZE = 116,
};
enum { HAS_MEMORY = 1, HAS_CMDLINE = 4, HAS_MODS = 8, HAS_MMAP = 0x40, HAS_LOADER_NAME = 0x200 };

enum { MODULE_SIZE = 16, RANGE_SIZE = 24, MODULES_MAX = 64 };

/* Where the tables lie. */
enum {
    LOADER_NAME = PLACE_PARAMS + 0x80,
    MODS = PLACE_PARAMS + 0x100,
    MMAP = PLACE_TABLES,
    STRINGS = PLACE_TABLES + RANGE_SIZE * BOOT_RANGES,
};
_Static_assert(MODS + MODULE_SIZE * MODULES_MAX <= PLACE_TABLES, "the module list fits");

static bool find_header(const struct image *k, uint64_t *at)
{
    for (uint64_t i = 0; i + HEADER_SIZE <= HEADER_SEARCH && image_has(k, i, HEADER_SIZE); i += 4) {
        uint32_t magic = image_u32(k, i), flags = image_u32(k, i + 4);
        if (magic == HEADER_MAGIC && magic + flags + image_u32(k, i + 8) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

bool multiboot_is_image(const struct image *kernel)
{
    uint64_t at;
    return find_header(kernel, &at);
}

static bool bad(const struct load *l, struct error *err, const char *why)
{
    return error_set(err, "kernel %s: %s; give another file", l->kernel.path, why);
}

/* The header's own addresses, for images that are not ELF (the "a.out kludge"). */
static bool load_flat(struct load *l, uint64_t at, uint64_t *entry, uint64_t *end,
                      struct error *err)
{
    const struct image *k = &l->kernel;
    if (!image_has(k, at, HEADER_ADDRESSES))
        return bad(l, err, "the Multiboot header is truncated");
    uint32_t header = image_u32(k, at + 12), load = image_u32(k, at + 16);
    uint32_t load_end = image_u32(k, at + 20), bss_end = image_u32(k, at + 24);
    *entry = image_u32(k, at + 28);
    if (load > header || header - load > at)
        return bad(l, err, "the Multiboot header's addresses make no sense");
    uint64_t offset = at - (header - load);
    uint64_t filesz = load_end ? (uint64_t)load_end - load : k->size - offset;
    uint64_t memsz = bss_end ? (uint64_t)bss_end - load : filesz;
    if ((load_end && load_end < load) || (bss_end && bss_end < load))
        return bad(l, err, "the Multiboot header's addresses make no sense");
    if (!image_has(k, offset, filesz))
        return bad(l, err, "the Multiboot image is truncated");
    memsz = memsz < filesz ? filesz : memsz;
    *end = load + memsz;
    return place_put(&l->place, load, k->data + offset, filesz, memsz, err);
}

static bool load_elf(struct load *l, uint64_t *entry, uint64_t *end, struct error *err)
{
    struct elf elf;
    if (!elf_is(&l->kernel))
        return bad(l, err, "neither an ELF file nor are its addresses in the Multiboot header");
    if (!elf_parse(&elf, &l->kernel, err) || !elf_load(&elf, &l->place, end, err))
        return false;
    if (!elf_physical(&elf, elf.entry, entry))
        return bad(l, err, "its entry point is outside of it");
    return true;
}

/* Appends a string, "path args" or only one of them, to the table of strings; its address, or 0
 * when there is no more room. */
static uint32_t put_string(struct load *l, uint64_t *strings, const char *path, const char *args)
{
    uint64_t at = *strings, n = strlen(path), m = args ? strlen(args) + 1 : 0;
    if (n + m + 1 > PLACE_TABLES_END - at)
        return 0;
    memory_write(l->place.memory, at, path, n + 1);
    if (args) {
        memory_write(l->place.memory, at + n, " ", 1);
        memory_write(l->place.memory, at + n + 1, args, m);
    }
    *strings = at + n + m + 1;
    return (uint32_t)at;
}

/* The initrd is the first module; all lie behind the kernel, as other loaders have them. */
static bool load_modules(struct load *l, uint64_t floor, unsigned *count, struct error *err)
{
    const struct boot_options *o = l->options;
    uint64_t strings = STRINGS;
    unsigned total = o->module_count + (o->initrd ? 1 : 0);
    *count = total;
    if (total > MODULES_MAX)
        return error_usage(err, "--module: more than %d; leave some out", MODULES_MAX);
    for (unsigned i = 0; i < total; i++) {
        bool initrd = o->initrd && i == 0;
        const struct boot_module *m = initrd ? NULL : &o->modules[i - (o->initrd ? 1 : 0)];
        const char *path = initrd ? o->initrd : m->path;
        struct loaded_module at;
        if (!load_module(l, initrd ? "initrd" : "module", path, false, floor, MEMORY_LOW_TOP, &at,
                         err))
            return false;
        uint32_t string = put_string(l, &strings, path, m ? m->args : NULL);
        if (!string)
            return error_usage(err, "--module: names and arguments are too long; shorten them");
        uint8_t entry[MODULE_SIZE] = {0};
        store_u32(entry, (uint32_t)at.gpa);
        store_u32(entry + 4, (uint32_t)(at.gpa + at.size));
        store_u32(entry + 8, string);
        memory_write(l->place.memory, MODS + (uint64_t)i * MODULE_SIZE, entry, sizeof entry);
        floor = at.gpa + at.size;
    }
    return true;
}

/* The map's entries begin with their size without that field. Returns the table's size. */
static uint32_t write_map(struct load *l)
{
    uint8_t table[RANGE_SIZE * BOOT_RANGES] = {0};
    const struct boot_options *o = l->options;
    unsigned count = o->map_count < BOOT_RANGES ? o->map_count : BOOT_RANGES;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = table + (size_t)i * RANGE_SIZE;
        store_u32(entry, RANGE_SIZE - 4);
        store_u64(entry + 4, o->map[i].gpa);
        store_u64(entry + 12, o->map[i].size);
        store_u32(entry + 20, o->map[i].type);
    }
    memory_write(l->place.memory, MMAP, table, (uint64_t)count * RANGE_SIZE);
    return count * RANGE_SIZE;
}

/* KiB of RAM in one piece from gpa on, as the BIOS used to report them. */
static uint32_t ram_kib_from(const struct load *l, uint64_t gpa)
{
    for (unsigned i = 0; i < l->options->map_count; i++) {
        const struct boot_range *r = &l->options->map[i];
        if (r->type == BOOT_RANGE_RAM && gpa - r->gpa < r->size)
            return (uint32_t)((r->size - (gpa - r->gpa)) >> 10);
    }
    return 0;
}

static bool write_info(struct load *l, unsigned modules, struct error *err)
{
    static const char name[] = "doppel";
    uint8_t info[INFO_SIZE] = {0};
    store_u32(info + INFO_FLAGS,
              HAS_MEMORY | HAS_CMDLINE | HAS_MMAP | HAS_LOADER_NAME | (modules ? HAS_MODS : 0));
    store_u32(info + INFO_MEM_LOWER, ram_kib_from(l, 0));
    store_u32(info + INFO_MEM_UPPER, ram_kib_from(l, 0x100000));
    store_u32(info + INFO_CMDLINE, PLACE_CMDLINE);
    store_u32(info + INFO_MODS_COUNT, modules);
    store_u32(info + INFO_MODS_ADDR, MODS);
    store_u32(info + INFO_MMAP_LENGTH, write_map(l));
    store_u32(info + INFO_MMAP_ADDR, MMAP);
    store_u32(info + INFO_LOADER_NAME, LOADER_NAME);
    return place_put(&l->place, LOADER_NAME, name, sizeof name, sizeof name, err) &&
           place_put(&l->place, PLACE_PARAMS, info, sizeof info, sizeof info, err);
}

bool multiboot_load(struct load *l, struct error *err)
{
    uint64_t at, entry = 0, end = 0;
    unsigned modules;
    if (!find_header(&l->kernel, &at))
        return error_set(err, "kernel %s: has no Multiboot header; leave --boot out",
                         l->kernel.path);
    uint32_t flags = image_u32(&l->kernel, at + 4);
    /* A wish for a video mode (bit 2) is one that a loader may leave unfulfilled. */
    if (flags & FLAGS_REQUIRED & ~(FLAGS_KNOWN | 4u))
        return bad(l, err, "its Multiboot header demands features that there are none of");
    bool ok = flags & FLAG_ADDRESSES ? load_flat(l, at, &entry, &end, err)
                                     : load_elf(l, &entry, &end, err);
    if (!ok)
        return false;
    if (entry >= MEMORY_HIGH || !place_is_ram(&l->place, entry, 1))
        return bad(l, err, "its entry point is not in memory");
    /* Modules stay out of the low memory, where our tables are. */
    uint64_t floor = end > 0x100000 ? end : 0x100000;
    if (!load_modules(l, floor, &modules, err) ||
        !load_cmdline(l, l->kernel.path, PLACE_CMDLINE_MAX - 1, err) ||
        !write_info(l, modules, err))
        return false;
    entry_protected(l->place.memory, l->state, (uint32_t)entry);
    l->state->gpr[X86_RAX] = LOADER_MAGIC;
    l->state->gpr[X86_RBX] = PLACE_PARAMS;
    return true;
}

/*
 * PVH: an ELF file with a note that names its 32-bit entry, and a start-info structure (Xen,
 * xen/include/public/arch-x86/hvm/start_info.h; docs/misc/pvh.pandoc).
 */
#include "boot/entry.h"
#include "boot/loaders.h"
#include "x86/state.h"

enum { NOTE_PHYS32_ENTRY = 18, START_MAGIC = 0x336ec578 };

/* struct hvm_start_info, version 1. */
enum {
    START_VERSION = 4,
    START_NR_MODULES = 12,
    START_MODLIST = 16,
    START_CMDLINE = 24,
    START_RSDP = 32,
    START_MEMMAP = 40,
    START_MEMMAP_ENTRIES = 48,
    START_SIZE = 56,
};

/* struct hvm_modlist_entry and struct hvm_memmap_table_entry. */
enum { MODULE_SIZE = 32, RANGE_SIZE = 24, MODULES_MAX = 64 };

/* Where the tables lie: the modules behind the start info, in its page, the map and the modules'
 * command lines in the following ones. */
enum {
    MODLIST = PLACE_PARAMS + 0x100,
    MEMMAP = PLACE_TABLES,
    STRINGS = PLACE_TABLES + RANGE_SIZE * BOOT_RANGES,
};
_Static_assert(MODLIST + MODULE_SIZE * MODULES_MAX <= PLACE_TABLES, "the module list fits");

bool pvh_is_elf(const struct elf *elf)
{
    uint64_t offset;
    uint32_t size;
    return elf_note(elf, "Xen", NOTE_PHYS32_ENTRY, &offset, &size) && (size == 4 || size == 8);
}

static bool write_map(struct load *l)
{
    uint8_t table[RANGE_SIZE * BOOT_RANGES] = {0};
    const struct boot_options *o = l->options;
    unsigned count = o->map_count < BOOT_RANGES ? o->map_count : BOOT_RANGES;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = table + (size_t)i * RANGE_SIZE;
        store_u64(entry, o->map[i].gpa);
        store_u64(entry + 8, o->map[i].size);
        store_u32(entry + 16, o->map[i].type);
    }
    return memory_write(l->place.memory, MEMMAP, table, sizeof table);
}

/* Loads the initrd as the first module and --module's behind it. */
static bool load_modules(struct load *l, uint64_t floor, unsigned *count, struct error *err)
{
    const struct boot_options *o = l->options;
    uint64_t strings = STRINGS, limit = MEMORY_LOW_TOP;
    *count = 0;
    for (unsigned i = 0; i < o->module_count + (o->initrd ? 1 : 0); i++) {
        bool initrd = o->initrd && i == 0;
        const struct boot_module *m = initrd ? NULL : &o->modules[i - (o->initrd ? 1 : 0)];
        struct loaded_module at;
        uint8_t entry[MODULE_SIZE] = {0};
        if (i == MODULES_MAX)
            return error_usage(err, "--module: more than %d; leave some out", MODULES_MAX);
        if (!load_module(l, initrd ? "initrd" : "module", initrd ? o->initrd : m->path, true, floor,
                         limit, &at, err))
            return false;
        limit = at.gpa;
        store_u64(entry, at.gpa);
        store_u64(entry + 8, at.size);
        if (m && m->args) {
            size_t n = strlen(m->args) + 1;
            if (n > PLACE_TABLES_END - strings)
                return error_usage(err, "--module: the arguments are too long; shorten them");
            memory_write(l->place.memory, strings, m->args, n);
            store_u64(entry + 16, strings);
            strings += n;
        }
        memory_write(l->place.memory, MODLIST + (uint64_t)i * MODULE_SIZE, entry, sizeof entry);
        *count = i + 1;
    }
    return true;
}

bool pvh_load(struct load *l, const struct elf *elf, struct error *err)
{
    uint64_t offset, end, entry;
    uint32_t size;
    unsigned modules;
    if (!elf_note(elf, "Xen", NOTE_PHYS32_ENTRY, &offset, &size) || (size != 4 && size != 8))
        return error_set(err, "kernel %s: has no PVH entry; leave --boot out", l->kernel.path);
    entry = size == 8 ? image_u64(&l->kernel, offset) : image_u32(&l->kernel, offset);
    if (!elf_load(elf, &l->place, &end, err))
        return false;
    if (entry >= MEMORY_HIGH || !place_is_ram(&l->place, entry, 1))
        return error_set(err, "kernel %s: its PVH entry is not in memory; give another file",
                         l->kernel.path);
    if (!load_modules(l, end, &modules, err) || !load_cmdline(l, NULL, PLACE_CMDLINE_MAX - 1, err))
        return false;

    uint8_t start[START_SIZE] = {0};
    store_u32(start, START_MAGIC);
    store_u32(start + START_VERSION, 1);
    store_u32(start + START_NR_MODULES, modules);
    store_u64(start + START_MODLIST, modules ? MODLIST : 0);
    store_u64(start + START_CMDLINE, PLACE_CMDLINE);
    store_u64(start + START_RSDP, l->options->rsdp);
    store_u64(start + START_MEMMAP, MEMMAP);
    store_u32(start + START_MEMMAP_ENTRIES, l->options->map_count);
    if (!write_map(l) ||
        !place_put(&l->place, PLACE_PARAMS, start, sizeof start, sizeof start, err))
        return false;
    entry_protected(l->place.memory, l->state, (uint32_t)entry);
    l->state->gpr[X86_RBX] = PLACE_PARAMS;
    return true;
}

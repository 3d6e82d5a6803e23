#include "boot/boot.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "boot/loaders.h"
#include "boot/unpack.h"
#include "x86/state.h"

static const char *const way_names[BOOT_WAYS] = {
    [BOOT_AUTO] = "auto",
    [BOOT_PAYLOAD] = "payload",
    [BOOT_64] = "64",
    [BOOT_32] = "32",
    [BOOT_16] = "16",
    [BOOT_PVH] = "pvh",
    [BOOT_MULTIBOOT] = "multiboot",
};

const char *boot_way_name(enum boot_way way)
{
    return way < BOOT_WAYS ? way_names[way] : "?";
}

enum boot_way boot_way_find(const char *name)
{
    unsigned way = 0;
    while (way < BOOT_WAYS && strcmp(name, way_names[way]) != 0)
        way++;
    return (enum boot_way)way;
}

bool load_cmdline(struct load *l, const char *prefix, unsigned max, struct error *err)
{
    const char *append = l->options->append ? l->options->append : "";
    struct memory *m = l->place.memory;
    uint64_t n = strlen(append), before = prefix ? strlen(prefix) + 1 : 0;
    uint64_t limit = max < PLACE_CMDLINE_MAX - 1 ? max : PLACE_CMDLINE_MAX - 1;
    if (before + n > limit)
        return error_usage(err,
                           "--append: its %" PRIu64 " characters are more than the %" PRIu64
                           " that the kernel takes; shorten it",
                           n, before < limit ? limit - before : 0);
    bool ok = true;
    if (prefix)
        ok = memory_write(m, PLACE_CMDLINE, prefix, before - 1) &&
             memory_write(m, PLACE_CMDLINE + before - 1, " ", 1);
    if (!ok || !memory_write(m, PLACE_CMDLINE + before, append, n + 1))
        return place_refuse(&l->place, PLACE_CMDLINE, before + n + 1, err);
    return true;
}

static void forget_kernel(struct load *l)
{
    l->kernel.data = NULL;
    l->kernel.size = 0;
    scratch_close(&l->scratch);
}

bool load_module(struct load *l, const char *what, const char *path, bool top, uint64_t floor,
                 uint64_t limit, struct loaded_module *out, struct error *err)
{
    uint64_t size, have = l->place.memory->size;
    forget_kernel(l);
    int fd = image_open(what, path, have, &size, err);
    if (fd < 0)
        return false;
    uint64_t at = top ? place_find_top(&l->place, size, floor, limit)
                      : place_find_low(&l->place, size, floor, limit);
    bool ok = at == UINT64_MAX
                  ? error_set(err,
                              "%s %s: its %" PRIu64 " MiB do not fit beside the kernel into the "
                              "guest's %" PRIu64 " MiB; raise --memory",
                              what, path, (size + 0xfffff) >> 20, have >> 20)
                  : image_copy(l->place.memory, at, fd, what, path, &size, err);
    close(fd);
    *out = (struct loaded_module){.gpa = at, .size = size};
    return ok;
}

static bool load_elf_file(struct load *l, struct error *err)
{
    struct elf elf;
    enum boot_way way = l->options->way;
    if (!elf_parse(&elf, &l->kernel, err))
        return false;
    if (way == BOOT_PVH || (way == BOOT_AUTO && pvh_is_elf(&elf)))
        return pvh_load(l, &elf, err);
    if (way == BOOT_AUTO || way == BOOT_PAYLOAD)
        return linux_load_elf(l, err);
    return error_usage(err, "--boot %s: kernel %s is an ELF file; leave the option out",
                       boot_way_name(way), l->kernel.path);
}

/* Multiboot comes before PVH, and PVH before the plain ELF entry: a file that carries a header or a
 * note means it. */
static bool pick_loader(struct load *l, struct error *err)
{
    enum boot_way way = l->options->way;
    if (linux_is_image(&l->kernel) && way != BOOT_MULTIBOOT && way != BOOT_PVH)
        return linux_load_image(l, err);
    if (way == BOOT_MULTIBOOT || (way == BOOT_AUTO && multiboot_is_image(&l->kernel)))
        return multiboot_load(l, err);
    if (elf_is(&l->kernel))
        return load_elf_file(l, err);
    return foreign_refuse(&l->kernel, err);
}

/* A kernel that is compressed as a whole (vmlinux.gz, a Multiboot kernel for GRUB) is unpacked. */
static bool unpack_kernel(struct load *l, struct error *err)
{
    struct image *k = &l->kernel;
    if (linux_is_image(k) || !unpack_format(k->data, k->size))
        return true;
    char what[256];
    snprintf(what, sizeof what, "kernel %s", k->path);
    if (!unpack(&l->scratch, k->data, k->size, 0, l->place.memory->size, what, &k->data, &k->size,
                err))
        return false;
    if (k->size == 0)
        return error_set(err, "%s: unpacks to nothing; give another file", what);
    return true;
}

static bool load_with_scratch(struct load *l, struct error *err)
{
    l->place.scratch = &l->scratch;
    bool ok = image_read(&l->kernel, "kernel", l->options->kernel, l->place.memory->size,
                         &l->scratch, err) &&
              unpack_kernel(l, err) && pick_loader(l, err);
    forget_kernel(l);
    return ok;
}

bool boot_load(struct memory *memory, const struct boot_options *options, struct x86_state *state,
               struct error *err)
{
    const struct x86_state reset = *state;
    struct load l = {
        .options = options,
        .place = {.memory = memory,
                  .map = options->map,
                  .map_count = options->map_count,
                  .kernel = options->kernel},
        .state = state,
    };
    if (!place_is_ram(&l.place, 0, PLACE_STACK))
        return error_set(err, "memory: too little for a boot loader; raise --memory to 1M");
    scratch_init(&l.scratch, memory, options->map, options->map_count);
    if (load_with_scratch(&l, err))
        return true;
    if (!l.scratch.insufficient)
        return false;
    *state = reset;
    if (err)
        *err = (struct error){0};
    l.scratch = (struct scratch){0};
    return load_with_scratch(&l, err);
}

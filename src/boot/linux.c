/*
 * Linux, by its x86 boot protocol (Linux, Documentation/arch/x86/boot.rst; field names are that
 * document's). Fastest is to unpack the kernel proper on the host and to enter it as its own
 * decompressor would; the decompressor itself, at any of its entries, is there for what can't be
 * unpacked and for who asks for it.
 *
 * The kernel proper is put at its preferred address. It was linked for that, so the relocations
 * behind it in the payload (for kernels that want to be elsewhere) are not needed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "boot/bios.h"
#include "boot/entry.h"
#include "boot/loaders.h"
#include "boot/unpack.h"
#include "x86/state.h"

/* The zero page, struct boot_params. */
enum {
    PARAMS_ACPI_RSDP_ADDR = 0x70,
    PARAMS_E820_ENTRIES = 0x1e8,
    PARAMS_HEADER = 0x1f1,
    PARAMS_HEADER_END = 0x290,
    PARAMS_E820_TABLE = 0x2d0,
    PARAMS_SIZE = 0x1000,
};

/* The setup header, at the same offsets in the file and in the zero page. */
enum {
    HDR_SETUP_SECTS = 0x1f1,
    HDR_SYSSIZE = 0x1f4,
    HDR_BOOT_FLAG = 0x1fe,
    HDR_JUMP_LENGTH = 0x201,
    HDR_MAGIC = 0x202,
    HDR_VERSION = 0x206,
    HDR_TYPE_OF_LOADER = 0x210,
    HDR_LOADFLAGS = 0x211,
    HDR_CODE32_START = 0x214,
    HDR_RAMDISK_IMAGE = 0x218,
    HDR_RAMDISK_SIZE = 0x21c,
    HDR_HEAP_END_PTR = 0x224,
    HDR_CMD_LINE_PTR = 0x228,
    HDR_INITRD_ADDR_MAX = 0x22c,
    HDR_RELOCATABLE = 0x234,
    HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238,
    HDR_PAYLOAD_OFFSET = 0x248,
    HDR_PAYLOAD_LENGTH = 0x24c,
    HDR_SETUP_DATA = 0x250,
    HDR_PREF_ADDRESS = 0x258,
    HDR_INIT_SIZE = 0x260,
};

#define HDR_MAGIC_VALUE UINT32_C(0x53726448) /* "HdrS" */

enum { LOADED_HIGH = 1, CAN_USE_HEAP = 0x80, XLF_KERNEL_64 = 1, LOADER_UNDEFINED = 0xff };
enum { SECTOR = 512, SETUP_RNG_SEED = 9 };

/* The real-mode code's segment, and in it: the heap's end and the command line. */
enum { REAL_SEGMENT = 0x9000, REAL_HEAP_END = 0xe000, REAL_CMDLINE = 0x9e000 };

/* Limits of what a protocol version before the field's has. */
enum { OLD_CMDLINE_SIZE = 255, OLD_INITRD_MAX = 0x37ffffff, NEW_INITRD_MAX = 0x7fffffff };

/* What a bzImage's header says. */
struct bzimage {
    uint16_t version;
    uint64_t setup_size;            /* bytes of real-mode code, with the boot sector */
    uint64_t body, body_size;       /* the protected-mode code in the file */
    uint64_t payload, payload_size; /* in the file; 0: the header does not say */
    uint64_t load;                  /* where the protected-mode code goes */
    uint64_t init_size;             /* the memory it needs from there on */
    bool has64;                     /* it has the 64-bit entry */
    unsigned cmdline_max;
    uint64_t initrd_max;
};

/* What is handed to the kernel. */
struct params {
    uint8_t page[PARAMS_SIZE];
};

bool linux_is_image(const struct image *kernel)
{
    return image_u32(kernel, HDR_MAGIC) == HDR_MAGIC_VALUE &&
           image_u16(kernel, HDR_BOOT_FLAG) == 0xaa55;
}

static bool bad(const struct image *kernel, struct error *err, const char *why)
{
    return error_set(err, "kernel %s: %s", kernel->path, why);
}

static bool parse_image(struct bzimage *b, const struct image *k, struct error *err)
{
    enum {
        V2_00 = 0x200,
        V2_03 = 0x203,
        V2_06 = 0x206,
        V2_08 = 0x208,
        V2_10 = 0x20a,
        V2_12 = 0x20c
    };
    *b = (struct bzimage){.version = image_u16(k, HDR_VERSION)};
    if (k->size < HDR_INIT_SIZE + 4)
        return bad(k, err, "the Linux image is truncated; fetch it again");
    if (b->version < V2_00 || !(image_u8(k, HDR_LOADFLAGS) & LOADED_HIGH))
        return bad(k, err, "a zImage, older than Linux 2.4's bzImage; give a newer kernel");

    unsigned sectors = image_u8(k, HDR_SETUP_SECTS);
    b->setup_size = (uint64_t)((sectors ? sectors : 4) + 1) * SECTOR;
    uint64_t stated = (uint64_t)image_u32(k, HDR_SYSSIZE) * 16;
    /* The size is stated in units of 16 bytes, rounded up. */
    if (k->size <= b->setup_size || k->size - b->setup_size + 15 < stated)
        return bad(k, err, "the Linux image is truncated; fetch it again");
    b->body = b->setup_size;
    b->body_size = k->size - b->setup_size;

    if (b->version >= V2_08 && image_u32(k, HDR_PAYLOAD_LENGTH)) {
        b->payload = b->body + image_u32(k, HDR_PAYLOAD_OFFSET);
        b->payload_size = image_u32(k, HDR_PAYLOAD_LENGTH);
        if (!image_has(k, b->payload, b->payload_size))
            return bad(k, err, "the Linux image is truncated; fetch it again");
    }
    bool relocatable = b->version >= V2_10 && image_u8(k, HDR_RELOCATABLE);
    b->load = relocatable ? image_u64(k, HDR_PREF_ADDRESS) : 0x100000;
    b->init_size = b->version >= V2_10 ? image_u32(k, HDR_INIT_SIZE) : 0;
    if (b->init_size < b->body_size)
        b->init_size = b->body_size;
    b->has64 = b->version >= V2_12 && (image_u16(k, HDR_XLOADFLAGS) & XLF_KERNEL_64);
    b->cmdline_max = b->version >= V2_06 ? image_u32(k, HDR_CMDLINE_SIZE) : OLD_CMDLINE_SIZE;
    b->initrd_max = b->version >= V2_03 ? image_u32(k, HDR_INITRD_ADDR_MAX) : OLD_INITRD_MAX;
    return true;
}

/* ------------------------------------------------------------------------------------------- *
 * The zero page
 * ------------------------------------------------------------------------------------------- */

static void params_from_image(struct params *p, const struct image *k)
{
    memset(p, 0, sizeof *p);
    uint64_t end = HDR_MAGIC + (uint64_t)image_u8(k, HDR_JUMP_LENGTH);
    if (end > PARAMS_HEADER_END)
        end = PARAMS_HEADER_END;
    if (image_has(k, PARAMS_HEADER, end - PARAMS_HEADER))
        memcpy(p->page + PARAMS_HEADER, k->data + PARAMS_HEADER, end - PARAMS_HEADER);
}

/* For a kernel that comes without a header of its own. */
static void params_from_nothing(struct params *p)
{
    memset(p, 0, sizeof *p);
    store_u16(p->page + HDR_BOOT_FLAG, 0xaa55);
    store_u32(p->page + HDR_MAGIC, HDR_MAGIC_VALUE);
    store_u16(p->page + HDR_VERSION, 0x20f);
    store_u8(p->page + HDR_LOADFLAGS, LOADED_HIGH);
}

static void params_e820(struct params *p, const struct load *l)
{
    const struct boot_options *o = l->options;
    unsigned count = o->map_count < BOOT_RANGES ? o->map_count : BOOT_RANGES;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *entry = p->page + PARAMS_E820_TABLE + (size_t)i * 20;
        store_u64(entry, o->map[i].gpa);
        store_u64(entry + 8, o->map[i].size);
        store_u32(entry + 16, o->map[i].type);
    }
    store_u8(p->page + PARAMS_E820_ENTRIES, (uint8_t)count);
}

/* struct setup_data: next, type, length, bytes. */
static void params_seed(struct params *p, struct load *l)
{
    enum { HEAD = 16 };
    uint8_t node[HEAD + 64] = {0};
    size_t n = l->options->seed_size < 64 ? l->options->seed_size : 64;
    if (!l->options->seed || load_u16(p->page + HDR_VERSION) < 0x209)
        return;
    store_u32(node + 8, SETUP_RNG_SEED);
    store_u32(node + 12, (uint32_t)n);
    memcpy(node + HEAD, l->options->seed, n);
    if (memory_write(l->place.memory, PLACE_TABLES, node, HEAD + n))
        store_u64(p->page + HDR_SETUP_DATA, PLACE_TABLES);
}

static bool params_initrd(struct params *p, struct load *l, uint64_t floor, uint64_t max,
                          struct error *err)
{
    if (!l->options->initrd)
        return true;
    struct loaded_module initrd;
    uint64_t limit = max + 1 < MEMORY_HIGH ? max + 1 : MEMORY_HIGH;
    if (!load_module(l, "initrd", l->options->initrd, true, floor, limit, &initrd, err))
        return false;
    store_u32(p->page + HDR_RAMDISK_IMAGE, (uint32_t)initrd.gpa);
    store_u32(p->page + HDR_RAMDISK_SIZE, (uint32_t)initrd.size);
    return true;
}

/* Fills in what every entry but the real-mode one is given, and writes it. kernel_end: the first
 * address that the kernel leaves free. */
static bool params_finish(struct params *p, struct load *l, uint64_t kernel_end, unsigned cmdline,
                          uint64_t initrd_max, struct error *err)
{
    params_e820(p, l);
    params_seed(p, l);
    store_u8(p->page + HDR_TYPE_OF_LOADER, LOADER_UNDEFINED);
    store_u64(p->page + PARAMS_ACPI_RSDP_ADDR, l->options->rsdp);
    store_u32(p->page + HDR_CMD_LINE_PTR, PLACE_CMDLINE);
    if (!params_initrd(p, l, kernel_end, initrd_max, err) || !load_cmdline(l, NULL, cmdline, err))
        return false;
    return place_put(&l->place, PLACE_PARAMS, p->page, sizeof p->page, sizeof p->page, err);
}

static void enter(struct load *l, bool is64, uint64_t entry)
{
    if (is64)
        entry_long(l->place.memory, l->state, entry);
    else
        entry_protected(l->place.memory, l->state, (uint32_t)entry);
    l->state->gpr[X86_RSI] = PLACE_PARAMS;
}

/* ------------------------------------------------------------------------------------------- *
 * The kernel proper
 * ------------------------------------------------------------------------------------------- */

/* Loads an ELF kernel and finds its entry. */
static bool load_elf(struct load *l, const struct elf *elf, uint64_t *entry, uint64_t *end,
                     struct error *err)
{
    if (!elf_load(elf, &l->place, end, err))
        return false;
    if (!elf_physical(elf, elf->entry, entry) || *entry >= MEMORY_HIGH)
        return bad(&l->kernel, err, "its entry point is outside of it; give another file");
    return true;
}

bool linux_load_elf(struct load *l, struct error *err)
{
    struct elf elf;
    struct params p;
    uint64_t entry, end;
    params_from_nothing(&p);
    if (!elf_parse(&elf, &l->kernel, err) || !load_elf(l, &elf, &entry, &end, err) ||
        !params_finish(&p, l, end, PLACE_CMDLINE_MAX - 1, NEW_INITRD_MAX, err))
        return false;
    enter(l, elf.is64, entry);
    return true;
}

/* Unpacks the payload; packed or not, it is preceded by nothing and followed by its unpacked size
 * (which gzip's own trailer is, too). */
static bool unpack_payload(struct load *l, const struct bzimage *b, struct image *out,
                           struct error *err)
{
    uint8_t *data = l->kernel.data + b->payload;
    uint64_t size = b->payload_size, limit = l->place.memory->size;
    *out = (struct image){.path = l->kernel.path};
    if (load_u32(data) == 0x464c457f) { /* CONFIG_KERNEL_UNCOMPRESSED */
        out->data = data;
        out->size = size;
        return true;
    }
    char what[256];
    snprintf(what, sizeof what, "kernel %s", l->kernel.path);
    uint32_t stated = load_u32(data + size - 4);
    if (!unpack(&l->scratch, data, size, stated, limit, what, &out->data, &out->size, err))
        return false;
    if (out->size == stated)
        return true;
    return error_set(err, "%s: its %s data are damaged; fetch it again", what,
                     unpack_format(data, size));
}

/* Whether the payload is something that we can unpack. */
static bool payload_known(const struct load *l, const struct bzimage *b)
{
    if (b->payload_size < 8)
        return false;
    const uint8_t *data = l->kernel.data + b->payload;
    return load_u32(data) == 0x464c457f || unpack_format(data, b->payload_size);
}

static bool load_payload(struct load *l, const struct bzimage *b, struct error *err)
{
    struct image vmlinux;
    struct elf elf;
    struct params p;
    uint64_t entry, end;
    if (!unpack_payload(l, b, &vmlinux, err))
        return false;
    params_from_image(&p, &l->kernel);
    bool ok = true;
    if (!elf_is(&vmlinux))
        ok = bad(&l->kernel, err, "its payload is not an ELF file; try --boot 32");
    ok = ok && elf_parse(&elf, &vmlinux, err) && load_elf(l, &elf, &entry, &end, err) &&
         params_finish(&p, l, end, b->cmdline_max, b->initrd_max, err);
    if (ok)
        enter(l, elf.is64, entry);
    return ok;
}

/* ------------------------------------------------------------------------------------------- *
 * The image's own code
 * ------------------------------------------------------------------------------------------- */

/* The image's decompressor, at its 32-bit or its 64-bit entry (0x200 behind it). */
static bool load_body(struct load *l, const struct bzimage *b, bool is64, struct error *err)
{
    struct params p;
    params_from_image(&p, &l->kernel);
    store_u32(p.page + HDR_CODE32_START, (uint32_t)b->load);
    if (b->load >= MEMORY_HIGH || !place_is_ram(&l->place, b->load, b->init_size))
        return place_refuse(&l->place, b->load, b->init_size, err);
    if (!place_put(&l->place, b->load, l->kernel.data + b->body, b->body_size, b->body_size, err) ||
        !params_finish(&p, l, b->load + b->init_size, b->cmdline_max, b->initrd_max, err))
        return false;
    enter(l, is64, b->load + (is64 ? 0x200 : 0));
    return true;
}

/* The real-mode code at 0x90000, which asks the BIOS for all that the others find in the zero
 * page, and which a BIOS's boot loader enters at its second sector. */
static bool load_real(struct load *l, const struct bzimage *b, struct error *err)
{
    enum { REAL_BASE = REAL_SEGMENT << 4, BODY = 0x100000 };
    struct params p; /* for its header only */
    const char *append = l->options->append ? l->options->append : "";
    size_t length = strlen(append);
    params_from_image(&p, &l->kernel);
    if (b->setup_size > 0x8000)
        return bad(&l->kernel, err, "its real-mode code is too large; try --boot 32");
    if (length > b->cmdline_max || length >= 0x800)
        return error_usage(err, "--append: longer than the kernel takes; shorten it");
    if (!place_is_ram(&l->place, BODY, b->init_size))
        return place_refuse(&l->place, BODY, b->init_size, err);
    uint64_t floor = BODY + b->init_size;
    if (b->load < MEMORY_HIGH && b->load + b->init_size > floor)
        floor = b->load + b->init_size;
    store_u8(p.page + HDR_TYPE_OF_LOADER, LOADER_UNDEFINED);
    p.page[HDR_LOADFLAGS] |= CAN_USE_HEAP;
    store_u32(p.page + HDR_CODE32_START, BODY);
    store_u16(p.page + HDR_HEAP_END_PTR, REAL_HEAP_END - 0x200);
    store_u32(p.page + HDR_CMD_LINE_PTR, REAL_CMDLINE);
    uint64_t header_end = HDR_MAGIC + (uint64_t)image_u8(&l->kernel, HDR_JUMP_LENGTH);
    if (header_end > PARAMS_HEADER_END)
        header_end = PARAMS_HEADER_END;
    if (!place_put(&l->place, BODY, l->kernel.data + b->body, b->body_size, b->body_size, err) ||
        !place_put(&l->place, REAL_BASE, l->kernel.data, b->setup_size, b->setup_size, err) ||
        !params_initrd(&p, l, floor, b->initrd_max, err) ||
        !place_put(&l->place, REAL_BASE + PARAMS_HEADER, p.page + PARAMS_HEADER,
                   header_end - PARAMS_HEADER, header_end - PARAMS_HEADER, err) ||
        !place_put(&l->place, REAL_CMDLINE, append, length + 1, length + 1, err) ||
        !bios_install(&l->place, err))
        return false;
    entry_real(l->state, REAL_SEGMENT + (SECTOR >> 4), 0, REAL_SEGMENT, REAL_HEAP_END);
    return true;
}

bool linux_load_image(struct load *l, struct error *err)
{
    struct bzimage b;
    if (!parse_image(&b, &l->kernel, err))
        return false;
    switch (l->options->way) {
    case BOOT_AUTO:
        if (payload_known(l, &b))
            return load_payload(l, &b, err);
        return load_body(l, &b, b.has64, err);
    case BOOT_PAYLOAD:
        if (payload_known(l, &b))
            return load_payload(l, &b, err);
        return bad(&l->kernel, err, "has no payload that can be unpacked; try --boot 32");
    case BOOT_64:
        if (b.has64)
            return load_body(l, &b, true, err);
        return bad(&l->kernel, err, "has no 64-bit entry; try --boot 32");
    case BOOT_32: return load_body(l, &b, false, err);
    case BOOT_16: return load_real(l, &b, err);
    default:
        return error_usage(err, "--boot %s: kernel %s is a Linux image; leave the option out",
                           boot_way_name(l->options->way), l->kernel.path);
    }
}

/*
 * The boot loaders: made-up images of each kind, what comes into guest memory and into the
 * registers, and what is refused. The stock kernels are booted by test/boot/.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/bits.h"
#include "boot/boot.h"
#include "memory/memory.h"
#include "test.h"
#include "x86/state.h"

enum { MIB = 1 << 20, GUEST_SIZE = 64 * MIB, IMAGE_MAX = 8 * MIB };

/* One guest and one kernel file. */
struct scene {
    struct memory memory;
    struct boot_range map[4];
    struct boot_options options;
    struct x86_state state;
    struct error error;
    char path[64], initrd_path[64], module_path[64];
    uint8_t *image;
    size_t size;
};

static void write_file(char *path, const void *data, size_t size)
{
    strcpy(path, "/tmp/doppel-boot-XXXXXX");
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    if (fd < 0)
        return;
    CHECK_EQ(write(fd, data, size), size);
    close(fd);
}

static void begin(struct scene *s)
{
    memset(s, 0, sizeof *s);
    CHECK(memory_create(&s->memory, GUEST_SIZE, NULL));
    s->map[0] = (struct boot_range){0, 0x9fc00, BOOT_RANGE_RAM};
    s->map[1] = (struct boot_range){0x9fc00, 0x60400, BOOT_RANGE_RESERVED};
    s->map[2] = (struct boot_range){MIB, GUEST_SIZE - MIB - 0x10000, BOOT_RANGE_RAM};
    s->map[3] = (struct boot_range){GUEST_SIZE - 0x10000, 0x10000, BOOT_RANGE_ACPI};
    s->options.map = s->map;
    s->options.map_count = 4;
    s->options.rsdp = 0xe0000;
    s->image = calloc(1, IMAGE_MAX);
}

static bool boot(struct scene *s)
{
    write_file(s->path, s->image, s->size);
    s->options.kernel = s->path;
    memset(&s->error, 0, sizeof s->error);
    bool ok = boot_load(&s->memory, &s->options, &s->state, &s->error);
    unlink(s->path);
    return ok;
}

static void end(struct scene *s)
{
    if (s->initrd_path[0])
        unlink(s->initrd_path);
    if (s->module_path[0])
        unlink(s->module_path);
    free(s->image);
    memory_destroy(&s->memory);
}

static bool refused(struct scene *s, const char *text)
{
    if (boot(s) || !strstr(s->error.text, text)) {
        printf("# not refused with \"%s\" but: %s\n", text, s->error.text);
        return false;
    }
    return true;
}

static uint64_t guest_u32(struct scene *s, uint64_t gpa)
{
    uint32_t v = 0;
    CHECK(memory_read(&s->memory, gpa, &v, sizeof v));
    return v;
}

static uint64_t guest_u64(struct scene *s, uint64_t gpa)
{
    return guest_u32(s, gpa) | guest_u32(s, gpa + 4) << 32;
}

static bool guest_has(struct scene *s, uint64_t gpa, const void *bytes, size_t n)
{
    uint8_t got[4096];
    return n <= sizeof got && memory_read(&s->memory, gpa, got, n) && memcmp(got, bytes, n) == 0;
}

/* ---- images ---- */

/* An ELF file with one loadable segment of 64 bytes 'K' at file offset 0x1000, 8 KiB in memory, and
 * the entry 16 bytes into it. */
static void put_elf(uint8_t *p, bool is64, uint64_t vaddr, uint64_t paddr)
{
    memcpy(p,
           is64 ? "\x7f"
                  "ELF\2\1\1"
                : "\x7f"
                  "ELF\1\1\1",
           7);
    store_u16(p + 16, 2);
    store_u16(p + 18, is64 ? 62 : 3);
    memset(p + 0x1000, 'K', 64);
    if (is64) {
        store_u64(p + 24, vaddr + 16);
        store_u64(p + 32, 64);
        store_u16(p + 54, 56);
        store_u16(p + 56, 1);
        uint8_t *ph = p + 64;
        store_u32(ph, 1);
        store_u64(ph + 8, 0x1000);
        store_u64(ph + 16, vaddr);
        store_u64(ph + 24, paddr);
        store_u64(ph + 32, 64);
        store_u64(ph + 40, 0x2000);
    } else {
        store_u32(p + 24, (uint32_t)vaddr + 16);
        store_u32(p + 28, 64);
        store_u16(p + 42, 32);
        store_u16(p + 44, 1);
        uint8_t *ph = p + 64;
        store_u32(ph, 1);
        store_u32(ph + 4, 0x1000);
        store_u32(ph + 8, (uint32_t)vaddr);
        store_u32(ph + 12, (uint32_t)paddr);
        store_u32(ph + 16, 64);
        store_u32(ph + 20, 0x2000);
    }
}

enum { ELF_SIZE = 0x1040 };

/* A bzImage of protocol 2.15 whose protected-mode code is 'D's, with that payload in it. */
static void put_bzimage(struct scene *s, const uint8_t *payload, size_t n)
{
    enum { SETUP = 5 * 512, OFFSET = 0x400 };
    uint8_t *p = s->image;
    size_t body = (OFFSET + n + 15) & ~(size_t)15;
    memset(p + SETUP, 'D', body);
    p[0x1f1] = 4;
    store_u32(p + 0x1f4, (uint32_t)(body / 16));
    store_u16(p + 0x1fe, 0xaa55);
    p[0x201] = 0x6a;
    memcpy(p + 0x202, "HdrS", 4);
    store_u16(p + 0x206, 0x20f);
    p[0x211] = 1;
    store_u32(p + 0x214, 0x100000);
    store_u32(p + 0x22c, 0x7fffffff);
    p[0x234] = 1;
    store_u16(p + 0x236, 1);
    store_u32(p + 0x238, 2047);
    store_u32(p + 0x248, n ? OFFSET : 0);
    store_u32(p + 0x24c, (uint32_t)n);
    store_u64(p + 0x258, 16 * MIB);
    store_u32(p + 0x260, 4 * MIB);
    memcpy(p + SETUP + OFFSET, payload, n);
    s->size = SETUP + body;
}

static void put_bzimage_with_elf(struct scene *s, bool is64)
{
    uint8_t elf[ELF_SIZE] = {0};
    put_elf(elf, is64, is64 ? 0xffffffff81000000 : 0xc1000000, 16 * MIB);
    put_bzimage(s, elf, sizeof elf);
}

/* ---- Linux ---- */

enum { PARAMS = 0x8000 };

TEST(payload_is_entered_in_long_mode)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    s.options.append = "console=ttyS0";
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB + 16);
    CHECK_EQ(guest_u32(&s, 16 * MIB), 0x4b4b4b4b);
    CHECK_EQ(guest_u32(&s, 16 * MIB + 64), 0);
    CHECK_EQ(s.state.cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG);
    CHECK_EQ(s.state.efer, EFER_LME | EFER_LMA);
    CHECK_EQ(s.state.cr4, CR4_PAE);
    CHECK_EQ(s.state.rflags, FLAG_1);
    CHECK_EQ(s.state.seg[X86_CS].selector, 0x10);
    CHECK(s.state.seg[X86_CS].attr & SEG_L);
    CHECK_EQ(s.state.seg[X86_DS].selector, 0x18);
    /* The descriptors in the GDT are those that are loaded. */
    CHECK_EQ(guest_u64(&s, s.state.gdtr.base + 0x10), 0x00af9b000000ffff);
    CHECK_EQ(guest_u64(&s, s.state.gdtr.base + 0x18), 0x00cf93000000ffff);
    CHECK_EQ(s.state.gpr[X86_RSI], PARAMS);
    end(&s);
}

/* Walks the page tables as the processor would. */
TEST(first_four_gigabytes_are_mapped_to_themselves)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    CHECK(boot(&s));
    for (uint64_t gva = 0; gva < 4ull << 30; gva += 0x3f3f3000) {
        uint64_t pml4 = guest_u64(&s, s.state.cr3 + (gva >> 39 & 511) * 8);
        uint64_t pdpt = guest_u64(&s, (pml4 & ~0xfffull) + (gva >> 30 & 511) * 8);
        uint64_t pd = guest_u64(&s, (pdpt & ~0xfffull) + (gva >> 21 & 511) * 8);
        CHECK_EQ(pml4 & pdpt & pd & 3, 3);
        CHECK_EQ(pd & ~0x1fffffull, gva & ~0x1fffffull);
        CHECK(pd & 0x80);
    }
    end(&s);
}

TEST(payload_of_a_32_bit_kernel_is_entered_in_protected_mode)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, false);
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB + 16);
    CHECK_EQ(s.state.cr0 & (CR0_PE | CR0_PG), CR0_PE);
    CHECK_EQ(s.state.efer, 0);
    CHECK_EQ(s.state.gpr[X86_RSI], PARAMS);
    CHECK_EQ(s.state.gpr[X86_RBX], 0);
    CHECK_EQ(s.state.seg[X86_CS].limit, 0xffffffff);
    CHECK_EQ(s.state.seg[X86_CS].attr & (SEG_L | SEG_DB), SEG_DB);
    end(&s);
}

TEST(zero_page_holds_header_map_and_pointers)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    s.options.append = "a=b c";
    s.options.seed = (const uint8_t *)"0123456789abcdef";
    s.options.seed_size = 16;
    CHECK(boot(&s));
    CHECK_EQ(guest_u32(&s, PARAMS + 0x202), 0x53726448);
    CHECK_EQ(guest_u64(&s, PARAMS + 0x70), 0xe0000);
    CHECK_EQ(guest_u32(&s, PARAMS + 0x1e8) & 0xff, 4);
    CHECK_EQ(guest_u64(&s, PARAMS + 0x2d0 + 2 * 20), MIB);
    CHECK_EQ(guest_u32(&s, PARAMS + 0x2d0 + 3 * 20 + 16), BOOT_RANGE_ACPI);
    CHECK_EQ(guest_u32(&s, PARAMS + 0x210) & 0xff, 0xff);
    CHECK(guest_has(&s, guest_u32(&s, PARAMS + 0x228), "a=b c", 6));
    uint64_t data = guest_u64(&s, PARAMS + 0x250);
    CHECK_EQ(guest_u64(&s, data), 0);
    CHECK_EQ(guest_u32(&s, data + 8), 9);
    CHECK_EQ(guest_u32(&s, data + 12), 16);
    CHECK(guest_has(&s, data + 16, "0123456789abcdef", 16));
    end(&s);
}

TEST(initrd_lies_as_high_as_allowed)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    write_file(s.initrd_path, "initrd", 6);
    s.options.initrd = s.initrd_path;
    CHECK(boot(&s));
    uint64_t at = guest_u32(&s, PARAMS + 0x218);
    CHECK_EQ(at, GUEST_SIZE - 0x10000 - 0x1000); /* below what is ACPI's */
    CHECK_EQ(guest_u32(&s, PARAMS + 0x21c), 6);
    CHECK(guest_has(&s, at, "initrd", 6));
    store_u32(s.image + 0x22c, 32 * MIB - 1); /* initrd_addr_max */
    CHECK(boot(&s));
    CHECK_EQ(guest_u32(&s, PARAMS + 0x218), 32 * MIB - 0x1000);
    store_u32(s.image + 0x22c, 16 * MIB);
    CHECK(refused(&s, "do not fit"));
    end(&s);
}

TEST(own_code_is_entered_where_it_was_asked_for)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    s.options.way = BOOT_64;
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB + 0x200);
    CHECK(s.state.cr0 & CR0_PG);
    CHECK_EQ(guest_u32(&s, 16 * MIB), 0x44444444);
    CHECK_EQ(guest_u32(&s, PARAMS + 0x214), 16 * MIB); /* code32_start: where it is */
    s.options.way = BOOT_32;
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB);
    CHECK(!(s.state.cr0 & CR0_PG));
    store_u16(s.image + 0x236, 0);
    s.options.way = BOOT_64;
    CHECK(refused(&s, "no 64-bit entry"));
    s.image[0x234] = 0; /* not relocatable */
    s.options.way = BOOT_32;
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, MIB);
    end(&s);
}

TEST(payload_that_is_unknown_is_left_to_the_images_own_code)
{
    struct scene s;
    begin(&s);
    put_bzimage(&s, (const uint8_t *)"unknown compression", 20);
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB + 0x200);
    s.options.way = BOOT_PAYLOAD;
    CHECK(refused(&s, "payload"));
    end(&s);
}

TEST(images_that_are_cut_short_are_refused)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    size_t whole = s.size;
    for (s.size = 0x202 + 4; s.size < whole - 16; s.size += 333)
        CHECK(refused(&s, "truncated"));
    s.size = whole;
    store_u32(s.image + 0x248, 0xfffffff0); /* payload_offset */
    CHECK(refused(&s, "truncated"));
    end(&s);
}

TEST(command_lines_have_the_kernels_limit)
{
    struct scene s;
    char text[300];
    begin(&s);
    put_bzimage_with_elf(&s, true);
    memset(text, 'x', sizeof text);
    text[256] = 0;
    store_u32(s.image + 0x238, 256);
    s.options.append = text;
    CHECK(boot(&s));
    store_u32(s.image + 0x238, 255);
    CHECK(refused(&s, "--append"));
    CHECK_EQ(s.error.status, EXIT_STATUS_USAGE);
    end(&s);
}

TEST(vmlinux_is_entered_at_its_physical_address)
{
    struct scene s;
    begin(&s);
    put_elf(s.image, true, 0xffffffff81000000, 16 * MIB);
    s.size = ELF_SIZE;
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB + 16);
    CHECK_EQ(guest_u32(&s, PARAMS + 0x202), 0x53726448);
    store_u64(s.image + 24, 16 * MIB + 8); /* an entry that is physical already */
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, 16 * MIB + 8);
    end(&s);
}

/* ---- ELF ---- */

TEST(segments_that_are_not_in_ram_are_refused)
{
    static const struct {
        uint64_t paddr, memsz;
        const char *why;
    } cases[] = {
        {GUEST_SIZE, 0x1000, "--memory"},
        {GUEST_SIZE - 0x10000, 0x1000, "--memory"}, /* ACPI's */
        {0xa0000, 0x1000, "no memory"},
        {0x9f000, 0x1000, "no memory"},
        {UINT64_MAX - 0xfff, 0x1000, "no memory"},
        {UINT64_MAX, 0x1000, "no memory"},
        {0x100000, UINT64_MAX, "no memory"},
        {0x100000, GUEST_SIZE, "--memory"},
    };
    struct scene s;
    begin(&s);
    put_elf(s.image, true, 0, 16 * MIB);
    s.size = ELF_SIZE;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        store_u64(s.image + 64 + 24, cases[i].paddr);
        store_u64(s.image + 64 + 40, cases[i].memsz);
        CHECK(refused(&s, cases[i].why));
    }
    end(&s);
}

TEST(headers_that_make_no_sense_are_refused)
{
    struct scene s;
    begin(&s);
    put_elf(s.image, true, 0, 16 * MIB);
    s.size = ELF_SIZE;
    s.image[4] = 3;
    CHECK(refused(&s, "no sense"));
    s.image[4] = 2;
    store_u16(s.image + 56, 0); /* e_phnum */
    CHECK(refused(&s, "nothing to load"));
    store_u16(s.image + 56, 0xffff);
    CHECK(refused(&s, "no sense"));
    store_u16(s.image + 56, 1);
    store_u16(s.image + 54, 8); /* e_phentsize */
    CHECK(refused(&s, "no sense"));
    store_u16(s.image + 54, 56);
    store_u64(s.image + 32, UINT64_MAX - 8); /* e_phoff */
    CHECK(refused(&s, "truncated"));
    end(&s);
}

/* ---- PVH ---- */

static void put_pvh(struct scene *s)
{
    put_elf(s->image, true, 0xffffffff81000000, 16 * MIB);
    store_u16(s->image + 56, 2);
    uint8_t *ph = s->image + 64 + 56, *note = s->image + 0x200;
    store_u32(ph, 4);
    store_u64(ph + 8, 0x200);
    store_u64(ph + 32, 20);
    store_u64(ph + 40, 20);
    store_u32(note, 4);
    store_u32(note + 4, 4);
    store_u32(note + 8, 18);
    memcpy(note + 12, "Xen", 4);
    store_u32(note + 16, 16 * MIB + 0x20);
    s->size = ELF_SIZE;
}

TEST(pvh_entry_gets_start_info)
{
    struct scene s;
    begin(&s);
    put_pvh(&s);
    write_file(s.initrd_path, "initrd", 6);
    write_file(s.module_path, "module", 6);
    const struct boot_module module = {s.module_path, "its args"};
    s.options.initrd = s.initrd_path;
    s.options.modules = &module;
    s.options.module_count = 1;
    s.options.append = "pvh=yes";
    CHECK(boot(&s));
    uint64_t info = s.state.gpr[X86_RBX];
    CHECK_EQ(s.state.rip, 16 * MIB + 0x20);
    CHECK_EQ(s.state.cr0 & (CR0_PE | CR0_PG), CR0_PE);
    CHECK_EQ(s.state.tr.limit, 0x67);
    CHECK_EQ(guest_u32(&s, info), 0x336ec578);
    CHECK_EQ(guest_u32(&s, info + 4), 1);
    CHECK_EQ(guest_u32(&s, info + 12), 2);
    CHECK_EQ(guest_u64(&s, info + 32), 0xe0000);
    CHECK(guest_has(&s, guest_u64(&s, info + 24), "pvh=yes", 8));
    CHECK_EQ(guest_u32(&s, info + 48), 4);
    CHECK_EQ(guest_u64(&s, guest_u64(&s, info + 40) + 2 * 24), MIB);
    uint64_t list = guest_u64(&s, info + 16);
    CHECK(guest_has(&s, guest_u64(&s, list), "initrd", 6));
    CHECK(guest_has(&s, guest_u64(&s, list + 32), "module", 6));
    CHECK_EQ(guest_u64(&s, list + 40), 6);
    CHECK(guest_has(&s, guest_u64(&s, list + 48), "its args", 9));
    end(&s);
}

TEST(damaged_notes_are_no_pvh_entry)
{
    struct scene s;
    begin(&s);
    put_pvh(&s);
    s.options.way = BOOT_PVH;
    store_u32(s.image + 0x200 + 4, 0xffffffff);
    CHECK(refused(&s, "no PVH entry"));
    store_u32(s.image + 0x200 + 4, 4);
    store_u32(s.image + 0x200, 0xfffffffd);
    CHECK(refused(&s, "no PVH entry"));
    store_u32(s.image + 0x200, 4);
    store_u32(s.image + 0x210, 0xa0000); /* an entry outside of RAM */
    CHECK(refused(&s, "PVH entry"));
    end(&s);
}

/* ---- Multiboot ---- */

static void put_multiboot_header(uint8_t *p, uint32_t flags)
{
    store_u32(p, 0x1badb002);
    store_u32(p + 4, flags);
    store_u32(p + 8, -(0x1badb002 + flags));
}

TEST(multiboot_elf_gets_information)
{
    struct scene s;
    begin(&s);
    put_elf(s.image, false, 0xc0100000, MIB);
    put_multiboot_header(s.image + 0x400, 3);
    s.size = ELF_SIZE;
    write_file(s.initrd_path, "first", 5);
    write_file(s.module_path, "second", 6);
    const struct boot_module module = {s.module_path, "x=1"};
    s.options.initrd = s.initrd_path;
    s.options.modules = &module;
    s.options.module_count = 1;
    s.options.append = "multi boot";
    CHECK(boot(&s));
    uint64_t info = s.state.gpr[X86_RBX], flags = guest_u32(&s, info);
    CHECK_EQ(s.state.gpr[X86_RAX], 0x2badb002);
    CHECK_EQ(s.state.rip, MIB + 16);
    CHECK_EQ(flags & (1 | 4 | 8 | 0x40), 1 | 4 | 8 | 0x40);
    CHECK_EQ(guest_u32(&s, info + 4), 0x9fc00 / 1024);
    CHECK_EQ(guest_u32(&s, info + 8), (GUEST_SIZE - MIB - 0x10000) / 1024);
    /* The command line begins with the file's name. */
    char text[128];
    int n = snprintf(text, sizeof text, "%s multi boot", s.path);
    CHECK(guest_has(&s, guest_u32(&s, info + 16), text, (size_t)n + 1));
    CHECK_EQ(guest_u32(&s, info + 20), 2);
    uint64_t mods = guest_u32(&s, info + 24);
    CHECK_EQ(guest_u32(&s, mods), MIB + 0x2000); /* right behind the kernel, on a page */
    CHECK(guest_has(&s, guest_u32(&s, mods), "first", 5));
    CHECK_EQ(guest_u32(&s, mods + 4) - guest_u32(&s, mods), 5);
    CHECK(guest_has(&s, guest_u32(&s, mods + 16), "second", 6));
    n = snprintf(text, sizeof text, "%s x=1", s.module_path);
    CHECK(guest_has(&s, guest_u32(&s, mods + 24), text, (size_t)n + 1));
    uint64_t map = guest_u32(&s, info + 48);
    CHECK_EQ(guest_u32(&s, info + 44), 4 * 24);
    CHECK_EQ(guest_u32(&s, map), 20);
    CHECK_EQ(guest_u64(&s, map + 2 * 24 + 4), MIB);
    end(&s);
}

TEST(multiboot_addresses_of_the_header_are_used)
{
    struct scene s;
    begin(&s);
    uint8_t *header = s.image + 0x20;
    put_multiboot_header(header, 1u << 16);
    store_u32(header + 12, MIB + 0x20);   /* header_addr */
    store_u32(header + 16, MIB);          /* load_addr */
    store_u32(header + 20, MIB + 0x100);  /* load_end_addr */
    store_u32(header + 24, MIB + 0x2000); /* bss_end_addr */
    store_u32(header + 28, MIB + 0x80);
    s.image[0x80] = 0xf4;
    s.size = 0x200;
    CHECK(memory_fill(&s.memory, MIB, 0xaa, 0x3000));
    CHECK(boot(&s));
    CHECK_EQ(s.state.rip, MIB + 0x80);
    CHECK(guest_has(&s, MIB, s.image, 0x100));
    CHECK_EQ(guest_u32(&s, MIB + 0x100), 0);
    CHECK_EQ(guest_u32(&s, MIB + 0x1ffc), 0);
    CHECK_EQ(guest_u32(&s, MIB + 0x2000), 0xaaaaaaaa);
    store_u32(header + 20, 0); /* to the end of the file */
    CHECK(boot(&s));
    store_u32(header + 16, MIB + 0x40); /* load behind the header */
    CHECK(refused(&s, "no sense"));
    store_u32(header + 16, MIB - 0x40); /* from before the file's begin */
    CHECK(refused(&s, "no sense"));
    store_u32(header + 16, MIB);
    store_u32(header + 20, MIB + 0x300);
    CHECK(refused(&s, "truncated"));
    store_u32(header + 20, MIB + 0x100);
    store_u32(header + 24, 0xffffffff);
    CHECK(refused(&s, "kernel"));
    end(&s);
}

TEST(multiboot_demands_that_are_unknown_are_refused)
{
    struct scene s;
    begin(&s);
    put_elf(s.image, false, MIB, MIB);
    put_multiboot_header(s.image + 0x400, 0x8003);
    s.size = ELF_SIZE;
    CHECK(refused(&s, "demands"));
    end(&s);
}

/* ---- all ---- */

TEST(the_same_load_again_gives_the_same_guest)
{
    struct scene s;
    struct x86_state first;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    CHECK(boot(&s));
    first = s.state;
    CHECK(memory_fill(&s.memory, 16 * MIB, 0x55, 0x2000));
    CHECK(boot(&s));
    CHECK(memcmp(&first, &s.state, sizeof first) == 0);
    CHECK_EQ(guest_u32(&s, 16 * MIB + 0x1000), 0);
    end(&s);
}

/* The loader's working memory is the upper half of the guest's; a kernel may want to be there. */
TEST(kernels_in_the_upper_half_of_memory_are_loaded_too)
{
    uint8_t elf[ELF_SIZE] = {0};
    struct scene s;
    begin(&s);
    put_elf(elf, true, 0xffffffff81000000, 32 * MIB + MIB / 2);
    put_bzimage(&s, elf, sizeof elf);
    for (uint64_t at = 32 * MIB; at < GUEST_SIZE - MIB; at += 5 * MIB + 0x1000) {
        store_u64(s.image + 5 * 512 + 0x400 + 64 + 24, at);
        CHECK(boot(&s));
        CHECK_EQ(guest_u32(&s, at), 0x4b4b4b4b);
        CHECK_EQ(guest_u32(&s, at + 64), 0);
        CHECK_EQ(s.state.rip, at + 16);
    }
    end(&s);
}

TEST(nothing_of_the_file_is_left_where_the_kernel_is_not)
{
    struct scene s;
    begin(&s);
    put_bzimage_with_elf(&s, true);
    CHECK(boot(&s));
    for (uint64_t gpa = 17 * MIB; gpa < GUEST_SIZE; gpa += 64)
        if (guest_u32(&s, gpa) != 0) {
            CHECK_EQ(gpa, GUEST_SIZE);
            break;
        }
    end(&s);
}

TEST(ways_have_names)
{
    for (unsigned way = 0; way < BOOT_WAYS; way++)
        CHECK_EQ(boot_way_find(boot_way_name((enum boot_way)way)), way);
    CHECK_EQ(boot_way_find("128"), BOOT_WAYS);
}

TESTS(T(payload_is_entered_in_long_mode), T(first_four_gigabytes_are_mapped_to_themselves),
      T(payload_of_a_32_bit_kernel_is_entered_in_protected_mode),
      T(zero_page_holds_header_map_and_pointers), T(initrd_lies_as_high_as_allowed),
      T(own_code_is_entered_where_it_was_asked_for),
      T(payload_that_is_unknown_is_left_to_the_images_own_code),
      T(images_that_are_cut_short_are_refused), T(command_lines_have_the_kernels_limit),
      T(vmlinux_is_entered_at_its_physical_address), T(segments_that_are_not_in_ram_are_refused),
      T(headers_that_make_no_sense_are_refused), T(pvh_entry_gets_start_info),
      T(damaged_notes_are_no_pvh_entry), T(multiboot_elf_gets_information),
      T(multiboot_addresses_of_the_header_are_used),
      T(multiboot_demands_that_are_unknown_are_refused),
      T(the_same_load_again_gives_the_same_guest),
      T(kernels_in_the_upper_half_of_memory_are_loaded_too),
      T(nothing_of_the_file_is_left_where_the_kernel_is_not), T(ways_have_names))

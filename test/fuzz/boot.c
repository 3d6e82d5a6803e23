/*
 * fuzz-boot SEED COUNT: hostile kernel files.
 *
 * Each case takes an image of one of the kinds that the loaders know, damages it (fields set to
 * values that invite overflows, bytes flipped, the end cut off) and loads it. Whatever it is, it is
 * refused with one sentence or leaves the processor at an address in RAM. The sanitizers watch the
 * rest.
 */
#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bits.h"
#include "boot/boot.h"
#include "memory/memory.h"
#include "x86/state.h"

enum { MIB = 1 << 20, GUEST_SIZE = 8 * MIB, IMAGE_MAX = 64 << 10 };

struct image {
    uint8_t data[IMAGE_MAX];
    size_t size;
    size_t interesting; /* damage begins below this offset */
};

static uint64_t random_state;

/* xorshift64*: the same cases for the same seed everywhere. */
static uint64_t next(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t n)
{
    return next() % n;
}

/* ---- the images ---- */

enum { ELF_SIZE = 0x400 };

static void put_elf(uint8_t *p, bool is64)
{
    memset(p, 0, ELF_SIZE);
    memcpy(p,
           is64 ? "\x7f"
                  "ELF\2\1\1"
                : "\x7f"
                  "ELF\1\1\1",
           7);
    store_u16(p + 16, 2);
    store_u16(p + 18, is64 ? 62 : 3);
    if (is64) {
        store_u64(p + 24, 2 * MIB);
        store_u64(p + 32, 64);
        store_u16(p + 54, 56);
    } else {
        store_u32(p + 24, 2 * MIB);
        store_u32(p + 28, 52);
        store_u16(p + 42, 32);
    }
    store_u16(p + (is64 ? 56 : 44), 2);
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *ph = p + (is64 ? 64 + i * 56 : 52 + i * 32);
        uint64_t fields[] = {0x200 + i * 0x100, 2 * MIB + i * 0x1000, 2 * MIB + i * 0x1000, 0x100,
                             0x1000};
        store_u32(ph, 1);
        for (unsigned f = 0; f < 5; f++) {
            if (is64)
                store_u64(ph + 8 + f * 8, fields[f]);
            else
                store_u32(ph + 4 + f * 4, (uint32_t)fields[f]);
        }
    }
}

static void make_elf(struct image *i, bool is64)
{
    put_elf(i->data, is64);
    i->size = ELF_SIZE;
    i->interesting = 0x100;
}

/* The second segment becomes the note that names the entry. */
static void make_pvh(struct image *i)
{
    make_elf(i, true);
    store_u32(i->data + 64 + 56, 4);
    uint8_t *note = i->data + 0x300;
    store_u32(note, 4);
    store_u32(note + 4, 8);
    store_u32(note + 8, 18);
    memcpy(note + 12, "Xen", 4);
    store_u64(note + 16, 2 * MIB);
    i->interesting = 0x320;
}

static void make_multiboot(struct image *i, bool addresses)
{
    make_elf(i, false);
    uint32_t flags = addresses ? 1u << 16 : 3;
    const uint32_t header[] = {0x1badb002, flags,       -(0x1badb002 + flags), MIB + 0x80,
                               MIB,        MIB + 0x300, MIB + 0x1000,          MIB + 0x100};
    memcpy(i->data + 0x80, header, addresses ? sizeof header : 12);
    i->interesting = 0xc0;
}

static size_t pack(uint8_t *out, size_t room, const uint8_t *in, size_t n, unsigned format)
{
    size_t at = 0;
    unsigned bz = (unsigned)room;
    uLongf zl = room;
    switch (format) {
    case 0: memcpy(out, in, n); return n;
    case 1: {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)n};
        z.next_out = out;
        z.avail_out = (uInt)zl;
        deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
        deflate(&z, Z_FINISH);
        deflateEnd(&z);
        return z.total_out;
    }
    case 2:
        if (lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, in, n, out, &at, room) != LZMA_OK)
            return 0;
        return at;
    case 3:
        BZ2_bzBuffToBuffCompress((char *)out, &bz, (char *)(uintptr_t)in, (unsigned)n, 1, 0, 0);
        return bz;
    case 4:
        store_u32(out, 0x184c2102);
        at = (size_t)LZ4_compress_default((const char *)in, (char *)out + 8, (int)n, (int)room - 8);
        store_u32(out + 4, (uint32_t)at);
        return at + 8;
    case 5: {
        /* lzop's, with one stored block. */
        static const uint8_t head[] = {0x89, 'L',  'Z',  'O',  0,    0x0d, 0x0a, 0x1a, 0x0a,
                                       0x10, 0x40, 0x20, 0xa0, 0x09, 0x40, 1,    5};
        memset(out, 0, 38);
        memcpy(out, head, sizeof head);
        store_u32(out + 38, __builtin_bswap32((uint32_t)n));
        store_u32(out + 42, __builtin_bswap32((uint32_t)n));
        memcpy(out + 46, in, n);
        memset(out + 46 + n, 0, 4);
        return n + 50;
    }
    default: return ZSTD_compress(out, room, in, n, 1);
    }
}

static void make_bzimage(struct image *i)
{
    enum { SETUP = 1024, OFFSET = 0x210 };
    uint8_t elf[ELF_SIZE], *p = i->data, *payload = p + SETUP + OFFSET;
    put_elf(elf, below(2));
    size_t n = pack(payload, IMAGE_MAX / 2, elf, sizeof elf, (unsigned)below(7));
    store_u32(payload + n, ELF_SIZE);
    n += 4;
    p[0x1f1] = 1;
    store_u32(p + 0x1f4, (uint32_t)((OFFSET + n) / 16));
    store_u16(p + 0x1fe, 0xaa55);
    p[0x201] = 0x6a;
    memcpy(p + 0x202, "HdrS", 4);
    store_u16(p + 0x206, 0x20f);
    p[0x211] = 1;
    store_u32(p + 0x22c, 0x7fffffff);
    p[0x234] = 1;
    store_u16(p + 0x236, 1);
    store_u32(p + 0x238, 255);
    store_u32(p + 0x248, OFFSET);
    store_u32(p + 0x24c, (uint32_t)n);
    store_u64(p + 0x258, 2 * MIB);
    store_u32(p + 0x260, MIB);
    i->size = SETUP + OFFSET + n;
    i->interesting = below(2) ? i->size : 0x270;
}

static void make(struct image *i)
{
    memset(i, 0, sizeof *i);
    switch (below(8)) {
    case 0: make_elf(i, false); break;
    case 1: make_elf(i, true); break;
    case 2: make_pvh(i); break;
    case 3: make_multiboot(i, false); break;
    case 4: make_multiboot(i, true); break;
    default: make_bzimage(i); break;
    }
}

/* ---- the damage ---- */

static uint64_t nasty_value(void)
{
    static const uint64_t values[] = {0,          1,          0x7f,       0xff,
                                      0xfff,      0x1000,     0xffff,     MIB,
                                      GUEST_SIZE, 0x7fffffff, 0x80000000, 0xffffffff,
                                      0xfffffff0, UINT64_MAX, INT64_MAX,  UINT64_MAX - 0xfff};
    uint64_t v = values[below(ARRAY_LEN(values))];
    return below(3) ? v : v + below(64) - 32;
}

static void damage(struct image *i)
{
    for (uint64_t n = below(4); n; n--) {
        size_t at = below(i->interesting - 8);
        uint64_t v = nasty_value();
        switch (below(5)) {
        case 0: i->data[at] ^= (uint8_t)(1u << below(8)); break;
        case 1: memcpy(i->data + (at & ~(size_t)1), &v, 2); break;
        case 2: memcpy(i->data + (at & ~(size_t)7), &v, 8); break;
        default: memcpy(i->data + (at & ~(size_t)3), &v, 4); break;
        }
    }
    if (below(8) == 0)
        i->size = below(i->size) + 1;
}

/* ---- the check ---- */

static bool one_sentence(const struct error *err)
{
    return err->status != EXIT_STATUS_OK && strstr(err->text, ": ") && strstr(err->text, "; ") &&
           !strchr(err->text, '\n');
}

static bool run_case(struct memory *memory, int fd, const char *path)
{
    static const struct boot_range map[] = {{0, 0x9fc00, BOOT_RANGE_RAM},
                                            {0x9fc00, 0x60400, BOOT_RANGE_RESERVED},
                                            {MIB, GUEST_SIZE - MIB, BOOT_RANGE_RAM}};
    static struct image image;
    struct error err = {0};
    struct x86_state state = {0};
    const struct boot_module module = {path, "args"};
    make(&image);
    damage(&image);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, image.data, image.size, 0) != (ssize_t)image.size) {
        perror("fuzz-boot");
        return false;
    }
    const struct boot_options options = {
        .kernel = path,
        .initrd = below(2) ? path : NULL,
        .append = "console=ttyS0",
        .modules = &module,
        .module_count = (unsigned)below(2),
        .way = below(4) ? BOOT_AUTO : (enum boot_way)below(BOOT_WAYS),
        .map = map,
        .map_count = ARRAY_LEN(map),
    };
    if (!boot_load(memory, &options, &state, &err))
        return one_sentence(&err);
    return memory_find(memory, state.seg[X86_CS].base + state.rip) != NULL;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : 5000;
    struct memory memory;
    char path[64];
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    if (fd < 0 || !memory_create(&memory, GUEST_SIZE, NULL)) {
        perror("fuzz-boot");
        return 1;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (uint64_t i = 0; i < count; i++) {
        random_state = (seed + 1) * 0x9e3779b97f4a7c15 + i * 0xd1342543de82ef95 + 1;
        if (!run_case(&memory, fd, path)) {
            printf("case %llu of seed %llu breaks a promise\n", (unsigned long long)i,
                   (unsigned long long)seed);
            return 1;
        }
    }
    memory_destroy(&memory);
    close(fd);
    return 0;
}

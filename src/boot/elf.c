#include "boot/elf.h"

#include <inttypes.h>

enum { CLASS_32 = 1, CLASS_64 = 2, DATA_LITTLE = 1, MACHINE_386 = 3, MACHINE_X86_64 = 62 };
enum { TYPE_EXEC = 2, TYPE_DYN = 3 };

/* Where the fields of the two classes are. */
struct layout {
    uint8_t word; /* bytes of an address */
    uint8_t entry, phoff, phentsize, phnum;
    uint8_t header_size;
    uint8_t p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
    uint8_t segment_size;
};
static const struct layout layout32 = {4, 24, 28, 42, 44, 52, 4, 8, 12, 16, 20, 28, 32};
static const struct layout layout64 = {8, 24, 32, 54, 56, 64, 8, 16, 24, 32, 40, 48, 56};

bool elf_is(const struct image *image)
{
    return image_u32(image, 0) == 0x464c457f;
}

static uint64_t read_word(const struct image *image, const struct layout *l, uint64_t offset)
{
    return l->word == 8 ? image_u64(image, offset) : image_u32(image, offset);
}

static bool bad(const struct elf *elf, struct error *err, const char *why)
{
    return error_set(err, "kernel %s: %s; give another file", elf->image->path, why);
}

static bool parse_segments(struct elf *elf, const struct layout *l, struct error *err)
{
    const struct image *image = elf->image;
    uint64_t table = read_word(image, l, l->phoff);
    unsigned stride = image_u16(image, l->phentsize), count = image_u16(image, l->phnum);
    if (count == 0)
        return bad(elf, err, "the ELF file has nothing to load (an object file?)");
    if (stride < l->segment_size || count > ELF_SEGMENTS)
        return bad(elf, err, "the ELF file's program headers make no sense");
    if (!image_has(image, table, (uint64_t)stride * count))
        return bad(elf, err, "the ELF file is truncated");
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = table + (uint64_t)stride * i;
        elf->segment[i] = (struct elf_segment){
            .type = image_u32(image, at),
            .offset = read_word(image, l, at + l->p_offset),
            .vaddr = read_word(image, l, at + l->p_vaddr),
            .paddr = read_word(image, l, at + l->p_paddr),
            .filesz = read_word(image, l, at + l->p_filesz),
            .memsz = read_word(image, l, at + l->p_memsz),
            .align = read_word(image, l, at + l->p_align),
        };
        const struct elf_segment *s = &elf->segment[i];
        if (s->type != ELF_LOAD && s->type != ELF_NOTE)
            continue;
        if (!image_has(image, s->offset, s->filesz))
            return bad(elf, err, "the ELF file is truncated");
        if (s->type == ELF_LOAD && s->memsz < s->filesz)
            return bad(elf, err, "the ELF file's program headers make no sense");
    }
    elf->segment_count = count;
    return true;
}

bool elf_parse(struct elf *elf, const struct image *image, struct error *err)
{
    *elf = (struct elf){.image = image};
    unsigned class = image_u8(image, 4), machine = image_u16(image, 18);
    unsigned type = image_u16(image, 16);
    if (class != CLASS_32 && class != CLASS_64)
        return bad(elf, err, "the ELF header makes no sense");
    const struct layout *l = class == CLASS_64 ? &layout64 : &layout32;
    if (image_u8(image, 5) != DATA_LITTLE || (machine != MACHINE_386 && machine != MACHINE_X86_64))
        return bad(elf, err, "an ELF file for another processor than the x86");
    if (image->size < l->header_size)
        return bad(elf, err, "the ELF file is truncated");
    if (type != TYPE_EXEC && type != TYPE_DYN)
        return bad(elf, err, "an ELF file that is not an executable");
    elf->is64 = class == CLASS_64;
    elf->entry = read_word(image, l, l->entry);
    return parse_segments(elf, l, err);
}

bool elf_load(const struct elf *elf, struct place *place, uint64_t *end, struct error *err)
{
    uint64_t total = 0;
    *end = 0;
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_segment *s = &elf->segment[i];
        if (s->type != ELF_LOAD || s->memsz == 0)
            continue;
        /* Segments that overlap would let a small file make us write without end. */
        if (s->memsz > place->memory->size - total)
            return place_refuse(place, s->paddr, s->memsz, err);
        total += s->memsz;
        if (!place_put(place, s->paddr, elf->image->data + s->offset, s->filesz, s->memsz, err))
            return false;
        if (s->paddr + s->memsz > *end)
            *end = s->paddr + s->memsz;
    }
    if (total == 0)
        return bad(elf, err, "the ELF file has nothing to load (an object file?)");
    return true;
}

bool elf_physical(const struct elf *elf, uint64_t address, uint64_t *physical)
{
    const struct elf_segment *s;
    for (unsigned i = 0; i < elf->segment_count; i++) {
        s = &elf->segment[i];
        if (s->type == ELF_LOAD && address - s->vaddr < s->memsz) {
            *physical = s->paddr + (address - s->vaddr);
            return true;
        }
    }
    for (unsigned i = 0; i < elf->segment_count; i++) {
        s = &elf->segment[i];
        if (s->type == ELF_LOAD && address - s->paddr < s->memsz) {
            *physical = address;
            return true;
        }
    }
    return false;
}

static uint64_t round4(uint64_t n)
{
    return (n + 3) & ~UINT64_C(3);
}

/* One PT_NOTE segment: notes of name size, description size, type, name, description, each padded
 * to 4 bytes (to 8 in segments so aligned, where 4-byte notes come out the same or are no note that
 * we look for). */
static bool find_in_notes(const struct elf *elf, const struct elf_segment *s, const char *owner,
                          uint32_t type, uint64_t *offset, uint32_t *size)
{
    const struct image *image = elf->image;
    size_t owner_size = strlen(owner) + 1;
    uint64_t at = s->offset, end = s->offset + s->filesz;
    while (end - at >= 12) {
        uint32_t namesz = image_u32(image, at), descsz = image_u32(image, at + 4);
        uint32_t found = image_u32(image, at + 8);
        uint64_t name = at + 12, desc = name + round4(namesz), next = desc + round4(descsz);
        if (desc + descsz > end)
            return false;
        if (found == type && namesz == owner_size &&
            memcmp(image->data + name, owner, owner_size) == 0) {
            *offset = desc;
            *size = descsz;
            return true;
        }
        if (next > end)
            return false;
        at = next;
    }
    return false;
}

bool elf_note(const struct elf *elf, const char *owner, uint32_t type, uint64_t *offset,
              uint32_t *size)
{
    for (unsigned i = 0; i < elf->segment_count; i++) {
        const struct elf_segment *s = &elf->segment[i];
        if (s->type == ELF_NOTE && find_in_notes(elf, s, owner, type, offset, size))
            return true;
    }
    return false;
}

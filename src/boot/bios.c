/*
 * A BIOS for a kernel's 16-bit setup code: the memory map (INT 15h), text to the first serial line
 * (INT 10h), low memory (INT 12h), a keyboard without keys (INT 16h). Everything else is "no such
 * function": the carry flag set for disks and PCI, or the machine's own IRET.
 */
#include "boot/bios.h"

#include "base/bits.h"

/* Where it lies, as segment 0xf000 sees it: in what the memory map calls reserved, clear of the
 * machine's own stubs (the reset vector's code and the IRET). */
enum {
    BIOS_SEGMENT = 0xf000,
    BIOS_CODE = 0xf100,
    BIOS_DATA = 0xf200, /* how many ranges; E801h's two sizes; 88h's */
    BIOS_MAP = 0xf210,  /* the ranges, 20 bytes each */
    BIOS_END = 0xff00,
    RANGE_SIZE = 20,
};
_Static_assert(BIOS_MAP + BOOT_RANGES * RANGE_SIZE <= BIOS_END, "the map fits");

/* Entries, from BIOS_CODE on. */
enum { INT15 = 0x00, FAIL = 0x79, INT10 = 0x84, INT12 = 0x90, INT16 = 0x94 };

/* Assembled by hand, so that no host needs an assembler for the guest's processor. Flags are given
 * back in the frame that IRET takes them from. */
// clang-format off
static const uint8_t code[] = {
    // int15:
    0x3d, 0x20, 0xe8,                                // cmp ax, 0xe820
    0x75, 0x45,                                      // jne e801
    0x66, 0x81, 0xfa, 0x50, 0x41, 0x4d, 0x53,        // cmp edx, 'SMAP'
    0x75, 0x6b,                                      // jne fail
    0x66, 0x83, 0xf9, 0x14,                          // cmp ecx, 20
    0x72, 0x65,                                      // jb fail
    0x2e, 0x3b, 0x1e, 0x00, 0xf2,                    // cmp bx, [cs:0xf200]
    0x73, 0x5e,                                      // jae fail
    0x1e,                                            // push ds
    0x56,                                            // push si
    0x57,                                            // push di
    0x0e,                                            // push cs
    0x1f,                                            // pop ds
    0x6b, 0xf3, 0x14,                                // imul si, bx, 20
    0x81, 0xc6, 0x10, 0xf2,                          // add si, 0xf210
    0xb9, 0x14, 0x00,                                // mov cx, 20
    0xfc,                                            // cld
    0xf3, 0xa4,                                      // rep movsb
    0x5f,                                            // pop di
    0x5e,                                            // pop si
    0x1f,                                            // pop ds
    0x66, 0x43,                                      // inc ebx
    0x2e, 0x3b, 0x1e, 0x00, 0xf2,                    // cmp bx, [cs:0xf200]
    0x72, 0x03,                                      // jb .done
    0x66, 0x31, 0xdb,                                // xor ebx, ebx
    0x66, 0xb8, 0x50, 0x41, 0x4d, 0x53,              // mov eax, 'SMAP'
    0x66, 0xb9, 0x14, 0x00, 0x00, 0x00,              // mov ecx, 20
    0xeb, 0x26,                                      // jmp succeed
    // e801:
    0x3d, 0x01, 0xe8,                                // cmp ax, 0xe801
    0x75, 0x0f,                                      // jne e88
    0x2e, 0xa1, 0x02, 0xf2,                          // mov ax, [cs:0xf202]
    0x2e, 0x8b, 0x1e, 0x04, 0xf2,                    // mov bx, [cs:0xf204]
    0x89, 0xc1,                                      // mov cx, ax
    0x89, 0xda,                                      // mov dx, bx
    0xeb, 0x12,                                      // jmp succeed
    // e88:
    0x80, 0xfc, 0x88,                                // cmp ah, 0x88
    0x75, 0x06,                                      // jne a20
    0x2e, 0xa1, 0x06, 0xf2,                          // mov ax, [cs:0xf206]
    0xeb, 0x07,                                      // jmp succeed
    // a20:
    0x80, 0xfc, 0x24,                                // cmp ah, 0x24
    0x75, 0x0b,                                      // jne fail
    0x30, 0xe4,                                      // xor ah, ah
    // succeed:
    0x55,                                            // push bp
    0x89, 0xe5,                                      // mov bp, sp
    0x80, 0x66, 0x06, 0xfe,                          // and byte [bp+6], 0xfe
    0x5d,                                            // pop bp
    0xcf,                                            // iret
    // fail:
    0xb4, 0x86,                                      // mov ah, 0x86
    0x55,                                            // push bp
    0x89, 0xe5,                                      // mov bp, sp
    0x80, 0x4e, 0x06, 0x01,                          // or byte [bp+6], 1
    0x5d,                                            // pop bp
    0xcf,                                            // iret
    // int10:
    0x80, 0xfc, 0x0e,                                // cmp ah, 0xe
    0x75, 0x06,                                      // jne .done
    0x52,                                            // push dx
    0xba, 0xf8, 0x03,                                // mov dx, 0x3f8
    0xee,                                            // out dx, al
    0x5a,                                            // pop dx
    0xcf,                                            // iret
    // int12:
    0xb8, 0x7f, 0x02,                                // mov ax, 639
    0xcf,                                            // iret
    // int16:
    0x55,                                            // push bp
    0x89, 0xe5,                                      // mov bp, sp
    0x80, 0x4e, 0x06, 0x40,                          // or byte [bp+6], 0x40
    0x5d,                                            // pop bp
    0x31, 0xc0,                                      // xor ax, ax
    0xcf,                                            // iret
};
// clang-format on
_Static_assert(sizeof code <= BIOS_DATA - BIOS_CODE, "the code fits");

static const struct {
    uint8_t vector;
    uint8_t entry;
} vectors[] = {
    {0x10, INT10}, {0x12, INT12}, {0x13, FAIL}, {0x15, INT15}, {0x16, INT16}, {0x1a, FAIL},
};

/* Bytes of RAM in one piece from gpa on. */
static uint64_t ram_from(const struct place *p, uint64_t gpa)
{
    for (unsigned i = 0; i < p->map_count; i++) {
        const struct boot_range *r = &p->map[i];
        if (r->type == BOOT_RANGE_RAM && gpa - r->gpa < r->size)
            return r->size - (gpa - r->gpa);
    }
    return 0;
}

static uint16_t at_most(uint64_t value, uint16_t limit)
{
    return value < limit ? (uint16_t)value : limit;
}

/* The sizes of INT 15h, functions E801h (KiB from 1 MiB to 16 MiB, 64 KiB from there on) and 88h
 * (KiB from 1 MiB on). */
static void put_sizes(uint8_t *data, const struct place *p)
{
    const uint64_t mib = 1 << 20;
    uint64_t extended = ram_from(p, mib);
    store_u16(data, (uint16_t)p->map_count);
    store_u16(data + 2, at_most(extended >> 10, 15 << 10));
    store_u16(data + 4, at_most(extended >= 15 * mib ? (extended - 15 * mib) >> 16 : 0, 0xffff));
    store_u16(data + 6, at_most(extended >> 10, 0xffff));
}

bool bios_install(struct place *place, struct error *err)
{
    uint8_t image[BIOS_END - BIOS_CODE] = {0};
    memcpy(image, code, sizeof code);
    put_sizes(image + (BIOS_DATA - BIOS_CODE), place);
    for (unsigned i = 0; i < place->map_count && i < BOOT_RANGES; i++) {
        uint8_t *range = image + (BIOS_MAP - BIOS_CODE) + (size_t)i * RANGE_SIZE;
        store_u64(range, place->map[i].gpa);
        store_u64(range + 8, place->map[i].size);
        store_u32(range + 16, place->map[i].type);
    }
    bool ok = memory_write(place->memory, (BIOS_SEGMENT << 4) + BIOS_CODE, image, sizeof image);
    for (size_t i = 0; ok && i < ARRAY_LEN(vectors); i++) {
        uint8_t vector[4];
        store_u16(vector, BIOS_CODE + vectors[i].entry);
        store_u16(vector + 2, BIOS_SEGMENT);
        ok = memory_write(place->memory, vectors[i].vector * 4u, vector, sizeof vector);
    }
    return ok || error_set(err, "--boot 16: the guest has no memory for a BIOS; use --boot 32");
}

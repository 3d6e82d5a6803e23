#include "machine/firmware.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/aml.h"
#include "machine/map.h"
#include "x86/state.h"

uint8_t firmware_checksum(const uint8_t *bytes, uint64_t n)
{
    uint8_t sum = 0;
    for (uint64_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return (uint8_t)-sum;
}

/* ---- real-mode stubs ---- */

enum {
    STUB_SEGMENT = 0xf000,
    STUB_RESET = 0xf000,  /* offsets in it */
    STUB_IRET = 0xff53,   /* where PCs have had their idle handler since 1981 */
    STUB_VECTOR = 0xfff0, /* the reset vector */
};

/* mov dx, 0xcf9; mov al, 6; out dx, al; hlt; jmp to the hlt: a program that jumps to the reset
 * vector wants a reset. */
static const uint8_t stub_reset[] = {0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4, 0xeb, 0xfd};
static const uint8_t stub_iret[] = {0xcf};
static const uint8_t stub_vector[] = {0xea, STUB_RESET & 0xff, STUB_RESET >> 8, STUB_SEGMENT & 0xff,
                                      STUB_SEGMENT >> 8};

static void stubs(uint8_t *segment)
{
    memcpy(segment + STUB_RESET, stub_reset, sizeof stub_reset);
    memcpy(segment + STUB_IRET, stub_iret, sizeof stub_iret);
    memcpy(segment + STUB_VECTOR, stub_vector, sizeof stub_vector);
    memcpy(segment + STUB_VECTOR + 5, "01/01/26", 8);
    segment[0xfffe] = 0xfc; /* a PC/AT */
}

/* ---- low memory ---- */

static bool low_memory(struct memory *m)
{
    uint8_t low[MAP_BDA + 0x100] = {0};
    for (unsigned vector = 0; vector < 256; vector++) {
        store_u16(low + 4 * vector, STUB_IRET);
        store_u16(low + 4 * vector + 2, STUB_SEGMENT);
    }
    uint8_t *bda = low + MAP_BDA;
    store_u16(bda + 0x00, PORT_COM1);
    store_u16(bda + 0x0e, (uint16_t)(MAP_EBDA >> 4));
    store_u16(bda + 0x10, 1u << 9 | 1u << 2 | 1u << 1); /* one serial port, a mouse, an FPU */
    store_u16(bda + 0x13, (uint16_t)(MAP_EBDA >> 10));  /* KiB of low memory */
    uint8_t ebda[1024] = {1};                           /* its size in KiB */
    return memory_write(m, 0, low, sizeof low) && memory_write(m, MAP_EBDA, ebda, sizeof ebda);
}

/* ---- the tables ---- */

static bool build(uint8_t *image, uint32_t from, uint32_t to,
                  void (*table)(struct aml *out, uint32_t gpa, const struct firmware_info *info),
                  const struct firmware_info *info)
{
    struct aml a;
    aml_init(&a, image + (from - MAP_FIRMWARE), to - from);
    table(&a, from, info);
    return !a.overflow;
}

bool firmware_write(struct memory *m, const struct firmware_info *info, struct error *err)
{
    enum { SIZE = MAP_FIRMWARE_END - MAP_FIRMWARE };
    uint8_t *image = calloc(1, SIZE);
    if (!image)
        return error_errno(err, "firmware tables");
    bool fits = build(image, MAP_ACPI, MAP_MPTABLE, acpi_build, info) &&
                build(image, MAP_MPTABLE, MAP_SMBIOS, mptable_build, info) &&
                build(image, MAP_SMBIOS, MAP_STUBS, smbios_build, info);
    stubs(image + (MAP_MPTABLE - MAP_FIRMWARE));
    bool done = fits && low_memory(m) && memory_write(m, MAP_FIRMWARE, image, SIZE);
    free(image);
    return done || error_set(err, "firmware tables do not fit: this is a bug in Doppel");
}

/* ---- processors ---- */

/* SDM 3, 12.11: RAM is write-back, the video window and all from PCI's hole to 4 GiB uncacheable,
 * firmware's part write-protected. */
void firmware_processor(struct x86_state *s, unsigned physical_bits)
{
    enum { UC = 0, WP = 5, WB = 6, FIXED_ENABLE = 1u << 10, ENABLE = 1u << 11, VALID = 1u << 11 };
    const uint64_t eight = UINT64_C(0x0101010101010101);
    enum { FIXED_64K_00000, FIXED_16K_80000, FIXED_16K_A0000, FIXED_4K_C0000 };
    s->mtrr_fixed[FIXED_64K_00000] = eight * WB;
    s->mtrr_fixed[FIXED_16K_80000] = eight * WB;
    s->mtrr_fixed[FIXED_16K_A0000] = eight * UC;
    for (unsigned i = FIXED_4K_C0000; i < X86_MTRR_FIXED; i++)
        s->mtrr_fixed[i] = eight * WP;
    s->mtrr_base[0] = MAP_PCI_LOW | UC;
    s->mtrr_mask[0] = (bits_mask(physical_bits) & ~(MEMORY_HIGH - MAP_PCI_LOW - 1)) | VALID;
    s->mtrr_def_type = WB | FIXED_ENABLE | ENABLE;
}

/*
 * The memory types that a PC's firmware leaves behind (SDM 3, 11.11). Nothing here caches, but
 * guests plan by them: Linux uses the PAT only where the MTRRs are on.
 */
#include "x86/msr.h"
#include "x86/state.h"

enum { WRITE_BACK = 6 };

void x86_firmware_mtrrs(struct x86_state *s, unsigned physical_bits, uint64_t hole)
{
    const uint64_t all_write_back = UINT64_C(0x0101010101010101) * WRITE_BACK;
    const uint64_t size = BIT(32) - hole;
    for (unsigned i = 0; i < X86_MTRR_FIXED; i++)
        s->mtrr_fixed[i] = all_write_back;
    s->mtrr_fixed[2] = 0; /* 0xa0000 to 0xbffff, the video window */
    s->mtrr_base[0] = hole;
    s->mtrr_mask[0] = (bits_mask(physical_bits) & ~(size - 1)) | MTRR_VALID;
    s->mtrr_def_type = WRITE_BACK | MTRR_ENABLE | MTRR_FIXED_ENABLE;
}

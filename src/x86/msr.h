/*
 * Model-specific registers (SDM 4): the processor's own here, the machine's (APIC, TSC) through
 * x86_host.
 */
#ifndef DOPPEL_X86_MSR_H
#define DOPPEL_X86_MSR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"

struct x86_cpu;
struct x86_state;

enum x86_msr {
    MSR_P5_MC_ADDR = 0x0,
    MSR_P5_MC_TYPE = 0x1,
    MSR_TSC = 0x10,
    MSR_PLATFORM_ID = 0x17,
    MSR_APIC_BASE = 0x1b,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_BIOS_UPDT_TRIG = 0x79,
    MSR_BIOS_SIGN_ID = 0x8b,
    MSR_PLATFORM_INFO = 0xce,
    MSR_MTRRCAP = 0xfe,
    MSR_ARCH_CAPABILITIES = 0x10a,
    MSR_FLUSH_CMD = 0x10b,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_PHYSBASE0 = 0x200,
    MSR_MTRR_FIX64K_00000 = 0x250,
    MSR_MTRR_FIX16K_80000 = 0x258,
    MSR_MTRR_FIX16K_A0000 = 0x259,
    MSR_MTRR_FIX4K_C0000 = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF_TYPE = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC_FIRST = 0x800,
    MSR_X2APIC_LAST = 0x8ff,
    MSR_XSS = 0xda0,
    MSR_EFER = 0xc0000080,
    MSR_STAR = 0xc0000081,
    MSR_LSTAR = 0xc0000082,
    MSR_CSTAR = 0xc0000083,
    MSR_SFMASK = 0xc0000084,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
    MSR_KERNEL_GS_BASE = 0xc0000102,
    MSR_TSC_AUX = 0xc0000103,
};

/* IA32_ARCH_CAPABILITIES. */
#define ARCH_CAP_RDCL_NO            BIT(0)
#define ARCH_CAP_IBRS_ALL           BIT(1)
#define ARCH_CAP_SKIP_L1DFL_VMENTRY BIT(3)
#define ARCH_CAP_SSB_NO             BIT(4)
#define ARCH_CAP_MDS_NO             BIT(5)
#define ARCH_CAP_PSCHANGE_MC_NO     BIT(6)
#define ARCH_CAP_TAA_NO             BIT(8)
#define ARCH_CAP_SBDR_SSDP_NO       BIT(13)
#define ARCH_CAP_FBSDP_NO           BIT(14)
#define ARCH_CAP_PSDP_NO            BIT(15)
#define ARCH_CAP_BHI_NO             BIT(20)
#define ARCH_CAP_PBRSB_NO           BIT(24)
#define ARCH_CAP_GDS_NO             BIT(26)
#define ARCH_CAP_RFDS_NO            BIT(27)
#define ARCH_CAP_ITS_NO             BIT(62)

/* The memory-type range registers. */
#define MTRR_VALID        BIT(11) /* of a mask */
#define MTRR_FIXED_ENABLE BIT(10) /* of the default type */
#define MTRR_ENABLE       BIT(11)

/* IA32_MISC_ENABLE. */
#define MISC_ENABLE_FAST_STRINGS BIT(0)
#define MISC_ENABLE_NO_BTS       BIT(11)
#define MISC_ENABLE_NO_PEBS      BIT(12)
#define MISC_ENABLE_LIMIT_CPUID  BIT(22)
#define MISC_ENABLE_XD_DISABLE   BIT(34)

/* Whether the machine has it: then reading and writing asks that (host.h). */
bool x86_msr_is_machines(uint32_t msr);
/* False: no such register or a value it can't hold; nothing changed, the caller raises #GP(0).
 * Privilege is the caller's to check. A write may flush the TLB and change the mode. */
bool x86_msr_read(struct x86_cpu *c, uint32_t msr, uint64_t *value);
bool x86_msr_write(struct x86_cpu *c, uint32_t msr, uint64_t value);

/* Sets the memory types as a PC's firmware does: RAM is cached, [hole, 4 GiB) is not; the hole's
 * size is a power of two. For every processor of a machine that starts without firmware. */
void x86_firmware_mtrrs(struct x86_state *s, unsigned physical_bits, uint64_t hole);

#endif

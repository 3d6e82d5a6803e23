/*
 * The ACPI tables (ACPI 6.4, chapter 5): RSDP, then RSDT, XSDT, FACS, DSDT, FADT, MADT and MCFG
 * behind it.
 */
#include <string.h>

#include "base/bits.h"
#include "device/ioapic.h"
#include "device/lapic.h"
#include "device/pci.h"
#include "device/pm.h"
#include "device/rtc.h"
#include "machine/aml.h"
#include "machine/firmware.h"
#include "machine/map.h"

enum {
    HEADER_SIZE = 36,
    HEADER_LENGTH = 4, /* offsets in it */
    HEADER_CHECKSUM = 9,
    RSDP_SIZE = 36,
};

/* Generic address structure (5.2.3.2). */
struct __attribute__((packed)) gas {
    uint8_t space, width, offset, access;
    uint64_t address;
};
enum { GAS_IO = 1, GAS_BYTE = 1, GAS_WORD = 2, GAS_DWORD = 3 };

/* The FADT behind its header, as far as revision 3 has it (5.2.9). */
struct __attribute__((packed)) fadt {
    uint32_t firmware_ctrl, dsdt;
    uint8_t reserved0, preferred_pm_profile;
    uint16_t sci_int;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    uint32_t pm1a_evt_blk, pm1b_evt_blk, pm1a_cnt_blk, pm1b_cnt_blk, pm2_cnt_blk, pm_tmr_blk;
    uint32_t gpe0_blk, gpe1_blk;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_blk_len, gpe1_blk_len;
    uint8_t gpe1_base, cst_cnt;
    uint16_t p_lvl2_lat, p_lvl3_lat, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alrm, mon_alrm, century;
    uint16_t iapc_boot_arch;
    uint8_t reserved1;
    uint32_t flags;
    struct gas reset_reg;
    uint8_t reset_value;
    uint8_t reserved2[3];
    uint64_t x_firmware_ctrl, x_dsdt;
    struct gas x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk, x_pm2_cnt_blk;
    struct gas x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
};
_Static_assert(sizeof(struct fadt) == 244 - HEADER_SIZE, "FADT of revision 3");

enum {
    FADT_WBINVD = 1u << 0,
    FADT_PROC_C1 = 1u << 2,
    FADT_SLP_BUTTON = 1u << 5, /* there is no fixed sleep button; there is a power button */
    FADT_FIX_RTC = 1u << 6,    /* nor an RTC status bit */
    FADT_TMR_VAL_EXT = 1u << 8,
    FADT_RESET_REG_SUP = 1u << 10,

    BOOT_LEGACY_DEVICES = 1u << 0,
    BOOT_8042 = 1u << 1,
    BOOT_NO_VGA = 1u << 2,
};

/* ---- tables in general ---- */

static void align(struct aml *a, unsigned to)
{
    while (a->size % to && !a->overflow)
        aml_byte(a, 0);
}

/* Begins a table at the next multiple of 16; returns where. */
static size_t table_begin(struct aml *a, const char *signature, uint8_t revision)
{
    align(a, 16);
    size_t at = a->size;
    aml_bytes(a, signature, 4);
    aml_little(a, 0, 4); /* length */
    aml_byte(a, revision);
    aml_byte(a, 0); /* checksum */
    aml_bytes(a, "DOPPELDOPPELPC", 14);
    aml_little(a, 1, 4);
    aml_bytes(a, "DOPL", 4);
    aml_little(a, 1, 4);
    return at;
}

static void table_end(struct aml *a, size_t at)
{
    if (a->overflow)
        return;
    store_u32(a->data + at + HEADER_LENGTH, (uint32_t)(a->size - at));
    a->data[at + HEADER_CHECKSUM] = firmware_checksum(a->data + at, a->size - at);
}

/* ---- MADT (5.2.12) ---- */

enum { MADT_PCAT_COMPAT = 1, MADT_ENABLED = 1 };
/* MPS INTI flags (table 5.26): polarity in bits 0 and 1, trigger in bits 2 and 3. */
enum { INTI_CONFORMS = 0, INTI_HIGH_EDGE = 0x5, INTI_HIGH_LEVEL = 0xd };

static void madt_override(struct aml *a, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    aml_byte(a, 2);
    aml_byte(a, 10);
    aml_byte(a, 0); /* ISA */
    aml_byte(a, irq);
    aml_little(a, gsi, 4);
    aml_little(a, flags, 2);
}

static size_t madt(struct aml *a, const struct firmware_info *info)
{
    size_t at = table_begin(a, "APIC", 3);
    aml_little(a, LAPIC_DEFAULT_BASE, 4);
    aml_little(a, MADT_PCAT_COMPAT, 4);
    for (unsigned i = 0; i < info->cpus; i++) {
        aml_byte(a, 0);
        aml_byte(a, 8);
        aml_byte(a, (uint8_t)i); /* the processor's ID in the DSDT */
        aml_byte(a, (uint8_t)i); /* its APIC ID */
        aml_little(a, MADT_ENABLED, 4);
    }
    aml_byte(a, 1);
    aml_byte(a, 12);
    aml_byte(a, MAP_IOAPIC_ID);
    aml_byte(a, 0);
    aml_little(a, IOAPIC_BASE, 4);
    aml_little(a, 0, 4); /* its first GSI */
    madt_override(a, IRQ_TIMER, GSI_TIMER, INTI_CONFORMS);
    madt_override(a, PM_SCI_IRQ, PM_SCI_IRQ, INTI_HIGH_LEVEL);
    aml_byte(a, 4); /* NMI on every processor's LINT1 */
    aml_byte(a, 6);
    aml_byte(a, 0xff);
    aml_little(a, INTI_CONFORMS, 2);
    aml_byte(a, 1);
    table_end(a, at);
    return at;
}

static size_t mcfg(struct aml *a)
{
    size_t at = table_begin(a, "MCFG", 1);
    aml_little(a, 0, 8);
    aml_little(a, PCI_ECAM_BASE, 8);
    aml_little(a, 0, 2); /* segment */
    aml_byte(a, 0);      /* first bus */
    aml_byte(a, (uint8_t)(PCI_ECAM_SIZE / (1u << 20) - 1));
    aml_little(a, 0, 4);
    table_end(a, at);
    return at;
}

static struct gas io(uint16_t port, uint8_t bytes, uint8_t access)
{
    return (struct gas){GAS_IO, (uint8_t)(8 * bytes), 0, access, port};
}

static size_t fadt(struct aml *a, uint32_t facs, uint32_t dsdt)
{
    size_t at = table_begin(a, "FACP", 3);
    struct fadt f = {
        .firmware_ctrl = facs,
        .dsdt = dsdt,
        .sci_int = PM_SCI_IRQ,
        .smi_cmd = PM_SMI_CMD,
        .acpi_enable = PM_ACPI_ENABLE,
        .acpi_disable = PM_ACPI_DISABLE,
        .pm1a_evt_blk = PM_PM1A_EVT,
        .pm1a_cnt_blk = PM_PM1A_CNT,
        .pm_tmr_blk = PM_TMR,
        .gpe0_blk = PM_GPE0,
        .pm1_evt_len = 4,
        .pm1_cnt_len = 2,
        .pm_tmr_len = 4,
        .gpe0_blk_len = PM_GPE0_LENGTH,
        .p_lvl2_lat = 0xfff, /* no C2, no C3 */
        .p_lvl3_lat = 0xfff,
        .century = 0x32,
        .iapc_boot_arch = BOOT_LEGACY_DEVICES | BOOT_8042 | BOOT_NO_VGA,
        .flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT |
                 FADT_RESET_REG_SUP,
        .reset_reg = io(PM_RESET_PORT, 1, GAS_BYTE),
        .reset_value = PM_RESET_VALUE,
        .x_dsdt = dsdt,
        .x_pm1a_evt_blk = io(PM_PM1A_EVT, 4, GAS_DWORD),
        .x_pm1a_cnt_blk = io(PM_PM1A_CNT, 2, GAS_WORD),
        .x_pm_tmr_blk = io(PM_TMR, 4, GAS_DWORD),
        .x_gpe0_blk = io(PM_GPE0, PM_GPE0_LENGTH, GAS_BYTE),
    };
    aml_bytes(a, &f, sizeof f);
    table_end(a, at);
    return at;
}

/* The FACS (5.2.10): a global lock that nobody contends for, in memory that may be written. */
static size_t facs(struct aml *a)
{
    align(a, 64);
    size_t at = a->size;
    aml_bytes(a, "FACS", 4);
    aml_little(a, 64, 4);
    for (unsigned i = 8; i < 64; i++)
        aml_byte(a, i == 32 ? 1 : 0); /* version 1 */
    return at;
}

/* ---- the whole ---- */

static void rsdp(struct aml *a, uint32_t rsdt, uint64_t xsdt)
{
    if (a->overflow)
        return;
    uint8_t *p = a->data;
    memcpy(p, "RSD PTR ", 8);
    memcpy(p + 9, "DOPPEL", 6);
    p[15] = 2;
    store_u32(p + 16, rsdt);
    store_u32(p + 20, RSDP_SIZE);
    store_u64(p + 24, xsdt);
    p[8] = firmware_checksum(p, 20); /* ACPI 1.0's part */
    p[32] = firmware_checksum(p, RSDP_SIZE);
}

static size_t root(struct aml *a, const char *signature, const uint32_t *tables, unsigned n,
                   unsigned pointer_size)
{
    size_t at = table_begin(a, signature, 1);
    for (unsigned i = 0; i < n; i++)
        aml_little(a, tables[i], pointer_size);
    table_end(a, at);
    return at;
}

void acpi_build(struct aml *out, uint32_t gpa, const struct firmware_info *info)
{
    for (unsigned i = 0; i < RSDP_SIZE; i++)
        aml_byte(out, 0);
    uint32_t facs_gpa = gpa + (uint32_t)facs(out);
    size_t dsdt = table_begin(out, "DSDT", 1);
    acpi_dsdt(out, info);
    table_end(out, dsdt);
    const uint32_t tables[] = {
        gpa + (uint32_t)fadt(out, facs_gpa, gpa + (uint32_t)dsdt),
        gpa + (uint32_t)madt(out, info),
        gpa + (uint32_t)mcfg(out),
    };
    uint32_t rsdt = gpa + (uint32_t)root(out, "RSDT", tables, ARRAY_LEN(tables), 4);
    uint32_t xsdt = gpa + (uint32_t)root(out, "XSDT", tables, ARRAY_LEN(tables), 8);
    rsdp(out, rsdt, xsdt);
}

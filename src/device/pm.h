/*
 * ACPI power management as an ICH9 has it (ACPI 3.0, 4.7): PM1 event and control blocks, the PM
 * timer, GPE0, and the SMI command port through which ACPI is switched on. There is no system
 * management mode: the port does what its firmware would do.
 */
#ifndef DOPPEL_DEVICE_PM_H
#define DOPPEL_DEVICE_PM_H

#include "base/archive.h"
#include "device/bus.h"
#include "device/clock.h"

#define PM_TIMER_HZ UINT64_C(3579545)

/* For the FADT and the DSDT. */
enum {
    PM_BASE = 0x600,
    PM_SIZE = 0x80,
    PM_PM1A_EVT = PM_BASE + 0x00, /* 4 bytes */
    PM_PM1A_CNT = PM_BASE + 0x04, /* 2 bytes */
    PM_TMR = PM_BASE + 0x08,      /* 4 bytes; TMR_VAL_EXT is set: 32 bits */
    PM_GPE0 = PM_BASE + 0x20,     /* 16 bytes: status, enable */
    PM_GPE0_LENGTH = 16,
    PM_SMI_CMD = 0xb2,
    PM_ACPI_ENABLE = 0xf1,
    PM_ACPI_DISABLE = 0xf0,
    PM_SCI_IRQ = 9,
    PM_SLP_TYP_S5 = 7, /* the \_S5 package's first value */
    PM_RESET_PORT = 0xcf9,
    PM_RESET_VALUE = 0x06,
};

struct pm_host {
    void *ctx;
    void (*power_off)(void *ctx);
};

struct pm {
    struct clock *clock;
    struct timer overflow;
    struct irq_line sci;
    struct pm_host host;
    uint16_t pm1_sts, pm1_en, pm1_cnt;
    uint64_t gpe0_sts, gpe0_en;
    uint32_t smi_en;
    uint8_t apm_cnt, apm_sts;
    uint64_t overflow_seen; /* how many times bit 31 (or 23) had toggled when last looked */
    uint8_t level;
};

extern const struct archive_type pm_archive;

void pm_init(struct pm *p, struct clock *clock, struct irq_line sci, const struct pm_host *host);
void pm_reset(struct pm *p);
/* PM_BASE and ports 0xb2-0xb3. */
bool pm_attach(struct pm *p, struct bus *ports, struct error *err);
/* The power button: an ACPI guest shuts itself down. */
void pm_power_button(struct pm *p);
/* General-purpose event 0 to 63 happened. */
void pm_gpe(struct pm *p, unsigned event);

#endif

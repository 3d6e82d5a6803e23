/*
 * The local APIC of one processor: xAPIC and x2APIC (SDM 3, chapter 10).
 *
 * The timer counts a bus clock of exactly 1 GHz (LAPIC_HZ), so a count is a nanosecond of guest
 * time; CPUID leaf 0x15 and a guest's own calibration find the same.
 */
#ifndef DOPPEL_DEVICE_LAPIC_H
#define DOPPEL_DEVICE_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/archive.h"
#include "device/apic.h"
#include "device/clock.h"

#define LAPIC_HZ           UINT64_C(1000000000)
#define LAPIC_DEFAULT_BASE UINT64_C(0xfee00000)

/* IA32_APIC_BASE. */
enum { LAPIC_BASE_BSP = 1u << 8, LAPIC_BASE_X2APIC = 1u << 10, LAPIC_BASE_ENABLE = 1u << 11 };

/* MSRs. */
enum {
    LAPIC_MSR_BASE = 0x1b,
    LAPIC_MSR_TSC_DEADLINE = 0x6e0,
    LAPIC_MSR_X2APIC = 0x800,
    LAPIC_MSR_X2APIC_END = 0x900,
};

enum {
    LAPIC_LVT_TIMER,
    LAPIC_LVT_THERMAL,
    LAPIC_LVT_PERF,
    LAPIC_LVT_LINT0,
    LAPIC_LVT_LINT1,
    LAPIC_LVT_ERROR,
    LAPIC_LVTS
};

/* What the APIC needs round it. Callbacks are called under the machine's lock. */
struct lapic_host {
    void *ctx;
    /* The processor's INTR: whether lapic_acknowledge() has something. Called on changes only. */
    void (*interrupt)(void *ctx, bool level);
    void (*nmi)(void *ctx);
    /* INIT: the processor goes to its INIT state (and, unless it is the BSP, waits for a start-up
     * IPI). The APIC has reset itself already. */
    void (*init)(void *ctx);
    /* Start-up IPI: begin at vector << 12 if waiting for it, else ignore it. */
    void (*startup)(void *ctx, uint8_t vector);
    void (*smi)(void *ctx); /* may be NULL: no SMM */
    /* The INTA cycle to the 8259s: gives the vector. May be NULL. */
    int (*extint)(void *ctx);
    /* When the processor's TSC shows tsc, in ns on the guest's clock; 0: it is past that already;
     * CLOCK_NEVER: not for a long time. */
    uint64_t (*tsc_to_ns)(void *ctx, uint64_t tsc);
    struct apic_bus *bus;
};

/*
 * An APIC can be lent to an engine that keeps it elsewhere (in the host's kernel): its registers
 * are not here then, no timer of it runs, and messages go to the bus's keeper. What stays is the
 * 8259s' interrupt, which the keeper's processor takes by lapic_acknowledge().
 */
enum lapic_access { LAPIC_ACCESS_PAGE, LAPIC_ACCESS_MSR, LAPIC_ACCESS_CR8 };

struct lapic_keeper {
    void *ctx;
    /* An access by the processor that comes here all the same: to the register at an offset of the
     * page, to an MSR (false: #GP), or to CR8. */
    bool (*access)(void *ctx, enum lapic_access kind, uint32_t where, bool write, uint64_t *value);
};

/* A lent APIC's state: IA32_APIC_BASE, the TSC's deadline, and the register page, with the ID in
 * bits 31 to 24 in either mode. A count that is over, its interrupt given, is told as none. */
struct lapic_image {
    uint64_t base, tsc_deadline;
    uint8_t page[0x400];
};

struct lapic {
    struct clock *clock;
    struct lapic_host host;
    struct timer timer;
    struct lapic_keeper keeper; /* access is NULL unless it is lent */

    uint32_t index; /* initial APIC ID */
    uint32_t bsp;   /* 0 or 1 */
    uint32_t physical_bits;

    uint64_t base; /* IA32_APIC_BASE */
    uint32_t id;   /* as the ID register has it, shifted in xAPIC mode */
    uint32_t tpr, ldr, dfr, svr;
    uint32_t esr, esr_pending;
    uint64_t icr;
    uint32_t lvt[LAPIC_LVTS];
    uint32_t isr[8], tmr[8], irr[8];

    uint32_t timer_initial, timer_divide;
    uint64_t timer_start;  /* guest time at which the running count began; CLOCK_NEVER: stopped */
    uint64_t tsc_deadline; /* 0: disarmed */
    uint64_t timer_at;     /* while saved: the timer's deadline */

    uint8_t line[2]; /* levels of LINT0 and LINT1 */
    uint8_t extint;  /* an ExtINT message came and was not acknowledged */

    uint8_t interrupt; /* what the processor was last told */
};

extern const struct archive_type lapic_archive;

/* index: the initial APIC ID. The APIC starts as after power-on. Does not add itself to the bus. */
void lapic_init(struct lapic *l, struct clock *clock, const struct lapic_host *host, unsigned index,
                bool bsp, unsigned physical_bits);
/* Power-on or RESET#. The BSP's LINT0 is left open for the 8259s (ExtINT), as firmware leaves it.
 */
void lapic_reset(struct lapic *l);

/* The state goes to the keeper, and comes back (lapic_image.c). */
void lapic_lend(struct lapic *l, const struct lapic_keeper *keeper, struct lapic_image *to);
void lapic_take_back(struct lapic *l, const struct lapic_image *from);

/* Whether an access to gpa is this processor's APIC page now (each processor has its own base). */
static inline bool lapic_claims(const struct lapic *l, uint64_t gpa)
{
    return (l->base & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC)) == LAPIC_BASE_ENABLE &&
           ((gpa ^ l->base) & ~UINT64_C(0xfff)) == 0;
}

/* The register page; offset is taken modulo 4096. */
uint64_t lapic_read(struct lapic *l, uint64_t offset, unsigned size);
void lapic_write(struct lapic *l, uint64_t offset, unsigned size, uint64_t value);

/* LAPIC_MSR_*; false: the processor raises #GP(0). */
bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value);
bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value);

uint64_t lapic_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, uint64_t value);

/* The processor's interrupt acknowledge: the vector, or -1 when there is none (any more). */
int lapic_acknowledge(struct lapic *l);
static inline bool lapic_pending(const struct lapic *l)
{
    return l->interrupt;
}

/* The processor's TSC was written or adjusted: the deadline lies elsewhere now. */
void lapic_tsc_changed(struct lapic *l);
/* LINT0 (pin 0: the 8259s' INTR) and LINT1 (pin 1: NMI); a struct irq_line's set. */
void lapic_lint(void *lapic, unsigned pin, bool level);

/* ---- what apic_bus uses ---- */

/* Whether the message's destination names this APIC. */
bool lapic_matches(const struct lapic *l, const struct apic_message *m);
/* Takes a message, whatever its destination. */
void lapic_deliver(struct lapic *l, const struct apic_message *m);
/* Processor priority (PPR), for lowest-priority arbitration. */
unsigned lapic_priority(const struct lapic *l);
/* Whether it takes fixed interrupts at all (hardware- and software-enabled). */
bool lapic_enabled(const struct lapic *l);

#endif

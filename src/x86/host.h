/*
 * What a running vCPU asks of the machine round it: ports, MMIO, interrupts, time, the MSRs the
 * machine owns. The machine fills one of these per vCPU; every engine calls it, none knows what is
 * behind it.
 *
 * Functions are called on the vCPU's own thread, at an instruction boundary or in the middle of
 * an instruction's access, never with a lock of the processor's held.
 */
#ifndef DOPPEL_X86_HOST_H
#define DOPPEL_X86_HOST_H

#include <stdbool.h>
#include <stdint.h>

struct x86_host {
    void *ctx; /* handed to every function */

    /* size is 1, 2 or 4. Unclaimed ports read all ones. */
    uint32_t (*pio_read)(void *ctx, uint16_t port, unsigned size);
    void (*pio_write)(void *ctx, uint16_t port, unsigned size, uint32_t value);

    /* Guest-physical addresses that are not RAM; size is 1, 2, 4 or 8. Unclaimed reads give all
     * ones. */
    uint64_t (*mmio_read)(void *ctx, uint64_t gpa, unsigned size);
    void (*mmio_write)(void *ctx, uint64_t gpa, unsigned size, uint64_t value);

    /* Takes the interrupt that the local APIC or the 8259 offers now (the processor's
     * acknowledge): its vector, or -1 when there is none (any more). */
    int (*interrupt_acknowledge)(void *ctx);

    /* The time-stamp counter now, TSC offset included. */
    uint64_t (*tsc_read)(void *ctx);

    /* MSRs that the machine owns: APIC_BASE, TSC, TSC_ADJUST, TSC_DEADLINE, the x2APIC's. False: no
     * such MSR, or a reserved bit; the processor raises #GP(0). */
    bool (*msr_read)(void *ctx, uint32_t msr, uint64_t *value);
    bool (*msr_write)(void *ctx, uint32_t msr, uint64_t value);

    /* CR8: bits 7:4 of the local APIC's TPR, as a number from 0 to 15. */
    uint64_t (*cr8_read)(void *ctx);
    void (*cr8_write)(void *ctx, uint64_t value);

    /* A local APIC that the engine keeps has ended a level-triggered interrupt. NULL: none is. */
    void (*apic_eoi)(void *ctx, uint8_t vector);

    /* Random bytes for RDRAND and RDSEED. NULL: the host's entropy; a reproducible run gives a
     * seeded generator of its own. */
    void (*random)(void *ctx, void *to, unsigned n);

    /* FERR#: the x87 asks for IRQ 13 (CR0.NE = 0). */
    void (*fpu_error)(void *ctx, bool level);
};

#endif

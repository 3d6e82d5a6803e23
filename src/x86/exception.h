/*
 * Exceptions and interrupts: delivering one event to the guest (SDM 3, chapter 6).
 */
#ifndef DOPPEL_X86_EXCEPTION_H
#define DOPPEL_X86_EXCEPTION_H

#include "x86/cpu.h"

/* What kind of event a vector belongs to; numbered as VMX numbers them (SDM 3, 25.8.3). */
enum x86_event_type {
    X86_EXTERNAL_INTERRUPT = 0,
    X86_EVENT_NMI = 2,
    X86_HARDWARE_EXCEPTION = 3,
    X86_SOFTWARE_INTERRUPT = 4,            /* INT n */
    X86_PRIVILEGED_SOFTWARE_EXCEPTION = 5, /* INT1 */
    X86_SOFTWARE_EXCEPTION = 6,            /* INT3, INTO */
};

struct x86_event {
    enum x86_event_type type;
    uint8_t vector;
    bool has_error;
    uint32_t error;
    bool fault; /* of the class that saves RF set (SDM 3, 17.3.1.1) */
};

/* Delivers an event at an instruction boundary: s.rip is what the handler shall return to. Faults
 * on the way are delivered in its place, as a double fault, or shut the processor down (SDM 3,
 * table 6-5). Does not raise. */
void x86_deliver(struct x86_cpu *c, enum x86_event_type type, unsigned vector, bool has_error,
                 uint32_t error);

/* Delivers c->fault, raised by c->op, after the engine's run loop caught it. */
void x86_deliver_fault(struct x86_cpu *c);

/* INT n, INT1, INT3, INTO: s.rip is the next instruction's. Faults are raised. */
void x86_software_interrupt(struct x86_cpu *c, enum x86_event_type type, unsigned vector);

/* One try at an event; faults are raised and leave the registers as they were. The part of
 * delivery that walks the IDT (deliver.c). */
void x86_deliver_event(struct x86_cpu *c, const struct x86_event *e);

#endif

/* Registers of the local APIC (SDM 3, table 10-1), where its page is mapped. */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include <stdint.h>

enum {
    APIC_EOI = 0xb0,
    APIC_SPURIOUS = 0xf0,
    APIC_TIMER = 0x320,
    APIC_COUNT = 0x380,
    APIC_DIVIDE = 0x3e0,
};

static inline void apic(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(0xfee00000ul + reg) = v;
}

#endif

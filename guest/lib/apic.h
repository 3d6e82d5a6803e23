/* The local APIC, which is at its page of memory. */
#ifndef GUEST_APIC_H
#define GUEST_APIC_H

#include <stdint.h>

#include "apic_registers.h"

#define APIC 0xfee00000ul

static inline uint32_t apic_get(unsigned reg)
{
    return *(volatile uint32_t *)(APIC + reg);
}

static inline void apic_set(unsigned reg, uint32_t v)
{
    *(volatile uint32_t *)(APIC + reg) = v;
}

#endif

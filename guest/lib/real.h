/*
 * Running pieces of 16-bit code in real mode, from a 32-bit guest, until something happens.
 */
#ifndef GUEST_REAL_H
#define GUEST_REAL_H

#include "run32.h"

/* The order is that of real.S. */
struct real_context {
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp, esp;
    uint16_t ds, es, fs, gs, ss, cs, ip, flags;
    uint16_t vector; /* what ended it */
};

/* Where tests keep their code, data and stack. */
enum { REAL_CODE = 0x1000, REAL_DATA = 0x2000, REAL_STACK = 0x3000 };

static inline uint8_t *real_linear(uint32_t paragraph, uint32_t offset)
{
    return (uint8_t *)(paragraph * 16 + offset);
}

/* Code copied to REAL_CODE:0, and registers to go with it. */
struct real_context real_program(const void *from, const void *to);
#define REAL_PROGRAM(name) real_program(name, name##_end)

void real_run(struct real_context *c);

/* The interrupt vector table, which real_init() points at what ends a run. */
void real_init(void);
static inline uint32_t *real_vector(unsigned n)
{
    uint32_t address = n * 4;
    __asm__("" : "+r"(address)); /* the compiler has views on address 0 */
    return (uint32_t *)address;
}

#endif

/* Registers of the local APIC's page (SDM 3, table 10-1), and bits of theirs, by the names that
 * guests and tests have for them. */
#ifndef GUEST_APIC_REGISTERS_H
#define GUEST_APIC_REGISTERS_H

enum {
    ID = 0x20,
    VERSION = 0x30,
    TPR = 0x80,
    PPR = 0xa0,
    EOI = 0xb0,
    LDR = 0xd0,
    DFR = 0xe0,
    SVR = 0xf0,
    ISR = 0x100,
    TMR = 0x180,
    IRR = 0x200,
    ESR = 0x280,
    ICR = 0x300,
    ICR_HIGH = 0x310,
    LVT_TIMER = 0x320,
    LVT_THERMAL = 0x330,
    LVT_PERF = 0x340,
    LVT_LINT0 = 0x350,
    LVT_LINT1 = 0x360,
    LVT_ERROR = 0x370,
    INITIAL = 0x380,
    CURRENT = 0x390,
    DIVIDE = 0x3e0,
};
enum {
    MASKED = 1 << 16,
    PERIODIC = 1 << 17,
    DEADLINE = 2 << 17,
    EXTINT = 7 << 8,
    BY_ONE = 0xb,             /* of the timer's divider */
    SELF = 1 << 18 | 1 << 14, /* of the ICR: a fixed interrupt to the sender */
};

#endif

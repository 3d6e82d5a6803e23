#include "device/lapic.h"

#include "base/bits.h"
#include "device/lapic_internal.h"

enum { DFR_FLAT = 0xf, DFR_CLUSTER = 0x0 }; /* bits 28 to 31 */

/* Version 0x14: integrated; six LVT entries; EOI broadcasts can be suppressed. */
enum { VERSION = 0x14 | (LAPIC_LVTS - 1) << 16 | 1 << 24 };

/* Which bits of each LVT entry exist. */
const uint32_t lapic_lvt_writable[LAPIC_LVTS] = {
    [LAPIC_LVT_TIMER] = LVT_TIMER_MODE | LVT_MASKED | 0xff,
    [LAPIC_LVT_THERMAL] = LVT_MASKED | 0x7ff,
    [LAPIC_LVT_PERF] = LVT_MASKED | 0x7ff,
    [LAPIC_LVT_LINT0] = LVT_MASKED | LVT_LEVEL | LVT_POLARITY | 0x7ff,
    [LAPIC_LVT_LINT1] = LVT_MASKED | LVT_LEVEL | LVT_POLARITY | 0x7ff,
    [LAPIC_LVT_ERROR] = LVT_MASKED | 0xff,
};

static bool lapic_x2(const struct lapic *l)
{
    return l->base & LAPIC_BASE_X2APIC;
}

static bool lapic_on(const struct lapic *l)
{
    return l->base & LAPIC_BASE_ENABLE;
}

bool lapic_enabled(const struct lapic *l)
{
    return lapic_on(l) && (l->svr & SVR_ENABLE);
}

/* ---- vectors and priorities ---- */

static void bits_set(uint32_t *set, uint8_t vector)
{
    set[vector / 32] |= 1u << vector % 32;
}

static void bits_clear(uint32_t *set, uint8_t vector)
{
    set[vector / 32] &= ~(1u << vector % 32);
}

static bool bits_test(const uint32_t *set, uint8_t vector)
{
    return set[vector / 32] >> vector % 32 & 1;
}

/* The highest vector in set, or -1. */
static int bits_highest(const uint32_t *set)
{
    for (int i = 7; i >= 0; i--)
        if (set[i])
            return i * 32 + 31 - __builtin_clz(set[i]);
    return -1;
}

/* PPR (SDM 3, 10.8.3.1): the class of what is in service, or the TPR if that is not lower. */
unsigned lapic_priority(const struct lapic *l)
{
    int isr = bits_highest(l->isr);
    unsigned class = isr < 0 ? 0 : (unsigned)isr & 0xf0;
    return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

static bool lapic_lent(const struct lapic *l)
{
    return l->keeper.access != NULL;
}

/* The vector that the processor can take now, or -1. */
static int lapic_candidate(const struct lapic *l)
{
    int irr = lapic_on(l) && !lapic_lent(l) ? bits_highest(l->irr) : -1;
    return irr >= 0 && ((unsigned)irr & 0xf0) > (lapic_priority(l) & 0xf0) ? irr : -1;
}

/* Whether the 8259s' interrupt gets through: on LINT0 as ExtINT, or straight when there is no
 * APIC, or as a message. Whether LINT0 is open is for the keeper to see, if there is one. */
static bool lapic_extint_pending(const struct lapic *l)
{
    if (lapic_lent(l))
        return l->line[0] || l->extint;
    if (!lapic_on(l))
        return l->line[0];
    uint32_t lint0 = l->lvt[LAPIC_LVT_LINT0];
    bool open = !(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == APIC_EXTINT;
    return (open && l->line[0]) || l->extint;
}

void lapic_tell(struct lapic *l)
{
    l->interrupt = lapic_candidate(l) >= 0 || lapic_extint_pending(l);
    l->host.interrupt(l->host.ctx, l->interrupt);
}

/* Tells the processor when its interrupt line changes: to be called after any change to IRR, ISR,
 * TPR, LINT0. */
static void lapic_update(struct lapic *l)
{
    uint8_t interrupt = lapic_candidate(l) >= 0 || lapic_extint_pending(l);
    if (interrupt != l->interrupt)
        lapic_tell(l);
}

int lapic_acknowledge(struct lapic *l)
{
    int vector = lapic_candidate(l);
    if (vector >= 0) {
        bits_clear(l->irr, (uint8_t)vector);
        bits_set(l->isr, (uint8_t)vector);
    } else if (lapic_extint_pending(l)) {
        l->extint = 0;
        vector = l->host.extint ? l->host.extint(l->host.ctx) : -1;
    }
    lapic_update(l);
    return vector;
}

static void lapic_lint_level(struct lapic *l, unsigned pin);

static void lapic_eoi(struct lapic *l)
{
    int highest = bits_highest(l->isr);
    if (highest < 0)
        return;
    uint8_t vector = (uint8_t)highest;
    bits_clear(l->isr, vector);
    if (bits_test(l->tmr, vector)) {
        if (!(l->svr & SVR_NO_EOI_BROADCAST))
            apic_bus_eoi(l->host.bus, vector);
        for (unsigned pin = 0; pin < 2; pin++) {
            uint32_t *lvt = &l->lvt[LAPIC_LVT_LINT0 + pin];
            if ((uint8_t)*lvt == vector && (*lvt & LVT_REMOTE_IRR)) {
                *lvt &= ~(uint32_t)LVT_REMOTE_IRR;
                lapic_lint_level(l, pin);
            }
        }
    }
    lapic_update(l);
}

/* ---- taking interrupts in ---- */

/* An error raises an interrupt, and an interrupt may be an error: lapic_error() says why that ends.
 * NOLINTBEGIN(misc-no-recursion) */

static void lapic_error(struct lapic *l, uint32_t bit);

static void lapic_accept(struct lapic *l, uint8_t vector, bool level)
{
    if (!lapic_enabled(l))
        return;
    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_VECTOR);
        return;
    }
    bits_set(l->irr, vector);
    if (level)
        bits_set(l->tmr, vector);
    else
        bits_clear(l->tmr, vector);
    lapic_update(l);
}

static void lapic_init_received(struct lapic *l);

void lapic_deliver(struct lapic *l, const struct apic_message *m)
{
    switch (m->mode) {
    case APIC_FIXED:
    case APIC_LOWEST: lapic_accept(l, m->vector, m->level); break;
    case APIC_SMI:
        if (l->host.smi)
            l->host.smi(l->host.ctx);
        break;
    case APIC_NMI: l->host.nmi(l->host.ctx); break;
    case APIC_INIT: lapic_init_received(l); break;
    case APIC_STARTUP: l->host.startup(l->host.ctx, m->vector); break;
    case APIC_EXTINT:
        l->extint = 1;
        lapic_update(l);
        break;
    default: break;
    }
}

/* An interrupt of the APIC's own, through its LVT entry. */
void lapic_local(struct lapic *l, unsigned entry)
{
    uint32_t lvt = l->lvt[entry];
    if (lvt & LVT_MASKED)
        return;
    bool has_mode = entry != LAPIC_LVT_TIMER && entry != LAPIC_LVT_ERROR;
    struct apic_message m = {.vector = (uint8_t)lvt, .mode = has_mode ? lvt >> 8 & 7 : APIC_FIXED};
    if (m.mode != APIC_LOWEST && m.mode != APIC_STARTUP && m.mode != APIC_EXTINT)
        lapic_deliver(l, &m);
}

/* Sets a bit that the next write to the ESR shows, and raises the error interrupt. */
static void lapic_error(struct lapic *l, uint32_t bit)
{
    if (l->esr_pending & bit)
        return; /* also ends the regress when the error vector itself is illegal */
    l->esr_pending |= bit;
    lapic_local(l, LAPIC_LVT_ERROR);
}
/* NOLINTEND(misc-no-recursion) */

/* A LINT pin that is level-triggered in fixed mode requests while its line is high. */
static void lapic_lint_level(struct lapic *l, unsigned pin)
{
    uint32_t *lvt = &l->lvt[LAPIC_LVT_LINT0 + pin];
    if (!l->line[pin] || (*lvt & (LVT_MASKED | LVT_REMOTE_IRR)) || !lapic_enabled(l))
        return;
    if ((*lvt >> 8 & 7) != APIC_FIXED || !(*lvt & LVT_LEVEL) || (uint8_t)*lvt < 16)
        return;
    *lvt |= LVT_REMOTE_IRR;
    lapic_accept(l, (uint8_t)*lvt, true);
}

void lapic_lint(void *lapic, unsigned pin, bool level)
{
    struct lapic *l = lapic;
    pin &= 1;
    bool rose = level && !l->line[pin];
    l->line[pin] = level;
    if (lapic_lent(l)) {
        lapic_update(l);
        return;
    }
    if (!lapic_on(l)) {
        if (pin == 1 && rose)
            l->host.nmi(l->host.ctx);
    } else {
        uint32_t lvt = l->lvt[LAPIC_LVT_LINT0 + pin];
        if ((lvt >> 8 & 7) == APIC_FIXED && (lvt & LVT_LEVEL))
            lapic_lint_level(l, pin);
        else if (rose)
            lapic_local(l, LAPIC_LVT_LINT0 + pin);
    }
    lapic_update(l);
}

/* ---- destinations (SDM 3, 10.6.2 and 10.12.10) ---- */

static bool lapic_matches_x2(const struct lapic *l, const struct apic_message *m)
{
    if (!m->logical)
        return m->destination == l->index || m->destination == (m->wide ? UINT32_MAX : 0xff);
    if (m->wide && m->destination == UINT32_MAX)
        return true;
    return m->destination >> 16 == l->ldr >> 16 && (m->destination & l->ldr & 0xffff);
}

static bool lapic_matches_x1(const struct lapic *l, const struct apic_message *m)
{
    uint32_t to = m->destination;
    if (to == (m->wide ? UINT32_MAX : 0xff))
        return true;
    if (to > 0xff)
        return false;
    if (!m->logical)
        return to == l->id >> 24;
    uint32_t mine = l->ldr >> 24;
    if (l->dfr >> 28 == DFR_CLUSTER)
        return to >> 4 == mine >> 4 && (to & mine & 0xf);
    return (to & mine) != 0;
}

bool lapic_matches(const struct lapic *l, const struct apic_message *m)
{
    if (!lapic_on(l)) /* INIT, NMI and start-up still reach it, by its initial ID */
        return m->mode >= APIC_NMI && m->mode <= APIC_STARTUP && !m->logical &&
               (m->destination == l->index || m->destination == (m->wide ? UINT32_MAX : 0xff));
    return lapic_x2(l) ? lapic_matches_x2(l, m) : lapic_matches_x1(l, m);
}

/* ---- interprocessor interrupts ---- */

static bool lapic_ipi_sends(const struct lapic *l, const struct apic_message *m)
{
    /* INIT level de-assert once set arbitration IDs; nobody acts on it since the Pentium 4. */
    if (m->mode == APIC_INIT && (l->icr & (ICR_LEVEL | ICR_ASSERT)) == ICR_LEVEL)
        return false;
    return m->mode != APIC_RESERVED && m->mode != APIC_EXTINT;
}

static void lapic_send_ipi(struct lapic *l)
{
    struct apic_message m = {
        .destination = (uint32_t)(l->icr >> (lapic_x2(l) ? 32 : 56)),
        .vector = (uint8_t)l->icr,
        .mode = l->icr >> 8 & 7,
        .logical = l->icr & ICR_LOGICAL,
        .wide = lapic_x2(l),
    };
    if (!lapic_ipi_sends(l, &m))
        return;
    if (m.vector < 16 && (m.mode == APIC_FIXED || m.mode == APIC_LOWEST)) {
        lapic_error(l, ESR_SEND_VECTOR);
        return;
    }
    uint32_t shorthand = l->icr & ICR_SHORTHAND;
    if (shorthand == 0) {
        apic_bus_deliver(l->host.bus, &m);
    } else if (shorthand == ICR_SELF) {
        if (m.mode == APIC_FIXED)
            lapic_deliver(l, &m);
    } else {
        for (unsigned i = 0; i < l->host.bus->count; i++) {
            struct lapic *to = l->host.bus->lapic[i];
            if (to != l || shorthand == ICR_ALL)
                lapic_deliver(to, &m);
        }
    }
}

/* ---- the local vector table ---- */

static void lapic_write_lvt(struct lapic *l, unsigned entry, uint32_t value)
{
    uint32_t before = l->lvt[entry];
    value &= lapic_lvt_writable[entry];
    if (!(l->svr & SVR_ENABLE))
        value |= LVT_MASKED;
    if (value & LVT_LEVEL)
        value |= before & LVT_REMOTE_IRR;
    l->lvt[entry] = value;
    if (entry == LAPIC_LVT_TIMER) {
        if ((before ^ value) & LVT_DEADLINE) { /* into or out of deadline mode: disarmed */
            l->tsc_deadline = 0;
            l->timer_initial = 0;
            l->timer_start = CLOCK_NEVER;
        }
        lapic_timer_arm(l, clock_now(l->clock));
    } else if (entry == LAPIC_LVT_LINT0 || entry == LAPIC_LVT_LINT1) {
        lapic_lint_level(l, entry - LAPIC_LVT_LINT0);
    }
    lapic_update(l);
}

static void lapic_write_svr(struct lapic *l, uint32_t value)
{
    l->svr = value & SVR_WRITABLE;
    if (l->svr & SVR_ENABLE)
        return;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] |= LVT_MASKED;
    lapic_timer_arm(l, clock_now(l->clock));
    lapic_update(l);
}

/* ---- registers ---- */

/* A register that both modes have, by number; false: there is none that can be read. */
static bool lapic_read_register(struct lapic *l, unsigned reg, uint32_t *value)
{
    switch (reg) {
    case REG_ID: *value = lapic_x2(l) ? l->index : l->id; return true;
    case REG_VERSION: *value = VERSION; return true;
    case REG_TPR: *value = l->tpr; return true;
    case REG_PPR: *value = lapic_priority(l); return true;
    case REG_LDR: *value = l->ldr; return true;
    case REG_SVR: *value = l->svr; return true;
    case REG_ESR: *value = l->esr; return true;
    case REG_ICR: *value = (uint32_t)l->icr; return true;
    case REG_INITIAL_COUNT: *value = l->timer_initial; return true;
    case REG_CURRENT_COUNT: *value = lapic_timer_current(l); return true;
    case REG_DIVIDE: *value = l->timer_divide; return true;
    default: break;
    }
    if (reg >= REG_ISR && reg < REG_ISR + 8)
        *value = l->isr[reg - REG_ISR];
    else if (reg >= REG_TMR && reg < REG_TMR + 8)
        *value = l->tmr[reg - REG_TMR];
    else if (reg >= REG_IRR && reg < REG_IRR + 8)
        *value = l->irr[reg - REG_IRR];
    else if (reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR)
        *value = l->lvt[reg - REG_LVT_TIMER];
    else
        return false;
    return true;
}

/* A write that means the same in both modes; false: there is no such register. */
static bool lapic_write_register(struct lapic *l, unsigned reg, uint32_t value)
{
    switch (reg) {
    case REG_TPR:
        l->tpr = value & 0xff;
        lapic_update(l);
        return true;
    case REG_EOI: lapic_eoi(l); return true;
    case REG_SVR: lapic_write_svr(l, value); return true;
    case REG_ESR:
        l->esr = l->esr_pending;
        l->esr_pending = 0;
        return true;
    case REG_INITIAL_COUNT: lapic_timer_write_initial(l, value); return true;
    case REG_DIVIDE: lapic_timer_write_divide(l, value); return true;
    default:
        if (reg < REG_LVT_TIMER || reg > REG_LVT_ERROR)
            return false;
        lapic_write_lvt(l, reg - REG_LVT_TIMER, value);
        return true;
    }
}

static uint64_t lapic_ask(const struct lapic *l, enum lapic_access kind, uint32_t reg)
{
    uint64_t value = 0;
    l->keeper.access(l->keeper.ctx, kind, reg, false, &value);
    return value;
}

uint64_t lapic_read(struct lapic *l, uint64_t offset, unsigned size)
{
    unsigned reg = (offset & 0xfff) >> 4, byte = offset & 15;
    uint32_t value = 0;
    if (byte >= 4)
        return 0;
    if (lapic_lent(l))
        return lapic_ask(l, LAPIC_ACCESS_PAGE, reg * 16) >> 8 * byte & bits_mask(8 * size);
    switch (reg) {
    case REG_APR:
    case REG_RRD: break;
    case REG_DFR: value = l->dfr; break;
    case REG_ICR_HIGH: value = (uint32_t)(l->icr >> 32); break;
    default:
        if (!lapic_read_register(l, reg, &value))
            lapic_error(l, ESR_REGISTER);
    }
    return (value >> 8 * byte) & bits_mask(8 * size);
}

void lapic_write(struct lapic *l, uint64_t offset, unsigned size, uint64_t value)
{
    unsigned reg = (offset & 0xfff) >> 4;
    uint32_t word = (uint32_t)value;
    /* Registers are written as aligned double words (SDM 3, 10.4.1); others do nothing. */
    if (size < 4 || (offset & 15))
        return;
    if (lapic_lent(l)) {
        l->keeper.access(l->keeper.ctx, LAPIC_ACCESS_PAGE, reg * 16, true, &value);
        return;
    }
    switch (reg) {
    case REG_ID: l->id = word & 0xff000000; break;
    case REG_LDR: l->ldr = word & 0xff000000; break;
    case REG_DFR: l->dfr = word | 0x0fffffff; break;
    case REG_ICR:
        l->icr = (l->icr & ~UINT64_C(0xffffffff)) | (word & ICR_DEFINED);
        lapic_send_ipi(l);
        break;
    case REG_ICR_HIGH: l->icr = (uint32_t)l->icr | (uint64_t)(word & 0xff000000) << 32; break;
    default:
        if (!lapic_write_register(l, reg, word))
            lapic_error(l, ESR_REGISTER);
    }
}

/* ---- MSRs ---- */

/* Bits that must be zero in an x2APIC write (SDM 3, table 10-6 and figures there). */
static uint64_t lapic_x2_reserved(unsigned reg)
{
    switch (reg) {
    case REG_TPR: return ~UINT64_C(0xff);
    case REG_EOI:
    case REG_ESR: return UINT64_MAX;
    case REG_SVR: return ~(uint64_t)SVR_WRITABLE;
    case REG_ICR: return UINT32_MAX & ~(uint64_t)(ICR_DEFINED | ICR_STATUS);
    case REG_INITIAL_COUNT: return ~UINT64_C(0xffffffff);
    case REG_DIVIDE: return ~UINT64_C(0xb);
    case REG_SELF_IPI: return ~UINT64_C(0xff);
    default: break;
    }
    if (reg >= REG_LVT_TIMER && reg <= REG_LVT_ERROR) {
        unsigned entry = reg - REG_LVT_TIMER;
        uint32_t remote = entry == LAPIC_LVT_LINT0 || entry == LAPIC_LVT_LINT1 ? LVT_REMOTE_IRR : 0;
        return ~(uint64_t)(lapic_lvt_writable[entry] | LVT_STATUS | remote);
    }
    return 0;
}

static bool lapic_x2_read(struct lapic *l, unsigned reg, uint64_t *value)
{
    uint32_t word;
    if (reg == REG_ICR) {
        *value = l->icr;
        return true;
    }
    if (!lapic_read_register(l, reg, &word))
        return false;
    *value = word;
    return true;
}

static bool lapic_x2_write(struct lapic *l, unsigned reg, uint64_t value)
{
    if (value & lapic_x2_reserved(reg))
        return false;
    if (reg == REG_ICR) {
        l->icr = value & ~(uint64_t)ICR_STATUS;
        lapic_send_ipi(l);
        return true;
    }
    if (reg == REG_SELF_IPI) {
        if (value < 16)
            lapic_error(l, ESR_SEND_VECTOR);
        else
            lapic_accept(l, (uint8_t)value, false);
        return true;
    }
    return lapic_write_register(l, reg, (uint32_t)value);
}

static void lapic_clear(struct lapic *l);

/* The transitions of SDM 3, figure 10-27. */
static bool lapic_write_base(struct lapic *l, uint64_t value)
{
    const uint64_t modes = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
    uint64_t address = bits_mask(l->physical_bits) & ~UINT64_C(0xfff);
    uint64_t from = l->base & modes, to = value & modes;
    if (value & ~(address | modes | LAPIC_BASE_BSP))
        return false;
    if (to == LAPIC_BASE_X2APIC)
        return false;
    if (from == modes && to == LAPIC_BASE_ENABLE)
        return false;
    if (from == 0 && to == modes)
        return false;
    l->base = (value & ~(uint64_t)LAPIC_BASE_BSP) | (l->bsp ? LAPIC_BASE_BSP : 0);
    if (to == 0 && from != 0)
        lapic_clear(l);
    if (to == modes && from != modes) {
        l->ldr = (l->index >> 4) << 16 | 1u << (l->index & 15);
        l->icr &= UINT32_MAX;
    } else if (to == LAPIC_BASE_ENABLE && from == 0) {
        l->id = l->index << 24;
    }
    lapic_update(l);
    return true;
}

static bool lapic_is_msr(uint32_t msr)
{
    return msr == LAPIC_MSR_BASE || msr == LAPIC_MSR_TSC_DEADLINE ||
           (msr >= LAPIC_MSR_X2APIC && msr < LAPIC_MSR_X2APIC_END);
}

static bool lapic_ask_msr(struct lapic *l, uint32_t msr, bool write, uint64_t *value)
{
    return lapic_is_msr(msr) &&
           l->keeper.access(l->keeper.ctx, LAPIC_ACCESS_MSR, msr, write, value);
}

bool lapic_msr_read(struct lapic *l, uint32_t msr, uint64_t *value)
{
    if (lapic_lent(l))
        return lapic_ask_msr(l, msr, false, value);
    switch (msr) {
    case LAPIC_MSR_BASE: *value = l->base; return true;
    case LAPIC_MSR_TSC_DEADLINE:
        *value = lapic_timer_mode(l) == LVT_DEADLINE ? l->tsc_deadline : 0;
        return true;
    default:
        return lapic_x2(l) && msr >= LAPIC_MSR_X2APIC && msr < LAPIC_MSR_X2APIC_END &&
               lapic_x2_read(l, msr - LAPIC_MSR_X2APIC, value);
    }
}

bool lapic_msr_write(struct lapic *l, uint32_t msr, uint64_t value)
{
    if (lapic_lent(l))
        return lapic_ask_msr(l, msr, true, &value);
    switch (msr) {
    case LAPIC_MSR_BASE: return lapic_write_base(l, value);
    case LAPIC_MSR_TSC_DEADLINE: lapic_timer_write_deadline(l, value); return true;
    default:
        return lapic_x2(l) && msr >= LAPIC_MSR_X2APIC && msr < LAPIC_MSR_X2APIC_END &&
               lapic_x2_write(l, msr - LAPIC_MSR_X2APIC, value);
    }
}

uint64_t lapic_cr8(const struct lapic *l)
{
    return lapic_lent(l) ? lapic_ask(l, LAPIC_ACCESS_CR8, 0) : l->tpr >> 4;
}

void lapic_set_cr8(struct lapic *l, uint64_t value)
{
    if (lapic_lent(l)) {
        l->keeper.access(l->keeper.ctx, LAPIC_ACCESS_CR8, 0, true, &value);
        return;
    }
    l->tpr = (uint32_t)(value & 15) << 4;
    lapic_update(l);
}

/* ---- life ---- */

/* The registers as after power-on (SDM 3, 10.4.7.1), IA32_APIC_BASE and the ID left alone. */
static void lapic_clear(struct lapic *l)
{
    l->tpr = 0;
    l->ldr = lapic_x2(l) ? l->ldr : 0;
    l->dfr = UINT32_MAX;
    l->svr = 0xff;
    l->esr = l->esr_pending = 0;
    l->icr = 0;
    l->extint = 0;
    for (unsigned i = 0; i < 8; i++)
        l->isr[i] = l->tmr[i] = l->irr[i] = 0;
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] = LVT_MASKED;
    /* Nothing of a firmware's runs before the guest: what it would open is open, so that a guest
     * that knows no APIC gets the 8259s' interrupts. */
    if (l->bsp)
        l->lvt[LAPIC_LVT_LINT0] = APIC_EXTINT << 8;
    l->timer_initial = l->timer_divide = 0;
    l->timer_start = CLOCK_NEVER;
    l->tsc_deadline = 0;
    timer_cancel(&l->timer);
}

static void lapic_init_received(struct lapic *l)
{
    lapic_clear(l);
    lapic_update(l);
    l->host.init(l->host.ctx);
}

void lapic_init(struct lapic *l, struct clock *clock, const struct lapic_host *host, unsigned index,
                bool bsp, unsigned physical_bits)
{
    *l = (struct lapic){
        .clock = clock, .host = *host, .index = index, .bsp = bsp, .physical_bits = physical_bits};
    timer_init(&l->timer, clock, lapic_timer_fire, l);
    lapic_reset(l);
}

void lapic_reset(struct lapic *l)
{
    l->base = LAPIC_DEFAULT_BASE | LAPIC_BASE_ENABLE | (l->bsp ? LAPIC_BASE_BSP : 0);
    l->id = l->index << 24;
    lapic_clear(l);
    lapic_update(l);
}

static bool lapic_after_load(void *object, struct error *err)
{
    struct lapic *l = object;
    const uint64_t modes = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
    if ((l->base & modes) == LAPIC_BASE_X2APIC || l->line[0] > 1 || l->line[1] > 1)
        return error_set(err, "lapic: a saved register is out of range; the state is damaged");
    for (unsigned i = 0; i < LAPIC_LVTS; i++)
        l->lvt[i] &= lapic_lvt_writable[i] | LVT_REMOTE_IRR;
    lapic_tell(l);
    /* The deadline that was under way, even if it is past meanwhile. */
    timer_set(&l->timer, l->timer_at);
    return true;
}

static void lapic_before_save(void *object)
{
    struct lapic *l = object;
    l->timer_at = l->timer.deadline;
}

static const struct archive_field lapic_fields[] = {
    ARCHIVE_FIELD(struct lapic, base),         ARCHIVE_FIELD(struct lapic, id),
    ARCHIVE_FIELD(struct lapic, tpr),          ARCHIVE_FIELD(struct lapic, ldr),
    ARCHIVE_FIELD(struct lapic, dfr),          ARCHIVE_FIELD(struct lapic, svr),
    ARCHIVE_FIELD(struct lapic, esr),          ARCHIVE_FIELD(struct lapic, esr_pending),
    ARCHIVE_FIELD(struct lapic, icr),          ARCHIVE_ARRAY(struct lapic, lvt),
    ARCHIVE_ARRAY(struct lapic, isr),          ARCHIVE_ARRAY(struct lapic, tmr),
    ARCHIVE_ARRAY(struct lapic, irr),          ARCHIVE_FIELD(struct lapic, timer_initial),
    ARCHIVE_FIELD(struct lapic, timer_divide), ARCHIVE_FIELD(struct lapic, timer_start),
    ARCHIVE_FIELD(struct lapic, tsc_deadline), ARCHIVE_FIELD(struct lapic, timer_at),
    ARCHIVE_ARRAY(struct lapic, line),         ARCHIVE_FIELD(struct lapic, extint),
};

const struct archive_type lapic_archive = {
    .name = "lapic",
    .version = 1,
    .fields = lapic_fields,
    .field_count = ARRAY_LEN(lapic_fields),
    .before_save = lapic_before_save,
    .after_load = lapic_after_load,
};

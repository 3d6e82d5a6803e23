/*
 * A local APIC's state to somebody else's local APIC and back: the register page as software sees
 * it, which says everything but what a timer's past is.
 */
#include <string.h>

#include "base/bits.h"
#include "device/lapic_internal.h"

/* ---- the page ---- */

static uint32_t get(const struct lapic_image *image, unsigned reg)
{
    uint32_t value;
    memcpy(&value, image->page + (size_t)reg * 16, sizeof value);
    return value;
}

static void put(struct lapic_image *image, unsigned reg, uint32_t value)
{
    memcpy(image->page + (size_t)reg * 16, &value, sizeof value);
}

/* The registers that are nothing but bits, each in one word of struct lapic. */
static const struct {
    uint8_t reg, count;
    uint16_t offset;
} words[] = {
    {REG_TPR, 1, offsetof(struct lapic, tpr)},
    {REG_LDR, 1, offsetof(struct lapic, ldr)},
    {REG_DFR, 1, offsetof(struct lapic, dfr)},
    {REG_SVR, 1, offsetof(struct lapic, svr)},
    {REG_ISR, 8, offsetof(struct lapic, isr)},
    {REG_TMR, 8, offsetof(struct lapic, tmr)},
    {REG_IRR, 8, offsetof(struct lapic, irr)},
    {REG_ESR, 1, offsetof(struct lapic, esr)},
    {REG_LVT_TIMER, LAPIC_LVTS, offsetof(struct lapic, lvt)},
    {REG_DIVIDE, 1, offsetof(struct lapic, timer_divide)},
};

static void put_words(const struct lapic *l, struct lapic_image *to)
{
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        for (unsigned j = 0; j < words[i].count; j++) {
            uint32_t value;
            memcpy(&value, (const char *)l + words[i].offset + 4 * j, sizeof value);
            put(to, words[i].reg + j, value);
        }
}

static void take_words(struct lapic *l, const struct lapic_image *from)
{
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        for (unsigned j = 0; j < words[i].count; j++) {
            uint32_t value = get(from, words[i].reg + j);
            memcpy((char *)l + words[i].offset + 4 * j, &value, sizeof value);
        }
    l->tpr &= 0xff;
    l->svr &= SVR_WRITABLE;
    l->timer_divide &= 0xb;
    for (unsigned i = 0; i < LAPIC_LVTS; i++) {
        bool pin = i == LAPIC_LVT_LINT0 || i == LAPIC_LVT_LINT1;
        l->lvt[i] &= lapic_lvt_writable[i] | (pin ? LVT_REMOTE_IRR : 0);
    }
}

/* ---- the timer ---- */

/* How long until a count that runs is at zero; CLOCK_NEVER: it has been there, or there is none. A
 * timer whose interrupt is masked is not armed, but counts. */
static uint64_t time_left(const struct lapic *l)
{
    uint64_t now = clock_now(l->clock), at = l->timer.deadline;
    if (l->lvt[LAPIC_LVT_TIMER] & LVT_MASKED) {
        at = lapic_timer_expiry(l, now);
        if (at <= now)
            return CLOCK_NEVER;
    }
    return at == CLOCK_NEVER ? CLOCK_NEVER : at > now ? at - now : 0;
}

/* A count of zero would mean that it is over. */
static void put_count(const struct lapic *l, struct lapic_image *to)
{
    unsigned shift = lapic_timer_shift(l);
    uint64_t left = time_left(l);
    if (lapic_timer_mode(l) == LVT_DEADLINE || left == CLOCK_NEVER)
        return;
    uint64_t count = (left + bits_mask(shift)) >> shift;
    count = count > l->timer_initial ? l->timer_initial : count;
    put(to, REG_INITIAL_COUNT, l->timer_initial);
    put(to, REG_CURRENT_COUNT, count ? (uint32_t)count : 1);
}

static void take_count(struct lapic *l, const struct lapic_image *from)
{
    uint32_t initial = get(from, REG_INITIAL_COUNT), current = get(from, REG_CURRENT_COUNT);
    uint64_t now = clock_now(l->clock);
    if (current > initial) /* a keeper may stretch what is too short for it */
        current = initial;
    uint64_t gone = (uint64_t)(initial - current) << lapic_timer_shift(l);
    bool over = current == 0 && lapic_timer_mode(l) != LVT_PERIODIC;
    /* What was not told because it was over is still the register's value. */
    if (initial || lapic_timer_mode(l) == LVT_DEADLINE || l->timer_start != CLOCK_NEVER)
        l->timer_initial = initial;
    l->timer_start = !initial || over ? CLOCK_NEVER : gone < now ? now - gone : 0;
    lapic_timer_arm(l, now);
}

/* ---- the whole ---- */

void lapic_lend(struct lapic *l, const struct lapic_keeper *keeper, struct lapic_image *to)
{
    bool x2 = l->base & LAPIC_BASE_X2APIC;
    *to = (struct lapic_image){.base = l->base, .tsc_deadline = l->tsc_deadline};
    put_words(l, to);
    put(to, REG_ID, x2 ? l->index << 24 : l->id);
    put(to, REG_ICR, (uint32_t)l->icr);
    put(to, REG_ICR_HIGH, (uint32_t)(l->icr >> 32));
    put_count(l, to);
    if (time_left(l) == CLOCK_NEVER)
        l->timer_start = CLOCK_NEVER;
    timer_cancel(&l->timer);
    l->keeper = *keeper;
    lapic_tell(l);
}

void lapic_take_back(struct lapic *l, const struct lapic_image *from)
{
    const uint64_t address = bits_mask(l->physical_bits) & ~UINT64_C(0xfff);
    const uint64_t modes = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
    l->keeper = (struct lapic_keeper){0};
    l->base = (from->base & (address | modes)) | (l->bsp ? LAPIC_BASE_BSP : 0);
    if (!(l->base & LAPIC_BASE_X2APIC))
        l->id = get(from, REG_ID) & 0xff000000;
    take_words(l, from);
    l->icr = get(from, REG_ICR) | (uint64_t)get(from, REG_ICR_HIGH) << 32;
    l->icr &= ~(uint64_t)ICR_STATUS;
    l->tsc_deadline = lapic_timer_mode(l) == LVT_DEADLINE ? from->tsc_deadline : 0;
    take_count(l, from);
    for (unsigned pin = 0; pin < 2; pin++) /* one may be level-triggered */
        lapic_lint(l, pin, l->line[pin]);
    lapic_tell(l);
}

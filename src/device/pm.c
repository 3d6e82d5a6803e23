#include "device/pm.h"

#include "base/bits.h"

/* Offsets from PM_BASE (ICH9, 13.8.3). */
enum {
    PM1_STS = 0x00,
    PM1_EN = 0x02,
    PM1_CNT = 0x04,
    PM1_TMR = 0x08,
    GPE0_STS = 0x20,
    GPE0_EN = 0x28,
    SMI_EN = 0x30,
};
enum {
    TMR_STS = 1u << 0,
    BM_STS = 1u << 4,
    GBL_STS = 1u << 5,
    PWRBTN_STS = 1u << 8,
    SLPBTN_STS = 1u << 9,
    RTC_STS = 1u << 10,
    WAK_STS = 1u << 15,
    PM1_EVENTS = TMR_STS | GBL_STS | PWRBTN_STS | SLPBTN_STS | RTC_STS,
};
enum {
    SCI_EN = 1u << 0,
    BM_RLD = 1u << 1,
    SLP_TYP_SHIFT = 10,
    SLP_TYP = 7u << SLP_TYP_SHIFT,
    SLP_EN = 1u << 13,
    PM1_CNT_WRITABLE = SCI_EN | BM_RLD | SLP_TYP,
};
enum { OVERFLOW_SHIFT = 31 }; /* TMR_STS is set each time the 32-bit count's top bit changes */

static uint64_t pm_ticks(const struct pm *p)
{
    return clock_ns_to_ticks(clock_now(p->clock), PM_TIMER_HZ);
}

/* Sets TMR_STS for what the timer did since last looked. */
static void pm_account(struct pm *p)
{
    uint64_t overflows = pm_ticks(p) >> OVERFLOW_SHIFT;
    if (overflows != p->overflow_seen)
        p->pm1_sts |= TMR_STS;
    p->overflow_seen = overflows;
}

static void pm_update(struct pm *p)
{
    pm_account(p);
    bool event = (p->pm1_sts & p->pm1_en & PM1_EVENTS) || (p->gpe0_sts & p->gpe0_en);
    p->level = event && (p->pm1_cnt & SCI_EN);
    irq_set(&p->sci, p->level);
    uint64_t at = CLOCK_NEVER;
    if ((p->pm1_en & TMR_STS) && (p->pm1_cnt & SCI_EN))
        at = clock_ticks_to_ns((p->overflow_seen + 1) << OVERFLOW_SHIFT, PM_TIMER_HZ);
    timer_set(&p->overflow, at);
}

static void pm_fire(void *ctx)
{
    pm_update(ctx);
}

void pm_power_button(struct pm *p)
{
    p->pm1_sts |= PWRBTN_STS;
    pm_update(p);
}

void pm_gpe(struct pm *p, unsigned event)
{
    p->gpe0_sts |= BIT(event & 63);
    pm_update(p);
}

static void pm_sleep(struct pm *p)
{
    if ((p->pm1_cnt & SLP_TYP) >> SLP_TYP_SHIFT == PM_SLP_TYP_S5)
        p->host.power_off(p->host.ctx);
    else
        p->pm1_sts |= WAK_STS; /* no other sleep is offered: awake again at once */
}

/* ---- registers, byte by byte: a guest may use any width ---- */

static uint8_t byte_of(uint64_t value, unsigned n)
{
    return (uint8_t)(value >> 8 * n);
}

static uint8_t pm_read_byte(const struct pm *p, unsigned offset, uint64_t ticks)
{
    if (offset >= SMI_EN)
        return offset < SMI_EN + 4 ? byte_of(p->smi_en, offset - SMI_EN) : 0;
    if (offset >= GPE0_EN)
        return byte_of(p->gpe0_en, offset - GPE0_EN);
    if (offset >= GPE0_STS)
        return byte_of(p->gpe0_sts, offset - GPE0_STS);
    if (offset >= PM1_TMR)
        return offset < PM1_TMR + 4 ? byte_of(ticks, offset - PM1_TMR) : 0;
    switch (offset & ~1u) {
    case PM1_STS: return byte_of(p->pm1_sts, offset & 1);
    case PM1_EN: return byte_of(p->pm1_en, offset & 1);
    case PM1_CNT: return byte_of(p->pm1_cnt, offset & 1);
    default: return 0;
    }
}

static uint64_t pm_read(void *device, uint64_t offset, unsigned size)
{
    struct pm *p = device;
    uint64_t value = 0, ticks = pm_ticks(p);
    if (offset < PM1_EN) /* the timer, which guests read most, needs no look at the events */
        pm_update(p);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)pm_read_byte(p, (unsigned)offset + i, ticks) << 8 * i;
    return value;
}

static uint64_t with_byte(uint64_t old, unsigned n, uint8_t byte)
{
    return (old & ~(UINT64_C(0xff) << 8 * n)) | (uint64_t)byte << 8 * n;
}

static void pm_write_control(struct pm *p, unsigned n, uint8_t byte)
{
    uint16_t value = (uint16_t)with_byte(p->pm1_cnt, n, byte);
    p->pm1_cnt = value & PM1_CNT_WRITABLE;
    if (value & SLP_EN)
        pm_sleep(p);
}

static void pm_write_byte(struct pm *p, unsigned offset, uint8_t byte)
{
    if (offset >= SMI_EN) {
        if (offset < SMI_EN + 4)
            p->smi_en = (uint32_t)with_byte(p->smi_en, offset - SMI_EN, byte);
        return;
    }
    if (offset >= GPE0_EN) {
        p->gpe0_en = with_byte(p->gpe0_en, offset - GPE0_EN, byte);
        return;
    }
    if (offset >= GPE0_STS) {
        p->gpe0_sts &= ~((uint64_t)byte << 8 * (offset - GPE0_STS));
        return;
    }
    switch (offset & ~1u) {
    case PM1_STS: p->pm1_sts &= (uint16_t) ~((unsigned)byte << 8 * (offset & 1)); break;
    case PM1_EN: p->pm1_en = with_byte(p->pm1_en, offset & 1, byte) & PM1_EVENTS; break;
    case PM1_CNT: pm_write_control(p, offset & 1, byte); break;
    default: break;
    }
}

static void pm_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm *p = device;
    pm_account(p);
    for (unsigned i = 0; i < size; i++)
        pm_write_byte(p, (unsigned)offset + i, byte_of(value, i));
    pm_update(p);
}

/* The SMI command port. */
static uint64_t pm_read_apm(void *device, uint64_t offset, unsigned size)
{
    struct pm *p = device;
    return offset & 1 ? p->apm_sts : p->apm_cnt;
}

static void pm_write_apm(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pm *p = device;
    if (offset & 1) {
        p->apm_sts = (uint8_t)value;
        return;
    }
    p->apm_cnt = (uint8_t)value;
    if (p->apm_cnt == PM_ACPI_ENABLE)
        p->pm1_cnt |= SCI_EN;
    else if (p->apm_cnt == PM_ACPI_DISABLE)
        p->pm1_cnt &= (uint16_t)~SCI_EN;
    pm_update(p);
}

static const struct bus_ops pm_ops = {pm_read, pm_write, 4};
static const struct bus_ops pm_apm_ops = {pm_read_apm, pm_write_apm, 1};

/* ---- life ---- */

void pm_init(struct pm *p, struct clock *clock, struct irq_line sci, const struct pm_host *host)
{
    *p = (struct pm){.clock = clock, .sci = sci, .host = *host};
    timer_init(&p->overflow, clock, pm_fire, p);
    pm_reset(p);
}

void pm_reset(struct pm *p)
{
    p->overflow_seen = pm_ticks(p) >> OVERFLOW_SHIFT;
    p->pm1_sts = p->pm1_en = p->pm1_cnt = 0;
    p->gpe0_sts = p->gpe0_en = 0;
    p->smi_en = 0;
    p->apm_cnt = p->apm_sts = 0;
    pm_update(p);
}

bool pm_attach(struct pm *p, struct bus *ports, struct error *err)
{
    return bus_add(ports, "pm", PM_BASE, PM_SIZE, &pm_ops, p, err) &&
           bus_add(ports, "pm smi", PM_SMI_CMD, 2, &pm_apm_ops, p, err);
}

static bool pm_after_load(void *object, struct error *err)
{
    pm_update(object);
    return true;
}

static void pm_before_save(void *object)
{
    pm_account(object);
}

static const struct archive_field pm_fields[] = {
    ARCHIVE_FIELD(struct pm, pm1_sts),       ARCHIVE_FIELD(struct pm, pm1_en),
    ARCHIVE_FIELD(struct pm, pm1_cnt),       ARCHIVE_FIELD(struct pm, gpe0_sts),
    ARCHIVE_FIELD(struct pm, gpe0_en),       ARCHIVE_FIELD(struct pm, smi_en),
    ARCHIVE_FIELD(struct pm, apm_cnt),       ARCHIVE_FIELD(struct pm, apm_sts),
    ARCHIVE_FIELD(struct pm, overflow_seen),
};

const struct archive_type pm_archive = {
    .name = "pm",
    .version = 1,
    .fields = pm_fields,
    .field_count = ARRAY_LEN(pm_fields),
    .before_save = pm_before_save,
    .after_load = pm_after_load,
};

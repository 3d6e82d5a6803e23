#include "device/rtc.h"

#include "base/bits.h"

/* Registers (MC146818, table 3), and where a PC's firmware keeps more. */
enum {
    SECONDS = 0,
    SECONDS_ALARM = 1,
    MINUTES = 2,
    MINUTES_ALARM = 3,
    HOURS = 4,
    HOURS_ALARM = 5,
    DAY_OF_WEEK = 6,
    DATE = 7,
    MONTH = 8,
    YEAR = 9,
    REGISTER_A = 10,
    REGISTER_B = 11,
    REGISTER_C = 12,
    REGISTER_D = 13,
    CENTURY = 0x32,
};
enum {
    A_UIP = 1u << 7,
    A_DV = 7u << 4,
    A_DV_RUN = 2u << 4, /* 32.768 kHz; the only base that PCs have */
    A_RS = 15,
    B_SET = 1u << 7,
    B_PIE = 1u << 6,
    B_AIE = 1u << 5,
    B_UIE = 1u << 4,
    B_SQWE = 1u << 3,
    B_DM = 1u << 2,  /* binary, not BCD */
    B_24H = 1u << 1, /* 24 hours, not 12 */
    C_IRQF = 1u << 7,
    C_PF = 1u << 6,
    C_AF = 1u << 5,
    C_UF = 1u << 4,
    D_VRT = 1u << 7,
    HOUR_PM = 1u << 7,
    ALARM_ANY = 0xc0, /* an alarm byte from here up matches always */
};
#define NS_PER_S   INT64_C(1000000000)
#define S_PER_DAY  INT64_C(86400)
#define TICK_HZ    UINT64_C(32768)
#define UIP_NS     INT64_C(244000) /* how long UIP is set before an update, which takes no time */
#define NO_ALARM   INT64_MAX
#define RESTART_NS (NS_PER_S / 2) /* the first update after the divider is let go */

/* ---- the calendar ---- */

struct date {
    int year, month, day, weekday; /* 1970..., 1 to 12, 1 to 31, 0 Sunday to 6 */
};

/* Days from 1970-01-01, in the Gregorian calendar; years are counted from March so that the leap
 * day comes last. */
static int64_t date_to_days(int year, int month, int day)
{
    int64_t y = month > 2 ? year : year - 1;
    int64_t m = (month + 9) % 12; /* March is 0 */
    return y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 719469;
}

static struct date date_from_days(int64_t days)
{
    struct date d;
    int64_t z = days + 719468; /* from 0000-03-01 */
    int64_t era = z / 146097, of_era = z % 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100);
    int64_t m = (5 * of_year + 2) / 153;
    d.day = (int)(of_year - (153 * m + 2) / 5 + 1);
    d.month = (int)(m < 10 ? m + 3 : m - 9);
    d.year = (int)(era * 400 + y + (d.month <= 2));
    d.weekday = (int)((days + 4) % 7); /* 1970 began on a Thursday */
    return d;
}

/* ---- bytes as the guest wants them: BCD or binary, 12 or 24 hours ---- */

static uint8_t rtc_encode(const struct rtc *r, int n)
{
    return (uint8_t)(r->ram[REGISTER_B] & B_DM ? n : n / 10 * 16 + n % 10);
}

static int rtc_decode(const struct rtc *r, uint8_t v)
{
    return r->ram[REGISTER_B] & B_DM ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t rtc_encode_hour(const struct rtc *r, int hour)
{
    if (r->ram[REGISTER_B] & B_24H)
        return rtc_encode(r, hour);
    return rtc_encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int rtc_decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->ram[REGISTER_B] & B_24H)
        return rtc_decode(r, v);
    return rtc_decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

static int clamp(int v, int low, int high)
{
    return v < low ? low : v > high ? high : v;
}

/* ---- the running time ---- */

/* Whether updates are stopped: the time registers in ram are then the time. */
static bool rtc_stopped(const struct rtc *r)
{
    return (r->ram[REGISTER_B] & B_SET) || (r->ram[REGISTER_A] & A_DV) != A_DV_RUN;
}

/* The guest's time since 1970: seconds, and the nanoseconds gone of the running one. */
static int64_t rtc_seconds(const struct rtc *r, int64_t *ns)
{
    __int128 t = (__int128)r->clock->epoch_ns + clock_now(r->clock) + r->phase_ns;
    int64_t s = (int64_t)(t / NS_PER_S), rest = (int64_t)(t % NS_PER_S);
    if (rest < 0) {
        rest += NS_PER_S;
        s--;
    }
    if (ns)
        *ns = rest;
    s += r->offset_s;
    return s < 0 ? 0 : s;
}

/* Puts the time into the registers. */
static void rtc_show(struct rtc *r)
{
    int64_t s = rtc_seconds(r, NULL);
    int of_day = (int)(s % S_PER_DAY);
    struct date d = date_from_days(s / S_PER_DAY);
    r->ram[SECONDS] = rtc_encode(r, of_day % 60);
    r->ram[MINUTES] = rtc_encode(r, of_day / 60 % 60);
    r->ram[HOURS] = rtc_encode_hour(r, of_day / 3600);
    r->ram[DAY_OF_WEEK] = rtc_encode(r, d.weekday + 1);
    r->ram[DATE] = rtc_encode(r, d.day);
    r->ram[MONTH] = rtc_encode(r, d.month);
    r->ram[YEAR] = rtc_encode(r, d.year % 100);
    r->ram[CENTURY] = rtc_encode(r, d.year / 100 % 100);
}

/* Makes the registers the time; bytes that are no time become the nearest that is. The running
 * second goes on. */
static void rtc_take(struct rtc *r)
{
    int year = clamp(rtc_decode(r, r->ram[CENTURY]), 0, 99) * 100 +
               clamp(rtc_decode(r, r->ram[YEAR]), 0, 99);
    int64_t days = date_to_days(clamp(year, 1970, 9999), clamp(rtc_decode(r, r->ram[MONTH]), 1, 12),
                                clamp(rtc_decode(r, r->ram[DATE]), 1, 31));
    int64_t s = days * S_PER_DAY + clamp(rtc_decode_hour(r, r->ram[HOURS]), 0, 23) * 3600 +
                clamp(rtc_decode(r, r->ram[MINUTES]), 0, 59) * 60 +
                clamp(rtc_decode(r, r->ram[SECONDS]), 0, 59);
    r->offset_s = 0;
    __int128 t = (__int128)r->clock->epoch_ns + clock_now(r->clock) + r->phase_ns;
    int64_t ours = (int64_t)(t / NS_PER_S) - (t % NS_PER_S < 0);
    r->offset_s = s - ours;
    r->updated = s;
}

/* The guest time at which guest second s begins; CLOCK_NEVER: too far off. */
static uint64_t rtc_second_begins(const struct rtc *r, int64_t s)
{
    __int128 t = ((__int128)s - r->offset_s) * NS_PER_S - r->phase_ns - r->clock->epoch_ns;
    return t < 0 ? 0 : t >= (__int128)CLOCK_NEVER ? CLOCK_NEVER : (uint64_t)t;
}

/* ---- interrupts ---- */

/* The first second from s on at which the alarm goes off, within a day; NO_ALARM: none does. */
static int64_t rtc_next_alarm(const struct rtc *r, int64_t s)
{
    int hour = r->ram[HOURS_ALARM] >= ALARM_ANY ? -1 : rtc_decode_hour(r, r->ram[HOURS_ALARM]);
    int minute = r->ram[MINUTES_ALARM] >= ALARM_ANY ? -1 : rtc_decode(r, r->ram[MINUTES_ALARM]);
    int second = r->ram[SECONDS_ALARM] >= ALARM_ANY ? -1 : rtc_decode(r, r->ram[SECONDS_ALARM]);
    int64_t end = s + S_PER_DAY;
    /* Each step goes to the next hour, minute or second: some two hundred at most. */
    while (s <= end) {
        if (hour >= 0 && s / 3600 % 24 != hour)
            s = (s / 3600 + 1) * 3600;
        else if (minute >= 0 && s / 60 % 60 != minute)
            s = (s / 60 + 1) * 60;
        else if (second >= 0 && s % 60 != second)
            s++;
        else
            return s;
    }
    return NO_ALARM;
}

/* 32.768 kHz ticks between periodic interrupts; 0: none. */
static uint64_t rtc_period(const struct rtc *r)
{
    unsigned rs = r->ram[REGISTER_A] & A_RS;
    if (rs == 0 || (r->ram[REGISTER_A] & A_DV) != A_DV_RUN)
        return 0;
    return UINT64_C(1) << (rs < 3 ? rs + 6 : rs - 1);
}

static uint64_t rtc_ticks(const struct rtc *r)
{
    return clock_ns_to_ticks(clock_now(r->clock), TICK_HZ);
}

/* Sets the flags of register C for what happened since they were last brought up to date. */
static void rtc_account(struct rtc *r)
{
    uint64_t ticks = rtc_ticks(r), period = rtc_period(r);
    if (period && ticks / period != r->periodic_seen / period)
        r->ram[REGISTER_C] |= C_PF;
    r->periodic_seen = ticks;
    if (rtc_stopped(r))
        return;
    int64_t now = rtc_seconds(r, NULL);
    if (now > r->updated) {
        r->ram[REGISTER_C] |= C_UF;
        if (rtc_next_alarm(r, r->updated + 1) <= now)
            r->ram[REGISTER_C] |= C_AF;
    }
    r->updated = now;
}

/* Drives the line from the flags and sets the timers for the interrupts that are wanted. */
static void rtc_update(struct rtc *r)
{
    rtc_account(r);
    uint8_t b = r->ram[REGISTER_B], *c = &r->ram[REGISTER_C];
    *c = (uint8_t)((*c & ~C_IRQF) | (*c & b & (C_PF | C_AF | C_UF) ? C_IRQF : 0));
    irq_set(&r->irq8, *c & C_IRQF);

    uint64_t at = CLOCK_NEVER, period = rtc_period(r);
    if ((b & B_PIE) && period)
        at = clock_ticks_to_ns((r->periodic_seen / period + 1) * period, TICK_HZ);
    timer_set(&r->periodic, at);

    at = CLOCK_NEVER;
    if (!rtc_stopped(r)) {
        if (b & B_UIE)
            at = rtc_second_begins(r, r->updated + 1);
        else if (b & B_AIE)
            at = rtc_second_begins(r, rtc_next_alarm(r, r->updated + 1));
    }
    timer_set(&r->update, at);
}

static void rtc_fire(void *ctx)
{
    rtc_update(ctx);
}

/* ---- registers ---- */

static uint8_t rtc_read_a(const struct rtc *r)
{
    int64_t ns;
    rtc_seconds(r, &ns);
    return r->ram[REGISTER_A] | (!rtc_stopped(r) && ns >= NS_PER_S - UIP_NS ? A_UIP : 0);
}

static uint8_t rtc_read_c(struct rtc *r)
{
    rtc_update(r);
    uint8_t c = r->ram[REGISTER_C];
    r->ram[REGISTER_C] = 0;
    rtc_update(r);
    return c;
}

static uint8_t rtc_read_ram(struct rtc *r, unsigned index)
{
    if (!rtc_stopped(r))
        rtc_show(r);
    switch (index) {
    case REGISTER_A: return rtc_read_a(r);
    case REGISTER_C: return rtc_read_c(r);
    case REGISTER_D: return D_VRT;
    default: return r->ram[index];
    }
}

/* Changes register A or B: what stops and starts the time, and how it is encoded. */
static void rtc_write_control(struct rtc *r, unsigned index, uint8_t value)
{
    rtc_account(r);
    bool was_stopped = rtc_stopped(r);
    bool was_reset = (r->ram[REGISTER_A] & A_DV) != A_DV_RUN;
    if (!was_stopped)
        rtc_show(r);
    if (index == REGISTER_B && (value & B_SET))
        value &= (uint8_t)~B_UIE;
    r->ram[index] = index == REGISTER_A ? value & (uint8_t)~A_UIP : value;
    if (was_stopped && !rtc_stopped(r)) {
        if (was_reset) {
            int64_t ns;
            rtc_seconds(r, &ns);
            r->phase_ns = (r->phase_ns + RESTART_NS - ns) % NS_PER_S;
        }
        rtc_take(r);
    }
}

static bool rtc_is_time(unsigned index)
{
    return index == SECONDS || index == MINUTES || index == CENTURY ||
           (index >= HOURS && index <= YEAR && index != HOURS_ALARM);
}

static void rtc_write_ram(struct rtc *r, unsigned index, uint8_t value)
{
    if (index == REGISTER_C || index == REGISTER_D)
        return;
    if (index == REGISTER_A || index == REGISTER_B) {
        rtc_write_control(r, index, value);
    } else if (rtc_is_time(index) && !rtc_stopped(r)) {
        rtc_account(r);
        rtc_show(r);
        r->ram[index] = value;
        rtc_take(r);
    } else {
        rtc_account(r);
        r->ram[index] = value;
    }
    rtc_update(r);
}

static uint64_t rtc_read(void *device, uint64_t offset, unsigned size)
{
    struct rtc *r = device;
    switch (offset) {
    case 1: return rtc_read_ram(r, r->index & 0x7f);
    case 2: return r->index_extended;
    case 3: return r->ram[0x80 | r->index_extended];
    default: return 0xff; /* the index can't be read */
    }
}

static void rtc_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *r = device;
    uint8_t byte = (uint8_t)value;
    switch (offset) {
    case 0: r->index = byte; break;
    case 1: rtc_write_ram(r, r->index & 0x7f, byte); break;
    case 2: r->index_extended = byte & 0x7f; break;
    case 3: r->ram[0x80 | r->index_extended] = byte; break;
    default: break;
    }
}

static const struct bus_ops rtc_ops = {rtc_read, rtc_write, 1};

/* ---- life ---- */

void rtc_init(struct rtc *r, struct clock *clock, struct irq_line irq8)
{
    *r = (struct rtc){.clock = clock, .irq8 = irq8};
    timer_init(&r->periodic, clock, rtc_fire, r);
    timer_init(&r->update, clock, rtc_fire, r);
    r->ram[REGISTER_A] = A_DV_RUN | 6; /* 1024 Hz */
    r->ram[REGISTER_B] = B_24H;
    rtc_show(r);
    r->updated = rtc_seconds(r, NULL);
    rtc_reset(r);
}

/* RESET leaves time, memory and registers A and D alone (MC146818, "RESET"). */
void rtc_reset(struct rtc *r)
{
    rtc_account(r);
    r->ram[REGISTER_B] &= (uint8_t) ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    r->ram[REGISTER_C] = 0;
    r->index = r->index_extended = 0;
    rtc_update(r);
}

void rtc_set_memory(struct rtc *r, uint64_t low, uint64_t high)
{
    const uint64_t kib = 1 << 10, mib = 1 << 20;
    uint64_t base = low < 640 * kib ? low / kib : 640;
    uint64_t above1 = low > mib ? (low - mib) / kib : 0;              /* KiB */
    uint64_t above16 = low > 16 * mib ? (low - 16 * mib) / 65536 : 0; /* 64 KiB */
    uint64_t above4g = high / 65536;
    if (above1 > 0xffff)
        above1 = 0xffff;
    if (above16 > 0xffff)
        above16 = 0xffff;
    const struct {
        uint8_t index, value;
    } bytes[] = {
        {0x15, (uint8_t)base},
        {0x16, (uint8_t)(base >> 8)},
        {0x17, (uint8_t)above1},
        {0x18, (uint8_t)(above1 >> 8)},
        {0x30, (uint8_t)above1},
        {0x31, (uint8_t)(above1 >> 8)},
        {0x34, (uint8_t)above16},
        {0x35, (uint8_t)(above16 >> 8)},
        {0x5b, (uint8_t)above4g},
        {0x5c, (uint8_t)(above4g >> 8)},
        {0x5d, (uint8_t)(above4g >> 16)},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bytes); i++)
        r->ram[bytes[i].index] = bytes[i].value;
}

bool rtc_attach(struct rtc *r, struct bus *ports, struct error *err)
{
    return bus_add(ports, "rtc", 0x70, 4, &rtc_ops, r, err);
}

static void rtc_before_save(void *object)
{
    rtc_account(object);
}

static bool rtc_after_load(void *object, struct error *err)
{
    struct rtc *r = object;
    /* The year 9999 bounds what a guest can set; keeps the sums above from overflowing. */
    const int64_t limit = INT64_C(10000) * 366 * S_PER_DAY;
    if (r->offset_s < -limit || r->offset_s > limit || r->phase_ns <= -NS_PER_S ||
        r->phase_ns >= NS_PER_S || r->updated < 0 || r->updated > 2 * limit ||
        r->index_extended > 0x7f)
        return error_set(err, "rtc: a saved register is out of range; the state is damaged");
    rtc_update(r);
    return true;
}

static const struct archive_field rtc_fields[] = {
    ARCHIVE_FIELD(struct rtc, index),         ARCHIVE_FIELD(struct rtc, index_extended),
    ARCHIVE_ARRAY(struct rtc, ram),           ARCHIVE_FIELD(struct rtc, offset_s),
    ARCHIVE_FIELD(struct rtc, phase_ns),      ARCHIVE_FIELD(struct rtc, updated),
    ARCHIVE_FIELD(struct rtc, periodic_seen),
};

const struct archive_type rtc_archive = {
    .name = "rtc",
    .version = 1,
    .fields = rtc_fields,
    .field_count = ARRAY_LEN(rtc_fields),
    .before_save = rtc_before_save,
    .after_load = rtc_after_load,
};

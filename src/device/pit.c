#include "device/pit.h"

#include "base/bits.h"

enum {
    PORT61_GATE2 = 1u << 0,
    PORT61_SPEAKER = 1u << 1,
    PORT61_WRITABLE = 0x0f,
    PORT61_REFRESH = 1u << 4, /* toggles with each memory refresh, every 15 us */
    PORT61_OUT2 = 1u << 5,
};
enum {
    STATUS_OUT = 1u << 7,
    STATUS_NULL = 1u << 6,
    READ_BACK_NO_COUNT = 1u << 5,
    READ_BACK_NO_STATUS = 1u << 4,
};
#define REFRESH_NS UINT64_C(15085)
#define RUNNING    UINT64_MAX

/*
 * Time in a channel is d, the CLK pulses since its count was loaded: negative while the load is
 * still to come (it takes the pulse after the write, or after the gate's edge).
 */
static int64_t channel_elapsed(const struct pit_channel *c, uint64_t now)
{
    return (int64_t)(c->paused != RUNNING ? c->paused : now - c->start);
}

/* What a counter counts modulo, once it ran past zero. */
static uint32_t channel_modulus(const struct pit_channel *c)
{
    return c->bcd ? 10000 : 0x10000;
}

static bool channel_periodic(const struct pit_channel *c)
{
    return c->mode == 2 || c->mode == 3;
}

/* Whether it counts, or did until the gate stopped it. */
static bool channel_counts(const struct pit_channel *c)
{
    return c->loaded && (c->triggered || (c->mode != 1 && c->mode != 5));
}

/* Modes 2 and 3: a count written while one runs takes over at the end of the period, in mode 3 of
 * the half period. Moves start there once that is past. */
static void channel_sync(struct pit_channel *c, uint64_t now)
{
    if (!c->next_count || c->paused != RUNNING || now < c->next_at)
        return;
    uint64_t d = c->next_at - c->start;
    bool low_next = c->mode == 3 && d % c->count != 0;
    c->count = c->next_count;
    c->start = c->next_at - (low_next ? (c->count + 1) / 2 : 0);
    c->next_count = 0;
}

static bool channel_out(const struct pit_channel *c, uint64_t now)
{
    int64_t d = channel_elapsed(c, now);
    if (!channel_counts(c))
        return c->mode != 0;
    switch (c->mode) {
    case 0: return d >= (int64_t)c->count;
    case 1: return d < 0 || d >= (int64_t)c->count;
    case 2: return !c->gate || d < 0 || d % c->count != c->count - 1;
    case 3: return !c->gate || d < 0 || d % c->count < (c->count + 1) / 2;
    default: return d != (int64_t)c->count;
    }
}

/* The counting element as a number. */
static uint32_t channel_count(const struct pit_channel *c, uint64_t now)
{
    int64_t d = channel_elapsed(c, now);
    if (!channel_counts(c) || d <= 0)
        return c->count;
    uint32_t phase;
    switch (c->mode) {
    case 2: return c->count - (uint32_t)(d % c->count);
    case 3: /* by two; an odd count loses its lowest bit, and its high half is longer */
        phase = (uint32_t)(d % c->count);
        if (phase >= (c->count + 1) / 2)
            phase -= (c->count + 1) / 2;
        return (c->count & ~1u) - 2 * phase;
    default:
        phase = (uint32_t)((uint64_t)d % channel_modulus(c));
        return c->count >= phase ? c->count - phase : c->count + channel_modulus(c) - phase;
    }
}

static uint16_t channel_encode(const struct pit_channel *c, uint32_t n)
{
    if (!c->bcd)
        return (uint16_t)n;
    n %= 10000;
    return (uint16_t)(n / 1000 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10);
}

/* A written count as a number from 1 to the modulus: 0 stands for the largest. */
static uint32_t channel_decode(const struct pit_channel *c, uint16_t v)
{
    uint32_t n = v;
    if (c->bcd)
        n = ((v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15)) % 10000;
    return n ? n : channel_modulus(c);
}

static void channel_load(struct pit_channel *c, uint16_t value, uint64_t now)
{
    uint32_t n = channel_decode(c, value);
    channel_sync(c, now);
    if (c->loaded && channel_periodic(c) && c->paused == RUNNING && channel_elapsed(c, now) >= 0) {
        uint64_t d = now - c->start, phase = d % c->count, half = (c->count + 1) / 2;
        bool first_half = c->mode == 3 && phase < half && c->count > 1;
        c->next_count = n;
        c->next_at = now + (first_half ? half : c->count) - phase;
        return;
    }
    c->next_count = 0;
    if (c->mode == 1 || c->mode == 5) {
        c->next_trigger = n; /* a running one-shot keeps its count */
        if (!c->triggered)
            c->count = n;
        c->loaded = 1;
        return;
    }
    c->count = n;
    c->loaded = 1;
    c->start = now + 1;
    c->paused = c->gate ? RUNNING : 0;
}

static void channel_gate(struct pit_channel *c, bool gate, uint64_t now)
{
    if (gate == c->gate)
        return;
    channel_sync(c, now);
    switch (c->mode) {
    case 0:
    case 4:
        if (!gate && c->paused == RUNNING)
            c->paused = channel_elapsed(c, now) > 0 ? now - c->start : 0;
        else if (gate && c->paused != RUNNING)
            c->start = now - c->paused, c->paused = RUNNING;
        break;
    case 2:
    case 3:
        c->paused = gate ? RUNNING : 0; /* counting begins anew */
        c->start = now + 1;
        if (c->next_count)
            c->count = c->next_count;
        c->next_count = 0;
        break;
    default:
        if (!gate || !c->loaded)
            break;
        c->triggered = 1;
        c->paused = RUNNING;
        c->start = now + 1;
        if (c->next_trigger)
            c->count = c->next_trigger;
        break;
    }
    c->gate = gate;
}

static uint8_t channel_status(const struct pit_channel *c, uint64_t now)
{
    bool null_count = !c->loaded || c->next_count ||
                      (c->paused == RUNNING && channel_elapsed(c, now) < 0 && channel_counts(c));
    if ((c->mode == 1 || c->mode == 5) && c->next_trigger && c->next_trigger != c->count)
        null_count = true;
    return (uint8_t)((channel_out(c, now) ? STATUS_OUT : 0) | (null_count ? STATUS_NULL : 0) |
                     c->access << 4 | c->mode << 1 | c->bcd);
}

static void channel_latch(struct pit_channel *c, uint64_t now)
{
    if (c->latched)
        return; /* the first latch stands until it is read */
    channel_sync(c, now);
    c->latched_count = channel_encode(c, channel_count(c, now));
    c->latched = c->access == 3 ? 2 : 1;
}

static void channel_latch_status(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched)
        return;
    channel_sync(c, now);
    c->latched_status = channel_status(c, now);
    c->status_latched = 1;
}

static void channel_control(struct pit_channel *c, uint8_t value)
{
    uint8_t mode = value >> 1 & 7;
    c->mode = mode > 5 ? mode - 4 : mode;
    c->bcd = value & 1;
    c->access = value >> 4 & 3;
    c->write_high = c->read_high = c->access == 2;
    c->latched = c->status_latched = 0;
    c->loaded = c->triggered = 0;
    c->next_count = c->next_trigger = 0;
    c->paused = RUNNING;
}

static uint8_t channel_read(struct pit_channel *c, uint64_t now)
{
    if (c->status_latched) {
        c->status_latched = 0;
        return c->latched_status;
    }
    channel_sync(c, now);
    uint16_t value = c->latched ? c->latched_count : channel_encode(c, channel_count(c, now));
    bool high = c->read_high;
    if (c->access == 3)
        c->read_high = !high;
    if (c->latched)
        c->latched--;
    return (uint8_t)(high ? value >> 8 : value);
}

static void channel_write(struct pit_channel *c, uint8_t value, uint64_t now)
{
    if (c->access == 1) {
        channel_load(c, value, now);
    } else if (c->access == 2) {
        channel_load(c, (uint16_t)(value << 8), now);
    } else if (!c->write_high) {
        c->write_low = value;
        c->write_high = 1;
        if (c->mode == 0)
            c->loaded = 0; /* the first byte stops the count and takes OUT low */
    } else {
        c->write_high = 0;
        channel_load(c, (uint16_t)(value << 8 | c->write_low), now);
    }
}

/* The tick of the next rising edge of OUT after now; UINT64_MAX: none as things stand. */
static uint64_t channel_next_edge(struct pit_channel *c, uint64_t now)
{
    channel_sync(c, now);
    if (!channel_counts(c) || c->paused != RUNNING)
        return UINT64_MAX;
    int64_t d = channel_elapsed(c, now);
    if (!channel_periodic(c)) {
        int64_t edge = (int64_t)c->count + (c->mode >= 4);
        return d < edge ? c->start + (uint64_t)edge : UINT64_MAX;
    }
    if (!c->gate || c->count == 1)
        return UINT64_MAX; /* a count of one is illegal here: no edges */
    if (d < 0)
        return c->start + c->count;
    return now + c->count - (uint64_t)d % c->count;
}

/* ---- channel 0's output is IRQ 0 ---- */

static uint64_t pit_now(const struct pit *p)
{
    return clock_ns_to_ticks(clock_now(p->clock), PIT_HZ);
}

static void pit_line(struct pit *p, uint8_t level)
{
    if (level != p->out0) {
        p->out0 = level;
        irq_set(&p->irq0, level);
    }
}

/* The line follows OUT, except that the low phases of the modes in which OUT is high between events
 * are only shown as a short dip before each rising edge: nobody looks at anything but the edge. */
static void pit_update(struct pit *p)
{
    struct pit_channel *c = &p->channel[0];
    uint64_t now = pit_now(p);
    if (p->edge_at <= now)
        pit_line(p, 0);
    bool dips = channel_counts(c) && c->mode != 0 && c->mode != 1;
    pit_line(p, dips || channel_out(c, now));
    p->edge_at = channel_next_edge(c, now);
    timer_set(&p->timer,
              p->edge_at == UINT64_MAX ? CLOCK_NEVER : clock_ticks_to_ns(p->edge_at, PIT_HZ));
}

static void pit_fire(void *ctx)
{
    pit_update(ctx);
}

/* ---- registers ---- */

static void pit_control(struct pit *p, uint8_t value)
{
    uint64_t now = pit_now(p);
    if (value >> 6 == 3) {
        for (unsigned i = 0; i < 3; i++) {
            if (!(value & 2u << i))
                continue;
            if (!(value & READ_BACK_NO_COUNT))
                channel_latch(&p->channel[i], now);
            if (!(value & READ_BACK_NO_STATUS))
                channel_latch_status(&p->channel[i], now);
        }
        return;
    }
    struct pit_channel *c = &p->channel[value >> 6];
    if (!(value & 0x30)) {
        channel_latch(c, now);
        return;
    }
    channel_control(c, value);
    if (value >> 6 == 0) {
        p->edge_at = UINT64_MAX; /* what was under way is off */
        pit_update(p);
    }
}

static uint64_t pit_read(void *device, uint64_t offset, unsigned size)
{
    struct pit *p = device;
    if (offset >= 3)
        return 0xff; /* the control word can't be read */
    return channel_read(&p->channel[offset], pit_now(p));
}

static void pit_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *p = device;
    if (offset >= 3) {
        pit_control(p, (uint8_t)value);
        return;
    }
    channel_write(&p->channel[offset], (uint8_t)value, pit_now(p));
    if (offset == 0)
        pit_update(p);
}

static uint64_t pit_read_61(void *device, uint64_t offset, unsigned size)
{
    struct pit *p = device;
    uint64_t now = pit_now(p);
    channel_sync(&p->channel[2], now);
    return p->port61 | (clock_now(p->clock) / REFRESH_NS % 2 ? PORT61_REFRESH : 0u) |
           (channel_out(&p->channel[2], now) ? PORT61_OUT2 : 0u);
}

static void pit_write_61(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *p = device;
    p->port61 = value & PORT61_WRITABLE;
    channel_gate(&p->channel[2], value & PORT61_GATE2, pit_now(p));
}

static const struct bus_ops pit_ops = {pit_read, pit_write, 1};
static const struct bus_ops pit_61_ops = {pit_read_61, pit_write_61, 1};

/* ---- life ---- */

void pit_init(struct pit *p, struct clock *clock, struct irq_line irq0)
{
    *p = (struct pit){.clock = clock, .irq0 = irq0};
    timer_init(&p->timer, clock, pit_fire, p);
    pit_reset(p);
}

void pit_reset(struct pit *p)
{
    for (unsigned i = 0; i < 3; i++) {
        p->channel[i] = (struct pit_channel){.gate = i != 2, .count = 0x10000, .access = 3};
        channel_control(&p->channel[i], 0x30 | (i ? 0 : 3 << 1));
    }
    p->port61 = 0;
    p->edge_at = UINT64_MAX;
    /* As firmware leaves it: channel 0 at its slowest, 18.2 Hz. */
    channel_load(&p->channel[0], 0, pit_now(p));
    pit_update(p);
}

bool pit_attach(struct pit *p, struct bus *ports, struct error *err)
{
    return bus_add(ports, "pit", 0x40, 4, &pit_ops, p, err) &&
           bus_add(ports, "port 61", 0x61, 1, &pit_61_ops, p, err);
}

static bool pit_after_load(void *object, struct error *err)
{
    struct pit *p = object;
    for (unsigned i = 0; i < 3; i++) {
        struct pit_channel *c = &p->channel[i];
        if (c->mode > 5 || c->count < 1 || c->count > 0x10000 || c->next_count > 0x10000 ||
            c->next_trigger > 0x10000 || c->access < 1 || c->access > 3 || c->gate > 1 ||
            c->latched > 2 || c->bcd > 1)
            return error_set(err, "pit: a saved register is out of range; the state is damaged");
    }
    pit_update(p);
    return true;
}

#define CHANNEL_FIELDS(n)                                                                          \
    ARCHIVE_FIELD(struct pit, channel[n].mode), ARCHIVE_FIELD(struct pit, channel[n].bcd),         \
        ARCHIVE_FIELD(struct pit, channel[n].access), ARCHIVE_FIELD(struct pit, channel[n].gate),  \
        ARCHIVE_FIELD(struct pit, channel[n].loaded),                                              \
        ARCHIVE_FIELD(struct pit, channel[n].triggered),                                           \
        ARCHIVE_FIELD(struct pit, channel[n].write_high),                                          \
        ARCHIVE_FIELD(struct pit, channel[n].write_low),                                           \
        ARCHIVE_FIELD(struct pit, channel[n].read_high),                                           \
        ARCHIVE_FIELD(struct pit, channel[n].latched),                                             \
        ARCHIVE_FIELD(struct pit, channel[n].status_latched),                                      \
        ARCHIVE_FIELD(struct pit, channel[n].latched_status),                                      \
        ARCHIVE_FIELD(struct pit, channel[n].latched_count),                                       \
        ARCHIVE_FIELD(struct pit, channel[n].count),                                               \
        ARCHIVE_FIELD(struct pit, channel[n].next_count),                                          \
        ARCHIVE_FIELD(struct pit, channel[n].next_trigger),                                        \
        ARCHIVE_FIELD(struct pit, channel[n].start),                                               \
        ARCHIVE_FIELD(struct pit, channel[n].next_at),                                             \
        ARCHIVE_FIELD(struct pit, channel[n].paused)

static const struct archive_field pit_fields[] = {
    CHANNEL_FIELDS(0),
    CHANNEL_FIELDS(1),
    CHANNEL_FIELDS(2),
    ARCHIVE_FIELD(struct pit, port61),
    ARCHIVE_FIELD(struct pit, out0),
    ARCHIVE_FIELD(struct pit, edge_at),
};

const struct archive_type pit_archive = {
    .name = "pit",
    .version = 1,
    .fields = pit_fields,
    .field_count = ARRAY_LEN(pit_fields),
    .after_load = pit_after_load,
};

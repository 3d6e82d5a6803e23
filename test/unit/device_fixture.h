/*
 * What the tests of devices share: a clock that goes where it is told, lines that remember, and
 * the save and load round trip that every device must survive.
 */
#ifndef DOPPEL_DEVICE_FIXTURE_H
#define DOPPEL_DEVICE_FIXTURE_H

#include "base/archive.h"
#include "device/bus.h"
#include "device/clock.h"
#include "test.h"

static uint64_t fixture_time;

static inline uint64_t fixture_source(void *ctx)
{
    return fixture_time;
}

/* A clock at guest time 0. */
static inline void fixture_clock(struct clock *c)
{
    fixture_time = 0;
    clock_init(c, fixture_source, NULL);
}

/* Goes to guest time ns, stopping at each deadline on the way. */
static inline void fixture_go(struct clock *c, uint64_t ns)
{
    while (clock_next(c) <= ns) {
        if (clock_next(c) > fixture_time)
            fixture_time = clock_next(c);
        clock_fire(c);
    }
    fixture_time = ns;
}

/* A line that counts its rising edges. */
struct fixture_line {
    bool level;
    unsigned edges;
};

static inline void fixture_line_set(void *ctx, unsigned pin, bool level)
{
    struct fixture_line *l = ctx;
    l->edges += level && !l->level;
    l->level = level;
}

static inline struct irq_line fixture_line(struct fixture_line *l)
{
    return (struct irq_line){fixture_line_set, l, 0};
}

static inline uint8_t in8(struct bus *b, uint64_t port)
{
    return (uint8_t)bus_read(b, port, 1);
}

static inline void out8(struct bus *b, uint64_t port, uint8_t value)
{
    bus_write(b, port, 1, value);
}

/* Saves from and loads into to, and saves that: true when both forms are the same. to must have
 * been made as from was, and may be in any state. */
static inline bool fixture_round_trip(const struct archive_type *type, void *from, void *to)
{
    struct archive a, b;
    struct error err = {0};
    archive_init(&a);
    archive_init(&b);
    static uint8_t first[1 << 16]; /* loading marks the archive, so compare with a copy */
    bool same = archive_save(&a, type, 0, from, &err) && a.size <= sizeof first;
    if (same)
        memcpy(first, a.data, a.size);
    same = same && archive_load(&a, type, 0, to, &err) && archive_save(&b, type, 0, to, &err) &&
           a.size == b.size && memcmp(first, b.data, b.size) == 0;
    if (err.text[0])
        printf("# %s\n", err.text);
    archive_free(&a);
    archive_free(&b);
    return same;
}

#endif

#include "device/dma.h"

#include "base/bits.h"

/* Registers above the channels' addresses and counts (8237A, "software commands"). */
enum {
    COMMAND_STATUS = 8,
    REQUEST = 9,
    SINGLE_MASK = 10,
    MODE = 11,
    CLEAR_FLIP_FLOP = 12,
    MASTER_CLEAR = 13,
    CLEAR_MASK = 14,
    ALL_MASK = 15,
};

static void dma_clear(struct dma_chip *c)
{
    c->command = c->status = c->request = c->temporary = 0;
    c->flip_flop = 0;
    c->mask = 15;
}

/* A byte of a 16-bit register, low one first. */
static uint8_t dma_read_half(struct dma_chip *c, uint16_t value)
{
    c->flip_flop ^= 1;
    return (uint8_t)(c->flip_flop ? value : value >> 8);
}

static void dma_write_half(struct dma_chip *c, uint16_t *base, uint16_t *current, uint8_t byte)
{
    c->flip_flop ^= 1;
    if (c->flip_flop)
        *base = (uint16_t)((*base & 0xff00) | byte);
    else
        *base = (uint16_t)((*base & 0x00ff) | byte << 8);
    *current = *base;
}

static uint8_t dma_read_chip(struct dma_chip *c, unsigned reg)
{
    if (reg < 8)
        return dma_read_half(c, reg & 1 ? c->count[reg / 2] : c->address[reg / 2]);
    uint8_t status = c->status;
    switch (reg) {
    case COMMAND_STATUS:
        c->status &= 0xf0; /* terminal counts are shown once */
        return status;
    case MASTER_CLEAR: return c->temporary;
    case ALL_MASK: return c->mask | 0xf0;
    default: return 0xff;
    }
}

static void dma_write_chip(struct dma_chip *c, unsigned reg, uint8_t byte)
{
    unsigned n = byte & 3;
    uint8_t bit = (uint8_t)(1u << n);
    if (reg < 8) {
        n = reg / 2;
        dma_write_half(c, reg & 1 ? &c->base_count[n] : &c->base_address[n],
                       reg & 1 ? &c->count[n] : &c->address[n], byte);
        return;
    }
    switch (reg) {
    case COMMAND_STATUS: c->command = byte; break;
    case REQUEST: c->request = (uint8_t)(byte & 4 ? c->request | bit : c->request & ~bit); break;
    case SINGLE_MASK: c->mask = (uint8_t)(byte & 4 ? c->mask | bit : c->mask & ~bit); break;
    case MODE: c->mode[n] = byte & 0xfc; break;
    case CLEAR_FLIP_FLOP: c->flip_flop = 0; break;
    case MASTER_CLEAR: dma_clear(c); break;
    case CLEAR_MASK: c->mask = 0; break;
    default: c->mask = byte & 15;
    }
}

static uint64_t dma_read_low(void *device, uint64_t offset, unsigned size)
{
    struct dma *d = device;
    return dma_read_chip(&d->chip[0], offset & 15);
}

static void dma_write_low(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct dma *d = device;
    dma_write_chip(&d->chip[0], offset & 15, (uint8_t)value);
}

/* The second chip's registers are two ports apart. */
static uint64_t dma_read_high(void *device, uint64_t offset, unsigned size)
{
    struct dma *d = device;
    return offset & 1 ? 0xff : dma_read_chip(&d->chip[1], offset >> 1 & 15);
}

static void dma_write_high(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct dma *d = device;
    if (!(offset & 1))
        dma_write_chip(&d->chip[1], offset >> 1 & 15, (uint8_t)value);
}

static uint64_t dma_read_page(void *device, uint64_t offset, unsigned size)
{
    struct dma *d = device;
    return d->page[offset & 15];
}

static void dma_write_page(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct dma *d = device;
    d->page[offset & 15] = (uint8_t)value;
}

static const struct bus_ops dma_low_ops = {dma_read_low, dma_write_low, 1};
static const struct bus_ops dma_high_ops = {dma_read_high, dma_write_high, 1};
static const struct bus_ops dma_page_ops = {dma_read_page, dma_write_page, 1};

void dma_init(struct dma *d)
{
    *d = (struct dma){0};
    dma_reset(d);
}

void dma_reset(struct dma *d)
{
    dma_clear(&d->chip[0]);
    dma_clear(&d->chip[1]);
}

bool dma_attach(struct dma *d, struct bus *ports, struct error *err)
{
    return bus_add(ports, "dma", 0x00, 0x10, &dma_low_ops, d, err) &&
           bus_add(ports, "dma page", 0x80, 0x10, &dma_page_ops, d, err) &&
           bus_add(ports, "dma", 0xc0, 0x20, &dma_high_ops, d, err);
}

#define CHIP_FIELDS(n)                                                                             \
    ARCHIVE_ARRAY(struct dma, chip[n].base_address),                                               \
        ARCHIVE_ARRAY(struct dma, chip[n].base_count), ARCHIVE_ARRAY(struct dma, chip[n].address), \
        ARCHIVE_ARRAY(struct dma, chip[n].count), ARCHIVE_ARRAY(struct dma, chip[n].mode),         \
        ARCHIVE_FIELD(struct dma, chip[n].command), ARCHIVE_FIELD(struct dma, chip[n].status),     \
        ARCHIVE_FIELD(struct dma, chip[n].request), ARCHIVE_FIELD(struct dma, chip[n].mask),       \
        ARCHIVE_FIELD(struct dma, chip[n].temporary), ARCHIVE_FIELD(struct dma, chip[n].flip_flop)

static const struct archive_field dma_fields[] = {
    CHIP_FIELDS(0),
    CHIP_FIELDS(1),
    ARCHIVE_ARRAY(struct dma, page),
};

static bool dma_after_load(void *object, struct error *err)
{
    struct dma *d = object;
    d->chip[0].flip_flop &= 1;
    d->chip[1].flip_flop &= 1;
    return true;
}

const struct archive_type dma_archive = {
    .name = "dma",
    .version = 1,
    .fields = dma_fields,
    .field_count = ARRAY_LEN(dma_fields),
    .after_load = dma_after_load,
};

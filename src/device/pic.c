#include "device/pic.h"

#include "base/bits.h"

enum {
    ICW1_IC4 = 1u << 0,
    ICW1_SNGL = 1u << 1,
    ICW1_LTIM = 1u << 3,
    ICW1 = 1u << 4, /* at the even port: this is an ICW1 */
    ICW4_AEOI = 1u << 1,
    ICW4_SFNM = 1u << 4,
    OCW2_EOI = 1u << 5,
    OCW2_SL = 1u << 6,
    OCW2_R = 1u << 7,
    OCW3 = 1u << 3, /* at the even port: OCW3, not OCW2 */
    OCW3_RIS = 1u << 0,
    OCW3_RR = 1u << 1,
    OCW3_P = 1u << 2,
    OCW3_SMM = 1u << 5,
    OCW3_ESMM = 1u << 6,
};

enum { CASCADE = 2 };

/* Inputs that are edge-triggered on every PC: timer, keyboard and cascade; clock and FPU. */
static const uint8_t elcr_writable[2] = {0xf8, 0xde};

/* How far input n is from the highest priority: 0 to 7. */
static unsigned pic_rank(const struct pic_chip *c, unsigned n)
{
    return (n - c->lowest - 1) & 7;
}

/* The input of highest priority in set, or -1. */
static int pic_highest(const struct pic_chip *c, uint8_t set)
{
    for (unsigned i = 1; i <= 8 && set; i++)
        if (set & 1u << ((c->lowest + i) & 7))
            return (int)((c->lowest + i) & 7);
    return -1;
}

/* The request that the chip's INT output stands for, or -1. */
static int pic_request(const struct pic *p, unsigned which)
{
    const struct pic_chip *c = &p->chip[which];
    if (c->icw_step)
        return -1; /* being initialized */
    int n = pic_highest(c, c->irr & (uint8_t)~c->imr);
    if (n < 0)
        return -1;
    uint8_t serving = c->isr;
    if (c->special)
        serving &= (uint8_t)~c->imr;
    /* Special fully nested mode: a slave's further requests pass its own one in service. */
    if (which == 0 && (c->icw4 & ICW4_SFNM) && n == CASCADE)
        serving &= (uint8_t) ~(1u << CASCADE);
    int s = pic_highest(c, serving);
    if (c->special ? (s == n) : (s >= 0 && pic_rank(c, (unsigned)s) <= pic_rank(c, (unsigned)n)))
        return -1;
    return n;
}

static bool pic_level_triggered(const struct pic_chip *c, unsigned n)
{
    return (c->icw1 & ICW1_LTIM) || (c->elcr & 1u << n);
}

/* Carries the slave's output to the master, and the master's to the processor. */
static void pic_update(struct pic *p)
{
    struct pic_chip *master = &p->chip[0];
    if (!(master->icw1 & ICW1_SNGL)) {
        uint8_t bit = 1u << CASCADE;
        master->irr = (uint8_t)((master->irr & ~bit) | (pic_request(p, 1) >= 0 ? bit : 0));
    }
    uint8_t output = pic_request(p, 0) >= 0;
    if (output == p->output)
        return;
    p->output = output;
    irq_set(&p->intr, output);
}

void pic_set(void *pic, unsigned irq, bool level)
{
    struct pic *p = pic;
    if (irq > 15 || irq == CASCADE)
        return;
    struct pic_chip *c = &p->chip[irq >> 3];
    unsigned n = irq & 7;
    uint8_t bit = (uint8_t)(1u << n), before = c->lines;
    c->lines = (uint8_t)(level ? before | bit : before & ~bit);
    if (pic_level_triggered(c, n))
        c->irr = (uint8_t)((c->irr & ~bit) | (c->lines & bit));
    else if (level && !(before & bit))
        c->irr |= bit;
    /* The 8259A forgets an edge whose line falls before it is acknowledged. Ours keeps it: a
     * vCPU that was away when the line pulsed would otherwise lose the interrupt. */
    pic_update(p);
}

/* Level-triggered inputs request as long as their line is high. */
static void pic_sample_levels(struct pic_chip *c)
{
    for (unsigned n = 0; n < 8; n++)
        if (pic_level_triggered(c, n))
            c->irr = (uint8_t)((c->irr & ~(1u << n)) | (c->lines & 1u << n));
}

static void pic_take(struct pic_chip *c, unsigned n)
{
    uint8_t bit = (uint8_t)(1u << n);
    if (!pic_level_triggered(c, n))
        c->irr &= (uint8_t)~bit;
    if (!(c->icw4 & ICW4_AEOI))
        c->isr |= bit;
    else if (c->auto_rotate)
        c->lowest = (uint8_t)n;
}

/* The acknowledge cycle of one chip: its input, or 7 (and nothing in service) when its request went
 * away meanwhile. */
static unsigned pic_acknowledge_chip(struct pic *p, unsigned which)
{
    int n = pic_request(p, which);
    if (n < 0)
        return 7;
    pic_take(&p->chip[which], (unsigned)n);
    return (unsigned)n;
}

int pic_acknowledge(struct pic *p)
{
    struct pic_chip *c = &p->chip[0];
    bool cascade = pic_request(p, 0) == CASCADE && !(c->icw1 & ICW1_SNGL);
    unsigned n = pic_acknowledge_chip(p, 0);
    if (cascade) {
        n = pic_acknowledge_chip(p, 1);
        c = &p->chip[1];
    }
    pic_update(p);
    return (c->icw2 & 0xf8) | (int)n;
}

/* ---- registers ---- */

static void pic_icw1(struct pic_chip *c, uint8_t value)
{
    c->icw1 = value;
    c->irr = c->isr = c->imr = 0;
    c->lowest = 7;
    c->special = c->read_isr = c->poll = c->auto_rotate = 0;
    c->icw3 = 7;
    if (!(value & ICW1_IC4))
        c->icw4 = 0;
    c->icw_step = 2;
    pic_sample_levels(c);
}

static void pic_icw(struct pic_chip *c, uint8_t value)
{
    switch (c->icw_step) {
    case 2:
        c->icw2 = value;
        c->icw_step = !(c->icw1 & ICW1_SNGL) ? 3 : c->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    case 3:
        c->icw3 = value;
        c->icw_step = c->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    default: c->icw4 = value & 0x1f; c->icw_step = 0;
    }
}

static void pic_ocw2(struct pic_chip *c, uint8_t value)
{
    if (!(value & OCW2_EOI)) {
        if ((value & (OCW2_R | OCW2_SL)) == (OCW2_R | OCW2_SL))
            c->lowest = value & 7; /* set priority */
        else if (!(value & OCW2_SL))
            c->auto_rotate = !!(value & OCW2_R);
        return;
    }
    int n = value & 7;
    if (!(value & OCW2_SL)) /* in special mask mode a masked level is not reset */
        n = pic_highest(c, c->special ? c->isr & (uint8_t)~c->imr : c->isr);
    if (n < 0)
        return;
    c->isr &= (uint8_t) ~(1u << n);
    if (value & OCW2_R)
        c->lowest = (uint8_t)n;
}

static void pic_ocw3(struct pic_chip *c, uint8_t value)
{
    if (value & OCW3_ESMM)
        c->special = !!(value & OCW3_SMM);
    if (value & OCW3_P)
        c->poll = 1;
    else if (value & OCW3_RR)
        c->read_isr = value & OCW3_RIS;
}

static uint64_t pic_read_chip(struct pic *p, unsigned which, uint64_t offset)
{
    struct pic_chip *c = &p->chip[which];
    if (c->poll) {
        c->poll = 0;
        int n = pic_request(p, which);
        if (n >= 0)
            pic_take(c, (unsigned)n);
        pic_update(p);
        return n < 0 ? 0 : 0x80u | (unsigned)n;
    }
    if (offset & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

static void pic_write_chip(struct pic *p, unsigned which, uint64_t offset, uint8_t value)
{
    struct pic_chip *c = &p->chip[which];
    if (!(offset & 1)) {
        if (value & ICW1)
            pic_icw1(c, value);
        else if (value & OCW3)
            pic_ocw3(c, value);
        else
            pic_ocw2(c, value);
    } else if (c->icw_step) {
        pic_icw(c, value);
    } else {
        c->imr = value;
    }
    pic_update(p);
}

static uint64_t pic_master_read(void *device, uint64_t offset, unsigned size)
{
    return pic_read_chip(device, 0, offset);
}

static void pic_master_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    pic_write_chip(device, 0, offset, (uint8_t)value);
}

static uint64_t pic_slave_read(void *device, uint64_t offset, unsigned size)
{
    return pic_read_chip(device, 1, offset);
}

static void pic_slave_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    pic_write_chip(device, 1, offset, (uint8_t)value);
}

static uint64_t pic_elcr_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *p = device;
    return p->chip[offset & 1].elcr;
}

static void pic_elcr_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pic *p = device;
    struct pic_chip *c = &p->chip[offset & 1];
    c->elcr = (uint8_t)value & elcr_writable[offset & 1];
    pic_sample_levels(c);
    pic_update(p);
}

static const struct bus_ops pic_master_ops = {pic_master_read, pic_master_write, 1};
static const struct bus_ops pic_slave_ops = {pic_slave_read, pic_slave_write, 1};
static const struct bus_ops pic_elcr_ops = {pic_elcr_read, pic_elcr_write, 1};

/* ---- life ---- */

void pic_init(struct pic *p, struct irq_line intr)
{
    *p = (struct pic){.intr = intr};
    pic_reset(p);
}

void pic_reset(struct pic *p)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t lines = p->chip[i].lines;
        /* Until it is initialized it asks for nothing: everything masked. */
        p->chip[i] = (struct pic_chip){.lines = lines, .imr = 0xff, .lowest = 7};
    }
    pic_update(p);
}

bool pic_attach(struct pic *p, struct bus *ports, struct error *err)
{
    return bus_add(ports, "pic", 0x20, 2, &pic_master_ops, p, err) &&
           bus_add(ports, "pic", 0xa0, 2, &pic_slave_ops, p, err) &&
           bus_add(ports, "pic elcr", 0x4d0, 2, &pic_elcr_ops, p, err);
}

static bool pic_after_load(void *object, struct error *err)
{
    struct pic *p = object;
    for (unsigned i = 0; i < 2; i++) {
        struct pic_chip *c = &p->chip[i];
        if (c->lowest > 7 || c->icw_step > 4)
            return error_set(err, "pic: a saved register is out of range; the state is damaged");
    }
    p->output = pic_request(p, 0) >= 0;
    irq_set(&p->intr, p->output);
    return true;
}

/* The chip has only bytes in it, so it is saved as bytes. */
static const struct archive_field pic_fields[] = {
    {"chip", offsetof(struct pic, chip), 1, sizeof(((struct pic *)0)->chip)},
};

const struct archive_type pic_archive = {
    .name = "pic",
    .version = 1,
    .fields = pic_fields,
    .field_count = ARRAY_LEN(pic_fields),
    .after_load = pic_after_load,
};

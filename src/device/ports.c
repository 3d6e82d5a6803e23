#include "device/ports.h"

#include "base/bits.h"

enum { PORT92_RESET = 1u << 0, PORT92_A20 = 1u << 1, PORT92_WRITABLE = 0x0b };

static uint64_t ports_read_92(void *device, uint64_t offset, unsigned size)
{
    struct ports *p = device;
    return p->port92;
}

static void ports_write_92(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct ports *p = device;
    uint8_t before = p->port92;
    p->port92 = value & PORT92_WRITABLE;
    if (((before ^ p->port92) & PORT92_A20) && p->a20)
        p->a20(p->ctx, p->port92 & PORT92_A20);
    if ((p->port92 & ~before & PORT92_RESET))
        p->reset(p->ctx);
}

/* Port 0xed: a write takes an I/O cycle's time, and that is all. */
static uint64_t ports_read_delay(void *device, uint64_t offset, unsigned size)
{
    return 0xff;
}

static void ports_write_delay(void *device, uint64_t offset, unsigned size, uint64_t value) {}

static const struct bus_ops ports_92_ops = {ports_read_92, ports_write_92, 1};
static const struct bus_ops ports_delay_ops = {ports_read_delay, ports_write_delay, 1};

void ports_init(struct ports *p, void *ctx, void (*reset)(void *ctx),
                void (*a20)(void *ctx, bool enabled))
{
    *p = (struct ports){.ctx = ctx, .reset = reset, .a20 = a20};
    ports_reset(p);
}

void ports_reset(struct ports *p)
{
    p->port92 = PORT92_A20; /* firmware leaves A20 on */
}

bool ports_attach(struct ports *p, struct bus *io, struct error *err)
{
    return bus_add(io, "port 92", 0x92, 1, &ports_92_ops, p, err) &&
           bus_add(io, "delay", 0xed, 1, &ports_delay_ops, p, err);
}

static const struct archive_field ports_fields[] = {ARCHIVE_FIELD(struct ports, port92)};

const struct archive_type ports_archive = {
    .name = "ports",
    .version = 1,
    .fields = ports_fields,
    .field_count = ARRAY_LEN(ports_fields),
};

#include "device/ioapic.h"

#include "base/bits.h"

/* The window's registers, and what IOREGSEL selects (82093AA, 3.1 and 3.2). */
enum { IOREGSEL = 0x00, IOWIN = 0x10, EOIR = 0x40 };
enum { IOAPICID = 0x00, IOAPICVER = 0x01, IOAPICARB = 0x02, IOREDTBL = 0x10 };
enum { VERSION = 0x20 };

/* A redirection entry. */
#define RED_LOGICAL    BIT(11)
#define RED_STATUS     BIT(12)
#define RED_REMOTE_IRR BIT(14)
#define RED_LEVEL      BIT(15)
#define RED_MASKED     BIT(16)
#define RED_READ_ONLY  (RED_STATUS | RED_REMOTE_IRR)
#define RED_WRITABLE   (UINT64_C(0xff0000000001ffff) & ~RED_READ_ONLY)

struct apic_message ioapic_message(const struct ioapic *a, unsigned pin)
{
    uint64_t entry = a->redirection[pin];
    struct apic_message m = {
        .destination = (uint32_t)(entry >> 56),
        .vector = (uint8_t)entry,
        .mode = entry >> 8 & 7,
        .logical = entry & RED_LOGICAL,
        .level = entry & RED_LEVEL,
    };
    /* Only interrupts with a vector get an EOI; the others are edges whatever the entry says. */
    if (m.mode != APIC_FIXED && m.mode != APIC_LOWEST)
        m.level = false;
    return m;
}

static void ioapic_deliver(struct ioapic *a, unsigned pin)
{
    struct apic_message m = ioapic_message(a, pin);
    if (m.level)
        a->redirection[pin] |= RED_REMOTE_IRR;
    a->deliver(a->ctx, &m);
}

/* Delivers a level-triggered pin's interrupt if it is due. */
static void ioapic_service_level(struct ioapic *a, unsigned pin)
{
    uint64_t entry = a->redirection[pin];
    if ((entry & RED_LEVEL) && !(entry & (RED_MASKED | RED_REMOTE_IRR)) && (a->lines >> pin & 1))
        ioapic_deliver(a, pin);
}

void ioapic_set(void *ioapic, unsigned pin, bool level)
{
    struct ioapic *a = ioapic;
    if (pin >= IOAPIC_PINS)
        return;
    bool was = a->lines >> pin & 1;
    a->lines = (uint32_t)((a->lines & ~BIT(pin)) | (uint64_t)level << pin);
    uint64_t entry = a->redirection[pin];
    if (entry & RED_LEVEL)
        ioapic_service_level(a, pin);
    else if (level && !was && !(entry & RED_MASKED)) /* edges while masked are lost */
        ioapic_deliver(a, pin);
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t entry = a->redirection[pin];
        if ((uint8_t)entry != vector || !(entry & RED_REMOTE_IRR))
            continue;
        a->redirection[pin] &= ~RED_REMOTE_IRR;
        ioapic_service_level(a, pin);
    }
}

static uint32_t ioapic_read_register(const struct ioapic *a)
{
    unsigned index = a->ioregsel & 0xff;
    switch (index) {
    case IOAPICID:
    case IOAPICARB: return a->id;
    case IOAPICVER: return (IOAPIC_PINS - 1) << 16 | VERSION;
    default:
        if (index < IOREDTBL || (index - IOREDTBL) / 2 >= IOAPIC_PINS)
            return 0;
        return (uint32_t)(a->redirection[(index - IOREDTBL) / 2] >> (index & 1 ? 32 : 0));
    }
}

static void ioapic_write_register(struct ioapic *a, uint32_t value)
{
    unsigned index = a->ioregsel & 0xff;
    if (index == IOAPICID) {
        a->id = value & 0x0f000000;
        return;
    }
    if (index < IOREDTBL || (index - IOREDTBL) / 2 >= IOAPIC_PINS)
        return;
    unsigned pin = (index - IOREDTBL) / 2, shift = index & 1 ? 32 : 0;
    uint64_t written = (uint64_t)UINT32_MAX << shift & RED_WRITABLE;
    uint64_t *entry = &a->redirection[pin];
    *entry = (*entry & ~written) | ((uint64_t)value << shift & written);
    if (!(*entry & RED_LEVEL))
        *entry &= ~RED_REMOTE_IRR; /* the way to end one by hand, where there is no EOIR */
    if (a->routed)
        a->routed(a->ctx, a);
    ioapic_service_level(a, pin);
}

/* Registers are 32 bits wide, at 16-byte steps; other accesses see their bytes. */
static uint64_t ioapic_read(void *device, uint64_t offset, unsigned size)
{
    struct ioapic *a = device;
    uint32_t value = 0;
    switch (offset & 0xf0) {
    case IOREGSEL: value = a->ioregsel; break;
    case IOWIN: value = ioapic_read_register(a); break;
    default: break;
    }
    return (offset & 15) < 4 ? value >> 8 * (offset & 3) : 0;
}

static void ioapic_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct ioapic *a = device;
    if (offset & 15)
        return;
    switch (offset & 0xf0) {
    case IOREGSEL: a->ioregsel = (uint8_t)value; break;
    case IOWIN:
        if (size >= 4)
            ioapic_write_register(a, (uint32_t)value);
        break;
    case EOIR: ioapic_eoi(a, (uint8_t)value); break;
    default: break;
    }
}

static const struct bus_ops ioapic_ops = {ioapic_read, ioapic_write, 0};

void ioapic_init(struct ioapic *a, void (*deliver)(void *ctx, const struct apic_message *m),
                 void *ctx, unsigned id)
{
    *a = (struct ioapic){.deliver = deliver, .ctx = ctx, .initial_id = (id & 15) << 24};
    ioapic_reset(a);
}

void ioapic_reset(struct ioapic *a)
{
    a->id = a->initial_id;
    a->ioregsel = 0;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
        a->redirection[pin] = RED_MASKED;
}

bool ioapic_attach(struct ioapic *a, struct bus *memory, struct error *err)
{
    return bus_add(memory, "ioapic", IOAPIC_BASE, IOAPIC_SIZE, &ioapic_ops, a, err);
}

static const struct archive_field ioapic_fields[] = {
    ARCHIVE_FIELD(struct ioapic, id),
    ARCHIVE_FIELD(struct ioapic, ioregsel),
    ARCHIVE_ARRAY(struct ioapic, redirection),
    ARCHIVE_FIELD(struct ioapic, lines),
};

const struct archive_type ioapic_archive = {
    .name = "ioapic",
    .version = 1,
    .fields = ioapic_fields,
    .field_count = ARRAY_LEN(ioapic_fields),
};

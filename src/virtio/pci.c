/*
 * Virtio over PCI (virtio 1.2, 4.1): where a driver finds what, and what the registers do.
 */
#include "virtio/virtio.h"

enum { VIRTIO_VENDOR = 0x1af4, VIRTIO_FIRST_DEVICE = 0x1040, REVISION = 1 }; /* 4.1.2 */

/* BAR 0: a page for each structure. BAR 1: MSI-X. */
enum {
    COMMON_AT = 0x0000,
    ISR_AT = 0x1000,
    CONFIG_AT = 0x2000,
    NOTIFY_AT = 0x3000,
    REGISTERS_SIZE = 0x4000,
    NOTIFY_STRIDE = 4, /* notify_off_multiplier: each queue has an address of its own */
    TABLE_AT = 0x0000,
    PENDING_AT = 0x800,
    MSIX_SIZE = 0x1000,
};

enum { ISR_QUEUE = 1, ISR_CONFIG = 2 }; /* 4.1.4.5 */

/* ---- interrupts ---- */

void virtio_pci_interrupt(struct virtio_device *d, const struct virtq *q)
{
    if (pci_msix_enabled(&d->pci)) {
        pci_msix_send(&d->pci, q ? q->vector : d->config_vector);
    } else {
        d->isr |= q ? ISR_QUEUE : ISR_CONFIG;
        pci_set_intx(&d->pci, true);
    }
}

/* A vector that is not there can't be mapped, which the driver finds by reading (4.1.5.1.2). */
static uint16_t vector(const struct virtio_device *d, uint64_t value)
{
    return (uint16_t)(value < d->pci.msix.vectors ? value : VIRTIO_NO_VECTOR);
}

/* ---- the common configuration structure (4.1.4.3) ---- */

/* The queue that is selected, or one of size 0: there is none of that number. */
static struct virtq *selected(struct virtio_device *d, struct virtq *none)
{
    *none = (struct virtq){.vector = VIRTIO_NO_VECTOR};
    return d->queue_select < d->kind->queues ? &d->queue[d->queue_select] : none;
}

static uint64_t read_device_feature_select(struct virtio_device *d, const struct virtq *q)
{
    return d->device_feature_select;
}

static uint64_t read_device_feature(struct virtio_device *d, const struct virtq *q)
{
    return d->device_feature_select < 2 ? virtio_features(d) >> 32 * d->device_feature_select : 0;
}

static uint64_t read_driver_feature_select(struct virtio_device *d, const struct virtq *q)
{
    return d->driver_feature_select;
}

static uint64_t read_driver_feature(struct virtio_device *d, const struct virtq *q)
{
    return d->driver_feature_select < 2 ? d->driver_features >> 32 * d->driver_feature_select : 0;
}

static uint64_t read_config_vector(struct virtio_device *d, const struct virtq *q)
{
    return d->config_vector;
}

static uint64_t read_queues(struct virtio_device *d, const struct virtq *q)
{
    return d->kind->queues;
}

static uint64_t read_status(struct virtio_device *d, const struct virtq *q)
{
    return d->status;
}

/* The configuration never changes. */
static uint64_t read_generation(struct virtio_device *d, const struct virtq *q)
{
    return 0;
}

static uint64_t read_queue_select(struct virtio_device *d, const struct virtq *q)
{
    return d->queue_select;
}

static uint64_t read_queue_size(struct virtio_device *d, const struct virtq *q)
{
    return q->size;
}

static uint64_t read_queue_vector(struct virtio_device *d, const struct virtq *q)
{
    return q->vector;
}

static uint64_t read_queue_enable(struct virtio_device *d, const struct virtq *q)
{
    return q->enabled;
}

static uint64_t read_notify_offset(struct virtio_device *d, const struct virtq *q)
{
    return d->queue_select;
}

static uint64_t read_descriptors(struct virtio_device *d, const struct virtq *q)
{
    return q->descriptors;
}

static uint64_t read_driver_area(struct virtio_device *d, const struct virtq *q)
{
    return q->driver;
}

static uint64_t read_device_area(struct virtio_device *d, const struct virtq *q)
{
    return q->device;
}

static void write_device_feature_select(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    d->device_feature_select = (uint32_t)value;
}

static void write_driver_feature_select(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    d->driver_feature_select = (uint32_t)value;
}

/* Not once they are agreed on (2.2.1). Bits 64 and up are none of ours: whoever wants one of them
 * wants what was not offered. */
static void write_driver_feature(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    if (d->status & VIRTIO_FEATURES_OK)
        return;
    if (d->driver_feature_select == 0)
        d->driver_features = (d->driver_features & ~UINT64_C(0xffffffff)) | value;
    else if (d->driver_feature_select == 1)
        d->driver_features = (d->driver_features & 0xffffffff) | value << 32;
}

static void write_config_vector(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    d->config_vector = vector(d, value);
}

static void write_status(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    virtio_write_status(d, (uint8_t)value);
}

static void write_queue_select(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    d->queue_select = (uint16_t)value;
}

/* The rest is set up before the queue is enabled (4.1.4.3.2). */
static void write_queue_size(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    if (!q->enabled && value && value <= q->size_max && !(value & (value - 1)))
        q->size = (uint16_t)value;
}

static void write_queue_vector(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    q->vector = vector(d, value);
}

static void write_queue_enable(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    if (value == 1 && q->size)
        virtio_enable_queue(d, q);
}

static void write_descriptors(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    if (!q->enabled)
        q->descriptors = value;
}

static void write_driver_area(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    if (!q->enabled)
        q->driver = value;
}

static void write_device_area(struct virtio_device *d, struct virtq *q, uint64_t value)
{
    if (!q->enabled)
        q->device = value;
}

static const struct common_register {
    uint8_t at, size;
    uint64_t (*read)(struct virtio_device *d, const struct virtq *q);
    void (*write)(struct virtio_device *d, struct virtq *q, uint64_t value); /* NULL: read only */
} common[] = {
    {0x00, 4, read_device_feature_select, write_device_feature_select},
    {0x04, 4, read_device_feature, NULL},
    {0x08, 4, read_driver_feature_select, write_driver_feature_select},
    {0x0c, 4, read_driver_feature, write_driver_feature},
    {0x10, 2, read_config_vector, write_config_vector},
    {0x12, 2, read_queues, NULL},
    {0x14, 1, read_status, write_status},
    {0x15, 1, read_generation, NULL},
    {0x16, 2, read_queue_select, write_queue_select},
    {0x18, 2, read_queue_size, write_queue_size},
    {0x1a, 2, read_queue_vector, write_queue_vector},
    {0x1c, 2, read_queue_enable, write_queue_enable},
    {0x1e, 2, read_notify_offset, NULL},
    {0x20, 8, read_descriptors, write_descriptors},
    {0x28, 8, read_driver_area, write_driver_area},
    {0x30, 8, read_device_area, write_device_area},
};
enum { COMMON_SIZE = 0x38 };

/* The register that the whole access lies in: a 64-bit one is accessed in halves as well, and what
 * else a driver may not do (4.1.3.1) gets and changes the bytes that it names. */
static const struct common_register *find_common(uint64_t offset, unsigned size)
{
    for (unsigned i = 0; i < ARRAY_LEN(common); i++)
        if (offset >= common[i].at && offset + size <= common[i].at + (uint64_t)common[i].size)
            return &common[i];
    return NULL;
}

static uint64_t read_common(struct virtio_device *d, uint64_t offset, unsigned size)
{
    struct virtq none;
    const struct common_register *r = find_common(offset, size);
    return r ? r->read(d, selected(d, &none)) >> 8 * (offset - r->at) : 0;
}

static void write_common(struct virtio_device *d, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtq none, *q = selected(d, &none);
    const struct common_register *r = find_common(offset, size);
    if (!r || !r->write)
        return;
    unsigned shift = 8 * (unsigned)(offset - r->at);
    uint64_t mask = bits_mask(8 * size) << shift;
    r->write(d, q, (r->read(d, q) & ~mask) | (value << shift & mask));
}

/* ---- BAR 0 ---- */

/* Reading takes the interrupt back (4.1.4.5). */
static uint64_t read_isr(struct virtio_device *d)
{
    uint8_t isr = d->isr;
    d->isr = 0;
    pci_set_intx(&d->pci, false);
    return isr;
}

static uint64_t read_config(struct virtio_device *d, uint64_t offset, unsigned size)
{
    unsigned there = d->kind->config_size;
    return offset < there && size <= there - offset
               ? pci_get(d->kind->config(d), (unsigned)offset, size)
               : 0;
}

static uint64_t read_registers(void *device, uint64_t offset, unsigned size)
{
    struct virtio_device *d = device;
    if (offset < ISR_AT)
        return read_common(d, offset, size);
    if (offset < CONFIG_AT)
        return offset == ISR_AT ? read_isr(d) : 0;
    return offset < NOTIFY_AT ? read_config(d, offset - CONFIG_AT, size) : 0;
}

/* The address says which queue is meant; so what is written does not matter (4.1.5.2). */
static void write_registers(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_device *d = device;
    if (offset < ISR_AT)
        write_common(d, offset, size, value);
    else if (offset >= NOTIFY_AT && offset % NOTIFY_STRIDE == 0)
        virtio_notified(d, (unsigned)(offset - NOTIFY_AT) / NOTIFY_STRIDE);
}

static bool doorbell(void *device, unsigned n, struct bus_doorbell *to)
{
    const struct virtio_device *d = device;
    *to = (struct bus_doorbell){NOTIFY_AT + (uint64_t)n * NOTIFY_STRIDE, n, 2};
    return n < d->kind->queues;
}

static const struct bus_ops register_ops = {read_registers, write_registers, 0, doorbell};

/* ---- BAR 1 ---- */

static uint64_t read_msix(void *device, uint64_t offset, unsigned size)
{
    struct virtio_device *d = device;
    return offset < PENDING_AT ? pci_msix_read(&d->pci, offset - TABLE_AT, size)
                               : pci_msix_read_pending(&d->pci, offset - PENDING_AT, size);
}

static void write_msix(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_device *d = device;
    if (offset < PENDING_AT)
        pci_msix_write(&d->pci, offset - TABLE_AT, size, value);
}

static const struct bus_ops msix_ops = {read_msix, write_msix, 0};

/* ---- the window in configuration space (4.1.4.9) ---- */

/* Offsets in a capability. */
enum {
    CAP_LENGTH = 2,
    CAP_TYPE = 3,
    CAP_BAR = 4,
    CAP_AT = 8,
    CAP_SIZE = 12,
    CAP_BYTES = 16,
    CAP_MORE = 16,
};

/* Whether the access goes on to BAR 0, as the driver has set the window up, and where to there. */
static bool through_window(struct virtio_device *d, unsigned offset, unsigned size, uint64_t *at)
{
    const uint8_t *cap = &d->pci.config[d->window];
    *at = pci_get(cap, CAP_AT, 4);
    return offset == d->window + CAP_MORE && cap[CAP_BAR] == 0 &&
           pci_get(cap, CAP_SIZE, 4) == size && *at % size == 0 && *at <= REGISTERS_SIZE - size;
}

static void reading(void *device, unsigned offset, unsigned size)
{
    struct virtio_device *d = device;
    uint64_t at;
    if (through_window(d, offset, size, &at))
        pci_put(d->pci.config, offset, size, read_registers(d, at, size));
}

static void written(void *device, unsigned offset, unsigned size)
{
    struct virtio_device *d = device;
    uint64_t at;
    if (size <= 4 && through_window(d, offset, size, &at))
        write_registers(d, at, size, pci_get(d->pci.config, offset, size));
    virtio_go_on(d);
}

/* ---- making ---- */

enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_CONFIG, CAP_WINDOW };

static unsigned add_capability(struct pci_function *f, uint8_t type, uint32_t at, uint32_t size,
                               unsigned more)
{
    unsigned cap = pci_add_capability(f, PCI_CAP_VENDOR, CAP_BYTES + more);
    if (cap) {
        f->config[cap + CAP_LENGTH] = (uint8_t)(CAP_BYTES + more);
        f->config[cap + CAP_TYPE] = type;
        pci_put(f->config, cap + CAP_AT, 4, at);
        pci_put(f->config, cap + CAP_SIZE, 4, size);
    }
    return cap;
}

/* They fit: configuration space has room for three times as many. */
static void add_capabilities(struct virtio_device *d)
{
    struct pci_function *f = &d->pci;
    add_capability(f, CAP_COMMON, COMMON_AT, COMMON_SIZE, 0);
    add_capability(f, CAP_ISR, ISR_AT, 1, 0);
    if (d->kind->config_size)
        add_capability(f, CAP_CONFIG, CONFIG_AT, d->kind->config_size, 0);
    unsigned notify = add_capability(f, CAP_NOTIFY, NOTIFY_AT, d->kind->queues * NOTIFY_STRIDE, 4);
    pci_put(f->config, notify + CAP_MORE, 4, NOTIFY_STRIDE);
    d->window = add_capability(f, CAP_WINDOW, 0, 0, 4);
    f->writable[d->window + CAP_BAR] = 0xff;
    pci_put(f->writable, d->window + CAP_AT, 4, UINT32_MAX);
    pci_put(f->writable, d->window + CAP_SIZE, 4, UINT32_MAX);
    pci_put(f->writable, d->window + CAP_MORE, 4, UINT32_MAX);
}

bool virtio_pci_add(struct virtio_device *d, struct pci_bus *bus, unsigned devfn, struct error *err)
{
    const struct virtio_kind *kind = d->kind;
    struct pci_function *f = &d->pci;
    uint16_t id = (uint16_t)(VIRTIO_FIRST_DEVICE + kind->id);
    pci_function_init(f, kind->name, VIRTIO_VENDOR, id, kind->class_code, REVISION);
    pci_set_subsystem(f, VIRTIO_VENDOR, id);
    pci_set_bar(f, 0, PCI_BAR_MEMORY, REGISTERS_SIZE, &register_ops, d);
    pci_set_bar(f, 1, PCI_BAR_MEMORY, MSIX_SIZE, &msix_ops, d);
    pci_set_pin(f, 1);
    add_capabilities(d);
    f->device = d;
    f->reading = reading;
    f->written = written;
    /* One vector for each queue, and one for the configuration. */
    return pci_add_msix(f, kind->queues + 1, 1, TABLE_AT, PENDING_AT) &&
           pci_add(bus, f, devfn, err);
}

#include "virtio/virtio.h"

uint64_t virtio_features(const struct virtio_device *d)
{
    return d->kind->features | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
}

/* ---- status ---- */

void virtio_reset(struct virtio_device *d)
{
    timer_cancel(&d->service);
    d->status = d->isr = 0;
    d->config_vector = VIRTIO_NO_VECTOR;
    d->queue_select = 0;
    d->device_feature_select = d->driver_feature_select = 0;
    d->driver_features = 0;
    d->notified = 0;
    for (unsigned i = 0; i < d->kind->queues; i++)
        virtq_reset(&d->queue[i]);
    pci_set_intx(&d->pci, false);
}

/* What the driver did makes no sense: nothing more is done until it resets the device (2.1.2). */
static void need_reset(struct virtio_device *d)
{
    d->status |= VIRTIO_NEEDS_RESET;
    if (d->status & VIRTIO_DRIVER_OK)
        virtio_pci_interrupt(d, NULL);
}

/* Bits are only added (2.1.1). The driver finds out by reading whether its features are taken
 * (2.2.2). */
void virtio_write_status(struct virtio_device *d, uint8_t status)
{
    if (status == 0) {
        virtio_reset(d);
        return;
    }
    bool taken =
        (d->driver_features & VIRTIO_F_VERSION_1) && !(d->driver_features & ~virtio_features(d));
    if (!taken)
        status &= (uint8_t) ~(VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
    if (!((d->status | status) & VIRTIO_FEATURES_OK))
        status &= (uint8_t)~VIRTIO_DRIVER_OK;
    d->status |= status & (uint8_t)~VIRTIO_NEEDS_RESET;
}

void virtio_enable_queue(struct virtio_device *d, struct virtq *q)
{
    if (q->enabled)
        return;
    if (!(d->status & VIRTIO_FEATURES_OK) || !virtq_valid(q, d->memory)) {
        need_reset(d);
        return;
    }
    q->event_idx = d->driver_features & VIRTIO_F_EVENT_IDX;
    q->indirect = d->driver_features & VIRTIO_F_INDIRECT_DESC;
    q->enabled = true;
}

/* ---- work ---- */

/* The device reads and writes memory only as far as it may master the bus. */
static bool may_work(const struct virtio_device *d)
{
    return (d->status & VIRTIO_DRIVER_OK) && !(d->status & VIRTIO_NEEDS_RESET) &&
           (d->pci.config[PCI_COMMAND] & PCI_COMMAND_MASTER);
}

static bool serve_chain(struct virtio_device *d, struct virtq *q, const struct virtq_chain *c)
{
    uint32_t written = 0;
    return d->kind->serve(d, (unsigned)(q - d->queue), c, &written) &&
           virtq_give(q, d->memory, c->head, written);
}

/* As many chains as the queue is long, at most: who goes on offering some waits for the next turn.
 */
static enum virtq_result serve_queue(struct virtio_device *d, struct virtq *q)
{
    struct virtq_chain c;
    enum virtq_result r = VIRTQ_TAKEN;
    for (unsigned n = q->size; n && r == VIRTQ_TAKEN; n--) {
        r = virtq_take(q, d->memory, &c);
        if (r == VIRTQ_TAKEN && !serve_chain(d, q, &c))
            r = VIRTQ_BROKEN;
    }
    if (virtq_wants_interrupt(q, d->memory))
        virtio_pci_interrupt(d, q);
    return r;
}

void virtio_go_on(struct virtio_device *d)
{
    if (d->notified && may_work(d))
        timer_set(&d->service, clock_now(d->service.clock) + 1);
}

static void serve(void *device)
{
    struct virtio_device *d = device;
    for (unsigned i = 0; i < d->kind->queues && may_work(d); i++) {
        struct virtq *q = &d->queue[i];
        if (!(d->notified >> i & 1))
            continue;
        d->notified &= ~(1u << i);
        enum virtq_result r = q->enabled ? serve_queue(d, q) : VIRTQ_EMPTY;
        if (r == VIRTQ_TAKEN)
            d->notified |= 1u << i;
        if (r == VIRTQ_BROKEN)
            need_reset(d);
    }
    virtio_go_on(d);
}

/* Before DRIVER_OK a notification means nothing (3.1.1). */
void virtio_notified(struct virtio_device *d, unsigned queue)
{
    if (queue >= d->kind->queues || !(d->status & VIRTIO_DRIVER_OK))
        return;
    d->notified |= 1u << queue;
    virtio_go_on(d);
}

/* ---- making ---- */

bool virtio_init(struct virtio_device *d, const struct virtio_kind *kind, struct memory *memory,
                 struct clock *clock, struct pci_bus *bus, unsigned devfn, struct error *err)
{
    *d = (struct virtio_device){.kind = kind, .memory = memory};
    for (unsigned i = 0; i < kind->queues; i++)
        d->queue[i].size_max = kind->queue_size[i];
    timer_init(&d->service, clock, serve, d);
    if (!virtio_pci_add(d, bus, devfn, err))
        return false;
    virtio_reset(d);
    return true;
}

/* ---- save and load ---- */

static bool after_load(void *object, struct error *err)
{
    struct virtio_device *d = object;
    (void)err;
    d->notified &= (uint32_t)bits_mask(d->kind->queues);
    timer_cancel(&d->service);
    virtio_go_on(d);
    return true;
}

static const struct archive_field fields[] = {
    ARCHIVE_FIELD(struct virtio_device, status),
    ARCHIVE_FIELD(struct virtio_device, isr),
    ARCHIVE_FIELD(struct virtio_device, config_vector),
    ARCHIVE_FIELD(struct virtio_device, queue_select),
    ARCHIVE_FIELD(struct virtio_device, device_feature_select),
    ARCHIVE_FIELD(struct virtio_device, driver_feature_select),
    ARCHIVE_FIELD(struct virtio_device, driver_features),
    ARCHIVE_FIELD(struct virtio_device, notified),
};

const struct archive_type virtio_archive = {
    .name = "virtio device",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LEN(fields),
    .after_load = after_load,
};

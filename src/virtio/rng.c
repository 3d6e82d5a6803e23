#include "virtio/rng.h"

#include <errno.h>
#include <sys/random.h>

bool virtio_rng_host(void *ctx, void *to, size_t n)
{
    uint8_t *bytes = to;
    (void)ctx;
    while (n) {
        ssize_t got = getrandom(bytes, n, 0);
        if (got < 0 && errno != EINTR)
            return false;
        if (got > 0) {
            bytes += got;
            n -= (size_t)got;
        }
    }
    return true;
}

/* At least one byte is given where there is room for one, and not always as many as there is room
 * for (5.4.6.2). */
static bool serve(struct virtio_device *d, unsigned queue, const struct virtq_chain *c,
                  uint32_t *written)
{
    struct virtio_rng *r = (struct virtio_rng *)d;
    uint8_t bytes[VIRTIO_RNG_MOST];
    uint64_t room = virtq_room(c);
    uint32_t n = room < sizeof bytes ? (uint32_t)room : (uint32_t)sizeof bytes;
    (void)queue;
    *written = n;
    return r->source.fill(r->source.ctx, bytes, n) && virtq_fill(c, d->memory, 0, bytes, n);
}

static const struct virtio_kind kind = {
    .name = "virtio-rng",
    .id = 4,
    .class_code = 0x00ff00, /* no PCI class is for it */
    .queues = 1,
    .queue_size = {16},
    .serve = serve,
};

_Static_assert(offsetof(struct virtio_rng, device) == 0, "a device is the start of its kind");

bool virtio_rng_init(struct virtio_rng *r, const struct virtio_rng_source *source,
                     struct memory *memory, struct clock *clock, struct pci_bus *bus,
                     unsigned devfn, struct error *err)
{
    r->source = *source;
    return virtio_init(&r->device, &kind, memory, clock, bus, devfn, err);
}

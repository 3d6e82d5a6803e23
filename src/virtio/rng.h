/* The entropy device (virtio 1.2, 5.4): each buffer that the driver offers comes back with random
 * bytes. */
#ifndef DOPPEL_VIRTIO_RNG_H
#define DOPPEL_VIRTIO_RNG_H

#include "virtio/virtio.h"

/* Where the bytes are from. False: there are none. */
struct virtio_rng_source {
    bool (*fill)(void *ctx, void *to, size_t n);
    void *ctx;
};

struct virtio_rng {
    struct virtio_device device;
    struct virtio_rng_source source;
};

enum { VIRTIO_RNG_MOST = 4096 }; /* bytes for one request, however much room it has */

bool virtio_rng_init(struct virtio_rng *r, const struct virtio_rng_source *source,
                     struct memory *memory, struct clock *clock, struct pci_bus *bus,
                     unsigned devfn, struct error *err);
/* A source: the host's own randomness. */
bool virtio_rng_host(void *ctx, void *to, size_t n);

#endif

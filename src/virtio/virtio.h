/*
 * What all virtio devices share (virtio 1.2): feature bits, the device's status, its queues and
 * interrupts, on PCI without the legacy interface (4.1). VIRTIO_F_VERSION_1 is required.
 *
 * A device is a struct virtio_kind, which says what it is and does what is asked of it, and a
 * struct virtio_device, on a PCI bus, under the machine's lock like all devices.
 */
#ifndef DOPPEL_VIRTIO_VIRTIO_H
#define DOPPEL_VIRTIO_VIRTIO_H

#include "base/bits.h"
#include "device/clock.h"
#include "device/pci.h"
#include "virtio/queue.h"

/* Device status (2.1). */
enum {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

/* Feature bits that are no kind's own (6). */
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

enum { VIRTIO_QUEUES = 4, VIRTIO_NO_VECTOR = 0xffff };

struct virtio_device;

struct virtio_kind {
    const char *name;
    uint16_t id;         /* 5 */
    uint32_t class_code; /* PCI's: base, sub-class, interface */
    uint64_t features;   /* of its own */
    unsigned queues;
    uint16_t queue_size[VIRTIO_QUEUES]; /* powers of two, VIRTQ_SIZE_MAX at most */
    /* The device-specific configuration, which drivers read: size bytes, or 0 and NULL. */
    unsigned config_size;
    const uint8_t *(*config)(struct virtio_device *d);
    /* Does what a chain of that queue asks for, and says how many bytes it wrote to it. False: it
     * breaks the rules, or can't be done: the device needs a reset. */
    bool (*serve)(struct virtio_device *d, unsigned queue, const struct virtq_chain *c,
                  uint32_t *written);
};

struct virtio_device {
    const struct virtio_kind *kind;
    struct memory *memory;
    struct pci_function pci;
    struct timer service; /* set while queues were notified and not yet looked at */
    unsigned window;      /* of configuration space: where VIRTIO_PCI_CAP_PCI_CFG is */

    uint8_t status, isr;
    uint16_t config_vector, queue_select;
    uint32_t device_feature_select, driver_feature_select;
    uint64_t driver_features;
    uint32_t notified; /* queues, a bit each */
    struct virtq queue[VIRTIO_QUEUES];
};

/* virtio.c */

extern const struct archive_type virtio_archive; /* the queues and the PCI function apart */

/* Makes the device and puts it at devfn of the bus. */
bool virtio_init(struct virtio_device *d, const struct virtio_kind *kind, struct memory *memory,
                 struct clock *clock, struct pci_bus *bus, unsigned devfn, struct error *err);
/* RESET#; the PCI function is the bus's to reset. */
void virtio_reset(struct virtio_device *d);
/* The driver writes the status: a zero is a reset (2.1, 3.1). */
void virtio_write_status(struct virtio_device *d, uint8_t status);
/* The driver says that a queue is set up. */
void virtio_enable_queue(struct virtio_device *d, struct virtq *q);
/* The driver put something into a queue; it is looked at soon. */
void virtio_notified(struct virtio_device *d, unsigned queue);
/* The bus may master again: what waited for that is looked at. */
void virtio_go_on(struct virtio_device *d);
uint64_t virtio_features(const struct virtio_device *d);

/* pci.c: the function, its capabilities and registers (4.1.4). */

bool virtio_pci_add(struct virtio_device *d, struct pci_bus *bus, unsigned devfn,
                    struct error *err);
/* Interrupts for a queue, or (NULL) for a change of configuration or status (4.1.5). */
void virtio_pci_interrupt(struct virtio_device *d, const struct virtq *q);

#endif

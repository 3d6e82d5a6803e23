/*
 * Split virtqueues (virtio 1.2, 2.7), from the device's side.
 *
 * Where the rings are and what is in them is the driver's, which may be hostile: every read and
 * write goes through guest memory's checked accessors, a chain has at most as many buffers as the
 * queue is long, and whatever breaks the rules is VIRTQ_BROKEN.
 */
#ifndef DOPPEL_VIRTIO_QUEUE_H
#define DOPPEL_VIRTIO_QUEUE_H

#include "base/archive.h"
#include "memory/memory.h"

enum { VIRTQ_SIZE_MAX = 256 }; /* of this monitor's queues; the specification has 32768 */

/* As the driver has set it up. Addresses are guest-physical. */
struct virtq {
    uint16_t size_max; /* what the device offers; a power of two; not a part of what is saved */
    uint16_t size;     /* a power of two */
    bool enabled;
    bool event_idx, indirect; /* VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC were negotiated */
    uint16_t vector;          /* of MSI-X */
    uint64_t descriptors, driver, device; /* the three areas */
    uint16_t next;                        /* of the available ring's index: the next to be taken */
    uint16_t used;                        /* the used ring's index */
    uint16_t told;                        /* what it was when the driver was last told, or not */
};

extern const struct archive_type virtq_archive;

struct virtq_buffer {
    uint64_t gpa;
    uint32_t size;
};

/* What the driver offers in one go: buffers to read from, and behind them ones to write to. */
struct virtq_chain {
    uint16_t head;
    unsigned count, readable; /* all buffers, and how many of them are to be read */
    struct virtq_buffer buffer[VIRTQ_SIZE_MAX];
};

enum virtq_result { VIRTQ_EMPTY, VIRTQ_TAKEN, VIRTQ_BROKEN };

void virtq_reset(struct virtq *q);
/* Whether the areas may be what the driver says: aligned, all of them RAM. */
bool virtq_valid(const struct virtq *q, const struct memory *m);
/* The next chain. With event_idx, an empty queue asks to be told of the next one. */
enum virtq_result virtq_take(struct virtq *q, struct memory *m, struct virtq_chain *to);
/* Gives a chain back, `written` bytes of whose buffers were written. False: broken. */
bool virtq_give(struct virtq *q, struct memory *m, uint16_t head, uint32_t written);
/* Whether the driver wants to be told of what was given back since it was last asked. */
bool virtq_wants_interrupt(struct virtq *q, const struct memory *m);

/* How many bytes there are to be written to, and writes n of them, from `at` on; false: they are
 * not all there, or not all RAM. */
uint64_t virtq_room(const struct virtq_chain *c);
bool virtq_fill(const struct virtq_chain *c, struct memory *m, uint64_t at, const void *from,
                uint64_t n);

#endif

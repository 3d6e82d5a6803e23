#include "virtio/queue.h"

#include "base/bits.h"

/* A descriptor (2.7.5). */
struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};
enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_WRITE = 2, DESCRIPTOR_INDIRECT = 4 };

/* The available ring (2.7.6): flags, index, ring, used_event; and the used ring (2.7.8): flags,
 * index, ring of pairs, avail_event. */
enum { RING_FLAGS = 0, RING_INDEX = 2, RING = 4 };
enum { AVAILABLE_NO_INTERRUPT = 1 };

_Static_assert(sizeof(struct descriptor) == 16, "as it lies in memory");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian");

static uint64_t used_event(const struct virtq *q)
{
    return q->driver + RING + 2u * q->size;
}

static uint64_t available_event(const struct virtq *q)
{
    return q->device + RING + 8u * q->size;
}

void virtq_reset(struct virtq *q)
{
    *q = (struct virtq){.size_max = q->size_max, .size = q->size_max, .vector = UINT16_MAX};
}

static bool is_ram(const struct memory *m, uint64_t gpa, uint64_t n)
{
    const struct memory_region *r = memory_find(m, gpa);
    return r && n <= r->size - (gpa - r->gpa);
}

static bool is_size(const struct virtq *q)
{
    return q->size && q->size <= VIRTQ_SIZE_MAX && !(q->size & (q->size - 1));
}

bool virtq_valid(const struct virtq *q, const struct memory *m)
{
    return is_size(q) && !(q->descriptors & 15) && !(q->driver & 1) && !(q->device & 3) &&
           is_ram(m, q->descriptors, 16u * q->size) &&
           is_ram(m, q->driver, RING + 2u * q->size + 2) &&
           is_ram(m, q->device, RING + 8u * q->size + 2);
}

/* ---- a chain ---- */

/* Appends a buffer. Those to be written to come last (2.7.4.2), and a chain is no longer than its
 * queue (2.7.5.3.1), which is what ends one that leads back into itself. */
static bool add(const struct virtq *q, struct virtq_chain *to, const struct descriptor *d)
{
    bool write = d->flags & DESCRIPTOR_WRITE;
    if (to->count == q->size || (!write && to->readable != to->count))
        return false;
    to->buffer[to->count++] = (struct virtq_buffer){d->address, d->length};
    to->readable += !write;
    return true;
}

/* The chain that begins with descriptor `at` of the table. An indirect one may be what a chain of
 * the queue's own ends with, and has none in it (2.7.5.3). */
struct table {
    uint64_t gpa;
    uint32_t count;
};

static bool read_descriptor(const struct memory *m, const struct table *t, uint32_t at,
                            struct descriptor *d)
{
    return at < t->count && memory_read(m, t->gpa + 16u * (uint64_t)at, d, sizeof *d);
}

/* Follows a table from `at` on. Comes to an end for whatever is in it: each step but one adds a
 * buffer. `inner` gets the indirect table that it led to, or stays as it is. */
static bool follow(const struct virtq *q, const struct memory *m, const struct table *t,
                   uint32_t at, struct virtq_chain *to, struct table *inner)
{
    struct descriptor d;
    do {
        if (!read_descriptor(m, t, at, &d))
            return false;
        if (d.flags & DESCRIPTOR_INDIRECT) {
            *inner = (struct table){d.address, d.length / 16};
            return q->indirect && !(d.flags & DESCRIPTOR_NEXT) && d.length && d.length % 16 == 0;
        }
        if (!add(q, to, &d))
            return false;
        at = d.next;
    } while (d.flags & DESCRIPTOR_NEXT);
    return true;
}

static bool read_chain(const struct virtq *q, const struct memory *m, struct virtq_chain *to)
{
    const struct table own = {q->descriptors, q->size};
    struct table inner = {0}, none = {0};
    return follow(q, m, &own, to->head, to, &inner) &&
           (!inner.count || (follow(q, m, &inner, 0, to, &none) && !none.count));
}

/* ---- the rings ---- */

/* How many chains wait; -1: more than there can be. */
static int waiting(const struct virtq *q, const struct memory *m)
{
    uint16_t index;
    if (!memory_read(m, q->driver + RING_INDEX, &index, sizeof index))
        return -1;
    uint16_t n = (uint16_t)(index - q->next);
    return n <= q->size ? n : -1;
}

/* The driver looks at the event after it has moved its index, so the index is looked at once more
 * after the event was moved (2.7.10). */
static int wait_for_more(const struct virtq *q, struct memory *m)
{
    if (!q->event_idx)
        return 0;
    if (!memory_write(m, available_event(q), &q->next, sizeof q->next))
        return -1;
    atomic_thread_fence(memory_order_seq_cst);
    return waiting(q, m);
}

enum virtq_result virtq_take(struct virtq *q, struct memory *m, struct virtq_chain *to)
{
    int n = is_size(q) ? waiting(q, m) : -1;
    if (n == 0)
        n = wait_for_more(q, m);
    if (n <= 0)
        return n == 0 ? VIRTQ_EMPTY : VIRTQ_BROKEN;
    atomic_thread_fence(memory_order_acquire); /* the ring is there when its index is */
    *to = (struct virtq_chain){0};
    uint64_t slot = q->driver + RING + 2u * (q->next & (q->size - 1u));
    if (!memory_read(m, slot, &to->head, sizeof to->head) || !read_chain(q, m, to))
        return VIRTQ_BROKEN;
    q->next++;
    return VIRTQ_TAKEN;
}

bool virtq_give(struct virtq *q, struct memory *m, uint16_t head, uint32_t written)
{
    const uint32_t element[2] = {head, written};
    uint16_t used = (uint16_t)(q->used + 1);
    uint64_t slot = q->device + RING + 8u * (q->used & (q->size - 1u));
    if (!memory_write(m, slot, element, sizeof element))
        return false;
    atomic_thread_fence(memory_order_release); /* the index comes after what it tells of */
    if (!memory_write(m, q->device + RING_INDEX, &used, sizeof used))
        return false;
    q->used = used;
    return true;
}

/* 2.7.7: with events, if the index has gone past what the driver waits for. */
bool virtq_wants_interrupt(struct virtq *q, const struct memory *m)
{
    uint16_t told = q->told, wish = 0;
    q->told = q->used;
    if (told == q->used)
        return false;
    atomic_thread_fence(memory_order_seq_cst); /* the index is there before the wish is read */
    if (!memory_read(m, q->event_idx ? used_event(q) : q->driver + RING_FLAGS, &wish, sizeof wish))
        return false;
    return q->event_idx ? (uint16_t)(q->used - wish - 1) < (uint16_t)(q->used - told)
                        : !(wish & AVAILABLE_NO_INTERRUPT);
}

/* ---- the bytes ---- */

uint64_t virtq_room(const struct virtq_chain *c)
{
    uint64_t n = 0;
    for (unsigned i = c->readable; i < c->count; i++)
        n += c->buffer[i].size;
    return n;
}

bool virtq_fill(const struct virtq_chain *c, struct memory *m, uint64_t at, const void *from,
                uint64_t n)
{
    const uint8_t *bytes = from;
    for (unsigned i = c->readable; n && i < c->count; i++) {
        const struct virtq_buffer *b = &c->buffer[i];
        if (at >= b->size) {
            at -= b->size;
            continue;
        }
        uint64_t part = b->size - at < n ? b->size - at : n;
        if (b->gpa + at < b->gpa || !memory_write(m, b->gpa + at, bytes, part))
            return false;
        at = 0;
        bytes += part;
        n -= part;
    }
    return n == 0;
}

/* ---- save and load ---- */

/* What can't be a queue is refused; where its rings are is checked as they are used. */
static bool after_load(void *object, struct error *err)
{
    const struct virtq *q = object;
    return (is_size(q) && q->size <= q->size_max) ||
           error_set(err, "loading: a virtqueue of %u entries; the device has one of %u at most",
                     q->size, q->size_max);
}

static const struct archive_field fields[] = {
    ARCHIVE_FIELD(struct virtq, size),      ARCHIVE_FIELD(struct virtq, enabled),
    ARCHIVE_FIELD(struct virtq, event_idx), ARCHIVE_FIELD(struct virtq, indirect),
    ARCHIVE_FIELD(struct virtq, vector),    ARCHIVE_FIELD(struct virtq, descriptors),
    ARCHIVE_FIELD(struct virtq, driver),    ARCHIVE_FIELD(struct virtq, device),
    ARCHIVE_FIELD(struct virtq, next),      ARCHIVE_FIELD(struct virtq, used),
    ARCHIVE_FIELD(struct virtq, told),
};

const struct archive_type virtq_archive = {
    .name = "virtqueue",
    .version = 1,
    .fields = fields,
    .field_count = ARRAY_LEN(fields),
    .after_load = after_load,
};

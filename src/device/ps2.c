#include "device/ps2.h"

void ps2_queue_clear(struct ps2_queue *q)
{
    q->head = q->count = 0;
}

bool ps2_queue_put(struct ps2_queue *q, const uint8_t *bytes, unsigned n)
{
    if (n > PS2_QUEUE - (unsigned)q->count)
        return false;
    for (unsigned i = 0; i < n; i++)
        q->data[(q->head + q->count + i) % PS2_QUEUE] = bytes[i];
    q->count += (uint8_t)n;
    return true;
}

int ps2_queue_take(struct ps2_queue *q)
{
    if (!q->count)
        return -1;
    int byte = q->data[q->head];
    q->head = (q->head + 1) % PS2_QUEUE;
    q->count--;
    return byte;
}

bool ps2_queue_sane(const struct ps2_queue *q)
{
    return q->head < PS2_QUEUE && q->count <= PS2_QUEUE;
}

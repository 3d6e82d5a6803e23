/*
 * The two 8237A DMA controllers and their page registers. No device of ours asks for a transfer, so
 * there are registers and no transfers; firmware and drivers that probe them find what they wrote.
 */
#ifndef DOPPEL_DEVICE_DMA_H
#define DOPPEL_DEVICE_DMA_H

#include "base/archive.h"
#include "device/bus.h"

struct dma_chip {
    uint16_t base_address[4], base_count[4];
    uint16_t address[4], count[4];
    uint8_t mode[4];
    uint8_t command, status, request, mask, temporary;
    uint8_t flip_flop; /* the next byte of an address or count is the high one */
};

struct dma {
    struct dma_chip chip[2]; /* channels 0 to 3 at 0x00, 4 to 7 at 0xc0 */
    uint8_t page[16];        /* ports 0x80 to 0x8f; 0x80 is where firmware writes POST codes */
};

extern const struct archive_type dma_archive;

void dma_init(struct dma *d);
void dma_reset(struct dma *d);
/* Ports 0x00-0x0f, 0x80-0x8f, 0xc0-0xdf. */
bool dma_attach(struct dma *d, struct bus *ports, struct error *err);

#endif

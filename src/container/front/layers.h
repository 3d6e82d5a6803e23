/*
 * The layers that are stored, and which of them containers use.
 */
#ifndef DOPPEL_CONTAINER_FRONT_LAYERS_H
#define DOPPEL_CONTAINER_FRONT_LAYERS_H

#include "container/front/front.h"

struct front_layer {
    char digest[65];
    char *origin;        /* the image that it came with first; owned; NULL: not known */
    unsigned containers; /* that use it */
};

struct front_layers {
    struct front_layer *items; /* owned; sorted by digest */
    unsigned count;
};

bool front_layers(const struct front *f, struct front_layers *layers, struct error *err);
void front_layers_free(struct front_layers *layers);

/* Removes the layers that no container uses, and what killed processes left; `removed` gets the
 * digests. Waits for those who are unpacking. */
bool front_prune(const struct front *f, struct strings *removed, struct error *err);

#endif

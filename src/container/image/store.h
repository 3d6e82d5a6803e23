/*
 * Layers, unpacked once: each in a folder named for the digest of its content, whole or not there
 * at all.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_STORE_H
#define DOPPEL_CONTAINER_IMAGE_STORE_H

#include "container/image/image.h"

struct store {
    int fd; /* of the folder with the layers */
};

/* Opens layers/ in the state folder and locks it: nobody else removes layers until it is closed
 * (in every process that inherited it). With `alone`, nobody else uses it either. */
bool store_open(struct store *s, int state, bool alone, struct error *err);
void store_close(struct store *s);

/* Has every layer of the image in the store. */
bool store_add(struct store *s, struct oci_image *i, const struct layer_how *how,
               struct error *err);

/* Whether they all are there already. */
bool store_has(struct store *s, const struct oci_image *i);

/* Where a layer's files are, below the state folder. */
void store_path(char path[96], const char *digest);

/* The digests of what is stored, sorted. */
bool store_list(struct store *s, struct strings *digests, struct error *err);

/* Removes a layer, or what a killed process left behind. The store is open alone. */
bool store_remove(struct store *s, const char *digest, struct error *err);
bool store_remove_leftovers(struct store *s, struct error *err);

/* Where a layer came from: the image's path as it was given; from malloc(), or NULL. */
char *store_origin(struct store *s, const char *digest);

#endif

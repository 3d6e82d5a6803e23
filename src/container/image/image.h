/*
 * Images: OCI image layouts (a folder, or an archive of one) and docker-save archives.
 *
 * Everything in an image is hostile until its digest is checked, and then it is still someone
 * else's: sizes are bounded, names are resolved inside the image, every mistake is an error that
 * names the part.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_IMAGE_H
#define DOPPEL_CONTAINER_IMAGE_IMAGE_H

#include "container/image/layer.h"
#include "container/image/source.h"
#include "container/image/stream.h"
#include "container/image/strings.h"

/* overlayfs takes 500 layers below. */
enum { IMAGE_LAYERS_MAX = 500 };

/* What the image says of the containers that run it; NULL and empty where it says nothing. */
struct image_config {
    struct strings env, entrypoint, command;
    char *user, *workdir, *stop_signal;
};

struct image_layer {
    char *file;            /* in the source; owned */
    struct digest content; /* of its archive, unpacked: what names it in the store */
    bool checked;          /* the next two are known (not in docker-save archives) */
    struct digest stored;
    uint64_t stored_size;
};

struct oci_image {
    char *path; /* for errors; owned */
    struct source *source;
    struct image_config config;
    struct image_layer layers[IMAGE_LAYERS_MAX]; /* the lowest first */
    unsigned layer_count;
};

/* Opens the image at path; where there are several, the one of that reference (a name, a tag, or
 * the digest of its manifest), which may be NULL. scratch: a folder for what has to be unpacked. */
struct oci_image *oci_image_open(const char *path, const char *reference, int scratch,
                                 struct room *room, struct error *err);
void oci_image_close(struct oci_image *i);

/* Unpacks a layer into the folder and checks its digests: when it fails, what is in the folder is
 * to be thrown away. */
bool oci_image_unpack(struct oci_image *i, unsigned layer, int root, const struct layer_how *how,
                      struct error *err);

void image_config_free(struct image_config *c);
bool image_config_copy(struct image_config *to, const struct image_config *from, struct error *err);

#endif

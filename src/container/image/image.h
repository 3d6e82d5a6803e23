/*
 * Images: OCI image layouts (a folder, or an archive of one) and docker-save archives.
 *
 * Everything in an image is hostile until its digest is checked, and then it is still someone
 * else's: sizes are bounded, names are resolved inside the image, every mistake is an error that
 * names the part.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_IMAGE_H
#define DOPPEL_CONTAINER_IMAGE_IMAGE_H

#include <stdint.h>

#include "container/image/strings.h"

/* What the image says of the containers that run it; NULL and empty where it says nothing. */
struct image_config {
    struct strings env, entrypoint, command;
    char *user, *workdir, *stop_signal;
};

void image_config_free(struct image_config *c);
bool image_config_copy(struct image_config *to, const struct image_config *from, struct error *err);

#endif

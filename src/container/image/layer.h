/*
 * A layer of an image, made into files.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_LAYER_H
#define DOPPEL_CONTAINER_IMAGE_LAYER_H

#include "container/image/source.h"
#include "container/image/tar.h"

/* What becomes of whiteouts, the marks for what a layer takes away from those below (image
 * specification, "Whiteouts"). */
enum layer_form {
    LAYER_OVERLAY,     /* overlayfs's own marks: the folder is to be a layer of a mount */
    LAYER_FLAT_REMOVE, /* what they name is removed from the folder; everything else is passed over
                        */
    LAYER_FLAT_ADD,    /* they are passed over: the second half of the same */
};

struct layer_how {
    enum layer_form form;
    bool user_xattrs;  /* overlayfs's marks as user.overlay.*, which need no capability */
    bool rootless;     /* owners and devices that can't be had are left out */
    struct room *room; /* NULL: no end of it */
};

/* Unpacks an archive into the folder, whose content nobody else uses. Nothing outside of it is
 * touched, whatever the archive says. When it fails, what is there is to be thrown away. */
bool layer_unpack(struct tar *t, int root, const struct layer_how *how, struct error *err);

/* A name of an archive in its one form: without leading, double and trailing slashes and without
 * `.`; "" is the root. `..` is refused, and parts longer than NAME_MAX. */
bool layer_path(const char *name, char path[TAR_PATH_MAX + 1], struct error *err);

#endif

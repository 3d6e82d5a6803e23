/*
 * The file system that a container begins with: a folder as it is, or an image's layers with a
 * writable one on top.
 */
#ifndef DOPPEL_CONTAINER_FRONT_ROOT_H
#define DOPPEL_CONTAINER_FRONT_ROOT_H

#include "container/front/front.h"
#include "container/image/image.h"

struct root {
    char path[PATH_MAX]; /* absolute */
    bool is_image;
    bool flat; /* no overlayfs here: the layers are unpacked into one tree for this container */
    bool mounted;
    struct image *image;        /* while flat needs it again */
    struct image_config config; /* empty for a folder */
    struct strings layers;      /* names in the store, the lowest first */
};

#define ROOT_NONE                                                                                  \
    {                                                                                              \
        .path = ""                                                                                 \
    }

/* Finds out what o->image is and has its layers in the store. */
bool root_prepare(struct root *r, const struct front *f, const struct front_options *o,
                  struct error *err);

/* In the monitor: r->path is the file system from here on, in a mount namespace of our own where
 * something had to be mounted. */
bool root_mount(struct root *r, const struct front *f, int folder, struct error *err);
void root_unmount(struct root *r);
void root_free(struct root *r);

#endif

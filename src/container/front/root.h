/*
 * The file system that a container begins with: a folder as it is, or an image's layers with a
 * writable one on top.
 */
#ifndef DOPPEL_CONTAINER_FRONT_ROOT_H
#define DOPPEL_CONTAINER_FRONT_ROOT_H

#include "container/front/front.h"
#include "container/image/store.h"

struct root {
    char path[PATH_MAX]; /* absolute */
    bool is_image;
    bool mounted;
    struct layer_how how;
    struct room room;           /* for what is unpacked */
    struct store store;         /* locked while layers that no record names are relied on */
    struct oci_image *image;    /* until it is mounted */
    struct image_config config; /* empty for a folder */
    struct strings layers;      /* their digests, the lowest first; empty for a flat one */
};

#define ROOT_NONE                                                                                  \
    {                                                                                              \
        .store.fd = -1                                                                             \
    }

/* Finds out what o->image is and has its layers in the store, unless o->copy wants it flat or
 * there is no overlayfs to mount them with. */
bool root_prepare(struct root *r, const struct front *f, const struct front_options *o,
                  struct error *err);

/* In the monitor, whose mount namespace becomes its own where something has to be mounted: r->path
 * is the file system from here on. */
bool root_mount(struct root *r, const struct front *f, const char *name, int folder,
                struct error *err);

/* The record names the layers now: others may remove layers again. */
void root_recorded(struct root *r);
void root_unmount(struct root *r);
void root_free(struct root *r);

/* Removes what killed processes left; the store is open alone. */
bool root_remove_leftovers(const struct front *f, struct error *err);

#endif

/*
 * Where an image's files are: in a folder, or in an archive of one.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_SOURCE_H
#define DOPPEL_CONTAINER_IMAGE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct source;

/* A part of a file. */
struct source_file {
    int fd;
    bool owned; /* fd is to be closed with it */
    uint64_t offset, size;
};

/* How many bytes may still be unpacked: a small image can hold any number of them. */
struct room {
    uint64_t bytes;
};

/* Takes so many; room may be NULL: there is no end of it. */
bool room_take(struct room *room, uint64_t bytes, struct error *err);

/* path: a folder, or a tar archive, which may be compressed: it is unpacked into a file without a
 * name in the folder `scratch` then. */
struct source *source_open(const char *path, int scratch, struct room *room, struct error *err);
void source_close(struct source *s);

/* The file of that name; symbolic and hard links in an archive are followed inside of it. */
bool source_find(struct source *s, const char *name, struct source_file *f, struct error *err);
bool source_has(struct source *s, const char *name);
void source_file_close(struct source_file *f);

/* A small file as a whole, with a zero byte behind it, from malloc(). */
char *source_read(struct source *s, const char *name, size_t most, size_t *size, struct error *err);

#endif

/*
 * Lists of strings that own them.
 */
#ifndef DOPPEL_CONTAINER_IMAGE_STRINGS_H
#define DOPPEL_CONTAINER_IMAGE_STRINGS_H

#include "base/error.h"

struct strings {
    char **items; /* with a NULL behind the last; NULL while there is none */
    unsigned count;
};

bool strings_add(struct strings *l, const char *item, struct error *err);
bool strings_copy(struct strings *to, const struct strings *from, struct error *err); /* appends */
void strings_free(struct strings *l);

#endif

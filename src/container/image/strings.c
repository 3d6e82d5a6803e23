#include "container/image/strings.h"

#include <stdlib.h>
#include <string.h>

bool strings_add(struct strings *l, const char *item, struct error *err)
{
    char *copy = item ? strdup(item) : NULL;
    char **more = copy ? realloc(l->items, (l->count + 2) * sizeof *more) : NULL;
    if (!more) {
        free(copy);
        return error_set(err, "%.100s: no memory left for it", item ? item : "a list");
    }
    l->items = more;
    l->items[l->count++] = copy;
    l->items[l->count] = NULL;
    return true;
}

bool strings_copy(struct strings *to, const struct strings *from, struct error *err)
{
    for (unsigned i = 0; i < from->count; i++)
        if (!strings_add(to, from->items[i], err))
            return false;
    return true;
}

void strings_free(struct strings *l)
{
    for (unsigned i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct strings){0};
}

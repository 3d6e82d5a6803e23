#include "container/front/layers.h"

#include <stdlib.h>
#include <string.h>

#include "container/front/record.h"
#include "container/front/root.h"
#include "container/image/store.h"

static int by_digest(const void *key, const void *layer)
{
    return strcmp(key, ((const struct front_layer *)layer)->digest);
}

static void count_use(const struct front *f, const char *name, struct front_layers *layers)
{
    struct front_record r;
    struct error gone = {0}; /* removed since it was listed */
    if (!record_load(f, name, &r, &gone))
        return;
    for (unsigned i = 0; layers->count && i < r.layers.count; i++) {
        struct front_layer *l = bsearch(r.layers.items[i], layers->items, layers->count,
                                        sizeof *layers->items, by_digest);
        if (l)
            l->containers++;
    }
    record_free(&r);
}

static bool list(const struct front *f, struct store *s, struct front_layers *layers,
                 struct error *err)
{
    struct strings digests = {0}, names = {0};
    bool ok = store_list(s, &digests, err) && front_names(f, &names, err);
    layers->items = ok ? calloc(digests.count + 1, sizeof *layers->items) : NULL;
    if (ok && !layers->items)
        ok = error_set(err, "layers: no memory left to list them");
    for (unsigned i = 0; ok && i < digests.count; i++) {
        struct front_layer *l = &layers->items[layers->count++];
        snprintf(l->digest, sizeof l->digest, "%s", digests.items[i]);
        l->origin = store_origin(s, l->digest);
    }
    for (unsigned i = 0; ok && i < names.count; i++)
        count_use(f, names.items[i], layers);
    strings_free(&digests);
    strings_free(&names);
    return ok;
}

bool front_layers(const struct front *f, struct front_layers *layers, struct error *err)
{
    struct store s;
    *layers = (struct front_layers){0};
    bool ok = store_open(&s, f->fd, false, err) && list(f, &s, layers, err);
    store_close(&s);
    return ok;
}

void front_layers_free(struct front_layers *layers)
{
    for (unsigned i = 0; i < layers->count; i++)
        free(layers->items[i].origin);
    free(layers->items);
    *layers = (struct front_layers){0};
}

bool front_prune(const struct front *f, struct strings *removed, struct error *err)
{
    struct store s;
    struct front_layers layers = {0};
    bool ok = store_open(&s, f->fd, true, err) && list(f, &s, &layers, err);
    for (unsigned i = 0; ok && i < layers.count; i++)
        if (layers.items[i].containers == 0)
            ok = store_remove(&s, layers.items[i].digest, err) &&
                 strings_add(removed, layers.items[i].digest, err);
    ok = ok && store_remove_leftovers(&s, err) && root_remove_leftovers(f, err);
    front_layers_free(&layers);
    store_close(&s);
    return ok;
}

/*
 * The engines by name, and which of them `auto` means.
 */
#ifndef DOPPEL_LIB_ENGINES_H
#define DOPPEL_LIB_ENGINES_H

#include "engine/engine.h"

struct engine_entry {
    const char *name;
    const char *summary;
    const struct engine *engine; /* NULL: this build has none */
};

/* The entry of that index, fastest engine first, or NULL behind the last. */
const struct engine_entry *engine_entry_at(unsigned index);

/* Whether it works here; why gets a sentence either way. */
bool engine_entry_usable(const struct engine_entry *e, char *why, size_t size);
/* Whether `auto` may pick it: it works, and was measured to be worth it. */
bool engine_entry_advisable(const struct engine_entry *e, char *why, size_t size);

/* The engine that --engine NAME means, "auto" included: NULL and a sentence when there is none, or
 * when it does not work here. */
const struct engine *engine_pick(const char *name, struct error *err);

/* The same for a guest whose processor is the host's (--cpu host): "auto" is an engine that carries
 * that. */
const struct engine *engine_pick_for_host(const char *name, struct error *err);

/* The engines to go round beside `first`: those of `names` (with commas between), or all others
 * that work here when it is NULL. Returns how many, at most max; -1 and a sentence when one does
 * not. */
int engine_others(const struct engine *first, const char *names, const struct engine **others,
                  unsigned max, struct error *err);

#endif

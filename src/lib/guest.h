/*
 * A machine with a guest to boot in it, made from a configuration.
 */
#ifndef DOPPEL_LIB_GUEST_H
#define DOPPEL_LIB_GUEST_H

#include "lib/config.h"
#include "machine/machine.h"

struct guest {
    const struct config *config; /* the caller's; must outlive the guest */
    struct machine *machine;
    uint8_t seed[32];
    bool has_seed;
};

/* Makes the machine; nothing of the guest is loaded before it runs. g must stay where it is until
 * guest_destroy(). console: the caller's, or NULL. */
bool guest_create(struct guest *g, const struct config *config, struct console *console,
                  struct error *err);
/* The same on an engine that the configuration has no name for. */
bool guest_create_on(struct guest *g, const struct config *config, const struct engine *engine,
                     struct console *console, struct error *err);
void guest_destroy(struct guest *g);

#endif

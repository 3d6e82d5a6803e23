/*
 * The debug exit: a port at which a test guest ends the run with a value. Only there with
 * --debug-exit.
 */
#ifndef DOPPEL_DEVICE_DEBUG_EXIT_H
#define DOPPEL_DEVICE_DEBUG_EXIT_H

#include "device/bus.h"

enum { DEBUG_EXIT_PORT = 0xf4, DEBUG_EXIT_SIZE = 4 };

struct debug_exit {
    void *ctx;
    void (*exit)(void *ctx, uint32_t value);
};

void debug_exit_init(struct debug_exit *d, void *ctx, void (*exit)(void *ctx, uint32_t value));
bool debug_exit_attach(struct debug_exit *d, struct bus *ports, struct error *err);

#endif

#include "device/debug_exit.h"

static uint64_t debug_exit_read(void *device, uint64_t offset, unsigned size)
{
    return 0;
}

static void debug_exit_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_exit *d = device;
    if (offset == 0)
        d->exit(d->ctx, (uint32_t)value);
}

static const struct bus_ops debug_exit_ops = {debug_exit_read, debug_exit_write, 4};

void debug_exit_init(struct debug_exit *d, void *ctx, void (*exit)(void *ctx, uint32_t value))
{
    *d = (struct debug_exit){.ctx = ctx, .exit = exit};
}

bool debug_exit_attach(struct debug_exit *d, struct bus *ports, struct error *err)
{
    return bus_add(ports, "debug exit", DEBUG_EXIT_PORT, DEBUG_EXIT_SIZE, &debug_exit_ops, d, err);
}

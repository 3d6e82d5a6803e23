/*
 * The public interface (include/doppel/doppel.h) over the rooms.
 */
#include "doppel/doppel.h"

#include <stdlib.h>

#include "lib/guest.h"

struct doppel_config {
    struct config config;
    struct error error;
    struct console_fds console;
    bool has_console;
};

struct doppel_machine {
    struct guest guest;
    struct machine_result result;
};

const char *doppel_version(void)
{
    return DOPPEL_VERSION;
}

doppel_config *doppel_config_new(void)
{
    doppel_config *c = calloc(1, sizeof *c);
    if (c)
        config_init(&c->config);
    return c;
}

void doppel_config_free(doppel_config *c)
{
    if (!c)
        return;
    if (c->has_console)
        console_fds_destroy(&c->console);
    config_free(&c->config);
    free(c);
}

int doppel_config_set(doppel_config *c, const char *option, const char *value)
{
    return config_set(&c->config, option, value, &c->error) ? 0 : -1;
}

void doppel_config_console(doppel_config *c, int in, int out)
{
    if (c->has_console)
        console_fds_destroy(&c->console);
    console_fds_init(&c->console, in, out);
    c->has_console = true;
}

const char *doppel_config_error(const doppel_config *c)
{
    return c->error.text;
}

doppel_machine *doppel_machine_new(doppel_config *c)
{
    doppel_machine *m = calloc(1, sizeof *m);
    if (!m) {
        error_set(&c->error, "memory: the host has none left; free some");
        return NULL;
    }
    if (config_check(&c->config, &c->error) &&
        guest_create(&m->guest, &c->config, c->has_console ? &c->console.console : NULL, &c->error))
        return m;
    free(m);
    return NULL;
}

void doppel_machine_free(doppel_machine *m)
{
    if (m)
        guest_destroy(&m->guest);
    free(m);
}

enum doppel_end doppel_machine_run(doppel_machine *m)
{
    static const enum doppel_end ends[] = {
        [MACHINE_POWERED_OFF] = DOPPEL_POWERED_OFF,
        [MACHINE_RESET] = DOPPEL_RESET,
        [MACHINE_CRASHED] = DOPPEL_CRASHED,
        [MACHINE_DEBUG_EXIT] = DOPPEL_DEBUG_EXIT,
        [MACHINE_ENDED] = DOPPEL_ENDED,
        [MACHINE_FAILED] = DOPPEL_FAILED,
    };
    machine_run(m->guest.machine, &m->result);
    return ends[m->result.reason];
}

void doppel_machine_end(doppel_machine *m)
{
    machine_end(m->guest.machine);
}

uint32_t doppel_machine_value(const doppel_machine *m)
{
    return m->result.value;
}

const char *doppel_machine_error(const doppel_machine *m)
{
    return m->result.error.text;
}

uint64_t doppel_machine_instructions(doppel_machine *m)
{
    struct machine_stats stats;
    machine_stats(m->guest.machine, &stats);
    return stats.engine.instructions;
}

#include "lib/guest.h"

#include <sys/random.h>

#include "lib/engines.h"
#include "x86/cpuid.h"

/* The machine asks for the guest to be put into its memory. */
static bool load(struct machine *m, void *ctx, struct x86_state *bsp, struct error *err)
{
    struct guest *g = ctx;
    const struct config *c = g->config;
    struct boot_range map[MACHINE_E820_MAX];
    unsigned count = machine_e820(m, map);
    const struct boot_options options = {
        .kernel = c->kernel,
        .initrd = c->initrd,
        .append = c->append,
        .modules = c->module,
        .module_count = c->module_count,
        .way = c->way,
        .map = map,
        .map_count = count,
        .rsdp = machine_rsdp(m),
        .seed = g->has_seed ? g->seed : NULL,
        .seed_size = sizeof g->seed,
    };
    return boot_load(machine_memory(m), &options, bsp, err);
}

bool guest_create_on(struct guest *g, const struct config *config, const struct engine *engine,
                     struct console *console, struct error *err)
{
    *g = (struct guest){.config = config};
    /* A run under the virtual clock is the same each time: no seed from the host then. */
    g->has_seed = !config->virtual_clock &&
                  getrandom(g->seed, sizeof g->seed, GRND_NONBLOCK) == sizeof g->seed;
    struct machine_config machine = {
        .name = config->name,
        .memory = config->memory,
        .cpus = config->cpus,
        .cpu_model = config->cpu,
        .engine = engine,
        .tuning = config->tuning,
        .virtual_clock = config->virtual_clock,
        .no_reboot = config->no_reboot,
        .debug_exit = config->debug_exit,
        .rng = config->rng,
        .console = console,
        .load = load,
        .load_ctx = g,
    };
    if (config->switch_every_ns) {
        int n = engine_others(engine, config->switch_among, machine.other, MACHINE_ENGINES, err);
        if (n < 0)
            return false;
        machine.other_count = (unsigned)n;
        machine.switch_every_ns = config->switch_every_ns;
    }
    return machine_create(&g->machine, &machine, err);
}

bool guest_create(struct guest *g, const struct config *config, struct console *console,
                  struct error *err)
{
    *g = (struct guest){.config = config};
    const char *name = config->engine ? config->engine : "auto";
    const struct x86_model *model = config->cpu ? x86_model_find(config->cpu) : NULL;
    bool host = model && model->host;
    const struct engine *engine = host ? engine_pick_for_host(name, err) : engine_pick(name, err);
    return engine && guest_create_on(g, config, engine, console, err);
}

void guest_destroy(struct guest *g)
{
    if (g->machine)
        machine_destroy(g->machine);
    g->machine = NULL;
}

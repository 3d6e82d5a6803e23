/*
 * What a virtual machine is to be, set option by option: by the command line's names, which are the
 * library's as well.
 */
#ifndef DOPPEL_LIB_CONFIG_H
#define DOPPEL_LIB_CONFIG_H

#include "boot/boot.h"
#include "engine/engine.h"

enum { CONFIG_MODULES = 64 };

/* Strings are owned. */
struct config {
    char *kernel, *initrd, *append, *cpu, *name;
    char *engine;             /* as given; looked up when the machine is made */
    char *switch_among;       /* engines' names with commas between; NULL: all that work here */
    uint64_t switch_every_ns; /* 0: the engine stays */
    char *module_text[CONFIG_MODULES];
    struct boot_module module[CONFIG_MODULES]; /* into module_text */
    unsigned module_count;
    uint64_t memory; /* bytes */
    unsigned cpus;
    enum boot_way way;
    struct engine_tuning tuning;
    bool virtual_clock, no_reboot, debug_exit, rng;
};

void config_init(struct config *c);
void config_free(struct config *c);

/* What one option takes. */
struct config_option {
    const char *name;  /* without the dashes */
    const char *value; /* what to call its value in messages; NULL: it takes none */
    bool (*set)(struct config *c, const char *value, struct error *err);
};

/* The option of that name, or NULL. */
const struct config_option *config_option_find(const char *name);

/* Sets it; value is NULL for options that take none. The last of several settings holds, but
 * modules add up. */
bool config_set(struct config *c, const char *name, const char *value, struct error *err);

/* Whether options that are fine by themselves make a machine together. */
bool config_check(const struct config *c, struct error *err);

/* "512M", "2G", or a plain number of MiB, in bytes. */
bool config_size(const char *text, uint64_t *bytes);
/* "100ms" or "2s" at the front of text, in ns; *end is what is behind it. */
bool config_time(const char *text, uint64_t *ns, const char **end);

#endif

#include "lib/config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "lib/engines.h"
#include "machine/machine.h"
#include "x86/cpuid.h"

enum { MEMORY_DEFAULT_MIB = 512, NAME_MAX_CHARS = 63 };

void config_init(struct config *c)
{
    *c = (struct config){.memory = (uint64_t)MEMORY_DEFAULT_MIB << 20, .cpus = 1};
}

void config_free(struct config *c)
{
    char *strings[] = {c->kernel, c->initrd, c->append,      c->cpu,
                       c->name,   c->engine, c->switch_among};
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        free(strings[i]);
    for (unsigned i = 0; i < c->module_count; i++)
        free(c->module_text[i]);
    config_init(c);
}

static bool replace(char **string, const char *value, struct error *err)
{
    char *copy = strdup(value);
    if (!copy) {
        error_set(err, "memory: the host has none left; free some");
        return false;
    }
    free(*string);
    *string = copy;
    return true;
}

bool config_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "KMGT";
    if (!isdigit((unsigned char)text[0]))
        return false;
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    unsigned shift = 20;
    if (*end) {
        const char *unit = strchr(units, toupper((unsigned char)*end));
        if (!unit || end[1])
            return false;
        shift = (unsigned)(unit - units + 1) * 10;
    }
    if (n > UINT64_MAX >> shift)
        return false;
    *bytes = (uint64_t)n << shift;
    return true;
}

bool config_time(const char *text, uint64_t *ns, const char **end)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {{"ms", 1000000}, {"s", 1000000000}};
    char *unit;
    if (!isdigit((unsigned char)text[0]))
        return false;
    unsigned long long n = strtoull(text, &unit, 10);
    size_t length = strcspn(unit, ",");
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (strlen(units[i].name) == length && strncmp(unit, units[i].name, length) == 0) {
            *ns = n * units[i].ns;
            *end = unit + length;
            return n > 0 && n <= 1000000;
        }
    }
    return false;
}

static bool set_kernel(struct config *c, const char *value, struct error *err)
{
    return replace(&c->kernel, value, err);
}

static bool set_initrd(struct config *c, const char *value, struct error *err)
{
    return replace(&c->initrd, value, err);
}

static bool set_append(struct config *c, const char *value, struct error *err)
{
    return replace(&c->append, value, err);
}

/* FILE[,ARGS]: a comma in a file's name is not catered for, as elsewhere. */
static bool set_module(struct config *c, const char *value, struct error *err)
{
    if (c->module_count == CONFIG_MODULES)
        return error_usage(err, "--module: more than %d; leave some out", CONFIG_MODULES);
    char *text = NULL;
    if (!replace(&text, value, err))
        return false;
    char *comma = strchr(text, ',');
    if (comma)
        *comma++ = 0;
    c->module_text[c->module_count] = text;
    c->module[c->module_count++] = (struct boot_module){.path = text, .args = comma};
    return true;
}

static bool set_engine(struct config *c, const char *value, struct error *err)
{
    struct error ignored = {0};
    /* A name that no engine has is a mistake of the command line; one that does not work here is
     * found out when the machine is made. */
    if (!engine_pick(value, &ignored) && ignored.status == EXIT_STATUS_USAGE) {
        *err = ignored;
        return false;
    }
    return replace(&c->engine, value, err);
}

/* TIME[,ENGINE]... */
static bool set_switch_every(struct config *c, const char *value, struct error *err)
{
    const char *end;
    if (!config_time(value, &c->switch_every_ns, &end))
        return error_usage(err, "--switch-every %s: not a time; write it like 100ms or 2s", value);
    if (*end)
        return replace(&c->switch_among, end + 1, err);
    free(c->switch_among);
    c->switch_among = NULL;
    return true;
}

static bool set_boot(struct config *c, const char *value, struct error *err)
{
    enum boot_way way = boot_way_find(value);
    if (way == BOOT_WAYS)
        return error_usage(err, "--boot %s: there is no such way; see `doppel help run`", value);
    c->way = way;
    return true;
}

static bool set_cpu(struct config *c, const char *value, struct error *err)
{
    if (!x86_model_find(value))
        return error_usage(err, "--cpu %s: there is no such model; use --cpu %s", value,
                           x86_model_at(0)->name);
    return replace(&c->cpu, value, err);
}

static bool set_cpus(struct config *c, const char *value, struct error *err)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end || n < 1 || n > MACHINE_CPUS)
        return error_usage(err, "--cpus %s: not a number from 1 to %d; give one", value,
                           MACHINE_CPUS);
    c->cpus = (unsigned)n;
    return true;
}

static bool set_memory(struct config *c, const char *value, struct error *err)
{
    uint64_t bytes;
    if (!config_size(value, &bytes))
        return error_usage(err, "--memory %s: not a size; write it like 512M or 2G", value);
    if (bytes < MEMORY_MIN || bytes > MEMORY_MAX)
        return error_usage(err,
                           "--memory %s: a guest has from %" PRIu64 " MiB to %" PRIu64
                           " GiB; give a size between",
                           value, (uint64_t)MEMORY_MIN >> 20, (uint64_t)MEMORY_MAX >> 30);
    c->memory = bytes;
    return true;
}

static bool set_name(struct config *c, const char *value, struct error *err)
{
    size_t n = strlen(value);
    bool ok = n > 0 && n <= NAME_MAX_CHARS;
    for (size_t i = 0; i < n && ok; i++)
        ok = isgraph((unsigned char)value[i]);
    if (!ok)
        return error_usage(err, "--name: from 1 to %d visible ASCII characters; give others",
                           NAME_MAX_CHARS);
    return replace(&c->name, value, err);
}

static bool set_clock(struct config *c, const char *value, struct error *err)
{
    c->virtual_clock = strcmp(value, "virtual") == 0;
    if (!c->virtual_clock && strcmp(value, "host") != 0)
        return error_usage(err, "--clock %s: there is no such clock; use host or virtual", value);
    return true;
}

static bool set_no_reboot(struct config *c, const char *value, struct error *err)
{
    (void)value, (void)err;
    return c->no_reboot = true;
}

static bool set_debug_exit(struct config *c, const char *value, struct error *err)
{
    (void)value, (void)err;
    return c->debug_exit = true;
}

static bool set_rng(struct config *c, const char *value, struct error *err)
{
    (void)value, (void)err;
    return c->rng = true;
}

static bool set_perf_map(struct config *c, const char *value, struct error *err)
{
    (void)value, (void)err;
    return c->tuning.perf_map = true;
}

/* Which of n names the value is; n: none of them. */
static unsigned which(const char *value, const char *const *names, unsigned n)
{
    unsigned i = 0;
    while (i < n && strcmp(value, names[i]) != 0)
        i++;
    return i;
}

static bool set_apic(struct config *c, const char *value, struct error *err)
{
    static const char *const names[] = {
        [ENGINE_APICS_BEST] = "auto",
        [ENGINE_APICS_MACHINE] = "machine",
        [ENGINE_APICS_KEPT] = "kernel",
    };
    unsigned i = which(value, names, ARRAY_LEN(names));
    if (i == ARRAY_LEN(names))
        return error_usage(err, "--apic %s: there is no such place; write auto, machine or kernel",
                           value);
    c->tuning.apics = i;
    return true;
}

static bool set_direct(struct config *c, const char *value, struct error *err)
{
    static const char *const names[] = {
        [ENGINE_DIRECT_AUTO] = "auto",
        [ENGINE_DIRECT_NEVER] = "never",
        [ENGINE_DIRECT_ALWAYS] = "always",
    };
    unsigned i = which(value, names, ARRAY_LEN(names));
    if (i == ARRAY_LEN(names))
        return error_usage(err, "--direct %s: write auto, never or always", value);
    c->tuning.direct = i;
    return true;
}

static bool set_code_cache(struct config *c, const char *value, struct error *err)
{
    return config_size(value, &c->tuning.code_cache) ||
           error_usage(err, "--code-cache %s: not a size; write it like 512K or 16M", value);
}

static bool refuse_disk(struct config *c, const char *value, struct error *err)
{
    (void)c, (void)value;
    return error_usage(err, "--disk: this version of Doppel has no disks yet; put what the guest "
                            "needs into the initrd");
}

static bool refuse_net(struct config *c, const char *value, struct error *err)
{
    (void)c;
    if (strcmp(value, "none") == 0)
        return true;
    return error_usage(err, "--net %s: this version of Doppel has no network yet; use --net none",
                       value);
}

static bool refuse_share(struct config *c, const char *value, struct error *err)
{
    (void)c, (void)value;
    return error_usage(err, "--share: this version of Doppel can't share folders yet; put what the "
                            "guest needs into the initrd");
}

static const struct config_option options[] = {
    {"apic", "auto|machine|kernel", set_apic},
    {"append", "STRING", set_append},
    {"boot", "WAY", set_boot},
    {"clock", "host|virtual", set_clock},
    {"code-cache", "SIZE", set_code_cache},
    {"cpu", "MODEL", set_cpu},
    {"cpus", "N", set_cpus},
    {"debug-exit", NULL, set_debug_exit},
    {"direct", "auto|never|always", set_direct},
    {"disk", "FILE", refuse_disk},
    {"engine", "NAME", set_engine},
    {"initrd", "FILE", set_initrd},
    {"kernel", "FILE", set_kernel},
    {"memory", "SIZE", set_memory},
    {"module", "FILE[,ARGS]", set_module},
    {"name", "NAME", set_name},
    {"net", "user|tap|none", refuse_net},
    {"no-reboot", NULL, set_no_reboot},
    {"perf-map", NULL, set_perf_map},
    {"rng", NULL, set_rng},
    {"share", "DIR,tag=NAME", refuse_share},
    {"switch-every", "TIME[,ENGINE]...", set_switch_every},
};

const struct config_option *config_option_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(options); i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

bool config_set(struct config *c, const char *name, const char *value, struct error *err)
{
    const struct config_option *o = config_option_find(name);
    if (!o)
        return error_usage(err, "--%s: there is no such option; see `doppel help run`", name);
    if (o->value && !value)
        return error_usage(err, "--%s: its value is missing; write --%s %s", name, name, o->value);
    if (!o->value && value)
        return error_usage(err, "--%s: takes no value; leave \"%s\" out", name, value);
    return o->set(c, value, err);
}

bool config_check(const struct config *c, struct error *err)
{
    if (!c->kernel)
        return error_usage(err, "--kernel: missing, and there is no firmware to boot without it; "
                                "name a kernel file");
    return true;
}

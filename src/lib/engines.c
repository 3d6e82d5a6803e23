#include "lib/engines.h"

#include <stdio.h>
#include <string.h>

#include "base/bits.h"

#ifdef __x86_64__
#define BINARY   &engine_binary
#define HARDWARE &engine_hardware
#else
#define BINARY   NULL
#define HARDWARE NULL
#endif

static const struct engine_entry entries[] = {
    {"hardware", "the processor's own virtualization, through KVM", HARDWARE},
    {"binary", "guest code rewritten where it must be and run as it is elsewhere", BINARY},
    {"translate", "dynamic translation from compiled pieces of the processor's semantics", NULL},
    {"emulate", "full emulation of the processor in portable C", &engine_emulate},
};

const struct engine_entry *engine_entry_at(unsigned index)
{
    return index < ARRAY_LEN(entries) ? &entries[index] : NULL;
}

bool engine_entry_usable(const struct engine_entry *e, char *why, size_t size)
{
    if (e->engine)
        return e->engine->usable(why, size);
    snprintf(why, size, "this version of Doppel does not have it yet");
    return false;
}

bool engine_entry_advisable(const struct engine_entry *e, char *why, size_t size)
{
    if (!engine_entry_usable(e, why, size))
        return false;
    return !e->engine->advisable || e->engine->advisable(why, size);
}

static const struct engine_entry *find_entry(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

static const struct engine *pick_auto(bool host_model, struct error *err)
{
    char why[256];
    for (size_t i = 0; i < ARRAY_LEN(entries); i++)
        if (engine_entry_advisable(&entries[i], why, sizeof why) &&
            (!host_model || entries[i].engine->host_model))
            return entries[i].engine;
    error_set(err, "--engine auto: no engine works here%s; see `doppel engines`",
              host_model ? " that can do --cpu host" : "");
    return NULL;
}

const struct engine *engine_pick(const char *name, struct error *err)
{
    char why[256];
    if (strcmp(name, "auto") == 0)
        return pick_auto(false, err);
    const struct engine_entry *e = find_entry(name);
    if (!e) {
        error_usage(err, "--engine %s: there is no such engine; see `doppel engines`", name);
        return NULL;
    }
    if (!engine_entry_usable(e, why, sizeof why)) {
        error_set(err, "--engine %s: %s; use --engine auto", name, why);
        return NULL;
    }
    return e->engine;
}

const struct engine *engine_pick_for_host(const char *name, struct error *err)
{
    return strcmp(name, "auto") == 0 ? pick_auto(true, err) : engine_pick(name, err);
}

static int all_others(const struct engine *first, const struct engine **others, unsigned max)
{
    char why[256];
    unsigned n = 0;
    for (size_t i = 0; i < ARRAY_LEN(entries) && n < max; i++)
        if (entries[i].engine != first && engine_entry_usable(&entries[i], why, sizeof why))
            others[n++] = entries[i].engine;
    return (int)n;
}

int engine_others(const struct engine *first, const char *names, const struct engine **others,
                  unsigned max, struct error *err)
{
    if (!names)
        return all_others(first, others, max);
    unsigned n = 0;
    while (*names && n < max) {
        char name[32];
        size_t length = strcspn(names, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, names);
        const struct engine *e = engine_pick(name, err);
        if (!e)
            return -1;
        if (e != first)
            others[n++] = e;
        names += length + (names[length] == ',');
    }
    return (int)n;
}

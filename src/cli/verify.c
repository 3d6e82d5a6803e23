/*
 * doppel verify: one guest on two engines, compared all the way.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/archive.h"
#include "base/bits.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/option.h"
#include "cli/signals.h"
#include "engine/lockstep/lockstep.h"
#include "lib/engines.h"
#include "lib/guest.h"
#include "monitor/difference.h"
#include "x86/state_archive.h"

struct verify {
    struct config config;
    const struct engine *against;
    struct lockstep_plant plant;
    uint64_t step, checkpoint;
    bool help;

    struct lockstep lockstep;
    struct cli_console console;
    struct signals signals;
    struct guest guest;
    bool tells; /* of its progress */
    uint64_t told_at;
};

/* ------------------------------------------------------------------------------------------- *
 * Options
 * ------------------------------------------------------------------------------------------- */

static bool set_against(struct verify *v, const char *value, struct error *err)
{
    v->against = engine_pick(value, err);
    return v->against != NULL;
}

static bool take_count(const char *name, const char *value, uint64_t *to, struct error *err)
{
    char *end;
    uint64_t n = strtoull(value, &end, 0);
    if (!isdigit((unsigned char)value[0]) || *end || n == 0)
        return error_usage(err, "--%s %s: not a number of instructions; give one from 1 on", name,
                           value);
    *to = n;
    return true;
}

static bool set_step(struct verify *v, const char *value, struct error *err)
{
    return take_count("step", value, &v->step, err);
}

static bool set_checkpoint(struct verify *v, const char *value, struct error *err)
{
    return take_count("checkpoint", value, &v->checkpoint, err);
}

/* A register by its name in the saved state, with its number where there are several ("gpr0"). */
static bool plant_register(struct lockstep_plant *p, const char *name)
{
    size_t letters = strlen(name);
    while (letters && isdigit((unsigned char)name[letters - 1]))
        letters--;
    for (unsigned i = 0; i < x86_state_archive.field_count; i++) {
        const struct archive_field *f = &x86_state_archive.fields[i];
        bool whole = f->count == 1 && strcmp(f->name, name) == 0;
        bool element = f->count > 1 && strlen(f->name) == letters && name[letters] &&
                       strncmp(f->name, name, letters) == 0;
        if (!whole && !element)
            continue;
        p->field = f->name;
        p->index = element ? (unsigned)strtoul(name + letters, NULL, 10) : 0;
        return p->index < f->count;
    }
    return false;
}

/* COUNT:REGISTER or COUNT:0xADDRESS. */
static bool set_plant(struct verify *v, const char *value, struct error *err)
{
    char *end;
    struct lockstep_plant p = {.wanted = true};
    p.at = strtoull(value, &end, 0);
    bool ok = isdigit((unsigned char)value[0]) && p.at && *end == ':';
    if (ok && isdigit((unsigned char)end[1])) {
        p.gpa = strtoull(end + 1, &end, 0);
        ok = !*end;
    } else if (ok) {
        ok = plant_register(&p, end + 1);
    }
    v->plant = p;
    return ok || error_usage(err,
                             "--plant %s: not a place for a bug; write it like 1000000:gpr3, "
                             "1000000:rflags or 1000000:0x7c00",
                             value);
}

static bool set_console(struct verify *v, const char *value, struct error *err)
{
    return cli_console_parse(&v->console, value, err);
}

static const struct own_option {
    const char *name, *value;
    bool (*set)(struct verify *v, const char *value, struct error *err);
} own_options[] = {
    {"against", "ENGINE", set_against}, {"checkpoint", "COUNT", set_checkpoint},
    {"console", "WHERE", set_console},  {"plant", "COUNT:WHERE", set_plant},
    {"step", "COUNT", set_step},
};

static const struct own_option *find_own(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(own_options); i++)
        if (strcmp(own_options[i].name, name) == 0)
            return &own_options[i];
    return NULL;
}

static bool takes_value(const char *name)
{
    const struct config_option *o = config_option_find(name);
    return find_own(name) || (o && o->value);
}

static bool set(struct verify *v, const struct option *o, struct error *err)
{
    const struct own_option *own = find_own(o->name);
    if (strcmp(o->name, "help") == 0)
        return v->help = true;
    if (!own)
        return config_set(&v->config, o->name, o->value, err);
    if (!o->value)
        return error_usage(err, "--%s: its value is missing; write --%s %s", o->name, o->name,
                           own->value);
    return own->set(v, o->value, err);
}

static bool check(struct verify *v, struct error *err)
{
    if (!v->against)
        return error_usage(err, "--against: missing; name the engine to compare with, as in "
                                "--against emulate");
    if (v->config.rng)
        return error_usage(err, "--rng: what a device writes to memory is not on record for the "
                                "second engine; leave it out");
    v->config.virtual_clock = true;
    return config_check(&v->config, err);
}

static bool parse(struct verify *v, int argc, char **argv, struct error *err)
{
    struct option o;
    for (int i = 1; i < argc && !v->help; i++)
        if (!option_take(&o, argc, argv, &i, takes_value, "verify", err) || !set(v, &o, err))
            return false;
    return v->help || check(v, err);
}

/* ------------------------------------------------------------------------------------------- *
 * The run
 * ------------------------------------------------------------------------------------------- */

static void end_run(void *ctx)
{
    struct verify *v = ctx;
    machine_end(v->guest.machine);
}

static void nothing(void *ctx)
{
    (void)ctx;
}

enum { TELL_EACH_NS = 200000000 };

static void tell_progress(void *ctx, uint64_t instructions)
{
    struct verify *v = ctx;
    uint64_t now = loop_now();
    if (!v->tells || now - v->told_at < TELL_EACH_NS)
        return;
    v->told_at = now;
    fprintf(stderr, "\r%" PRIu64 " instructions compared ", instructions);
}

static bool prepare(struct verify *v, struct error *err)
{
    const struct engine *leader = engine_pick(v->config.engine ? v->config.engine : "auto", err);
    if (!leader)
        return false;
    lockstep_init(&v->lockstep, leader, v->against);
    v->lockstep.plant = v->plant;
    if (v->step)
        v->lockstep.step = v->step;
    v->lockstep.checkpoint = v->checkpoint ? v->checkpoint : LOCKSTEP_CHECKPOINT;
    v->lockstep.progress = tell_progress;
    v->lockstep.ctx = v;
    v->tells = v->console.kind != CONSOLE_STDIO && isatty(STDERR_FILENO);
    if (!signals_take(&v->signals, err) || !cli_console_open(&v->console, err) ||
        !guest_create_on(&v->guest, &v->config, &v->lockstep.engine, cli_console_get(&v->console),
                         err))
        return false;
    struct loop *loop = machine_loop(v->guest.machine);
    return cli_console_watch(&v->console, loop, err) && signals_watch(&v->signals, loop, err);
}

static void finish(struct verify *v)
{
    guest_destroy(&v->guest);
    cli_console_close(&v->console);
    signals_release(&v->signals);
}

static void print_masks(const struct lockstep *l)
{
    const struct lockstep_mask *m;
    const char *why = NULL;
    for (unsigned i = 0; (m = lockstep_mask_at(i)); i++) {
        if (!lockstep_masked(l, m))
            continue;
        if (why != m->why)
            printf("  not compared, because %s:\n   ", m->why);
        printf(" %s", m->field);
        why = m->why;
    }
    if (why)
        printf("\n");
}

static void print_outcome(const struct verify *v)
{
    const struct lockstep *l = &v->lockstep;
    if (v->tells)
        fprintf(stderr, "\r\033[K");
    printf("%s against %s: %" PRIu64 " instructions compared\n", l->leader->name, l->follower->name,
           l->instructions);
    printf("  %" PRIu64 " times all registers, %" PRIu64 " times all memory,\n"
           "  %" PRIu64 " pages of memory that were just written,\n"
           "  %" PRIu64 " accesses to devices and %" PRIu64 " interrupts\n",
           l->looks, l->checkpoints, l->pages, l->accesses, l->interrupts);
    print_masks(l);
    if (l->difference.found)
        difference_print(stdout, l);
    else
        printf("No difference.\n");
    fflush(stdout);
}

static int status_of(const struct machine_result *result, struct error *err)
{
    switch (result->reason) {
    case MACHINE_POWERED_OFF:
    case MACHINE_RESET:
    case MACHINE_DEBUG_EXIT: return EXIT_STATUS_OK;
    case MACHINE_CRASHED: return EXIT_STATUS_CRASHED;
    case MACHINE_ENDED: return EXIT_STATUS_ENDED;
    case MACHINE_FAILED: break;
    }
    *err = result->error;
    return err->status;
}

static int verify_guest(struct verify *v, struct error *err)
{
    struct machine_result result = {0};
    int status;
    if (prepare(v, err)) {
        machine_run(v->guest.machine, &result);
        bool alike = lockstep_finish(&v->lockstep);
        print_outcome(v);
        status = alike ? status_of(&result, err) : EXIT_STATUS_FAILURE;
    } else {
        status = err->status;
    }
    finish(v);
    return status;
}

static int run(int argc, char **argv, struct error *err)
{
    struct verify *v = calloc(1, sizeof *v);
    if (!v) {
        error_errno(err, "verify");
        return err->status;
    }
    v->console =
        (struct cli_console){.kind = CONSOLE_NULL, .fd = -1, .client = -1, .pty_slave = -1};
    v->signals = (struct signals){
        .fd = -1, .end = end_run, .suspend = nothing, .continued = nothing, .ctx = v};
    config_init(&v->config);
    int status = EXIT_STATUS_OK;
    if (!parse(v, argc, argv, err))
        status = err->status;
    else if (v->help)
        fputs(command_verify.help, stdout);
    else
        status = verify_guest(v, err);
    config_free(&v->config);
    free(v);
    return status;
}

const struct command command_verify = {
    .name = "verify",
    .summary = "run a virtual machine on two engines and compare them",
    .help =
        "doppel verify --kernel FILE --engine ENGINE --against ENGINE [OPTIONS]\n"
        "\n"
        "Runs a virtual machine on two engines at once, under --clock virtual, and compares them:\n"
        "registers, memory, and what they ask of devices. At the first difference it says which\n"
        "instruction it was and what each engine made of it.\n"
        "\n"
        "  --engine ENGINE        the engine that drives the machine\n"
        "  --against ENGINE       the engine that is given the same and must do the same\n"
        "  --step COUNT           instructions between two looks; without it, each block of the\n"
        "                         first engine where it has such (binary), else 100; 1 looks "
        "behind\n"
        "                         every instruction\n"
        "  --checkpoint COUNT     instructions between two looks at all of memory; 20000000 "
        "without\n"
        "                         it\n"
        "  --plant COUNT:WHERE    puts a bug into the second engine behind that many "
        "instructions:\n"
        "                         the lowest bit of a register (gpr0 to gpr15, rflags, vec3, cr2\n"
        "                         ...) or of a byte of memory (0xADDRESS) is turned\n"
        "  --console WHERE        as for `doppel run`; null without it, and progress is shown\n"
        "\n"
        "Other options are those of `doppel run`; there is one processor.\n"
        "\n"
        "Exit status: 0 no difference; 1 a difference, or a failure; 2 a command line that can't "
        "be\n"
        "taken; 3 the guest crashed on both; 4 ended from outside.\n",
    .run = run,
};

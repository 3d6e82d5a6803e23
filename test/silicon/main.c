/*
 * silicon: the processor underneath as the oracle for an engine. For each form of the tables, cases
 * are made, run natively and by the engine, and their ends compared.
 */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "compare.h"
#include "emulated.h"
#include "engine/engine.h"
#include "generate.h"
#include "native.h"
#include "random.h"
#include "tables.h"
#include "x86/native.h"

struct options {
    uint64_t seed;
    unsigned cases;
    const char *mnemonic; /* only this one */
    uint64_t one;         /* only the case of this seed (with `mnemonic`) */
    bool seeded;          /* --seed was given */
    bool mode32, mode64, forever, native_only;
    unsigned reports; /* per form */
    const struct engine *engine;
    const char *model;            /* as --cpu takes it */
    const struct x86_model *host; /* the host's, where that is asked for */
    bool anyway;      /* even if this host has only a poor form of it (docs/hardware.md) */
    const char *list; /* print instead of running: forms, cases, undefined */
};

/* Per form. */
struct tally {
    unsigned run, differ, lost;
};

struct run {
    struct options options;
    struct x86_model model;
    struct case_pattern pattern;
    struct native *native;
    struct emulated *emulated;
    struct tally *tally;
    unsigned batch; /* cases gathered so far */
};

static bool is_run(const struct options *o, unsigned form)
{
    const struct x86_form *f = &x86_forms[form];
    bool native = o->host && x86_is_native(o->host, f);
    if ((!(f->flags & X86_FORM_MODELLED) && !native) || (o->native_only && !native) ||
        left_out(form))
        return false;
    return !o->mnemonic || strcmp(o->mnemonic, f->mnemonic) == 0;
}

static bool needs_avx(unsigned form)
{
    switch (x86_forms[form].feature) {
    case X86_FEATURE_AVX:
    case X86_FEATURE_AVX2:
    case X86_FEATURE_FMA:
    case X86_FEATURE_F16C: return true;
    default: return false;
    }
}

/* Forms that ask for REX bits are not in 32-bit code either. */
static bool in_mode(unsigned form, unsigned code)
{
    const struct x86_form *f = &x86_forms[form];
    if (code == X86_CODE64)
        return !(f->flags & X86_FORM_NO64);
    bool rex = strstr(f->encoding, " W1") || strstr(f->encoding, "rexb");
    return !(f->flags & X86_FORM_ONLY64) && !rex;
}

/* ---- running ---- */

static void compare_case(struct run *r, unsigned i)
{
    const struct silicon_case *c = &native_cases(r->native)[i];
    struct tally *t = &r->tally[c->form];
    t->run++;
    if (native_status(r->native, i) != NATIVE_ENDED) {
        t->lost++;
        printf("# the child that ran this case ended with it\n");
        case_print(c);
        return;
    }
    const struct case_end *host = native_end(r->native, i);
    struct case_end ours;
    const uint8_t *data;
    const char *why;
    if (!emulated_run(r->emulated, c, &ours, &data, &why)) {
        t->differ++;
        printf("# %s; silicon: vector %u\n", why, host->vector);
        case_print(c);
    } else if (!case_same(c, host, &ours, data)) {
        if (t->differ++ < r->options.reports)
            case_report(c, host, &ours, data);
    }
}

static bool flush(struct run *r, struct error *err)
{
    if (!r->batch)
        return true;
    if (!native_run(r->native, r->batch, err))
        return false;
    for (unsigned i = 0; i < r->batch; i++)
        compare_case(r, i);
    r->batch = 0;
    return true;
}

static bool run_form(struct run *r, unsigned form, unsigned code, uint64_t seed, struct error *err)
{
    struct rng rng = {seed ^ (uint64_t)form << 32 ^ (uint64_t)code << 60};
    for (unsigned i = 0; i < (r->options.one ? 1 : r->options.cases); i++) {
        struct silicon_case *c = &native_cases(r->native)[r->batch];
        uint64_t case_seed = r->options.one ? r->options.one : rng_next(&rng);
        c->avx512 = r->options.host && (r->options.host->xcr0 & XCR0_AVX512);
        if (!case_generate(c, form, code, case_seed)) {
            if (i == 0 && !r->options.one) {
                printf("# no encoding found: %s %s %s\n", x86_forms[form].encoding,
                       x86_forms[form].mnemonic, x86_forms[form].operands);
                r->tally[form].differ++;
            }
            return true;
        }
        if (++r->batch == NATIVE_BATCH && !flush(r, err))
            return false;
    }
    return true;
}

static bool run_mode(struct run *r, unsigned code, uint64_t seed, struct error *err)
{
    bool avx = native_has_avx(r->native);
    if (!avx)
        printf("# this host lacks AVX2 or FMA: forms that need them are left out\n");
    for (unsigned form = 0; form < x86_form_count; form++) {
        if (!is_run(&r->options, form) || !in_mode(form, code) || (!avx && needs_avx(form)))
            continue;
        if (!run_form(r, form, code, seed, err))
            return false;
    }
    return flush(r, err);
}

static bool run_all(struct run *r, uint64_t seed, struct error *err)
{
    return (!r->options.mode64 || run_mode(r, X86_CODE64, seed, err)) &&
           (!r->options.mode32 || run_mode(r, X86_CODE32, seed, err));
}

/* ---- telling ---- */

static bool same_mnemonic(unsigned a, unsigned b)
{
    return strcmp(x86_forms[a].mnemonic, x86_forms[b].mnemonic) == 0;
}

static bool is_first(const struct run *r, unsigned form)
{
    for (unsigned i = 0; i < form; i++)
        if (r->tally[i].run && same_mnemonic(i, form))
            return false;
    return r->tally[form].run;
}

/* One line for each mnemonic. */
static unsigned report(const struct run *r)
{
    unsigned groups = 0, failed = 0, number = 0, total = 0;
    for (unsigned i = 0; i < x86_form_count; i++)
        groups += is_first(r, i);
    printf("1..%u\n", groups);
    for (unsigned i = 0; i < x86_form_count; i++) {
        struct tally sum = {0};
        if (!is_first(r, i))
            continue;
        for (unsigned j = i; j < x86_form_count; j++) {
            if (!same_mnemonic(i, j))
                continue;
            sum.run += r->tally[j].run;
            sum.differ += r->tally[j].differ;
            sum.lost += r->tally[j].lost;
        }
        bool ok = !sum.differ && !sum.lost;
        printf("%s %u %s: %u cases", ok ? "ok" : "not ok", ++number, x86_forms[i].mnemonic,
               sum.run);
        if (!ok)
            printf(", %u differ, %u lost", sum.differ, sum.lost);
        printf("\n");
        failed += !ok;
        total += sum.run;
    }
    printf("# %u cases, %u of %u groups differ\n", total, failed, groups);
    return failed;
}

static void list_forms(const struct options *o)
{
    for (unsigned i = 0; i < x86_form_count; i++) {
        const struct x86_form *f = &x86_forms[i];
        const char *why = left_out(i);
        if (!(f->flags & X86_FORM_MODELLED))
            continue;
        if (strcmp(o->list, "cases") != 0)
            printf("%s | %s | %s | %s\n", f->encoding, f->mnemonic, f->operands,
                   why ? why : "is run");
        else if (!why)
            printf("%s | %s | %s | %u\n", f->encoding, f->mnemonic, f->operands,
                   o->cases * (unsigned)(in_mode(i, X86_CODE64) + in_mode(i, X86_CODE32)));
    }
}

static int list(const struct options *o)
{
    if (strcmp(o->list, "undefined") == 0)
        tables_write();
    else
        list_forms(o);
    return 0;
}

/* ---- the command line ---- */

static int usage(void)
{
    fprintf(stderr, "usage: silicon [--seed N] [--cases N] [--form MNEMONIC] [--case SEED]\n"
                    "               [--mode 32|64] [--reports N] [--forever]\n"
                    "               [--engine emulate|binary|hardware [--anyway]]\n"
                    "               [--cpu MODEL [--native]]\n"
                    "       silicon --list forms|cases|undefined\n");
    return 2;
}

static const struct engine *engine_named(const char *name)
{
    static const struct engine *const engines[] = {&engine_emulate, &engine_binary,
                                                   &engine_hardware};
    for (unsigned i = 0; i < ARRAY_LEN(engines); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {{"seed", required_argument, NULL, 's'},
                                          {"cases", required_argument, NULL, 'n'},
                                          {"form", required_argument, NULL, 'f'},
                                          {"case", required_argument, NULL, 'c'},
                                          {"mode", required_argument, NULL, 'm'},
                                          {"reports", required_argument, NULL, 'r'},
                                          {"forever", no_argument, NULL, 'e'},
                                          {"list", required_argument, NULL, 'l'},
                                          {"engine", required_argument, NULL, 'g'},
                                          {"anyway", no_argument, NULL, 'a'},
                                          {"cpu", required_argument, NULL, 'u'},
                                          {"native", no_argument, NULL, 'o'},
                                          {0}};
    *o = (struct options){.seed = 1,
                          .cases = 100,
                          .mode32 = true,
                          .mode64 = true,
                          .reports = 2,
                          .engine = &engine_emulate,
                          .model = "x86-64-v3"};
    for (int k; (k = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (k) {
        case 's':
            o->seed = strtoull(optarg, NULL, 0);
            o->seeded = true;
            break;
        case 'n': o->cases = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'f': o->mnemonic = optarg; break;
        case 'c': o->one = strtoull(optarg, NULL, 0); break;
        case 'm':
            o->mode32 = strcmp(optarg, "32") == 0;
            o->mode64 = strcmp(optarg, "64") == 0;
            break;
        case 'r': o->reports = (unsigned)strtoul(optarg, NULL, 0); break;
        case 'e': o->forever = true; break;
        case 'l': o->list = optarg; break;
        case 'a': o->anyway = true; break;
        case 'o': o->native_only = true; break;
        case 'u':
            o->model = optarg;
            if (!x86_model_find(optarg))
                return false;
            break;
        case 'g':
            o->engine = engine_named(optarg);
            if (!o->engine)
                return false;
            break;
        default: return false;
        }
    }
    return optind == argc && (o->mode32 || o->mode64);
}

static bool prepare(struct run *r, struct error *err)
{
    r->tally = calloc(x86_form_count, sizeof *r->tally);
    if (!r->tally)
        return error_set(err, "no memory");
    case_pattern(&r->pattern);
    r->model = *x86_model_find(r->options.model);
    x86_model_add_host(&r->model);
    r->options.host = r->model.host ? &r->model : NULL;
    if (r->model.host && !r->options.engine->host_model)
        return error_set(err, "engine %s does not do --cpu host", r->options.engine->name);
    return native_open(&r->native, &r->pattern, err) &&
           emulated_open(&r->emulated, r->options.engine, r->options.model, &r->pattern,
                         native_has_segments(r->native), native_has_avx(r->native), err);
}

static int run_and_report(struct run *r)
{
    struct error err;
    uint64_t seed = r->options.seed;
    if (!prepare(r, &err) || !run_all(r, seed, &err)) {
        printf("Bail out! %s\n", err.text);
        return 1;
    }
    unsigned failed = report(r);
    emulated_close(r->emulated);
    native_close(r->native);
    free(r->tally);
    return failed != 0;
}

/* Other seeds for ever, until something differs. */
static int run_forever(struct run *r)
{
    int status = 0;
    if (!r->options.seeded && getrandom(&r->options.seed, sizeof r->options.seed, 0) < 0)
        r->options.seed = 1;
    for (; status == 0; r->options.seed++) {
        printf("# seed 0x%llx\n", (unsigned long long)r->options.seed);
        status = run_and_report(r);
        fflush(stdout);
    }
    return status;
}

int main(int argc, char **argv)
{
    static struct run run;
    if (!parse(argc, argv, &run.options))
        return usage();
    if (run.options.list)
        return list(&run.options);
    char why[256];
    const struct engine *e = run.options.engine;
    if (!e->usable(why, sizeof why) ||
        (e->advisable && !run.options.anyway && !e->advisable(why, sizeof why))) {
        printf("1..1\nok 1 engine # SKIP %s: %s\n", e->name, why);
        return 0;
    }
    return run.options.forever ? run_forever(&run) : run_and_report(&run);
}

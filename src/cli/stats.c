#include "cli/stats.h"

#include <inttypes.h>

#include "base/bits.h"

/* A counter by its name in JSON, for a person, and by its place in the struct, a uint64_t. */
struct counter {
    const char *name, *what;
    size_t offset;
};

/* In the order in which they are shown. */
static const struct counter engine_counters[] = {
    {"instructions", "instructions", offsetof(struct engine_stats, instructions)},
    {"direct", "  run as they were", offsetof(struct engine_stats, direct)},
    {"translated", "  run as translated code", offsetof(struct engine_stats, translated)},
    {"interrupts", "interrupts delivered", offsetof(struct engine_stats, interrupts)},
    {"exceptions", "exceptions delivered", offsetof(struct engine_stats, exceptions)},
    {"pio", "port accesses", offsetof(struct engine_stats, pio)},
    {"mmio", "memory-mapped accesses", offsetof(struct engine_stats, mmio)},
    {"halts", "halts", offsetof(struct engine_stats, halts)},
    {"pauses", "pauses", offsetof(struct engine_stats, pauses)},
    {"blocks_decoded", "blocks decoded", offsetof(struct engine_stats, blocks_decoded)},
    {"blocks_bound", "  bound to their addresses", offsetof(struct engine_stats, blocks_bound)},
    {"traces", "  traces", offsetof(struct engine_stats, traces)},
    {"blocks_dropped", "blocks dropped", offsetof(struct engine_stats, blocks_dropped)},
    {"cache_flushes", "code cache flushes", offsetof(struct engine_stats, cache_flushes)},
    {"tlb_misses", "TLB misses", offsetof(struct engine_stats, tlb_misses)},
    {"tlb_flushes", "TLB flushes", offsetof(struct engine_stats, tlb_flushes)},
    {"emulated", "instructions left to C", offsetof(struct engine_stats, emulated)},
    {"jump_misses", "unknown branch targets", offsetof(struct engine_stats, jump_misses)},
    {"longest_stop_ns", "longest stop for it, ns", offsetof(struct engine_stats, longest_stop_ns)},
    {"faults", "host faults taken", offsetof(struct engine_stats, faults)},
    {"entries_filled", "address table entries", offsetof(struct engine_stats, entries_filled)},
    {"exits", "exits from KVM", offsetof(struct engine_stats, exits)},
    {"assists", "instructions KVM gave up on", offsetof(struct engine_stats, assists)},
    {"stretches", "stretches left to emulate", offsetof(struct engine_stats, stretches)},
};

static const struct counter machine_counters[] = {
    {"lock_waits", "waits for the device lock", offsetof(struct machine_stats, lock_waits)},
    {"resets", "resets", offsetof(struct machine_stats, resets)},
    {"switches", "changes of the engine", offsetof(struct machine_stats, switches)},
    {"doorbells", "doorbells by eventfd", offsetof(struct machine_stats, doorbells)},
    {"messages", "messages by eventfd", offsetof(struct machine_stats, messages)},
    {"console_in", "console bytes in", offsetof(struct machine_stats, console_in)},
    {"console_out", "console bytes out", offsetof(struct machine_stats, console_out)},
};

static uint64_t value_of(const void *stats, const struct counter *c)
{
    return *(const uint64_t *)((const char *)stats + c->offset);
}

/* n of total, in per cent. */
static double share(uint64_t n, uint64_t total)
{
    return total ? 100.0 * (double)n / (double)total : 0.0;
}

static void print_causes(FILE *to, const struct engine_cause *cause)
{
    if (cause[0].name)
        fprintf(to, "  translated code was left            times            ms  for\n");
    for (unsigned i = 0; i < ENGINE_CAUSES && cause[i].name; i++)
        fprintf(to, "  %26s %16" PRIu64 " %12.3f  %s %s\n", "", cause[i].count,
                (double)cause[i].ns / 1e6, cause[i].name, cause[i].detail);
}

static void print_shares(FILE *to, const struct engine_stats *e, double seconds)
{
    fprintf(to, "  %-26s %16.1f\n", "million instructions a second",
            seconds > 0 ? (double)e->instructions / seconds / 1e6 : 0.0);
    fprintf(to, "  %-26s %15.1f%%\n", "direct share", share(e->direct, e->instructions));
    fprintf(to, "  %-26s %15.1f%%\n", "translated share", share(e->translated, e->instructions));
    fprintf(to, "  %-26s %15.4f%%\n", "share left to C", share(e->emulated, e->instructions));
}

static void print_text(FILE *to, const struct machine_stats *s)
{
    double seconds = (double)s->run_ns / 1e9;
    const struct engine_stats *e = &s->engine;
    fprintf(to, "doppel: %.3f s on the host, %.3f s for the guest\n", seconds,
            (double)s->guest_ns / 1e9);
    print_shares(to, e, seconds);
    for (size_t i = 0; i < ARRAY_LEN(engine_counters); i++)
        fprintf(to, "  %-26s %16" PRIu64 "\n", engine_counters[i].what,
                value_of(e, &engine_counters[i]));
    for (size_t i = 0; i < ARRAY_LEN(machine_counters); i++)
        fprintf(to, "  %-26s %16" PRIu64 "\n", machine_counters[i].what,
                value_of(s, &machine_counters[i]));
    for (unsigned i = 0; s->cpus > 1 && i < s->cpus && i < MACHINE_CPUS; i++)
        fprintf(to, "  instructions of vCPU %-5u %16" PRIu64 "\n", i, s->vcpu[i].instructions);
    print_causes(to, e->cause);
}

static void print_engine_json(FILE *to, const struct engine_stats *e)
{
    fprintf(to, "{");
    for (size_t i = 0; i < ARRAY_LEN(engine_counters); i++)
        fprintf(to, "%s\"%s\": %" PRIu64, i ? ", " : "", engine_counters[i].name,
                value_of(e, &engine_counters[i]));
    fprintf(to, ", \"causes\": [");
    for (unsigned i = 0; i < ENGINE_CAUSES && e->cause[i].name; i++)
        fprintf(to, "%s\n    {\"name\": \"%s%s%s\", \"count\": %" PRIu64 ", \"ns\": %" PRIu64 "}",
                i ? "," : "", e->cause[i].name, e->cause[i].detail[0] ? " " : "",
                e->cause[i].detail, e->cause[i].count, e->cause[i].ns);
    fprintf(to, "]}");
}

static void print_json(FILE *to, const struct machine_stats *s)
{
    fprintf(to, "{\"run_ns\": %" PRIu64 ", \"guest_ns\": %" PRIu64, s->run_ns, s->guest_ns);
    for (size_t i = 0; i < ARRAY_LEN(machine_counters); i++)
        fprintf(to, ", \"%s\": %" PRIu64, machine_counters[i].name,
                value_of(s, &machine_counters[i]));
    fprintf(to, ",\n \"total\": ");
    print_engine_json(to, &s->engine);
    fprintf(to, ",\n \"vcpus\": [");
    for (unsigned i = 0; i < s->cpus && i < MACHINE_CPUS; i++) {
        fprintf(to, "%s\n  ", i ? "," : "");
        print_engine_json(to, &s->vcpu[i]);
    }
    fprintf(to, "]}\n");
}

void stats_print(FILE *to, const struct machine_stats *s, bool json)
{
    if (json)
        print_json(to, s);
    else
        print_text(to, s);
}

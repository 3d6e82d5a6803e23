/*
 * What --stats tells of this engine.
 */
#include <stdlib.h>

#include "base/loop.h"
#include "engine/binary/binary.h"
#include "engine/binary/cage.h"
#include "x86/forms.h"

bool binary_statistics_init(struct binary_vcpu *b)
{
    for (unsigned i = 0; i < ARRAY_LEN(b->cause); i++)
        b->cause[i] = calloc(x86_form_count, sizeof *b->cause[i]);
    return b->cause[0] && b->cause[1];
}

void binary_statistics_fini(struct binary_vcpu *b)
{
    for (unsigned i = 0; i < ARRAY_LEN(b->cause); i++)
        free(b->cause[i]);
}

/* ---- while it runs ---- */

void binary_spend_begin(struct binary_vcpu *b)
{
    b->left_at = __builtin_ia32_rdtsc();
}

void binary_spend_end(struct binary_vcpu *b)
{
    if (b->left_at && b->on)
        b->on->cycles += __builtin_ia32_rdtsc() - b->left_at;
    b->left_at = 0;
}

void binary_measure_rest(struct binary_vcpu *b, bool back)
{
    const struct code *c = &b->vm->code;
    const struct translation *t = &c->block[b->resume_block];
    uint64_t n[KINDS] = {0};
    for (unsigned i = t->insns - b->resume_insns; i < t->insns; i++)
        n[c->kind[t->points + i]]++;
    b->context->copied += back ? 0 - n[KIND_COPIED] : n[KIND_COPIED];
    b->context->rewritten += back ? 0 - n[KIND_REWRITTEN] : n[KIND_REWRITTEN];
}

void binary_stopped_since(struct binary_vcpu *b, uint64_t cycles)
{
    uint64_t stopped = __builtin_ia32_rdtsc() - cycles;
    if (stopped > b->longest_stop)
        b->longest_stop = stopped;
}

/* ---- at the end ---- */

static uint64_t to_ns(const struct binary_vm *vm, uint64_t cycles)
{
    uint64_t all = __builtin_ia32_rdtsc() - vm->born, all_ns = loop_now() - vm->born_ns;
    return all ? (uint64_t)((unsigned __int128)cycles * all_ns / all) : 0;
}

/* What costs most comes first: by time, where there is one. */
static bool is_more(const struct engine_cause *a, const struct engine_cause *b)
{
    return a->ns != b->ns ? a->ns > b->ns : a->count > b->count;
}

/* Puts a cause among those, which are sorted. */
static void rank(struct engine_stats *out, const struct engine_cause *c)
{
    unsigned at = ENGINE_CAUSES;
    while (at > 0 && is_more(c, &out->cause[at - 1]))
        at--;
    for (unsigned i = ENGINE_CAUSES - 1; i > at && at < ENGINE_CAUSES; i--)
        out->cause[i] = out->cause[i - 1];
    if (at < ENGINE_CAUSES)
        out->cause[at] = *c;
}

static void rank_spent(const struct binary_vcpu *b, struct engine_stats *out, const char *name,
                       const char *detail, const struct spent *s)
{
    if (s->count)
        rank(out, &(struct engine_cause){name, detail, s->count, to_ns(b->vm, s->cycles)});
}

static void tell_causes(const struct binary_vcpu *b, struct engine_stats *out)
{
    static const char *const why[LEAVE_REASONS] = {[LEAVE_LINK] = "unlinked branches",
                                                   [LEAVE_JUMP] = "unknown branch targets",
                                                   [LEAVE_INDIRECT] = "unknown indirect targets",
                                                   [LEAVE_FAULT] = "host faults",
                                                   [LEAVE_REQUEST] = "requests",
                                                   [LEAVE_STALE] = "dropped blocks",
                                                   [LEAVE_LIMIT] = "instruction limits",
                                                   [LEAVE_MOVED] = "changes of the mapping",
                                                   [LEAVE_ASKED] = "requests at entry"};
    for (unsigned i = 0; i < LEAVE_REASONS; i++)
        if (why[i])
            rank_spent(b, out, why[i], "", &b->left[i]);
    static const char *const stopped[CAGE_STOPS] = {
        [CAGE_CALL] = "calls",        [CAGE_FAULT] = "faults",
        [CAGE_TRAP] = "traps",        [CAGE_STEP] = "single steps",
        [CAGE_BREAK] = "breakpoints", [CAGE_EXCEPTION] = "exceptions",
        [CAGE_ASKED] = "requests",    [CAGE_STUCK] = "no more could be mapped",
        [CAGE_LOST] = "its end"};
    for (unsigned i = 0; i < CAGE_STOPS; i++)
        rank_spent(b, out, "direct execution, until", stopped[i], &b->stopped[i]);
    for (unsigned i = 0; i < x86_form_count; i++) {
        const struct spent *as_made = &b->cause[0][i], *by_fault = &b->cause[1][i];
        const struct spent sum = {as_made->count + by_fault->count,
                                  as_made->cycles + by_fault->cycles};
        rank_spent(b, out, x86_forms[i].mnemonic, x86_forms[i].operands, &sum);
    }
}

/* What `emulate` counts, it has run itself, unless all is counted (KEY_COUNTED). */
static void tell_shares(const struct binary_vcpu *b, struct engine_stats *out)
{
    const struct context *x = b->context;
    uint64_t translated = x->copied + x->rewritten;
    out->direct = x->copied;
    out->translated = x->rewritten;
    if (b->counted)
        out->emulated = out->instructions - translated;
    else
        out->emulated = out->instructions;
    out->instructions = out->emulated + translated;
}

void binary_statistics(const struct binary_vcpu *b, struct engine_stats *out)
{
    const struct code *c = &b->vm->code;
    tell_causes(b, out);
    out->emulated = b->emulated;
    if (b->vm->measures)
        tell_shares(b, out);
    out->faults = b->left[LEAVE_FAULT].count;
    out->entries_filled = b->filled;
    out->jump_misses = b->left[LEAVE_JUMP].count + b->left[LEAVE_INDIRECT].count;
    out->longest_stop_ns = to_ns(b->vm, b->longest_stop);
    if (b->v->cpu.index)
        return;
    /* All vCPUs'. */
    out->blocks_decoded = c->made;
    out->blocks_bound = b->vm->bound_made;
    out->traces = b->vm->traces_made;
    out->blocks_dropped = c->dropped;
    out->cache_flushes = c->flushes;
}

/*
 * What --stats tells of this engine.
 */
#include <stdlib.h>

#include "engine/binary/binary.h"
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

/* Puts a cause among the most frequent, which are sorted. */
static void rank(struct engine_stats *out, const struct engine_cause *c)
{
    unsigned at = ENGINE_CAUSES;
    while (at > 0 && out->cause[at - 1].count < c->count)
        at--;
    for (unsigned i = ENGINE_CAUSES - 1; i > at && at < ENGINE_CAUSES; i--)
        out->cause[i] = out->cause[i - 1];
    if (at < ENGINE_CAUSES)
        out->cause[at] = *c;
}

void binary_statistics(const struct binary_vcpu *b, struct engine_stats *out)
{
    static const char *const why[] = {
        [LEAVE_LINK] = "unlinked branches", [LEAVE_JUMP] = "unknown branch targets",
        [LEAVE_FAULT] = "host faults",      [LEAVE_REQUEST] = "requests",
        [LEAVE_STALE] = "dropped blocks",   [LEAVE_ASKED] = "requests at entry"};
    const struct code *c = &b->vm->code;
    for (unsigned i = 0; i < ARRAY_LEN(why); i++)
        if (why[i])
            rank(out, &(struct engine_cause){why[i], "", b->left_for[i]});
    for (unsigned i = 0; i < x86_form_count; i++)
        for (unsigned fault = 0; fault < ARRAY_LEN(b->cause); fault++)
            rank(out, &(struct engine_cause){x86_forms[i].mnemonic, x86_forms[i].operands,
                                             b->cause[fault][i]});
    out->emulated = b->emulated;
    if (b->counted)
        out->direct = out->instructions - b->emulated;
    out->faults = b->left_for[LEAVE_FAULT];
    out->entries_filled = b->filled;
    out->blocks_decoded = c->made;
    out->blocks_dropped = c->dropped;
    out->cache_flushes = c->flushes;
}

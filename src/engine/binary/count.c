/*
 * Counting instructions.
 */
#include "engine/binary/translator.h"

static bool counts(const struct translator *t)
{
    return t->key & KEY_COUNTED;
}

/* lea reg, [reg + n], n to be known later. */
static void emit_add_later(struct translator *t, unsigned reg, unsigned done, bool negative)
{
    struct host_mem m = {.base = (uint8_t)reg, .index = HOST_NONE, .disp = INT32_MAX};
    emit_lea(&t->e, 8, reg, &m);
    if (t->fixes < ARRAY_LEN(t->fix))
        t->fix[t->fixes++] = (struct count_fix){t->e.at - 4, done, negative};
    else
        t->e.full = true;
}

void count_back(struct translator *t, unsigned done)
{
    if (!counts(t))
        return;
    emit_load(&t->e, S1, GS_AREA + CTX_LEFT);
    emit_add_later(t, S1, done, false);
    emit_store(&t->e, S1, GS_AREA + CTX_LEFT);
}

/* At the block's beginning: leaves if it would run past the limit. */
void count_block(struct translator *t)
{
    struct emit *e = &t->e;
    if (!counts(t))
        return;
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_load(e, HOST_RCX, GS_AREA + CTX_LEFT);
    emit_add_later(t, HOST_RCX, 0, true);
    emit_store(e, HOST_RCX, GS_AREA + CTX_LEFT);
    emit_pext(e, HOST_RCX, HOST_RCX, GS_AREA + CTX_MASK_SIGN);
    uint8_t *within = emit_jrcxz(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    count_back(t, 0);
    emit_in_page(e, (int32_t)t->first);
    emit_jump(e, t->vm->limit_piece);
    emit_here(e, within);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
}

void count_finish(struct translator *t, unsigned insns)
{
    for (unsigned i = 0; i < t->fixes && !t->e.full; i++) {
        int32_t n = (int32_t)(insns - t->fix[i].done);
        store_u32(t->fix[i].at, (uint32_t)(t->fix[i].negative ? -n : n));
    }
}

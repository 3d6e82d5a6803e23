/*
 * Counting instructions: down to a limit, and for those who measure, by how they run. A block
 * counts all of its own when it is entered.
 */
#include "engine/binary/translator.h"

enum { ALL_KINDS = (1u << KINDS) - 1 };

static bool counts(const struct translator *t)
{
    return t->key & KEY_COUNTED;
}

/* lea reg, [reg + n], n to be known later. */
static void emit_add_later(struct translator *t, unsigned reg, struct count_fix fix)
{
    struct host_mem m = {.base = (uint8_t)reg, .index = HOST_NONE, .disp = INT32_MAX};
    emit_lea(&t->e, 8, reg, &m);
    fix.at = t->e.at - 4;
    if (t->fixes < ARRAY_LEN(t->room->fix))
        t->room->fix[t->fixes++] = fix;
    else
        t->e.full = true;
}

static void emit_add(struct translator *t, int32_t to, struct count_fix fix)
{
    emit_load(&t->e, S1, GS_AREA + to);
    emit_add_later(t, S1, fix);
    emit_store(&t->e, S1, GS_AREA + to);
}

/* The sums of what runs, by kind. */
static void measure(struct translator *t, struct count_fix fix)
{
    if (!t->vm->measures)
        return;
    fix.kinds = 1u << KIND_COPIED;
    emit_add(t, CTX_COPIED, fix);
    fix.kinds = 1u << KIND_REWRITTEN;
    emit_add(t, CTX_REWRITTEN, fix);
}

bool count_any(const struct translator *t)
{
    return counts(t) || t->vm->measures;
}

void count_kind(struct translator *t, unsigned i, const uint8_t *from)
{
    size_t size = (size_t)(t->e.at - from);
    bool copied = size == t->insn.len;
    for (size_t k = 0; k < size && copied; k++)
        copied = from[k] == t->bytes[k];
    t->kind[i] = copied ? KIND_COPIED : t->to_c ? KIND_EMULATED : KIND_REWRITTEN;
}

void count_back_until(struct translator *t, unsigned done, unsigned until)
{
    struct count_fix fix = {.done = (uint8_t)done, .until = (uint8_t)until, .kinds = ALL_KINDS};
    if (counts(t))
        emit_add(t, CTX_LEFT, fix);
    fix.negative = true;
    measure(t, fix);
}

void count_back(struct translator *t, unsigned done)
{
    count_back_until(t, done, TRANSLATOR_INSNS);
}

/* At the block's beginning: leaves if it would run past the limit. */
void count_block(struct translator *t)
{
    struct emit *e = &t->e;
    struct count_fix all = {.until = TRANSLATOR_INSNS, .kinds = ALL_KINDS};
    measure(t, all);
    if (!counts(t))
        return;
    emit_store(e, HOST_RCX, GS_AREA + CTX_RCX);
    emit_load(e, HOST_RCX, GS_AREA + CTX_LEFT);
    all.negative = true;
    emit_add_later(t, HOST_RCX, all);
    emit_store(e, HOST_RCX, GS_AREA + CTX_LEFT);
    emit_pext(e, HOST_RCX, HOST_RCX, GS_AREA + CTX_MASK_SIGN);
    uint8_t *within = emit_jrcxz(e);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
    count_back(t, 0);
    emit_in_page(t, (int32_t)t->first);
    emit_jump(e, t->vm->limit_piece);
    emit_here(e, within);
    emit_load(e, HOST_RCX, GS_AREA + CTX_RCX);
}

static int32_t count_of(const struct translator *t, const struct count_fix *f, unsigned insns)
{
    int32_t n = 0;
    for (unsigned i = f->done; i < insns && i < f->until; i++)
        n += f->kinds >> t->kind[i] & 1;
    return f->negative ? -n : n;
}

void count_finish(struct translator *t, unsigned insns)
{
    struct code *c = &t->vm->code;
    for (unsigned i = 0; i < t->fixes && !t->e.full; i++)
        store_u32(t->room->fix[i].at, (uint32_t)count_of(t, &t->room->fix[i], insns));
    for (unsigned i = 0; i < insns && t->vm->measures; i++)
        c->kind[c->points + i] = t->kind[i];
}

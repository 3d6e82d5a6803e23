/*
 * Comparing two states, field by field as the saved form describes them.
 */
#include "engine/lockstep/internal.h"

#include <string.h>

#include "base/bits.h"
#include "x86/state_archive.h"

/* Nothing is ignored without a reason. */
static const char host_x87[] =
    "the host's x87 runs the guest's instructions, and its pointers are into translated code";

static const struct lockstep_mask masks[] = {
    {"binary", "fop", UINT64_MAX, host_x87},
    {"binary", "fip", UINT64_MAX, host_x87},
    {"binary", "fdp", UINT64_MAX, host_x87},
};

const struct lockstep_mask *lockstep_mask_at(unsigned index)
{
    return index < ARRAY_LEN(masks) ? &masks[index] : NULL;
}

bool lockstep_masked(const struct lockstep *l, const struct lockstep_mask *m)
{
    return strcmp(m->engine, l->leader->name) == 0 || strcmp(m->engine, l->follower->name) == 0;
}

/* The bits of a field that are ignored. */
static uint64_t ignored(const struct lockstep *l, const struct archive_field *f)
{
    const struct lockstep_mask *m;
    for (unsigned i = 0; (m = lockstep_mask_at(i)); i++)
        if (strcmp(m->field, f->name) == 0 && lockstep_masked(l, m))
            return m->ignored;
    return 0;
}

static bool same_value(const struct lockstep *l, const struct archive_field *f, const uint8_t *a,
                       const uint8_t *b)
{
    if (memcmp(a, b, f->size) == 0)
        return true;
    uint64_t va = 0, vb = 0;
    if (f->size > sizeof va)
        return false;
    memcpy(&va, a, f->size);
    memcpy(&vb, b, f->size);
    return ((va ^ vb) & ~ignored(l, f)) == 0;
}

unsigned lockstep_compare(const struct lockstep *l, const struct x86_state *a,
                          const struct x86_state *b,
                          void (*each)(void *ctx, const struct archive_field *f, unsigned index,
                                       const void *a, const void *b),
                          void *ctx)
{
    unsigned count = 0;
    for (unsigned i = 0; i < x86_state_archive.field_count; i++) {
        const struct archive_field *f = &x86_state_archive.fields[i];
        for (unsigned k = 0; k < f->count; k++) {
            const uint8_t *va = (const uint8_t *)a + f->offset + (size_t)k * f->size;
            const uint8_t *vb = (const uint8_t *)b + f->offset + (size_t)k * f->size;
            if (same_value(l, f, va, vb))
                continue;
            count++;
            if (each)
                each(ctx, f, k, va, vb);
        }
    }
    return count;
}

/* ---- the quick look ---- */

void shape_init(struct shape *shape, const struct lockstep *l)
{
    uint8_t *care = (uint8_t *)shape->care;
    memset(shape, 0, sizeof *shape);
    for (unsigned i = 0; i < x86_state_archive.field_count; i++) {
        const struct archive_field *f = &x86_state_archive.fields[i];
        uint64_t looked_at = ~ignored(l, f);
        memset(care + f->offset, 0xff, (size_t)f->size * f->count);
        for (unsigned k = 0; looked_at != UINT64_MAX && k < f->count; k++)
            memcpy(care + f->offset + (size_t)k * f->size, &looked_at, f->size);
    }
}

bool states_equal(const struct shape *shape, const struct x86_state *a, const struct x86_state *b)
{
    const uint8_t *bytes[2] = {(const uint8_t *)a, (const uint8_t *)b};
    uint64_t differ = 0, word[2];
    for (unsigned i = 0; i < SHAPE_WORDS; i++) {
        memcpy(&word[0], bytes[0] + (size_t)8 * i, 8);
        memcpy(&word[1], bytes[1] + (size_t)8 * i, 8);
        differ |= (word[0] ^ word[1]) & shape->care[i];
    }
    return differ == 0;
}

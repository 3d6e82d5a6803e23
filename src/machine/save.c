/*
 * Saving and loading a machine: RAM, vCPUs, chips, time.
 */
#include <stdlib.h>
#include <string.h>

#include "machine/internal.h"

/* ---- what is the machine's own ---- */

struct saved_machine {
    uint64_t memory, now, random, turn_end;
    int64_t epoch_ns;
    uint32_t cpus, turn;
};

struct saved_vcpu {
    struct x86_state state;
    int64_t tsc_offset, tsc_adjust;
    uint32_t events, startup_vector;
};

enum { CHUNK = 1 << 20 }; /* RAM is a row of chunks; those that are zero are left out */

struct saved_chunk {
    uint8_t bytes[CHUNK];
};

static const struct archive_field machine_fields[] = {
    ARCHIVE_FIELD(struct saved_machine, memory), ARCHIVE_FIELD(struct saved_machine, now),
    ARCHIVE_FIELD(struct saved_machine, random), ARCHIVE_FIELD(struct saved_machine, epoch_ns),
    ARCHIVE_FIELD(struct saved_machine, cpus),
};
static const struct archive_type machine_archive = {"machine", 1, machine_fields,
                                                    ARRAY_LEN(machine_fields)};

static const struct archive_field vcpu_fields[] = {
    ARCHIVE_FIELD(struct saved_vcpu, state),          ARCHIVE_FIELD(struct saved_vcpu, tsc_offset),
    ARCHIVE_FIELD(struct saved_vcpu, tsc_adjust),     ARCHIVE_FIELD(struct saved_vcpu, events),
    ARCHIVE_FIELD(struct saved_vcpu, startup_vector),
};
static const struct archive_type vcpu_archive = {"vcpu", 1, vcpu_fields, ARRAY_LEN(vcpu_fields)};

static const struct archive_field chunk_fields[] = {{"bytes", 0, CHUNK, 1}};
static const struct archive_type chunk_archive = {"memory", 1, chunk_fields, 1};

/* Which chunks follow. */
struct saved_map {
    uint8_t present[MEMORY_MAX / CHUNK / 8 / 16]; /* up to 64 GiB can be saved */
};
static const struct archive_field map_fields[] = {ARCHIVE_ARRAY(struct saved_map, present)};
static const struct archive_type map_archive = {"memory map", 1, map_fields, 1};

/* ---- RAM ---- */

/* RAM's bytes from `at` on, counted over all regions; *n gets how many lie together, up to CHUNK.
 */
static uint64_t chunk_gpa(const struct memory *m, uint64_t at, uint64_t *n)
{
    for (unsigned i = 0; i < m->region_count; i++) {
        const struct memory_region *r = &m->region[i];
        if (at < r->size) {
            *n = r->size - at < CHUNK ? r->size - at : CHUNK;
            return r->gpa + at;
        }
        at -= r->size;
    }
    *n = 0;
    return 0;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static bool save_chunks(struct machine *m, struct archive *to, struct saved_map *map,
                        struct saved_chunk *chunk, struct error *err)
{
    for (uint64_t at = 0, n; at < m->memory.size; at += n) {
        uint64_t gpa = chunk_gpa(&m->memory, at, &n);
        memset(chunk, 0, sizeof *chunk);
        if (!memory_read(&m->memory, gpa, chunk->bytes, n))
            return error_set(err, "saving: memory at 0x%llx can't be read",
                             (unsigned long long)gpa);
        uint64_t index = at / CHUNK;
        if (all_zero(chunk->bytes, n))
            continue;
        map->present[index / 8] |= (uint8_t)(1u << index % 8);
        if (!archive_save(to, &chunk_archive, (unsigned)index, chunk, err))
            return false;
    }
    return archive_save(to, &map_archive, 0, map, err);
}

static bool load_chunks(struct machine *m, struct archive *from, struct saved_map *map,
                        struct saved_chunk *chunk, struct error *err)
{
    if (!archive_load(from, &map_archive, 0, map, err))
        return false;
    for (uint64_t at = 0, n; at < m->memory.size; at += n) {
        uint64_t gpa = chunk_gpa(&m->memory, at, &n);
        uint64_t index = at / CHUNK;
        memset(chunk, 0, sizeof *chunk);
        if (map->present[index / 8] & 1u << index % 8 &&
            !archive_load(from, &chunk_archive, (unsigned)index, chunk, err))
            return false;
        if (!memory_write(&m->memory, gpa, chunk->bytes, n))
            return error_set(err, "loading: memory at 0x%llx can't be written",
                             (unsigned long long)gpa);
    }
    return true;
}

typedef bool (*chunks)(struct machine *m, struct archive *a, struct saved_map *map,
                       struct saved_chunk *chunk, struct error *err);

static bool with_buffers(struct machine *m, struct archive *a, chunks work, struct error *err)
{
    struct saved_map *map;
    if (m->memory.size / CHUNK >= sizeof map->present * 8)
        return error_set(err, "saved memory: more than the form can hold");
    map = calloc(1, sizeof *map);
    struct saved_chunk *chunk = malloc(sizeof *chunk);
    bool done = map && chunk ? work(m, a, map, chunk, err) : error_errno(err, "saved memory");
    free(map);
    free(chunk);
    return done;
}

/* ---- vCPUs ---- */

static bool save_vcpu(struct vcpu *v, struct archive *to, struct error *err)
{
    const struct machine *m = v->machine;
    uint64_t ticks = clock_ns_to_ticks(clock_now(&m->clock), m->model->tsc_hz);
    struct saved_vcpu s = {
        .tsc_offset = (int64_t)(vcpu_tsc(v) - ticks),
        .tsc_adjust = v->tsc_adjust,
        .events = atomic_load(&v->events) & (VCPU_INIT | VCPU_STARTUP),
        .startup_vector = atomic_load(&v->startup_vector),
    };
    v->machine->config.engine->get_state(v->engine, &s.state);
    return archive_save(to, &vcpu_archive, v->index, &s, err);
}

static bool load_vcpu(struct vcpu *v, struct archive *from, struct error *err)
{
    struct saved_vcpu s;
    if (!archive_load(from, &vcpu_archive, v->index, &s, err))
        return false;
    if (v->machine->model->tsc != X86_TSC_FIXED)
        atomic_store(&v->tsc_offset, s.tsc_offset);
    v->tsc_adjust = s.tsc_adjust;
    atomic_store(&v->startup_vector, s.startup_vector & 0xff);
    atomic_fetch_or(&v->events, s.events & (VCPU_INIT | VCPU_STARTUP));
    vcpu_set_state(v, &s.state);
    /* The local APIC was loaded before: what it offers, the engine has yet to hear. */
    v->machine->config.engine->interrupt(v->engine, lapic_pending(v->lapic));
    return true;
}

/* ---- the whole ---- */

static bool save(struct machine *m, struct archive *to, struct error *err)
{
    struct saved_machine s = {
        .memory = m->memory.size,
        .now = clock_now(&m->clock),
        .random = m->virtual.random,
        .turn = m->virtual.turn,
        .turn_end = m->virtual.turn_end,
        .epoch_ns = m->clock.epoch_ns,
        .cpus = m->cpus,
    };
    if (!archive_save(to, &machine_archive, 0, &s, err) || !pc_save(&m->pc, to, err))
        return false;
    for (unsigned i = 0; i < m->cpus; i++)
        if (!save_vcpu(&m->vcpu[i], to, err))
            return false;
    return with_buffers(m, to, save_chunks, err);
}

static bool load(struct machine *m, struct archive *from, struct error *err)
{
    struct saved_machine s;
    if (!archive_load(from, &machine_archive, 0, &s, err))
        return false;
    if (s.memory != m->memory.size || s.cpus != m->cpus)
        return error_set(err,
                         "loading: the saved machine has %llu bytes and %u processors, this one "
                         "%llu and %u; make one of the same shape",
                         (unsigned long long)s.memory, s.cpus, (unsigned long long)m->memory.size,
                         m->cpus);
    m->clock.epoch_ns = s.epoch_ns;
    m->virtual.random = s.random;
    m->virtual.turn = s.turn % m->cpus;
    m->virtual.turn_end = s.turn_end;
    machine_set_clock(m, s.now); /* it stands: before the run, or in a pause */
    if (!pc_load(&m->pc, from, err))
        return false;
    for (unsigned i = 0; i < m->cpus; i++)
        if (!load_vcpu(&m->vcpu[i], from, err))
            return false;
    return with_buffers(m, from, load_chunks, err);
}

static bool refuse_to_save(const struct machine *m, struct error *err)
{
    const struct engine *e = m->config.engine;
    const char *untold = e->untold ? e->untold(m->vm) : NULL;
    return error_usage(err,
                       "--cpu host: such a guest can't be saved, since no other processor may have "
                       "what it uses%s%s; use --cpu %s",
                       untold ? ", and KVM alone has the state of its " : "", untold ? untold : "",
                       x86_model_at(0)->name);
}

bool machine_save(struct machine *m, struct archive *to, struct error *err)
{
    if (m->model->host)
        return refuse_to_save(m, err);
    machine_lock(m);
    bool done = save(m, to, err);
    machine_unlock(m);
    return done;
}

bool machine_load(struct machine *m, struct archive *from, struct error *err)
{
    machine_lock(m);
    bool done = m->clock.stopped_at == CLOCK_NEVER
                    ? error_set(err, "loading: the machine runs; pause it first")
                    : load(m, from, err);
    m->loaded |= done;
    machine_unlock(m);
    return done;
}

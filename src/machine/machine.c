/*
 * The machine's life: made, run, reset, ended, unmade.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/thread.h"
#include "machine/internal.h"
#include "machine/map.h"
#include "x86/msr.h"

/* ---- the machine's lock ---- */

void machine_lock(struct machine *m)
{
    atomic_fetch_add(&m->virtual.outsiders, 1);
    pthread_mutex_lock(&m->lock);
    atomic_fetch_sub(&m->virtual.outsiders, 1);
}

void machine_unlock(struct machine *m)
{
    pthread_mutex_unlock(&m->lock);
}

/* ---- what devices ask for, under the lock ---- */

static void over(struct machine *m, const struct machine_result *result)
{
    if (m->outcome.over)
        return;
    m->outcome.over = true;
    m->outcome.result = *result;
    control_hold(m);
    loop_wake(m->loop);
}

void machine_over(struct machine *m, enum machine_reason reason, uint32_t value)
{
    over(m, &(struct machine_result){.reason = reason, .value = value});
}

void machine_failed(struct machine *m, const struct error *err)
{
    over(m, &(struct machine_result){.reason = MACHINE_FAILED, .error = *err});
}

void machine_ask_reset(struct machine *m)
{
    if (m->config.no_reboot) {
        machine_over(m, MACHINE_RESET, 0);
    } else if (!m->reset_wanted) {
        m->reset_wanted = true;
        control_hold(m);
        loop_wake(m->loop);
    }
}

static void pc_wants_reset(void *ctx)
{
    machine_ask_reset(ctx);
}

static void pc_powers_off(void *ctx)
{
    machine_over(ctx, MACHINE_POWERED_OFF, 0);
}

static void pc_debug_exit(void *ctx, uint32_t value)
{
    machine_over(ctx, MACHINE_DEBUG_EXIT, value);
}

/* ---- the clock ---- */

static uint64_t host_now(void *ctx)
{
    (void)ctx;
    return loop_now();
}

/* The loop sleeps until loop_deadline; it must know of anything earlier. */
static void host_changed(void *machine)
{
    struct machine *m = machine;
    uint64_t next = clock_next(&m->clock);
    if (next < atomic_load(&m->loop_deadline)) {
        atomic_store(&m->loop_deadline, next);
        loop_wake(m->loop);
    }
}

static void make_clock(struct machine *m)
{
    bool virtual = m->config.virtual_clock;
    clock_init(&m->clock, virtual ? virtual_now : host_now, m);
    machine_stop_clock(m); /* until machine_run() */
    m->clock.changed = virtual ? virtual_changed : host_changed;
    m->clock.changed_ctx = m;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    m->clock.epoch_ns = virtual ? VIRTUAL_EPOCH_NS
                                : (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec;
}

/* ---- making and unmaking ---- */

static uint64_t memory_low(const struct machine *m)
{
    return m->memory.region[0].size;
}

static uint64_t memory_high(const struct machine *m)
{
    return m->memory.size - memory_low(m);
}

static bool take_config(struct machine *m, const struct machine_config *config, struct error *err)
{
    m->config = *config;
    snprintf(m->name, sizeof m->name, "%s", config->name ? config->name : "doppel");
    m->config.name = m->name;
    if (config->cpus < 1 || config->cpus > MACHINE_CPUS)
        return error_usage(err, "%u processors: a machine has from 1 to %d", config->cpus,
                           MACHINE_CPUS);
    m->model = config->cpu_model ? x86_model_find(config->cpu_model) : x86_model_at(0);
    if (!m->model)
        return error_usage(err, "processor model %s: there is none of that name",
                           config->cpu_model);
    m->model_here = *m->model;
    x86_model_add_host(&m->model_here);
    m->model = &m->model_here;
    return switch_init(m, err);
}

/* Those that not every machine has. */
static bool add_devices(struct machine *m, struct error *err)
{
    const struct virtio_rng_source source = {
        .fill = m->config.virtual_clock ? virtual_random : virtio_rng_host,
        .ctx = m,
    };
    return !m->config.rng || pc_add_rng(&m->pc, &m->memory, &source, err);
}

static bool make(struct machine *m, const struct machine_config *config, struct error *err)
{
    if (!take_config(m, config, err))
        return false;
    m->loop = loop_create(err);
    if (!m->loop || !memory_create(&m->memory, config->memory, err))
        return false;
    make_clock(m);
    serial_init(m);
    const struct pc_host host = {
        .ctx = m,
        .reset = pc_wants_reset,
        .power_off = pc_powers_off,
        .debug_exit = pc_debug_exit,
        .transmit = serial_transmit,
        .receive_ready = serial_ready,
    };
    if (!pc_init(&m->pc, &m->clock, &host, config->debug_exit, err) || !add_devices(m, err) ||
        !eventfds_init(m, err) || !switch_make_engine(m, err))
        return false;
    for (unsigned i = 0; i < config->cpus; i++, m->cpus++)
        if (!vcpu_create(&m->vcpu[i], m, i, err))
            return false;
    return true;
}

bool machine_create(struct machine **machine, const struct machine_config *config,
                    struct error *err)
{
    *machine = NULL;
    struct machine *m = calloc(1, sizeof *m);
    if (!m)
        return error_errno(err, "machine");
    m->memory.fd = -1;
    pthread_mutex_init(&m->lock, NULL);
    control_init(&m->control);
    if (!make(m, config, err)) {
        machine_destroy(m);
        return false;
    }
    *machine = m;
    return true;
}

void machine_destroy(struct machine *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < MACHINE_CPUS; i++)
        vcpu_destroy(&m->vcpu[i]);
    if (m->vm)
        m->config.engine->vm_destroy(m->vm);
    if (m->memory.size)
        memory_destroy(&m->memory);
    loop_destroy(m->loop);
    eventfds_destroy(m);
    control_destroy(&m->control);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* ---- reset ---- */

static bool reset_vcpus(struct machine *m, struct error *err)
{
    for (unsigned i = 0; i < m->cpus; i++) {
        struct vcpu *v = &m->vcpu[i];
        struct x86_state s = {0};
        x86_state_reset(&s, i == 0, false);
        firmware_processor(&s, x86_physical_bits(m->model));
        x86_firmware_mtrrs(&s, x86_physical_bits(m->model), MEMORY_LOW_TOP);
        if (i == 0 && m->config.load && !m->config.load(m, m->config.load_ctx, &s, err))
            return false;
        atomic_fetch_and(&v->events, (uint32_t)VCPU_STOP);
        atomic_store(&v->tsc_offset, 0);
        v->tsc_adjust = 0;
        if (m->model->tsc != X86_TSC_FIXED)
            atomic_store(&v->tsc_offset, -(int64_t)vcpu_tsc(v));
        vcpu_set_state(v, &s);
    }
    return true;
}

/* Power-on and every reset: chips, firmware's tables, guest, processors. No vCPU runs; under the
 * lock. */
static bool reset(struct machine *m, struct error *err)
{
    const struct firmware_info info = {
        .name = m->name,
        .cpus = m->cpus,
        .memory_low = memory_low(m),
        .memory_high = memory_high(m),
    };
    return pc_reset(&m->pc, info.memory_low, info.memory_high, err) &&
           firmware_write(&m->memory, &info, err) && reset_vcpus(m, err);
}

/* The reset that the guest asked for. */
static void serve_reset(struct machine *m)
{
    control_wait(m);
    machine_lock(m);
    struct error err = {0};
    m->reset_wanted = false;
    m->resets++;
    apics_take(m);
    if (!reset(m, &err))
        machine_failed(m, &err);
    apics_give(m);
    machine_unlock(m);
    control_continue(m);
}

/* ---- the run ---- */

static bool start_threads(struct machine *m, struct error *err)
{
    unsigned threads = m->config.virtual_clock ? 1 : m->cpus;
    pthread_mutex_lock(&m->control.lock);
    m->control.begun = true;
    m->control.running = threads;
    pthread_mutex_unlock(&m->control.lock);
    for (unsigned i = 0; i < threads; i++) {
        struct vcpu *v = &m->vcpu[i];
        char name[16];
        snprintf(name, sizeof name, "vcpu %u", i);
        bool virtual = m->config.virtual_clock;
        v->threaded = thread_start(&v->thread, name, virtual ? virtual_main : vcpu_main,
                                   virtual ? (void *)m : (void *)v, err);
        if (!v->threaded) {
            pthread_mutex_lock(&m->control.lock);
            m->control.running -= threads - i;
            pthread_mutex_unlock(&m->control.lock);
            return false;
        }
    }
    return true;
}

static void join_threads(struct machine *m)
{
    pthread_mutex_lock(&m->control.lock);
    m->control.over = true;
    pthread_cond_broadcast(&m->control.changed);
    pthread_mutex_unlock(&m->control.lock);
    for (unsigned i = 0; i < m->cpus; i++)
        vcpu_ask(&m->vcpu[i], VCPU_STOP);
    for (unsigned i = 0; i < m->cpus; i++)
        if (m->vcpu[i].threaded)
            pthread_join(m->vcpu[i].thread, NULL);
}

/* Guest time at which the loop must be back. */
static uint64_t next_deadline(struct machine *m)
{
    bool stands = m->config.virtual_clock || m->clock.stopped_at != CLOCK_NEVER;
    return stands ? CLOCK_NEVER : clock_next(&m->clock);
}

/* The same in host time, or earlier where there is something else to do. */
static uint64_t loop_deadline(const struct machine *m, uint64_t next, uint64_t now)
{
    uint64_t due = switch_due(m);
    uint64_t at = next == CLOCK_NEVER ? LOOP_NEVER : loop_now() + (next > now ? next - now : 0);
    return at < due ? at : due;
}

/* A timer that has fired is most likely about to be set again: to be back soon anyway costs less
 * than to be woken for that from another thread. */
static uint64_t back_soon(uint64_t next, uint64_t now)
{
    enum { SOON_NS = 1000000 };
    return next > now + SOON_NS ? now + SOON_NS : next;
}

/* Serves timers, resets, changes of the engine and descriptors until the run is over. */
static void serve(struct machine *m)
{
    for (;;) {
        machine_lock(m);
        if (atomic_load(&m->end_asked))
            machine_over(m, MACHINE_ENDED, 0);
        if (m->outcome.over)
            break;
        bool reset_wanted = m->reset_wanted;
        atomic_store(&m->loop_deadline, 0);
        bool runs = !m->config.virtual_clock && m->clock.stopped_at == CLOCK_NEVER;
        bool fired = runs && clock_fire(&m->clock);
        uint64_t next = reset_wanted ? 0 : next_deadline(m), now = clock_now(&m->clock);
        if (fired)
            next = back_soon(next, now);
        atomic_store(&m->loop_deadline, next);
        machine_unlock(m);
        if (reset_wanted)
            serve_reset(m);
        else if (switch_due(m) <= loop_now())
            switch_serve(m);
        else
            loop_round(m->loop, loop_deadline(m, next, now));
    }
    machine_unlock(m);
}

static bool begin(struct machine *m, struct error *err)
{
    machine_lock(m);
    bool first = !m->ran;
    m->ran = true;
    switch_begin(m);
    bool ready = first && (m->loaded || reset(m, err));
    machine_start_clock(m);
    machine_unlock(m);
    return first ? ready && serial_start(m, err)
                 : error_set(err, "machine: it ran already; a machine runs once");
}

void machine_run(struct machine *m, struct machine_result *result)
{
    uint64_t started = loop_now();
    struct error err = {0};
    if (!begin(m, &err) || !start_threads(m, &err)) {
        machine_lock(m);
        machine_failed(m, &err);
        machine_unlock(m);
    } else {
        serve(m);
    }
    join_threads(m);
    serial_stop(m);
    machine_lock(m);
    machine_stop_clock(m);
    *result = m->outcome.result;
    m->run_ns = loop_now() - started;
    machine_unlock(m);
}

void machine_end(struct machine *m)
{
    atomic_store(&m->end_asked, true);
    loop_wake(m->loop);
}

bool machine_pause(struct machine *m)
{
    control_hold(m);
    control_wait(m);
    pthread_mutex_lock(&m->control.lock);
    bool runs = m->control.begun && !m->control.over;
    pthread_mutex_unlock(&m->control.lock);
    if (!runs) {
        control_continue(m);
        return false;
    }
    machine_lock(m);
    machine_stop_clock(m);
    machine_unlock(m);
    return true;
}

void machine_continue(struct machine *m)
{
    machine_lock(m);
    machine_start_clock(m);
    machine_unlock(m);
    loop_wake(m->loop);
    control_continue(m);
}

/* ---- what others may ask ---- */

struct memory *machine_memory(struct machine *m)
{
    return &m->memory;
}

struct loop *machine_loop(struct machine *m)
{
    return m->loop;
}

uint64_t machine_rsdp(const struct machine *m)
{
    (void)m;
    return MAP_ACPI;
}

unsigned machine_e820(const struct machine *m, struct boot_range map[MACHINE_E820_MAX])
{
    const struct boot_range fixed[] = {
        {0, MAP_EBDA, BOOT_RANGE_RAM},
        {MAP_EBDA, MAP_VIDEO - MAP_EBDA, BOOT_RANGE_RESERVED},
        {MAP_FIRMWARE, MAP_FIRMWARE_END - MAP_FIRMWARE, BOOT_RANGE_RESERVED},
        {MAP_FIRMWARE_END, memory_low(m) - MAP_FIRMWARE_END, BOOT_RANGE_RAM},
        {PCI_ECAM_BASE, PCI_ECAM_SIZE, BOOT_RANGE_RESERVED},
        {IOAPIC_BASE, IOAPIC_SIZE, BOOT_RANGE_RESERVED},
        {LAPIC_DEFAULT_BASE, MEMORY_PAGE_SIZE, BOOT_RANGE_RESERVED},
        {MEMORY_HIGH, memory_high(m), BOOT_RANGE_RAM},
    };
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
        if (fixed[i].size)
            map[n++] = fixed[i];
    return n;
}

/* Adds to the cause of that name, or takes a free place; what no longer fits is left out. */
static void add_cause(struct engine_cause *sum, const struct engine_cause *one)
{
    unsigned i = 0;
    while (i < ENGINE_CAUSES && sum[i].name &&
           (sum[i].name != one->name || sum[i].detail != one->detail))
        i++;
    if (i < ENGINE_CAUSES) {
        sum[i].name = one->name;
        sum[i].detail = one->detail;
        sum[i].count += one->count;
        sum[i].ns += one->ns;
    }
}

void machine_add_stats(struct engine_stats *sum, const struct engine_stats *one)
{
    /* Counters only, up to the causes. */
    enum { COUNTERS = offsetof(struct engine_stats, cause) / sizeof(uint64_t) };
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)one;
    uint64_t longest =
        sum->longest_stop_ns > one->longest_stop_ns ? sum->longest_stop_ns : one->longest_stop_ns;
    for (unsigned i = 0; i < COUNTERS; i++)
        to[i] += from[i];
    sum->longest_stop_ns = longest;
    for (unsigned i = 0; i < ENGINE_CAUSES && one->cause[i].name; i++)
        add_cause(sum->cause, &one->cause[i]);
}

void machine_stats(struct machine *m, struct machine_stats *out)
{
    *out = (struct machine_stats){.cpus = m->cpus};
    machine_lock(m);
    for (unsigned i = 0; i < m->cpus; i++) {
        struct vcpu *v = &m->vcpu[i];
        if (v->engine)
            m->config.engine->stats(v->engine, &out->vcpu[i]);
        machine_add_stats(&out->vcpu[i], &v->past);
        out->vcpu[i].pio = v->pio;
        out->vcpu[i].mmio = v->mmio;
        machine_add_stats(&out->engine, &out->vcpu[i]);
        out->lock_waits += v->lock_waits;
    }
    out->switches = m->switching.changes;
    out->run_ns = m->run_ns;
    out->guest_ns = clock_now(&m->clock);
    out->resets = m->resets;
    out->doorbells = m->eventfds.rung;
    out->messages = m->eventfds.sent;
    out->console_in = atomic_load(&m->serial.received);
    out->console_out = atomic_load(&m->serial.sent);
    machine_unlock(m);
}
